r"""Two balanced neurons on data with one feature: a function of two variables that is convex on each quadrant.

With :math:`z_i = |a_i| w_i` and balanced neurons the objective is

.. math:: L(z_1, z_2) = \mathrm{loss}\big(s_1 (X z_1)_+ + s_2 (X z_2)_+\big) + \beta (|z_1| + |z_2|).

There are two open cells, z > 0 and z < 0. On a quadrant both patterns are fixed, and L is the objective of the convex
program confined to these two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._masses import minimize_masses
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["CriticalPoint", "Region", "critical_points", "regions", "surface"]

_SAME = 1e-9
"""Points closer than this, relative to the largest coordinate, count as one."""

_SLOPE_TOL = 1e-7
"""Slopes within this of zero, relative to beta and the slope of the loss, count as zero."""


@dataclass(frozen=True, eq=False)
class Region:
    """A quadrant of the surface, on which the activation patterns of both neurons are fixed.

    Attributes
    ----------
    cells : ndarray (2,)
        Sign of each ``z_i`` in the region.
    masks : bool ndarray (2, n)
        Samples on which each neuron is active.
    ends : ndarray (2, 2)
        The optima of the convex program on the closed region are the segment between these two points, which are
        equal where the optimum is unique.
    objective : float
        Optimal value of that program.
    is_minimum : bool
        Whether the middle of the segment is a local minimum of the whole surface.
    """

    cells: FloatArray
    masks: BoolArray
    ends: FloatArray
    objective: float
    is_minimum: bool


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """A point at which 0 lies in Clarke's subdifferential.

    Attributes
    ----------
    position : ndarray (2,)
    objective : float
    is_minimum : bool
        Whether it is a local minimum. Otherwise a one-sided derivative is negative.
    """

    position: FloatArray
    objective: float
    is_minimum: bool


def surface(problem: Problem, signs: FloatArray, points: FloatArray) -> FloatArray:
    """Objective at points ``(k, 2)``."""
    hidden = np.maximum(points[:, :, None] * problem.X[:, 0], 0.0)
    fits = np.einsum("kin,i->kn", hidden, signs)
    return problem.beta * np.abs(points).sum(axis=1) + [problem.loss_value(fit) for fit in fits]


def regions(problem: Problem, signs: FloatArray) -> list[Region]:
    """Solve the four convex programs."""
    found = []
    for cells in product((1.0, -1.0), repeat=2):
        e = np.array(cells)
        columns = np.maximum(problem.X * e, 0.0) * signs
        if e[0] == e[1] and signs[0] == signs[1]:
            # Only the sum of the two masses matters.
            total = minimize_masses(problem, columns[:, :1], np.zeros(1))[0]
            masses = np.array([[total, 0.0], [0.0, total]])
        else:
            masses = np.tile(minimize_masses(problem, columns, np.zeros(2)), (2, 1))
        ends = masses * e + 0.0
        middle = ends.mean(axis=0)
        found.append(
            Region(
                cells=e,
                masks=(problem.X * e > 0).T,
                ends=ends,
                objective=float(surface(problem, signs, middle[None])[0]),
                is_minimum=_verdict(problem, signs, middle)[1],
            )
        )
    return found


def critical_points(problem: Problem, signs: FloatArray, found: list[Region]) -> list[CriticalPoint]:
    """Isolated candidates that are critical: optima and ends of the regions, optima on half axes, and the origin."""
    alone = np.zeros((2, 2))
    for k, e in enumerate((1.0, -1.0)):
        for i in range(2):
            column = np.maximum(problem.X * e, 0.0) * signs[i]
            alone[i, k] = e * minimize_masses(problem, column, np.zeros(1))[0]
    candidates = [np.zeros(2), *[end for region in found for end in region.ends]]
    candidates += [np.array([z, 0.0]) for z in alone[0]] + [np.array([0.0, z]) for z in alone[1]]
    size = max(float(np.abs(candidates).max()), np.finfo(np.float64).tiny)
    kept: list[CriticalPoint] = []
    for point in candidates:
        if any(np.max(np.abs(point - other.position)) <= _SAME * size for other in kept):
            continue
        is_critical, is_minimum = _verdict(problem, signs, point)
        if is_critical:
            value = float(surface(problem, signs, point[None])[0])
            kept.append(CriticalPoint(point + 0.0, value, is_minimum))
    return kept


def _verdict(problem: Problem, signs: FloatArray, point: FloatArray) -> tuple[bool, bool]:
    """Whether a point is critical in Clarke's sense, and whether it is a local minimum.

    The loss is smooth and each coordinate has its own kink, so that the subdifferential is a box, and all one-sided
    derivatives are sums of those along the axes. Where none is negative the point is the optimum of each convex
    program whose region it touches, hence a local minimum.
    """
    x, beta = problem.X[:, 0], problem.beta
    nu = problem.dual_vector(np.maximum(np.outer(x, point), 0.0) @ signs)
    critical = minimum = True
    for z, sign in zip(point, signs, strict=True):
        pull = {e: sign * float(nu @ np.maximum(e * x, 0.0)) for e in (1.0, -1.0)}
        tol = _SLOPE_TOL * (beta + float(np.abs(nu) @ np.abs(x)))
        if z == 0.0:
            # Slopes on leaving zero to either side.
            right, left = beta - pull[1.0], beta - pull[-1.0]
            critical &= min(right, -left) <= tol and max(right, -left) >= -tol
            minimum &= min(right, left) >= -tol
        else:
            flat = abs(beta - pull[float(np.sign(z))]) <= tol
            critical &= flat
            minimum &= flat
    return bool(critical), bool(minimum)
