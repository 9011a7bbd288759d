"""Solve the ReLU program on given cells with the solver that suits its size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.conic import solve_conic

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_cells"]


def solve_cells(
    problem: Problem,
    masks: npt.NDArray[np.bool_],
    signs: FloatArray,
    *,
    start: FloatArray,
    time_limit: float | None = None,
) -> FloatArray:
    """Vectors ``(K, r)`` of the program on the cones of ``masks (K, n)``; ``start`` is returned where none is found."""
    vectors = solve_conic(problem, masks, signs, time_limit=time_limit)
    return start if vectors is None else vectors
