"""Losses that are sums over single entries: squared, Huber, logistic and squared hinge.

With several outputs they add up over the outputs, so that labels -1 and +1 in each column make a multi-label problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit, xlogy

from cvxnn.losses._base import Loss

FloatArray = npt.NDArray[np.float64]

__all__ = ["HuberLoss", "LogisticLoss", "SquaredHingeLoss", "SquaredLoss"]


def _ratio(nu: FloatArray, weight: FloatArray) -> FloatArray:
    """``nu / weight`` with 0 where both vanish and infinity where only the weight does."""
    positive = weight > 0
    out = np.where(nu == 0.0, 0.0, np.copysign(np.inf, nu))
    np.divide(nu, weight, out=out, where=positive)
    return out


def _limit(ratio: FloatArray, largest: float) -> float:
    """Largest t with ``t * max(ratio) <= largest``."""
    top = float(np.max(ratio, initial=0.0))
    return np.inf if top <= 0.0 else largest / top


@dataclass(frozen=True)
class SquaredLoss(Loss):
    """Squared loss ``1/2 (f - y)^2``.

    Examples
    --------
    >>> import numpy as np
    >>> SquaredLoss().value(np.array([1.0, 2.0]), np.array([0.0, 2.0]), np.ones(2))
    0.5
    """

    name: ClassVar[str] = "squared"
    curvature: ClassVar[float] = 1.0
    strictly_convex: ClassVar[bool] = True
    labels: ClassVar[bool] = False

    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        residual = fit - y
        return 0.5 * float(np.sum(weight * residual * residual))

    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return weight * (fit - y)

    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        del fit, y
        return weight.copy()

    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        ratio = _ratio(nu, weight)
        return float(np.sum(nu * y - 0.5 * nu * ratio))

    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        return float(np.sum(np.abs(nu * y) + 0.5 * np.abs(nu * _ratio(nu, weight))))

    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        del y
        return 0.0 if np.any((weight == 0) & (nu != 0)) else np.inf


@dataclass(frozen=True)
class HuberLoss(Loss):
    """Huber loss: ``1/2 r^2`` for ``|r| <= delta``, ``delta |r| - delta^2 / 2`` beyond, with ``r = f - y``.

    Parameters
    ----------
    delta : float, default 1.0
        Residual (in units of y) beyond which the loss grows linearly.

    Examples
    --------
    >>> import numpy as np
    >>> HuberLoss(delta=1.0).value(np.array([3.0]), np.array([0.0]), np.ones(1))
    2.5
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"
    curvature: ClassVar[float] = 1.0
    strictly_convex: ClassVar[bool] = False
    labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a width that is not a positive finite number."""
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise ValueError(f"delta must be a positive finite number; got {self.delta!r}.")

    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        size = np.abs(fit - y)
        inner = np.minimum(size, self.delta)
        return float(np.sum(weight * inner * (size - 0.5 * inner)))

    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return weight * np.clip(fit - y, -self.delta, self.delta)

    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return weight * (np.abs(fit - y) <= self.delta)

    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        ratio = _ratio(nu, weight)
        if np.any(np.abs(ratio) > self.delta):
            return -np.inf
        return float(np.sum(nu * y - 0.5 * nu * ratio))

    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        return SquaredLoss().dual_magnitude(nu, y, weight)

    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        del y
        return _limit(np.abs(_ratio(nu, weight)), self.delta)

    def project_dual(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return np.clip(nu, -self.delta * weight, self.delta * weight)


@dataclass(frozen=True)
class LogisticLoss(Loss):
    """Logistic loss ``log(1 + exp(-y (f + offset)))`` for labels ``y`` in {-1, +1}.

    Parameters
    ----------
    offset : float, default 0.0
        Constant added to every fitted value.

    Examples
    --------
    >>> import numpy as np
    >>> round(LogisticLoss().value(np.array([0.0]), np.array([1.0]), np.ones(1)), 6)
    0.693147
    """

    offset: float = 0.0
    name: ClassVar[str] = "logistic"
    curvature: ClassVar[float] = 0.25
    strictly_convex: ClassVar[bool] = True
    labels: ClassVar[bool] = True

    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        return float(np.sum(weight * np.logaddexp(0.0, -y * (fit + self.offset))))

    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return -weight * y * expit(-y * (fit + self.offset))

    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        del y
        moved = fit + self.offset
        return weight * expit(moved) * expit(-moved)

    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = _ratio(y * nu, weight)
        if np.any((q < 0.0) | (q > 1.0)):
            return -np.inf
        return float(np.sum(-weight * (xlogy(q, q) + xlogy(1.0 - q, 1.0 - q)) - self.offset * nu))

    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = np.clip(_ratio(y * nu, weight), 0.0, 1.0)
        # 1 - q is rounded before its logarithm is taken: an absolute error of one unit per sample.
        entropy = np.abs(xlogy(q, q)) + np.abs(xlogy(1.0 - q, 1.0 - q)) + 1.0
        return float(np.sum(weight * entropy + np.abs(self.offset * nu)))

    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = _ratio(y * nu, weight)
        return 0.0 if np.any(q < 0.0) else _limit(q, 1.0)

    def project_dual(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return y * np.clip(y * nu, 0.0, weight)


@dataclass(frozen=True)
class SquaredHingeLoss(Loss):
    """Squared hinge ``1/2 (1 - y (f + offset))_+^2`` for labels ``y`` in {-1, +1}.

    Parameters
    ----------
    offset : float, default 0.0
        Constant added to every fitted value.

    Examples
    --------
    >>> import numpy as np
    >>> SquaredHingeLoss().value(np.array([0.0]), np.array([1.0]), np.ones(1))
    0.5
    """

    offset: float = 0.0
    name: ClassVar[str] = "squared_hinge"
    curvature: ClassVar[float] = 1.0
    strictly_convex: ClassVar[bool] = False
    labels: ClassVar[bool] = True

    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        margin = np.maximum(1.0 - y * (fit + self.offset), 0.0)
        return 0.5 * float(np.sum(weight * margin * margin))

    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return -weight * y * np.maximum(1.0 - y * (fit + self.offset), 0.0)

    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return weight * (y * (fit + self.offset) <= 1.0)

    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = _ratio(y * nu, weight)
        if np.any(q < 0.0):
            return -np.inf
        return float(np.sum(y * nu * (1.0 - 0.5 * q) - self.offset * nu))

    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        return float(np.sum(np.abs(nu) * (1.0 + abs(self.offset) + 0.5 * np.abs(_ratio(nu, weight)))))

    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = _ratio(y * nu, weight)
        return 0.0 if np.any(q < 0.0) or np.any(np.isinf(q)) else np.inf

    def project_dual(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return np.where(weight > 0, y * np.maximum(y * nu, 0.0), 0.0)
