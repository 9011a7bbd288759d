"""All cells of a hyperplane arrangement in general position, one vertex per cell.

Cut the central arrangement by the hyperplane ``x_n^T u = 1``; the cells on the other side are the opposites.
Under a generic linear functional each cell of the slice that is bounded below has one lowest vertex, and
each subset of ``r - 1`` of the other rows is the lowest vertex of exactly one cell.  The cells that are
unbounded below are found in the same way at infinity, with one dimension less, and so on down a flag of
``r`` functionals.  This gives ``sum_{k<r} binom(n-1, k)`` cells, Cover's number, at the price of one small
inverse each and with no search.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, islice

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MARGIN_TOLERANCE = 1e-12
"""Smallest distance of a unit gate from the walls of its cell at which the data still count as general."""

_CHUNK_ENTRIES = 400_000  # entries of a block of products: it stays in the cache


class DegenerateDataError(ArithmeticError):
    """The rows are not in general position (or not visibly so in double precision)."""


def half_gates(rows: FloatArray, *, seed: int = 0) -> Iterator[FloatArray]:
    """Yield blocks (k, r) of unit gates, one in each pair of opposite cells.

    Parameters
    ----------
    rows : array (m, r)
        Unit rows of rank ``r``, no two on one line.
    seed : int
        Seed of the random flag of functionals.

    Raises
    ------
    DegenerateDataError
        As soon as a vertex lies on more hyperplanes than general position allows.
    """
    m, rank = rows.shape
    flag = _random_flag(rows[-1], np.random.default_rng(seed))
    coordinates = rows @ flag
    coordinates[-1] = np.eye(rank)[0]
    size = max(1, _CHUNK_ENTRIES // m)
    for level in range(rank):
        for subsets in _subsets(m - 1, rank - 1 - level, size):
            yield _gates_at(coordinates, subsets, level) @ flag.T


def _random_flag(first: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Orthonormal columns: the unit vector ``first``, then random directions."""
    seeds = generator.standard_normal((first.size, first.size))
    seeds[:, 0] = first
    columns = np.linalg.qr(seeds)[0]
    return columns if columns[:, 0] @ first > 0 else -columns


def _subsets(n: int, k: int, size: int) -> Iterator[npt.NDArray[np.intp]]:
    """Blocks (at most ``size``, k) of the k-subsets of ``range(n)``, in lexicographic order."""
    if k == 0:
        yield np.empty((1, 0), dtype=np.intp)
        return
    stream = combinations(range(n), k)
    while True:
        block = np.fromiter(chain.from_iterable(islice(stream, size)), dtype=np.intp).reshape(-1, k)
        if block.shape[0] == 0:
            return
        yield block


def _gates_at(coordinates: FloatArray, subsets: npt.NDArray[np.intp], level: int) -> FloatArray:
    """Gates inside the cells whose lowest point is the vertex on a subset of rows, at a level of the flag.

    Every quantity is in the coordinates of the flag.  On level 0 the vertex has first coordinate 1; on level
    ``l > 0`` its first ``l`` coordinates vanish (it lies at infinity) and the next one is -1.
    """
    count, k = subsets.shape
    rank = coordinates.shape[1]
    vertices, inward = np.zeros((count, rank)), np.zeros((count, rank))
    vertices[:, level] = 1.0 if level == 0 else -1.0
    if level > 0:
        inward[:, 0] = 1.0  # the vertex lies on the last row's hyperplane too: move to its positive side
    if k > 0:
        chosen = coordinates[subsets]
        inverse = _inverse(chosen[:, :, level + 1 :])
        # The vertex is lowest when the functional is a positive combination of the inner normals.
        signs = np.where(inverse[:, 0, :] > 0, 1.0, -1.0)
        vertices[:, level + 1 :] = -vertices[0, level] * np.einsum("pij,pj->pi", inverse, chosen[:, :, level])
        targets = signs - chosen[:, :, 0] * inward[:, :1]
        inward[:, level + 1 :] = np.einsum("pij,pj->pi", inverse, targets)
    return _step_inside(coordinates, subsets, level, vertices, inward)


def _inverse(matrices: FloatArray) -> FloatArray:
    try:
        inverse = np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise DegenerateDataError("Some rows are linearly dependent.") from error
    if not np.isfinite(inverse).all():
        raise DegenerateDataError("Some rows are linearly dependent.")
    return inverse


def _step_inside(
    coordinates: FloatArray,
    subsets: npt.NDArray[np.intp],
    level: int,
    vertices: FloatArray,
    inward: FloatArray,
) -> FloatArray:
    """Move from the vertices along ``inward`` half of the way to the first wall not through them."""
    heights = np.abs(vertices @ coordinates.T)
    slopes = np.abs(inward @ coordinates.T)
    if subsets.shape[1] > 0:
        np.put_along_axis(heights, subsets, np.inf, axis=1)
    if level > 0:
        heights[:, -1] = np.inf
    clearance = heights.min(axis=1)
    np.maximum(slopes, 1e-300, out=slopes)
    np.divide(heights, slopes, out=heights)
    lengths = np.linalg.norm(vertices, axis=1) / np.maximum(np.linalg.norm(inward, axis=1), 1e-300)
    steps = np.minimum(0.5 * heights.min(axis=1), lengths)
    gates = vertices + steps[:, None] * inward
    norms = np.linalg.norm(gates, axis=1)
    # Rows through the vertex have slope one along the step; the others keep half of their height.
    margins = np.minimum(0.5 * clearance, steps if subsets.shape[1] + level > 0 else np.inf) / norms
    if not np.all(margins > MARGIN_TOLERANCE):
        raise DegenerateDataError("More hyperplanes meet in one point than general position allows.")
    return gates / norms[:, None]
