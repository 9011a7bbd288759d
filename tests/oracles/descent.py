"""Slow truth: gradient descent on the network with batch norm, from a random start."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize


def loss_and_gradient(problem, fit):
    return problem.loss_value(fit), problem.loss_gradient(fit)


def descend_batch_norm(problem, width, seed, start=None):
    """Objective that L-BFGS reaches on (W, gamma, alpha, a), from a random start or the given one; W is free."""
    X = problem.X - problem.X.mean(axis=0)
    n, d = X.shape
    rng = np.random.default_rng(seed)
    shift = 1.0 / np.sqrt(n)

    def objective(flat):
        W, rest = flat[: width * d].reshape(width, d), flat[width * d :].reshape(3, width)
        gamma, alpha, a = rest
        z = X @ W.T
        norms = np.linalg.norm(z, axis=0)
        unit = z / norms
        h = gamma * unit + alpha * shift
        hidden = np.maximum(h, 0.0)
        value, gradient = loss_and_gradient(problem, hidden @ a)
        back = np.outer(gradient, a) * (h > 0)
        to_unit = back * gamma
        to_z = (to_unit - unit * np.sum(to_unit * unit, axis=0)) / norms
        grads = [np.sum(back * unit, axis=0), np.sum(back, axis=0) * shift, hidden.T @ gradient]
        penalty = problem.beta * rest
        flat_gradient = np.concatenate([(to_z.T @ X).ravel(), (np.stack(grads) + penalty).ravel()])
        return value + 0.5 * problem.beta * float(np.sum(rest * rest)), flat_gradient

    start = rng.standard_normal(width * (d + 3)) if start is None else start
    return float(minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000}).fun)
