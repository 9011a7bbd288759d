"""Confined neurons stay in their cones, on whose boundary many samples may lie."""

import numpy as np
import pytest

from cvxnn import Problem, solve
from cvxnn.patterns import ActivationPatterns


@pytest.mark.parametrize("seed", range(12))
def test_networks_of_listed_patterns_stay_in_their_cones(seed):
    # With integer data neurons used to leave through samples exactly on the boundary, to objectives below the bound.
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (12, 3)).astype(float)
    weight = rng.integers(0, 4, 12).astype(float)
    problem = Problem(X, rng.standard_normal((12, 3)), 0.15, sample_weight=weight)
    P = ActivationPatterns.from_gates(X, rng.standard_normal((1 + seed % 3, 3)))
    solution = solve(problem, patterns=P, time_limit=5.0)
    W = solution.network.W / np.linalg.norm(solution.network.W, axis=1, keepdims=True)
    outside = [np.max(-np.where(mask, 1.0, -1.0)[:, None] * (X @ W.T), axis=0, initial=0.0) for mask in P.masks]
    assert np.all(np.min(outside, axis=0) <= 1e-7)
    assert solution.lower_bound <= solution.objective
