"""Group lasso solver: both linear-algebra routes, both precisions, its starts, and the derivatives they share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from cvxnn import HuberLoss, Problem
from cvxnn.patterns import ActivationPatterns
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso import (
    _common,
    _eta_newton,
    _ridge_newton,
    _row_newton,
    interior,
    kernel,
    solve_group_lasso,
)
from cvxnn.solvers.group_lasso import dispatch as solver
from cvxnn.solvers.group_lasso._common import OutOfTime
from cvxnn.solvers.group_lasso._eta_newton import Model, evaluate
from cvxnn.solvers.group_lasso._kernel_square import KernelSquare
from cvxnn.solvers.group_lasso._ridge import GramCache, GramRidge, KernelRidge, WorkingBlocks, cross_gram
from tests.oracles.group_lasso import group_lasso_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.3)]


def make(loss="squared", n=40, d=3, P=30, beta=0.4, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), 2.0 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    problem = Problem(X, y, beta=beta, loss=loss, sample_weight=rng.uniform(0.5, 2.0, n))
    masks = (rng.standard_normal((P, d)) @ X.T) >= 0
    return problem, masks, ActivationPatterns.from_masks(masks, np.ones((P, d)))


def objective(problem, masks, result):
    fit = np.sum(masks[result.index].T * (problem.X @ result.vectors.T), axis=1)
    return problem.loss_value(fit) + problem.beta * np.sum(np.linalg.norm(result.vectors, axis=1))


def model_of(problem):
    return Model(problem.X, problem.y, problem.sample_weight, problem.loss, problem.beta, lambda: None, 1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("gram", [False, True], ids=["kernel", "gram"])
def test_every_route_reaches_the_optimum(loss, gram, monkeypatch):
    problem, masks, patterns = make(loss)
    if gram:
        monkeypatch.setattr(Model, "ridge", lambda self, blocks, w, _: GramRidge(blocks, w, self.beta, self.cache))
    else:
        monkeypatch.setattr(_eta_newton, "GRAM_LIMIT", 0)
    result = solve_group_lasso(problem, patterns, tol=1e-6)
    truth, _ = group_lasso_optimum(problem, masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert objective(problem, masks, result) == pytest.approx(truth, rel=1.5e-6)
    assert result.history.lower_bound[-1] <= truth * (1 + 1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_optimality_conditions(loss):
    problem, masks, patterns = make(loss, seed=3)
    result = solve_group_lasso(problem, patterns, tol=1e-11)
    fit = np.sum(masks[result.index].T * (problem.X @ result.vectors.T), axis=1)
    nu = problem.dual_vector(fit)
    gradients = np.array([problem.X.T @ (m * nu) for m in masks])
    assert np.max(np.linalg.norm(gradients, axis=1)) <= problem.beta * (1 + 1e-4)
    heavy = np.linalg.norm(result.vectors, axis=1) > 1e-3
    unit = result.vectors[heavy] / np.linalg.norm(result.vectors[heavy], axis=1, keepdims=True)
    np.testing.assert_allclose(gradients[result.index][heavy], problem.beta * unit, atol=1e-4 * problem.beta)


def setting(loss="logistic"):
    problem, masks, _ = make(loss, P=6)
    blocks = WorkingBlocks(problem.X, masks.T.astype(float), np.arange(6))
    w = np.array([0.3, 0.0, 1.0, 0.2, 0.7, 0.05])
    return problem, blocks, w


def test_routes_are_the_same_operator():
    problem, blocks, w = setting()
    active = w > 0
    few = blocks.take(active)
    kernel = KernelRidge(few, KernelSquare(problem.X), w[active], problem.beta)
    gram = GramRidge(few, w[active], problem.beta)
    G = sum(w[i] * np.outer(blocks.masks[:, i], blocks.masks[:, i]) * (problem.X @ problem.X.T) for i in range(len(w)))
    rng = np.random.default_rng(0)
    r, h, B = rng.standard_normal(40), rng.uniform(0, 2, 40), rng.standard_normal((40, 6))
    h[::5] = 0.0
    system = problem.beta * np.eye(40) + h[:, None] * G
    for route in (kernel, gram):
        route.factorise(h)
        np.testing.assert_allclose(route.apply(r), G @ r, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(route.solve(r), np.linalg.solve(system, r), rtol=1e-9, atol=1e-11)
        expected = B.T @ np.linalg.solve(system, h[:, None] * B)
        np.testing.assert_allclose(route.weight_hessian(B.copy()), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge"])
def test_gradient_and_curvature_in_the_weights(loss):
    problem, blocks, w = setting(loss)
    model, start = model_of(problem), np.zeros(40)
    state = evaluate(model, blocks, w, start)
    curvature = _eta_newton._curvature(model, blocks, state, 0.0)
    step = 1e-5
    for i in range(len(w)):
        up, down = w.copy(), w.copy()
        up[i] += step
        down[i] = max(down[i] - step, 0.0)
        plus, minus = evaluate(model, blocks, up, start), evaluate(model, blocks, down, start)
        width = up[i] - down[i]
        slope = 0.5 * problem.beta * (1.0 - state.norms[i] ** 2)
        tolerance = {"rel": 1e-4, "abs": 1e-4} if w[i] > 0 else {"rel": 1e-3, "abs": 1e-3}
        assert (plus.value - minus.value) / width == pytest.approx(slope, **tolerance)
        change = (plus.norms**2 - minus.norms**2) / width
        np.testing.assert_allclose(change, -2.0 * curvature[:, i], rtol=2e-2, atol=2e-3 * np.abs(curvature).max())


def test_gram_cache_returns_the_blocks_that_were_asked_for():
    problem, masks, _ = make(P=12)
    columns, h, cache = masks.T.astype(float), problem.sample_weight, GramCache()
    for ids in ([0, 1, 2], [1, 2, 5, 7], [7, 1], [0, 3, 4, 6, 8], [8], [9, 10, 11], [11, 2]):
        blocks = WorkingBlocks(problem.X, columns[:, ids], np.array(ids))
        expected = cross_gram(blocks, blocks, h)
        got = cache.gram(blocks, h)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        got[:] = np.nan


def test_repeated_patterns_share_one_block():
    problem, masks, _ = make()
    twice = ActivationPatterns.from_masks(np.vstack([masks, masks]), np.ones((60, 3)))
    result = solve_group_lasso(problem, twice)
    assert np.all(result.index < 30)


def test_interpolation_with_far_more_blocks_than_samples():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 6)), rng.standard_normal(30)
    masks = rng.standard_normal((400, 6)) @ X.T >= 0
    problem = Problem(X, y, beta=1e-5)
    result = solve_group_lasso(problem, ActivationPatterns.from_masks(masks, np.ones((400, 6))))
    assert result.status is Status.PATTERNS_OPTIMUM


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("columns", [0.0, 1e9], ids=["kernel", "rows"])
def test_start_from_a_part_of_the_samples(loss, columns, monkeypatch):
    problem, masks, patterns = make(loss, n=160, P=25, beta=1.0, seed=4)
    monkeypatch.setattr(solver, "_SAMPLED", 100)
    monkeypatch.setattr(solver, "_FEW_COLUMNS", columns)
    result = solve_group_lasso(problem, patterns, tol=1e-6)
    truth, _ = group_lasso_optimum(problem, masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert objective(problem, masks, result) == pytest.approx(truth, rel=1.5e-6)
    assert result.history.lower_bound[-1] <= truth * (1 + 1e-7)


def test_many_samples_go_to_the_method_by_rows(monkeypatch):
    problem, masks, patterns = make(n=60)
    here = solve_group_lasso(problem, patterns, tol=1e-8)
    monkeypatch.setattr(solver, "ROWS", 50)
    there = solve_group_lasso(problem, patterns, tol=1e-8)
    assert objective(problem, masks, there) == pytest.approx(objective(problem, masks, here), rel=2e-8)


def test_a_part_without_weight_or_signal_does_no_harm(monkeypatch):
    monkeypatch.setattr(solver, "_SAMPLED", 40)
    problem, masks, _ = make(n=120, P=10, beta=0.2)
    weight = np.zeros(120)
    weight[:44] = 1.0
    y = np.where(np.arange(120) == 3, 5.0, 0.0)
    spike = Problem(problem.X, y, beta=0.2, sample_weight=weight)
    result = solve_group_lasso(spike, ActivationPatterns.from_masks(masks, np.ones((10, 3))))
    truth, _ = group_lasso_optimum(spike, masks)
    assert objective(spike, masks, result) == pytest.approx(truth, rel=2e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_large_rows_of_zero_weight_do_no_harm(loss):
    problem, masks, patterns = make(loss, n=42)
    X, weight = problem.X.copy(), problem.sample_weight.copy()
    X[:2] *= 1e9
    weight[:2] = 0.0
    heavy = Problem(X, problem.y, problem.beta, problem.loss, sample_weight=weight)
    light = Problem(X[2:], problem.y[2:], problem.beta, problem.loss, sample_weight=weight[2:])
    result = solve_group_lasso(heavy, patterns, tol=1e-6)
    truth, _ = group_lasso_optimum(light, masks[:, 2:])
    assert result.status is Status.PATTERNS_OPTIMUM
    assert result.dual.shape == (42,) and not np.any(result.dual[:2])
    assert objective(heavy, masks, result) == pytest.approx(truth, rel=1.5e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_single_precision_and_borrowed_factors_give_the_same_state(loss):
    problem, blocks, w = setting(loss)
    single, double = model_of(problem), model_of(problem)
    double.single = False
    exact = evaluate(double, blocks, w, np.zeros(40))
    state = evaluate(single, blocks, w, np.zeros(40))
    nearby = evaluate(single, blocks, 1.03 * w, state.alpha, state.ridge)
    again = evaluate(double, blocks, 1.03 * w, exact.alpha)
    assert single.single
    for found, truth in ((state, exact), (nearby, again)):
        np.testing.assert_allclose(found.alpha, truth.alpha, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found.norms, truth.norms, rtol=1e-8)
        assert found.value == pytest.approx(truth.value, rel=1e-12)


def test_ill_conditioned_systems_go_to_double_precision():
    problem, _, _ = make(P=6)
    X = problem.X * np.array([1.0, 1e-3, 1e-6])
    hard = Problem(X, problem.y, beta=1e-11)
    model = Model(X, hard.y, hard.sample_weight, hard.loss, hard.beta, lambda: None, 1e-10)
    masks = np.random.default_rng(1).random((40, 30)) < 0.5
    blocks = WorkingBlocks(X, masks.astype(float), np.arange(30))
    state = evaluate(model, blocks, np.full(30, 10.0), np.zeros(40))
    assert not model.single
    residual = hard.beta * state.alpha + model.gradient(state.fit)
    assert np.linalg.norm(residual) <= 1e-8 * np.linalg.norm(hard.y)


@pytest.mark.parametrize(
    ("seed", "fraction"),
    [(334, 1.12e-3), (334, 1.54e-3), (1054, 1.1e-4), (1054, 1.32e-4)],
    ids=["short steps", "flat loss", "singular in single precision", "single factor after double"],
)
def test_flat_stretches_of_the_huber_loss_do_not_stall(seed, fraction):
    # Residuals far beyond a small delta leave few samples with curvature, and a small beta does not replace it.
    rng = np.random.default_rng(seed)
    n, d, P = int(rng.integers(5, 61)), int(rng.integers(2, 9)), int(rng.integers(2, 40))
    X = rng.normal(size=(n, d))
    X[:, -1] = 1.0
    y, gates = rng.normal(size=n), rng.normal(size=(P, d))
    masks, loss = gates @ X.T >= 0, HuberLoss(0.01)
    top = np.max(np.linalg.norm((masks * Problem(X, y, 1.0, loss).dual_vector(np.zeros(n))) @ X, axis=1))
    problem = Problem(X, y, fraction * top, loss)
    result = solve_group_lasso(problem, ActivationPatterns.from_masks(masks, gates))
    assert result.status is Status.PATTERNS_OPTIMUM
    fit = np.sum(masks[result.index].T * (X @ result.vectors.T), axis=1)
    nu = problem.dual_vector(fit)
    excess = np.max(np.linalg.norm((masks * nu) @ X, axis=1)) / problem.beta
    scale = 1.0 / max(1.0, excess)
    bound = problem.loss.dual_value(scale * nu, y, problem.sample_weight)
    assert bound <= result.objective == pytest.approx(objective(problem, masks, result), rel=1e-12)
    assert result.lower_bound == pytest.approx(result.objective, rel=1.01e-6)


@pytest.mark.parametrize("kept", [0, 1 << 23], ids=["pieces", "kept"])
def test_largest_price_is_exact(kept, monkeypatch):
    monkeypatch.setattr(kernel, "_KEPT", kept)
    monkeypatch.setattr(kernel, "_SLAB", 400)
    problem, masks, patterns = make(P=200, n=70)
    run = kernel.KernelRun(problem, patterns, 1e-6, np.inf, Recorder(False))
    masks = masks[run.origin]
    for nu in (problem.dual_vector(np.zeros(70)), np.full(70, 1e-100), np.zeros(70)):
        truth = np.ldexp(np.linalg.norm((masks * nu) @ problem.X, axis=1), -run.exponent)
        known = np.array([0, 3, int(np.argmax(truth))])
        for ids in (np.zeros(0, dtype=np.int64), known):
            norms = run.price(nu, ids, truth[ids])
            assert np.max(norms) == pytest.approx(np.max(truth), rel=1e-14)
            np.testing.assert_allclose(norms, truth, rtol=1e-4)


def test_part_of_a_step_minimises_along_it():
    problem, blocks, _ = setting("huber")
    model, rng = model_of(problem), np.random.default_rng(0)
    alpha, step = rng.standard_normal(40), 50.0 * rng.standard_normal(40)
    ridge = GramRidge(blocks, np.ones(6), problem.beta)
    fit, image = ridge.apply(alpha), ridge.apply(step)
    slope = image @ (model.gradient(fit) + problem.beta * alpha)
    step, image = -np.sign(slope) * step, -np.sign(slope) * image
    t = _ridge_newton._shorter(model, (alpha, fit), (step, image))

    def value(size):
        moved = fit + size * image
        return model.value(moved) + 0.5 * problem.beta * (alpha + size * step) @ moved

    best = min(value(size) for size in np.linspace(0.0, 1.0, 2001))
    assert 0.0 < t < 1.0
    assert value(0.0) - value(t) >= 0.9 * (value(0.0) - best)


def test_deadline_and_interrupt_keep_a_valid_bound(monkeypatch):
    problem, _, patterns = make(beta=1e-3, n=60)
    result = solve_group_lasso(problem, patterns, tol=1e-14, time_limit=0.0)
    assert result.status is Status.TIME_LIMIT
    assert result.history.lower_bound[-1] <= result.history.objective[-1]

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(solver, "_SAMPLED", 50)
    monkeypatch.setattr(solver, "_sampled_start", interrupt)
    stopped = solve_group_lasso(problem, patterns)
    assert stopped.status is Status.INTERRUPTED and stopped.index.size == 0


@pytest.mark.parametrize("method", [kernel, interior])
def test_the_time_of_one_pricing_is_kept_for_the_certificate(method, monkeypatch):
    problem, _, patterns = make()
    first = kernel.KernelRun(problem, patterns, 1e-4, 100.0, Recorder(False))
    run = first
    if method is interior:
        run = interior.InteriorRun(problem, patterns, 1e-4, 100.0, Recorder(False), first.result(Status.STALLED))
    now = [0.0]
    for module in (method, _common):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    price = run.price

    def slow(*arguments):
        now[0] += 3.0
        return price(*arguments)

    monkeypatch.setattr(run, "price", slow)
    ended = run.finish(50, None) if method is kernel else run.finish(50).status
    assert ended is Status.PATTERNS_OPTIMUM and run.deadline.at == 97.0


@pytest.mark.parametrize("stop", ["deadline", "interrupt"])
def test_blocks_of_a_part_survive_what_ends_the_solve(stop, monkeypatch):
    problem, masks, patterns = make(n=160, P=25, beta=1.0, seed=4)
    monkeypatch.setattr(solver, "_SAMPLED", 100)
    solve, seen = solver.KernelRun.solve, []

    def ended(self, *args):
        seen.append(len(self.model.y))
        if len(seen) > 1:
            return solve(self, *args)
        solve(self, *args)
        if stop == "interrupt":
            raise KeyboardInterrupt
        monkeypatch.setattr(solver.time, "perf_counter", lambda: 1e18)
        raise OutOfTime

    monkeypatch.setattr(solver.KernelRun, "solve", ended)
    result = solve_group_lasso(problem, patterns, time_limit=1e3)
    assert seen == [40, 160]
    assert result.status is (Status.INTERRUPTED if stop == "interrupt" else Status.TIME_LIMIT)
    assert result.index.size > 0
    assert result.objective == pytest.approx(objective(problem, masks, result), rel=1e-12)
    assert result.objective < problem.loss_value(np.zeros(160)) and result.lower_bound > 0.0


@pytest.mark.parametrize("rows", [50, 5000], ids=["rows", "kernel"])
def test_a_start_survives_a_limit_without_time(rows, monkeypatch):
    monkeypatch.setattr(solver, "ROWS", rows)
    problem, _, patterns = make(n=60, beta=1.0)
    best = solve_group_lasso(problem, patterns, tol=1e-8)
    start = np.zeros((30, 3))
    start[best.index] = best.vectors
    kept = solve_group_lasso(problem, patterns, tol=1e-12, time_limit=0.0, warm_start=start)
    assert kept.objective == pytest.approx(best.objective, rel=1e-6)
    assert kept.lower_bound <= best.objective


def test_objective_and_bound_of_the_result_are_exact():
    for loss in LOSSES:
        problem, masks, patterns = make(loss, beta=1.0)
        result = solve_group_lasso(problem, patterns)
        assert result.objective == pytest.approx(objective(problem, masks, result), rel=1e-13)
        assert result.lower_bound == result.history.lower_bound[-1] <= result.objective


def test_matrices_far_from_positive_definite_end_with_an_error():
    with pytest.raises(LinAlgError, match="positive definite"):
        _eta_newton._solve_positive(-1e9 * np.eye(2), np.ones(2))
    with pytest.raises(LinAlgError, match="positive definite"):
        _row_newton._factorise(np.diag(np.array([-1e30, 1.0], dtype=np.float32)))


def test_gram_of_data_in_either_order_leaves_the_data_alone():
    rng = np.random.default_rng(0)
    X, masks, h = rng.standard_normal((40, 3)), (rng.random((40, 5)) > 0.5).astype(float), rng.random(40)
    columns = (masks[:, :, None] * X[:, None, :]).reshape(40, -1)
    for order in ("C", "F"):
        data = np.array(X, order=order)
        blocks = WorkingBlocks(data, masks, np.arange(5))
        np.testing.assert_allclose(cross_gram(blocks, blocks, h), columns.T @ (h[:, None] * columns), atol=1e-12)
        np.testing.assert_array_equal(data, X)


def test_no_curvature_anywhere_does_not_overflow():
    # All residuals are beyond delta: the ridge problem is linear there, and its minimum is -gradient / beta.
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), 1e6 * (1.0 + rng.random(30))
    problem = Problem(X, y, 1e-20, HuberLoss(1.0))
    model = model_of(problem)
    masks = rng.random((30, 5)) < 0.5
    blocks = WorkingBlocks(X, masks.astype(float), np.arange(5))
    for kernel_route in (False, True):
        w = np.full(5, 1e-22)
        ridge = (
            KernelRidge(blocks, KernelSquare(X), w, problem.beta)
            if kernel_route
            else GramRidge(blocks, w, problem.beta)
        )
        alpha = _ridge_newton.solve_ridge(model, ridge, np.zeros(30))
        np.testing.assert_allclose(alpha, -model.gradient(np.zeros(30)) / problem.beta, rtol=1e-9)
