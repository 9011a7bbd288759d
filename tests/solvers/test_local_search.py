from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solvers._ascent import ascend
from cvxnn.solvers.lbfgs_start import _TwoLayer, lbfgs_start, minimize_layers
from cvxnn.solvers.local_search import local_search, merge_neurons
from cvxnn.solvers.mass_program import removal_costs
from cvxnn.solvers.neurons import Neurons

DATA = Path(__file__).parent.parent / "data"
LOSSES = ["squared", "huber", "logistic", "squared_hinge"]


def fixture(number: str) -> tuple[Problem, float]:
    entry = json.loads(next(DATA.glob(f"{number}_*.json")).read_text())
    loss = {"sq": "squared", "log": "logistic"}[entry["kind"]]
    return Problem(entry["X"], entry["y"], beta=entry["beta"], loss=loss), entry["p_star"]


def make(loss: str = "squared", *, n: int = 40, d: int = 4, seed: int = 0, beta: float = 0.5) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    return Problem(X, y, beta=beta, loss=loss)


@pytest.mark.parametrize("number", ["01", "03", "04", "06", "07", "08"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reaches_the_known_optimum(number, seed):
    problem, optimum = fixture(number)
    value = local_search(problem, random_state=seed).objective(problem)
    assert optimum * (1 - 1e-9) <= value <= optimum * (1 + 1e-4)


def test_zero_network_where_it_is_optimal():
    problem, optimum = fixture("10")
    assert len(local_search(problem)) == 0
    assert Neurons.empty(2).objective(problem) == pytest.approx(optimum, rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_huge_beta_gives_no_neurons(loss):
    assert len(local_search(make(loss, beta=1e6))) == 0


def test_zero_targets_give_no_neurons():
    assert len(local_search(Problem(np.eye(3), np.zeros(3), beta=0.1))) == 0


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_one_sample_one_feature(loss):
    problem = Problem([[2.0]], [0.9], beta=0.2, loss=loss)
    best = local_search(problem)
    np.testing.assert_allclose(best.vectors, [[(2.0 * 0.9 - 0.2) / 4.0]], rtol=1e-7)
    assert best.objective(problem) == pytest.approx(0.2 * 0.4 + 0.5 * 0.1**2, rel=1e-14)


def test_one_feature_needs_two_directions():
    problem = make("squared", d=1, beta=0.1)
    best = local_search(problem)
    assert len(best) <= 4
    x, y = problem.X[:, 0], problem.y
    # On either side of zero the problem is a scalar lasso.
    expected = problem.loss_value(np.zeros(len(y)))
    for side in (x > 0, x < 0):
        gain = max(abs(float(x[side] @ y[side])) - problem.beta, 0.0)
        expected -= 0.5 * gain**2 / float(x[side] @ x[side])
    assert best.objective(problem) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_is_deterministic(loss):
    problem = make(loss)
    a, b = (local_search(problem, random_state=3, max_rounds=10) for _ in range(2))
    np.testing.assert_array_equal(a.vectors, b.vectors)
    np.testing.assert_array_equal(a.signs, b.signs)


def test_weights_equal_repeated_rows():
    base = make(n=25)
    counts = np.random.default_rng(1).integers(0, 4, 25)
    weighted = Problem(base.X, base.y, beta=0.5, sample_weight=counts)
    repeated = Problem(np.repeat(base.X, counts, axis=0), np.repeat(base.y, counts), beta=0.5)
    values = [local_search(p).objective(p) for p in (weighted, repeated)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_callback_sees_falling_objectives_and_the_result(loss):
    problem, seen = make(loss), []
    best = local_search(problem, callback=lambda z, v: seen.append((z, v)), max_rounds=20)
    values = [v for _, v in seen]
    assert all(b < a for a, b in itertools.pairwise(values))
    # Fewer neurons, as good but for rounding, may take the place of the last ones seen.
    assert values[-1] * (1.0 - 1e-15) <= best.objective(problem) <= values[-1] * (1.0 + 1e-15)
    assert best.network().objective(problem) == pytest.approx(values[-1], rel=1e-12)


def test_interrupt_propagates_and_leaves_the_best_with_the_caller():
    problem, seen = make(), []

    def callback(neurons: Neurons, value: float) -> None:
        seen.append((neurons, value))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_search(problem, callback=callback)
    assert seen[-1][0].objective(problem) == seen[-1][1] < seen[0][1]


def test_without_time_the_result_is_still_a_network():
    problem = make(n=200)
    best = local_search(problem, time_limit=0.0)
    assert best.objective(problem) <= Neurons.empty(4).objective(problem)


def test_small_beta_and_more_features_than_samples():
    problem = make(n=6, d=10, beta=1e-7)
    best = local_search(problem, max_rounds=15)
    assert len(best) <= 64
    assert best.objective(problem) < 1e-4


def test_beta_zero_fits_the_data():
    problem = make(n=8, d=3, beta=0.0)
    assert local_search(problem, max_rounds=15).objective(problem) < 1e-6


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6), d=st.integers(1, 4), k=st.integers(0, 12))
def test_merging_keeps_the_fit_and_never_raises_the_objective(seed, n, d, k):
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (n, d)).astype(float)
    neurons = Neurons(rng.integers(-3, 4, (k, d)).astype(float), rng.choice([-1.0, 1.0], k))
    merged = merge_neurons(X, neurons)
    np.testing.assert_allclose(merged.fit(X), neurons.fit(X), atol=1e-12)
    assert merged.masses.sum() <= neurons.masses.sum() + 1e-12
    assert len(merge_neurons(X, merged)) == len(merged)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_the_two_layer_objective(loss):
    problem = make(loss, n=12)
    function = _TwoLayer(problem, 5)
    point = function.random_point(np.random.default_rng(0))
    value, gradient = function(point)
    Q, a = (layer.astype(np.float64) for layer in function.split(point))
    assert function.axes is not None
    W = (Q * function.scales) @ function.axes.T
    assert value == pytest.approx(ReLUNetwork(W, a).objective(problem), rel=1e-12)
    for i in range(0, len(point), 3):
        h = np.zeros_like(point)
        h[i] = 1e-6
        slope = (function(point + h)[0] - function(point - h)[0]) / 2e-6
        assert slope == pytest.approx(gradient[i], rel=1e-5, abs=1e-6)


def test_start_does_not_depend_on_the_scale_of_the_data():
    problem = make(n=60)
    scaled = Problem(1e3 * problem.X, 1e-2 * problem.y, beta=problem.beta * 1e3 * 1e-2)
    a, b = lbfgs_start(problem, width=20), lbfgs_start(scaled, width=20)
    assert b.objective(scaled) == pytest.approx(1e-4 * a.objective(problem), rel=1e-2)


def test_single_precision_start_agrees_with_double(monkeypatch):
    import cvxnn.solvers.lbfgs_start as module

    problem = make(n=100)
    double = lbfgs_start(problem, width=50)
    monkeypatch.setattr(module, "_SINGLE_PRECISION_FROM", 0)
    single = lbfgs_start(problem, width=50)
    assert single.objective(problem) == pytest.approx(double.objective(problem), rel=2e-2)


def test_ascent_finds_the_exact_maximum_in_the_plane():
    rng = np.random.default_rng(0)
    X, nu = rng.standard_normal((15, 2)), rng.standard_normal(15)
    problem = Problem(X, nu, beta=1.0)
    directions, signs = ascend(problem, nu, Neurons.empty(2), threshold=0.0, n_starts=60, rng=rng)
    angles = np.linspace(0, 2 * np.pi, 200_001)
    values = np.maximum(np.column_stack([np.cos(angles), np.sin(angles)]) @ X.T, 0.0) @ nu
    for sign, exact in ((1.0, values.max()), (-1.0, -values.min())):
        found = sign * (nu @ np.maximum(X @ directions[signs == sign].T, 0.0))
        assert found.max() == pytest.approx(exact, rel=1e-3)
        assert np.all(np.diff(found) <= 1e-12)


def test_pooling_a_second_start_never_hurts(monkeypatch):
    import cvxnn.solvers.local_search as module

    problem = make(n=80, beta=0.1)
    two = local_search(problem, max_rounds=25)
    monkeypatch.setattr(module, "_POOLED_PRODUCTS", 0)
    assert two.objective(problem) <= local_search(problem, max_rounds=25).objective(problem)


def test_ascent_past_its_deadline_returns_nothing():
    problem = make()
    options = {"threshold": 0.0, "n_starts": 10, "rng": np.random.default_rng(0)}
    directions, signs = ascend(problem, problem.y, Neurons.empty(4), deadline=time.perf_counter(), **options)
    assert directions.shape == (0, 4) and signs.shape == (0,)


def test_brute_force_costs_of_removal():
    problem = make("squared", n=50)
    neurons = local_search(problem, max_rounds=8)
    costs = removal_costs(problem, neurons)
    assert len(neurons) >= 4
    for i in range(len(neurons)):
        # With free signs of the others, the masses without neuron i solve a linear system.
        kept = neurons.take(np.arange(len(neurons)) != i)
        outputs = np.maximum(problem.X @ (kept.vectors / kept.masses[:, None]).T, 0.0) * kept.signs
        gram, linear = outputs.T @ outputs, outputs.T @ problem.y - problem.beta
        masses = np.linalg.solve(gram, linear)
        value = problem.loss_value(outputs @ masses) + problem.beta * masses.sum()
        assert costs[i] == pytest.approx(value - neurons.objective(problem), rel=1e-4, abs=1e-6)


def test_memory_stays_below_a_multiple_of_the_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 6))
    problem = Problem(X, np.tanh(X[:, 0]) + 0.1 * rng.standard_normal(len(X)), beta=200.0)
    tracemalloc.start()
    try:
        best = local_search(problem, max_rounds=2, width=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert best.objective(problem) < 0.5 * Neurons.empty(6).objective(problem)
    assert peak < 1.5 * X.nbytes + X.nbytes / 2 + 200e6


def test_sampled_start_agrees_with_the_start_on_all_rows(monkeypatch):
    import cvxnn.solvers.lbfgs_start as module

    problem = make(n=600, beta=3.0)
    whole = lbfgs_start(problem, width=30)
    monkeypatch.setattr(module, "_SAMPLED_FROM", 100)
    sampled = lbfgs_start(problem, width=30)
    assert sampled.objective(problem) == pytest.approx(whole.objective(problem), rel=2e-2)


def test_start_drops_dead_neurons_on_the_way(monkeypatch):
    import cvxnn.solvers.lbfgs_start as module

    monkeypatch.setattr(module, "_NEGLIGIBLE", 1e-2)
    problem = make(n=100, beta=5.0)
    function = _TwoLayer(problem, 60)
    point = function.random_point(np.random.default_rng(0))
    found = minimize_layers(function, point, max_iter=300, rtol=0.0, deadline=np.inf)
    assert function.shape[0] < 60 and len(found) == function.shape[0] * 5
    value, _ = function(found)
    assert value == pytest.approx(function.neurons(found).objective(problem), rel=1e-3)


def test_ascent_on_a_sample_of_the_rows_scores_with_all_of_them(monkeypatch):
    import cvxnn.solvers._ascent as module

    monkeypatch.setattr(module, "_MOST_ROWS", 50)
    problem = make(n=400, d=3)
    nu = problem.dual_vector(np.zeros(400))
    rng = np.random.default_rng(0)
    directions, signs = ascend(problem, nu, Neurons.empty(3), threshold=1.0, n_starts=40, rng=rng)
    values = signs * (nu @ np.maximum(problem.X @ directions.T, 0.0))
    assert np.all(values > 1.0) and np.all(np.diff(values) <= 1e-9)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, rtol=1e-12)


def test_an_interrupt_in_the_start_keeps_the_neurons(monkeypatch):
    problem, calls = make(n=100), itertools.count()
    evaluate = _TwoLayer.__call__

    def interrupted(self, point):
        if next(calls) == 60:
            raise KeyboardInterrupt
        return evaluate(self, point)

    monkeypatch.setattr(_TwoLayer, "__call__", interrupted)
    kept: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        local_search(problem, callback=lambda _, objective: kept.append(objective))
    assert len(kept) == 1 and kept[0] < Neurons.empty(problem.n_features).objective(problem)


def test_the_start_leaves_the_share_of_the_time_that_others_are_promised(monkeypatch):
    import cvxnn.solvers.local_search as module

    limits = []

    def start(problem, *, time_limit, **options):
        limits.append(time_limit)
        return Neurons.empty(problem.n_features)

    monkeypatch.setattr(module, "lbfgs_start", start)
    local_search(make(n=100), time_limit=1000.0, max_rounds=1, shares=(0.9, 0.3))
    assert limits[0] == pytest.approx(900.0, rel=1e-2)


def test_the_start_is_as_wide_as_its_time_affords() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5))
    problem = Problem(X, np.abs(X[:, 0]) + rng.standard_normal(200), beta=1e-4)
    widest = lbfgs_start(problem, width=300, max_iter=20)
    ample = lbfgs_start(problem, width=300, max_iter=20, time_limit=1e4)
    hurried = lbfgs_start(problem, width=300, max_iter=20, time_limit=1e-6)
    assert np.array_equal(ample.vectors, widest.vectors)
    assert len(hurried) <= 100 < len(widest)
    assert len(lbfgs_start(problem, width=8, time_limit=1e-6)) <= 8


def test_a_start_ends_early_only_where_it_may_and_after_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxnn.solvers.lbfgs_start as module

    problem = Problem(np.diag(np.arange(1.0, 9.0)), np.ones(8), beta=1e-6)
    steps = []

    def trained(time_limit: float | None = None, least_share: float = 1.0) -> int:
        steps.clear()
        lbfgs_start(problem, width=8, rtol=-1.0, max_iter=60, time_limit=time_limit, least_share=least_share)
        return len(steps)

    alive = _TwoLayer.alive
    monkeypatch.setattr(_TwoLayer, "alive", lambda self, point: steps.append(1) or alive(self, point))
    monkeypatch.setattr(module, "_PRUNE_EVERY", 1)
    monkeypatch.setattr(module, "_AMPLE_STEPS", 30)
    whole = trained()
    assert whole > 40
    assert trained(1e4) == trained(1e4, 0.5) == whole
    assert 25 < trained(1e4, 0.0) < 35
