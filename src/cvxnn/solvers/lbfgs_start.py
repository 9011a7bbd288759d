"""A fast non-convex start: limited-memory BFGS on both layers of a wide network."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.neurons import Neurons

AnyFloats = npt.NDArray[np.floating]

__all__ = ["lbfgs_start"]

_HISTORY = 20
_TRIALS = 14
_WINDOW = 50
# Below this many multiplications per product single precision saves nothing.
_SINGLE_PRECISION_FROM = 200_000


def lbfgs_start(
    problem: Problem,
    *,
    width: int,
    max_iter: int = 1000,
    rtol: float = 5e-3,
    time_limit: float | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> Neurons:
    r"""Train a network of given width from random weights by L-BFGS on :math:`(W, a)`.

    The result is a good start, not an optimum: the objective has kinks on which a quasi-Newton method stalls.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta.
    width : int
        Number of neurons.
    max_iter : int, default 1000
        Most iterations.
    rtol : float, default 5e-3
        Stop when the objective fell by less than this fraction over the last 50 iterations.
    time_limit : float, optional
        Seconds of wall time.
    random_state : int, Generator or None, default 0
        Seed of the first weights.

    Returns
    -------
    Neurons
        The trained neurons, those of negligible mass dropped.

    References
    ----------
    Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization".

    Examples
    --------
    >>> from cvxnn import Problem
    >>> problem = Problem([[1.0], [2.0]], [1.0, 2.0], beta=0.1)
    >>> bool(lbfgs_start(problem, width=4).objective(problem) < 0.11)
    True
    """
    objective = _TwoLayer(problem, width)
    point = objective.random_point(np.random.default_rng(random_state))
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    return objective.neurons(_minimize(objective, point, max_iter=max_iter, rtol=rtol, deadline=deadline))


class _TwoLayer:
    """Objective and gradient in the flat vector ``(W, a)``; products in single precision where they are large."""

    def __init__(self, problem: Problem, width: int) -> None:
        self.problem = problem
        n, d = problem.X.shape
        dtype = np.float32 if n * d * width >= _SINGLE_PRECISION_FROM else np.float64
        self.X: AnyFloats = problem.X.astype(dtype)
        self.shape = (width, d)

    def random_point(self, rng: np.random.Generator) -> AnyFloats:
        """Gaussian weights whose scale follows that of the data, so that rescaling the data changes nothing."""
        width, d = self.shape
        weight = self.problem.sample_weight / self.problem.sample_weight.sum()
        row = np.sqrt(weight @ np.einsum("ij,ij->i", self.problem.X, self.problem.X))
        target = np.sqrt(weight @ self.problem.y**2)
        scale = np.sqrt((target if target > 0 else 1.0) * np.sqrt(d) / (row if row > 0 else 1.0))
        W = rng.standard_normal((width, d)) * (scale / np.sqrt(d))
        a = rng.standard_normal(width) * (scale / np.sqrt(width))
        return np.concatenate([W.ravel(), a]).astype(self.X.dtype)

    def split(self, point: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """First and second layer as views of the flat vector."""
        return point[: -self.shape[0]].reshape(self.shape), point[-self.shape[0] :]

    def __call__(self, point: AnyFloats) -> tuple[float, AnyFloats]:
        """Objective in double precision and its gradient."""
        W, a = self.split(point)
        beta = self.problem.beta
        hidden = self.X @ W.T
        np.maximum(hidden, 0.0, out=hidden)
        fit = (hidden @ a).astype(np.float64)
        value = self.problem.loss_value(fit) + 0.5 * beta * float(np.dot(point, point))
        if not np.isfinite(value):
            return np.inf, point
        slope = self.problem.loss_gradient(fit).astype(self.X.dtype)
        gradient = beta * point
        grad_W, grad_a = self.split(gradient)
        grad_a += slope @ hidden
        np.multiply(hidden > 0.0, slope[:, None], out=hidden)
        grad_W += a[:, None] * (hidden.T @ self.X)
        return value, gradient

    def neurons(self, point: AnyFloats) -> Neurons:
        """Vectors of the convex program, without those of negligible mass."""
        W, a = (layer.astype(np.float64) for layer in self.split(point))
        vectors = np.abs(a)[:, None] * W
        masses = np.linalg.norm(vectors, axis=1)
        keep = masses > 1e-5 * np.max(masses, initial=0.0)
        return Neurons(vectors[keep], np.sign(a[keep]))


Function = Callable[[AnyFloats], tuple[float, AnyFloats]]


def _minimize(function: Function, point: AnyFloats, *, max_iter: int, rtol: float, deadline: float) -> AnyFloats:
    value, gradient = function(point)
    memory = _Memory(len(point), point.dtype)
    values = [value]
    for _ in range(max_iter):
        direction = memory.direction(gradient)
        slope = float(np.dot(direction, gradient))
        if not slope < 0.0:
            if memory.count == 0:
                break
            memory.clear()
            continue
        first = 1.0 if memory.count else min(1.0, 0.1 * value / -slope)
        found = _weak_wolfe(function, point, value, slope, direction, first)
        if found is None:
            if memory.count == 0:
                break
            memory.clear()
            continue
        step, new_value, new_gradient = found
        move = step * direction
        memory.add(move, new_gradient - gradient)
        point, value, gradient = point + move, new_value, new_gradient
        values.append(value)
        if len(values) > 2 * _WINDOW and values[-1 - _WINDOW] - value < rtol * abs(value):
            break
        if time.perf_counter() >= deadline:
            break
    return point


def _weak_wolfe(
    function: Function, point: AnyFloats, value: float, slope: float, direction: AnyFloats, first: float
) -> tuple[float, float, AnyFloats] | None:
    """Bracketing search for sufficient decrease and a slope of at most 0.9 of the first one."""
    low, high, step = 0.0, np.inf, first
    best = None
    for _ in range(_TRIALS):
        trial_value, trial_gradient = function(point + step * direction)
        if not trial_value <= value + 1e-4 * step * slope:
            high = step
        else:
            best = (step, trial_value, trial_gradient)
            if float(np.dot(trial_gradient, direction)) >= 0.9 * slope:
                return best
            low = step
        step = 0.5 * (low + high) if np.isfinite(high) else 2.0 * step
    return best


class _Memory:
    """Last pairs of steps and gradient changes, and the two-loop recursion on them."""

    def __init__(self, size: int, dtype: np.dtype) -> None:
        self.moves = np.empty((_HISTORY, size), dtype)
        self.changes = np.empty((_HISTORY, size), dtype)
        self.products = np.zeros(_HISTORY)
        self.count = 0
        self.head = 0

    def clear(self) -> None:
        self.count = self.head = 0

    def add(self, move: AnyFloats, change: AnyFloats) -> None:
        product = float(np.dot(move, change))
        if product <= 1e-10 * float(np.dot(change, change)):
            return
        self.moves[self.head], self.changes[self.head] = move, change
        self.products[self.head] = product
        self.head = (self.head + 1) % _HISTORY
        self.count = min(self.count + 1, _HISTORY)

    def direction(self, gradient: AnyFloats) -> AnyFloats:
        """Minus the inverse Hessian approximation times the gradient."""
        out = -gradient
        order = [(self.head - 1 - i) % _HISTORY for i in range(self.count)]
        shares = {}
        for i in order:
            shares[i] = float(np.dot(self.moves[i], out)) / float(self.products[i])
            out -= shares[i] * self.changes[i]
        if self.count:
            last = self.changes[order[0]]
            out *= float(self.products[order[0]]) / float(np.dot(last, last))
        for i in reversed(order):
            back = float(np.dot(self.changes[i], out)) / float(self.products[i])
            out += (shares[i] - back) * self.moves[i]
        return out
