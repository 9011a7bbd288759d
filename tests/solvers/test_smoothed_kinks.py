from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cvxnn.solvers.smoothed_kinks as module
from cvxnn.problem import Problem
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

LOSSES = ["squared", "huber", "logistic", "squared_hinge"]


def make(loss: str, *, n: int = 25, d: int = 3, k: int = 6, seed: int = 0, beta: float = 0.3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    return Problem(X, y, beta=beta, loss=loss), Neurons(rng.standard_normal((k, d)), rng.choice([-1.0, 1.0], k))


def state_of(steps: SmoothedKinks, neurons: Neurons, eps: float):
    ordered = neurons.take(np.argsort(-neurons.signs, kind="stable"))
    return steps._state(ordered.vectors, ordered.signs, (eps * ordered.masses) ** 2)


def plain_smoothed_value(problem: Problem, neurons: Neurons, spread) -> float:
    t = problem.X @ neurons.vectors.T
    root = np.sqrt(t * t + np.outer(np.sum(problem.X**2, axis=1), spread))
    return problem.loss_value(0.5 * (t + root) @ neurons.signs) + problem.beta * neurons.masses.sum()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("limit", [0, 24])
def test_values_and_gradient_of_the_smoothed_objective(loss, limit, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_FEATURES", limit)
    problem, neurons = make(loss)
    steps = SmoothedKinks(problem)
    steps.precise = True
    state = state_of(steps, neurons, 0.1)
    at = Neurons(state.vectors, state.signs)
    assert state.value == pytest.approx(plain_smoothed_value(problem, at, state.spread), rel=1e-13)
    assert state.true_value == pytest.approx(at.objective(problem), rel=1e-13)
    rng = np.random.default_rng(1)
    for _ in range(5):
        move = rng.standard_normal(neurons.vectors.shape)
        h = 1e-6
        values = steps._smoothed_values(state, move, (h, -h, 0.7))
        moved = Neurons(state.vectors + 0.7 * move, state.signs)
        assert values[2] == pytest.approx(plain_smoothed_value(problem, moved, state.spread), rel=1e-13)
        slope = np.vdot(state.gradient, steps._rotated(state.signs[:, None] * move))
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("limit", [0, 24])
def test_single_precision_agrees_with_double(limit, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_FEATURES", limit)
    problem, neurons = make("logistic", n=200, d=7)
    steps = SmoothedKinks(problem)
    single = state_of(steps, neurons, 1e-2)
    steps.precise = True
    double = state_of(steps, neurons, 1e-2)
    assert single.single and not double.single
    assert single.value == pytest.approx(double.value, rel=1e-6)
    np.testing.assert_allclose(single.gradient, double.gradient, atol=1e-4 * np.abs(double.gradient).max())
    np.testing.assert_allclose(single.convex, double.convex, rtol=1e-2, atol=1e-4)
    move = np.random.default_rng(0).standard_normal(neurons.vectors.shape)
    values = [steps._smoothed_values(state, move, (1.0, 0.25)) for state in (single, double)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("limit", [0, 24])
def test_preconditioner_inverts_the_diagonal_of_the_operator(loss, limit, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_FEATURES", limit)
    problem, neurons = make(loss)
    steps = SmoothedKinks(problem)
    state = state_of(steps, neurons, 0.1)
    inverse = steps._preconditioner(state)
    k, d = neurons.vectors.shape
    for i in range(k):
        block = np.zeros((d, d))
        for j in range(d):
            p = np.zeros((k, d), dtype=np.float32)
            p[i, j] = 1.0
            block[:, j] = steps._apply(state, p)[i]
        if limit:
            np.testing.assert_allclose(inverse[i] @ block, np.eye(d), atol=2e-3)
        else:
            np.testing.assert_allclose(inverse[i] * np.diagonal(block), np.ones(d), rtol=1e-3)


def test_operator_is_the_hessian_where_all_kinks_are_concave():
    problem, neurons = make("squared", n=12, d=6, k=4, seed=4)
    problem = Problem(problem.X, np.full(12, 100.0), beta=5.0)
    neurons = Neurons(neurons.vectors, np.ones(4))
    steps = SmoothedKinks(problem)
    steps.damping, steps.precise = 0.0, True
    state = state_of(steps, neurons, 1e-7)
    rng = np.random.default_rng(0)
    move = rng.standard_normal(neurons.vectors.shape)
    h = 1e-4
    values = steps._smoothed_values(state, move, (-h, 0.0, h))
    second = (values[0] - 2 * values[1] + values[2]) / h**2
    product = steps._apply(state, move.astype(np.float32))
    assert float(np.vdot(move, product)) == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("limit", [0, 24])
def test_sweeps_over_many_slabs_equal_one_sweep(limit, monkeypatch):
    import cvxnn.solvers._pair_products as pairs
    import cvxnn.solvers.row_slabs as slabs

    monkeypatch.setattr(module, "_BLOCK_FEATURES", limit)
    problem, neurons = make("logistic", n=300)
    steps = SmoothedKinks(problem)
    p = np.random.default_rng(0).standard_normal(neurons.vectors.shape).astype(np.float32)
    results = []
    for entries in (1 << 16, 1):
        monkeypatch.setattr(slabs, "_SLAB_ENTRIES", entries)
        state = state_of(steps, neurons, 0.05)
        values = steps._smoothed_values(state, p.astype(float), (1.0, 2.0))
        results.append((state.gradient, values, steps._apply(state, p), steps._preconditioner(state)))
        monkeypatch.setattr(pairs, "_CACHED_ENTRIES", 0)
        steps.products = PairProducts(steps.single)
    for whole, parts in zip(*results, strict=True):
        np.testing.assert_allclose(parts, whole, rtol=5e-3, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    loss=st.sampled_from(LOSSES),
    n=st.integers(1, 15),
    d=st.integers(1, 4),
    k=st.integers(1, 8),
    beta=st.sampled_from([0.0, 1e-4, 0.3, 50.0]),
    eps=st.sampled_from([1e-1, 1e-3, 1e-6]),
)
def test_never_raises_the_objective(seed, loss, n, d, k, beta, eps):
    problem, neurons = make(loss, n=n, d=d, k=k, seed=seed, beta=beta)
    result = SmoothedKinks(problem).minimize(neurons, eps=eps, max_steps=6)
    assert np.all(np.isfinite(result.vectors))
    assert result.objective(problem) <= neurons.objective(problem) * (1 + 1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_lowers_the_objective_of_random_neurons(loss):
    problem, neurons = make(loss, seed=2)
    result = SmoothedKinks(problem).minimize(neurons, eps=1e-2, max_steps=20)
    assert result.objective(problem) < 0.5 * neurons.objective(problem)


def test_reaches_the_optimum_of_one_neuron_on_a_kink():
    # (z_1)_+ fits 2 at e_1; a second coordinate costs without use, and its kink at 0 is convex.
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0], beta=0.5)
    steps = SmoothedKinks(problem)
    neurons = Neurons(np.array([[1.0, 0.7]]), np.ones(1))
    for eps in (1e-2, 1e-4, 1e-6):
        neurons = steps.minimize(neurons, eps=eps, max_steps=30)
    # The objective is flat towards the kink, so the vector is known less well than the value.
    np.testing.assert_allclose(neurons.vectors, [[1.5, 0.0]], atol=2e-2)
    assert neurons.objective(problem) == pytest.approx(1.375, rel=2e-5)


def test_empty_zero_rows_and_deadline():
    problem = Problem([[0.0, 0.0], [1.0, 1.0]], [1.0, 1.0], beta=0.1)
    steps = SmoothedKinks(problem)
    assert len(steps.minimize(Neurons.empty(2), eps=1e-3, max_steps=3)) == 0
    neurons = Neurons(np.array([[0.2, 0.1], [0.0, 0.0]]), np.ones(2))
    assert np.all(np.isfinite(steps.minimize(neurons, eps=1e-3, max_steps=9).vectors))
    stopped = steps.minimize(neurons, eps=1e-3, max_steps=9, deadline=time.perf_counter())
    np.testing.assert_array_equal(stopped.vectors, neurons.vectors[:1])
