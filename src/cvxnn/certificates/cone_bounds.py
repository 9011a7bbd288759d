"""Bounds of the dual function on the cones of given activation patterns."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.certificates._rounding import FloatArray, combination_norm_up

_FIRST_ROWS = 64


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

    Every ``rho >= 0`` gives a valid bound; the minimiser is sought by non-negative least squares, with rows added as
    the current residual violates them.

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
        Seconds after which the remaining patterns keep their crude bound.

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
    base = np.where(masks, signs[:, None] * (nu / scale_nu), 0.0)
    goal = -np.inf if target is None else target / scale_x / scale_nu * (1.0 - 1e-15)
    coefficients = base.copy()
    upper = combination_norm_up(rows, base)
    if rho is not None:
        shift = np.maximum(np.asarray(rho, dtype=np.float64) / scale_nu, 0.0)
        given = _combine(base, masks, shift)
        other = combination_norm_up(rows, given)
        better = other < upper
        upper[better], coefficients[better] = other[better], given[better]
    deadline = None if time_limit is None else time.monotonic() + time_limit
    short = _short_rows(rows)
    for k in np.flatnonzero(upper > goal):
        if deadline is not None and time.monotonic() >= deadline:
            break
        found = _combine(base[k], masks[k], _multipliers(short, base[k], masks[k], deadline))
        value = float(combination_norm_up(rows, found[None, :])[0])
        if value < upper[k]:
            upper[k], coefficients[k] = value, found
    residual = coefficients @ rows
    norms = np.sqrt(np.sum(residual * residual, axis=1, keepdims=True))
    return upper * scale_x * scale_nu * (1.0 + 1e-15), residual / np.where(norms > 0.0, norms, 1.0)


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


def _multipliers(rows: FloatArray, base: FloatArray, mask: npt.NDArray[np.bool_], deadline: float | None) -> FloatArray:
    """Solve ``min_{rho >= 0} || rows^T (base + (2 D - I) rho) ||`` on a growing set of rows."""
    n = len(rows)
    oriented = np.where(mask, 1.0, -1.0)[:, None] * rows
    target = base @ rows
    lengths = np.sqrt(np.sum(rows * rows, axis=1))
    unit = oriented / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    rho = np.zeros(n)
    chosen = np.zeros(n, dtype=bool)
    residual = target
    first = n <= 4 * _FIRST_ROWS
    while True:
        if first:
            new = ~chosen
        else:
            push = np.where(chosen, 0.0, unit @ residual)
            worst = np.argsort(push, kind="stable")[:_FIRST_ROWS]
            new = np.zeros(n, dtype=bool)
            new[worst] = push[worst] < -1e-13 * float(np.sqrt(residual @ residual))
        if not new.any():
            return rho
        chosen |= new
        index = np.flatnonzero(chosen)
        try:
            solution, _ = nnls(unit[index].T, -target, maxiter=10 * len(index) + 100)
        except RuntimeError:  # no convergence: the multipliers found so far stay valid
            return rho
        rho = np.zeros(n)
        rho[index] = solution / np.where(lengths[index] > 0.0, lengths[index], 1.0)
        residual = target + unit[index].T @ solution
        if chosen.all() or (deadline is not None and time.monotonic() >= deadline):
            return rho
