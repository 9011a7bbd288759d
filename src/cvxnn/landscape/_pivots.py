"""Walk along the edges of a polytope of masses ``{c >= 0 : A c = f}`` from one vertex to another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr

from cvxnn.landscape._masses import RANK_TOL

FloatArray = npt.NDArray[np.float64]

_PIVOT_TOL = 1e-10
_ZERO_MASS = 1e-13
_DANTZIG_STALL = 20


def edge_walk(
    columns: FloatArray, start: FloatArray, goal: FloatArray, width: int, *, tol: float = RANK_TOL
) -> list[FloatArray] | None:
    r"""Vertices from ``start`` to ``goal``, neighbours with at most ``width`` positive masses in all.

    The simplex method for the sum of the masses that are zero at the goal: it is zero there only, since the columns of
    the goal are independent. An edge has at most rank + 1 positive masses, so the walk exists from that width on.

    Parameters
    ----------
    columns : ndarray (n, k)
        Contributions A of the atoms.
    start, goal : ndarray (k,)
        Masses of the same fit, with independent columns where they are positive.
    width : int
        Most positive masses on the way.
    tol : float
        Unit columns are dependent where elimination leaves less than this.

    Returns
    -------
    list of ndarray (k,) or None
        Masses, ``start`` and ``goal`` included; None where the walk needs more than ``width`` neurons,
        or the columns are so nearly dependent that it fails in floating point.
    """
    if _union(start, goal) <= width:
        return [start, goal]
    norms = np.linalg.norm(columns, axis=0)
    unit = columns / norms
    coordinates, rank = _coordinates(unit, tol)
    if max(np.count_nonzero(start), np.count_nonzero(goal)) > rank:
        return None
    try:
        return _simplex(coordinates, rank, norms, start, goal, width)
    except np.linalg.LinAlgError:
        return None


def _simplex(
    coordinates: FloatArray, rank: int, norms: FloatArray, start: FloatArray, goal: FloatArray, width: int
) -> list[FloatArray] | None:
    """Pivots of the simplex method, one vertex after the other; masses of unit columns are of the scale of the fit."""
    walk = [start]
    fit = coordinates @ (start * norms)
    cost = (goal == 0.0).astype(np.float64)
    basis = _starting_basis(coordinates, start > 0.0, rank)
    stalled = 0
    for _ in range(50 * (len(start) + rank)):
        table: FloatArray = np.linalg.solve(coordinates[:, basis], np.column_stack([coordinates, fit])).astype(
            np.float64
        )
        values = np.maximum(table[:, -1], 0.0)
        table = table[:, :-1]
        reduced = cost - cost[basis] @ table
        reduced[basis] = 0.0
        entering = np.flatnonzero(reduced < -_PIVOT_TOL)
        if entering.size == 0:
            break
        # Bland's rule once steps have been empty for a while: it cannot cycle.
        bland = stalled > _DANTZIG_STALL
        column = int(entering[0]) if bland else int(entering[np.argmin(reduced[entering])])
        leaving = _leaving(table[:, column], values, basis, bland=bland)
        if leaving < 0:
            return None
        step = values[leaving] / table[leaving, column]
        stalled = stalled + 1 if step <= _ZERO_MASS * float(values.max(initial=0.0)) else 0
        basis[leaving] = column
        if stalled:
            continue
        current = _vertex(coordinates, basis, fit) / norms
        if _union(walk[-1], current) > width:
            return None
        walk.append(current)
        if _union(current, goal) <= width:
            return [*walk, goal]
    return [*walk, goal] if _union(walk[-1], goal) <= width else None


def _union(first: FloatArray, second: FloatArray) -> int:
    """Number of masses that are positive in one of the two."""
    return int(np.count_nonzero((first > 0.0) | (second > 0.0)))


def _coordinates(unit: FloatArray, tol: float) -> tuple[FloatArray, int]:
    """Coordinates of the columns in an orthonormal basis of their span, and its dimension."""
    factored: Any = qr(unit, mode="economic", pivoting=True)
    q, triangle, _ = factored
    rank = int(np.count_nonzero(np.abs(np.diagonal(triangle)) > tol))
    return q[:, :rank].T @ unit, rank


def _starting_basis(coordinates: FloatArray, support: npt.NDArray[np.bool_], rank: int) -> npt.NDArray[np.intp]:
    """Columns of the support, completed to a basis of the span by pivoted elimination of the others."""
    inside, others = np.flatnonzero(support), np.flatnonzero(~support)
    q, _ = np.linalg.qr(coordinates[:, inside])
    rest = coordinates[:, others] - q @ (q.T @ coordinates[:, others])
    factored: Any = qr(rest, mode="r", pivoting=True)
    return np.concatenate([inside, others[factored[1][: rank - inside.size]]])


def _leaving(direction: FloatArray, values: FloatArray, basis: npt.NDArray[np.intp], *, bland: bool) -> int:
    """Row of the ratio test; among ties the largest pivot, or the first column under Bland's rule."""
    rows = np.flatnonzero(direction > _PIVOT_TOL)
    if rows.size == 0:
        return -1
    ratios = values[rows] / direction[rows]
    ties = rows[ratios <= ratios.min() + _ZERO_MASS * float(values.max(initial=0.0))]
    return int(ties[np.argmin(basis[ties])] if bland else ties[np.argmax(direction[ties])])


def _vertex(coordinates: FloatArray, basis: npt.NDArray[np.intp], fit: FloatArray) -> FloatArray:
    """Masses of a basis, with those of the size of rounding errors set to zero."""
    values = np.linalg.solve(coordinates[:, basis], fit)
    values[values <= 1e-11 * float(np.max(values, initial=0.0))] = 0.0
    out = np.zeros(coordinates.shape[1])
    out[basis] = values
    return out
