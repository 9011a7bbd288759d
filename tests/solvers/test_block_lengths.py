"""Lengths of blocks along fixed directions: optimality conditions, precision, and the gap that they leave."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.architectures import GatedReLU, gate_patterns
from cvxnn.certificates.gated_bound import certify_gated, largest_gated_block
from cvxnn.landscape import regularization_path
from cvxnn.patterns import ActivationPatterns
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic, pivot_nonnegative_quadratic
from cvxnn.solvers.group_lasso import _row_lengths, kernel, solve_group_lasso
from cvxnn.solvers.group_lasso._common import GroupLassoResult
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._kernel_lengths import lengthened as kernel_lengthened
from cvxnn.solvers.group_lasso._lengths import best_lengths, weighted_sum
from cvxnn.solvers.group_lasso._row_descent import Level, Point
from cvxnn.solvers.group_lasso._row_lengths import lengthened
from cvxnn.solvers.group_lasso._row_products import Rows
from tests.oracles.group_lasso import group_lasso_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def make(loss: str, *, n: int = 80, d: int = 4, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    y = np.maximum(X @ rng.standard_normal((d, 3)), 0.0) @ rng.standard_normal(3) + 0.1 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > np.median(y), 1.0, -1.0)
    return Problem(X, y, loss=loss, sample_weight=rng.integers(0, 4, n).astype(float))


def model_of(problem: Problem, beta: float) -> Model:
    return Model(problem.X, problem.y, problem.sample_weight, problem.loss, beta, lambda: None)


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


def level_near(problem: Problem, patterns: ActivationPatterns, solved: GroupLassoResult, distance: float) -> Level:
    """All rows, at blocks that are the optimal ones but for noise of a relative size."""
    rows = Rows(problem.X, problem.y, problem.sample_weight, problem.loss, patterns.packed, 0, lambda: None)
    noise = np.random.default_rng(7).standard_normal(solved.vectors.shape)
    U = solved.vectors + distance * np.linalg.norm(solved.vectors, axis=1)[:, None] * noise
    level = Level(rows, problem.beta, Point(solved.index, U, np.zeros(problem.n_samples)))
    level.refit()
    return level


def certified_gap(problem: Problem, patterns: ActivationPatterns, point: Point) -> tuple[float, float]:
    """Objective of the blocks, evaluated apart from the solver, and the gap that their own dual vector proves."""
    fit = np.sum(patterns.masks[point.ids].T * (problem.X @ point.U.T), axis=1)
    objective = problem.loss_value(fit) + problem.beta * float(np.sum(np.linalg.norm(point.U, axis=1)))
    return objective, certify_gated(problem, objective, patterns, problem.dual_vector(fit)).gap


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("both", [True, False])
def test_blocks_of_many_rows_that_are_nearly_optimal_become_so(loss, both, monkeypatch):
    problem = make(loss, n=400, d=5, seed=4)
    patterns = gate_patterns(problem.X, GatedReLU(np.random.default_rng(8).standard_normal((25, 5))).gates)
    beta = 0.1 * largest_gated_block(problem.X, patterns, problem.dual_vector(np.zeros(problem.n_samples)))[0]
    here = Problem(problem.X, problem.y, beta, loss, sample_weight=problem.sample_weight)
    solved = solve_group_lasso(here, patterns, tol=1e-10)
    if not both:
        monkeypatch.setattr(_row_lengths, "_LARGEST", 400 * (2 * len(solved.index) - 1))
    before, after = [], []
    for distance in (3e-2, 3e-3):
        level = level_near(here, patterns, solved, distance)
        point = lengthened(level, level.price())
        assert point is not None
        objective, gap = certified_gap(here, patterns, level.point)
        better, reached = certified_gap(here, patterns, point)
        assert solved.lower_bound <= better <= objective * (1.0 + 1e-7)
        before.append(gap)
        after.append(reached)
    assert after[0] < before[0] and after[1] < before[1] / 4.0
    assert after[1] < after[0] / 10.0


def test_directions_of_gradients_mend_those_of_the_blocks(monkeypatch):
    problem = make("squared", n=400, d=5, seed=4)
    patterns = gate_patterns(problem.X, GatedReLU(np.random.default_rng(8).standard_normal((25, 5))).gates)
    beta = 0.1 * largest_gated_block(problem.X, patterns, problem.dual_vector(np.zeros(problem.n_samples)))[0]
    here = Problem(problem.X, problem.y, beta, "squared", sample_weight=problem.sample_weight)
    solved = solve_group_lasso(here, patterns, tol=1e-10)
    level = level_near(here, patterns, solved, 3e-2)
    with_gradients = lengthened(level, level.price())
    monkeypatch.setattr(_row_lengths, "_LARGEST", 400 * (2 * len(solved.index) - 1))
    without = lengthened(level, level.price())
    assert with_gradients is not None and without is not None
    assert certified_gap(here, patterns, with_gradients)[0] <= certified_gap(here, patterns, without)[0] * (1 + 1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_kernel_solves_that_end_with_lengths_are_at_the_optimum(loss, monkeypatch):
    problem = make(loss, n=120, d=4, seed=9)
    patterns = gate_patterns(problem.X, GatedReLU(np.random.default_rng(10).standard_normal((30, 4))).gates)
    beta = 0.05 * largest_gated_block(problem.X, patterns, problem.dual_vector(np.zeros(problem.n_samples)))[0]
    here = Problem(problem.X, problem.y, beta, loss, sample_weight=problem.sample_weight)
    # Every gap is taken for one that the lengths can close.
    monkeypatch.setattr(kernel, "worth_lengthening", lambda *_: True)
    tried = []
    monkeypatch.setattr(kernel, "lengthened", lambda *args: tried.append(found := kernel_lengthened(*args)) or found)
    result = solve_group_lasso(here, patterns, tol=1e-4)
    assert tried and any(found is not None for found in tried)
    truth, _ = group_lasso_optimum(here, patterns.masks)
    objective, _ = certified_gap(here, patterns, Point(result.index, result.vectors, np.zeros(0)))
    assert certify_gated(here, objective, patterns, result.dual).gap <= 1.001e-4
    assert result.objective == pytest.approx(objective, rel=1e-12)
    assert truth * (1.0 - 1e-6) <= objective <= truth * (1.0 + 1.01e-4)
    assert result.lower_bound <= truth * (1.0 + 1e-6)
