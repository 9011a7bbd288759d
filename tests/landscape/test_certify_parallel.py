"""Judging parallel networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cvxnn import ParallelReLU, ParallelReLUNetwork, Problem, ReLUNetwork, landscape, solve
from cvxnn.landscape import _certify_parallel

FIXTURE = json.loads((Path(__file__).parents[1] / "data/16_vector_and_three_layer.json").read_text())["three_layer"]
KEYS = {"path": "p_three_layer_path_fro", "l21": "p_three_layer_l21"}


def fixture() -> Problem:
    return Problem(FIXTURE["X"], FIXTURE["y"], FIXTURE["beta"])


def random_problem(seed: int, n: int = 6, d: int = 2, beta: float = 0.2) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(rng.standard_normal((n, d)), rng.standard_normal(n), beta)


@pytest.mark.parametrize("norm", KEYS)
def test_the_optimum_is_global(norm):
    problem = random_problem(1)
    s = solve(problem, architecture=ParallelReLU(penalty=norm), tol=1e-9)
    judged = landscape.certify(problem, s.network)
    assert judged.is_global is True
    assert judged.escape is None and judged.better is None
    assert judged.scope == "global" and judged.gap <= 1e-9
    assert judged.stationarity_residual <= 1e-6
    assert judged.balance_residual == 0.0


@pytest.mark.parametrize("norm", KEYS)
def test_a_poor_network_has_an_escape_and_the_bound_is_the_optimum(norm):
    problem = fixture()
    poor = ParallelReLUNetwork([[[0.3, 0.4], [1.0, 0.0]]], [[[0.1, 0.2]]], [0.5], norm)
    judged = landscape.certify(problem, poor, tol=1e-6)
    assert judged.is_global is False
    assert judged.objective == poor.objective(problem)
    assert judged.lower_bound == pytest.approx(FIXTURE[KEYS[norm]], rel=2e-6)
    assert judged.lower_bound <= FIXTURE[KEYS[norm]] + 1e-9
    assert "adding one sub-network" in judged.verdict
    vectors, signs, outputs = judged.escape.vectors()
    for share in (1.0, 0.1, 1e-3):
        assert poor.with_vectors(share * vectors, signs, outputs).objective(problem) < judged.objective
    assert judged.better.objective(problem) < judged.objective
    assert landscape.certify(problem, judged.better, tol=1e-6).is_global is True
    own = landscape.certify(problem, poor, method="dual")
    assert own.is_global is False
    assert own.lower_bound <= FIXTURE[KEYS[norm]] + 1e-9


def test_the_other_penalty_is_another_problem():
    problem = fixture()
    s = solve(problem, architecture=ParallelReLU(penalty="path"), tol=1e-8)
    judged = landscape.certify(problem, s.network, architecture=ParallelReLU(penalty="l21"), tol=1e-5)
    assert judged.is_global is False
    assert judged.lower_bound == pytest.approx(FIXTURE["p_three_layer_l21"], rel=2e-5)
    assert judged.objective == ParallelReLUNetwork(s.network.W, s.network.b, s.network.a, "l21").objective(problem)


def test_samples_of_no_weight_and_other_losses():
    base = random_problem(3)
    weight = np.array([1.0, 2.0, 0.0, 1.0, 0.5, 1.0])
    for loss, y in (("squared", base.y), ("logistic", np.sign(base.y))):
        problem = Problem(base.X, y, 0.2, loss, sample_weight=weight)
        s = solve(problem, architecture=ParallelReLU(), tol=1e-8)
        assert landscape.certify(problem, s.network, tol=1e-7).is_global is True


@pytest.mark.parametrize("architecture", [ParallelReLU(2, 3), ParallelReLU(3, 1), ParallelReLU(5, 1)], ids=repr)
def test_chains_are_judged_as_two_layer_networks(architecture):
    problem = random_problem(5)
    s = solve(problem, architecture=architecture, tol=1e-9)
    assert landscape.certify(problem, s.network).is_global is True
    poor = ReLUNetwork([[0.3, -0.1], [0.2, 0.5]], [0.4, -0.2]).balanced()
    chains = ParallelReLUNetwork.from_two_layers(poor, architecture.depth, architecture.penalty)
    two, judged = landscape.certify(problem, poor), landscape.certify(problem, chains)
    assert (judged.is_global, judged.method) == (two.is_global, two.method)
    assert judged.objective == pytest.approx(two.objective, rel=1e-12)
    assert judged.lower_bound == pytest.approx(two.lower_bound, rel=1e-9)
    assert judged.better.objective(problem) == pytest.approx(two.better.objective(problem), rel=1e-8)
    grown = chains.with_vectors(*judged.escape.vectors())
    assert grown.objective(problem) < judged.objective
    assert judged.better.depth == judged.escape.depth == architecture.depth


def test_a_chain_that_is_zero_but_costs_something_is_beaten():
    problem = random_problem(5)
    s = solve(problem, architecture=ParallelReLU(3, 1), tol=1e-9)
    wasteful = s.network.with_vectors([[[1.0, 0.0]]], [[[-1.0]]], [1.0])
    judged = landscape.certify(problem, wasteful)
    assert judged.is_global is False
    assert judged.better.objective(problem) == pytest.approx(s.objective, rel=1e-9)


def test_warm_start_of_chains_is_used():
    problem = Problem(*_high_rank())
    first = solve(problem, architecture=ParallelReLU(width=1))
    again = solve(problem, architecture=ParallelReLU(width=1), warm_start=first.network, max_iter=1)
    assert again.objective <= first.objective * (1.0 + 1e-9)


def test_deeper_networks_and_high_rank_are_not_decided():
    X, y, beta = _high_rank()
    problem = Problem(X, y, beta)
    for architecture in (ParallelReLU(4), ParallelReLU(3, 3)):
        s = solve(problem, architecture=architecture, time_limit=2.0)
        judged = landscape.certify(problem, s.network, time_limit=2.0)
        assert judged.is_global is not True
        assert 0.0 < judged.lower_bound <= s.objective
        assert judged.seconds < 10.0


def _high_rank() -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((20, 5)), rng.standard_normal(20), 1.0


def test_an_interrupt_returns_the_bounds_so_far(monkeypatch):
    problem = fixture()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_certify_parallel, "solve", interrupted)
    judged = landscape.certify(problem, ParallelReLUNetwork(0.1 * np.ones((1, 2, 2)), [np.ones((1, 2))], [1.0]))
    assert judged.interrupted
    assert 0.0 < judged.lower_bound <= FIXTURE[KEYS["path"]] + 1e-9


def test_refusals():
    problem = fixture()
    network = ParallelReLUNetwork(np.ones((1, 2, 2)), [np.ones((1, 2))], [1.0])
    with pytest.raises(ValueError, match="architecture must be ParallelReLU"):
        landscape.certify(problem, network, architecture=ParallelReLU(width=3))
    with pytest.raises(ValueError, match=r"architecture must be ReLU\(\) for a ReLUNetwork"):
        landscape.certify(problem, ReLUNetwork.zero(2), architecture=ParallelReLU())
    with pytest.raises(ValueError, match='"relaxation" needs networks of two layers'):
        landscape.certify(problem, network, method="relaxation")
    with pytest.raises(ValueError, match="output bias"):
        landscape.certify(Problem(problem.X, problem.y, 0.1, output_bias_decay=0.0), network)
    with pytest.raises(ValueError, match="1 outputs but the problem has 2"):
        landscape.certify(Problem(problem.X, np.ones((5, 2)), 0.1), network)
    wide = Problem(np.random.default_rng(0).standard_normal((30, 6)), np.ones(30), 0.1)
    net = ParallelReLUNetwork(np.ones((1, 2, 6)), [np.ones((1, 2))], [1.0])
    with pytest.raises(ValueError, match='"enumeration" needs three layers and up to 30,000'):
        landscape.certify(wide, net, method="enumeration")
