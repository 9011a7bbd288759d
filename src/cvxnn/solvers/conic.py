r"""The ReLU program on fixed cones as a conic program for Clarabel.

.. math:: \min_z\ \ell\big(\textstyle\sum_i s_i D_i X z_i\big) + \beta \sum_i \|z_i\|,\qquad (2D_i - I) X z_i \ge 0

Each norm is one second-order cone, each loss its own conic form (Pilanci and Ergen, 2020, equation 8). General and
accurate, but its cost grows with n times the number of blocks: meant for small programs.
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

from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]
Sparse = Any
"""SciPy sparse array; its stubs do not tell the formats apart."""

__all__ = ["UNUSABLE", "LossForm", "loss_form", "norm_rows", "solve_conic"]


def solve_conic(
    problem: Problem,
    masks: npt.NDArray[np.bool_],
    signs: FloatArray,
    *,
    tol: float = 1e-11,
    time_limit: float | None = None,
) -> FloatArray | None:
    """Solve the program on the cones of ``masks (K, n)`` with output signs ``signs (K,)``.

    Parameters
    ----------
    problem : Problem
        Data ``X (n, r)``, best of full column rank and of order one.
    masks : ndarray (K, n) of bool
    signs : ndarray (K,)
    tol : float
        Relative and absolute tolerance asked of Clarabel; it may stop earlier where rounding does not allow it.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    ndarray (K, r) or None
        The vectors ``z_i``, feasible up to the accuracy of the solver; None when Clarabel returns no usable point.
    """
    K, r = len(masks), problem.n_features
    fit_map = np.hstack([s * m[:, None] * problem.X for s, m in zip(signs, masks, strict=True)])
    loss = loss_form(problem)
    form = _assemble(problem, masks, fit_map, loss)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    settings.max_iter = 200
    if time_limit is not None:
        settings.time_limit = max(time_limit, 1e-3)
    solution = clarabel.DefaultSolver(form.P, form.q, form.A, form.b, form.cones, settings).solve()
    x = np.asarray(solution.x)[: K * r]
    usable = x.size == K * r and bool(np.all(np.isfinite(x))) and solution.status not in UNUSABLE
    return x.reshape(K, r) if usable else None


UNUSABLE = (
    clarabel.SolverStatus.PrimalInfeasible,
    clarabel.SolverStatus.DualInfeasible,
    clarabel.SolverStatus.AlmostPrimalInfeasible,
    clarabel.SolverStatus.AlmostDualInfeasible,
    clarabel.SolverStatus.Unsolved,
)


@dataclass(frozen=True)
class LossForm:
    """Loss of the fit e as ``min 1/2 x' diag(P) x + q'x`` over extra variables x.

    The rows are ``equality_fit e + equality x = equality_rhs`` and ``cone_fit e + cone x + s = cone_rhs``, s in cones.
    """

    P: FloatArray
    q: FloatArray
    equality_fit: Sparse
    equality: Sparse
    equality_rhs: FloatArray
    cone_fit: Sparse
    cone: Sparse
    cone_rhs: FloatArray
    cones: list


def loss_form(problem: Problem) -> LossForm:
    """Conic form of the loss of a problem."""
    n, y, weight = problem.n_samples, problem.y, problem.sample_weight
    eye: Sparse = sp.eye_array(n, format="csc")
    empty = sp.csc_array((0, n))
    loss = problem.loss
    if isinstance(loss, SquaredLoss):
        # x = e - y
        return LossForm(weight, np.zeros(n), eye, sp.csc_array(-eye), y, empty, empty, np.zeros(0), [])
    if isinstance(loss, HuberLoss):
        # e - y = p + q - r with a quadratic cost of p and linear costs of q, r >= 0
        equality = sp.hstack([-eye, -eye, eye], format="csc")
        cone = sp.hstack([sp.csc_array((2 * n, n)), -sp.eye_array(2 * n)], format="csc")
        slope = np.tile(loss.delta * weight, 2)
        return LossForm(
            np.concatenate([weight, np.zeros(2 * n)]),
            np.concatenate([np.zeros(n), slope]),
            eye,
            equality,
            y,
            sp.csc_array((2 * n, n)),
            cone,
            np.zeros(2 * n),
            [clarabel.NonnegativeConeT(2 * n)],
        )
    if isinstance(loss, SquaredHingeLoss):
        # x >= 1 - y (e + offset) and x >= 0
        cone_fit = sp.vstack([sp.diags_array(-y), sp.csc_array((n, n))], format="csc")
        cone = sp.vstack([-eye, -eye], format="csc")
        rhs = np.concatenate([y * loss.offset - 1.0, np.zeros(n)])
        return LossForm(
            weight, np.zeros(n), empty, empty, np.zeros(0), cone_fit, cone, rhs, [clarabel.NonnegativeConeT(2 * n)]
        )
    if isinstance(loss, LogisticLoss):
        return _logistic_form(y, weight, loss.offset)
    raise ValueError(f"loss {loss.name!r} has no conic form; accepted are squared, huber, squared_hinge and logistic.")


def _logistic_form(y: FloatArray, weight: FloatArray, offset: float) -> LossForm:
    """``t >= log(1 + exp(-y f))`` with ``f = e + offset``, by two exponential cones, x = (t, u, v)."""
    n = len(y)
    j = np.arange(n)
    # exp(-y f - t) <= u, exp(-t) <= v and u + v <= 1: the rows of a sample are (-y f - t, 1, u) and (-t, 1, v) in the
    # exponential cone; 1 - u - v >= 0 comes at the end.
    first, second, last = 6 * j, 6 * j + 3, 6 * n + j
    cone_fit = sp.csc_array((y, (first, j)), shape=(7 * n, n))
    ones = np.ones(n)
    rows = np.concatenate([first, first + 2, second, second + 2, last, last])
    columns = np.concatenate([j, n + j, j, 2 * n + j, n + j, 2 * n + j])
    data = np.concatenate([ones, -ones, ones, -ones, ones, ones])
    cone = sp.csc_array((data, (rows, columns)), shape=(7 * n, 3 * n))
    rhs = np.zeros(7 * n)
    rhs[first] = -y * offset
    rhs[first + 1] = rhs[second + 1] = rhs[last] = 1.0
    cones = [clarabel.ExponentialConeT() for _ in range(2 * n)] + [clarabel.NonnegativeConeT(n)]
    empty = sp.csc_array((0, n))
    cost = np.concatenate([weight, np.zeros(2 * n)])
    return LossForm(np.zeros(3 * n), cost, empty, sp.csc_array((0, 3 * n)), np.zeros(0), cone_fit, cone, rhs, cones)


@dataclass(frozen=True)
class _ConicForm:
    P: Sparse
    q: FloatArray
    A: Sparse
    b: FloatArray
    cones: list


def _assemble(problem: Problem, masks: npt.NDArray[np.bool_], fit_map: FloatArray, loss: LossForm) -> _ConicForm:
    """Stack the variables (z, norms t, fit e, loss variables x) and the rows (equalities, cones, norms)."""
    n, r, K = problem.n_samples, problem.n_features, len(masks)
    n_x = len(loss.q)
    rows = [
        [sp.csc_array(fit_map), sp.csc_array((n, K)), -sp.eye_array(n), sp.csc_array((n, n_x))],
        [sp.csc_array((loss.equality_fit.shape[0], K * r + K)), None, loss.equality_fit, loss.equality],
        [sp.csc_array((loss.cone_fit.shape[0], K * r + K)), None, loss.cone_fit, loss.cone],
    ]
    blocks = [sp.hstack([b for b in row if b is not None]) for row in rows]
    orientation = np.where(masks, -1.0, 1.0)
    cone_rows = sp.block_diag([o[:, None] * problem.X for o in orientation])
    blocks.append(sp.hstack([cone_rows, sp.csc_array((K * n, K + n + n_x))]))
    blocks.append(norm_rows(K, r, n + n_x))
    b = np.concatenate([np.zeros(n), loss.equality_rhs, loss.cone_rhs, np.zeros(K * n), np.zeros(K * (r + 1))])
    cones = [
        clarabel.ZeroConeT(n + len(loss.equality_rhs)),
        *loss.cones,
        clarabel.NonnegativeConeT(K * n),
        *(clarabel.SecondOrderConeT(r + 1) for _ in range(K)),
    ]
    q = np.concatenate([np.zeros(K * r), np.full(K, problem.beta), np.zeros(n), loss.q])
    P = sp.diags_array(np.concatenate([np.zeros(K * r + K + n), loss.P]), format="csc")
    return _ConicForm(sp.csc_matrix(P), q, sp.csc_matrix(sp.vstack(blocks)), b, cones)


def norm_rows(K: int, r: int, n_other: int) -> Sparse:
    """Rows ``-(t_i, z_i) + s = 0`` with s in the second-order cone."""
    i, k = np.arange(K), np.arange(r)
    t_rows, t_columns = i * (r + 1), K * r + i
    z_rows = (i[:, None] * (r + 1) + 1 + k).ravel()
    z_columns = (i[:, None] * r + k).ravel()
    rows, columns = np.concatenate([t_rows, z_rows]), np.concatenate([t_columns, z_columns])
    data = -np.ones(len(rows))
    return sp.csc_array((data, (rows, columns)), shape=(K * (r + 1), K * r + K + n_other))
