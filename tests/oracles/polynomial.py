"""Slow truths: the semidefinite program of a polynomial activation by a conic solver, and descent on the network."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
from scipy.optimize import minimize

from tests.oracles.descent import loss_and_gradient


def polynomial_optimum(problem, coefficients):
    """Optimal value of the program over two semidefinite matrices."""
    a, b, c = coefficients
    X, y, weight, beta = problem.X, problem.y, problem.sample_weight, problem.beta
    n, d = X.shape
    matrices = [cp.Variable((d + 1, d + 1), PSD=True) for _ in range(2)]
    fit = cp.Variable(n)
    constraints = [cp.trace(Z[:d, :d]) == Z[d, d] for Z in matrices]
    Z = matrices[0] - matrices[1]
    for j in range(n):
        quadratic = cp.sum(cp.multiply(np.outer(X[j], X[j]), Z[:d, :d]))
        constraints.append(fit[j] == a * quadratic + b * (X[j] @ Z[:d, d]) + c * Z[d, d])
    loss = problem.loss
    if loss.name == "squared":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(fit - y)))
    elif loss.name == "logistic":
        data = cp.sum(cp.multiply(weight, cp.logistic(-cp.multiply(y, fit))))
    elif loss.name == "huber":
        data = 0.5 * cp.sum(cp.multiply(weight, cp.huber(fit - y, loss.delta)))
    else:
        data = 0.5 * cp.sum(cp.multiply(weight, cp.square(cp.pos(1 - cp.multiply(y, fit)))))
    program = cp.Problem(cp.Minimize(data + beta * (matrices[0][d, d] + matrices[1][d, d])), constraints)
    program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-7, tol_gap_rel=1e-7, tol_feas=1e-7)
    return float(program.value)


def descend(problem, coefficients, width, seed):
    """Objective that L-BFGS reaches from a random network: directions on the sphere, squares as masses."""
    a, b, c = coefficients
    X = problem.X
    d = X.shape[1]
    rng = np.random.default_rng(seed)
    signs = np.where(np.arange(width) % 2, 1.0, -1.0)

    def objective(flat):
        V, r = flat[: width * d].reshape(width, d), flat[width * d :]
        norms = np.linalg.norm(V, axis=1)
        U = V / norms[:, None]
        t = X @ U.T
        value, gradient = loss_and_gradient(problem, (a * t * t + b * t + c) @ (signs * r * r))
        to_u = ((2 * a * t + b) * gradient[:, None] * (signs * r * r)).T @ X
        to_v = (to_u - np.sum(to_u * U, axis=1, keepdims=True) * U) / norms[:, None]
        to_r = 2.0 * r * ((gradient @ (a * t * t + b * t + c)) * signs + problem.beta)
        return value + problem.beta * float(r @ r), np.concatenate([to_v.ravel(), to_r])

    start = np.concatenate([rng.standard_normal(width * d), 0.3 * rng.standard_normal(width)])
    return float(minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).fun)
