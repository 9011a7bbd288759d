r"""One-sided derivatives of the objective in one hidden weight vector, and what is least about them.

Moving a neuron w by a small vector d changes the objective at first order by

.. math:: \varphi(d) = g^\top d - \sum_l c_l (u_l^\top d)_+

with one unit vector :math:`u_l` for each line through the origin that carries samples with :math:`x_j^\top w = 0`. A
kink with :math:`c_l \le 0` is convex, one with :math:`c_l > 0` concave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear, nnls

from cvxnn.patterns import PatternLimitError, enumerate_patterns
from cvxnn.patterns._geometry import line_representatives

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["Descent", "Kinks", "clarke_residual", "make_kinks", "steepest_descent"]

_NEGLIGIBLE = 1e-13
_INDEPENDENT = 1e-8
_SAMPLED_CELLS = 200


@dataclass(frozen=True)
class Kinks:
    """First-order model :math:`g^T d - sum_l c_l (u_l^T d)_+` of the objective in one weight vector.

    Attributes
    ----------
    gradient : ndarray (d,)
    lines : ndarray (k, d)
        Unit vectors, no two on one line.
    weights : ndarray (k,)
        The numbers c, none of them negligible; positive ones belong to concave kinks.
    """

    gradient: FloatArray
    lines: FloatArray
    weights: FloatArray

    def derivative(self, direction: FloatArray) -> float:
        """One-sided derivative along ``direction``."""
        return float(self.gradient @ direction - self.weights @ np.maximum(self.lines @ direction, 0.0))


@dataclass(frozen=True)
class Descent:
    """Least one-sided derivative over unit vectors.

    Attributes
    ----------
    rate : float
        ``max(0, -min derivative)``; only a lower bound of it unless ``exact``.
    vector : ndarray (d,)
        ``rate`` times a unit vector along which the derivative is ``-rate``.
    exact : bool
        Whether every cell was looked at.
    """

    rate: float
    vector: FloatArray
    exact: bool


def make_kinks(gradient: FloatArray, rows: FloatArray, slopes: FloatArray) -> Kinks:
    r"""Write :math:`g^\top d - \sum_j b_j (x_j^\top d)_+` with one kink for each line.

    Samples on one line with either orientation share a kink, since
    :math:`p\,t_+ + q\,(-t)_+ = (p + q)\,t_+ - q\,t`.

    Parameters
    ----------
    gradient : ndarray (d,)
    rows : ndarray (k, d)
        Samples on the kink, none of them zero.
    slopes : ndarray (k,)
        The numbers b.
    """
    if len(rows) == 0:
        return Kinks(gradient, np.zeros((0, len(gradient))), np.zeros(0))
    norms = np.linalg.norm(rows, axis=1)
    units = rows / norms[:, None]
    lines = units[line_representatives(units)]
    cosines = units @ lines.T
    home = np.argmax(np.abs(cosines), axis=1)
    forward = cosines[np.arange(len(home)), home] > 0
    heights = slopes * norms
    ahead = np.bincount(home, np.where(forward, heights, 0.0), len(lines))
    behind = np.bincount(home, np.where(forward, 0.0, heights), len(lines))
    weights = np.asarray(ahead + behind, dtype=np.float64)
    size = max(float(np.linalg.norm(gradient)), float(np.max(np.abs(heights), initial=0.0)))
    keep = np.abs(weights) > _NEGLIGIBLE * size
    return Kinks(gradient + behind @ lines, lines[keep], weights[keep])


def steepest_descent(kinks: Kinks, max_cells: int) -> Descent:
    r"""Minimise the derivative over the unit ball.

    On each cell of the concave kinks the model is convex, and its minimum over the unit ball is minus the distance

    .. math:: \min_{0 \le t_l \le |c_l|,\ \rho \ge 0} \Big\| g - \sum_{\text{on}} c_l u_l
              + \sum_{\text{convex}} t_l u_l - \sum_{\text{concave}} \rho_l o_l u_l \Big\|,

    with :math:`o_l = 1` where the kink is on in the cell and -1 elsewhere; minus the residual is the steepest descent.

    Parameters
    ----------
    kinks : Kinks
    max_cells : int
        Most cells of the concave kinks to look at; beyond it a few hundred are drawn, and the result is not exact.
    """
    concave = kinks.weights > 0
    folds = kinks.lines[~concave].T
    bends, depths = kinks.lines[concave], kinks.weights[concave]
    cells, exact = _cells(bends, max_cells)
    heights = -kinks.weights[~concave]
    high = np.concatenate([heights, np.full(len(bends), np.inf)])
    worst = np.zeros(len(kinks.gradient))
    rate = 0.0
    for cell in cells:
        walls = -np.where(cell, 1.0, -1.0)[:, None] * bends
        start = kinks.gradient - (depths * cell) @ bends
        residual = _bounded_residual(start, np.hstack([folds, walls.T]), high)
        length = float(np.linalg.norm(residual))
        # The residual of a badly solved cell would promise too much: the derivative itself decides.
        found = -kinks.derivative(-residual / length) if length > 0.0 else 0.0
        if found > rate:
            rate, worst = found, -residual * (found / length)
    return Descent(rate, worst, exact)


def clarke_residual(kinks: Kinks, max_cells: int) -> tuple[float, bool]:
    r"""Distance of 0 from the hull of the gradients of all adjacent cells, and whether it is exact.

    Where the kinks are linearly independent, or all of one kind, the hull is the zonotope
    :math:`g - \sum_l [0, c_l] u_l`; elsewhere the cells are enumerated. When they are more than ``max_cells``, the
    distance from the zonotope is returned: a lower bound.
    """
    zonotope = np.linalg.norm(
        _bounded_residual(kinks.gradient, -np.sign(kinks.weights) * kinks.lines.T, np.abs(kinks.weights))
    )
    one_kind = bool(np.all(kinks.weights > 0) or np.all(kinks.weights < 0))
    if one_kind or _independent(kinks.lines):
        return float(zonotope), True
    cells, exact = _cells(kinks.lines, max_cells)
    if not exact:
        return float(zonotope), False
    points = kinks.gradient - (cells * kinks.weights) @ kinks.lines
    return float(np.linalg.norm(_nearest_point(points))), True


def _cells(lines: FloatArray, max_cells: int) -> tuple[BoolArray, bool]:
    """Cells of an arrangement ``(P, k)``; some of them, and False, when they are more than ``max_cells``."""
    if len(lines) == 0:
        return np.ones((1, 0), dtype=np.bool_), True
    if _independent(lines) and 2.0 ** len(lines) <= max_cells:
        return (np.arange(2 ** len(lines))[:, None] >> np.arange(len(lines)) & 1).astype(np.bool_), True
    try:
        return enumerate_patterns(lines, max_patterns=max_cells).masks, True
    except PatternLimitError:
        gates = np.random.default_rng(0).standard_normal((_SAMPLED_CELLS, lines.shape[1]))
        return np.unique(np.vstack([gates, lines, -lines]) @ lines.T >= 0, axis=0), False


def _independent(lines: FloatArray) -> bool:
    if len(lines) > lines.shape[1]:
        return False
    return len(lines) == 0 or float(np.linalg.svd(lines, compute_uv=False)[-1]) > _INDEPENDENT


def _bounded_residual(target: FloatArray, columns: FloatArray, high: FloatArray) -> FloatArray:
    """Residual ``target + columns t`` of least norm over ``0 <= t <= high``."""
    if columns.shape[1] == 0:
        return target
    scale = float(np.linalg.norm(target))
    if scale == 0.0:
        return target
    if np.all(np.isinf(high)):
        t, _ = nnls(columns, -target / scale, maxiter=50 * columns.shape[1] + 100)
    else:
        solution: Any = lsq_linear(
            columns, -target / scale, (np.zeros(len(high)), high / scale), method="bvls", tol=1e-15, max_iter=1000
        )
        t = solution.x
    return target + columns @ (t * scale)


def _nearest_point(points: FloatArray) -> FloatArray:
    """Point of least norm in the hull of ``points (P, d)``.

    With a row of ones appended, non-negative least squares against (0, 1) finds a multiple of it: for the sum s of
    the coefficients the cost is ``s^2 rho^2 + (1 - s)^2``, rho being the distance of the hull.
    """
    scale = float(np.max(np.linalg.norm(points, axis=1)))
    if scale == 0.0:
        return np.zeros(points.shape[1])
    system = np.vstack([points.T / scale, np.ones(len(points))])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    t, _ = nnls(system, goal, maxiter=50 * len(points) + 100)
    return (t / t.sum()) @ points
