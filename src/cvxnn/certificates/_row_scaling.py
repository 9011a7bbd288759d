"""Exact scaling of the rows of a pricing problem, so that no square or product that counts underflows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cvxnn._tall_tables import tall_slabs
from cvxnn.certificates._rounding import TINY, FloatArray, norm_up

__all__ = ["checked_mass", "scaled_rows"]

_NEGLIGIBLE = 200
"""Rows below ``2**-200`` of the largest one go to the slack."""

_UNEVEN = 60

_LARGEST = 1020
"""Powers of two below this are far enough from the largest float for the sums of a few rounded products."""


def checked_mass(X: FloatArray, N: FloatArray, name: str) -> float:
    r"""Size :math:`\sum_j \|x_j\| \|N_j\|` of a pricing problem, which no value of it exceeds, up to rounding.

    Parameters
    ----------
    X : ndarray (n, d)
    N : ndarray (n, c)
    name : str
        What the caller calls N.

    Raises
    ------
    ValueError
        If X or the bound is too large for floating-point numbers.

    Examples
    --------
    >>> round(checked_mass(np.array([[3.0, 4.0]]), np.array([[2.0]]), "N"), 9)
    10.0
    """
    size_x, size_n = (int(np.frexp(np.max(np.abs(matrix), initial=0.0))[1]) for matrix in (X, N))
    # Powers of two: the scaling is exact, up to underflow, which TINY pads.
    mass = float(norm_up(np.ldexp(X, -size_x)) @ norm_up(np.ldexp(N, -size_n)))
    exponent = math.frexp(mass)[1] + size_x + size_n
    if max(exponent, size_x + X.shape[1].bit_length()) > _LARGEST:
        raise ValueError(
            f"X and {name} have entries of sizes up to {np.max(np.abs(X)):.1e} and {np.max(np.abs(N)):.1e}; their "
            "products overflow, scale them down."
        )
    return math.ldexp(mass, size_x + size_n)


def scaled_rows(X: FloatArray, N: FloatArray) -> tuple[FloatArray, FloatArray, float, int] | None:
    """Rows that count, with data and dual matrix of order one; None where the function vanishes.

    As ``(t)_+`` is homogeneous, powers of two may move from a row of X to the one of N. That is done only where the
    largest rows of X and N are far from each other, or rows of X are very small.

    Parameters
    ----------
    X : ndarray (n, d)
    N : ndarray (n, c)

    Returns
    -------
    X, N : ndarray (k, d), (k, c)
    slack : float
        What the rows left out, and entries that underflow, add to the maximum, before the scaling back.
    exponent : int
        The original function is ``2**exponent`` times the scaled one.

    Examples
    --------
    >>> X, N, slack, exponent = scaled_rows(np.array([[4.0], [1e-170]]), np.ones((2, 1)))
    >>> X, N, exponent, slack < 1e-50
    (array([[0.5]]), array([[0.5]]), 4, True)
    """
    keep = np.any(N != 0.0, axis=1) & np.any(X != 0.0, axis=1)
    if not keep.any():
        return None
    if not keep.all():
        X, N = X[keep], N[keep]
    size_x, size_n = _exponents(X), _exponents(N)
    product = size_x + size_n
    top = int(product.max())
    counts = product >= top - _NEGLIGIBLE
    left_out = math.ldexp(float(np.sum(~counts)) * X.shape[1] * N.shape[1], -_NEGLIGIBLE)
    if not counts.all():
        X, N, size_x, size_n = X[counts], N[counts], size_x[counts], size_n[counts]
    power_x, power_n = int(size_x.max()), int(size_n.max())
    if power_x + power_n - top > _UNEVEN or int(size_x.min()) < power_x - _NEGLIGIBLE:
        X, N = np.ldexp(X, -size_x[:, None]), np.ldexp(N, (size_x - top)[:, None])
        power_x, power_n = 0, top
    else:
        X, N = np.ldexp(X, -power_x), np.ldexp(N, -power_n)
    # Powers of two: the scaling is exact, up to underflow, which TINY pads.
    exponent = power_x + power_n
    slack = math.ldexp(left_out, top - exponent) + TINY * X.size * N.shape[1]
    return X, N, slack, exponent


def _exponents(matrix: FloatArray) -> npt.NDArray[np.int64]:
    """Powers of two of the largest entries of the rows."""
    exponents = np.empty(len(matrix), dtype=np.int64)
    for rows in tall_slabs(matrix):
        exponents[rows] = np.frexp(np.max(np.abs(matrix[rows]), axis=1))[1]
    return exponents
