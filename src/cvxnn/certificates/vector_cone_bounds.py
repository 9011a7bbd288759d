r"""Bounds of :math:`\|N^\top (X u)_+\|` on the cones of given activation patterns.

On the cone :math:`K_D = \{u : C u \ge 0\}`, :math:`C = (2D - I) X`, the square of the function is
:math:`u^\top M u` with :math:`M = A A^\top, A = X^\top D N`. For every symmetric matrix S without negative entries

.. math:: \max_{u \in K_D, \|u\| \le 1} u^\top M u \le \lambda_{\max}(M + C^\top S C),

since :math:`(C u)^\top S (C u) \ge 0` there: the relaxation of a copositive program. At a maximiser u with multipliers
:math:`\mu` of its tight rows, S couples these rows with slack ones so that u becomes an eigenvector.
"""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.certificates._copositive_search import search_weights
from cvxnn.certificates._rounding import TINY, FloatArray, gamma, lambda_max_up, norm_up

__all__ = ["vector_cone_bounds"]

_TIGHT, _NOTHING = 1e-7, 1e-12
_SHARES = (0.999, 0.3, 0.03, 0.0)
_MOST_NEURONS = 4
_SMALL = -60
_SEARCHED_RANK, _SEARCHED_ROWS = 24, 300
"""Coordinates up to which, and rows among which, the coupling is searched."""


def vector_cone_bounds(
    X: FloatArray,
    N: FloatArray,
    masks: npt.NDArray[np.bool_],
    directions: FloatArray,
    *,
    target: float = 0.0,
    time_limit: float | None = None,
) -> FloatArray:
    r"""Upper bounds of :math:`\|N^\top (X u)_+\|` on the unit ball inside the cone of each pattern.

    Parameters
    ----------
    X : ndarray (n, d)
    N : ndarray (n, c)
        Dual matrix.
    masks : ndarray of bool (P, n)
    directions : ndarray (k, d)
        Unit vectors where large values are attained, such as the neurons of an optimal network.
    target : float
        Patterns already known to be at most this are not worked on further.
    time_limit : float, optional
        Seconds after which the bounds stay as good as they are by then.

    Returns
    -------
    ndarray (P,)
        Valid bounds, rounding included.

    References
    ----------
    Sahiner, Ergen, Pauly and Pilanci (2021), "Vector-output ReLU neural network problems are copositive programs".

    Examples
    --------
    >>> import numpy as np
    >>> X, N = np.eye(2), np.array([[1.0, 0.0], [-1.0, 0.0]])
    >>> masks = np.array([[True, True]])
    >>> float(vector_cone_bounds(X, N, masks, np.zeros((0, 2)))[0].round(6))
    1.414214
    >>> float(vector_cone_bounds(X, N, masks, np.array([[1.0, 0.0]]))[0].round(6))
    1.0
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    # Exact powers of two bring both to order one, so that no square over- or underflows.
    power_x = math.frexp(float(np.max(np.abs(X), initial=0.0)))[1]
    power_n = math.frexp(float(np.max(np.abs(N), initial=0.0)))[1]
    X, N = np.ldexp(X, -power_x), np.ldexp(N, -power_n)
    with np.errstate(over="ignore"):
        goal = float(np.ldexp(target, -power_x - power_n))
    lengths = norm_up(X)
    products = lengths * norm_up(N)
    side = X @ directions.T
    out = np.zeros(len(masks))
    for i, mask in enumerate(masks):
        cone = _Cone(X, N, mask, lengths, float(products[mask].sum()))
        best = cone.spectral()
        if best > goal and time.perf_counter() < deadline:
            signs = np.where(mask, 1.0, -1.0)
            slack = np.min(signs[:, None] * side / np.maximum(lengths, 1e-300)[:, None], axis=0, initial=np.inf)
            own = np.flatnonzero(slack >= -_TIGHT)
            values = np.linalg.norm(cone.A.T @ directions[own].T, axis=0)
            for k in own[np.argsort(-values, kind="stable")[:_MOST_NEURONS]]:
                best = min(best, cone.copositive(directions[k], goal))
                if best <= goal or time.perf_counter() > deadline:
                    break
        with np.errstate(over="ignore"):
            out[i] = math.nextafter(float(np.ldexp(best, power_x + power_n)), math.inf)
    return out


class _Cone:
    """One pattern: its matrix A, scaled by a power of two, with a bound of its rounding."""

    def __init__(
        self, X: FloatArray, N: FloatArray, mask: npt.NDArray[np.bool_], lengths: FloatArray, mass: float
    ) -> None:
        self.X, self.mask, self.lengths = X, mask, lengths
        self.A = X[mask].T @ N[mask]
        n = len(X)
        # || |X|^T |N| ||_F <= sum ||x_j|| ||N_j||.
        error = gamma(n + 3) * (1.0 + 4.0 * gamma(n + 3)) * mass + TINY * N.size * X.shape[1]
        # Where all rows of the pattern are small, A is scaled: no square of it that counts underflows.
        power = math.frexp(max(error, float(np.max(np.abs(self.A), initial=0.0))))[1]
        self.power = power if power < _SMALL else 0
        self.A, self.error = np.ldexp(self.A, -self.power), math.ldexp(error, -self.power)
        self.size = float(norm_up(self.A.ravel()))

    def spectral(self) -> float:
        """Bound by the largest singular value of A, for the whole space."""
        top = math.sqrt(lambda_max_up(self.A.T, np.ones(self.A.shape[1]))) * (1.0 + 1e-15)
        return math.ldexp((min(top, self.size) + self.error) * (1.0 + 4e-16), self.power)

    def copositive(self, u: FloatArray, goal: float) -> float:
        """Bound that the multipliers at a point of the cone give; infinity where there are none.

        Work ends where it is at most the goal.
        """
        C = np.where(self.mask, 1.0, -1.0)[:, None] * self.X
        slack = C @ u
        tight = (slack <= _TIGHT * self.lengths) & (self.lengths > 0.0)
        if not tight.any() or np.all(tight | (self.lengths == 0.0)):
            return math.inf
        M = self.A @ self.A.T
        value = float(u @ M @ u)
        if value <= _NOTHING * self.size**2:
            return math.inf
        rows, free = C[tight], C[~tight & (self.lengths > 0.0)]
        # Stationarity on the cone: value u - M u is a combination of the tight rows.
        mu = nnls(rows.T, value * u - M @ u, maxiter=50 * rows.shape[1] + 1000)[0]
        used = mu > 0.0
        if not used.any():
            return math.inf
        rows, mu = rows[used], mu[used]
        choices = self._slack_weights(rows, free, u)
        bounds = [self._bound(M, rows, mu, z, free) for z in choices]
        best = int(np.argmin(bounds))
        if bounds[best] > goal and len(M) <= _SEARCHED_RANK:
            # All rows may be coupled with the tight ones; those near the boundary shape the cone.
            t = C @ u
            near = np.argsort(np.where(self.lengths > 0.0, t / np.maximum(self.lengths, 1e-300), np.inf), kind="stable")
            near = near[self.lengths[near] > 0.0][:_SEARCHED_ROWS]
            z = search_weights(M, rows, mu, C[near], np.where(tight[near], 0.0, t[near]), u, float(value))
            bounds.append(self._bound(M, rows, mu, z, C[near]))
        return min(bounds)

    def _slack_weights(self, rows: FloatArray, free: FloatArray, u: FloatArray) -> list[FloatArray]:
        r"""Weights :math:`z_j \ge 0` on slack rows with :math:`C^T z_j` near :math:`u - t_j c_j`, ``(t, m)`` each.

        The first term keeps u an eigenvector; the second lowers the curvature across the tight row.
        """
        t = free @ u
        simple = t / float(t @ t)
        # A positive solution of C^T z = u, as far from the boundary as a barrier puts it, where there is one.
        gram = np.linalg.pinv(free.T @ free, hermitian=True)
        centre = 1.0 / np.maximum(t, 1e-9 * float(np.max(t)))
        centre *= 1.0 / float(centre @ t)
        centre = centre + free @ (gram @ (u - free.T @ centre))
        if float(np.min(centre)) <= 0.0:
            centre, misfit = nnls(free.T, u, maxiter=50 * free.shape[1] + 1000)
            if misfit > 1e-9:
                return [np.tile(simple, (len(rows), 1))]
        moves = (free @ (gram @ rows.T)).T
        with np.errstate(divide="ignore"):
            reach = np.min(np.where(moves > 0.0, centre / np.where(moves > 0.0, moves, 1.0), np.inf), axis=1)
        # The move solves C^T move = c_j only where c_j lies in the span; the bound holds anyhow.
        choices = [np.maximum(centre - share * np.minimum(reach, 1e6)[:, None] * moves, 0.0) for share in _SHARES]
        return [*choices, np.tile(simple, (len(rows), 1))]

    def _bound(self, M: FloatArray, rows: FloatArray, mu: FloatArray, z: FloatArray, free: FloatArray) -> float:
        """Bound from ``M + sum_j mu_j (c_j q_j^T + q_j c_j^T)``, ``q_j = free^T z_j``: S has the entries mu_j z_ji."""
        q = z @ free
        left = mu[:, None] * rows
        matrix = M + left.T @ q + q.T @ left
        n, d = self.X.shape
        sizes = norm_up(left) @ (z @ norm_up(free)) * (1.0 + gamma(n + 8))
        error = 2.0 * self.size * self.error + self.error**2 + gamma(n + d + 16) * (2.0 * self.size**2 + 4.0 * sizes)
        top = _lambda_max_up(0.5 * (matrix + matrix.T))
        return math.ldexp(math.sqrt(max(top + error, 0.0)) * (1.0 + 1e-15), self.power)


def _lambda_max_up(matrix: FloatArray) -> float:
    """Upper bound of the largest eigenvalue of a symmetric matrix, or 0 where that is negative."""
    d = len(matrix)
    vectors = np.linalg.eigh(matrix)[1]
    rotated = vectors.T @ matrix @ vectors
    size = float(norm_up(matrix.ravel()))
    error = 8.0 * d * gamma(2 * d + 2) * size
    departure = float(norm_up(np.abs(vectors.T @ vectors - np.eye(d)).ravel())) + 4.0 * d * gamma(d + 2)
    if departure >= 0.5:
        return size
    diagonal = np.diag(rotated)
    discs = diagonal + np.sum(np.abs(rotated), axis=1) - np.abs(diagonal)
    top = float(np.max(discs)) + gamma(2 * d + 4) * size * d
    return max(top + d * error, 0.0) / (1.0 - departure) * (1.0 + gamma(8))
