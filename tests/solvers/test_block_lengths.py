"""Lengths of blocks along fixed directions: optimality conditions, precision, and the gap that they leave."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.architectures import GatedReLU, gate_patterns
from cvxnn.certificates.gated_bound import certify_gated, largest_gated_block
from cvxnn.landscape import regularization_path
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic, pivot_nonnegative_quadratic
from cvxnn.solvers.group_lasso import solve_group_lasso
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._lengths import best_lengths, weighted_sum

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def make(loss: str, *, n: int = 80, d: int = 4, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    y = np.maximum(X @ rng.standard_normal((d, 3)), 0.0) @ rng.standard_normal(3) + 0.1 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > np.median(y), 1.0, -1.0)
    return Problem(X, y, loss=loss, sample_weight=rng.integers(0, 4, n).astype(float))


def model_of(problem: Problem, beta: float) -> Model:
    return Model(problem.X, problem.y, problem.sample_weight, problem.loss, beta, lambda: False)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_lengths_meet_the_optimality_conditions(loss, dtype):
    problem = make(loss)
    rows = np.random.default_rng(1).standard_normal((12, problem.n_samples))
    beta = 0.2 * float(np.max(rows @ problem.dual_vector(np.zeros(problem.n_samples))))
    lengths = best_lengths(model_of(problem, beta), rows.astype(dtype), np.full(12, 0.1))
    assert lengths is not None and np.all(lengths >= 0) and np.any(lengths > 0)
    slope = beta - rows @ problem.dual_vector(lengths @ rows)
    close = 1e-4 if dtype is np.float32 else 1e-5
    assert np.all(slope >= -close * beta)
    np.testing.assert_allclose(slope[lengths > 0], 0.0, atol=close * beta)


@pytest.mark.parametrize("loss", LOSSES)
def test_lengths_along_a_dual_vector_nearby_leave_about_the_square_of_its_distance(loss):
    problem = make(loss, seed=2)
    patterns = gate_patterns(problem.X, GatedReLU(np.random.default_rng(3).standard_normal((15, 4))).gates)
    beta = 0.2 * largest_gated_block(problem.X, patterns, problem.dual_vector(np.zeros(problem.n_samples)))[0]
    here = Problem(problem.X, problem.y, beta, loss, sample_weight=problem.sample_weight)
    solved = solve_group_lasso(here, patterns, tol=1e-10)
    dual, start = solved.dual, np.zeros(len(patterns))
    start[solved.index] = np.linalg.norm(solved.vectors, axis=1)
    noise = np.random.default_rng(4).standard_normal(len(dual)) * problem.sample_weight
    noise *= np.linalg.norm(dual) / np.linalg.norm(noise)
    gaps = []
    for distance in (3e-2, 3e-3):
        blocks = patterns.masks @ (problem.X * (dual + distance * noise)[:, None])
        units = blocks / np.maximum(np.linalg.norm(blocks, axis=1, keepdims=True), 1e-300)
        rows = patterns.masks * (units @ problem.X.T)
        lengths = best_lengths(model_of(problem, beta), rows, start)
        assert lengths is not None
        fit = lengths @ rows
        objective = here.loss_value(fit) + beta * float(np.sum(lengths))
        gaps.append(certify_gated(here, objective, patterns, here.dual_vector(fit)).gap)
    assert gaps[1] < gaps[0] / 25.0


def test_sums_of_any_size_stay_in_single_precision():
    rows = np.ones((2, 3), dtype=np.float32)
    np.testing.assert_allclose(weighted_sum(rows, np.array([1e60, 2e60])), 3e60, rtol=1e-6)
    np.testing.assert_array_equal(weighted_sum(rows, np.zeros(2)), 0.0)


def test_pivoting_agrees_from_any_support():
    rng = np.random.default_rng(5)
    root = rng.standard_normal((30, 10))
    gram, linear = root.T @ root, rng.standard_normal(10)
    best = minimize_nonnegative_quadratic(gram, linear)
    for support in (np.zeros(10, dtype=bool), np.ones(10, dtype=bool), rng.random(10) < 0.5):
        np.testing.assert_allclose(pivot_nonnegative_quadratic(gram, linear, support), best, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_path_of_many_rows_is_solved_to_the_tolerance(loss):
    problem = make(loss, n=5200)
    architecture = GatedReLU(np.random.default_rng(6).standard_normal((20, 4)))
    path = regularization_path(problem, architecture=architecture, n_betas=8, ratio=1e-2, tol=1e-4)
    assert path.status == "complete" and np.all(path.gaps <= 1e-4)
    for point in (path[3], path[7]):
        np.testing.assert_allclose(point.network.objective(point.problem), point.objective, rtol=1e-10)
        alone = solve_group_lasso(point.problem, point.solution.patterns, tol=1e-8)
        assert point.lower_bound <= alone.objective and alone.lower_bound <= point.objective
        assert point.objective <= alone.objective * (1.0 + 1e-4 + 1e-8)
