"""Feasible directions of the pricing problem: local ascent, and a pool of the best distinct ones."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._boxls import solve_boxes
from cvxnn.certificates._reduction import ReducedPricing
from cvxnn.certificates._rounding import FloatArray

SignArray = npt.NDArray[np.int64]

# Entries of the work arrays of one batch of ascents, and the work allowed for all standard starts.
_CHUNK_ENTRIES = 200_000
_START_WORK = 1_000_000
_HEAVY = 16
# The polish takes a singular value decomposition of r rows and this many columns.
_MAX_POLISHED = 2_000


class DirectionPool:
    """The best distinct feasible points met so far, in reduced coordinates."""

    def __init__(self, problem: ReducedPricing, capacity: int = 32) -> None:
        self.problem = problem
        self.capacity = capacity
        # One attribute, so that an interrupt cannot leave its parts out of step.
        self._entries = (np.zeros((0, problem.rank)), np.zeros(0, dtype=np.int64), np.zeros(0))

    @property
    def directions(self) -> FloatArray:
        """Unit vectors ``(k, r)``, by falling value."""
        return self._entries[0]

    @property
    def signs(self) -> SignArray:
        """Signs ``(k,)``."""
        return self._entries[1]

    @property
    def values(self) -> FloatArray:
        """Values ``(k,)`` of ``sign * h``."""
        return self._entries[2]

    @property
    def best(self) -> float:
        """Largest value met (0 for an empty pool: the ball contains the origin)."""
        return max(float(self.values[0]), 0.0) if self.values.size else 0.0

    def add(self, directions: FloatArray, signs: SignArray) -> None:
        """Evaluate candidate directions, of any length, and keep the best distinct ones."""
        norms = np.sqrt(np.sum(directions * directions, axis=1))
        usable = norms > 0.0
        if not usable.any():
            return
        units, signs = directions[usable] / norms[usable, None], signs[usable]
        values = self.problem.values(units) * signs
        top = np.argsort(-values, kind="stable")[: 2 * self.capacity]
        if self.values.size == self.capacity and values[top[0]] <= self.values[-1]:
            return
        units = np.vstack([self.directions, units[top]])
        signs = np.concatenate([self.signs, signs[top]])
        values = np.concatenate([self.values, values[top]])
        order = np.argsort(-values, kind="stable")
        chosen: list[int] = []
        for i in order:
            same = signs[chosen] == signs[i]
            # Two unit vectors are one point when they are closer than 1e-6.
            if not np.any(same & (np.sum((units[chosen] - units[i]) ** 2, axis=1) < 1e-12)):
                chosen.append(int(i))
            if len(chosen) == self.capacity:
                break
        self._entries = (units[chosen], signs[chosen], values[chosen])


def ascend(
    problem: ReducedPricing,
    directions: FloatArray,
    signs: SignArray,
    *,
    max_iter: int = 20,
    deadline: float | None = None,
) -> tuple[FloatArray, SignArray]:
    """Convex-concave ascent of ``sign * h`` on the ball from each direction.

    The convex part is replaced by its tangent at the current point and the concave problem that remains,
    ``max_u q^T u - sum_j |w_j| (x_j^T u)_+``, is solved through its dual, a box-constrained least-squares problem.
    After the ``deadline``, a value of ``time.monotonic()``, the points stay where they are.

    Returns
    -------
    directions, signs
        Unit vectors, for the starts that reached a positive value.
    """
    points, signs = directions.copy(), signs.copy()
    values = problem.values(points) * signs
    active = np.ones(len(points), dtype=bool)
    for _ in range(max_iter):
        index = np.flatnonzero(active)
        if index.size == 0:
            break
        new = _concave_step(problem, points[index], signs[index], deadline)
        norms = np.sqrt(np.sum(new * new, axis=1))
        new = new / np.where(norms > 0.0, norms, 1.0)[:, None]
        reached = problem.values(new) * signs[index]
        gain = reached > values[index] + 1e-12 * np.abs(values[index])
        points[index[gain]], values[index[gain]] = new[gain], reached[gain]
        active[index[~gain]] = False
    good = values > 0.0
    return points[good], signs[good]


def _concave_step(problem: ReducedPricing, points: FloatArray, signs: SignArray, deadline: float | None) -> FloatArray:
    out = points.copy()
    rows = problem.rows
    chunk = max(1, _CHUNK_ENTRIES // rows.size)
    for sign in (1, -1):
        weights = sign * problem.weights
        convex, concave = weights > 0.0, weights < 0.0
        count = int(np.sum(concave))
        columns = (rows[concave] * -weights[concave][:, None]).T
        members = np.flatnonzero(signs == sign)
        for begin in range(0, members.size, chunk):
            if deadline is not None and time.monotonic() >= deadline:
                break
            index = members[begin : begin + chunk]
            active = (points[index] @ rows[convex].T > 0.0) * weights[convex]
            q = active @ rows[convex] + sign * problem.linear
            A = np.broadcast_to(columns, (index.size, *columns.shape))
            out[index] = solve_boxes(q, A, np.ones((index.size, count)), polish=count <= _MAX_POLISHED).residual
    return out


def standard_starts(problem: ReducedPricing, random_state: int = 0) -> FloatArray:
    """Return deterministic start directions: the best of heavy rows, of the linearised function and of random ones."""
    rows, weights = problem.rows, problem.weights
    r = rows.shape[1]
    heavy = np.argsort(-np.abs(weights) * np.sqrt(np.sum(rows * rows, axis=1)), kind="stable")[:_HEAVY]
    rng = np.random.default_rng(random_state)
    centre = weights @ rows + 2.0 * problem.linear
    samples = rng.standard_normal((_HEAVY, r))
    starts = np.vstack([centre, -centre, rows[heavy], -rows[heavy], samples])
    norms = np.sqrt(np.sum(starts * starts, axis=1))
    return best_starts(problem, starts[norms > 0.0] / norms[norms > 0.0, None])


def best_starts(problem: ReducedPricing, starts: FloatArray) -> FloatArray:
    """Return the starts of largest value, as many as can be followed at moderate cost."""
    n, r = problem.rows.shape
    # The cost of an ascent is about n (60 + r^2) per Newton step.
    count = max(4, _START_WORK // (n * (60 + r * r)))
    return starts[np.argsort(-np.abs(problem.values(starts)), kind="stable")[:count]]
