"""Slow truths for several outputs: the semidefinite program in the plane, and gradient descent."""

from __future__ import annotations

import itertools

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]


def plane_optimum(X: FloatArray, Y: FloatArray, beta: float) -> float:
    """Optimum for data ``(n, 2)`` and the squared loss: in a cone with two rays the norm is a semidefinite program.

    With the rays as columns of R, ``||Z|| = min 1/2 tr(R^T R T) + 1/2 tr G`` over ``[[T, M], [M^T, G]] >= 0``, with
    ``T >= 0`` entrywise and ``Z = R M``: non-negative semidefinite matrices of
    order 2 are completely positive.
    """
    angles = np.arctan2(X[:, 1], X[:, 0])
    kinks = np.unique(np.round(np.mod(np.concatenate([angles + np.pi / 2, angles - np.pi / 2]), 2 * np.pi), 12))
    kinks = np.append(kinks, kinks[0] + 2 * np.pi)
    fit, cost, constraints = 0, 0, []
    c = Y.shape[1]
    for low, high in itertools.pairwise(kinks):
        R = np.array([[np.cos(low), np.cos(high)], [np.sin(low), np.sin(high)]])
        active = X @ np.array([np.cos(0.5 * (low + high)), np.sin(0.5 * (low + high))]) > 0
        block = cp.Variable((2 + c, 2 + c), symmetric=True)
        T, M, G = block[:2, :2], block[:2, 2:], block[2:, 2:]
        constraints += [block >> 0, T >= 0]
        cost = cost + 0.5 * cp.trace((R.T @ R) @ T) + 0.5 * cp.trace(G)
        fit = fit + (active[:, None] * X) @ R @ M
    program = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(fit - Y) + beta * cost), constraints)
    return float(program.solve(solver="CLARABEL", tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10))


def descend(problem: Problem, width: int, seed: int, steps: int = 3000) -> float:
    """Objective that Adam reaches on both layers from random weights."""
    rng = np.random.default_rng(seed)
    c = problem.y.shape[1]
    point = 0.5 * rng.standard_normal((width, problem.n_features + c))
    first, second, best = np.zeros_like(point), np.zeros_like(point), np.inf
    for t in range(1, steps + 1):
        W, A = point[:, :-c], point[:, -c:]
        hidden = np.maximum(problem.X @ W.T, 0.0)
        slope = problem.loss_gradient(hidden @ A)
        best = min(best, problem.loss_value(hidden @ A) + 0.5 * problem.beta * float(np.sum(point**2)))
        gradient = problem.beta * point
        gradient[:, :-c] += ((slope @ A.T) * (hidden > 0)).T @ problem.X
        gradient[:, -c:] += hidden.T @ slope
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = 0.03 * min(1.0, 4.0 * (1.0 - t / (steps + 1)))
        point = point - rate * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-12)
    return best
