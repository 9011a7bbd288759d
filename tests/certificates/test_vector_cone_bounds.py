"""Bounds on the cones of patterns: valid against sampling, tight at optima, rounding and limits."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, patterns, solve
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.vector_certificate import certify_outputs, certify_outputs_patterns
from cvxnn.certificates.vector_cone_bounds import vector_cone_bounds


def in_cones(X, masks, count, seed=0):
    """Random points, each with the index of its cone (-1 for none)."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, X.shape[1]))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    bits = points @ X.T >= 0
    home = np.full(count, -1)
    for i, mask in enumerate(masks):
        home[np.all(bits == mask, axis=1)] = i
    return points, home


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [2, 3, 5])
def test_no_point_of_a_cone_beats_its_bound(d, seed):
    rng = np.random.default_rng(seed)
    X, N = rng.standard_normal((7, d)), rng.standard_normal((7, 2))
    P = patterns.sample_patterns(X, 12, random_state=seed)
    points, home = in_cones(X, P.masks, 4000, seed + 100)
    # Starts in the cone and on its boundary, where multipliers sharpen the bound.
    edges = points[:40] - (points[:40] @ X[0] / (X[0] @ X[0]))[:, None] * X[0]
    starts = np.vstack([points[:40], edges / np.linalg.norm(edges, axis=1, keepdims=True)])
    upper = vector_cone_bounds(X, N, P.masks, starts)
    plain = vector_cone_bounds(X, N, P.masks, np.zeros((0, d)))
    assert np.all(upper <= plain)
    values = np.linalg.norm(np.maximum(points @ X.T, 0.0) @ N, axis=1)
    inside = home >= 0
    assert np.any(inside)
    assert np.all(values[inside] <= upper[home[inside]])
    scaled = vector_cone_bounds(np.ldexp(X, 500), np.ldexp(N, -560), P.masks, starts)
    np.testing.assert_allclose(scaled, np.ldexp(upper, -60), rtol=1e-12, atol=1e-100)


def test_multipliers_close_the_bound_on_a_face():
    X, N = np.eye(2), np.array([[1.0, 0.0], [-1.0, 0.0]])
    bound = vector_cone_bounds(X, N, np.array([[True, True]]), np.array([[1.0, 0.0]]))
    assert 1.0 <= bound[0] <= 1.0 + 1e-9


def test_patterns_certificate_holds_and_is_not_global():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((12, 2)), rng.standard_normal((12, 2))
    problem = Problem(X, Y, 0.3)
    s = solve(problem)
    units = s.network.W / np.linalg.norm(s.network.W, axis=1, keepdims=True)
    among = certify_outputs_patterns(problem, s.network(X), s.objective, s.patterns.masks, units)
    assert among.scope == "patterns"
    assert among.global_lower_bound == 0.0
    assert among.lower_bound <= s.objective
    everywhere, pricing = certify_outputs(problem, s.network(X), s.objective)
    assert everywhere.scope == "global"
    assert everywhere.gap <= 1e-6
    assert pricing.method == "arrangement"


def test_softmax_bound_uses_rows_that_sum_to_zero():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((9, 2)), rng.integers(0, 3, 9)
    problem = Problem(X, y, 0.2, "softmax")
    s = solve(problem)
    assert s.gap <= 1e-6
    # The bound is that of a feasible point: the scaled dual, projected again, with the norm of what that moved.
    point = problem.project_dual(s.certificate.scale * s.dual)
    assert all(sum(row) == 0.0 for row in point.tolist())
    assert problem.dual_value(point) == pytest.approx(s.lower_bound, rel=1e-12)
    assert scaled_dual_bound(problem, s.dual + 1e-3, s.certificate.dual_norm_bound)[0] == 0.0
