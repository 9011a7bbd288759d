"""Losses as an interior-point method sees them: a gradient with variables of its own that follow the central path.

A loss with kinks in its gradient stalls Newton steps, one with flat tails throws them far out. Huber, squared hinge and
logistic are therefore written through their conjugates, ``l(f) = max_a a f - l*(a)``: the gradient a is a variable, its
bounds and its link to the fit are equations that Newton's method treats along with all others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss
from cvxnn.problem import Problem
from cvxnn.solvers._cone_algebra import ray_step

FloatArray = npt.NDArray[np.float64]

__all__ = ["InteriorLoss", "interior_loss"]


class InteriorLoss(ABC):
    """State of the loss along the iteration.

    A Newton step changes the gradient by ``shift(target) + curvature() * change``, where ``change (n,)`` is the step of
    the fit and ``target`` the right-hand side of the equations of the loss.
    """

    fit: FloatArray

    @property
    @abstractmethod
    def gradient(self) -> FloatArray:
        """Gradient of the loss, ``(n,)``, in the interior of the domain of the conjugate."""

    @abstractmethod
    def curvature(self) -> FloatArray:
        """Slope of the gradient in the fit, ``(n,)``, non-negative."""

    @abstractmethod
    def target(self) -> FloatArray:
        """Right-hand side of the predictor."""

    @abstractmethod
    def corrected(self, change: FloatArray, reach: float, centre: float) -> FloatArray:
        """Right-hand side of the corrector, after a predictor with this change of the fit and this step length."""

    @abstractmethod
    def shift(self, target: FloatArray) -> FloatArray:
        """Change of the gradient at an unchanged fit, ``(n,)``."""

    def products(self) -> tuple[float, int]:
        """Sum and number of the complementary products of the loss."""
        return 0.0, 0

    def limit(self, target: FloatArray, change: FloatArray) -> float:
        """Largest step that keeps the variables of the loss positive."""
        del target, change
        return np.inf

    @abstractmethod
    def advance(self, step: float, target: FloatArray, change: FloatArray) -> None:
        """Move the fit and the variables of the loss."""


class _SmoothLoss(InteriorLoss):
    """Loss without variables of its own."""

    def __init__(self, problem: Problem, fit: FloatArray) -> None:
        self.problem = problem
        self.fit = fit

    @property
    def gradient(self) -> FloatArray:
        return self.problem.loss_gradient(self.fit)

    def curvature(self) -> FloatArray:
        return self.problem.loss_hessian(self.fit)

    def target(self) -> FloatArray:
        return np.zeros_like(self.fit)

    def corrected(self, change: FloatArray, reach: float, centre: float) -> FloatArray:
        del centre
        predicted = self.gradient + self.curvature() * (reach * change)
        return self.problem.loss_gradient(self.fit + reach * change) - predicted

    def shift(self, target: FloatArray) -> FloatArray:
        return target

    def advance(self, step: float, target: FloatArray, change: FloatArray) -> None:
        del target
        self.fit = self.fit + step * change


class _WeightedLoss(InteriorLoss):
    """Loss with variables at the samples of positive weight."""

    def __init__(self, problem: Problem, fit: FloatArray) -> None:
        self.live = problem.sample_weight > 0
        self.weight = problem.sample_weight[self.live]
        self.y = problem.y[self.live]
        self.fit = fit

    def full(self, values: FloatArray) -> FloatArray:
        out = np.zeros_like(self.fit)
        out[self.live] = values
        return out


class _HingeLoss(_WeightedLoss):
    """Squared hinge: ``a >= 0``, ``b = a / w - 1 + y (f + offset) >= 0``, ``a b -> 0``; the gradient is ``-y a``."""

    def __init__(self, problem: Problem, fit: FloatArray, offset: float, centre: float) -> None:
        super().__init__(problem, fit)
        margin = 1.0 - self.y * (fit[self.live] + offset)
        # a b = centre with b = a / w - margin, solved for the positive root without cancellation.
        product = 4.0 * centre / self.weight
        root = np.sqrt(margin**2 + product)
        self.first = 0.5 * self.weight * np.where(margin > 0, margin + root, product / (root + np.abs(margin)))
        self.second = centre / self.first

    @property
    def gradient(self) -> FloatArray:
        return self.full(-self.y * self.first)

    def _sum(self) -> FloatArray:
        return self.second + self.first / self.weight

    def curvature(self) -> FloatArray:
        return self.full(self.first / self._sum())

    def target(self) -> FloatArray:
        return -self.first * self.second

    def corrected(self, change: FloatArray, reach: float, centre: float) -> FloatArray:
        del reach
        plain = self.target()
        first, second = self._move(plain, change)
        return plain - first * second + centre

    def _move(self, target: FloatArray, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        moved = self.y * change[self.live]
        first = (target - self.first * moved) / self._sum()
        return first, first / self.weight + moved

    def shift(self, target: FloatArray) -> FloatArray:
        return self.full(-self.y * target / self._sum())

    def products(self) -> tuple[float, int]:
        return float(self.first @ self.second), self.first.size

    def limit(self, target: FloatArray, change: FloatArray) -> float:
        first, second = self._move(target, change)
        return min(ray_step(self.first, first), ray_step(self.second, second))

    def advance(self, step: float, target: FloatArray, change: FloatArray) -> None:
        first, second = self._move(target, change)
        self.first = self.first + step * first
        self.second = self.second + step * second
        self.fit = self.fit + step * change


class _BoxLoss(_WeightedLoss):
    """Loss whose gradient a stays in a box: ``f = link(a) + k - l`` with ``k (hi - a) -> 0`` and ``l (a - lo) -> 0``.

    Rooms ``hi - a``, ``a - lo`` and forces k, l have shape ``(2, m)``: above, below. Targets have shape ``(3, m)``: the
    products of both sides and the error of the link equation.
    """

    low: FloatArray

    def place(self, low: FloatArray, high: FloatArray, value: FloatArray, centre: float) -> None:
        """Set the variables at an interior gradient; the link equation holds."""
        self.low = low
        self.rooms = np.stack([high - value, value - low])
        self.forces = np.zeros_like(self.rooms)
        rest = self.error()
        self.forces = np.maximum(np.stack([rest, -rest]), 0.0) + centre / (high - low)

    @abstractmethod
    def link(self, rooms: FloatArray) -> FloatArray:
        """Fit that belongs to the gradient in the middle of the box and far from its ends."""

    @abstractmethod
    def link_slope(self) -> FloatArray:
        """Slope of the link in the gradient."""

    @property
    def gradient(self) -> FloatArray:
        return self.full(self.low + self.rooms[1])

    def error(self) -> FloatArray:
        return self.fit[self.live] - self.link(self.rooms) - self.forces[0] + self.forces[1]

    def _slope(self) -> FloatArray:
        return 1.0 / (self.link_slope() + np.sum(self.forces / self.rooms, axis=0))

    def curvature(self) -> FloatArray:
        return self.full(self._slope())

    def target(self) -> FloatArray:
        return np.concatenate([-self.rooms * self.forces, self.error()[None]])

    def corrected(self, change: FloatArray, reach: float, centre: float) -> FloatArray:
        out = self.target()
        rooms, forces = self._move(out, change)
        out[:2] += centre - rooms * forces
        part = 0.99 * reach
        linear = self.link_slope() * part * rooms[1]
        bend = self.link(self.rooms + part * rooms) - self.link(self.rooms) - linear
        # Close to an end of the box the bend of a logarithm exceeds the step itself and would throw it back.
        out[2] -= np.clip(bend, -0.5 * np.abs(linear), 0.5 * np.abs(linear))
        return out

    def _pull(self, target: FloatArray) -> FloatArray:
        return (target[2] + target[1] / self.rooms[1] - target[0] / self.rooms[0]) * self._slope()

    def _move(self, target: FloatArray, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        moved = change[self.live] * self._slope() + self._pull(target)
        rooms = np.stack([-moved, moved])
        return rooms, (target[:2] - self.forces * rooms) / self.rooms

    def shift(self, target: FloatArray) -> FloatArray:
        return self.full(self._pull(target))

    def products(self) -> tuple[float, int]:
        return float(np.sum(self.rooms * self.forces)), self.rooms.size

    def limit(self, target: FloatArray, change: FloatArray) -> float:
        rooms, forces = self._move(target, change)
        return min(ray_step(self.rooms, rooms), ray_step(self.forces, forces))

    def advance(self, step: float, target: FloatArray, change: FloatArray) -> None:
        rooms, forces = self._move(target, change)
        self.rooms = self.rooms + step * rooms
        self.forces = self.forces + step * forces
        self.fit = self.fit + step * change


class _HuberLoss(_BoxLoss):
    """Huber: ``|a| <= w delta`` and ``link(a) = y + a / w``."""

    def __init__(self, problem: Problem, fit: FloatArray, delta: float, centre: float) -> None:
        super().__init__(problem, fit)
        value = np.clip(fit[self.live] - self.y, -0.9 * delta, 0.9 * delta)
        limit = self.weight * delta
        self.place(-limit, limit, self.weight * value, centre)

    def link(self, rooms: FloatArray) -> FloatArray:
        return self.y + 0.5 * (rooms[1] - rooms[0]) / self.weight

    def link_slope(self) -> FloatArray:
        return 1.0 / self.weight


class _LogisticLoss(_BoxLoss):
    """Logistic: a between 0 and ``-w y``, and ``link(a) = log((a - lo) / (hi - a)) - offset``."""

    def __init__(self, problem: Problem, fit: FloatArray, offset: float, centre: float) -> None:
        super().__init__(problem, fit)
        self.offset = offset
        margin = np.clip(self.y * (fit[self.live] + offset), -3.0, 3.0)
        low, high = -self.weight * (self.y > 0), self.weight * (self.y < 0)
        self.place(low, high, -self.weight * self.y / (1.0 + np.exp(margin)), centre)

    def link(self, rooms: FloatArray) -> FloatArray:
        return np.log(rooms[1]) - np.log(rooms[0]) - self.offset

    def link_slope(self) -> FloatArray:
        return np.sum(1.0 / self.rooms, axis=0)


def interior_loss(problem: Problem, fit: FloatArray, centre: float) -> InteriorLoss:
    """Interior form of the loss of a problem at a fit, its complementary products near ``centre > 0``."""
    loss = problem.loss
    if isinstance(loss, LogisticLoss):
        return _LogisticLoss(problem, fit, loss.offset, centre)
    if isinstance(loss, SquaredHingeLoss):
        return _HingeLoss(problem, fit, loss.offset, centre)
    if isinstance(loss, HuberLoss):
        return _HuberLoss(problem, fit, loss.delta, centre)
    return _SmoothLoss(problem, fit)
