"""Doubly non-negative relaxation of the training problem, stated in full and solved through cvxpy."""

from __future__ import annotations

import warnings

import cvxpy as cp

from cvxnn.problem import Problem
from tests.oracles.full_program import cvxpy_loss


def relaxation_optimum(problem: Problem) -> float:
    """Value of the relaxation with ``v = (a, w, s)``: no reduction of the data, no cuts, the primal form."""
    X, (n, d) = problem.X, problem.X.shape
    fit, decay, constraints = 0, 0, []
    for sign in (1.0, -1.0):
        Z = cp.Variable((1 + d + n, 1 + d + n), PSD=True)
        Zaa, Zaw, Zas = Z[0, 0], Z[0, 1 : 1 + d], Z[0, 1 + d :]
        Zww, Zws, Zss = Z[1 : 1 + d, 1 : 1 + d], Z[1 : 1 + d, 1 + d :], Z[1 + d :, 1 + d :]
        Zat, Zst, Zwt = Zas - X @ Zaw, Zss - (X @ Zws).T, Zws - Zww @ X.T
        Ztt = Zss - X @ Zws - (X @ Zws).T + X @ Zww @ X.T
        fit, decay = fit + sign * Zas, decay + Zaa + cp.trace(Zww)
        constraints += [Zas >= 0, Zat >= 0, Zss >= 0, Zst >= 0, Ztt >= 0, cp.diag(Zst) == 0, Zaa == cp.trace(Zww)]
        constraints += [cp.norm(Zws[:, j]) <= Zas[j] for j in range(n)]
        constraints += [cp.norm(Zwt[:, j]) <= Zat[j] for j in range(n)]
    loss = cvxpy_loss(problem.loss.name, fit, problem.y, problem.sample_weight)
    program = cp.Problem(cp.Minimize(loss + 0.5 * problem.beta * decay), constraints)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(program.value)
