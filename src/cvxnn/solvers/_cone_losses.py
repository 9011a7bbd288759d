"""Losses as an interior-point method sees them: a smooth gradient, a positive curvature and, where needed, pairs.

A loss that is only once differentiable stalls Newton steps at its kinks. Huber and squared hinge are therefore written
through their conjugates, ``l(f) = max_a a f - l*(a)``, with the bounds of ``a`` as complementary pairs that follow the
central path; their curvature in ``f`` is then positive at every sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from cvxnn.losses import HuberLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["InteriorLoss", "interior_loss"]


class InteriorLoss(ABC):
    """State of the loss along the iteration: fit ``f`` and gradient ``g``, each of shape ``(n,)``."""

    def __init__(self, problem: Problem, fit: FloatArray) -> None:
        self.problem = problem
        self.fit = fit

    @property
    @abstractmethod
    def gradient(self) -> FloatArray:
        """Gradient of the loss, ``(n,)``, in the interior of the domain of the conjugate."""

    @abstractmethod
    def curvature(self) -> FloatArray:
        """Derivative of the linearised gradient in the fit, ``(n,)``, non-negative."""

    def pairs(self) -> tuple[FloatArray, FloatArray]:
        """Complementary pairs ``(first, second)``, both positive; empty for a smooth loss."""
        return np.zeros(0), np.zeros(0)

    def shift(self, target: FloatArray) -> FloatArray:
        """Change of the gradient that the pair targets cause at an unchanged fit, ``(n,)``."""
        del target
        return np.zeros_like(self.fit)

    def pair_step(self, target: FloatArray, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Newton step of the pairs for a change of the fit."""
        del target, change
        return np.zeros(0), np.zeros(0)

    def bend(self, change: FloatArray) -> FloatArray:
        """Gradient after a change of the fit, less its linear prediction; zero where the equations are linear."""
        del change
        return np.zeros_like(self.fit)

    @abstractmethod
    def advance(self, step: float, fit: FloatArray, target: FloatArray, change: FloatArray) -> None:
        """Move along the Newton step; ``fit`` is the new fit."""


class _SmoothLoss(InteriorLoss):
    @property
    def gradient(self) -> FloatArray:
        return self.problem.loss_gradient(self.fit)

    def curvature(self) -> FloatArray:
        return self.problem.loss_hessian(self.fit)

    def bend(self, change: FloatArray) -> FloatArray:
        if isinstance(self.problem.loss, SquaredLoss):
            return np.zeros_like(self.fit)
        predicted = self.gradient + self.curvature() * change
        return self.problem.loss_gradient(self.fit + change) - predicted

    def advance(self, step: float, fit: FloatArray, target: FloatArray, change: FloatArray) -> None:
        del step, target, change
        self.fit = fit


class _HingeLoss(InteriorLoss):
    """Squared hinge: ``a >= 0`` and ``b = a / w - 1 + y f >= 0`` with ``a b -> 0``; the gradient is ``-y a``."""

    def __init__(self, problem: Problem, fit: FloatArray, centre: float) -> None:
        super().__init__(problem, fit)
        self.live = problem.sample_weight > 0
        self.weight = problem.sample_weight[self.live]
        self.y = problem.y[self.live]
        margin = 1.0 - self.y * fit[self.live]
        # a b = centre with b = a / w - margin, solved for its positive root.
        root = np.hypot(margin, 2.0 * np.sqrt(centre / self.weight))
        self.multiplier = self.weight * 0.5 * np.where(
            margin > 0, margin + root, 4.0 * centre / self.weight / np.maximum(root - margin, 1e-300)
        )
        self.slack = np.maximum(self.multiplier / self.weight - margin, centre / self.multiplier)

    def _full(self, values: FloatArray) -> FloatArray:
        out = np.zeros_like(self.fit)
        out[self.live] = values
        return out

    @property
    def gradient(self) -> FloatArray:
        return self._full(-self.y * self.multiplier)

    def _weighted(self) -> FloatArray:
        return self.slack + self.multiplier / self.weight

    def curvature(self) -> FloatArray:
        return self._full(self.multiplier / self._weighted())

    def pairs(self) -> tuple[FloatArray, FloatArray]:
        return self.multiplier, self.slack

    def shift(self, target: FloatArray) -> FloatArray:
        return self._full(-self.y * target / self._weighted())

    def pair_step(self, target: FloatArray, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        moved = self.y * change[self.live]
        first = (target - self.multiplier * moved) / self._weighted()
        return first, first / self.weight + moved

    def advance(self, step: float, fit: FloatArray, target: FloatArray, change: FloatArray) -> None:
        first, second = self.pair_step(target, change)
        self.multiplier = self.multiplier + step * first
        self.slack = self.slack + step * second
        self.fit = fit


class _HuberLoss(InteriorLoss):
    """Huber: ``|a| <= w delta`` and ``f - y = a / w + k - l`` with ``k (w delta - a)``, ``l (w delta + a) -> 0``."""

    def __init__(self, problem: Problem, fit: FloatArray, delta: float, centre: float) -> None:
        super().__init__(problem, fit)
        self.live = problem.sample_weight > 0
        self.weight = problem.sample_weight[self.live]
        residual = (fit - problem.y)[self.live]
        limit = self.weight * delta
        value = self.weight * np.clip(residual, -0.9 * delta, 0.9 * delta)
        rest = residual - value / self.weight
        extra = centre / limit
        self.upper = limit - value
        self.lower = limit + value
        self.excess = np.maximum(rest, 0.0) + extra
        self.deficit = np.maximum(-rest, 0.0) + extra
        self.value = value

    def _full(self, values: FloatArray) -> FloatArray:
        out = np.zeros_like(self.fit)
        out[self.live] = values
        return out

    @property
    def gradient(self) -> FloatArray:
        return self._full(self.value)

    def _weighted(self) -> FloatArray:
        return 1.0 / self.weight + self.excess / self.upper + self.deficit / self.lower

    def curvature(self) -> FloatArray:
        return self._full(1.0 / self._weighted())

    def pairs(self) -> tuple[FloatArray, FloatArray]:
        return np.concatenate([self.upper, self.lower]), np.concatenate([self.excess, self.deficit])

    def _pull(self, target: FloatArray) -> FloatArray:
        above, below = np.split(target, 2)
        return (below / self.lower - above / self.upper) / self._weighted()

    def shift(self, target: FloatArray) -> FloatArray:
        return self._full(self._pull(target))

    def pair_step(self, target: FloatArray, change: FloatArray) -> tuple[FloatArray, FloatArray]:
        above, below = np.split(target, 2)
        moved = change[self.live] / self._weighted() + self._pull(target)
        excess = (above + self.excess * moved) / self.upper
        deficit = (below - self.deficit * moved) / self.lower
        return np.concatenate([-moved, moved]), np.concatenate([excess, deficit])

    def advance(self, step: float, fit: FloatArray, target: FloatArray, change: FloatArray) -> None:
        first, second = self.pair_step(target, change)
        above, below = np.split(step * first, 2)
        self.upper = self.upper + above
        self.lower = self.lower + below
        self.value = 0.5 * (self.lower - self.upper)
        excess, deficit = np.split(step * second, 2)
        self.excess = self.excess + excess
        self.deficit = self.deficit + deficit
        self.fit = fit


def interior_loss(problem: Problem, fit: FloatArray, centre: float) -> InteriorLoss:
    """Interior form of the loss of a problem at a fit, its pairs near the product ``centre > 0``."""
    loss = problem.loss
    if isinstance(loss, SquaredHingeLoss):
        return _HingeLoss(problem, fit, centre)
    if isinstance(loss, HuberLoss):
        return _HuberLoss(problem, fit, loss.delta, centre)
    return _SmoothLoss(problem, fit)
