"""Losses as the interior-point method of the spectrahedral program sees them: curvature and residual at a barrier."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["HuberModel", "LossModel", "loss_model"]


class LossModel:
    """Linearisation ``H de + dnu = r`` of ``nu = -gradient(e)``; kinks are rounded off within the square root of mu."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def linearise(self, e: FloatArray, nu: FloatArray, mu: float) -> FloatArray:
        """Take a point and return the diagonal of H."""
        smoothed, curvature = _smoothed(self.problem, e, mu)
        self.rest = -(smoothed + nu)
        return curvature

    def residual(self, target: float) -> FloatArray:
        """Right-hand side r for a barrier parameter to aim at."""
        del target
        return self.rest

    def longest(self, change: FloatArray, target: float) -> float:
        """Longest step along a change of nu."""
        del change, target
        return math.inf

    def take(self, change: FloatArray, target: float, length: float) -> None:
        """Move along with nu."""


class HuberModel(LossModel):
    r"""Huber loss with its linear parts as variables.

    It is :math:`e - y = p + q - s,\ |p| \le \delta,\ q, s \ge 0`, and with :math:`p = -\nu/\omega` the conditions
    :math:`q (\delta - p) = s (\delta + p) = \mu` are linearised in both factors: the gradient alone has no curvature
    far from the kinks, and the step would leave its domain.
    """

    def __init__(self, problem: Problem, delta: float, mu: float) -> None:
        super().__init__(problem)
        self.delta = delta
        self.q = np.full(problem.n_samples, mu / delta)
        self.s = self.q.copy()

    def linearise(self, e: FloatArray, nu: FloatArray, mu: float) -> FloatArray:
        """Take a point and return the diagonal of H."""
        del mu
        weight = self.problem.sample_weight
        self.p = -nu / weight
        self.above, self.below = self.delta - self.p, self.delta + self.p
        if not (np.all(self.above > 0.0) and np.all(self.below > 0.0)):
            raise np.linalg.LinAlgError("rounding has reached the end of the domain")
        self.curvature = weight / (1.0 + self.q / self.above + self.s / self.below)
        self.rest = self.p - (e - self.problem.y)
        return self.curvature

    def residual(self, target: float) -> FloatArray:
        """Right-hand side r for a barrier parameter to aim at."""
        return self.curvature * (self.rest + target / self.above - target / self.below)

    def _changes(self, change: FloatArray, target: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        dp = -change / self.problem.sample_weight
        dq = target / self.above - self.q + self.q / self.above * dp
        ds = target / self.below - self.s - self.s / self.below * dp
        return dp, dq, ds

    def longest(self, change: FloatArray, target: float) -> float:
        """Longest step that keeps the four factors positive."""
        dp, dq, ds = self._changes(change, target)
        pairs = ((self.above, -dp), (self.below, dp), (self.q, dq), (self.s, ds))
        fastest = max(float(np.max(-move / value, initial=0.0)) for value, move in pairs)
        return math.inf if fastest <= 0.0 else 1.0 / fastest

    def take(self, change: FloatArray, target: float, length: float) -> None:
        """Move along with nu."""
        _, dq, ds = self._changes(change, target)
        self.q, self.s = self.q + length * dq, self.s + length * ds


def loss_model(problem: Problem, mu: float) -> LossModel:
    """Model of the problem's loss at a first barrier parameter.

    Raises
    ------
    ValueError
        For losses other than squared, huber, logistic and squared_hinge.
    """
    if isinstance(problem.loss, HuberLoss):
        return HuberModel(problem, problem.loss.delta, mu)
    return LossModel(problem)


def _smoothed(problem: Problem, e: FloatArray, mu: float) -> tuple[FloatArray, FloatArray]:
    """Gradient and curvature of the loss, its kinks rounded off within the square root of mu."""
    loss, y, weight = problem.loss, problem.y, problem.sample_weight
    if isinstance(loss, SquaredLoss | LogisticLoss):
        return problem.loss_gradient(e), problem.loss_hessian(e)
    if isinstance(loss, SquaredHingeLoss):
        value, slope = _plus(1.0 - y * (e + loss.offset), mu)
        return -weight * y * value, weight * slope
    raise ValueError(
        f"loss {loss.name!r} is not covered by the polynomial program; squared, huber, logistic and squared_hinge are."
    )


def _plus(t: FloatArray, mu: float) -> tuple[FloatArray, FloatArray]:
    """Positive part, smoothed as on the central path of ``p >= t, p >= 0``, and its slope."""
    root = np.sqrt(t * t + 4.0 * mu)
    # The sum cancels for negative t.
    value = np.where(t > 0.0, 0.5 * (t + root), 2.0 * mu / (root - np.minimum(t, 0.0)))
    return value, value / root
