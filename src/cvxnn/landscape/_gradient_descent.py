r"""Steps of gradient descent on both layers of a ReLU network: objective, gradient, curvature, step sizes.

.. math:: L(W, a, b) = \mathrm{loss}\big((X W^T)_+ a + b\big) + \tfrac{\beta}{2}(\|W\|_F^2 + \|a\|_F^2)
          + \tfrac{\kappa}{2} b^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]
Stuck = Literal["stationary", "no descent", "diverged"]

__all__ = ["BACKTRACKING", "Descent", "Stuck", "Weights", "curvature_estimate", "evaluate"]

BACKTRACKING: Final = "backtracking"

_ARMIJO = 1e-4
_POWER_STEPS = 40
_MARGIN = 1.1
"""Power iteration stops below the largest eigenvalue."""

_SMALLEST_STEP = 1e-14
"""Relative to the step before: no shorter step is tried by backtracking."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Point ``W (m, d)``, ``a (m,)`` or ``(m, c)``, ``b``; also a direction of the same shapes."""

    W: FloatArray
    a: FloatArray
    b: float

    def moved(self, step: float, direction: Weights) -> Weights:
        """Point ``self + step * direction``."""
        return Weights(self.W + step * direction.W, self.a + step * direction.a, self.b + step * direction.b)

    def scaled(self, factor: float) -> Weights:
        """Multiple of a direction."""
        return Weights(factor * self.W, factor * self.a, factor * self.b)

    @property
    def norm(self) -> float:
        """Euclidean norm of all weights."""
        return float(np.sqrt(np.sum(self.W**2) + np.sum(self.a**2) + self.b**2))

    def network(self) -> ReLUNetwork:
        """The network of these weights."""
        return ReLUNetwork(self.W, self.a, output_bias=self.b)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Objective and gradient at a point; the derivative of the ReLU is 0 at 0."""

    at: Weights
    loss: float
    objective: float
    gradient: Weights


def _backward(signal: FloatArray, a: FloatArray, active: npt.NDArray[np.bool_], X: FloatArray) -> FloatArray:
    """First-layer rows ``sum_j active_ji (signal_j . a_i) x_j``."""
    if a.ndim == 1:
        return a[:, None] * ((active * signal[:, None]).T @ X)
    return (active * (signal @ a.T)).T @ X


def evaluate(problem: Problem, at: Weights) -> Evaluation:
    """Objective and gradient at ``at``; the bias is held where the problem allows none."""
    X, beta, kappa = problem.X, problem.beta, problem.output_bias_decay
    ahead = X @ at.W.T
    hidden = np.maximum(ahead, 0.0)
    fit = hidden @ at.a + at.b
    loss = problem.loss_value(fit)
    penalty = 0.5 * beta * float(np.sum(at.W**2) + np.sum(at.a**2)) + 0.5 * (kappa or 0.0) * at.b**2
    signal = problem.loss_gradient(fit)
    gradient = Weights(
        _backward(signal, at.a, ahead > 0, X) + beta * at.W,
        hidden.T @ signal + beta * at.a,
        0.0 if kappa is None else float(np.sum(signal)) + kappa * at.b,
    )
    return Evaluation(at, loss, loss + penalty, gradient)


def curvature_estimate(problem: Problem, at: Weights) -> float:
    """Largest curvature of the objective at ``at``, patterns held, with the largest curvature of the loss.

    Power iteration from a fixed random vector on the Hessian in which the second derivative of the loss is replaced
    by its upper bound, so that losses with linear parts are not underestimated.
    """
    X, beta, kappa = problem.X, problem.beta, problem.output_bias_decay
    ahead = X @ at.W.T
    active, hidden = ahead > 0, np.maximum(ahead, 0.0)
    signal = problem.loss_gradient(hidden @ at.a + at.b)
    bend = problem.loss.curvature * problem.entry_weight

    def product(v: Weights) -> Weights:
        inner = active * (X @ v.W.T)
        change = bend * (inner @ at.a + hidden @ v.a + v.b)
        return Weights(
            _backward(change, at.a, active, X) + _backward(signal, v.a, active, X) + beta * v.W,
            hidden.T @ change + inner.T @ signal + beta * v.a,
            0.0 if kappa is None else float(np.sum(change)) + kappa * v.b,
        )

    rng = np.random.default_rng(0)
    v = Weights(rng.standard_normal(at.W.shape), rng.standard_normal(at.a.shape), 0.0 if kappa is None else 1.0)
    largest = 0.0
    for _ in range(_POWER_STEPS):
        v = product(v.scaled(1.0 / v.norm))
        largest = max(largest, v.norm)
        if v.norm == 0.0:
            break
    return _MARGIN * largest


class Descent:
    """A run of gradient descent: the point, its evaluation, and the step size of the last move.

    Parameters
    ----------
    problem : Problem
    start : Weights
    step_size : float, "backtracking" or None
        Constant; found by backtracking; or one over the estimated curvature at the start, renewed where a step of that
        size raises the objective.
    """

    def __init__(self, problem: Problem, start: Weights, step_size: float | str | None) -> None:
        self.problem = problem
        self.now = evaluate(problem, start)
        self._kind = step_size
        self.step_size = step_size if isinstance(step_size, float) else self._estimated()

    @property
    def at(self) -> Weights:
        """The point."""
        return self.now.at

    def _estimated(self) -> float:
        curvature = curvature_estimate(self.problem, self.at)
        return 1.0 / curvature if curvature > 0.0 else 1.0

    def move(self) -> Stuck | None:
        """Take a step; the reason to stop, if there is one, in which case the point has not moved."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.now.gradient.norm == 0.0:
                return "stationary"
            return self._backtrack() if self._kind == BACKTRACKING else self._advance()

    def _advance(self) -> Stuck | None:
        """Take a step of the size in use, which is renewed where it raises the objective."""
        new = self._trial(self.step_size)
        if self._kind is None and not new.objective <= self.now.objective:
            # Crossing a kink may raise the objective a little at any step size: only curvature shortens the step.
            self.step_size = min(self.step_size, self._estimated())
            new = self._trial(self.step_size)
        if not np.isfinite(new.objective + new.gradient.norm):
            return "diverged"
        self.now = new
        return None

    def _trial(self, step: float) -> Evaluation:
        return evaluate(self.problem, self.at.moved(-step, self.now.gradient))

    def _backtrack(self) -> Stuck | None:
        """Halve a doubled step until the objective falls as much as its slope promises, but for a small factor."""
        step, slope = 2.0 * self.step_size, self.now.gradient.norm**2
        shortest = _SMALLEST_STEP * self.step_size
        while step > shortest:
            new = self._trial(step)
            fall = self.now.objective - new.objective
            if fall > 0.0 and fall >= _ARMIJO * step * slope and np.isfinite(new.gradient.norm):
                self.now, self.step_size = new, step
                return None
            step *= 0.5
        return "no descent"
