"""ReLU program on fixed patterns, stated in full and solved by a general conic solver."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np

from cvxnn.losses import HuberLoss
from cvxnn.problem import Problem

_TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


def conic_optimum(problem: Problem, masks: np.ndarray, signs: np.ndarray, *, tight: bool = True) -> float:
    """Optimal value of ``loss(sum s D X z) + beta sum ||z||`` over ``(2 D - I) X z >= 0``."""
    X, y, weight = problem.X, problem.y, problem.sample_weight
    blocks = [cp.Variable(X.shape[1]) for _ in signs]
    fit = sum(s * cp.multiply(mask.astype(float), X @ z) for mask, s, z in zip(masks, signs, blocks, strict=True))
    cones = [cp.multiply(np.where(mask, 1.0, -1.0), X @ z) >= 0 for mask, z in zip(masks, blocks, strict=True)]
    name = problem.loss.name
    if name == "squared":
        loss = 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    elif isinstance(problem.loss, HuberLoss):
        loss = 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, problem.loss.delta)))
    elif name == "logistic":
        loss = cp.sum(cp.multiply(weight, cp.logistic(-cp.multiply(y, fit))))
    else:
        loss = 0.5 * cp.sum(cp.multiply(weight, cp.square(cp.pos(1 - cp.multiply(y, fit)))))
    program = cp.Problem(cp.Minimize(loss + problem.beta * sum(cp.norm(z) for z in blocks)), cones)
    with warnings.catch_warnings():
        # 1e-11 asks for all that Clarabel has; it may stop a little earlier, and then says so by a warning.
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        program.solve(solver=cp.CLARABEL, **(_TIGHT if tight else {}))
    return float(program.value)
