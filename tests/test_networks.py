"""Networks: the moves that must leave the function unchanged, and the objective that must not rise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn import Problem, ReLUNetwork


def random_case(seed, n=6, d=3, m=5, integer=False):
    rng = np.random.default_rng(seed)
    draw = (lambda *s: rng.integers(-2, 3, s).astype(float)) if integer else (lambda *s: rng.standard_normal(s))
    X, y = draw(n, d), draw(n)
    return Problem(X, y, beta=0.3), ReLUNetwork(draw(m, d), draw(m))


def test_forward_and_objective_match_a_loop():
    problem, net = random_case(0)
    f = [sum(a * max(0.0, float(w @ x)) for w, a in zip(net.W, net.a, strict=True)) for x in problem.X]
    np.testing.assert_allclose(net(problem.X), f)
    value = 0.5 * np.sum((f - problem.y) ** 2) + 0.15 * (np.sum(net.W**2) + np.sum(net.a**2))
    assert net.objective(problem) == pytest.approx(value)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_balance_merge_prune_split_and_permute(seed, integer):
    problem, net = random_case(seed, integer=integer)
    f, value = net(problem.X), net.objective(problem)
    scale = 1.0 + np.max(np.abs(f))
    for other in (net.balanced(), net.without_dead_neurons(problem.X), net.merged(problem.X)):
        np.testing.assert_allclose(other(problem.X), f, atol=1e-12 * scale)
        assert other.objective(problem) <= value * (1 + 1e-12)
    balanced = net.balanced()
    np.testing.assert_allclose(np.linalg.norm(balanced.W, axis=1), np.abs(balanced.a), atol=1e-12 * scale)
    rng = np.random.default_rng(seed)
    for other in (net.permuted(rng.permutation(net.width)), net.split(2, rng.uniform())):
        np.testing.assert_allclose(other(problem.X), f, atol=1e-12 * scale)
        assert other.objective(problem) == pytest.approx(value, rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_two_neurons_merge_exactly_where_no_sample_separates_them(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (5, 3)).astype(float)
    W, a = rng.integers(-2, 3, (2, 3)).astype(float), rng.choice([-2.0, 0.5, 1.0], 2)
    net = ReLUNetwork(W, a)
    z = X @ W.T
    alive = np.any(z > 0, axis=0)
    separated = bool(np.any(z[:, 0] * z[:, 1] < 0))
    expected = int(alive.sum())
    if alive.all() and a[0] * a[1] > 0 and not separated:
        expected = 1
    assert net.merged(X).width == expected
    # The condition is exact: where it fails, the merged neuron computes another function.
    if alive.all() and separated:
        both = np.maximum(z, 0).sum(axis=1)
        assert not np.allclose(both, np.maximum(z.sum(axis=1), 0))


def test_split_counts_negative_indices_from_the_end():
    net = ReLUNetwork([[1.0, 0.0], [0.0, 2.0]], [1.0, 1.0])
    np.testing.assert_allclose(net.split(-1, 0.25)(np.eye(2)), net(np.eye(2)))
    np.testing.assert_array_equal(net.split(-1, 0.25).W, net.split(1, 0.25).W)


def test_merged_leaves_no_mergeable_pair():
    for seed in range(20):
        problem, net = random_case(seed, n=4, d=2, m=12)
        once = net.merged(problem.X)
        assert once.merged(problem.X).width == once.width


def test_patterns_are_those_of_the_neurons():
    problem, net = random_case(1)
    found = net.patterns(problem.X)
    assert len(found) == net.width
    np.testing.assert_array_equal(found.masks, net.W @ problem.X.T >= 0)


def test_zero_width_is_the_zero_function():
    net = ReLUNetwork.zero(3)
    assert net.width == 0
    np.testing.assert_array_equal(net(np.ones((2, 3))), np.zeros(2))
    assert net.balanced().width == net.merged(np.ones((2, 3))).width == 0


def vector_network(seed, m=6, d=3, c=2):
    rng = np.random.default_rng(seed)
    return ReLUNetwork(rng.standard_normal((m, d)), rng.standard_normal((m, c))), rng.standard_normal((8, d))


@given(seed=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_vector_outputs(seed):
    net, X = vector_network(seed)
    problem = Problem(X, np.ones((8, 2)), beta=0.3)
    assert net(X).shape == (8, 2)
    fit = np.array(
        [[sum(max(x @ w, 0.0) * a[k] for w, a in zip(net.W, net.a, strict=True)) for k in (0, 1)] for x in X]
    )
    penalty = 0.5 * (np.sum(net.W**2) + np.sum(net.a**2))
    assert net.objective(problem) == pytest.approx(0.5 * np.sum((fit - 1.0) ** 2) + 0.3 * penalty)
    for other in (net.balanced(), net.without_dead_neurons(X), net.merged(X)):
        np.testing.assert_allclose(other(X), net(X), atol=1e-12)
        assert other.penalty() <= net.penalty() * (1.0 + 1e-14)
    for same in (net.split(2, 0.3), net.permuted([3, 1, 0, 2, 5, 4])):
        assert same.objective(problem) == pytest.approx(net.objective(problem))


def test_blocks_become_a_balanced_network():
    rng = np.random.default_rng(1)
    U, G, X = rng.standard_normal((5, 3)), rng.standard_normal((5, 2)), rng.standard_normal((7, 3))
    G[2], U[4] = 0.0, 0.0
    net = ReLUNetwork.from_directions(U, G)
    assert net.width == 3
    np.testing.assert_allclose(net(X), np.maximum(X @ U.T, 0.0) @ G, atol=1e-13)
    assert net.penalty() == pytest.approx(np.sum(np.linalg.norm(U, axis=1) * np.linalg.norm(G, axis=1)))
    np.testing.assert_allclose(np.linalg.norm(net.W, axis=1), np.linalg.norm(net.a, axis=1))


def test_neurons_of_several_outputs_merge_where_they_are_one_neuron():
    net, X = vector_network(2, m=3, d=2)
    # Positively parallel first layers: the rows of a add up.
    doubled = ReLUNetwork(np.vstack([net.W, 3.0 * net.W[:1]]), np.vstack([net.a, [[0.5, -2.0]]]))
    assert doubled.merged(X).width == net.merged(X).width
    # One cone: parallel second layers merge, others do not.
    X = np.array([[1.0, 0.2], [0.3, 1.0]])
    W = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert ReLUNetwork(W, [[1.0, 2.0], [2.0, 4.0]]).merged(X).width == 1
    assert ReLUNetwork(W, [[1.0, 2.0], [2.0, -4.0]]).merged(X).width == 2
    assert ReLUNetwork.zero(2, 3).merged(X).a.shape == (0, 3)


def test_objective_needs_as_many_outputs_as_the_problem():
    net, X = vector_network(3)
    with pytest.raises(ValueError, match="as many outputs; got 2 and 1"):
        net.objective(Problem(X, np.ones(8)))
    with pytest.raises(ValueError, match="as many outputs; got 1 and 2"):
        ReLUNetwork(net.W, net.a[:, 0]).objective(Problem(X, np.ones((8, 2))))
    column = ReLUNetwork(net.W, net.a[:, :1])
    same = ReLUNetwork(net.W, net.a[:, 0])
    assert column.objective(Problem(X, np.ones(8))) == same.objective(Problem(X, np.ones(8)))


@pytest.mark.parametrize(
    ("W", "a", "message"),
    [
        ([1.0], [1.0], "W must have shape"),
        ([[1.0]], [1.0, 2.0], "a must have shape"),
        ([[1.0]], [[]], "a must have shape"),
        ([[np.nan]], [1.0], "W contains NaN"),
        ([[1.0]], [np.inf], "a contains NaN or infinite"),
    ],
)
def test_bad_weights(W, a, message):
    with pytest.raises(ValueError, match=message):
        ReLUNetwork(W, a)


def test_bad_calls():
    net = ReLUNetwork([[1.0, 2.0]], [1.0])
    with pytest.raises(ValueError, match="X has 3 features; this network takes 2"):
        net(np.ones((1, 3)))
    with pytest.raises(ValueError, match="fraction must lie"):
        net.split(0, 1.5)
    with pytest.raises(ValueError, match="order must be a permutation"):
        net.permuted([1])
    with pytest.raises(ValueError, match="index must name"):
        net.split(3)


def test_extreme_scales_survive_balancing():
    for scale in (1e-150, 1e150):
        net = ReLUNetwork([[3 * scale, 4 * scale]], [1 / scale]).balanced()
        np.testing.assert_allclose(net([[1.0, 1.0]]), [7.0], rtol=1e-12)
