"""Slow truth of the ReLU program: all cells, found by linear programs, in one conic program through cvxpy."""

from __future__ import annotations

import cvxpy as cp
import numpy as np


def cvxpy_loss(name, fit, y, weight):
    if name == "squared":
        return 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    if name == "huber":
        return 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, 1.0)))
    if name == "logistic":
        return cp.sum(cp.multiply(weight, cp.logistic(cp.multiply(-y, fit))))
    if name == "squared_hinge":
        return 0.5 * cp.sum(cp.multiply(weight, cp.square(cp.pos(1 - cp.multiply(y, fit)))))
    raise ValueError(name)


def full_program_optimum(X, y, beta, loss, weight, masks):
    """Optimal value over both signs of all given masks (P, n), by cvxpy with Clarabel, to eight digits or so."""
    X, y, weight = np.asarray(X, float), np.asarray(y, float), np.asarray(weight, float)
    fit, norms, constraints = 0, [], []
    for mask in np.asarray(masks, dtype=bool):
        for sign in (1.0, -1.0):
            z = cp.Variable(X.shape[1])
            fit = fit + sign * (mask[:, None] * X) @ z
            norms.append(cp.norm(z, 2))
            constraints.append((np.where(mask, 1.0, -1.0)[:, None] * X) @ z >= 0)
    problem = cp.Problem(cp.Minimize(cvxpy_loss(loss, fit, y, weight) + beta * sum(norms)), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-8, tol_gap_rel=1e-8, tol_feas=1e-8)
    return float(problem.value)


def all_strings(n):
    """All 0/1 strings of length n: a superset of the cells that leaves the optimum unchanged."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
