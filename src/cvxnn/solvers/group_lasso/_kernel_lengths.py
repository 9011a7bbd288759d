"""Best lengths of the blocks of a working set along their dual directions: a point whose gap is about the square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.solvers.group_lasso._common import SINGLE_TOL
from cvxnn.solvers.group_lasso._eta_newton import Model, State
from cvxnn.solvers.group_lasso._lengths import best_lengths
from cvxnn.solvers.group_lasso._ridge import WorkingBlocks

FloatArray = npt.NDArray[np.float64]

__all__ = ["lengthened", "worth_lengthening"]

# Gap that is expected relative to the square of the one before.
_RATE = 2.0


def worth_lengthening(gap: float, tol: float) -> bool:
    """Whether the gap to be expected is within the tolerance."""
    return tol >= SINGLE_TOL and _RATE * gap * gap <= tol


def lengthened(
    model: Model, blocks: WorkingBlocks, state: State
) -> tuple[WorkingBlocks, FloatArray, FloatArray] | None:
    """Blocks that have a length, their vectors ``u_i (k, d)`` and the fit; None where the search for lengths fails."""
    few = state.norms > 0
    blocks, norms = blocks.take(few), state.norms[few]
    units = state.vectors[few] / norms[:, None]
    rows = blocks.single_columns(units)
    lengths = best_lengths(model, rows, state.w[few] * norms)
    if lengths is None:
        return None
    some = lengths > 0
    blocks, vectors = blocks.take(some), lengths[some, None] * units[some]
    return blocks, vectors, blocks.fit(vectors)
