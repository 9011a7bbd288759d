"""Convex quadratic programs over the non-negative orthant: block pivoting, interior point where that fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, get_lapack_funcs

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["minimize_nonnegative_quadratic", "pivot_nonnegative_quadratic"]

# The wrappers of this take longer than the routine on small matrices.
_POSV: Any = get_lapack_funcs("posv", dtype=np.float64)
_MAX_PIVOTS = 20
_MAX_EXCHANGES = 3
_MAX_INTERIOR = 60
_MAX_ACTIVE = 60


def minimize_nonnegative_quadratic(gram: FloatArray, linear: FloatArray, *, gap: float = 0.0) -> FloatArray:
    r"""Minimise :math:`\tfrac12 c^\top G c - b^\top c` over :math:`c \ge 0` for a positive semidefinite G.

    Block principal pivoting first: it solves on a support and exchanges all coordinates of wrong sign at once, and
    needs a handful of factorisations where G is well conditioned. Where it does not settle, Mehrotra's
    predictor-corrector method down to a duality gap, then Newton steps on the support that it found, which make the
    small masses exact zeros and the others exact solutions.

    Parameters
    ----------
    gram : ndarray (k, k)
        Positive semidefinite matrix G.
    linear : ndarray (k,)
        Linear term b.
    gap : float, default 0
        Duality gap, in units of the objective, at which the interior point method may stop.

    Returns
    -------
    ndarray (k,)
        Minimiser; coordinates with ``G_ii = 0`` are set to zero.

    References
    ----------
    Portugal, Judice and Vicente (1994), "A comparison of block pivoting and interior-point algorithms for linear least
    squares problems with nonnegative variables"; Mehrotra (1992); Nocedal and Wright (2006), "Numerical Optimization",
    section 16.6.

    Examples
    --------
    >>> import numpy as np
    >>> minimize_nonnegative_quadratic(np.eye(2), np.array([2.0, -1.0]))
    array([2., 0.])
    """
    out = np.zeros(len(linear))
    used, scale, unit, rhs, size = _normalised(gram, linear)
    if np.max(rhs, initial=0.0) <= 0.0:
        return out
    solved = _pivot(unit, rhs, np.ones(len(rhs), dtype=bool))
    if solved is None:
        point, slack = _interior_point(unit, rhs, gap / size**2)
        solved = _finish(unit, rhs, point, slack)
    out[used] = solved * scale * size
    return out


def pivot_nonnegative_quadratic(gram: FloatArray, linear: FloatArray, support: BoolArray) -> FloatArray | None:
    """Like :func:`minimize_nonnegative_quadratic`, by block pivoting from a support ``(k,)`` only.

    None where that does not settle; near the right support it does within a few factorisations.

    Examples
    --------
    >>> import numpy as np
    >>> pivot_nonnegative_quadratic(np.eye(2), np.array([2.0, -1.0]), np.array([False, True]))
    array([2., 0.])
    """
    out = np.zeros(len(linear))
    used, scale, unit, rhs, size = _normalised(gram, linear)
    if np.max(rhs, initial=0.0) <= 0.0:
        return out
    solved = _pivot(unit, rhs, support[used])
    if solved is None:
        return None
    out[used] = solved * scale * size
    return out


def _normalised(gram: FloatArray, linear: FloatArray) -> tuple[IntArray, FloatArray, FloatArray, FloatArray, float]:
    """Coordinates with curvature, their scales, and the problem in them: unit diagonal, right-hand side of size one."""
    diagonal = np.diagonal(gram)
    used = np.flatnonzero(diagonal > 0)
    scale = 1.0 / np.sqrt(diagonal[used])
    unit = gram[np.ix_(used, used)] * scale[:, None] * scale
    rhs = linear[used] * scale
    size = float(np.max(np.abs(rhs), initial=0.0))
    return used, scale, unit, rhs / size if size > 0.0 else rhs, size


def _pivot(gram: FloatArray, rhs: FloatArray, support: BoolArray) -> FloatArray | None:
    """Block principal pivoting from a support; None where it does not end at a point that meets the conditions."""
    k = len(rhs)
    fewest, exchanges = k + 1, _MAX_EXCHANGES
    for _ in range(_MAX_PIVOTS):
        index = np.flatnonzero(support)
        point = np.zeros(k)
        if index.size:
            _, point[index], info = _POSV(gram[np.ix_(index, index)], rhs[index], lower=1, overwrite_a=1)
            if info != 0:
                return None
        gradient = gram @ point - rhs
        if not np.max(np.abs(gradient[index]), initial=0.0) <= 1e-10:
            return None
        gradient[index] = 0.0
        wrong = (support & (point <= 0.0)) | (gradient < -1e-13)
        count = int(np.count_nonzero(wrong))
        if count == 0:
            return point
        if count < fewest:
            fewest, exchanges = count, _MAX_EXCHANGES
        elif exchanges == 0:
            return None
        else:
            exchanges -= 1
        support = support ^ wrong
    return None


def _interior_point(gram: FloatArray, rhs: FloatArray, gap: float) -> tuple[FloatArray, FloatArray]:
    """Primal-dual point of ``min 1/2 c'Gc - rhs'c`` with G of unit diagonal and ``max |rhs| = 1``."""
    k = len(rhs)
    # Along the all-ones ray the objective is least at this scale.
    ray = max(float(rhs.sum()), 1.0) / max(float(gram.sum()), 1.0)
    point = np.full(k, max(ray, 1e-3 / k))
    slack = np.maximum(gram @ point - rhs, 0.1)
    goal = max(gap, 1e-15)
    for _ in range(_MAX_INTERIOR):
        dual = gram @ point - rhs - slack
        mu = float(point @ slack)
        if mu <= goal and float(np.max(np.abs(dual))) <= 1e-10:
            break
        matrix = gram.copy()
        matrix[np.diag_indices(k)] += slack / point
        try:
            factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            break
        move = cho_solve(factor, -dual - slack, check_finite=False)
        rise = -slack - slack * move / point
        affine = _largest_step(point, move, slack, rise)
        centre = (float((point + affine * move) @ (slack + affine * rise)) / mu) ** 3 * mu / k
        target = (centre - move * rise) / point - slack
        move = cho_solve(factor, target - dual, check_finite=False)
        rise = target - slack * move / point
        step = 0.995 * _largest_step(point, move, slack, rise)
        point = point + step * move
        slack = slack + step * rise
    return point, slack


def _largest_step(point: FloatArray, move: FloatArray, slack: FloatArray, rise: FloatArray) -> float:
    ratio = max(float(np.max(-move / point)), float(np.max(-rise / slack)))
    return 1.0 if ratio <= 1.0 else 1.0 / ratio


def _finish(gram: FloatArray, rhs: FloatArray, point: FloatArray, slack: FloatArray) -> FloatArray:
    """Exact solution on the support; the interior point (small masses cut) where the active set does not settle."""
    support = point > slack
    cut = np.where(support, point, 0.0)
    current = cut
    for _ in range(_MAX_ACTIVE):
        index = np.flatnonzero(support)
        try:
            factor = cho_factor(gram[np.ix_(index, index)], check_finite=False)
        except LinAlgError:
            break
        solved = cho_solve(factor, rhs[index], check_finite=False) if index.size else np.zeros(0)
        if not np.all(np.isfinite(solved)):
            break
        if np.all(solved > 0.0):
            current = np.zeros_like(rhs)
            current[index] = solved
            gradient = gram @ current - rhs
            gradient[index] = 0.0
            worst = int(np.argmin(gradient))
            if gradient[worst] >= -1e-13:
                return current
            support[worst] = True
        else:
            start = current[index]
            move = solved - start
            falling = solved <= 0.0
            step = min(1.0, float(np.min(start[falling] / (start[falling] - solved[falling]))))
            current = np.zeros_like(rhs)
            current[index] = np.maximum(start + step * move, 0.0)
            hit = index[falling & (current[index] <= 1e-14)]
            if hit.size == 0:
                break
            current[hit] = 0.0
            support[hit] = False
    candidates = [point, cut, current]
    return min(candidates, key=lambda c: 0.5 * float(c @ (gram @ c)) - float(rhs @ c))
