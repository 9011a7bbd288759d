"""Best lengths of blocks along their directions, for many samples: a point whose duality gap is about the square."""

from __future__ import annotations

import numpy as np

from cvxnn.networks import row_norms
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._lengths import best_lengths
from cvxnn.solvers.group_lasso._row_descent import Level, Point, Price
from cvxnn.solvers.group_lasso._row_products import FloatArray, IntArray, SingleArray

__all__ = ["lengthened", "worth_lengthening"]

# Tolerance that single precision can serve, and the gap that is expected relative to the square of the one before.
_SINGLE_TOL, _RATE = 1e-5, 20.0
# Most entries of the columns, in single precision, and those of a slab of them.
_LARGEST, _SLAB = 1 << 23, 1 << 18
# Distance of the norms from the penalty within which further blocks take part.
_CLOSE = 0.05


def worth_lengthening(level: Level, gap: float, tol: float) -> bool:
    """Whether the gap to be expected is within the tolerance, and the columns are small enough to be kept."""
    return tol >= _SINGLE_TOL and _RATE * gap * gap <= tol and len(level.point.ids) * len(level.rows) <= _LARGEST


def lengthened(level: Level, price: Price) -> Point | None:
    """Blocks of the lengths that :func:`best_lengths` finds along their directions; None where it fails.

    Blocks that are zero take part along minus their gradients where their norms are near the penalty or above it. The
    fit of the point is that of products in single precision.
    """
    rows, beta = level.rows, level.beta
    taken = price.norms > (1.0 - _CLOSE) * beta
    taken[level.point.ids] = True
    ids = np.flatnonzero(taken & (price.norms > 0))
    if len(ids) * len(rows) > _LARGEST:
        return None
    vectors = -price.gradient
    vectors[level.point.ids] = level.point.U
    units = vectors[ids] / row_norms(vectors[ids])[:, None]
    columns = _columns(level, ids, units)
    start = np.zeros(len(rows.packed))
    start[level.point.ids] = row_norms(level.point.U)
    model = Model(rows.X, rows.y, rows.weight, rows.loss, beta, lambda: False)
    lengths = best_lengths(model, columns, start[ids])
    if lengths is None:
        return None
    some = lengths > 0
    return Point(ids[some], lengths[some, None] * units[some], lengths @ columns)


def _columns(level: Level, ids: IntArray, units: FloatArray) -> SingleArray:
    """Columns ``D_i X v_i`` as rows ``(k, n)``."""
    rows = level.rows
    data, directions, bits = rows.single, units.astype(np.float32), rows.bits(ids)
    out = np.empty((len(ids), len(rows)), dtype=np.float32)
    step = max(8, _SLAB // max(len(ids), 1) // 8 * 8)
    for start in range(0, len(rows), step):
        rows.check()
        piece = slice(start, min(start + step, len(rows)))
        np.matmul(directions, data[piece].T, out=out[:, piece])
        packed = bits[:, start // 8 : (piece.stop + 7) // 8]
        out[:, piece] *= np.unpackbits(packed, axis=1, count=piece.stop - start, bitorder="little")
    return out
