"""Optima of the patterns along a training run, against a general conic solver."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape.trajectory import trajectory_optima
from tests.oracles.conic import conic_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def training_run(problem: Problem, width: int, steps: int, rate: float, seed: int) -> list[ReLUNetwork]:
    """Gradient descent with a fixed step."""
    rng = np.random.default_rng(seed)
    W, a = rng.standard_normal((width, problem.n_features)), rng.standard_normal(width)
    run = []
    for _ in range(steps):
        run.append(ReLUNetwork(W, a))
        ahead = problem.X @ W.T
        nu = problem.dual_vector(run[-1](problem.X))
        W_new = W - rate * (problem.beta * W - a[:, None] * (((ahead > 0) * nu[:, None]).T @ problem.X))
        a = a - rate * (problem.beta * a - np.maximum(ahead, 0.0).T @ nu)
        W = W_new
    return run


def make_problem(loss: str, seed: int = 0, n: int = 10) -> Problem:
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, 2)), np.ones(n)])
    y = rng.standard_normal(n) if loss in ("squared", "huber") else rng.choice([-1.0, 1.0], n)
    return Problem(X, y, beta=0.1, loss=loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_step_against_a_conic_solver(loss):
    problem = make_problem(loss)
    run = training_run(problem, 4, 8, 0.05, 1)
    result = trajectory_optima(problem, run, tol=1e-8)
    best = solve(problem, tol=1e-9)
    assert len(result) == len(run)
    for step, network in zip(result, run, strict=True):
        assert step.objective == network.objective(problem)
        masks = np.unique((problem.X @ network.W.T >= 0).T, axis=0)
        masks = masks[masks.any(axis=1)]
        assert len(step.patterns) == len(masks)
        truth = conic_optimum(problem, np.vstack([masks, masks]), np.repeat([1.0, -1.0], len(masks)))
        assert step.optimum == pytest.approx(truth, rel=1e-7)
        assert step.lower_bound <= truth * (1 + 1e-8)
        assert step.gap < 1e-7
        assert step.optimum <= step.objective
        assert step.optimum >= best.lower_bound
        assert step.best.objective(problem) == step.optimum
        assert step.distance == step.objective - step.optimum
    assert 0.0 < result.global_lower_bound <= best.objective
    assert np.array_equal(result.distances, result.objectives - result.optima)
    assert "steps=8" in repr(result)


def test_steps_with_the_same_patterns_share_a_solve():
    problem = make_problem("squared")
    network = training_run(problem, 5, 1, 0.1, 0)[0]
    shuffled = network.permuted([3, 1, 4, 0, 2])
    rescaled = ReLUNetwork(2.0 * network.W, 0.5 * network.a)
    result = trajectory_optima(problem, [network, shuffled, rescaled, network.split(0)])
    assert result.solves == 1
    assert np.ptp(result.optima) == 0.0
    assert result.new_patterns.tolist() == [result.n_patterns[0], 0, 0, 0]


def test_the_optimal_network_is_its_own_optimum():
    problem = make_problem("squared", seed=2)
    best = solve(problem, tol=1e-10)
    result = trajectory_optima(problem, [best.network], solution=best)
    assert result[0].distance == pytest.approx(0.0, abs=1e-9 * best.objective)
    assert result.global_lower_bound >= best.global_lower_bound


def test_pairs_iterators_and_degenerate_networks():
    problem = make_problem("squared", seed=3)
    zero = problem.loss_value(np.zeros(10))
    # Neurons without weights or active nowhere bring no pattern.
    dead = np.linalg.lstsq(problem.X, -np.ones(10), rcond=None)[0]
    entries = [
        (np.zeros((0, 3)), np.zeros(0)),
        ([[0.0, 0.0, 0.0]], [1.0]),
        ([dead], [2.0]),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0.0, 0.0]),
    ]
    result = trajectory_optima(problem, iter(entries))
    assert result.n_patterns.tolist() == [0, 0, 0, 1]
    assert result.optima[:3].tolist() == [zero] * 3
    assert result.lower_bounds[:3] == pytest.approx(zero)
    assert result.optima[3] < zero
    assert result[1:3] == (result[1], result[2])
    assert len(trajectory_optima(problem, [])) == 0


def test_samples_without_weight_and_duplicates():
    rng = np.random.default_rng(5)
    X = np.vstack([rng.standard_normal((6, 2)), np.zeros((1, 2)), rng.standard_normal((2, 2))])
    X = np.vstack([X, X[:3]])
    y, weight = rng.standard_normal(12), np.r_[np.ones(6), 1.0, 0.0, 2.0, np.ones(3)]
    problem = Problem(X, y, beta=0.2, sample_weight=weight)
    network = ReLUNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3))
    step = trajectory_optima(problem, [network], tol=1e-8)[0]
    masks = (X @ network.W.T >= 0).T
    truth = conic_optimum(problem, np.vstack([masks, masks]), np.repeat([1.0, -1.0], 3))
    assert step.optimum == pytest.approx(truth, rel=1e-7)
    assert step.gap < 1e-7


def test_many_patterns_and_samples():
    """Large enough for the structured solver in place of the conic one."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal((150, 5)), np.ones(150)])
    problem = Problem(X, np.sin(X[:, 0]) + X[:, 1] ** 2, beta=1.0)
    result = trajectory_optima(problem, training_run(problem, 20, 3, 1e-3, 0))
    assert np.all(result.n_patterns == 20)
    assert max(step.gap for step in result) < 1e-6
    assert np.all(result.optima < result.objectives)


def test_bad_input():
    problem = make_problem("squared")
    with pytest.raises(ValueError, match=r"networks\[1\] must have 3 features"):
        trajectory_optima(problem, [ReLUNetwork.zero(3), ReLUNetwork.zero(2)])
    with pytest.raises(ValueError, match=r"networks\[0\] must be a ReLUNetwork or a pair"):
        trajectory_optima(problem, [3.0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="beta is 0"):
        trajectory_optima(Problem(problem.X, problem.y, beta=0.0), [])
    with pytest.raises(ValueError, match="output bias"):
        trajectory_optima(Problem(problem.X, problem.y, output_bias_decay=0.0), [])
    with pytest.raises(ValueError, match="tol"):
        trajectory_optima(problem, [], tol=0.0)
