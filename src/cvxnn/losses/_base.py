"""Contract of a loss: value, gradient, curvature and convex conjugate, summed over weighted samples.

Every loss is a sum ``sum_j w_j * l(f_j, y_j)`` with ``l`` convex, differentiable and non-negative. The conjugate turns
any dual vector into a lower bound, so each loss states the domain of its conjugate exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["Loss"]


class Loss(ABC):
    """Contract of a loss ``sum_j w_j l(f_j, y_j)`` over samples with one output or with c outputs.

    Fits, targets and dual vectors have the shape ``(n,)`` or ``(n, c)``; ``weight`` has the same shape, the weight of
    a sample being repeated for each of its outputs (:attr:`cvxnn.Problem.entry_weight`).

    Attributes
    ----------
    name : str
        Word accepted by :class:`cvxnn.Problem`.
    curvature : float
        Upper bound of the second derivative of ``l`` in its first argument; of the largest eigenvalue of its Hessian
        where the outputs of a sample are coupled.
    strictly_convex : bool
        Whether the optimal fit, and with it the dual vector, is unique.
    labels : bool
        Whether targets must be the labels -1 and +1.
    entrywise : bool
        Whether the loss of c outputs is the sum of the losses of the single outputs.
    """

    name: ClassVar[str]
    curvature: ClassVar[float]
    strictly_convex: ClassVar[bool]
    labels: ClassVar[bool]
    entrywise: ClassVar[bool] = True

    @abstractmethod
    def value(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        """Loss summed over the samples."""

    @abstractmethod
    def gradient(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Derivative of the loss in each fitted value, of the shape of the fit."""

    @abstractmethod
    def hessian(self, fit: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Second derivative in each fitted value; a generalised one where the loss is only once smooth.

        It is the diagonal of the Hessian, and all of it unless the outputs of a sample are coupled: see
        :meth:`hessian_product`.
        """

    @abstractmethod
    def dual_value(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        """Dual objective ``-l*(-nu)``, minus infinity outside the domain of the conjugate."""

    @abstractmethod
    def dual_magnitude(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        """Sum of the absolute terms of :meth:`dual_value`; rounding errors are proportional to it."""

    @abstractmethod
    def dual_scale_limit(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        """Largest ``t >= 0`` such that ``t * nu`` lies in the domain of the conjugate (infinity where all do).

        The product is rounded, so :meth:`project_dual` has to follow it.
        """

    def hessian_product(self, fit: FloatArray, y: FloatArray, weight: FloatArray, direction: FloatArray) -> FloatArray:
        """Product of the (generalised) Hessian in the fitted values with a direction, all of the shape of the fit."""
        return self.hessian(fit, y, weight) * direction

    def conjugate(self, dual: FloatArray, y: FloatArray, weight: FloatArray) -> float:
        """Convex conjugate ``l*(dual) = sup_f dual^T f - l(f)``."""
        return -self.dual_value(-dual, y, weight)

    def project_dual(self, nu: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Move ``nu`` to the domain of the conjugate where only rounding keeps it outside."""
        del y
        return np.where(weight > 0, nu, 0.0)

    def checked_targets(self, y: FloatArray) -> FloatArray:
        """Targets ``(n,)`` or ``(n, c)`` as the loss takes them.

        Raises
        ------
        ValueError
            If the loss does not take such targets.
        """
        wrong = np.unique(y[(y != 1.0) & (y != -1.0)]) if self.labels else y[:0]
        if wrong.size:
            shown = ", ".join(f"{value:g}" for value in wrong[:3])
            raise ValueError(
                f'y must hold the labels -1 and +1 for loss="{self.name}"; got {shown} '
                "(ReLUClassifier accepts any labels)."
            )
        return y
