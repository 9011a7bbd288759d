"""Slow truth: the group lasso over activation patterns by a conic solver."""

from __future__ import annotations

import cvxpy as cp
import numpy as np


def group_lasso_optimum(problem, masks):
    """Optimal value and blocks (P, d) of the gated program with masks (P, n)."""
    X, y, weight, beta = problem.X, problem.y, problem.sample_weight, problem.beta
    columns = np.concatenate([mask[:, None] * X for mask in masks], axis=1)
    U, fit = cp.Variable(masks.shape[0] * X.shape[1]), cp.Variable(len(y))
    constraints = [fit == columns @ U]
    loss = problem.loss
    if loss.name == "squared":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    elif loss.name == "logistic":
        data = cp.sum(cp.multiply(weight, cp.logistic(-cp.multiply(y, fit))))
    elif loss.name == "huber":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, loss.delta)))
    else:
        margin = cp.Variable(len(y))
        constraints += [margin >= 1 - cp.multiply(y, fit), margin >= 0]
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(margin)))
    rows = cp.reshape(U, (masks.shape[0], X.shape[1]), order="C")
    program = cp.Problem(cp.Minimize(data + beta * cp.sum(cp.norm(rows, axis=1))), constraints)
    program.solve(solver=cp.CLARABEL)
    return float(program.value), np.asarray(rows.value)
