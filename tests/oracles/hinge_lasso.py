"""Lasso over hinges of one-dimensional data, stated column by column and solved by a general conic solver."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np

from cvxnn import HuberLoss


def hinge_lasso_optimum(x, y, beta, loss, weight, knots) -> float:
    """Optimal value with hinges of both sides at the given knots and a free constant."""
    columns = np.hstack([np.maximum(x[:, None] - knots, 0.0), np.maximum(knots - x[:, None], 0.0)])
    sizes = np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    keep = sizes > 1e-12 * sizes.max(initial=0.0)
    scaled = columns[:, keep] / sizes[keep]
    z, constant = cp.Variable(int(keep.sum()) or 1), cp.Variable()
    fit = (scaled @ z if keep.any() else 0.0) + constant
    if loss == "squared":
        value = 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    elif isinstance(loss, HuberLoss):
        value = 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, loss.delta)))
    elif loss == "logistic":
        value = cp.sum(cp.multiply(weight, cp.logistic(-cp.multiply(y, fit))))
    else:
        value = 0.5 * cp.sum(cp.multiply(weight, cp.square(cp.pos(1 - cp.multiply(y, fit)))))
    penalty = beta * cp.sum(cp.multiply(1.0 / sizes[keep], cp.abs(z))) if keep.any() else 0.0
    program = cp.Problem(cp.Minimize(value + penalty))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(program.value)
