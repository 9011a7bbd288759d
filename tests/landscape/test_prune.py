"""Pruning: the fit stays, the objective does not rise, and the contributions become independent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.prune import prune
from tests.landscape._path_checks import KINDS, make_problem, make_start, padded, polygon


def check_irreducible(problem: Problem, network: ReLUNetwork) -> None:
    X = problem.X[problem.sample_weight > 0]
    columns = np.maximum(X @ network.W.T, 0.0)
    if network.width:
        assert np.all(np.any(columns > 0, axis=0))
        unit = columns / np.linalg.norm(columns, axis=0)
        assert np.linalg.svd(unit, compute_uv=False)[-1] > 1e-13
    assert network.width <= effective_dimension(problem.X)
    np.testing.assert_allclose(np.linalg.norm(network.W, axis=1), np.abs(network.a), rtol=1e-12)


@pytest.mark.parametrize(("kind", "mode"), list(itertools.product(KINDS, range(6))))
def test_fit_stays_and_contributions_become_independent(kind, mode):
    for width in (1, 7, 40, 300):
        problem = make_problem(kind, "squared", mode)
        network = make_start(problem, width, mode, width)
        small = prune(problem, network)
        check_irreducible(problem, small)
        fit = network(problem.X)
        np.testing.assert_allclose(small(problem.X), fit, atol=1e-10 * (1.0 + np.max(np.abs(fit))))
        assert small.objective(problem) <= network.objective(problem) * (1 + 1e-13)
        again = prune(problem, small)
        assert again.width == small.width


@pytest.mark.parametrize("corners", [4, 5, 6, 8])
def test_an_optimal_network_stays_optimal(corners):
    problem = Problem(polygon(corners), np.ones(corners), beta=0.1)
    optimum = solve(problem, tol=1e-11)
    rng = np.random.default_rng(corners)
    # The mean of all rotations is optimal, too, and as dense as can be.
    angles = 2 * np.pi * np.arange(corners) / corners
    turns = [np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) for t in angles]
    scale = 1.0 / np.sqrt(corners)
    dense = ReLUNetwork(
        scale * np.vstack([optimum.network.W @ turn for turn in turns]), scale * np.tile(optimum.network.a, corners)
    )
    assert dense.objective(problem) == pytest.approx(optimum.objective, rel=1e-13)
    small = prune(problem, padded(dense, dense.width + 5, rng, splits=3))
    check_irreducible(problem, small)
    assert small.objective(problem) == pytest.approx(optimum.objective, rel=1e-13)


def test_dead_and_zero_neurons_are_left_out():
    problem = Problem([[1.0, 1.0], [2.0, 1.0]], [1.0, 2.0], beta=0.1)
    network = ReLUNetwork([[-1.0, -1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 0.0, 2.0])
    small = prune(problem, network)
    np.testing.assert_allclose(small.W, np.sqrt(2.0) * np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(small.a, [np.sqrt(2.0)])
    nothing = prune(problem, ReLUNetwork([[-1.0, 0.0]], [1.0]))
    assert nothing.width == 0


def test_samples_without_weight_do_not_keep_neurons():
    X = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    network = ReLUNetwork([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    assert prune(Problem(X, [1.0, 1.0, 1.0]), network).width == 2
    assert prune(Problem(X, [1.0, 1.0, 1.0], sample_weight=[1.0, 0.0, 0.0]), network).width == 1


def test_without_weight_decay_the_loss_stays():
    base = make_problem("random", "squared", 0)
    problem = Problem(base.X, base.y, beta=0.0)
    network = make_start(problem, 50, 0, 0)
    small = prune(problem, network)
    assert small.width <= problem.n_samples
    assert small.objective(problem) <= network.objective(problem) * (1 + 1e-12)


def test_bad_input_gets_one_sentence():
    problem = make_problem("random", "squared", 0)
    with pytest.raises(ValueError, match=r"must be a cvxnn\.ReLUNetwork"):
        prune(problem, None)
    with pytest.raises(ValueError, match="features and one output"):
        prune(problem, ReLUNetwork(np.ones((2, problem.n_features + 1)), np.ones(2)))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_an_output_bias_is_kept(loss):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.choice([-1.0, 1.0], 6)
    problem = Problem(X, y, 0.1, loss, output_bias_decay=0.3)
    network = ReLUNetwork(rng.standard_normal((20, 2)), rng.standard_normal(20), output_bias=0.7)
    small = prune(problem, network)
    assert small.output_bias == 0.7 and small.width <= 6
    np.testing.assert_allclose(small(X), network(X), atol=1e-12)
    assert small.objective(problem) <= network.objective(problem)


def test_weights_beyond_floating_point_are_refused():
    problem = Problem(np.eye(2), [1.0, 2.0])
    with pytest.raises(ValueError, match="problem must be"):
        prune(None, ReLUNetwork(np.eye(2), [1.0, 1.0]))
    with pytest.raises(ValueError, match="not finite"):
        prune(problem, ReLUNetwork(1e200 * np.eye(2), [1e-200, 1e-200]))
