"""Rows of very different sizes: squares of small numbers vanish, and bounds have to hold all the same."""

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.certificates.vector_certificate import certify_outputs
from cvxnn.certificates.vector_cone_bounds import vector_cone_bounds
from cvxnn.certificates.vector_pricing import vector_pricing_bound

T = 1e-170
CASES = {
    "small rows in different directions": ([[1, 0], [T, 0], [0, T]], [[T, 0], [1, 1], [1, -1]]),
    "one small row that counts": ([[1, 0], [0, 1], [T, T]], [[T, 0], [0, T], [1, 1]]),
    "one column": ([[1], [T]], [[T, 0], [1, 1]]),
    "rank three": (
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [T, T, T], [T, T / 2, -T], [-T, T, T / 5]],
        [[T, 0], [0, T], [T, T], [1, 1], [-0.5, 0.3], [0.7, 0.2]],
    ),
    "not so small": ([[1, 0], [0, 1], [1e-50, 1e-50]], [[1e-50, 0], [0, 1e-50], [1, 1]]),
}


def values(X, N, points):
    """Norms of N^T (X u)_+, divided by the size of the largest row, each product formed from numbers of order one."""
    size_x, size_n = np.max(np.abs(X), axis=1, keepdims=True), np.max(np.abs(N), axis=1, keepdims=True)
    top = float(np.max(size_x * size_n))
    part = np.divide(N, size_n, out=np.zeros_like(N), where=size_n > 0.0)
    outputs = np.maximum(points @ (X / size_x).T, 0.0) @ (part * (size_x * size_n / top))
    return np.linalg.norm(outputs, axis=1), top


@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_where_squares_vanish(name):
    X, N = (np.array(part, dtype=float) for part in CASES[name])
    rng = np.random.default_rng(0)
    points = np.vstack([np.eye(X.shape[1]), rng.standard_normal((400, X.shape[1]))])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    norms, top = values(X, N, points)
    for method in ("auto", "cheap"):
        upper = vector_pricing_bound(X, N, method=method).upper / top
        assert np.max(norms) * (1.0 - 1e-12) <= upper <= 3.0 * np.max(norms)
    cones = vector_cone_bounds(X, N, points @ X.T >= 0.0, np.zeros((0, X.shape[1]))) / top
    assert np.all(norms * (1.0 - 1e-12) <= cones)
    single = np.max(values(X, N[:, :1], points)[0]) * values(X, N[:, :1], points)[1] * (1.0 - 1e-12)
    assert pricing_bound(X, N[:, 0]).upper >= single
    assert norm_bound(X, N[:, 0])[0] >= single


def test_networks_below_a_bound_are_not_overlooked():
    # The zero network was called globally optimal, with a bound of 2.
    X, Y = np.array([[1, 0], [T, 0], [0, T]]), np.array([[T, 0], [1, 1], [1, -1]])
    problem = Problem(X, Y, 1e-171)
    good = ReLUNetwork.from_directions([[0.0, 1.0]], np.array([[1.0, -1.0]]) / T)
    assert good.objective(problem) < 1.5
    zero = ReLUNetwork.zero(2, 2)
    for method in ("auto", "cheap"):
        certificate, _ = certify_outputs(problem, zero(X), zero.objective(problem), method=method)
        assert certificate.lower_bound <= good.objective(problem)
    for call in (solve, lambda problem: landscape.certify(problem, zero)):
        with pytest.raises(ValueError, match="too small beside data"):
            call(problem)


def test_no_norm_bound_gives_no_bound():
    problem = Problem([[1.0]], [2.0], beta=0.5)
    assert scaled_dual_bound(problem, np.array([0.5]), float("nan")) == (0.0, 0.0)
