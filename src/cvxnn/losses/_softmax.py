"""Softmax (cross-entropy) loss of several classes, whose conjugate lives on an exact affine set.

The outputs of a sample are coupled: the loss does not change when all of them rise together, so that dual vectors must
have rows that sum to zero exactly. They are held on a grid of a power of two, on which sums of a row are exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax, xlogy

from cvxnn.losses._base import Loss

FloatArray = npt.NDArray[np.float64]

__all__ = ["SoftmaxLoss"]

_EPS = float(np.finfo(np.float64).eps)
# A row of the dual vector has absolute values that sum to at most twice the weight w < 2^e: with steps of 2^(e - 50)
# every partial sum is an integer below 2^52 steps.
_GRID_BITS = 50
_SUM_TOLERANCE = 1e-6
_FEW_CLASSES = 1000


@dataclass(frozen=True)
class SoftmaxLoss(Loss):
    r"""Softmax loss :math:`-\sum_c y_c \log p_c` with :math:`p = \mathrm{softmax}(f)` and targets y on the simplex.

    Targets are class numbers ``0, 1, ..., c - 1`` of shape (n,), which become rows of the unit matrix, or rows (n, c)
    of probabilities. With :math:`q = y - \nu / w`, the dual objective is the entropy
    :math:`-w \sum_c q_c \log q_c` (for :math:`\sum_c y_c = 1`) where :math:`q \ge 0` and :math:`\sum_c \nu_c = 0`
    exactly, and minus infinity elsewhere: a multiple of a dual vector has to go through :meth:`project_dual`.

    Examples
    --------
    >>> import numpy as np
    >>> loss, y = SoftmaxLoss(), np.array([[1.0, 0.0, 0.0]])
    >>> round(loss.value(np.zeros((1, 3)), y, np.ones((1, 3))), 6)
    1.098612
    >>> nu = loss.project_dual(-loss.gradient(np.zeros((1, 3)), y, np.ones((1, 3))), y, np.ones((1, 3)))
    >>> nu.sum(), round(loss.dual_value(nu, y, np.ones((1, 3))), 6)
    (np.float64(0.0), 1.098612)
    """

    name: ClassVar[str] = "softmax"
    curvature: ClassVar[float] = 0.5
    strictly_convex: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    entrywise: ClassVar[bool] = False

    def checked_targets(self, y: FloatArray) -> FloatArray:
        """Probabilities ``(n, c)`` with ``c >= 2`` from class numbers ``(n,)`` or from such probabilities."""
        if y.ndim == 1:
            return _one_hot(y)
        if np.any(y < 0.0):
            raise ValueError(
                f'y must hold probabilities of the classes for loss="softmax"; got a smallest entry of {y.min():g}.'
            )
        error = np.abs(np.sum(y, axis=1) - 1.0)
        if np.any(error > _SUM_TOLERANCE):
            row = int(np.argmax(error))
            raise ValueError(
                'y must hold probabilities of the classes for loss="softmax", rows that sum to 1; '
                f"row {row} sums to {float(np.sum(y[row])):g}."
            )
        return y

    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        return -float(np.sum(weight * y * log_softmax(fit, axis=1)))

    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        return weight * (_probabilities(fit, y) - y)

    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        p = softmax(fit, axis=1)
        return weight * np.sum(y, axis=1, keepdims=True) * p * (1.0 - p)

    def hessian_product(self, fit: FloatArray, y: FloatArray, weight: FloatArray, direction: FloatArray) -> FloatArray:
        p = softmax(fit, axis=1)
        moved = p * (direction - np.sum(p * direction, axis=1, keepdims=True))
        return weight * np.sum(y, axis=1, keepdims=True) * moved

    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        if not np.all(nu <= _caps(y, weight)) or any(math.fsum(row) != 0.0 for row in nu.tolist()):
            return -np.inf
        q, total = _remainder(nu, y, weight), np.sum(y, axis=1)
        # Targets sum to 1 but for rounding; the second term is what the conjugate has for their exact sum.
        return float(np.sum(-weight * xlogy(q, q)) + np.sum(weight[:, 0] * xlogy(total, total)))

    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        q = _remainder(nu, y, weight)
        # With y = 0 the remainder q = -nu/w has a relative error; elsewhere it has an absolute one of a unit, which
        # the slope of q log q multiplies by up to 37.
        return float(np.sum(weight * (np.abs(xlogy(q, q)) + q + np.where(y > 0.0, 4.0, 0.0))))

    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        size = np.sum(np.abs(nu), axis=1)
        if np.any(np.abs(np.sum(nu, axis=1)) > 4.0 * (nu.shape[1] + 4) * _EPS * np.maximum(size, weight[:, 0])):
            return 0.0
        cap = _caps(y, weight)
        if np.any((nu > 0.0) & (cap <= 0.0)) or np.any((weight == 0.0) & (nu != 0.0)):
            return 0.0
        ratio = np.divide(cap, nu, out=np.full_like(nu, np.inf), where=nu > 0.0)
        return float(np.min(ratio, initial=np.inf))

    def project_dual(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Dual vector with rows that sum to zero exactly and ``nu <= w y``, on a grid of ``2^-50`` of the weight."""
        exponent = _GRID_BITS - np.frexp(weight)[1]
        with np.errstate(under="ignore"):
            most = np.floor(np.ldexp(_caps(y, weight), exponent))
            inside = np.clip(nu, -2.0 * weight, 2.0 * weight)
            steps = np.minimum(np.rint(np.ldexp(inside, exponent)), most)
            _balance_rows(steps, most)
            out = np.ldexp(steps, -exponent)
        # Weights near the smallest numbers have no grid: zero lies in every domain.
        broken = (np.ldexp(out, exponent) != steps).any(axis=1) | (weight[:, 0] == 0.0)
        out[broken] = 0.0
        return out


def _one_hot(y: FloatArray) -> FloatArray:
    """Rows of the unit matrix for class numbers."""
    wrong = np.unique(y[(y < 0.0) | (y != np.rint(y))])
    if wrong.size:
        shown = ", ".join(f"{value:g}" for value in wrong[:3])
        raise ValueError(
            'y must hold class numbers 0, 1, ..., or rows of probabilities (n, c), for loss="softmax"; '
            f"got {shown} (ReLUClassifier accepts any labels)."
        )
    count = int(y.max()) + 1
    if count < 2:
        raise ValueError('y must hold at least two classes for loss="softmax"; every entry is 0.')
    if count > max(len(y), _FEW_CLASSES):
        raise ValueError(
            f'y must hold class numbers below {max(len(y), _FEW_CLASSES)} for loss="softmax" of {len(y)} samples; '
            f"got {count - 1}."
        )
    rows = np.zeros((len(y), count))
    rows[np.arange(len(y)), y.astype(np.int64)] = 1.0
    return rows


def _probabilities(fit: FloatArray, y: FloatArray) -> FloatArray:
    """Softmax of each row times the sum of its targets, which is 1 but for rounding."""
    return np.sum(y, axis=1, keepdims=True) * softmax(fit, axis=1)


def _caps(y: FloatArray, weight: FloatArray) -> FloatArray:
    """Numbers that are not above ``w y``: the product, or its neighbour below where it is rounded."""
    product = weight * y
    return np.where((y == 0.0) | (y == 1.0), product, np.maximum(np.nextafter(product, -np.inf), 0.0))


def _remainder(nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """``q = y - nu / w``, not negative; zero where the weight is zero."""
    ratio = np.divide(nu, weight, out=np.array(y, dtype=np.float64), where=weight > 0.0)
    return np.maximum(y - ratio, 0.0)


def _balance_rows(steps: FloatArray, most: FloatArray) -> None:
    """Make rows of integers sum to zero, by lowering or raising entries that stay below ``most``, in place."""
    index = np.arange(len(steps))
    # What is missing goes to the entries with room, in proportion; what is too much, and the rest, to the roomiest.
    missing = np.maximum(-np.sum(steps, axis=1), 0.0)
    room = most - steps
    total = np.sum(room, axis=1)
    share = np.divide(missing, total, out=np.zeros_like(missing), where=total > 0.0)
    steps += np.minimum(np.floor(room * share[:, None]), room)
    largest = np.argmax(most - steps, axis=1)
    steps[index, largest] -= np.sum(steps, axis=1)
    failed = (steps > most).any(axis=1) | (np.sum(steps, axis=1) != 0.0)
    steps[failed] = 0.0
