"""Newton systems that dependent columns leave singular: a ridge as small as keeps them definite."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["ridge_solve"]

_FIRST, _FACTOR = 1e-14, 100.0
"""First ridge relative to the largest diagonal entry, and the factor from one that does not do to the next."""


def ridge_solve(matrix: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve with a positive semidefinite matrix and the least ridge that makes it definite in floating point.

    Where even a ridge of the size of the matrix does not, the right-hand side over that size is returned: a descent
    direction all the same.

    Examples
    --------
    >>> matrix = np.array([[2.0, 2.0], [2.0, 2.0]])
    >>> (matrix @ ridge_solve(matrix, np.array([4.0, 4.0]))).round(6)
    array([4., 4.])
    """
    scale = float(np.max(np.abs(np.diagonal(matrix)), initial=0.0))
    if not scale > 0.0:
        return np.zeros_like(rhs)
    ridge = _FIRST * scale
    while ridge <= scale:
        try:
            factor = cho_factor(matrix + ridge * np.eye(len(matrix)), lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            ridge *= _FACTOR
            continue
        x = cho_solve(factor, rhs, check_finite=False)
        # One step of refinement recovers digits that the conditioning costs.
        return x + cho_solve(factor, rhs - matrix @ x - ridge * x, check_finite=False)
    return rhs / scale
