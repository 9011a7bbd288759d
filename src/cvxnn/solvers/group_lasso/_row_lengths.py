"""Best lengths of blocks along their directions, for many samples: a point whose duality gap is about the square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvxnn._workers import in_parallel, pieces_of
from cvxnn.networks import row_norms
from cvxnn.solvers.group_lasso._common import SINGLE_TOL
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._lengths import CLOSE, best_lengths, weighted_sum
from cvxnn.solvers.group_lasso._row_descent import Level, Point, Price
from cvxnn.solvers.group_lasso._row_products import FloatArray, IntArray, SingleArray

__all__ = ["columns", "lengthened", "worth_lengthening"]

# Gap expected relative to the square of the one before: along the blocks and their gradients (more is asked for where
# the curvature varies, as each Newton step then takes a matrix of its own), or along the blocks only.
_RATE, _CURVED_RATE, _POOR_RATE = 0.5, 2.0, 20.0
# Matrices that the lengths take where the curvature varies, and products with the blocks in a Newton step.
_CURVED_MATRICES, _STEP_PRODUCTS = 6, 7
# Most entries of the columns, in single precision, and those of a slab of them.
_LARGEST, _SLAB = 1 << 23, 1 << 18


def worth_lengthening(level: Level, gap: float, tol: float) -> bool:
    """Whether the gap to be expected is within the tolerance, and the columns are small enough to be kept."""
    size = len(level.point.ids) * len(level.rows)
    rate = _RATE if level.rows.loss.name == "squared" else _CURVED_RATE
    rate = rate if _two_directions(level) else _POOR_RATE
    return tol >= SINGLE_TOL and rate * gap * gap <= tol and size <= _LARGEST


def _two_directions(level: Level) -> bool:
    """Whether two directions for each block cost no more than a Newton step on the blocks."""
    count, (n, d) = len(level.point.ids), level.rows.X.shape
    matrices = 1 if level.rows.loss.name == "squared" else _CURVED_MATRICES
    return 2 * count * n <= _LARGEST and matrices * count <= _STEP_PRODUCTS * d


def lengthened(level: Level, price: Price) -> Point | None:
    """Blocks of the lengths that :func:`best_lengths` finds along their directions; None where it fails.

    A block has two directions where its columns are few enough, its own and minus its gradient: what the last step has
    left of the error in the one is mended by the other. Blocks that are zero take part along minus their gradients
    where their norms are near the penalty or above it. The fit of the point is that of products in single precision.
    """
    rows, beta, held = level.rows, level.beta, level.point.ids
    lengths = row_norms(level.point.U)
    near = price.norms > (1.0 - CLOSE) * beta
    both = _two_directions(level) and (len(held) + np.count_nonzero(near)) * len(rows) <= _LARGEST
    if not both:
        near[held] = False
    further = np.flatnonzero(near)
    ids = np.concatenate([held, further])
    if len(ids) * len(rows) > _LARGEST:
        return None
    units = np.concatenate(
        [level.point.U / lengths[:, None], -price.gradient[further] / price.norms[further, None]],
    )
    products = columns(level, ids, units)
    model = Model(rows.X, rows.y, rows.weight, rows.loss, beta, lambda: None)
    found = best_lengths(model, products, np.concatenate([lengths, np.zeros(len(further))]))
    if found is None:
        return None
    U = np.zeros_like(price.gradient)
    U[held] = found[: len(held), None] * units[: len(held)]
    U[further] += found[len(held) :, None] * units[len(held) :]
    some = np.flatnonzero(row_norms(U) > 0)
    return Point(some, U[some], weighted_sum(products, found))


def columns(level: Level, ids: IntArray, units: FloatArray) -> SingleArray:
    """Columns ``D_i X v_i`` as rows ``(k, n)``."""
    rows = level.rows
    data, directions, bits = rows.single, units.astype(np.float32), rows.bits(ids)
    out = np.empty((len(ids), len(rows)), dtype=np.float32)
    step = max(8, _SLAB // max(len(ids), 1) // 8 * 8)

    def sweep(pieces: Sequence[slice]) -> None:
        for piece in pieces:
            rows.check()
            np.matmul(directions, data[piece].T, out=out[:, piece])
            packed = bits[:, piece.start // 8 : (piece.stop + 7) // 8]
            masks = np.unpackbits(packed, axis=1, count=piece.stop - piece.start, bitorder="little")
            # A product of two types takes longer than the conversion and a product of one.
            out[:, piece] *= masks.astype(np.float32)

    slabs = [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]
    in_parallel(sweep, pieces_of(slabs))
    return out
