"""Point of least norm under linear inequalities, by non-negative least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

FloatArray = npt.NDArray[np.float64]

__all__ = ["least_distance"]

_NO_POINT = 1e-11
"""Relative residual below which the inequalities are taken to contradict one another."""


def least_distance(A: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    r"""Minimise :math:`\|x\|^2` subject to :math:`A x \ge b`.

    Lawson and Hanson (1974), "Solving least squares problems", section 23.4: with the non-negative least-squares
    residual of :math:`(A^\top; b^\top) v \approx (0; 1)` the solution is a ratio of its parts, and there is no point
    where the residual vanishes.

    Parameters
    ----------
    A : ndarray (k, N)
    b : ndarray (k,)

    Returns
    -------
    (ndarray (N,), ndarray (k,)) or None
        The point and the multipliers, ``x = A^T multipliers``; None where no point satisfies the inequalities.

    Examples
    --------
    >>> point, multipliers = least_distance(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([2.0, -5.0]))
    >>> point.round(9), multipliers.round(9)
    (array([1., 1.]), array([1., 0.]))
    >>> least_distance(np.array([[1.0], [-1.0]]), np.array([1.0, 0.0])) is None
    True
    """
    k, size = A.shape
    lengths = np.sqrt(np.sum(A * A, axis=1))
    flat = lengths <= 1e-14 * float(np.max(lengths, initial=0.0))
    if np.any(b[flat] > 0.0):
        return None
    scale = np.where(flat, 1.0, lengths)
    unit = np.where(flat[:, None], 0.0, A / scale[:, None])
    height = float(np.max(np.abs(b / scale), initial=0.0))
    if not np.any(b > 0.0):
        return np.zeros(size), np.zeros(k)
    level = np.where(flat, 0.0, b / scale / height)
    # The factor has the inner products of the rows and no more rows than they are.
    factor = np.linalg.qr(unit.T, mode="r") if size > k else unit.T
    target = np.zeros(len(factor) + 1)
    target[-1] = 1.0
    v = nnls(np.vstack([factor, level]), target, maxiter=50 * k)[0]
    residual = 1.0 - float(level @ v)
    if residual <= _NO_POINT:
        return None
    multipliers = v / residual * height
    return unit.T @ multipliers, multipliers / scale
