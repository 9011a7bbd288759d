"""Rigorous bounds of the pricing problem, ``max |nu^T (X u)_+|`` over the unit ball: the dual norm of `nu`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._local_search import DirectionPool, ascend, best_starts, standard_starts
from cvxnn.certificates._reduction import ReducedPricing, reduce_pricing
from cvxnn.certificates._rounding import FloatArray, gamma
from cvxnn.certificates._row_scaling import checked_mass
from cvxnn.certificates.cheap_bounds import cheap_bounds
from cvxnn.certificates.cone_branch_and_bound import cone_branch_and_bound
from cvxnn.certificates.sign_branch_and_bound import sign_branch_and_bound

METHODS = ("auto", "cone", "sign", "cheap")
# Where "auto" uses the two searches: cones up to this rank, signs up to this many rows (more under a limit).
_CONE_RANK = 5
_FEW_ROWS = 16
_FIRST_NODES = 20_000
_CONE_RANK_LIMIT = 7
_SIGN_ROWS = 50
_SIGN_ROWS_LIMITED = 500
_MAX_NODES = {"cone": 200_000, "sign": 150_000}
# A feasible value is a violation once it exceeds the target by this relative margin.
_VIOLATION = 1e-6


@dataclass(frozen=True)
class PricingBound:
    """Bounds of ``tau = max_{||u|| <= 1} |nu^T (X u)_+|`` and the feasible points behind the lower one.

    Attributes
    ----------
    upper : float
        Rigorous upper bound of ``tau``, floating-point errors included.
    lower : float
        Value at `direction`, evaluated in floating point; 0 where no direction has a positive value.
    direction : ndarray of shape (d,)
        Unit vector.
    sign : int
        The sign `s` for which ``s * nu^T (X direction)_+`` equals `lower`.
    method : str
        "cone branch and bound", "sign branch and bound", "rows", "norm", "spectral", "root" or "zero".
    nodes : int
        Nodes bounded by branch and bound.
    closed : bool
        Whether ``upper <= target``, or ``upper - lower <= tol * upper``, or the two differ by no more than the
        rounding errors of evaluating `lower`.
    directions, values, signs : ndarray
        The best distinct feasible points met, ``(k, d)``, ``(k,)`` and ``(k,)``, by falling value.
    interrupted : bool
        Whether a keyboard interrupt ended the search; the bounds hold all the same.
    """

    upper: float
    lower: float
    direction: npt.NDArray[np.float64]
    sign: int
    method: str
    nodes: int
    closed: bool
    directions: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    signs: npt.NDArray[np.int64]
    interrupted: bool = False


def pricing_bound(
    X: npt.ArrayLike,
    nu: npt.ArrayLike,
    *,
    target: float | None = None,
    tol: float = 1e-9,
    time_limit: float | None = None,
    max_nodes: int | None = None,
    method: str = "auto",
    starts: npt.ArrayLike | None = None,
    stop_at_violation: bool = False,
) -> PricingBound:
    r"""Bound the dual norm ``tau = max_{||u|| <= 1} |nu^T (X u)_+|`` from both sides.

    The upper bound holds in exact arithmetic for the given floating-point data: all rounding errors are added to it.

    Parameters
    ----------
    X : array-like of shape (n, d)
    nu : array-like of shape (n,)
    target : float, optional
        Stop, with ``closed`` true, as soon as ``upper <= target``; typically ``beta`` and a little more.
    tol : float
        Stop as soon as ``upper - lower <= tol * upper``.
    time_limit : float, optional
        Seconds for the branch and bound.
    max_nodes : int, optional
        Nodes for the branch and bound; by default 200 000 for "cone" and 150 000 for "sign".
    method : {"auto", "cone", "sign", "cheap"}
        "cone" branches on cones and closes up to rank 4 or 5, for any n; "sign" branches on signs of the rows with
        positive weight and closes for some tens of rows, at any rank; "cheap" does not branch. "auto" chooses by
        size, and runs "sign" on more rows too where a limit is given.
    starts : array-like of shape (k, d), optional
        Directions from which to look for feasible points, besides the standard ones.
    stop_at_violation : bool
        Stop, too, once a feasible value exceeds `target` by a relative margin of 1e-6.

    Returns
    -------
    PricingBound

    Raises
    ------
    ValueError
        If the shapes do not agree, an entry is not finite or so large that products overflow, or `method` is unknown or
        cannot handle the rank.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1: the constraint of the dual problem.

    Examples
    --------
    >>> import numpy as np
    >>> bound = pricing_bound(np.eye(2), [3.0, -4.0])
    >>> round(bound.upper, 6), round(bound.lower, 6), bound.sign, bound.closed
    (4.0, 4.0, -1, True)
    """
    X, nu, seeds = _validated(X, nu, starts, method)
    mass = checked_mass(X, nu[:, None], "nu")
    deadline = None if time_limit is None else time.monotonic() + time_limit
    problem = reduce_pricing(X, nu)
    if problem is None:
        axis = np.zeros(X.shape[1])
        axis[:1] = 1.0
        return PricingBound(0.0, 0.0, axis, 1, "zero", 0, True, axis[None, :], np.zeros(1), np.ones(1, dtype=np.int64))
    pool = _seeded_pool(problem, seeds, deadline)
    bounds = cheap_bounds(problem)
    name = min(bounds, key=lambda key: bounds[key])
    upper, nodes, interrupted = bounds[name], 0, False
    goal = None if target is None else problem.threshold(target)
    settled = goal is not None and upper <= goal
    violation = None if target is None or not stop_at_violation else problem.threshold(target * (1.0 + _VIOLATION))
    settled = settled or (violation is not None and pool.best > violation)
    for search, limit in _plan(problem, method, time_limit is not None or max_nodes is not None):
        if settled:
            break
        run = cone_branch_and_bound if search == "cone" else sign_branch_and_bound
        result = run(
            problem,
            pool,
            target=goal,
            stop_above=violation,
            tol=0.5 * tol,
            deadline=deadline,
            max_nodes=limit if max_nodes is None else max_nodes,
        )
        nodes, interrupted = nodes + result.nodes, result.interrupted
        if result.upper <= upper:
            upper, name = result.upper, f"{search} branch and bound"
        settled = interrupted or upper <= max(goal or 0.0, pool.best * (1.0 + tol))
        settled = settled or (violation is not None and pool.best > violation)
    return _report(X, nu, problem, pool, problem.upper(upper), name, nodes, interrupted, target, tol, mass)


def _validated(
    X: npt.ArrayLike, nu: npt.ArrayLike, starts: npt.ArrayLike | None, method: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    X = np.asarray(X, dtype=np.float64)
    nu = np.asarray(nu, dtype=np.float64)
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"X must be a matrix of shape (n, d) with d > 0, but it has shape {X.shape}.")
    if nu.shape != (len(X),):
        raise ValueError(f"nu must have shape ({len(X)},) to match X, but it has shape {nu.shape}.")
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(nu))):
        raise ValueError("X and nu must be finite, but one of them has a NaN or an infinite entry.")
    seeds = np.zeros((0, X.shape[1])) if starts is None else np.atleast_2d(np.asarray(starts, dtype=np.float64))
    if seeds.shape[1:] != X.shape[1:]:
        raise ValueError(f"starts must have {X.shape[1]} columns to match X, but it has shape {seeds.shape}.")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but it is {method!r}.")
    return X, nu, seeds


def _plan(problem: ReducedPricing, method: str, limited: bool) -> list[tuple[str, int]]:
    """Branch and bound methods to try in turn, with the nodes that each may take."""
    if method == "cone" and problem.rank > _CONE_RANK_LIMIT:
        raise ValueError(
            f"method 'cone' works up to rank {_CONE_RANK_LIMIT}, but X has rank {problem.rank}; use 'sign' or 'cheap'."
        )
    if method == "cheap":
        return []
    if method != "auto":
        return [(method, _MAX_NODES[method])]
    n = len(problem.rows)
    if n <= _FEW_ROWS and problem.rank > 2:
        return [("sign", _MAX_NODES["sign"])]
    # At rank 5 the cones win from about thirty rows on.
    if problem.rank < _CONE_RANK or (problem.rank == _CONE_RANK and n > 30):
        if n > _SIGN_ROWS:
            return [("cone", _MAX_NODES["cone"])]
        # Nearly parallel rows leave cones that no bisection separates, while their signs are few.
        return [("cone", _FIRST_NODES), ("sign", _MAX_NODES["sign"])]
    return [("sign", _MAX_NODES["sign"])] if n <= (_SIGN_ROWS_LIMITED if limited else _SIGN_ROWS) else []


def _seeded_pool(problem: ReducedPricing, seeds: FloatArray, deadline: float | None) -> DirectionPool:
    """Return feasible points from local ascents for both signs."""
    pool = DirectionPool(problem)
    given = seeds if problem.basis is None else seeds @ problem.basis
    pool.add(*_both_signs(given))
    points, signs = _both_signs(np.vstack([best_starts(problem, given), standard_starts(problem)]))
    pool.add(points, signs)
    pool.add(*ascend(problem, points, signs, deadline=deadline))
    return pool


def _both_signs(points: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    return np.vstack([points, points]), np.repeat(np.array([1, -1], dtype=np.int64), len(points))


def _report(
    X: FloatArray,
    nu: FloatArray,
    problem: ReducedPricing,
    pool: DirectionPool,
    upper: float,
    name: str,
    nodes: int,
    interrupted: bool,
    target: float | None,
    tol: float,
    mass: float,
) -> PricingBound:
    directions, signs = problem.lift(pool.directions), pool.signs
    values = signs * (np.maximum(directions @ X.T, 0.0) @ nu)
    order = np.argsort(-values, kind="stable")
    directions, values, signs = directions[order], values[order], signs[order]
    lower = max(float(values[0]), 0.0)
    upper = max(upper, lower) if math.isfinite(upper) else upper
    closed = (target is not None and upper <= target) or upper - lower <= tol * upper
    closed = closed or upper - lower <= 4.0 * gamma(sum(X.shape) + 8) * mass
    return PricingBound(
        upper, lower, directions[0], int(signs[0]), name, nodes, bool(closed), directions, values, signs, interrupted
    )
