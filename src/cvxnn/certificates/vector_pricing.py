r"""Rigorous bounds of the pricing problem with several outputs, :math:`\max \|N^\top (X u)_+\|` over the unit ball."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray, gamma, lambda_max_up, norm_up
from cvxnn.certificates._row_scaling import checked_mass
from cvxnn.certificates._vector_reduction import ReducedVectorPricing, reduce_vector_pricing
from cvxnn.certificates.vector_arrangement import scan_arrangement, scan_size

__all__ = ["VectorPricingBound", "vector_norm_bound", "vector_pricing_bound"]

_MOST_ENTRIES = 1 << 27


@dataclass(frozen=True)
class VectorPricingBound:
    """Bounds of ``tau = max_{||u|| <= 1} ||N^T (X u)_+||`` and the feasible points behind the lower one.

    Attributes
    ----------
    upper : float
        Rigorous upper bound, floating-point errors included.
    lower : float
        Value at ``directions[0]``, in floating point.
    directions, values : ndarray
        The best distinct unit vectors met, ``(k, d)``, and their values ``(k,)``, by falling value.
    method : str
        "arrangement" (exact), "spectral" or "zero".
    closed : bool
        Whether the two bounds differ by no more than rounding.
    interrupted : bool
        Whether a keyboard interrupt ended the search; the bounds hold all the same.
    """

    upper: float
    lower: float
    directions: FloatArray
    values: FloatArray
    method: str
    closed: bool
    interrupted: bool = False


def vector_pricing_bound(
    X: npt.ArrayLike,
    N: npt.ArrayLike,
    *,
    starts: npt.ArrayLike | None = None,
    time_limit: float | None = None,
    method: str = "auto",
) -> VectorPricingBound:
    r"""Bound the dual norm :math:`\tau = \max_{\|u\| \le 1} \|N^\top (X u)_+\|_2` from both sides.

    For data of rank at most 3 (and, at rank 3, some thousands of samples) all cells of the arrangement are searched,
    and the bound is exact but for rounding. Elsewhere it is the spectral bound of :func:`vector_norm_bound`, which may
    be loose.

    Parameters
    ----------
    X : array-like of shape (n, d)
    N : array-like of shape (n, c)
        Dual matrix.
    starts : array-like of shape (k, d), optional
        Directions to evaluate, such as those of the neurons.
    time_limit : float, optional
        Seconds for the search.
    method : {"auto", "cheap"}
        "cheap" does not search.

    Raises
    ------
    ValueError
        If the shapes do not agree, an entry is not finite or so large that products overflow, or `method` is unknown.

    References
    ----------
    Sahiner, Ergen, Pauly and Pilanci (2021), "Vector-output ReLU neural network problems are copositive programs",
    section 3: the dual constraint.

    Examples
    --------
    >>> import numpy as np
    >>> bound = vector_pricing_bound(np.eye(2), [[3.0, 0.0], [0.0, 4.0]])
    >>> round(bound.upper, 6), round(bound.lower, 6), bound.closed
    (4.0, 4.0, True)
    """
    X, N = np.asarray(X, dtype=np.float64), np.asarray(N, dtype=np.float64)
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"X must be a matrix of shape (n, d) with d > 0, but it has shape {X.shape}.")
    if N.ndim != 2 or len(N) != len(X):
        raise ValueError(f"N must have shape ({len(X)}, c) to match X, but it has shape {N.shape}.")
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(N))):
        raise ValueError("X and N must be finite, but one of them has a NaN or an infinite entry.")
    if method not in ("auto", "cheap"):
        raise ValueError(f'method must be "auto" or "cheap", but it is {method!r}.')
    checked_mass(X, N, "N")
    given = np.zeros((0, X.shape[1])) if starts is None else np.atleast_2d(np.asarray(starts, dtype=np.float64))
    problem = reduce_vector_pricing(X, N)
    if problem is None:
        axis = np.zeros((1, X.shape[1]))
        axis[0, 0] = 1.0
        return VectorPricingBound(0.0, 0.0, axis, np.zeros(1), "zero", True)
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    upper, name, found, interrupted = _spectral(problem), "spectral", np.zeros((0, problem.rank)), False
    size = scan_size(problem)
    if method == "auto" and size is not None and problem.weights.shape[1] * len(problem.rows) <= _MOST_ENTRIES:
        seeds = given if problem.basis is None else given @ problem.basis
        try:
            scan = scan_arrangement(problem, starts=seeds, deadline=deadline)
            found = scan.directions
            if math.isfinite(scan.upper):
                upper, name = min(scan.upper, upper), "arrangement"
        except KeyboardInterrupt:
            interrupted = True
    points = np.vstack([_units(given), problem.lift(found)])
    if not len(points):
        points = _units(X[[int(np.argmax(norm_up(X) * norm_up(N)))]])
    values = _values(X, N, points)
    order = np.argsort(-values, kind="stable")
    points, values = points[order], values[order]
    bound = max(problem.upper(upper), float(values[0]))
    closed = bound - float(values[0]) <= 1e-8 * bound
    return VectorPricingBound(bound, float(values[0]), points, values, name, closed, interrupted)


def vector_norm_bound(X: FloatArray, N: FloatArray) -> float:
    r"""Spectral upper bound of :math:`\max_{\|u\| \le 1} \|N^\top (X u)_+\|` for data of any rank; rounding is added.

    With :math:`(t)_+ = (t + |t|)/2` and any positive diagonal E,

    .. math:: \|N^\top (X u)_+\| \le \tfrac12 \|N^\top X\|_2 + \tfrac12 \|N^\top E^{-1}\|_2\, \|E X\|_2 ,

    of which the identity and the square roots of the norms of the rows of N are tried.

    Examples
    --------
    >>> 4.0 <= vector_norm_bound(np.eye(2), np.array([[3.0, 0.0], [0.0, 4.0]])) <= 4.0 + 1e-9
    True
    """
    problem = reduce_vector_pricing(X, N)
    return 0.0 if problem is None else problem.upper(_spectral(problem))


def _spectral(problem: ReducedVectorPricing) -> float:
    rows, weights = problem.rows, problem.weights
    n = len(rows)
    half = problem.linear + 0.5 * (rows.T @ weights)
    # || |X|^T |N| ||_F <= sum_j ||x_j|| ||N_j||.
    linear = _norm_up(half) + gamma(n + 4) * problem.lipschitz
    sizes = norm_up(weights)
    kinks = math.inf
    for scale in (np.ones(n), np.sqrt(sizes)):
        live = scale > 0.0
        # The scale counts as given: 1 / scale and the products are rounded.
        first = math.sqrt(lambda_max_up(weights[live] / scale[live, None], np.ones(int(live.sum()))))
        second = math.sqrt(lambda_max_up(rows[live] * scale[live, None], np.ones(int(live.sum()))))
        kinks = min(kinks, first * second * (1.0 + gamma(8 * n + 32)))
    mass = float(sizes @ norm_up(rows)) * (1.0 + gamma(n + 4))
    return (linear + 0.5 * min(kinks, mass)) * (1.0 + 1e-15)


def _norm_up(matrix: FloatArray) -> float:
    """Upper bound of the spectral norm."""
    return math.sqrt(lambda_max_up(matrix, np.ones(len(matrix)))) * (1.0 + 1e-15)


def _units(points: FloatArray) -> FloatArray:
    live = points[np.any(points != 0.0, axis=1)]
    # A power of two first: squares of small entries would vanish.
    live = np.ldexp(live, -np.frexp(np.max(np.abs(live), axis=1, keepdims=True, initial=0.0))[1])
    return live / np.linalg.norm(live, axis=1, keepdims=True)


def _values(X: FloatArray, N: FloatArray, points: FloatArray) -> FloatArray:
    outputs = np.maximum(points @ X.T, 0.0) @ N
    exponent = np.frexp(np.max(np.abs(outputs), axis=1))[1]
    scaled = np.ldexp(outputs, -exponent[:, None])
    return np.ldexp(np.sqrt(np.sum(scaled * scaled, axis=1)), exponent)
