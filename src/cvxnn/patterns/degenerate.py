"""All cells of any central hyperplane arrangement, by adding one hyperplane at a time.

A new hyperplane cuts exactly those cells whose trace on it is a cell of the restricted arrangement: the
earlier hyperplanes intersected with the new one, an arrangement of rank one less, which is enumerated by
recursion.  So the cells that are cut are known without a linear program, each cell is found once, and the
gates of the restricted cells, moved off the hyperplane to both sides, are gates of the two parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.linalg

from cvxnn.networks import unit_rows
from cvxnn.patterns._geometry import LINE_TOLERANCE, line_representatives

FloatArray = npt.NDArray[np.float64]
WordArray = npt.NDArray[np.uint64]


def half_gates(rows: FloatArray, *, check: Callable[[], None] = lambda: None) -> FloatArray:
    """Return unit gates (k, r), one in each pair of opposite cells between the planes ``rows @ g = 0``.

    Parameters
    ----------
    rows : array (m, r)
        Unit rows of rank ``r >= 1``, in any position.
    check : callable
        Called at every step; it may raise to stop the work.
    """
    rank = rows.shape[1]
    if rank == 1:
        return np.ones((1, 1))
    if rank == 2:
        return _half_gates_in_the_plane(rows)
    lines = rows[line_representatives(rows)]
    pivots = np.asarray(scipy.linalg.qr(lines.T, mode="r", pivoting=True)[-1], dtype=np.intp)
    lines = lines[pivots]  # the first r rows are well independent
    gates = _half_gates_of_a_simplex(lines[:rank])
    keys = _bit_keys(lines.shape[0])
    words = _words(lines[:rank], gates, keys)
    for j in range(rank, lines.shape[0]):
        check()
        gates, words = _cut(lines, j, gates, words, keys, check)
    return gates


def _half_gates_in_the_plane(rows: FloatArray) -> FloatArray:
    """In the plane the cells are the gaps between the sorted directions; a gate bisects its gap."""
    angles = np.sort(np.arctan2(rows[:, 1], rows[:, 0]) % np.pi)
    # A group of equal lines that straddles the angle 0 would be seen twice: start behind the widest gap.
    gaps = np.diff(angles, append=angles[0] + np.pi)
    widest = int(np.argmax(gaps))
    angles = np.concatenate([angles[widest + 1 :], angles[: widest + 1] + np.pi])
    angles = np.append(angles, angles[0] + np.pi)
    wide = np.diff(angles) > LINE_TOLERANCE
    middles = (0.5 * (angles[1:] + angles[:-1]))[wide] + 0.5 * np.pi
    return np.column_stack([np.cos(middles), np.sin(middles)])


def _half_gates_of_a_simplex(rows: FloatArray) -> FloatArray:
    """Gates of the cells of ``r`` independent hyperplanes: all combinations of signs, the first positive."""
    rank = rows.shape[0]
    codes = np.arange(2 ** (rank - 1))[:, None] >> np.arange(rank - 1)
    signs = np.ones((codes.shape[0], rank))
    signs[:, 1:] -= 2.0 * (codes & 1)
    return unit_rows(np.asarray(np.linalg.solve(rows, signs.T).T, dtype=np.float64))


def _bit_keys(n_rows: int) -> WordArray:
    """Words whose sums name sign vectors: the bits themselves up to 64 rows, random words beyond."""
    if n_rows <= 64:
        return np.uint64(1) << np.arange(n_rows, dtype=np.uint64)
    return np.random.default_rng(0).integers(0, 2**64, size=n_rows, dtype=np.uint64)


def _words(rows: FloatArray, gates: FloatArray, keys: WordArray) -> WordArray:
    """Sum the keys of the positive rows for each gate; the first row is positive at all gates."""
    positive = gates @ rows.T > 0
    if positive.shape[1] <= 64 and keys.shape[0] <= 64:
        padded = np.zeros((positive.shape[0], 8), dtype=np.uint8)
        packed = np.packbits(positive, axis=1, bitorder="little")
        padded[:, : packed.shape[1]] = packed
        return padded.view("<u8")[:, 0].astype(np.uint64, copy=False)
    return np.where(positive, keys[: rows.shape[0]], np.uint64(0)).sum(axis=1, dtype=np.uint64)


def _cut(
    lines: FloatArray, j: int, gates: FloatArray, words: WordArray, keys: WordArray, check: Callable[[], None]
) -> tuple[FloatArray, WordArray]:
    """Cut the cells of the first ``j`` hyperplanes by the next one."""
    normal, earlier = lines[j], lines[:j]
    tangent = _orthogonal_complement(normal)
    traces = half_gates(unit_rows(earlier @ tangent), check=check) @ tangent.T
    traces *= np.where(traces @ lines[0] > 0, 1.0, -1.0)[:, None]
    heights = np.abs(traces @ earlier.T)
    steps = 0.5 * heights.min(axis=1)[:, None] * normal
    trace_words = _words(earlier, traces, keys)

    whole = ~_matched(words, trace_words, gates, traces, earlier)
    gates, words = gates[whole], words[whole]
    new_words = words + np.where(gates @ normal > 0, keys[j], np.uint64(0))
    gates = np.concatenate([gates, unit_rows(traces + steps), unit_rows(traces - steps)])
    return gates, np.concatenate([new_words, trace_words + keys[j], trace_words])


def _matched(
    words: WordArray, trace_words: WordArray, gates: FloatArray, traces: FloatArray, earlier: FloatArray
) -> npt.NDArray[np.bool_]:
    """Tell which cells have a trace on the new hyperplane, that is, occur among ``traces``."""
    order = np.argsort(trace_words)
    place = np.minimum(np.searchsorted(trace_words, words, sorter=order), order.size - 1)
    partner = order[place]
    found = trace_words[partner] == words
    if np.count_nonzero(found) > order.size:  # random words can collide: look at the signs themselves
        suspects = np.flatnonzero(found)
        signs = (gates[suspects] @ earlier.T > 0) == (traces[partner[suspects]] @ earlier.T > 0)
        found[suspects] = signs.all(axis=1)
    return found


def _orthogonal_complement(normal: FloatArray) -> FloatArray:
    """Orthonormal columns (r, r - 1) that span the hyperplane of a unit vector: a Householder reflection."""
    rank = normal.size
    mirror = normal.copy()
    pivot = 1.0 if normal[0] >= 0 else -1.0
    mirror[0] += pivot
    reflection = np.eye(rank) - np.outer(mirror, mirror) / (1.0 + abs(normal[0]))
    return reflection[:, 1:]
