"""A fast non-convex start: limited-memory BFGS on both layers of a wide network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.problem import Problem
from cvxnn.solvers.axis_scales import round_axes
from cvxnn.solvers.best_bias import as_sum, replaced
from cvxnn.solvers.neurons import Neurons, sum_of_outputs
from cvxnn.solvers.row_slabs import row_pieces

AnyFloats = npt.NDArray[np.floating]

__all__ = ["Layers", "lbfgs_start", "minimize_layers"]

# Pairs of steps and gradient changes that are kept, and most lengths that a line search tries.
_HISTORY, _TRIALS = 20, 14
# Steps over which the fall of the value is watched.
_WINDOW = 50
# Neurons below this share of the largest mass are dead; every so many steps they are dropped where enough of them are.
_NEGLIGIBLE = 1e-5
_PRUNE_EVERY, _PRUNE_BELOW = 20, 0.9
# So many steps are ample where other methods wait for the time that is left.
_AMPLE_STEPS = 450
# With less time than for so many steps the network is narrower, down to the least width.
_STEPS_TO_AFFORD, _LEAST_WIDTH = 700, 100
_PROBES, _MEMORY_ROWS = 2, 60
# Beyond this many rows the first iterations, in a part of the time, see one row in a few.
_SAMPLED_FROM = 1 << 14
_SAMPLED_SHARE = 6
_SAMPLED_STEPS, _SAMPLED_TIME = 150, 0.3
# Below this many multiplications per product single precision saves nothing.
_SINGLE_PRECISION_FROM = 200_000


def lbfgs_start(
    problem: Problem,
    *,
    width: int,
    max_iter: int = 3000,
    rtol: float = 2e-3,
    time_limit: float | None = None,
    least_share: float = 1.0,
    random_state: int | np.random.Generator | None = 0,
    keep: Callable[[Neurons], object] | None = None,
) -> Neurons:
    r"""Train a network of given width from random weights by L-BFGS on :math:`(W, a)`.

    The result is a good start, not an optimum: the objective has kinks on which a quasi-Newton method stalls. Neurons
    that die on the way are dropped; with many rows the first iterations see a sample of them.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta.
    width : int
        Number of neurons; fewer, but no less than 100, where ``time_limit`` would end the training within 700 steps.
    max_iter : int, default 3000
        Most iterations.
    rtol : float, default 2e-3
        Stop when the objective fell by less than this fraction over the last 50 iterations.
    time_limit : float, optional
        Seconds of wall time.
    least_share : float, default 1
        Share of the time limit after which 450 steps are enough.
    random_state : int, Generator or None, default 0
        Seed of the first weights.
    keep : callable, optional
        Called with the neurons at hand when the user interrupts.

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
    rng = np.random.default_rng(random_state)
    begin = time.perf_counter()
    objective = _TwoLayer(problem, width)
    point = objective.random_point(rng)
    if time_limit is not None:
        width = _affordable_width(objective, point, time_limit)
        if width < objective.shape[0]:
            objective.shape = (width, problem.n_features)
            point = objective.random_point(rng)
    deadline = np.inf if time_limit is None else begin + time_limit
    current = objective
    try:
        if problem.n_samples > _SAMPLED_FROM:
            early = np.inf if time_limit is None else begin + _SAMPLED_TIME * time_limit
            current = _TwoLayer(_sample(problem, rng), width)
            most = min(max_iter, _SAMPLED_STEPS)
            point = minimize_layers(current, point, max_iter=most, rtol=rtol, deadline=early)
            objective.shape = current.shape
            current = objective
        ample = np.inf if time_limit is None else begin + least_share * time_limit
        point = minimize_layers(objective, point, max_iter=max_iter, rtol=rtol, deadline=deadline, ample=ample)
        return objective.neurons(point)
    except KeyboardInterrupt:
        if keep is not None:
            keep(current.interrupted())
        raise


def _affordable_width(objective: _TwoLayer, point: AnyFloats, seconds: float) -> int:
    """Width at which the time is enough for a number of steps; wider networks end lower, but need these steps."""
    width, each = objective.shape[0], np.inf
    for _ in range(_PROBES):
        begin = time.perf_counter()
        objective(point)
        each = min(each, time.perf_counter() - begin)
    # The products with the memory of earlier steps cost as much as so many rows.
    each *= 1.0 + _MEMORY_ROWS / objective.problem.n_samples
    share = seconds / max(_STEPS_TO_AFFORD * each, 1e-300)
    return min(width, max(int(share * width), min(width, _LEAST_WIDTH)))


def _sample(problem: Problem, rng: np.random.Generator) -> Problem:
    """Problem on some of the rows, their weights raised to the same sum."""
    positive = np.flatnonzero(problem.sample_weight > 0)
    size = min(len(positive), max(_SAMPLED_FROM // _SAMPLED_SHARE, problem.n_samples // _SAMPLED_SHARE))
    chosen = np.sort(rng.choice(positive, size, replace=False))
    weight = problem.sample_weight[chosen]
    weight = weight * (problem.sample_weight.sum() / weight.sum())
    return replaced(problem, X=problem.X[chosen], y=problem.y[chosen], sample_weight=weight)


class _TwoLayer:
    """Objective and gradient in the flat vector ``(W, a)``; products in single precision where they are large."""

    def __init__(self, problem: Problem, width: int) -> None:
        self.problem = problem
        n, d = problem.X.shape
        dtype = np.float32 if n * d * width >= _SINGLE_PRECISION_FROM else np.float64
        # The first layer is W = Q diag(scales) on the axes, with the variables Q, so that its steps follow the data.
        self.axes, self.scales = round_axes(problem)
        X = problem.X if self.axes is None else problem.X @ self.axes
        self.X: AnyFloats = (X * self.scales).astype(dtype)
        self.squares: AnyFloats = (self.scales**2).astype(dtype)
        self.shape = (width, d)
        self.latest: AnyFloats = np.zeros(0, dtype)

    def random_point(self, rng: np.random.Generator) -> AnyFloats:
        """Gaussian weights whose scale follows that of the data, so that rescaling the data changes nothing."""
        width, d = self.shape
        weight = self.problem.sample_weight / self.problem.sample_weight.sum()
        row = np.sqrt(weight @ np.einsum("ij,ij->i", self.X, self.X))
        target = np.sqrt(weight @ self.problem.y**2)
        scale = np.sqrt((target if target > 0 else 1.0) * np.sqrt(d) / (row if row > 0 else 1.0))
        W = rng.standard_normal((width, d)) * (scale / np.sqrt(d))
        a = rng.standard_normal(width) * (scale / np.sqrt(width))
        return np.concatenate([W.ravel(), a]).astype(self.X.dtype)

    def split(self, point: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """First and second layer as views of the flat vector."""
        return point[: -self.shape[0]].reshape(self.shape), point[-self.shape[0] :]

    def __call__(self, point: AnyFloats) -> tuple[float, AnyFloats]:
        """Objective in double precision and its gradient, both in one sweep over slabs of rows."""
        W, a = self.split(point)
        bits = np.int32 if point.dtype == np.float32 else np.int64
        weights = np.ascontiguousarray(W.T)
        problem, constant = as_sum(self.problem, lambda: sum_of_outputs(self.X, weights, a))

        def sweep(slabs: Sequence[slice]) -> tuple[float, AnyFloats]:
            value, outer = 0.0, np.zeros(self.shape, point.dtype)
            for rows in slabs:
                X = self.X[rows]
                hidden = X @ weights
                np.maximum(hidden, 0.0, out=hidden)
                fit = (hidden @ a).astype(np.float64)
                y, weight = problem.y[rows], problem.sample_weight[rows]
                value += problem.loss.value(fit, y, weight)
                if not np.isfinite(value):
                    break
                slope = problem.loss.gradient(fit, y, weight).astype(point.dtype)
                # Where the hidden value is positive, and so are its bits as an integer, put the bits of the slope.
                active = hidden.view(bits)
                np.minimum(active, 1, out=active)
                active *= slope.view(bits)[:, None]
                outer += hidden.T @ X
            return value, outer

        values, outers = zip(*in_parallel(sweep, row_pieces(len(self.X), self.shape[0])), strict=True)
        gradient = point.dtype.type(problem.beta) * point
        grad_W, grad_a = self.split(gradient)
        grad_W *= self.squares
        value = 0.5 * float(np.dot(point, gradient)) + sum(values) + constant
        if not np.isfinite(value):
            return np.inf, point
        outer = np.sum(outers, axis=0)
        grad_a += np.einsum("ij,ij->i", outer, W)
        outer *= a[:, None]
        grad_W += outer
        return value, gradient

    def restrict(self, alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Drop the other neurons; return the mask of the coordinates that remain."""
        mask = np.concatenate([np.repeat(alive, self.shape[1]), alive])
        self.shape = (int(alive.sum()), self.shape[1])
        return mask

    def alive(self, point: AnyFloats) -> npt.NDArray[np.bool_]:
        """Neurons of more than negligible mass."""
        W, a = self.split(point)
        masses = np.abs(a) * np.sqrt((W * W) @ self.squares)
        return masses > _NEGLIGIBLE * np.max(masses, initial=0.0)

    def interrupted(self) -> Neurons:
        """Neurons of the latest point; none where a change of the width was under way."""
        width, d = self.shape
        return self.neurons(self.latest) if len(self.latest) == width * (d + 1) else Neurons.empty(d)

    def neurons(self, point: AnyFloats) -> Neurons:
        """Vectors of the convex program, without those of negligible mass."""
        W, a = (layer.astype(np.float64) for layer in self.split(point))
        vectors = np.abs(a)[:, None] * (W * self.scales)
        vectors = vectors if self.axes is None else vectors @ self.axes.T
        return Neurons(vectors, np.sign(a)).take(self.alive(point))


Function = Callable[[AnyFloats], tuple[float, AnyFloats]]


class Layers(Protocol):
    """Function of flat layers that can drop neurons on the way; ``latest`` is the point that an interrupt leaves."""

    latest: AnyFloats

    def __call__(self, point: AnyFloats) -> tuple[float, AnyFloats]:
        """Value and gradient."""
        ...

    def alive(self, point: AnyFloats) -> npt.NDArray[np.bool_]:
        """Neurons of more than negligible mass."""
        ...

    def restrict(self, alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Drop the other neurons; return the mask of the coordinates that remain."""
        ...


def minimize_layers(
    function: Layers,
    point: AnyFloats,
    *,
    max_iter: int,
    rtol: float,
    deadline: float = np.inf,
    ample: float = np.inf,
) -> AnyFloats:
    """Minimise by L-BFGS until the value falls by less than ``rtol`` of it in 50 steps; dead neurons are dropped.

    From the time ``ample`` on 450 steps are enough.
    """
    value, gradient = function(point)
    memory = _Memory(len(point), point.dtype)
    values = [value]
    for step in range(1, max_iter + 1):
        function.latest = point
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
        length, new_value, new_gradient = found
        move = length * direction
        memory.add(move, new_gradient - gradient)
        point, value, gradient = point + move, new_value, new_gradient
        values.append(value)
        if len(values) > 2 * _WINDOW and values[-1 - _WINDOW] - value < rtol * abs(value):
            break
        now = time.perf_counter()
        if now >= deadline or (step >= _AMPLE_STEPS and now >= ample):
            break
        if step % _PRUNE_EVERY == 0:
            alive = function.alive(point)
            if np.count_nonzero(alive) < _PRUNE_BELOW * len(alive) and np.any(alive):
                mask = function.restrict(alive)
                memory.restrict(mask)
                point = point[mask]
                value, gradient = function(point)
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

    def restrict(self, mask: npt.NDArray[np.bool_]) -> None:
        """Keep the coordinates of the mask, and the pairs that still have positive curvature there."""
        self.moves, self.changes = self.moves[:, mask], self.changes[:, mask]
        newest_last = [(self.head - self.count + i) % _HISTORY for i in range(self.count)]
        moves, changes = self.moves[newest_last], self.changes[newest_last]
        self.clear()
        for move, change in zip(moves, changes, strict=True):
            self.add(move, change)

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
