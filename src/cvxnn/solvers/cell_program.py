"""Solve the ReLU program on given cells with the solver that suits its size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.conic import solve_conic

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_cells"]

_CONIC_ROWS = 4000
"""Up to so many cone rows the conic solver is as fast as the structured one, and reaches two digits more."""

_INTERIOR_TOL = 1e-9


def solve_cells(
    problem: Problem,
    masks: npt.NDArray[np.bool_],
    signs: FloatArray,
    *,
    start: FloatArray,
    time_limit: float | None = None,
) -> FloatArray:
    """Return the vectors ``(K, r)`` of the program on the cones of ``masks (K, n)``.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    masks : ndarray (K, n) of bool
    signs : ndarray (K,)
    start : ndarray (K, r)
        Hint for the interior-point method.
    time_limit : float, optional
        Seconds.
    """
    if masks.size <= _CONIC_ROWS:
        vectors = solve_conic(problem, masks, signs, time_limit=time_limit)
        if vectors is not None:
            return vectors
    return solve_cone_blocks(problem, masks, signs, start=start, tol=_INTERIOR_TOL, time_limit=time_limit).vectors
