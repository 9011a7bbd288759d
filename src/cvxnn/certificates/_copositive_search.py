r"""Search for the non-negative coupling of rows that makes the relaxation on a cone tight at a given maximiser.

With :math:`M u + \sum_j \mu_j c_j = \lambda u` and :math:`q_j = C^T z_j`, :math:`u^T q_j = 1`, the vector u is an
eigenvector of :math:`M + \sum_j \mu_j (c_j q_j^T + q_j c_j^T)` for its eigenvalue :math:`\lambda`. It is the largest
one if the matrix is at most :math:`\lambda` on the orthogonal complement of u, a convex condition on the weights z.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from cvxnn.certificates._rounding import FloatArray

__all__ = ["search_weights"]

_SMOOTHINGS = (0.1, 0.02, 0.004)
_ITERATIONS = 150
_MARGIN, _NO_SHARE = 1e-10, -700.0


class _Done(Exception):
    """The condition holds."""


def search_weights(
    M: FloatArray, rows: FloatArray, mu: FloatArray, C: FloatArray, t: FloatArray, u: FloatArray, value: float
) -> FloatArray:
    r"""Weights ``z (k, m)``, not negative, that lower the largest eigenvalue off u; any of them gives a valid bound.

    Parameters
    ----------
    M : ndarray (d, d)
    rows, mu : ndarray (k, d), (k,)
        Tight rows and their multipliers.
    C, t : ndarray (m, d), (m,)
        Rows that may be coupled with them, and their slacks ``C u``, zero for tight ones.
    u : ndarray (d,)
        Maximiser, and ``value`` its eigenvalue.
    """
    search = _Search(M, rows, mu, C, t, u, value)
    start = np.tile(t / float(t @ t), (len(rows), 1))
    point = start.ravel()
    try:
        for smoothing in _SMOOTHINGS:
            found = minimize(
                search.smoothed,
                point,
                args=(smoothing * value,),
                jac=True,
                method="L-BFGS-B",
                bounds=[(0.0, None)] * point.size,
                options={"maxiter": _ITERATIONS},
            )
            point = found.x
    except _Done:
        pass
    return search.weights(search.best)[0]


class _Search:
    """Smoothed largest eigenvalue on the complement of u, as a function of the unnormalised weights."""

    def __init__(
        self, M: FloatArray, rows: FloatArray, mu: FloatArray, C: FloatArray, t: FloatArray, u: FloatArray, value: float
    ) -> None:
        self.V = np.linalg.svd(u[None, :])[2][1:].T
        self.fixed = self.V.T @ M @ self.V
        self.left = mu[:, None] * (rows @ self.V)
        self.C, self.t, self.value = C @ self.V, t, value
        # Rows of unit length make the weights comparable.
        self.unit = 1.0 / np.maximum(np.linalg.norm(C, axis=1), 1e-300)
        self.best, self.lowest = np.tile(t, (len(rows), 1)).ravel(), np.inf

    def weights(self, point: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weights with ``z t = 1`` in each row, and the scales that achieve it."""
        raw = np.maximum(point.reshape(len(self.left), -1), 0.0) * self.unit
        sizes = raw @ self.t
        return raw / np.where(sizes > 0.0, sizes, 1.0)[:, None], sizes

    def smoothed(self, point: FloatArray, smoothing: float) -> tuple[float, FloatArray]:
        """Smoothed eigenvalue and its gradient."""
        z, sizes = self.weights(point)
        if np.any(sizes <= 0.0):
            return 1e6 * self.value, -np.tile(self.t * self.unit, (len(z), 1)).ravel()
        q = z @ self.C
        matrix = self.fixed + self.left.T @ q + q.T @ self.left
        eigenvalues, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        top = float(eigenvalues[-1])
        if top < self.lowest:
            self.best, self.lowest = point.copy(), top
            if top <= self.value * (1.0 - _MARGIN):
                raise _Done
        shares = np.exp(np.maximum(eigenvalues - top, _NO_SHARE * smoothing) / smoothing)
        total = float(np.sum(shares))
        density = (vectors * (shares / total)) @ vectors.T
        slope = 2.0 * (self.left @ density) @ self.C.T
        # The scaling to z t = 1 takes out what lies along z.
        slope = (slope - np.sum(slope * z, axis=1, keepdims=True) * self.t) / sizes[:, None] * self.unit
        return top + smoothing * float(np.log(total)), slope.ravel()
