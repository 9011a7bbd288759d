"""``max_width``: the width holds, the bound stays that of all widths, and the status says so."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from cvxnn import GatedReLU, Problem, Status, patterns, solve


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    X = np.c_[rng.standard_normal((12, 2)), np.ones(12)]
    return Problem(X, rng.standard_normal(12), 0.1)


def test_exact_problem(small):
    free = solve(small)
    assert free.status is Status.GLOBAL_OPTIMUM
    previous = np.inf
    for width in range(1, free.network.width + 2):
        s = solve(small, max_width=width)
        assert s.network.width <= width
        assert s.objective == s.network.objective(small)
        assert s.objective >= free.objective * (1 - 1e-9)
        assert s.objective <= previous * (1 + 1e-3)
        assert s.scope == "global" and s.lower_bound == pytest.approx(free.lower_bound, rel=1e-6)
        assert s.status is (Status.GLOBAL_OPTIMUM if s.gap <= 1e-6 else Status.WIDTH_LIMIT)
        assert s.status.converged == (s.gap <= 1e-6)
        previous = s.objective
    assert s.status is Status.GLOBAL_OPTIMUM


def test_one_neuron_is_the_best_of_all_single_neurons(small):
    s = solve(small, max_width=1)
    rng = np.random.default_rng(1)
    # Brute force: the best mass of each of many directions, both signs.
    U = rng.standard_normal((40_000, 3))
    outputs = np.maximum(U / np.linalg.norm(U, axis=1, keepdims=True) @ small.X.T, 0.0)
    score = np.maximum(np.abs(outputs @ small.y) - small.beta, 0.0) ** 2 / np.maximum((outputs**2).sum(axis=1), 1e-12)
    best = 0.5 * small.y @ small.y - 0.5 * score.max()
    assert s.objective <= best * (1 + 1e-6)


def test_real_table_within_the_limits():
    X, y = load_diabetes(return_X_y=True)
    X = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(y))]
    problem = Problem(X, (y - y.mean()) / y.std(), 0.1 * len(y))
    free = solve(problem, tol=1e-4)
    s = solve(problem, tol=1e-4, max_width=3)
    assert s.network.width <= 3 < free.network.width
    assert s.status is Status.WIDTH_LIMIT and "max_width" in s.status.advice
    assert free.lower_bound <= s.objective <= 1.02 * free.objective
    assert s.lower_bound <= free.objective
    limited = solve(problem, max_width=3, time_limit=1.0)
    assert limited.network.width <= 3 and limited.objective < problem.loss_value(np.zeros(len(y)))


def test_refuses_what_it_cannot_do(small):
    with pytest.raises(ValueError, match="max_width"):
        solve(small, max_width=0)
    with pytest.raises(ValueError, match="max_width"):
        solve(small, max_width=3, patterns=5)
    with pytest.raises(ValueError, match="max_width"):
        solve(small, max_width=3, architecture=GatedReLU(patterns.sample_patterns(small.X, 4).gates))
