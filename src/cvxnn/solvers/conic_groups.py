r"""Programs over groups of linear blocks with cones, for Clarabel.

.. math:: \min_z\ \ell\big(\textstyle\sum_g A_g z_g\big) + \beta \sum_g N(z_g),\qquad C_g z_g \ge 0

with the Frobenius norm or the sum of the lengths of the parts of a group for N. A group is a tree of ReLU neurons with
fixed activation patterns: then its output and the signs of its neurons are linear in its vectors.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from cvxnn.problem import Problem
from cvxnn.solvers.conic import UNUSABLE, loss_form, norm_rows

FloatArray = npt.NDArray[np.float64]

__all__ = ["LinearGroup", "solve_groups"]

_TOL = 1e-11
"""Asked of Clarabel; it may stop earlier where rounding does not allow it."""


@dataclass(frozen=True, eq=False)
class LinearGroup:
    """Signed output ``fit (n, p)`` and cone ``{z : cone z >= 0}``, ``(q, p)``, of a group."""

    fit: FloatArray
    cone: FloatArray


def solve_groups(
    problem: Problem,
    groups: list[LinearGroup],
    parts: int,
    *,
    time_limit: float | None = None,
) -> FloatArray | None:
    """Vectors ``(G, p)`` of the groups, feasible up to the accuracy of the solver; None without a usable point.

    Parameters
    ----------
    problem : Problem
    groups : list of LinearGroup
    parts : int
        Parts of equal size of a group whose lengths are added up; 1 for the Frobenius norm.
    time_limit : float, optional
        Seconds.
    """
    G, p, n = len(groups), groups[0].fit.shape[1], problem.n_samples
    loss = loss_form(problem)
    n_x, K = len(loss.q), G * parts
    fit_map = sp.csc_array(np.hstack([group.fit for group in groups]))
    cone: Any = sp.block_diag([group.cone for group in groups], format="csc")
    left = G * p + K
    rows: list[Any] = [
        sp.hstack([fit_map, sp.csc_array((n, K)), -sp.eye_array(n), sp.csc_array((n, n_x))]),
        sp.hstack([sp.csc_array((loss.equality_fit.shape[0], left)), loss.equality_fit, loss.equality]),
        sp.hstack([sp.csc_array((loss.cone_fit.shape[0], left)), loss.cone_fit, loss.cone]),
        sp.hstack([-cone, sp.csc_array((cone.shape[0], K + n + n_x))]),
        norm_rows(K, p // parts, n + n_x),
    ]
    A: Any = sp.csc_matrix(sp.vstack(rows))
    b = np.concatenate([np.zeros(n), loss.equality_rhs, loss.cone_rhs, np.zeros(A.shape[0])])[: A.shape[0]]
    cones = [
        clarabel.ZeroConeT(n + len(loss.equality_rhs)),
        *loss.cones,
        clarabel.NonnegativeConeT(cone.shape[0]),
        *(clarabel.SecondOrderConeT(p // parts + 1) for _ in range(K)),
    ]
    q = np.concatenate([np.zeros(G * p), np.full(K, problem.beta), np.zeros(n), loss.q])
    P = sp.csc_matrix(sp.diags_array(np.concatenate([np.zeros(left + n), loss.P]), format="csc"))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _TOL
    settings.max_iter = 100
    if time_limit is not None:
        settings.time_limit = max(time_limit, 1e-3)
    answer = clarabel.DefaultSolver(P, q, A, b, cones, settings).solve()
    x = np.asarray(answer.x)[: G * p]
    usable = x.size == G * p and bool(np.all(np.isfinite(x))) and answer.status not in UNUSABLE
    return x.reshape(G, p) if usable else None
