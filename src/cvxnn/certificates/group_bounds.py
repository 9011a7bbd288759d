r"""Bounds of a linear function on cones with a norm: sub-networks with fixed activation patterns.

For a group with output ``A z`` and cone ``C z >= 0``,

.. math:: \max_{C z \ge 0,\ N(z) \le 1} \nu^T A z \le N^\circ(A^T \nu + C^T \lambda)

for every :math:`\lambda \ge 0`,
where the dual norm is the Frobenius norm again, or the length of the longest part for a sum of lengths.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

from typing import Any

import clarabel
import numpy as np
import scipy.sparse as sp

from cvxnn.certificates._rounding import FloatArray, combination_norm_up

__all__ = ["group_bound"]


def group_bound(fit: FloatArray, cone: FloatArray, nu: FloatArray, parts: int, *, target: float = -np.inf) -> float:
    """Proved bound of ``nu^T fit z`` over ``cone z >= 0`` and norm one, for the best multipliers that Clarabel finds.

    Parameters
    ----------
    fit : ndarray (n, p)
    cone : ndarray (q, p)
    nu : ndarray (n,)
    parts : int
        Parts of equal size whose lengths the norm adds up; 1 for the Frobenius norm.
    target : float
        No multipliers are sought where none are needed for this bound.

    Examples
    --------
    >>> bound = group_bound(np.eye(2), np.eye(2), np.array([3.0, -4.0]), 1)
    >>> 3.0 <= bound < 3.0 + 1e-6
    True
    """
    rows = np.vstack([fit, cone])
    plain = np.concatenate([nu, np.zeros(len(cone))])
    best = _dual_norm(rows, plain, parts)
    if best <= target or not np.any(nu) or not np.any(fit):
        return best
    size = float(np.max(np.abs(nu)))
    multipliers = _multipliers(fit, cone, nu / size, parts)
    if multipliers is None:
        return best
    plain[len(nu) :] = np.maximum(multipliers * size, 0.0)
    return min(best, _dual_norm(rows, plain, parts))


def _dual_norm(rows: FloatArray, coefficients: FloatArray, parts: int) -> float:
    p = rows.shape[1] // parts
    pieces = [combination_norm_up(rows[:, k * p : (k + 1) * p], coefficients[None])[0] for k in range(parts)]
    return float(max(pieces))


def _multipliers(fit: FloatArray, cone: FloatArray, nu: FloatArray, parts: int) -> FloatArray | None:
    """Multipliers of the primal program ``max nu^T fit z``."""
    p, width = fit.shape[1], fit.shape[1] // parts
    scale = max(float(np.max(np.abs(fit))), 1e-300)
    rows: list[Any] = [sp.hstack([sp.csc_array(-cone / scale), sp.csc_array((len(cone), parts))])]
    rows.append(sp.hstack([sp.csc_array((1, p)), sp.csc_array(np.ones((1, parts)))]))
    for k in range(parts):
        block = np.zeros((width + 1, p + parts))
        block[0, p + k] = -1.0
        block[np.arange(1, width + 1), k * width + np.arange(width)] = -1.0
        rows.append(sp.csc_array(block))
    A: Any = sp.csc_matrix(sp.vstack(rows))
    b = np.zeros(A.shape[0])
    b[len(cone)] = 1.0
    q = np.concatenate([-(nu @ fit) / scale, np.zeros(parts)])
    cones = [clarabel.NonnegativeConeT(len(cone) + 1), *(clarabel.SecondOrderConeT(width + 1) for _ in range(parts))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    answer = clarabel.DefaultSolver(sp.csc_matrix((len(q), len(q))), q, A, b, cones, settings).solve()
    z = np.asarray(answer.z)
    return z[: len(cone)] if z.size == len(b) and bool(np.all(np.isfinite(z))) else None
