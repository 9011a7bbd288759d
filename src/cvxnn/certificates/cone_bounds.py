"""Bounds of the dual function on the cones of given activation patterns."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray, combination_norm_up
from cvxnn.certificates.cone_projection import ConeProjector

__all__ = ["cone_bounds"]

_ENTRIES, _FACTORS = 1 << 20, 4_000_000
"""Coefficients, and numbers in the factors of projections, of the cones that are bounded in one go."""


def cone_bounds(
    X: npt.ArrayLike,
    nu: npt.ArrayLike,
    masks: npt.NDArray[np.bool_],
    signs: npt.ArrayLike,
    *,
    target: float | None = None,
    rho: npt.ArrayLike | None = None,
    time_limit: float | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Bound ``sign * nu^T (X u)_+`` from above on the unit ball inside the cone of each pattern.

    For the pattern ``D`` and its closed cone ``K_D = {u : (2 D - I) X u >= 0}``,

    .. math::
        \max_{u \in K_D, \|u\| \le 1} s\, \nu^T D X u = \min_{\rho \ge 0} \|X^T (s D \nu + (2 D - I) \rho)\| .

    Every ``rho >= 0`` gives a valid bound; the minimiser is the multiplier of the projection of ``s X^T D nu`` on the
    cone, which a dual active-set method finds for all cones at once.

    Parameters
    ----------
    X : array-like of shape (n, d)
    nu : array-like of shape (n,)
    masks : ndarray of bool of shape (K, n)
        One activation pattern in each row.
    signs : array-like of shape (K,)
        +1 or -1 for each pattern.
    target : float, optional
        Patterns already known to be at most `target` are not worked on further.
    rho : array-like of shape (K, n), optional
        Multipliers to start from, for instance those of a solver; negative entries are clipped.
    time_limit : float, optional
        Seconds after which the bounds stay as good as they are by then.

    Returns
    -------
    upper : ndarray of shape (K,)
        Valid bounds, rounding included.
    directions : ndarray of shape (K, d)
        Residual directions, of unit norm or zero: the maximisers where the multipliers are optimal.

    Raises
    ------
    ValueError
        If the shapes do not agree or a sign is neither 1 nor -1.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", appendix on the dual problem.

    Examples
    --------
    >>> import numpy as np
    >>> upper, directions = cone_bounds(np.eye(2), [3.0, 4.0], np.array([[True, True], [True, False]]), [1, 1])
    >>> upper.round(6)
    array([5., 3.])
    """
    X = np.asarray(X, dtype=np.float64)
    nu = np.asarray(nu, dtype=np.float64)
    masks = np.atleast_2d(np.asarray(masks, dtype=bool))
    signs = np.asarray(signs, dtype=np.float64).reshape(-1)
    _check(X, nu, masks, signs)
    count, n = masks.shape
    if count == 0 or n == 0 or not np.any(X) or not np.any(nu):
        return np.zeros(count), np.zeros((count, X.shape[1]))
    scale_x = float(2.0 ** np.frexp(np.max(np.abs(X)))[1])
    scale_nu = float(2.0 ** np.frexp(np.max(np.abs(nu)))[1])
    rows = X / scale_x
    goal = -np.inf if target is None else target / scale_x / scale_nu * (1.0 - 1e-15)
    short = _short_rows(rows)
    bounds = _Bounds(rows, short, nu / scale_nu, goal)
    shifts = None if rho is None else np.asarray(rho, dtype=np.float64)
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    upper, directions = np.empty(count), np.empty((count, X.shape[1]))
    size = max(8, min(_ENTRIES // n, _FACTORS // (2 * short.shape[1] ** 2)))
    for first in range(0, count, size):
        part = slice(first, first + size)
        now = time.perf_counter()
        # Each part gets its share of the time left.
        until = now + max(deadline - now, 0.0) * min(size / (count - first), 1.0)
        shift = None if shifts is None else np.maximum(shifts[part] / scale_nu, 0.0)
        upper[part], directions[part] = bounds.of(masks[part], signs[part], shift, until)
    return upper * scale_x * scale_nu * (1.0 + 1e-15), directions


class _Bounds:
    """Bounds for some cones at a time; rows and dual vector of order one, ``short`` the rows in few coordinates."""

    def __init__(self, rows: FloatArray, short: FloatArray, nu: FloatArray, goal: float) -> None:
        lengths = np.sqrt(np.sum(short * short, axis=1))
        self.rows, self.short, self.nu, self.goal = rows, short, nu, goal
        self.lengths = np.where(lengths > 0.0, lengths, 1.0)
        self.units = short / self.lengths[:, None]

    def of(
        self, masks: npt.NDArray[np.bool_], signs: FloatArray, shift: FloatArray | None, deadline: float
    ) -> tuple[FloatArray, FloatArray]:
        """Bounds and unit residuals; work on a cone ends at the goal, and all at the deadline."""
        base = np.where(masks, signs[:, None] * self.nu, 0.0)
        coefficients = base
        upper = combination_norm_up(self.rows, base)
        if shift is not None:
            given = _combine(base, masks, shift)
            other = combination_norm_up(self.rows, given)
            better = other < upper
            coefficients = np.where(better[:, None], given, base)
            upper = np.minimum(upper, other)
        todo = np.flatnonzero(upper > self.goal)
        if todo.size and time.perf_counter() < deadline:
            found = _combine(base[todo], masks[todo], self._multipliers(base[todo], masks[todo], deadline))
            value = combination_norm_up(self.rows, found)
            better = value < upper[todo]
            upper[todo[better]], coefficients[todo[better]] = value[better], found[better]
        residual = coefficients @ self.rows
        norms = np.sqrt(np.sum(residual * residual, axis=1, keepdims=True))
        return upper, residual / np.where(norms > 0.0, norms, 1.0)

    def _multipliers(self, base: FloatArray, masks: npt.NDArray[np.bool_], deadline: float) -> FloatArray:
        """Multipliers of the projections of ``rows^T base`` on the cones."""
        projector = ConeProjector(self.units, masks)
        every = np.arange(len(masks))
        projector.project(base @ self.short, every, enough=self.goal * (1.0 - 1e-12), deadline=deadline)
        return projector.dense_multipliers(every) / self.lengths


def _check(X: FloatArray, nu: FloatArray, masks: npt.NDArray[np.bool_], signs: FloatArray) -> None:
    if X.ndim != 2:
        raise ValueError(f"X must be a matrix of shape (n, d), but it has {X.ndim} dimensions.")
    if nu.shape != (len(X),):
        raise ValueError(f"nu must have shape ({len(X)},) to match X, but it has shape {nu.shape}.")
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(nu))):
        raise ValueError("X and nu must be finite, but one of them has a NaN or an infinite entry.")
    if masks.shape[1] != len(X):
        raise ValueError(f"masks must have {len(X)} columns to match X, but it has {masks.shape[1]}.")
    if signs.shape != (len(masks),) or not np.all(np.abs(signs) == 1.0):
        raise ValueError(f"signs must hold {len(masks)} entries, each 1 or -1.")


def _short_rows(rows: FloatArray) -> FloatArray:
    """Return rows in at most ``n`` coordinates with (nearly) the same Gram matrix; used for multipliers only."""
    n, d = rows.shape
    if d <= n:
        return rows
    return np.linalg.qr(rows.T).R.T


def _combine(base: FloatArray, mask: npt.NDArray[np.bool_], rho: FloatArray) -> FloatArray:
    # In floating point too, base + rho >= base and -rho <= 0: any such coefficients are admissible.
    return np.where(mask, base + rho, -rho)
