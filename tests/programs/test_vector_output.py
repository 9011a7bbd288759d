"""The program for several outputs against a semidefinite program, gradient descent, the scalar program, symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, Status, patterns, solve
from cvxnn.architectures import ReLU
from cvxnn.programs.vector_output import factored_blocks
from tests.oracles.vector_program import descend, plane_optimum


def data(n, d, c, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    Y = np.maximum(X @ rng.standard_normal((d, 3)), 0.0) @ rng.standard_normal((3, c))
    return X, Y + 0.3 * rng.standard_normal((n, c))


def assert_optimal(s, problem):
    assert s.status is Status.GLOBAL_OPTIMUM
    assert s.scope == "global"
    assert s.gap <= 1e-6
    assert s.objective == s.network.objective(problem)
    assert s.lower_bound <= s.objective
    assert s.dual.shape == problem.y.shape
    assert s.network.a.shape == (s.network.width, problem.n_outputs)
    np.testing.assert_allclose(np.linalg.norm(s.network.W, axis=1), np.linalg.norm(s.network.a, axis=1), rtol=1e-9)


@pytest.mark.parametrize(("n", "c", "beta", "seed"), [(4, 2, 0.3, 0), (6, 3, 0.5, 1), (8, 2, 0.1, 2), (6, 4, 1.0, 3)])
def test_plane_equals_the_semidefinite_program(n, c, beta, seed):
    X, Y = data(n, 2, c, seed)
    problem = Problem(X, Y, beta)
    s = solve(problem)
    assert_optimal(s, problem)
    truth = plane_optimum(X, Y, beta)
    assert s.objective == pytest.approx(truth, rel=2e-6)
    assert s.lower_bound <= truth * (1 + 1e-7)


@pytest.mark.parametrize(
    ("d", "loss", "beta"),
    [(1, "squared", 0.2), (2, "softmax", 0.1), (3, "softmax", 0.3), (3, "huber", 0.2), (3, "logistic", 0.2)],
)
def test_descent_is_never_below_the_bound(d, loss, beta):
    X, Y = data(14, d, 3, 5)
    y = np.argmax(Y, axis=1) if loss == "softmax" else np.sign(Y) if loss == "logistic" else Y
    problem = Problem(X, y, beta, loss)
    s = solve(problem)
    assert_optimal(s, problem)
    reached = [descend(problem, 30, seed) for seed in range(3)]
    assert min(reached) >= s.lower_bound
    assert min(reached) >= s.objective * (1 - 1e-6)
    # Adam with kinks comes near, not to, the optimum.
    assert min(reached) <= s.objective * 1.05


@pytest.mark.parametrize("d", [2, 3])
def test_one_live_output_is_the_scalar_program(d):
    X, Y = data(15, d, 2, 1)
    scalar = solve(Problem(X, Y[:, 0], 0.2))
    s = solve(Problem(X, np.c_[Y[:, 0], np.zeros(15)], 0.2))
    assert s.objective == pytest.approx(scalar.objective, rel=2e-6)
    assert np.max(np.abs(s.network.a[:, 1])) <= 1e-5
    # Proportional outputs share their neurons: only the size of the outputs counts.
    both = solve(Problem(X, np.outer(Y[:, 0], [0.6, -0.8]), 0.2))
    assert both.objective == pytest.approx(scalar.objective, rel=2e-6)


def test_symmetries_of_the_outputs_and_samples():
    X, Y = data(16, 3, 3, 2)
    problem = Problem(X, Y, 0.3)
    s = solve(problem)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turned = solve(Problem(X, Y @ Q, 0.3))
    assert turned.objective == pytest.approx(s.objective, rel=2e-6)
    np.testing.assert_allclose(turned.network(X), s.network(X) @ Q, atol=2e-3)
    order = np.random.default_rng(1).permutation(16)
    shuffled = solve(Problem(X[order], Y[order], 0.3))
    assert shuffled.objective == pytest.approx(s.objective, rel=2e-6)
    weight = np.random.default_rng(2).integers(0, 3, 16)
    weighted = solve(Problem(X, Y, 0.3, sample_weight=weight))
    repeated = solve(Problem(np.repeat(X, weight, axis=0), np.repeat(Y, weight, axis=0), 0.3))
    assert weighted.objective == pytest.approx(repeated.objective, rel=2e-6)
    lift = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 3)))[0]
    assert solve(Problem(X @ lift.T, Y, 0.3)).objective == pytest.approx(s.objective, rel=2e-6)
    scaled = solve(Problem(1e6 * X, 1e-4 * Y, 0.3 * 1e2))
    assert scaled.objective == pytest.approx(1e-8 * s.objective, rel=2e-6)


def test_sharing_neurons_is_never_worse_than_one_vs_all():
    X, Y = data(12, 3, 2, 3)
    problem = Problem(X, Y, 0.3)
    shared, separate = solve(problem), solve(problem, architecture=ReLU(one_vs_all=True))
    assert shared.objective <= separate.objective * (1 + 1e-6)
    assert shared.objective < 0.99 * separate.objective


def test_degenerate_data():
    rng = np.random.default_rng(0)
    X = rng.integers(-1, 2, (20, 3)).astype(float)
    X[3] = 0.0
    problem = Problem(X, rng.standard_normal((20, 2)), 0.5)
    assert_optimal(solve(problem), problem)


def test_zero_network_above_the_largest_beta():
    X, Y = data(10, 3, 2, 0)
    problem = Problem(X, Y, 1e3)
    s = solve(problem)
    assert_optimal(s, problem)
    assert s.network.width == 0
    empty = solve(Problem(np.zeros((3, 2)), np.ones((3, 2)), 0.1))
    assert empty.network.width == 0
    assert empty.gap <= 1e-6


def test_blocks_lead_back_to_the_network():
    X, Y = data(12, 2, 2, 4)
    problem = Problem(X, Y, 0.2)
    s = solve(problem)
    factors = factored_blocks(problem, s.network, s.patterns)
    back = ReLUNetwork.from_directions(factors.u, factors.g)
    assert back.objective(problem) == pytest.approx(s.objective, rel=1e-12)
    fit = np.einsum("pn,nd,pdc->nc", s.patterns.masks.astype(float), X, s.blocks.u)
    np.testing.assert_allclose(fit, s.network(X), atol=1e-7)
    signs = np.where(s.patterns.masks[factors.home], 1.0, -1.0)
    assert np.min(signs * (factors.u @ X.T)) >= -1e-8


def test_listed_patterns_confine_the_neurons():
    X, Y = data(8, 2, 2, 6)
    problem = Problem(X, Y, 0.2)
    free = solve(problem)
    every = solve(problem, patterns=patterns.enumerate_patterns(X))
    assert every.objective == pytest.approx(free.objective, rel=1e-5)
    some = patterns.sample_patterns(X, 3, random_state=0)
    s = solve(problem, patterns=some)
    assert s.objective >= free.objective * (1 - 1e-6)
    assert s.lower_bound <= s.objective
    t = X @ s.network.W.T
    signs = np.where(some.masks, 1.0, -1.0)
    worst = np.min(signs[:, :, None] * t[None], axis=1)
    assert np.all(np.max(worst, axis=0) >= -1e-7)
    assert solve(problem, patterns=4).objective >= free.objective * (1 - 1e-6)


def test_limits_and_starts():
    X, Y = data(40, 3, 2, 7)
    problem = Problem(X, Y, 0.1)
    free = solve(problem)
    late = solve(problem, time_limit=0.0)
    assert late.status in (Status.TIME_LIMIT, Status.GLOBAL_OPTIMUM)
    assert late.lower_bound <= free.objective <= late.objective * (1 + 1e-6)
    short = solve(problem, max_iter=1)
    assert short.status is Status.MAX_ITER
    assert short.lower_bound <= free.objective
    again = solve(problem, warm_start=free.network)
    assert again.objective <= free.objective * (1 + 1e-9)
    narrow = solve(problem, max_width=2)
    assert narrow.network.width <= 2
    assert narrow.objective >= free.objective * (1 - 1e-6)
    assert narrow.status is Status.WIDTH_LIMIT
    assert narrow.lower_bound == pytest.approx(free.lower_bound, rel=1e-5)
    np.testing.assert_array_equal(solve(problem).network.W, free.network.W)


def test_interrupt_returns_the_best_so_far():
    X, Y = data(30, 3, 2, 8)
    problem = Problem(X, Y, 0.1)

    def stop(progress):
        if progress.iteration >= 2:
            raise KeyboardInterrupt

    s = solve(problem, verbose=stop)
    assert s.status is Status.INTERRUPTED
    assert s.lower_bound <= solve(problem).objective
    assert s.objective < problem.loss_value(np.zeros_like(Y))


def test_high_rank_is_honest():
    X, Y = data(40, 6, 3, 9)
    problem = Problem(X, Y, 1.0)
    s = solve(problem)
    assert s.status in (Status.PATTERNS_OPTIMUM, Status.STALLED)
    assert s.scope == "patterns" or s.gap > 1e-6
    assert 0.0 <= s.global_lower_bound <= s.lower_bound <= s.objective
    assert min(descend(problem, 60, seed) for seed in range(2)) >= s.objective * (1 - 1e-6)
