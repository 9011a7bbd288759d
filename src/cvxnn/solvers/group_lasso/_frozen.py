"""A factorisation of the weighted ridge problem that outlives its weights, as preconditioner and as curvature."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, get_blas_funcs

from cvxnn.solvers.group_lasso._common import solve_unit_diagonal
from cvxnn.solvers.group_lasso._ridge import KernelRidge, Ridge

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["Frozen", "weight_step"]

# Least curvature of a weight, relative to the largest, and most rounds in which weights are found to stay at zero.
_LEAST_CURVATURE, _MOST_ROUNDS = 1e-12, 20


class Frozen:
    """Factorisation at one weight vector, with the curvature in the weights of the blocks met since."""

    def __init__(self, ridge: Ridge, root: FloatArray, beta: float, n_patterns: int) -> None:
        self.ridge, self.root, self.beta = ridge, root, beta
        self.place: IntArray = np.full(n_patterns, -1)
        self._count = 0
        self._half: SingleArray = np.zeros((len(root), 0), dtype=np.float32, order="F")
        self._columns: FloatArray = np.zeros((len(root), 0))
        self.curvature: FloatArray = np.zeros((0, 0))
        # Where a factorisation is cheap, each step has its own.
        self.lasting = isinstance(ridge, KernelRidge)

    def add(self, ids: IntArray, columns: FloatArray) -> None:
        """Extend the curvature by blocks with the columns ``D_i X v_i (n, k)``."""
        before, self._count = self._count, self._count + len(ids)
        self.place[ids] = np.arange(before, self._count)
        if not isinstance(self.ridge, KernelRidge):
            self._columns = np.concatenate([self._columns, columns], axis=1)
            self.curvature = self.ridge.weight_hessian(self._columns)
            return
        trsm: Any = get_blas_funcs("trsm", dtype=np.float32)
        scaled = np.asfortranarray(columns * self.root[:, None], dtype=np.float32)
        fresh = trsm(1.0, self.ridge.factor, scaled, lower=1, overwrite_b=1)
        self._half = np.asfortranarray(np.concatenate([self._half, fresh], axis=1))
        cross = (self._half.T @ fresh).astype(np.float64) / self.beta
        out = np.empty((self._count,) * 2)
        out[:before, :before] = self.curvature
        out[:, before:] = cross
        out[before:, :before] = cross[:before].T
        self.curvature = out


def weight_step(curvature: FloatArray, w: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve ``curvature direction = rhs`` on the weights that may move; those at zero that would turn negative stay.

    ``curvature (k, k)`` is overwritten.

    Raises
    ------
    LinAlgError
        Where the curvature is zero, or not positive definite to rounding.

    Examples
    --------
    >>> weight_step(2.0 * np.eye(3), np.array([1.0, 0.0, 0.0]), np.array([-1.0, 1.0, -1.0]))
    array([-0.5,  0.5,  0. ])
    """
    diagonal = np.diag(curvature)
    largest = float(np.max(diagonal, initial=0.0))
    if largest == 0.0:
        raise LinAlgError("the loss has no curvature at the fit.")
    scale = 1.0 / np.sqrt(np.maximum(diagonal, _LEAST_CURVATURE * largest))
    curvature *= scale
    curvature *= scale[:, None]
    direction, index = np.zeros_like(w), np.flatnonzero((w > 0) | (rhs > 0))
    system = curvature if index.size == w.size else curvature[np.ix_(index, index)]
    for _ in range(_MOST_ROUNDS):
        if index.size == 0:
            break
        direction[:] = 0.0
        direction[index] = scale[index] * solve_unit_diagonal(system, scale[index] * rhs[index])
        right = (w[index] > 0) | (direction[index] > 0)
        if np.all(right):
            break
        index, system = index[right], system[np.ix_(right, right)]
    return direction
