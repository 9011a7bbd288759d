r"""All directions at which :math:`\|N^\top (X u)_+\|` comes near its maximum, for data of rank at most 3.

On the cone of an activation pattern D the function is :math:`\|A_D^\top u\|` with :math:`A_D = X^\top D N`. A local
maximum inside a cell, or inside an arc of its boundary, is a leading singular vector of :math:`A_D` there; the rest are
vertices of the arrangement. All of these points are computed, and those kept that are a local maximum indeed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._great_circles import CircleSweep, plane_bases
from cvxnn.certificates._vector_reduction import ReducedVectorPricing, reduce_vector_pricing
from cvxnn.landscape._atoms import NEAR, SAME_DIRECTION, Atoms, distinct
from cvxnn.landscape._local_maximum import local_shape, sharpened
from cvxnn.patterns import count_patterns
from cvxnn.patterns.limits import Limits

FloatArray = npt.NDArray[np.float64]

__all__ = ["LARGEST_RANK", "find_vector_atoms"]

LARGEST_RANK = 3
"""Up to this rank every arc and cell of the arrangement is searched."""

_ENTRIES = 1 << 20
_INSIDE = 1e-6
_RISING = 1e-8
_DIGITS = 10


def find_vector_atoms(X: FloatArray, N: FloatArray, beta: float, *, limits: Limits) -> Atoms:
    r"""Find every local maximum of :math:`\|N^\top (X u)_+\|` on the unit sphere that comes near beta.

    Parameters
    ----------
    X : ndarray (n, d)
        Data of rank at most 3.
    N : ndarray (n, c)
        Dual matrix.
    beta : float
        The level; maxima of at least ``(1 - NEAR) beta`` are returned.
    limits : Limits
        Largest accepted number of patterns, and the time.

    Raises
    ------
    PatternLimitError
        When the patterns or the time exceed a limit.
    """
    reduced = reduce_vector_pricing(X, N)
    floor = (1.0 - NEAR) * beta
    if reduced is None:
        return Atoms(np.zeros((0, X.shape[1])), np.zeros((0, N.shape[1])), np.zeros(0), floor, 0, np.zeros(0))
    count = count_patterns(len(reduced.rows), reduced.rank)
    limits.check_size(count, len(reduced.rows), reduced.rank)
    level = float(np.ldexp(floor, -reduced.exponent))
    points, bends = _maxima(reduced, level, limits)
    directions = reduced.lift(points)
    images = np.maximum(directions @ X.T, 0.0) @ N
    values = np.linalg.norm(images, axis=1)
    order = distinct(directions, np.ones(len(values)), values)
    outputs = images[order] / values[order, None]
    return Atoms(directions[order], outputs, values[order], floor, count, bends[order])


def _maxima(problem: ReducedVectorPricing, level: float, limits: Limits) -> tuple[FloatArray, FloatArray]:
    """Local maxima ``(k, r)`` that reach a level, possibly repeated, and the bends there."""
    found, bends = [np.zeros(problem.rank)][:0], []
    seen: set[bytes] = set()
    for candidates in _candidates(problem, level, limits):
        good = candidates[problem.values(candidates) >= level]
        for key, point in zip(np.round(good, _DIGITS) + 0.0, good, strict=True):
            if key.tobytes() in seen:
                continue
            seen.add(key.tobytes())
            limits.check_time()
            if local_shape(problem, point).rise > _RISING:
                continue
            moved = sharpened(problem, point)
            point = moved if float(np.linalg.norm(moved - point)) <= SAME_DIRECTION else point
            bend = local_shape(problem, point).bend
            if bend >= -_RISING:
                found.append(point)
                bends.append(bend)
    return np.array(found).reshape(len(found), problem.rank), np.array(bends)


def _candidates(problem: ReducedVectorPricing, level: float, limits: Limits) -> Iterator[FloatArray]:
    """Unit vectors ``(k, r)`` among which are all local maxima that reach the level."""
    if problem.rank == 1:
        yield np.array([[1.0], [-1.0]])
        return
    if problem.rank == 2:
        yield from _on_arcs(problem, CircleSweep.of(problem, np.eye(2)[None]), level)
        return
    n, c = problem.weights.shape
    units = problem.rows / np.linalg.norm(problem.rows, axis=1, keepdims=True)
    products = problem.rows[:, :, None] * problem.weights[:, None, :]
    step = max(1, _ENTRIES // (2 * n * 5 * c))
    for first in range(0, n, step):
        limits.check_time()
        index = np.arange(first, min(first + step, n))
        sweep = CircleSweep.of(problem, plane_bases(units[index]))
        yield from _on_arcs(problem, sweep, level)
        for matrices in sweep.cells(problem, units, products, index):
            yield from _in_cells(matrices.reshape(-1, *matrices.shape[2:]), level)


def _on_arcs(problem: ReducedVectorPricing, sweep: CircleSweep, level: float) -> Iterator[FloatArray]:
    """Ends of arcs, and peaks on them."""
    matrices, start = sweep.arcs(problem), sweep.start
    circles = np.arange(len(start))[:, None].repeat(start.shape[1], axis=1)
    square = np.sum(matrices * matrices, axis=3)
    mean, half = 0.5 * (square[..., 0] + square[..., 1]), 0.5 * (square[..., 0] - square[..., 1])
    cross = np.sum(matrices[..., 0, :] * matrices[..., 1, :], axis=2)
    high = mean + np.hypot(half, cross) >= level * level
    length = np.diff(start, axis=1, append=start[:, :1] + 2.0 * np.pi)
    offset = np.mod(0.5 * np.arctan2(cross, half) - start + _INSIDE, np.pi)
    inside = high & (offset <= length + 2.0 * _INSIDE)
    for angles, chosen in ((start, np.ones_like(high)), (start + offset - _INSIDE, inside)):
        flat = np.stack([np.cos(angles[chosen]), np.sin(angles[chosen])], axis=1)
        points = np.einsum("kri,ki->kr", sweep.bases[circles[chosen]], flat)
        yield points / np.linalg.norm(points, axis=1, keepdims=True)


def _in_cells(matrices: FloatArray, level: float) -> Iterator[FloatArray]:
    """Leading singular vectors, with both signs, of cells ``(k, r, c)`` in which the level can be reached."""
    gram = np.matmul(matrices, matrices.transpose(0, 2, 1))
    # The largest eigenvalue is at most the trace.
    gram = gram[np.trace(gram, axis1=1, axis2=2) >= level * level]
    if len(gram):
        sizes, vectors = np.linalg.eigh(gram)
        leading = vectors[sizes[:, -1] >= level * level, :, -1]
        yield np.vstack([leading, -leading])
