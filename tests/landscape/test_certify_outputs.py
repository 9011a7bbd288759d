"""Judging networks with several outputs."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.landscape._escape import with_neuron


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    X = np.c_[rng.standard_normal((15, 2)), np.ones(15)]
    Y = np.maximum(X @ rng.standard_normal((3, 3)), 0.0) @ rng.standard_normal((3, 2))
    return Problem(X, Y + 0.2 * rng.standard_normal(Y.shape), 0.2)


def test_the_optimum_is_global(problem):
    s = solve(problem, tol=1e-9)
    judged = landscape.certify(problem, s.network)
    assert judged.is_global is True
    assert judged.escape is None and judged.better is None
    assert judged.gap <= 1e-9
    assert judged.balance_residual <= 1e-9
    assert judged.stationarity_residual <= 1e-6


def test_a_network_without_its_best_neurons_is_not(problem):
    s = solve(problem)
    poor = ReLUNetwork(s.network.W[:2], s.network.a[:2])
    judged = landscape.certify(problem, poor)
    assert judged.is_global is False
    assert judged.lower_bound == pytest.approx(s.objective, rel=2e-6)
    w, a = judged.escape
    assert w.shape == (3,) and a.shape == (2,)
    for share in (1.0, 0.1, 1e-3):
        assert with_neuron(poor, np.sqrt(share) * w, np.sqrt(share) * a).objective(problem) < poor.objective(problem)
    assert judged.better.objective(problem) < poor.objective(problem)
    assert landscape.certify(problem, judged.better, tol=1e-6).is_global is True
    own = landscape.certify(problem, poor, method="dual")
    assert own.is_global is False
    assert own.lower_bound <= s.objective


def test_classes():
    rng = np.random.default_rng(2)
    X = np.c_[rng.standard_normal((12, 1)), np.ones(12)]
    problem = Problem(X, np.digitize(X[:, 0], [-0.5, 0.5]), 0.1, "softmax")
    s = solve(problem)
    assert landscape.certify(problem, s.network, tol=1e-6).is_global is True
    zero = landscape.certify(problem, ReLUNetwork.zero(2, 3))
    assert zero.is_global is False
    assert zero.lower_bound <= s.objective


def test_high_rank_is_not_decided():
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((20, 5)), rng.standard_normal((20, 2))
    problem = Problem(X, Y, 1.0)
    s = solve(problem)
    judged = landscape.certify(problem, s.network, time_limit=2.0)
    assert judged.is_global is not True
    assert 0.0 < judged.lower_bound <= s.objective
    with pytest.raises(ValueError, match="rank up to 3"):
        landscape.certify(problem, s.network, method="enumeration")


def test_bad_input(problem):
    network = ReLUNetwork([[1.0, 0.0, 0.0]], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="3 outputs but the problem has 2"):
        landscape.certify(problem, ReLUNetwork([[1.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]]))
    with pytest.raises(ValueError, match='"relaxation" needs one output'):
        landscape.certify(problem, network, method="relaxation")
    with pytest.raises(ValueError, match="beta is 0"):
        landscape.certify(Problem(problem.X, problem.y, 0.0), network)
