r"""Vertices of a polytope :math:`\{c \ge 0 : A c = b\}` by the double description method.

A vertex of the polytope is an extreme ray of the cone over it. Starting from a simplicial cone, one inequality
:math:`c_i \ge 0` at a time is added: rays on its negative side go, and each pair of adjacent rays on opposite sides
gives a new one. Two rays are adjacent exactly when no third ray vanishes wherever both of them do (the combinatorial
test of Fukuda and Prodon, 1996, "Double description method revisited"), which holds for degenerate polytopes, too.
A ray is kept as the vector of its masses, so that no error builds up in a change of coordinates, and each vertex is
solved again on its support at the end and checked.

A fit known up to noise hides which masses are zero: values up to a level are read as zero, and a list is accepted only
where the level does not matter. Two runs at levels a factor of ten apart, started from different cones, have to give
the same supports, unless no value met in a run comes near its level. A level below the effect of the noise leaves
masses no larger than the noise explains, one that is too high a misfit beyond it, and both are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["ArithmeticLimitError", "VertexLimitError", "enumerate_vertices"]

_ZEROS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
_CONSTANT = 1e-9
_ABOVE_NOISE = 1e2
_LEAST_NOISE = 1e-14
_CLEAR = 1e2
_COMPLETE = 1e-6
_INDEPENDENT = 1e-9
_BLOCK_ENTRIES = 4_000_000


class VertexLimitError(ValueError):
    """The polytope has, or passes through, more vertices than accepted."""


class ArithmeticLimitError(ValueError):
    """Vertices cannot be told apart reliably in floating point."""


def enumerate_vertices(
    A: FloatArray,
    b: FloatArray,
    interior: FloatArray,
    kernel: FloatArray,
    ranges: FloatArray,
    *,
    noise: float,
    max_vertices: int,
    check: Callable[[], None] = lambda: None,
) -> FloatArray:
    """List the vertices of the bounded polytope ``{c >= 0 : A c = b}``.

    Parameters
    ----------
    A : ndarray (r, k)
        Columns of order one and full row rank.
    b : ndarray (r,)
    interior : ndarray (k,)
        Point of the relative interior; all entries positive.
    kernel : ndarray (k, q)
        Orthonormal basis of the kernel of ``A``.
    ranges : ndarray (k, 2)
        Smallest and largest value of each entry, to check that the list is complete.
    noise : float
        Relative error of the data; what is read as zero has to be well above it.
    max_vertices : int
        Most rays accepted at any time.
    check : callable
        Called at every step; it may raise to stop the work.

    Returns
    -------
    ndarray (V, k)
        Vertices with exact zeros, in lexicographic order.

    Raises
    ------
    VertexLimitError
        When more than ``max_vertices`` rays occur.
    ArithmeticLimitError
        When a vertex does not pass its check.
    """
    moving = np.max(np.abs(kernel), axis=1, initial=0.0) > _CONSTANT
    if not moving.any():
        return interior[None, :].copy()
    rows = np.column_stack([interior[moving], kernel[moving]])
    levels = [level for level in _ZEROS if level >= _ABOVE_NOISE * noise]
    failure, previous = "no level tells zero masses from small ones", None
    for attempt, level in enumerate(levels):
        zero = _Zero(level)
        rays = _extreme_rays(rows, zero, attempt, max_vertices, check)
        support = np.ones((len(rays), len(interior)), dtype=np.bool_)
        support[:, moving] = rays > 0.0
        support = np.unique(support, axis=0)
        try:
            vertices, uncertain = _solve_on_supports(A, b, support, max(noise, _LEAST_NOISE))
            _check_complete(vertices, ranges, uncertain)
        except ArithmeticLimitError as error:
            # The data carry more noise than was read as zero, or small masses were.
            failure, previous = str(error), None
            continue
        if zero.is_clear or (previous is not None and np.array_equal(previous, support)):
            return vertices[np.lexsort(np.round(vertices, 12).T[::-1])]
        failure, previous = "the list depends on the level up to which masses are read as zero", support
    raise ArithmeticLimitError(f"{failure}, and the optimal fit is certain to a relative {noise:.1e} only")


class _Zero:
    """A level up to which values are read as zero; it remembers how near to it values came."""

    def __init__(self, level: float) -> None:
        self.level = level
        self.largest_zero = 0.0
        self.smallest_value = 1.0

    @property
    def is_clear(self) -> bool:
        """Whether no value came near the level."""
        return _CLEAR * self.largest_zero <= self.level <= self.smallest_value / _CLEAR

    def clean(self, values: FloatArray, sizes: FloatArray) -> None:
        """Set values to zero, in place, that are small relative to their sizes."""
        if not values.size:
            return
        relative = np.abs(values) / np.where(sizes > 0.0, sizes, 1.0)
        small = relative <= self.level
        values[small] = 0.0
        self.largest_zero = max(self.largest_zero, float(np.max(relative, where=small, initial=0.0)))
        self.smallest_value = min(self.smallest_value, float(np.min(relative, where=~small, initial=1.0)))


def _check_complete(vertices: FloatArray, ranges: FloatArray, uncertain: float) -> None:
    """Compare the extreme masses of the vertices with those that linear programs found."""
    found = np.column_stack([vertices.min(axis=0), vertices.max(axis=0)])
    if np.max(np.abs(found - ranges)) > max(_COMPLETE, uncertain) * float(np.max(ranges)):
        raise ArithmeticLimitError("the vertices do not attain the largest and smallest masses")


def _extreme_rays(rows: FloatArray, zero: _Zero, attempt: int, max_rays: int, check: Callable[[], None]) -> FloatArray:
    """Extreme rays of the pointed cone ``{x : rows x >= 0}``, as their values ``rows x >= 0`` with exact zeros."""
    scaled = rows / np.linalg.norm(rows, axis=1)[:, None]
    count, dim = scaled.shape
    # Each attempt prefers other rows, so that its rounding errors are independent.
    preference = np.linspace(1.0, 1.0 + attempt % 2, count)
    factors: Any = qr((preference[:, None] * scaled).T, mode="r", pivoting=True)
    first = factors[1][:dim]
    values = (scaled @ np.linalg.inv(scaled[first])).T
    values[:, first] = np.eye(dim)
    values = _normalised(values, zero)
    done = np.zeros(count, dtype=np.bool_)
    done[first] = True
    while not done.all():
        check()
        waiting = np.flatnonzero(~done)
        # The inequality with the fewest pairs to look at goes next.
        positive, negative = np.sum(values[:, waiting] > 0.0, axis=0), np.sum(values[:, waiting] < 0.0, axis=0)
        chosen = int(waiting[np.argmin(positive * negative)])
        values = _cut(values, chosen, done, dim, zero, check)
        done[chosen] = True
        if len(values) > max_rays:
            raise VertexLimitError(f"more than {max_rays:,} vertices")
    return values


def _normalised(values: FloatArray, zero: _Zero) -> FloatArray:
    """Scale rays to largest value 1 and read tiny values as zeros."""
    values = values / np.max(np.abs(values), axis=1, keepdims=True)
    zero.clean(values, np.ones_like(values))
    return values


def _cut(values: FloatArray, row: int, done: BoolArray, dim: int, zero: _Zero, check: Callable[[], None]) -> FloatArray:
    """Add the inequality ``row``: keep the rays on its side, and join adjacent rays of opposite sides."""
    heights = values[:, row]
    above, below = np.flatnonzero(heights > 0.0), np.flatnonzero(heights < 0.0)
    if below.size == 0:
        return values
    pairs = _adjacent_pairs(values[:, done] == 0.0, above, below, dim, check)
    upper, lower = values[pairs[:, 0]], values[pairs[:, 1]]
    weight_up, weight_low = -lower[:, row, None], upper[:, row, None]
    new = weight_up * upper + weight_low * lower
    # Cancellation leaves noise where the two terms annihilate each other.
    size = weight_up * np.abs(upper) + weight_low * np.abs(lower)
    new[:, row] = 0.0
    zero.clean(new, size)
    kept = values[heights >= 0.0]
    return np.vstack([kept, _normalised(new, zero)]) if len(new) else kept


def _adjacent_pairs(
    zero: BoolArray, above: npt.NDArray[np.intp], below: npt.NDArray[np.intp], dim: int, check: Callable[[], None]
) -> npt.NDArray[np.intp]:
    """Pairs (above, below) of adjacent rays; ``zero (V, done)`` tells which inequalities are tight."""
    words = _pack(zero)
    tight = zero.astype(np.float32)
    found = [np.zeros((0, 2), dtype=np.intp)]
    block = max(_BLOCK_ENTRIES // below.size, 1)
    for first in range(0, above.size, block):
        check()
        rows = above[first : first + block]
        common = tight[rows] @ tight[below].T
        left, right = np.nonzero(common >= dim - 2)
        found.append(_without_third(words, rows[left], below[right], check))
    return np.vstack(found)


def _without_third(
    words: npt.NDArray[np.uint64], left: npt.NDArray[np.intp], right: npt.NDArray[np.intp], check: Callable[[], None]
) -> npt.NDArray[np.intp]:
    """Keep the pairs whose common zeros are all zeros of no third ray."""
    common = words[left] & words[right]
    adjacent = np.zeros(left.size, dtype=np.bool_)
    block = max(_BLOCK_ENTRIES // max(len(words), 1), 1)
    for first in range(0, left.size, block):
        check()
        part = slice(first, first + block)
        inside = np.ones((len(common[part]), len(words)), dtype=np.bool_)
        for column in range(words.shape[1]):
            wanted = common[part, column][:, None]
            inside &= (wanted & words[None, :, column]) == wanted
        adjacent[part] = np.sum(inside, axis=1) == 2
    return np.column_stack([left[adjacent], right[adjacent]])


def _pack(bits: BoolArray) -> npt.NDArray[np.uint64]:
    """Rows of bits as words of 64."""
    width = -(-max(bits.shape[1], 1) // 64)
    padded = np.zeros((len(bits), 8 * width), dtype=np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


def _solve_on_supports(A: FloatArray, b: FloatArray, supports: BoolArray, noise: float) -> tuple[FloatArray, float]:
    """Solve ``A c = b`` on each support; check that columns are independent, the fit met, and masses above the noise.

    Returns the vertices and the largest relative error of a mass that the noise explains.
    """
    vertices = np.zeros(supports.shape)
    sizes = np.sum(supports, axis=1)
    scale = float(np.linalg.norm(b))
    uncertain = 0.0
    for size in np.unique(sizes):
        index = np.flatnonzero(sizes == size)
        if size == 0:
            if scale > 0.0:
                raise ArithmeticLimitError("a vertex has an empty support")
            continue
        columns = np.nonzero(supports[index])[1].reshape(len(index), size)
        block = max(_BLOCK_ENTRIES // (A.shape[0] * int(size)), 1)
        for first in range(0, len(index), block):
            chosen = columns[first : first + block]
            masses, smallest = _least_squares(A[:, chosen].transpose(1, 0, 2), b)
            errors = _ABOVE_NOISE * noise * scale / smallest
            if np.any(masses <= errors[:, None]):
                raise ArithmeticLimitError("a vertex has a mass that is not above the noise")
            fitted = np.einsum("rvs,vs->vr", A[:, chosen], masses)
            if np.any(np.linalg.norm(fitted - b, axis=1) > _ABOVE_NOISE * noise * scale):
                raise ArithmeticLimitError("a vertex misses the fit")
            uncertain = max(uncertain, float(np.max(errors / np.max(masses, axis=1))))
            vertices[index[first : first + block, None], chosen] = masses
    return vertices, uncertain


def _least_squares(matrices: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Solve a batch ``(V, r, s)`` of full column rank, with one step of refinement; also the least singular values."""
    if matrices.shape[2] > matrices.shape[1]:
        raise ArithmeticLimitError("a vertex has dependent columns")
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    if np.any(values[:, -1] <= _INDEPENDENT * values[:, 0]):
        raise ArithmeticLimitError("a vertex has dependent columns")

    def solve(rhs: FloatArray) -> FloatArray:
        inner = np.einsum("vrs,vr->vs", left, rhs) / values
        return np.asarray(np.einsum("vst,vs->vt", right, inner), dtype=np.float64)

    rhs = np.broadcast_to(b, matrices.shape[:2])
    solution = solve(rhs)
    return solution + solve(rhs - np.einsum("vrs,vs->vr", matrices, solution)), values[:, -1]
