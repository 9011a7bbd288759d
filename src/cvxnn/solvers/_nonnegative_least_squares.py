"""Least squares with non-negative coefficients of equal cost, by an active set on orthogonal factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

FloatArray = npt.NDArray[np.float64]

__all__ = ["polish_nonnegative_least_squares"]

_DEPENDENT = 1e-13
_SLACK = 1e-12
_MOST_CHANGES = 200
"""Most factorisations."""


def polish_nonnegative_least_squares(
    matrix: FloatArray, target: FloatArray, cost: float, start: FloatArray
) -> FloatArray:
    r"""Minimise :math:`\tfrac12\|A z - b\|^2 + \gamma \sum_{i>0} z_i` over :math:`z_i \ge 0, i > 0`.

    The first coefficient is free. Lawson and Hanson's active set from a given point: it works on orthogonal factors of
    A, so that it keeps digits where the Gram matrix has none left.

    Parameters
    ----------
    matrix : ndarray (m, 1 + k)
    target : ndarray (m,)
    cost : float
    start : ndarray (1 + k,)
        Point with non-negative coefficients.

    Returns
    -------
    ndarray (1 + k,)
        Its value is not above that of the start but for rounding.

    References
    ----------
    Lawson and Hanson (1974), "Solving least squares problems", chapter 23.

    Examples
    --------
    >>> A, b = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]]), np.array([1.0, 2.0, 3.0])
    >>> polish_nonnegative_least_squares(A, b, 0.5, np.zeros(2)).round(12)
    array([0.5 , 0.75])
    """
    sizes = np.sqrt(np.sum(matrix * matrix, axis=0))
    point = start.copy()
    free = (point > 0) & (sizes > 0)
    free[0] = True
    price = np.full(len(point), cost)
    price[0] = 0.0
    for _ in range(_MOST_CHANGES):
        index = np.flatnonzero(free)
        solved, dependent = _solve(matrix[:, index] / sizes[index], target, price[index] / sizes[index])
        if dependent is not None:
            # Along a dependency of the columns the cost is linear: walk down it until a coefficient vanishes.
            move = dependent / sizes[index]
            if float(price[index] @ move) > 0.0:
                move = -move
        else:
            move = solved / sizes[index] - point[index]
        bounded = (index > 0) & (move < 0)
        ratios = np.full(len(index), np.inf)
        ratios[bounded] = point[index][bounded] / -move[bounded]
        step = float(np.min(ratios, initial=np.inf))
        if dependent is not None and not np.isfinite(step):
            return point
        if dependent is not None or step < 1.0:
            point[index] += step * move
            hit = int(index[np.argmin(ratios)])
            point[hit], free[hit] = 0.0, False
            continue
        point[index] += move
        slope = matrix.T @ (matrix @ point - target) + price
        slope[free | (sizes == 0)] = np.inf
        slope /= np.maximum(sizes, np.finfo(np.float64).tiny)
        entering = int(np.argmin(slope))
        if slope[entering] >= -_SLACK * (float(np.linalg.norm(target)) + cost / float(np.max(sizes))):
            return point
        free[entering] = True
    return point


def _solve(matrix: FloatArray, target: FloatArray, price: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Minimiser over all coefficients of unit columns, or a vector of their null space where they are dependent."""
    if matrix.shape[1] > matrix.shape[0]:
        return np.zeros(0), np.linalg.svd(matrix)[2][-1]
    factor, triangle = np.linalg.qr(matrix)
    diagonal = np.abs(np.diagonal(triangle))
    if np.min(diagonal) <= _DEPENDENT:
        return np.zeros(0), np.linalg.svd(matrix)[2][-1]
    shadow = solve_triangular(triangle, price, trans=1, check_finite=False)
    return solve_triangular(triangle, factor.T @ target - shadow, check_finite=False), None
