"""One-vs-all against the scalar solves, the conic oracle and gradient descent on its own penalty."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, Status, patterns, solve
from cvxnn.architectures import ReLU

ONE_VS_ALL = ReLU(one_vs_all=True)


def data(seed, n=9, d=2, c=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, c)), rng.uniform(0.5, 2.0, n)


@pytest.mark.parametrize("loss", ["squared", "huber", "logistic", "squared_hinge"])
def test_sums_of_the_single_outputs(loss):
    X, Y, weight = data(0)
    Y = np.sign(Y) if loss in ("logistic", "squared_hinge") else Y
    problem = Problem(X, Y, 0.2, loss, sample_weight=weight)
    solution = solve(problem, architecture=ONE_VS_ALL)
    parts = [solve(Problem(X, y, 0.2, loss, sample_weight=weight)) for y in Y.T]
    assert solution.status is Status.GLOBAL_OPTIMUM
    assert solution.scope == "global"
    assert solution.objective == pytest.approx(sum(part.objective for part in parts), rel=1e-12)
    assert solution.network.objective(problem) == solution.objective
    assert solution.lower_bound <= sum(part.lower_bound for part in parts)
    assert solution.lower_bound == pytest.approx(sum(part.lower_bound for part in parts), rel=1e-12)
    assert solution.global_lower_bound == solution.lower_bound
    for k, part in enumerate(parts):
        np.testing.assert_allclose(solution.network(X)[:, k], part.network(X), atol=1e-12)
    assert np.all(np.count_nonzero(solution.network.a, axis=1) == 1)
    assert solution.dual.shape == Y.shape
    # The dual vector is the feasible point itself, and proves the bound.
    assert problem.dual_value(solution.dual) == pytest.approx(solution.lower_bound, rel=1e-9)


def test_blocks_make_the_fit():
    X, Y, _ = data(1)
    problem = Problem(X, Y, 0.1)
    for given in ("auto", patterns.enumerate_patterns(X)):
        solution = solve(problem, architecture=ONE_VS_ALL, patterns=given)
        u, v = solution.blocks
        assert u.shape == v.shape == (len(solution.patterns), 2, 3)
        fit = np.einsum("pn,nd,pdc->nc", solution.patterns.masks.astype(float), X, u - v)
        np.testing.assert_allclose(fit, solution.network(X), atol=1e-9)
        assert solution.objective == pytest.approx(
            problem.loss_value(fit) + 0.1 * np.sum(np.linalg.norm(u, axis=1) + np.linalg.norm(v, axis=1)), rel=1e-9
        )


def descent(problem, seed, width=12, steps=4000):
    """Subgradient descent on the one-vs-all penalty itself, neurons being free to serve all outputs."""
    rng = np.random.default_rng(seed)
    W = 0.5 * rng.standard_normal((width, problem.n_features))
    a = 0.5 * rng.standard_normal((width, problem.n_outputs))
    best = np.inf
    for t in range(steps):
        hidden = np.maximum(problem.X @ W.T, 0.0)
        fit = hidden @ a
        l1 = np.abs(a).sum(axis=1, keepdims=True)
        best = min(best, problem.loss_value(fit) + 0.5 * problem.beta * (np.sum(W**2) + np.sum(l1**2)))
        slope = problem.loss_gradient(fit)
        rate = 0.03 / (1.0 + 1e-2 * t)
        move_W = ((slope @ a.T) * (hidden > 0)).T @ problem.X + problem.beta * W
        a = a - rate * (hidden.T @ slope + problem.beta * l1 * np.sign(a))
        W = W - rate * move_W
    return best


def test_gradient_descent_is_never_below_the_bound():
    X, Y, _ = data(2, n=7)
    problem = Problem(X, Y, 0.3)
    solution = solve(problem, architecture=ONE_VS_ALL)
    found = [descent(problem, seed) for seed in range(6)]
    assert min(found) >= solution.lower_bound
    assert min(found) == pytest.approx(solution.objective, rel=5e-2)


def test_sharing_neurons_costs_less():
    # The one-vs-all optimum merged along equal directions is a network of the other penalty.
    X = np.array([[1.0], [2.0]])
    problem = Problem(X, np.column_stack([X[:, 0], X[:, 0]]), 0.5)
    solution = solve(problem, architecture=ONE_VS_ALL)
    shared = solution.network.merged(X)
    assert shared.width == 1
    assert shared.objective(problem) < solution.objective - 0.1


def test_one_output_is_the_plain_solve():
    X, Y, _ = data(3)
    problem = Problem(X, Y[:, 0], 0.1)
    assert solve(problem, architecture=ONE_VS_ALL).objective == solve(problem).objective


def test_warm_start_and_history():
    X, Y, _ = data(4)
    problem = Problem(X, Y, 0.1)
    first = solve(problem, architecture=ONE_VS_ALL)
    again = solve(problem, architecture=ONE_VS_ALL, warm_start=first.network)
    assert again.objective == pytest.approx(first.objective, rel=1e-8)
    assert np.all(np.diff(first.history.objective) <= 1e-12)
    assert np.all(np.diff(first.history.lower_bound) >= 0.0)
    assert np.all(np.diff(first.history.iterations) >= 0)
    assert first.history.lower_bound[-1] == pytest.approx(first.lower_bound, rel=1e-12)


def test_zero_output_and_zero_network():
    X, Y, _ = data(5)
    Y[:, 1] = 0.0
    solution = solve(Problem(X, Y, 0.1), architecture=ONE_VS_ALL)
    assert solution.status is Status.GLOBAL_OPTIMUM
    assert not np.any(solution.network.a[:, 1])
    zero = solve(Problem(X, Y, 1e3), architecture=ONE_VS_ALL)
    assert zero.network.width == 0
    assert zero.network.a.shape == (0, 3)
    assert zero.gap <= 1e-6


def test_time_limit_and_interrupt_keep_a_valid_certificate():
    X, Y, _ = data(6, n=44, d=8)
    problem = Problem(X, Y, 0.5)
    full = solve(problem, architecture=ONE_VS_ALL)
    assert full.scope == "patterns"
    assert full.certificate.n_patterns == len(full.patterns)
    assert full.global_lower_bound <= full.lower_bound
    none = solve(problem, architecture=ONE_VS_ALL, time_limit=0.0)
    assert none.global_lower_bound <= full.objective
    calls = []

    def stop(progress):
        calls.append(progress)
        if len(calls) == 2:
            raise KeyboardInterrupt

    stopped = solve(problem, architecture=ONE_VS_ALL, verbose=stop)
    assert stopped.status is Status.INTERRUPTED
    assert stopped.network.objective(problem) == stopped.objective
    assert stopped.global_lower_bound <= full.objective
    assert stopped.network.n_outputs == 3


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (Problem([[1.0], [2.0]], [0, 1], loss="softmax"), {}, 'one_vs_all needs a loss .*; got loss="softmax"'),
        (Problem([[1.0], [2.0]], np.eye(2)), dict(max_width=3), "max_width does not go with one_vs_all"),
        (
            Problem([[1.0], [2.0]], np.eye(2)),
            dict(warm_start=ReLUNetwork([[1.0]], [1.0])),
            "warm_start must be a ReLUNetwork with 1 features and 2 outputs",
        ),
    ],
)
def test_refusals(problem, options, message):
    with pytest.raises(ValueError, match=message):
        solve(problem, architecture=ONE_VS_ALL, **options)


def test_option_must_be_a_bool():
    with pytest.raises(ValueError, match="one_vs_all must be True or False; got 'yes'"):
        ReLU(one_vs_all="yes")
