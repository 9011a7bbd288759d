"""Verdicts on networks: optimal, nearly optimal, mixed, random and spurious ones, against brute-force optima."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape.certify import certify
from tests.oracles.full_program import full_program_optimum
from tests.oracles.pattern_enumeration import patterns_by_linear_programming

DATA = Path(__file__).parent.parent / "data"
judging = sys.modules["cvxnn.landscape.certify"]
FIXTURES = [p for p in sorted(DATA.glob("*.json")) if "vertices_masses" in json.loads(p.read_text())]


def load(path: Path) -> tuple[Problem, dict]:
    data = json.loads(path.read_text())
    return Problem(data["X"], data["y"], data["beta"], "squared" if data["kind"] == "sq" else "logistic"), data


def vertex_networks(data: dict) -> list[ReLUNetwork]:
    masses = np.atleast_2d(data["vertices_masses"])
    if masses.size == 0:
        return []
    directions, signs = np.array(data["atoms_directions"]), np.array(data["atoms_signs"])
    return [ReLUNetwork.from_vectors(c[:, None] * directions, signs) for c in masses]


def with_escape(judged) -> ReLUNetwork:
    w, a = judged.escape
    return ReLUNetwork(np.vstack([judged.network.W, w]), np.append(judged.network.a, a), judged.network.output_bias)


def check_against(judged, truth: float) -> None:
    """The facts that must hold for every network whatever the verdict."""
    problem, network = judged.problem, judged.network
    assert judged.lower_bound <= truth * (1 + 1e-12)
    assert judged.objective == network.objective(problem)
    assert judged.scope == "global"
    if judged.is_global:
        assert judged.objective <= truth * (1 + 1e-8)
        assert judged.escape is None and judged.better is None
    if judged.is_global is False:
        assert judged.better.objective(problem) < judged.objective
    if judged.escape is not None:
        w, a = judged.escape
        assert np.linalg.norm(w) == pytest.approx(abs(a), rel=1e-12)
        for scale in (1.0, 0.5, 0.1):
            larger = ReLUNetwork(np.vstack([network.W, scale * w]), np.append(network.a, scale * a))
            assert larger.objective(problem) < judged.objective


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_optimal_networks_are_proved(path):
    problem, data = load(path)
    networks = vertex_networks(data) or [ReLUNetwork.zero(problem.n_features)]
    for network in networks:
        judged = certify(problem, network)
        assert judged.is_global is True
        check_against(judged, data["p_star"])
    mixed = ReLUNetwork(
        np.vstack([net.W for net in networks]) / np.sqrt(len(networks)),
        np.concatenate([net.a for net in networks]) / np.sqrt(len(networks)),
    )
    assert certify(problem, mixed).is_global is True
    if mixed.width:
        assert certify(problem, mixed.split(0, 0.3).permuted(range(mixed.width, -1, -1))).is_global is True


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
@pytest.mark.parametrize("method", ["auto", "dual"])
def test_other_networks_are_never_called_optimal(path, method):
    problem, data = load(path)
    rng = np.random.default_rng(0)
    d = problem.n_features
    for size in (1e-4, 1e-2, 1.0):
        for base in [ReLUNetwork(rng.standard_normal((3, d)), rng.standard_normal(3)), *vertex_networks(data)[:3]]:
            network = ReLUNetwork(
                base.W + size * rng.standard_normal(base.W.shape), base.a + size * rng.standard_normal(base.a.shape)
            )
            judged = certify(problem, network, method=method)
            check_against(judged, data["p_star"])
            excess = judged.objective / data["p_star"] - 1.0
            if excess > 1e-8:
                assert judged.is_global is False if method == "auto" else judged.is_global in (False, None)
            if method == "auto":
                assert judged.gap <= excess + 1e-9


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
@pytest.mark.parametrize("kind", ["gauss", "grid", "line"])
def test_trained_networks(loss, kind):
    rng = np.random.default_rng(len(loss) + len(kind))
    if kind == "line":
        X = np.c_[np.array([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]), np.ones(6)]
    elif kind == "grid":
        X = np.c_[rng.integers(-1, 2, (7, 2)), np.ones(7)].astype(float)
    else:
        X = rng.standard_normal((7, 2))
    n, d = X.shape
    y = rng.choice([-1.0, 1.0], n) if loss in ("logistic", "squared_hinge") else 2.0 * rng.standard_normal(n)
    problem = Problem(X, y, 0.1, loss)
    weight = np.ones(n)
    truth = full_program_optimum(X, y, 0.1, loss, weight, sorted(patterns_by_linear_programming(X)))
    for width in (1, 2, 5):

        def unpacked(theta, width=width):
            return ReLUNetwork(theta[: width * d].reshape(width, d), theta[width * d :])

        start = rng.standard_normal(width * (d + 1))
        theta = minimize(lambda t: unpacked(t).objective(problem), start, method="L-BFGS-B").x
        judged = certify(problem, unpacked(theta))
        assert judged.lower_bound <= truth * (1 + 1e-7)
        assert judged.gap <= judged.objective / truth - 1.0 + 1e-6
        if judged.objective > truth * (1 + 1e-6):
            assert judged.is_global is False
            assert judged.better.objective(problem) == pytest.approx(truth, rel=1e-6)


def test_a_spurious_local_minimum_is_refused_with_its_escape():
    # Both points are fitted from the left branch only; the second point is dead and its gradient is invisible.
    problem = Problem([[1.0], [-1.0]], [1.0, 1.0], beta=0.1)
    stuck = ReLUNetwork([[np.sqrt(0.9)]], [np.sqrt(0.9)])
    judged = certify(problem, stuck)
    assert judged.stationarity_residual <= 1e-12 and judged.balance_residual <= 1e-12
    assert judged.is_global is False
    assert with_escape(judged).objective(problem) == pytest.approx(0.19, rel=1e-9)


def test_residuals_tell_what_is_wrong():
    problem = Problem([[1.0], [-1.0]], [1.0, 1.0], beta=0.1)
    best = solve(problem).network
    unbalanced = replace(best, W=2.0 * best.W, a=0.5 * best.a)
    judged = certify(problem, unbalanced)
    assert judged.is_global is False and judged.balance_residual == pytest.approx(0.75)
    assert judged.stationarity_residual <= 1e-9
    assert judged.escape is None


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_networks_with_an_output_bias(decay):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8) + 3.0
    problem = Problem(X, y, beta=0.2, output_bias_decay=decay)
    judged = certify(problem, ReLUNetwork(rng.standard_normal((4, 2)), rng.standard_normal(4), 0.5))
    assert judged.is_global is False
    assert with_escape(judged).objective(problem) < judged.objective
    assert 0.0 < judged.lower_bound < judged.objective


def test_time_limit_and_methods_keep_the_bound_valid():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 4))
    problem = Problem(X, rng.standard_normal(60), beta=3.0)
    best = solve(problem)
    network = ReLUNetwork(rng.standard_normal((10, 4)), rng.standard_normal(10))
    for method in ("auto", "enumeration", "relaxation", "dual"):
        for limit in (0.0, 0.05, 2.0):
            judged = certify(problem, network, method=method, time_limit=limit)
            assert judged.lower_bound <= best.objective
            assert judged.is_global in (False, None)
    assert certify(problem, network).gap == pytest.approx(1 - best.objective / judged.objective, abs=1e-9)


def test_bad_input_gets_one_sentence():
    problem = Problem([[1.0], [-1.0]], [1.0, 1.0], beta=0.1)
    network = ReLUNetwork([[1.0]], [1.0])
    with pytest.raises(ValueError, match="takes 2 features but the problem has 1; a hidden bias needs"):
        certify(problem, ReLUNetwork([[1.0, 1.0]], [1.0]))
    with pytest.raises(ValueError, match="method must be one of"):
        certify(problem, network, method="magic")
    with pytest.raises(ValueError, match=r"must be a cvxnn\.ReLUNetwork"):
        certify(problem, "network")
    with pytest.raises(ValueError, match="beta is 0"):
        certify(Problem([[1.0]], [1.0], beta=0.0), network)
    with pytest.raises(ValueError, match="2 outputs"):
        certify(problem, ReLUNetwork([[1.0]], [[1.0, 2.0]]))
    with pytest.raises(ValueError, match="output bias of 1"):
        certify(problem, replace(network, output_bias=1.0))
    with pytest.raises(ValueError, match="network has the objective inf on this problem; certify takes a finite one"):
        certify(problem, ReLUNetwork([[1e80]], [1e80]))
    with pytest.raises(ValueError, match="random_state must be a non-negative integer or None"):
        certify(problem, network, random_state=1.5)


@pytest.mark.parametrize("rank", [3, 9])
def test_an_interrupt_gives_the_bounds_so_far(monkeypatch, rank):
    # Data whose patterns are searched, and data whose optimum is relaxed.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, rank))
    problem = Problem(X, rng.standard_normal(60), beta=2.0)
    network = ReLUNetwork(rng.standard_normal((8, rank)), rng.standard_normal(8))

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "solve", interrupted)
    judged = certify(problem, network)
    assert judged.interrupted and judged.is_global is False and judged.escape is not None
    assert 0.0 < judged.lower_bound <= solve(problem, time_limit=5.0).objective


def judge_of(mass):
    """Judge of a network of one neuron; the optimum has the mass 1.5 and the objective 0.875."""
    problem = Problem([[1.0]], [2.0], beta=0.5)
    network = ReLUNetwork([[np.sqrt(mass)]], [np.sqrt(mass)])
    return judging._Judge(problem, network, 1e-6, time.perf_counter(), None, 0)


def test_verdicts_say_no_more_than_what_is_proved():
    optimal, worse = judge_of(1.5), judge_of(1.503)
    assert judging._report(optimal, 0.0, 0.0).is_global is True
    # A gap of five tolerances, and no better network at hand.
    assert worse.objective == pytest.approx(0.8750045, rel=1e-9)
    assert judging._report(worse, 0.0, 0.0).is_global is None
    worse.best = worse.objective * (1.0 - 1e-15)
    assert judging._report(worse, 0.0, 0.0).is_global is None
    worse.best = 0.875
    assert judging._report(worse, 0.0, 0.0).is_global is False
    # An optimal network has no escape: what lowers it by less than the tolerance is not called one.
    optimal.escape = "a neuron"
    assert judging._report(optimal, 0.0, 0.0).escape is None


def test_a_judge_keeps_the_best_global_bound_only():
    judge = judge_of(1.503)
    judge.certificate = replace(judge.certificate, lower_bound=0.25)
    best = replace(judge.certificate, objective=0.875, lower_bound=0.8749)
    judge._keep(best)
    assert judge.certificate.lower_bound == 0.8749 and judge.certificate.objective == judge.objective
    judge._keep(replace(best, lower_bound=0.5))
    assert judge.certificate.lower_bound == 0.8749
    among = replace(best, lower_bound=0.87499, scope="patterns", global_lower_bound=0.0, n_patterns=1)
    judge._take(SimpleNamespace(status=None, network=judge.network, scope="patterns", certificate=among))
    assert judge.certificate.lower_bound == 0.8749


def test_every_bound_heeds_the_time_limit(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 8))
    problem = Problem(X, np.abs(X[:, 0]) + 0.1 * rng.standard_normal(300), beta=3.0)
    network = ReLUNetwork(rng.standard_normal((4, 8)), np.ones(4))
    limits, certify_global = [], judging.certify_global

    def recorded(*args, **options):
        limits.append(options.get("time_limit"))
        return certify_global(*args, **options)

    monkeypatch.setattr(judging, "certify_global", recorded)
    judged = certify(problem, network, time_limit=2.0)
    assert judged.lower_bound <= judged.better.objective(problem)
    assert limits and all(limit is not None and limit <= 2.0 for limit in limits)
