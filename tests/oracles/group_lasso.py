"""Slow truth: the group lasso over activation patterns by a conic solver."""

from __future__ import annotations

import cvxpy as cp
import numpy as np


def group_lasso_optimum(problem, masks):
    """Optimal value, blocks (P, d) and dual-free check value of the gated program."""
    X, y, weight, beta = problem.X, problem.y, problem.sample_weight, problem.beta
    U = cp.Variable((len(masks), X.shape[1]))
    fit = cp.sum(cp.multiply(masks.T.astype(float), X @ U.T), axis=1)
    loss = problem.loss
    if loss.name == "squared":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    elif loss.name == "logistic":
        data = cp.sum(cp.multiply(weight, cp.logistic(-cp.multiply(y, fit))))
    elif loss.name == "huber":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, loss.delta)))
    else:
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(cp.pos(1 - cp.multiply(y, fit)))))
    program = cp.Problem(cp.Minimize(data + beta * cp.sum(cp.norm(U, axis=1))))
    program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(program.value), np.asarray(U.value)
