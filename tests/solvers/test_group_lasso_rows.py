"""Group lasso solver for many samples: against the conic truth and the other solver, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import HuberLoss, Problem, architectures
from cvxnn.architectures import gate_masks, gate_patterns
from cvxnn.certificates import gated_bound
from cvxnn.certificates.gated_bound import certify_gated, gated_dual_norm
from cvxnn.patterns import ActivationPatterns
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso import _row_descent, _row_newton, _row_products, solve_group_lasso
from cvxnn.solvers.group_lasso import rows as group_lasso_rows
from cvxnn.solvers.group_lasso._common import OutOfTime, norm_slack
from cvxnn.solvers.group_lasso._row_descent import Level, Point
from cvxnn.solvers.group_lasso._row_products import Rows
from cvxnn.solvers.group_lasso.rows import solve_group_lasso_rows
from tests.oracles.group_lasso import group_lasso_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.3)]


def make(loss="squared", n=60, d=3, P=30, beta=0.4, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), 2.0 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    weight = rng.uniform(0.5, 2.0, n) if weighted else None
    gates = rng.standard_normal((P, d))
    return Problem(X, y, beta=beta, loss=loss, sample_weight=weight), ActivationPatterns.from_gates(X, gates)


def objective(problem, patterns, result):
    masks = patterns.masks[result.index]
    fit = np.sum(masks.T * (problem.X @ result.vectors.T), axis=1)
    return problem.loss_value(fit) + problem.beta * float(np.sum(np.linalg.norm(result.vectors, axis=1)))


def certified(problem, patterns, result):
    return certify_gated(problem, objective(problem, patterns, result), patterns, result.dual)


@pytest.fixture
def small_levels(monkeypatch):
    """Subsamples, preconditioner and slabs so small that all of them are in use on a few hundred rows."""
    monkeypatch.setattr(group_lasso_rows, "_LEAST_SAMPLE", 40)
    monkeypatch.setattr(group_lasso_rows, "_SAMPLE_PART", 3)
    monkeypatch.setattr(_row_newton, "SAMPLE", 25)
    monkeypatch.setattr(_row_products, "_SLAB", 64)
    monkeypatch.setattr(_row_products, "_LEAST_ROWS", 8)
    monkeypatch.setattr(_row_products, "_LEAST_RUN", 8)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("beta", [5.0, 0.4, 0.02])
def test_conic_truth(loss, beta):
    problem, patterns = make(loss, beta=beta)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-6)
    truth, _ = group_lasso_optimum(problem, patterns.masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert objective(problem, patterns, result) == pytest.approx(truth, rel=1.5e-6)
    assert result.history.lower_bound[-1] <= truth * (1 + 1e-7)
    assert np.all(np.diff(result.index) > 0)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_subsamples_of_subsamples(loss, small_levels):
    problem, patterns = make(loss, n=397, d=5, P=60, beta=2.0, seed=1)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-6)
    other = solve_group_lasso(problem, patterns, tol=1e-8)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert certified(problem, patterns, result).gap <= 1.01e-6
    assert objective(problem, patterns, result) == pytest.approx(objective(problem, patterns, other), rel=1.1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gap_far_below_single_precision(loss):
    problem, patterns = make(loss, seed=3)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-10)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert certified(problem, patterns, result).gap <= 1.1e-10


def test_products_are_those_of_the_columns(monkeypatch):
    monkeypatch.setattr(_row_products, "_SLAB", 64)
    monkeypatch.setattr(_row_products, "_LEAST_ROWS", 8)
    monkeypatch.setattr(_row_products, "_LEAST_RUN", 8)
    problem, patterns = make(n=45, P=7)
    rng = np.random.default_rng(0)
    rows = Rows(problem.X, problem.y, problem.sample_weight, problem.loss, np.asarray(patterns.packed), 2, lambda: None)
    ids = np.array([1, 2, 5])
    A = np.concatenate([mask[:, None] * problem.X / 4.0 for mask in patterns.masks[ids]], axis=1)
    U, r, h = rng.standard_normal((3, 3)), 1e30 * rng.standard_normal(45), rng.uniform(0, 2, 45)
    bits = rows.bits(ids)
    for exact, rtol in ((True, 1e-12), (False, 1e-5)):
        np.testing.assert_allclose(rows.forward(bits, U, exact=exact), A @ U.ravel(), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(rows.backward(bits, r, exact=exact).ravel(), A.T @ r, rtol=rtol, atol=1e30 * rtol)
    curved, fit = rows.curved(bits, U, h.astype(np.float32))
    np.testing.assert_allclose(fit, A @ U.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(curved.ravel(), A.T @ (h * (A @ U.ravel())), rtol=1e-5, atol=1e-5)
    few = rows.sample(np.array([3, 8, 9, 20, 44]))
    kept = np.unpackbits(few.packed, axis=1, count=5, bitorder="little")
    np.testing.assert_array_equal(kept, patterns.masks[:, [3, 8, 9, 20, 44]])


def test_newton_step_with_all_rows_solves_the_model():
    problem, patterns = make(n=50, P=4, d=2)
    rows = Rows(problem.X, problem.y, problem.sample_weight, problem.loss, np.asarray(patterns.packed), 0, lambda: None)
    rng = np.random.default_rng(1)
    ids, U = np.arange(4), rng.standard_normal((4, 2))
    A = np.concatenate([mask[:, None] * problem.X for mask in patterns.masks], axis=1)
    h = problem.sample_weight
    gradient = (A.T @ problem.loss_gradient(A @ U.ravel())).reshape(4, 2)
    # A small enough penalty that no block crosses zero.
    step = _row_newton.newton_step(rows, rows, ids, U, U, gradient, h, 1e-3, sample_h=h, forcing=1e-5)
    lengths = np.linalg.norm(U, axis=1)
    unit = U / lengths[:, None]
    hessian = A.T @ (h[:, None] * A)
    for i in range(4):
        block = slice(2 * i, 2 * i + 2)
        hessian[block, block] += 1e-3 / lengths[i] * (np.eye(2) - np.outer(unit[i], unit[i]))
    expected = np.linalg.solve(hessian, -(gradient + 1e-3 * unit).ravel())
    crossing = np.sum((U + expected.reshape(4, 2)) * unit, axis=1) <= 0
    np.testing.assert_array_equal(step.zero, crossing)
    if not crossing.any():
        np.testing.assert_allclose(step.direction.ravel(), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(step.change, A @ step.direction.ravel(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", [1, 3, 4, 7, 15, 31])
def test_rounding_of_single_precision_is_bounded(d):
    rng = np.random.default_rng(d)
    X, y, masks = rng.standard_normal((700, d)), rng.standard_normal(700), rng.random((20, 700)) < 0.5
    problem, patterns = Problem(X, y, beta=1.0), ActivationPatterns.from_masks(masks, np.zeros((20, d)))
    rows = Rows(problem.X, problem.y, problem.sample_weight, problem.loss, np.asarray(patterns.packed), 0, lambda: None)
    # Nearly orthogonal to the columns, so that the blocks are small and their rounding is not.
    r = 1e6 + rng.standard_normal(700)
    exact = rows.backward(rows.packed, r, exact=True)
    slack = rows.single_slack(rows.packed, r) * norm_slack(problem.X, r)
    rounding = np.linalg.norm(rows.backward(rows.packed, r) - exact, axis=1)
    assert 0 < np.max(rounding) <= slack
    level = Level(rows, 1.0, Point(np.zeros(0, dtype=np.intp), np.zeros((0, d)), -r + problem.y))
    level.exact = True
    price = level.price()
    norms = np.linalg.norm(rows.backward(rows.packed, price.nu, exact=True), axis=1)
    assert price.top == pytest.approx(np.max(norms), rel=1e-14)


def test_blocks_of_repeated_patterns_add_up_in_a_start():
    problem, patterns = make(n=80, P=6)
    twice = ActivationPatterns.from_masks(np.repeat(patterns.masks, 2, axis=0), np.repeat(patterns.gates, 2, axis=0))
    result = solve_group_lasso_rows(problem, patterns, tol=1e-8)
    start = np.zeros((12, 3))
    start[2 * result.index], start[2 * result.index + 1] = 0.25 * result.vectors, 0.75 * result.vectors
    again = solve_group_lasso_rows(problem, twice, tol=1e-7, warm_start=start)
    assert again.status is Status.PATTERNS_OPTIMUM
    assert again.n_iter == 0
    np.testing.assert_array_equal(again.index, 2 * result.index)


def test_weights_equal_repeated_rows(small_levels):
    problem, patterns = make("logistic", n=150, beta=1.0, weighted=False)
    times = np.random.default_rng(2).integers(0, 4, 150)
    weighted = Problem(problem.X, problem.y, beta=1.0, loss="logistic", sample_weight=times)
    repeated = Problem(np.repeat(problem.X, times, axis=0), np.repeat(problem.y, times), beta=1.0, loss="logistic")
    masks = np.repeat(patterns.masks, times, axis=1)
    copies = ActivationPatterns.from_masks(masks, patterns.gates)
    one, two = (
        objective(p, q, solve_group_lasso_rows(p, q, tol=1e-8)) for p, q in ((weighted, patterns), (repeated, copies))
    )
    assert one == pytest.approx(two, rel=3e-8)


def test_order_of_rows_and_patterns(small_levels):
    problem, patterns = make(n=200, beta=2.0)
    rng = np.random.default_rng(5)
    rows, order = rng.permutation(200), rng.permutation(30)
    moved = Problem(problem.X[rows], problem.y[rows], beta=2.0, sample_weight=problem.sample_weight[rows])
    shuffled = ActivationPatterns.from_masks(patterns.masks[order][:, rows], patterns.gates[order])
    first = objective(problem, patterns, solve_group_lasso_rows(problem, patterns, tol=1e-8))
    second = objective(moved, shuffled, solve_group_lasso_rows(moved, shuffled, tol=1e-8))
    assert first == pytest.approx(second, rel=3e-8)


def test_repeated_and_empty_patterns():
    problem, patterns = make()
    masks = np.vstack([patterns.masks, np.zeros((1, 60), dtype=bool), patterns.masks])
    more = ActivationPatterns.from_masks(masks, np.ones((61, 3)))
    result = solve_group_lasso_rows(problem, more)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert np.all(result.index < 30)
    empty = ActivationPatterns.from_masks(masks[30:31], np.ones((1, 3)))
    nothing = solve_group_lasso_rows(problem, empty)
    assert nothing.status is Status.PATTERNS_OPTIMUM
    assert nothing.index.size == 0


def test_rank_deficient_data(small_levels):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 2)) @ rng.standard_normal((2, 5))
    X[:, 3] = 0.0
    y = rng.standard_normal(150)
    problem, patterns = Problem(X, y, beta=0.5), ActivationPatterns.from_gates(X, rng.standard_normal((20, 5)))
    result = solve_group_lasso_rows(problem, patterns)
    assert certified(problem, patterns, result).gap <= 1.01e-6


def test_fewer_rows_than_columns():
    problem, patterns = make(n=10, d=15, P=40, beta=0.1)
    assert certified(problem, patterns, solve_group_lasso_rows(problem, patterns)).gap <= 1.01e-6


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("scale", [1e-90, 1e-8, 1e8, 1e90])
def test_scales_of_the_data(loss, scale, small_levels):
    problem, patterns = make(loss, n=150, beta=2.0)
    scaled = Problem(scale * problem.X, problem.y, beta=2.0 * scale, loss=loss, sample_weight=problem.sample_weight)
    result = solve_group_lasso_rows(scaled, patterns)
    assert certified(scaled, patterns, result).gap <= 1.01e-6


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_scales_of_the_targets(scale, small_levels):
    problem, patterns = make(n=150, beta=2.0)
    scaled = Problem(problem.X, scale * problem.y, beta=2.0 * scale, sample_weight=problem.sample_weight)
    assert certified(scaled, patterns, solve_group_lasso_rows(scaled, patterns)).gap <= 1.01e-6


def test_columns_of_very_different_scale():
    problem, patterns = make(n=3000, d=4, beta=40.0)
    X = problem.X * np.array([1e4, 1.0, 1e-4, 1.0])
    mixed = Problem(X, problem.y, beta=40.0)
    assert certified(mixed, patterns, solve_group_lasso_rows(mixed, patterns)).gap <= 1.01e-6


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_zero_is_optimal_from_the_largest_norm_on(loss):
    problem, patterns = make(loss)
    nu = problem.dual_vector(np.zeros(60))
    top = max(float(np.linalg.norm(problem.X.T @ (mask * nu))) for mask in patterns.masks)
    above = Problem(problem.X, problem.y, 1.0001 * top, loss, sample_weight=problem.sample_weight)
    result = solve_group_lasso_rows(above, patterns)
    assert result.index.size == 0
    assert result.status is Status.PATTERNS_OPTIMUM
    below = Problem(problem.X, problem.y, 0.99 * top, loss, sample_weight=problem.sample_weight)
    assert certified(below, patterns, solve_group_lasso_rows(below, patterns, tol=1e-9)).gap <= 1.1e-9


def test_time_limit_keeps_a_valid_certificate():
    problem, patterns = make(n=2000, d=6, P=60, beta=5.0)
    truth = objective(problem, patterns, solve_group_lasso_rows(problem, patterns, tol=1e-9))
    for limit in (0.0, 0.01, 0.03):
        result = solve_group_lasso_rows(problem, patterns, tol=1e-15, time_limit=limit)
        certificate = certified(problem, patterns, result)
        assert certificate.lower_bound <= truth * (1 + 1e-9)
        assert truth * (1 - 1e-9) <= certificate.objective <= problem.loss_value(np.zeros(2000))
        assert not result.status.converged


@pytest.mark.parametrize("stop_after", [1, 10, 40])
def test_interrupt_anywhere_keeps_the_blocks_so_far(stop_after, small_levels, monkeypatch):
    problem, patterns = make(n=300, d=6, P=60, beta=5.0)
    products, count = Rows.curved, 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == stop_after:
            raise KeyboardInterrupt
        return products(self, *args)

    monkeypatch.setattr(Rows, "curved", interrupted)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-9)
    certificate = certified(problem, patterns, result)
    assert result.status is Status.INTERRUPTED
    assert certificate.objective <= problem.loss_value(np.zeros(300))
    assert certificate.lower_bound <= certificate.objective


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_proximal_steps_alone_reach_the_optimum(loss, monkeypatch):
    monkeypatch.setattr(_row_descent.Level, "_search", lambda *_: 0.0)
    problem, patterns = make(loss, P=8, beta=5.0)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-4, max_iter=3000)
    assert result.status is Status.PATTERNS_OPTIMUM


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_interrupt_keeps_the_best_blocks(calls, small_levels):
    problem, patterns = make(n=300, d=6, P=60, beta=0.05)
    count = 0

    def interrupt(progress):
        nonlocal count
        if count == calls:
            raise KeyboardInterrupt
        count += 1

    result = solve_group_lasso_rows(problem, patterns, tol=1e-9, recorder=Recorder(interrupt))
    certificate = certified(problem, patterns, result)
    assert result.status is Status.INTERRUPTED
    assert certificate.objective <= problem.loss_value(np.zeros(300))
    assert certificate.lower_bound <= certificate.objective


def test_iteration_limit():
    problem, patterns = make(n=300, d=6, P=60, beta=0.05)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-9, max_iter=1)
    assert result.status is Status.MAX_ITER
    assert result.n_iter == 1
    assert objective(problem, patterns, result) < problem.loss_value(np.zeros(300))


def test_warm_start(small_levels):
    problem, patterns = make(n=300, beta=1.0)
    cold = solve_group_lasso_rows(problem, patterns, tol=1e-8)
    blocks = np.zeros((30, 3))
    blocks[cold.index] = cold.vectors
    warm = solve_group_lasso_rows(problem, patterns, tol=1e-7, warm_start=blocks)
    assert warm.n_iter <= 1
    assert certified(problem, patterns, warm).gap <= 1.1e-7
    nothing = solve_group_lasso_rows(problem, patterns, tol=1e-7, warm_start=np.zeros((30, 3)))
    assert certified(problem, patterns, nothing).gap <= 1.1e-7


def test_same_input_same_output(small_levels):
    problem, patterns = make(n=300, beta=1.0)
    one, two = (solve_group_lasso_rows(problem, patterns) for _ in range(2))
    np.testing.assert_array_equal(one.vectors, two.vectors)
    np.testing.assert_array_equal(one.dual, two.dual)


def test_history_bounds_the_optimum_from_both_sides(small_levels):
    problem, patterns = make("logistic", n=300, beta=1.0)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-8)
    truth = objective(problem, patterns, result)
    assert np.all(result.history.lower_bound <= truth)
    assert np.all(result.history.objective >= truth * (1 - 1e-6))
    assert np.all(np.diff(result.history.lower_bound) >= 0)


def test_far_more_blocks_than_samples():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 6)), rng.standard_normal(30)
    patterns = ActivationPatterns.from_gates(X, rng.standard_normal((400, 6)))
    problem = Problem(X, y, beta=1e-3)
    assert certified(problem, patterns, solve_group_lasso_rows(problem, patterns)).gap <= 1.01e-6


def test_weight_on_a_few_rows_only(small_levels):
    problem, patterns = make(n=300)
    weight = np.zeros(300)
    weight[[3, 70, 200]] = 1.0
    lonely = Problem(problem.X, problem.y, beta=0.1, sample_weight=weight)
    assert certified(lonely, patterns, solve_group_lasso_rows(lonely, patterns)).gap <= 1.01e-6


@pytest.mark.parametrize("n", [1, 7, 64, 65, 203])
def test_masks_and_dual_norm_by_slabs(n, monkeypatch):
    monkeypatch.setattr(architectures, "_SLAB", 64)
    monkeypatch.setattr(architectures, "_PIECE", 5)
    monkeypatch.setattr(gated_bound, "_SLAB", 64)
    monkeypatch.setattr(gated_bound, "_PIECE", 5)
    rng = np.random.default_rng(n)
    # Integers put samples exactly on the hyperplanes of gates.
    X, gates = rng.integers(-2, 3, (n, 3)).astype(float), rng.integers(-2, 3, (12, 3)).astype(float)
    masks = gates @ X.T >= 0
    np.testing.assert_array_equal(gate_masks(X, gates), masks)
    patterns = gate_patterns(X, gates)
    np.testing.assert_array_equal(patterns.masks, masks)
    np.testing.assert_array_equal(patterns.packed, ActivationPatterns.from_masks(masks, gates).packed)
    nu = rng.standard_normal(n)
    upper, value = gated_dual_norm(X, patterns, nu)
    truth = max(float(np.linalg.norm(X.T @ (mask * nu))) for mask in masks)
    assert value == pytest.approx(truth, rel=1e-12, abs=1e-300)
    assert truth <= upper <= truth + 1e-10


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_history_holds_objectives_in_double_precision(loss, small_levels):
    problem, patterns = make(loss, n=300, d=5, P=40, beta=1.0)
    result = solve_group_lasso_rows(problem, patterns, tol=1e-5)
    assert np.all(np.diff(result.history.objective) <= 0)
    assert result.objective == result.history.objective[-1]
    assert result.objective == pytest.approx(objective(problem, patterns, result), rel=1e-14)


@pytest.mark.parametrize("n", [1, 15, 16, 35])
@pytest.mark.parametrize("order", ["C", "F"])
def test_column_sizes(n, order):
    X = np.asarray(np.random.default_rng(n).standard_normal((n, 3)), order=order)
    np.testing.assert_array_equal(_row_products._column_sizes(X), np.max(np.abs(X), axis=0))


@pytest.mark.parametrize("better", [True, False])
def test_best_blocks_are_those_of_the_least_true_objective(better):
    problem, patterns = make(n=80, beta=0.05)
    best = solve_group_lasso_rows(problem, patterns, tol=1e-8)
    run = group_lasso_rows._Run(problem, patterns, 1e-8, None, Recorder(False))
    units = np.ldexp(best.vectors, run.exponent)
    # The best blocks are known in single precision when others, better or worse, are evaluated in double.
    levels = []
    for scale in (0.9, 1.0) if better else (1.0, 0.9):
        level = Level(run.rows, run.beta, run.zero(run.rows))
        fit = run.rows.forward(run.rows.bits(best.index), scale * units)
        level.point = Point(best.index, scale * units, fit)
        levels.append(level)
    run.evaluate(levels[0], rough=True)
    assert run.rough
    run.evaluate(levels[1])
    np.testing.assert_array_equal(run.best.U, units)
    assert not run.rough
    assert run.objective == pytest.approx(best.objective, rel=1e-13)


@pytest.mark.parametrize("products", range(1, 40, 3))
def test_blocks_that_a_deadline_catches_entering_are_left_out(products, small_levels, monkeypatch):
    # A block enters at zero before the Newton step that gives it a length.
    problem, patterns = make("huber", n=200, beta=0.05)
    left = [products]

    def check(deadline):
        left[0] -= 1
        if left[0] < 0 and not np.isinf(deadline.at):
            raise OutOfTime

    monkeypatch.setattr(group_lasso_rows.Deadline, "check", check)
    result = solve_group_lasso_rows(problem, patterns, time_limit=100.0)
    assert np.all(np.linalg.norm(result.vectors, axis=1) > 0)
    assert result.objective == pytest.approx(objective(problem, patterns, result), rel=1e-12)


def test_work_beyond_a_limit_counts_as_stalled_and_is_taken_over(small_levels, monkeypatch):
    problem, patterns = make("huber", n=200, beta=0.05)
    free = solve_group_lasso_rows(problem, patterns)
    cut = solve_group_lasso_rows(problem, patterns, most_work=1.0)
    assert cut.status is Status.STALLED and cut.n_iter < free.n_iter
    assert cut.lower_bound <= free.objective <= cut.objective * (1 + 1e-12)
    monkeypatch.setattr("cvxnn.solvers.group_lasso.dispatch.ROWS", 100)
    monkeypatch.setattr("cvxnn.solvers.group_lasso.dispatch.work_before", lambda problem, n_patterns: 1.0)
    ended = solve_group_lasso(problem, patterns)
    assert ended.status is Status.PATTERNS_OPTIMUM
    assert ended.objective == pytest.approx(free.objective, rel=2e-6)


def test_rounding_of_a_fit_in_single_precision_is_within_its_estimate():
    problem, patterns = make(n=300, d=5, P=40)
    X = problem.X + 1e6
    rows = Rows(X, problem.y, problem.sample_weight, problem.loss, patterns.packed, 0, lambda: None)
    U = np.random.default_rng(0).standard_normal((40, 5))
    error = np.abs(rows.forward(patterns.packed, U) - rows.forward(patterns.packed, U, exact=True))
    slack = rows.forward_slack(U)
    assert np.all(error <= slack) and np.max(error) >= 1e-3 * np.max(slack)
