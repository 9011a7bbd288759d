"""Wasserstein GANs stated directly: semidefinite programs by cvxpy, and dense directions in the plane."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
from scipy.optimize import minimize


def quadratic_norm(X, beta_d) -> float:
    """Least trace of H with ``||X^T X - H||_2 <= beta_d``."""
    scale = float(np.linalg.norm(X, 2)) ** 2
    A, radius = X.T @ X / scale, beta_d / scale
    H = cp.Variable(A.shape, PSD=True)
    program = cp.Problem(cp.Minimize(cp.trace(H)), [cp.sigma_max(A - H) <= radius])
    program.solve(solver=cp.CLARABEL)
    return float(program.value) * scale


def circle(count=20_000):
    """Unit vectors of the plane."""
    angles = 2.0 * np.pi * np.arange(count) / count
    return np.column_stack([np.cos(angles), np.sin(angles)])


def moment_difference(X, G, U):
    """``1^T (X u)_+ - 1^T (G u)_+`` at all directions."""
    return np.maximum(U @ X.T, 0.0).sum(axis=1) - np.maximum(U @ G.T, 0.0).sum(axis=1)


def step_norm(X, reference, beta_d, U) -> float:
    """Optimum of the convex program of the reference's patterns, with the constraint at all given directions."""
    G = cp.Variable(reference.shape)
    active = (U @ reference.T > 0).astype(float)
    moment = np.maximum(U @ X.T, 0.0).sum(axis=1)
    seen = U @ G.T
    constraints = [
        cp.sum(cp.multiply(active, seen), axis=1) >= moment - beta_d,
        cp.sum(cp.pos(seen), axis=1) <= moment + beta_d,
    ]
    program = cp.Problem(cp.Minimize(cp.sum_squares(G)), constraints)
    program.solve(solver=cp.CLARABEL)
    return float(program.value)


def descend(X, start, beta_d, U):
    """Gradient descent on the norm, ascent on the discriminator: quadratic penalties of growing weight."""
    shape, point = start.shape, start.ravel()
    moment = np.maximum(U @ X.T, 0.0).sum(axis=1)

    def penalised(flat, weight):
        G = flat.reshape(shape)
        seen = U @ G.T
        difference = np.maximum(seen, 0.0).sum(axis=1) - moment
        excess = np.sign(difference) * np.maximum(np.abs(difference) - beta_d, 0.0)
        gradient = 2.0 * G + 2.0 * weight * ((seen > 0) * excess[:, None]).T @ U
        return float(np.sum(G**2) + weight * np.sum(excess**2)), gradient.ravel()

    for weight in 10.0 ** np.arange(-1.0, 6.0):
        point = minimize(penalised, point, args=(weight,), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return point.reshape(shape)
