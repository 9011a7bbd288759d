"""Smallest and largest supports of the vertices of a polytope of masses that has too many vertices to list."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp, nnls

from cvxnn.landscape._polytope import MassPolytope

FloatArray = npt.NDArray[np.float64]

__all__ = ["SupportBounds", "largest_vertex_support", "smallest_support"]

_RESIDUAL = 1e-10
_ABOVE_NOISE = 1e2
_TRIALS = 50


class SupportBounds(NamedTuple):
    """Proved bounds of a support size, and masses that attain the known one (the upper one of a minimum)."""

    lower: int
    upper: int
    masses: FloatArray


def smallest_support(polytope: MassPolytope, *, time_limit: float) -> SupportBounds:
    r"""Bound the least number of positive masses by mixed-integer programming (HiGHS).

    .. math:: \min \sum_i b_i \quad\text{subject to}\quad A c = y^*,\ 0 \le c_i \le \bar c_i b_i,\ b_i \in \{0, 1\}

    with the largest mass :math:`\bar c_i` of each atom. An integer solution is accepted only after its support was
    checked to carry the fit.
    """
    k = polytope.n_atoms
    if polytope.is_trivial:
        return SupportBounds(0, 0, np.zeros(k))
    A, b, scales, _ = polytope.system
    largest = polytope.ranges[:, 1] / scales
    fixed = polytope.ranges[:, 0] > 0.0
    best = _fewest(polytope.corners)
    # Masses in units of their largest values, so that all variables lie in [0, 1].
    share = np.where(largest > 0.0, largest, 0.0)
    between: Any = Bounds
    equal: Any = LinearConstraint
    result = milp(
        np.concatenate([np.zeros(k), np.ones(k)]),
        constraints=[
            equal(np.hstack([A * share, np.zeros_like(A)]), b, b),
            equal(np.hstack([np.eye(k), -np.eye(k)]), -np.inf, 0.0),
        ],
        integrality=np.concatenate([np.zeros(k), np.ones(k)]),
        bounds=between(np.zeros(2 * k), np.concatenate([np.ones(k), np.where(share > 0.0, 1.0, 0.0)])),
        options={"time_limit": time_limit, "mip_rel_gap": 0.0},
    )
    lower = max(int(np.sum(fixed)), 1)
    if result.mip_dual_bound is not None and math.isfinite(result.mip_dual_bound):
        lower = max(lower, math.ceil(float(result.mip_dual_bound) - 1e-6))
    if result.x is not None:
        candidate = _on_support(polytope, np.asarray(result.x)[k:] > 0.5)
        if candidate is not None and np.sum(candidate > 0.0) < np.sum(best > 0.0):
            best = candidate
    upper = int(np.sum(best > 0.0))
    return SupportBounds(min(lower, upper), upper, best)


def largest_vertex_support(polytope: MassPolytope, random_state: int = 0) -> SupportBounds:
    """Bound the largest support of a vertex: from below by vertices of random objectives, from above by the rank."""
    if polytope.is_trivial:
        return SupportBounds(0, 0, np.zeros(polytope.n_atoms))
    rng = np.random.default_rng(random_state)
    upper = polytope.face.rank
    corners = polytope.corners
    checked = [corner for corner in corners if _is_vertex(polytope, corner)]
    best = max(checked, key=lambda corner: int(np.sum(corner > 0.0)), default=polytope.interior * 0.0)
    for _ in range(_TRIALS):
        if np.sum(best > 0.0) == upper:
            break
        corner = polytope.corner(rng.standard_normal(polytope.n_atoms))
        if np.sum(corner > 0.0) > np.sum(best > 0.0) and _is_vertex(polytope, corner):
            best = corner
    return SupportBounds(int(np.sum(best > 0.0)), upper, best)


def _is_vertex(polytope: MassPolytope, masses: FloatArray) -> bool:
    """Whether the columns of the support are independent."""
    support = masses > 0.0
    return MassPolytope(polytope.columns[:, support], polytope.fit).rank == int(np.sum(support))


def _fewest(points: FloatArray) -> FloatArray:
    return points[int(np.argmin(np.sum(points > 0.0, axis=1)))]


def _on_support(polytope: MassPolytope, support: npt.NDArray[np.bool_]) -> FloatArray | None:
    """Masses on a support, None where it does not carry the fit."""
    masses, residual = nnls(polytope.columns[:, support], polytope.fit)
    if residual > max(_RESIDUAL, _ABOVE_NOISE * polytope.noise) * float(np.linalg.norm(polytope.fit)):
        return None
    full = np.zeros(polytope.n_atoms)
    full[support] = masses
    return full
