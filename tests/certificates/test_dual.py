"""Dual bounds: valid for any network, tight at the optimum."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.certificates import certify_global, certify_patterns
from cvxnn.certificates.dual import scaled_dual_bound

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def random_problem(seed, loss, n=8, d=2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.choice([-1.0, 1.0], n) if loss in ("logistic", "squared_hinge") else 2.0 * rng.standard_normal(n)
    return Problem(X, y, 0.2, loss, sample_weight=rng.uniform(0.2, 2.0, n)), rng


@pytest.mark.parametrize("loss", LOSSES)
def test_bound_never_exceeds_any_network(loss):
    for seed in range(5):
        problem, rng = random_problem(seed, loss)
        optimum = solve(problem).objective
        for _ in range(10):
            m = int(rng.integers(1, 5))
            net = ReLUNetwork(rng.standard_normal((m, 2)), rng.standard_normal(m))
            certificate, _ = certify_global(problem, net(problem.X), net.objective(problem))
            assert certificate.lower_bound <= optimum * (1 + 1e-13)
            assert certificate.scope == "global"
            assert certificate.gap >= 1.0 - optimum / certificate.objective - 1e-12


@pytest.mark.parametrize("loss", LOSSES)
def test_scaled_point_is_feasible_and_attains_the_bound(loss):
    problem, rng = random_problem(11, loss)
    net = ReLUNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3))
    certificate, _ = certify_global(problem, net(problem.X), net.objective(problem))
    point = certificate.scale * certificate.dual
    directions = rng.standard_normal((20000, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    attained = np.max(np.abs(np.maximum(directions @ problem.X.T, 0) @ point))
    assert attained <= problem.beta
    assert problem.dual_value(point) == pytest.approx(certificate.lower_bound, rel=1e-10)


def test_dual_vector_outside_the_domain_gives_no_false_bound():
    problem = Problem([[1.0], [1.0]], [1.0, 1.0], 1e-3, "logistic")
    optimum = solve(problem).objective
    nu = np.array([-1.0, 1.0])
    assert certify_global(problem, np.zeros(2), 9.0, nu=nu)[0].lower_bound <= optimum
    assert certify_patterns(problem, np.zeros(2), 9.0, np.array([[True, True]]), nu=nu).lower_bound <= optimum
    assert scaled_dual_bound(problem, nu, 1e-9) == (0.0, 0.0)


def test_infinite_bound_gives_the_trivial_bound():
    problem, _ = random_problem(0, "squared")
    assert scaled_dual_bound(problem, problem.y, np.inf) == (0.0, 0.0)
    assert scaled_dual_bound(problem, np.zeros(8), 0.0) == (0.0, 0.0)


def test_patterns_bound_holds_for_networks_in_the_cones_only():
    problem, _ = random_problem(3, "squared", n=10)
    confined = solve(problem, patterns=3)
    best = solve(problem)
    assert confined.scope == "patterns"
    assert confined.gap <= 1e-6
    # The restriction costs something here, so its bound is above the true optimum: it must never be called global.
    assert confined.lower_bound > best.objective
    assert confined.global_lower_bound <= best.objective
    again = certify_patterns(problem, confined.network(problem.X), confined.objective, confined.patterns.masks)
    assert again.lower_bound <= confined.objective
    assert again.n_patterns == len(confined.patterns)


def test_bound_is_the_best_multiple_also_away_from_the_optimum():
    problem, rng = random_problem(5, "squared")
    for limit in (1e-3, 0.3, 1.0, 5.0, 1e3):
        nu = rng.uniform(0.1, 3.0) * problem.dual_vector(rng.standard_normal(8))
        bound, scale = scaled_dual_bound(problem, nu, problem.beta / limit)
        values = [problem.dual_value(t * nu) for t in np.linspace(0.0, limit, 4001)]
        assert 0.0 <= scale <= limit
        assert bound >= max(0.0, *values) * (1 - 1e-6) - 1e-9
        assert bound <= max(0.0, problem.dual_value(scale * nu))
