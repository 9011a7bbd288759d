"""The program on listed patterns against a general conic solver, with the dual proof recomputed from the data."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.certificates.certificate import certify_patterns
from cvxnn.problem import Problem
from cvxnn.solvers.cell_program import solve_cells
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.cone_proximal import ConeProximal
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.working_set import solve_listed
from tests.oracles.conic import conic_optimum
from tests.solvers.test_cone_interior_point import LOSSES, random_instance

TOL = 1e-6


def listed(problem: Problem, masks: np.ndarray, *, deadline: float = np.inf, max_iter: int = 200) -> ColumnState:
    zero = Neurons.empty(problem.n_features)
    state = ColumnState(zero, zero.objective(problem), np.zeros((0, problem.n_features)))
    gates = np.zeros((len(masks), problem.n_features))
    solve_listed(problem, masks, gates, state, ColumnOptions(TOL, False, max_iter, deadline, 0), lambda _: None)
    return state


def check(problem: Problem, masks: np.ndarray, state: ColumnState) -> None:
    """Every neuron lies in a listed cone, and the proved gap is closed."""
    neurons = state.neurons
    assert state.objective == pytest.approx(neurons.objective(problem), rel=1e-13)
    orient = np.where(masks, 1.0, -1.0)
    scale = np.linalg.norm(problem.X, axis=1)
    for vector in neurons.vectors:
        slacks = orient * (problem.X @ vector)
        assert np.max(np.min(slacks + 1e-9 * scale * np.linalg.norm(vector), axis=1)) >= 0
    certificate = certify_patterns(problem, neurons.fit(problem.X), state.objective, masks)
    assert certificate.gap <= TOL


def real(name: str, loss: str, share: float) -> Problem:
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(len(X))])
    y = (y - y.mean()) / y.std()
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    return Problem(X, y, share * len(y), loss)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_conic_solver(seed):
    problem, masks, _ = random_instance(seed)
    state = listed(problem, masks)
    assert state.outcome == "listed"
    check(problem, masks, state)
    both = np.concatenate([masks, masks])
    truth = conic_optimum(problem, both, np.repeat([1.0, -1.0], len(masks)))
    assert state.objective == pytest.approx(truth, rel=2e-8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1000, 100_000))
def test_closes_the_gap_on_any_instance(seed):
    problem, masks, _ = random_instance(seed)
    check(problem, masks, listed(problem, masks))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("share", [1e-1, 1e-2, 1e-3])
def test_real_data(loss, share):
    problem = real("diabetes", loss, share)
    masks = np.random.default_rng(3).standard_normal((15, problem.n_features)) @ problem.X.T >= 0
    state = listed(problem, masks)
    assert state.outcome == "listed"
    check(problem, masks, state)


def test_real_data_agrees_with_conic_solver():
    problem = real("diabetes", "squared", 1e-2)
    masks = np.random.default_rng(5).standard_normal((10, problem.n_features)) @ problem.X.T >= 0
    both = np.concatenate([masks, masks])
    truth = conic_optimum(problem, both, np.repeat([1.0, -1.0], 10), tight=False)
    assert listed(problem, masks).objective == pytest.approx(truth, rel=1e-6)


def test_repeated_patterns_change_nothing():
    problem = real("diabetes", "squared", 1e-2)
    masks = np.random.default_rng(1).standard_normal((12, problem.n_features)) @ problem.X.T >= 0
    once, twice = listed(problem, masks), listed(problem, np.concatenate([masks, masks[::-1]]))
    assert twice.objective == pytest.approx(once.objective, rel=1e-9)
    assert len(twice.neurons) == len(once.neurons)


def test_cones_of_the_origin_alone_leave_the_zero_network():
    X = np.vstack([np.eye(2), -np.eye(2)])
    problem = Problem(X, [1.0, 2.0, 3.0, 4.0], 0.1)
    state = listed(problem, np.ones((1, 4), dtype=bool))
    assert state.outcome == "listed"
    assert len(state.neurons) == 0
    check(problem, np.ones((1, 4), dtype=bool), state)


def test_small_beta_with_more_variables_than_samples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 8))
    problem = Problem(X, rng.standard_normal(40), 1e-3)
    masks = rng.standard_normal((60, 8)) @ X.T >= 0
    state = listed(problem, masks)
    check(problem, masks, state)
    assert len(state.neurons) <= 40


def test_limits_keep_the_best_point():
    problem = real("diabetes", "squared", 1e-2)
    masks = np.random.default_rng(1).standard_normal((30, problem.n_features)) @ problem.X.T >= 0
    zero = problem.loss_value(np.zeros(problem.n_samples))
    few = listed(problem, masks, max_iter=2)
    assert few.outcome == "max_iter"
    assert few.objective < zero
    late = listed(problem, masks, deadline=time.perf_counter())
    assert late.outcome == "time_limit"
    assert late.objective == zero


@pytest.mark.parametrize("seconds", [0.005, 0.02, 0.05])
def test_a_deadline_in_the_middle_leaves_neurons_in_their_cones(seconds):
    problem = real("diabetes", "squared", 1e-3)
    masks = np.random.default_rng(1).standard_normal((40, problem.n_features)) @ problem.X.T >= 0
    state = listed(problem, masks, deadline=time.perf_counter() + seconds)
    assert state.objective <= problem.loss_value(np.zeros(problem.n_samples))
    sizes = np.linalg.norm(problem.X, axis=1)
    for vector in state.neurons.vectors:
        slacks = np.where(masks, 1.0, -1.0) * (problem.X @ vector) + 1e-9 * sizes * np.linalg.norm(vector)
        assert np.max(np.min(slacks, axis=1)) >= 0


@pytest.mark.parametrize("loss", LOSSES)
def test_cells_from_a_near_start_agree_with_the_interior_point_method(loss):
    problem = real("diabetes", loss, 1e-2)
    rng = np.random.default_rng(3)
    masks, signs = rng.standard_normal((25, problem.n_features)) @ problem.X.T >= 0, np.resize([1.0, -1.0], 25)
    truth = solve_cone_blocks(problem, masks, signs, tol=1e-9)
    start = truth.vectors * rng.uniform(0.5, 1.5, (25, 1)) * (1.0 + 1e-3 * rng.standard_normal(truth.vectors.shape))
    vectors = solve_cells(problem, masks, signs, start=start)
    fit = np.sum(signs[:, None] * masks * (vectors @ problem.X.T), axis=0)
    value = problem.loss_value(fit) + problem.beta * np.linalg.norm(vectors, axis=1).sum()
    assert value == pytest.approx(truth.objective, rel=3e-9)
    sizes = np.outer(np.linalg.norm(vectors, axis=1), np.linalg.norm(problem.X, axis=1))
    assert np.all(np.where(masks, 1.0, -1.0) * (vectors @ problem.X.T) >= -1e-9 * sizes)


def test_interrupt_keeps_the_best_point():
    problem = real("diabetes", "squared", 1e-2)
    masks = np.random.default_rng(1).standard_normal((30, problem.n_features)) @ problem.X.T >= 0
    zero = Neurons.empty(problem.n_features)
    state = ColumnState(zero, zero.objective(problem), np.zeros((0, problem.n_features)))

    def stop(current: ColumnState) -> None:
        if current.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gates = np.zeros((30, problem.n_features))
        solve_listed(problem, masks, gates, state, ColumnOptions(TOL, False, 200, np.inf, 0), stop)
    assert state.objective < zero.objective(problem)
    assert state.objective == pytest.approx(state.neurons.objective(problem), rel=1e-13)


@pytest.mark.parametrize("seed", range(20))
def test_descent_never_leaves_the_cones_or_raises_the_objective(seed):
    problem, masks, signs = random_instance(seed)
    solver = ConeProximal(problem, masks, signs)
    every, last = np.arange(len(masks)), np.inf
    for _ in range(3):
        solver.descend(every, problem.beta, tol=1e-12, max_iter=2)
        value = solver.objective(problem.beta)
        assert value <= last * (1 + 1e-12)
        last = value
        sizes = np.outer(np.linalg.norm(solver.vectors, axis=1), np.linalg.norm(problem.X, axis=1))
        assert np.all(np.where(masks, 1.0, -1.0) * (solver.vectors @ problem.X.T) >= -1e-9 * sizes)
        fit = sum(s * mask * (problem.X @ z) for s, mask, z in zip(signs, masks, solver.vectors, strict=True))
        assert np.allclose(fit, solver.fit, rtol=0, atol=1e-10 * max(1.0, np.abs(fit).max()))


def test_a_start_whose_projection_is_cut_short_leaves_no_block_outside_its_cone():
    problem = real("diabetes", "squared", 1e-2)
    rng = np.random.default_rng(0)
    masks, signs = rng.standard_normal((40, problem.n_features)) @ problem.X.T >= 0, np.resize([1.0, -1.0], 40)
    vectors = rng.standard_normal((40, problem.n_features))
    sizes = np.outer(np.linalg.norm(vectors, axis=1), np.linalg.norm(problem.X, axis=1))
    for deadline, used in ((np.inf, 40), (time.perf_counter(), 0)):
        solver = ConeProximal(problem, masks, signs, deadline=deadline)
        solver.start(vectors)
        assert np.all(np.where(masks, 1.0, -1.0) * (solver.vectors @ problem.X.T) >= -1e-9 * sizes)
        fit = np.sum(signs[:, None] * masks * (solver.vectors @ problem.X.T), axis=0)
        np.testing.assert_allclose(solver.fit, fit, atol=1e-10)
        assert np.count_nonzero(solver.masses()) >= used // 2


def model_with_blocks():
    """A solver with real rows, the model of its next proximal step, and a trial with blocks in use."""
    problem, rng = real("diabetes", "squared", 1e-2), np.random.default_rng(0)
    masks = rng.standard_normal((40, problem.n_features)) @ problem.X.T >= 0
    solver, every = ConeProximal(problem, masks, np.resize([1.0, -1.0], 40)), np.arange(40)
    solver.descend(every, problem.beta, tol=0.1)
    model = solver._model(every, problem.beta, 0.2 * solver.sigma(every, problem.beta))
    trial = solver._trial(model, 0.01 * np.std(problem.y) * rng.standard_normal(problem.n_samples))
    assert np.count_nonzero(trial.lengths > model.sigma * model.beta) > 5
    return solver, model, trial


def test_a_newton_system_that_is_not_positive_definite_gives_the_gradient_step(monkeypatch):
    solver, model, trial = model_with_blocks()
    assert not np.array_equal(solver._newton_direction(model, trial), trial.error)
    monkeypatch.setattr(solver, "_face_map", lambda *_: np.full((solver.problem.n_features, 2), np.nan))
    np.testing.assert_array_equal(solver._newton_direction(model, trial), trial.error)


def test_a_newton_direction_is_that_of_the_slope_of_the_error():
    """Central differences of the error along the direction, on which no projection changes its face."""
    solver, model, trial = model_with_blocks()
    step = 1e-6 * solver._newton_direction(model, trial)
    ahead, behind = solver._trial(model, trial.change + step), solver._trial(model, trial.change - step)
    found = (behind.error - ahead.error) / 2e-6
    np.testing.assert_allclose(found, trial.error, atol=1e-6 * np.abs(trial.error).max())


def test_a_descent_goes_on_with_the_proximal_weight_of_the_last_one():
    """At the same beta only; a descent that starts where one has ended needs its last step alone."""
    solver, model, _ = model_with_blocks()
    every, beta = model.which, model.beta
    solver.descend(every, beta, tol=1e-9)
    shortest = solver.masses().max() / beta
    assert solver.sigma(every, beta) > 2.0 * shortest
    assert solver.sigma(every, 0.5 * beta) == 2.0 * shortest
    assert solver.descend(every, beta, tol=1e-9, max_iter=1) <= 1e-9
