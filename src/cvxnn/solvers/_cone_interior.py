"""Interior points of the cones of activation patterns, and the linear hull of a cone that has no interior."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, identity

from cvxnn.solvers._cone_system import BlockData

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["cone_hull", "interior_points"]

_FLAT = 1e-10
"""Smallest slack of a unit vector on unit rows for which a cone counts as having an interior."""

_MOST_STEPS = 40
"""Newton steps before a cone is given up."""

_HOPELESS = 1e14
"""Half of the squared length, for slack one, at which the search for an interior is given up."""


def interior_points(data: BlockData, start: FloatArray | None = None) -> tuple[FloatArray, BoolArray]:
    """Find unit vectors deep inside the cones ``{z : orient_kj x_j^T z >= 0}``, all cones at once.

    Where no start lies inside, ``min ||z||^2 / 2 : orient_kj x_j^T z >= 1`` is solved until every slack is positive;
    then Newton steps on ``-sum_j log(orient_kj x_j^T z) - log(1 - ||z||^2)`` move towards the analytic centre.

    Parameters
    ----------
    data : BlockData
        Unit rows ``(n, r)`` and orientations ``(K, n)`` of the cones.
    start : array (K, r), optional
        Vectors to start from where they lie strictly inside.

    Returns
    -------
    points : array (K, r)
        Unit vectors, strictly inside where found.
    found : array (K,) of bool
        False where no interior was found; the cone may then be flat.
    """
    count, rank = data.orient.shape[0], data.rows.shape[1]
    points = np.zeros((count, rank))
    found = np.zeros(count, dtype=bool)
    if start is not None:
        sizes = np.linalg.norm(start, axis=1)
        usable = sizes > 0
        unit = start / np.where(usable, sizes, 1.0)[:, None]
        found = usable & (_depth(data, np.arange(count), unit) > 1e-9)
        points[found] = unit[found]
    todo = np.flatnonzero(~found)
    if todo.size:
        points[todo], found[todo] = _separate(data, todo)
    good = np.flatnonzero(found)
    if good.size:
        points[good] = _centre(data, good, points[good])
    return points, found


def _depth(data: BlockData, blocks: npt.NDArray[np.intp], points: FloatArray) -> FloatArray:
    """Smallest slack of each point on the unit rows of its cone."""
    side = data.orient[blocks]
    return np.where(side != 0, side * (points @ data.rows.T), 1.0).min(axis=1, initial=1.0)


def _separate(data: BlockData, blocks: npt.NDArray[np.intp]) -> tuple[FloatArray, BoolArray]:
    """Solve ``min ||z||^2 / 2 : orient_j x_j^T z >= 1`` for each block until all its slacks are positive."""
    points = np.zeros((blocks.size, data.rows.shape[1]))
    inside = np.zeros(blocks.size, dtype=bool)
    busy = np.arange(blocks.size)
    state = _Separation(data, blocks, points.copy(), np.ones((blocks.size, data.rows.shape[0])), None)
    for _ in range(_MOST_STEPS):
        state.step()
        sizes = np.linalg.norm(state.vectors, axis=1)
        unit = state.vectors / np.maximum(sizes, 1e-300)[:, None]
        done = _depth(data, state.blocks, unit) > _FLAT
        points[busy[done]] = unit[done]
        inside[busy[done]] = True
        keep = ~done & (np.maximum(state.dual_value(), sizes) < _HOPELESS)
        busy = busy[keep]
        if busy.size == 0:
            break
        state = _Separation(data, state.blocks[keep], state.vectors[keep], state.slack[keep], state.force[keep])
    return points, inside


class _Separation:
    """Primal-dual iterate of ``min ||z||^2 / 2 : orient_j x_j^T z >= 1``, for several blocks at once."""

    def __init__(
        self,
        data: BlockData,
        blocks: npt.NDArray[np.intp],
        vectors: FloatArray,
        slack: FloatArray,
        force: FloatArray | None,
    ) -> None:
        self.data = data
        self.blocks = blocks
        self.side = data.orient[blocks]
        self.live = self.side != 0
        self.vectors = vectors
        self.slack = slack
        self.force = self.live.astype(np.float64) if force is None else force

    def dual_value(self) -> FloatArray:
        """Lower bounds of ``||z||^2 / 2``: a large one shows a cone that is flat or very narrow."""
        return self.force.sum(axis=1) - 0.5 * np.sum(((self.side * self.force) @ self.data.rows) ** 2, axis=1)

    def step(self) -> None:
        """One predictor-corrector step with a length for each block."""
        slack, force, rows = self.slack, self.force, self.data.rows
        matrices = self.data.gram(force / slack) + np.eye(rows.shape[1])
        short = np.where(self.live, slack - self.side * (self.vectors @ rows.T) + 1.0, 0.0)
        centre = (force * slack).sum(axis=1) / np.maximum(self.live.sum(axis=1), 1)
        _, change, push, length = self._newton(matrices, short, -force * slack)
        target = ((1.0 - length) ** 3 * centre)[:, None] - force * slack - change * push
        step, change, push, length = self._newton(matrices, short, np.where(self.live, target, 0.0))
        length = np.where(length < 1.0, 0.95 * length, 1.0)[:, None]
        self.vectors = self.vectors + length * step
        self.slack = slack + length * change
        self.force = force + length * push

    def _newton(
        self, matrices: FloatArray, short: FloatArray, aim: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        slack, force, rows = self.slack, self.force, self.data.rows
        pushed = self.side * (aim + force * short) / slack + self.side * force
        step = _solve(matrices, pushed @ rows - self.vectors)
        change = np.where(self.live, self.side * (step @ rows.T) - short, 0.0)
        push = np.where(self.live, (aim - force * change) / slack, 0.0)
        fall = np.maximum(-change / slack, -push / np.where(self.live, force, 1.0)).max(axis=1)
        return step, change, push, 1.0 / np.maximum(fall, 1.0)


def _centre(data: BlockData, blocks: npt.NDArray[np.intp], points: FloatArray, steps: int = 10) -> FloatArray:
    """Newton steps to the analytic centres of the cones cut by the unit ball."""
    points = 0.5 * points
    busy = np.arange(blocks.size)
    for _ in range(steps):
        z, side = points[busy], data.orient[blocks[busy]]
        live = side != 0
        slack = np.where(live, side * (z @ data.rows.T), 1.0)
        inverse = live / slack
        room = 1.0 - np.einsum("kr,kr->k", z, z)
        grad = -(side * inverse) @ data.rows + (2.0 / room)[:, None] * z
        hess = data.gram(inverse * inverse) + (2.0 / room)[:, None, None] * np.eye(z.shape[1])
        hess += np.einsum("k,ki,kj->kij", 4.0 / room**2, z, z)
        step = _solve(hess, -grad)
        decrement = -np.einsum("kr,kr->k", grad, step)
        length = _line_search(slack, side * (step @ data.rows.T), z, step)
        points[busy] = z + length[:, None] * step
        busy = busy[decrement > 0.5]
        if busy.size == 0:
            break
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _solve(matrices: FloatArray, right: FloatArray) -> FloatArray:
    scale = 1.0 / np.sqrt(np.einsum("kii->ki", matrices))
    scaled = matrices * scale[:, :, None] * scale[:, None, :] + 1e-13 * np.eye(matrices.shape[1])
    return scale * np.linalg.solve(scaled, (scale * right)[:, :, None])[:, :, 0]


def _line_search(slack: FloatArray, change: FloatArray, z: FloatArray, step: FloatArray) -> FloatArray:
    """Best of a few step lengths on the barrier, for each cone."""
    top = np.maximum((-change / slack).max(axis=1), 1e-30)
    a = np.einsum("kr,kr->k", step, step)
    b = np.einsum("kr,kr->k", z, step)
    c = 1.0 - np.einsum("kr,kr->k", z, z)
    limit = np.minimum(1.0 / top, (np.sqrt(b * b + a * c) - b) / np.maximum(a, 1e-300))
    best = np.zeros(slack.shape[0])
    lowest = np.full(slack.shape[0], np.inf)
    for fraction in (0.95, 0.8, 0.5, 0.2):
        length = np.minimum(1.0, fraction * limit)
        moved = z + length[:, None] * step
        room = 1.0 - np.einsum("kr,kr->k", moved, moved)
        inside = np.maximum(slack + length[:, None] * change, 1e-300)
        value = -np.log(inside).sum(axis=1) - np.log(np.maximum(room, 1e-300))
        better = value < lowest
        best = np.where(better, length, best)
        lowest = np.where(better, value, lowest)
    return best


def cone_hull(rows: FloatArray, orient: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Find the linear hull of one cone ``{z : orient_j x_j^T z >= 0}`` by one linear program.

    ``max sum_j s_j`` subject to ``orient_j x_j^T z >= s_j`` and ``0 <= s_j <= 1`` has ``s_j = 1`` exactly at the rows
    that are positive somewhere in the cone; the other rows vanish on all of it.

    Returns
    -------
    basis : array (r, q)
        Orthonormal basis of the linear hull; q = 0 where the cone is {0}.
    point : array (r,)
        Unit vector in the relative interior (zero where q = 0).
    free : array (n,) of bool
        Rows that are positive somewhere in the cone.
    """
    rank = rows.shape[1]
    live = np.flatnonzero(orient)
    free = np.zeros(orient.size, dtype=bool)
    if live.size == 0:
        return np.eye(rank), np.eye(rank)[0], free
    oriented = rows[live] * orient[live][:, None]
    cost = np.concatenate([np.zeros(rank), -np.ones(live.size)])
    matrix = hstack([csr_matrix(-oriented), identity(live.size)], format="csr")
    bounds = [(None, None)] * rank + [(0.0, 1.0)] * live.size
    result = linprog(cost, A_ub=matrix, b_ub=np.zeros(live.size), bounds=bounds, method="highs")
    if result.status != 0:
        return np.zeros((rank, 0)), np.zeros(rank), free
    point = result.x[:rank]
    positive = result.x[rank:] > 0.5
    size = float(np.linalg.norm(point))
    if size == 0.0 or not positive.any():
        return np.zeros((rank, 0)), np.zeros(rank), free
    basis = _null_space(oriented[~positive], rank)
    point = basis @ (basis.T @ point)
    size = float(np.linalg.norm(point))
    if basis.shape[1] == 0 or size == 0.0 or np.any(oriented[positive] @ point <= _FLAT * size):
        return np.zeros((rank, 0)), np.zeros(rank), free
    free[live[positive]] = True
    return basis, point / size, free


def _null_space(matrix: FloatArray, rank: int) -> FloatArray:
    if matrix.shape[0] == 0:
        return np.eye(rank)
    _, values, right = np.linalg.svd(matrix, full_matrices=True)
    count = int(np.sum(values > 1e-9 * max(float(values[0]), 1e-300)))
    return np.ascontiguousarray(right[count:].T)
