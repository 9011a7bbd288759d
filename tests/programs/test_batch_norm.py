"""Batch norm: the equivalent problem on whitened data against descent on the batch-norm network itself."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import BatchNormReLU, HuberLoss, Problem, ReLUNetwork, Status, solve
from cvxnn.certificates.batch_norm_bound import certify_batch_norm, dual_size, whitening_error
from cvxnn.losses import LogisticLoss, SquaredHingeLoss
from cvxnn.patterns import sample_patterns
from cvxnn.programs.batch_norm import BatchNormReLUNetwork, whiten
from tests.oracles.descent import descend_batch_norm

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.3)]
BY_NAME = {"ids": lambda loss: loss if isinstance(loss, str) else repr(loss)}


def make(loss="squared", n=15, d=2, beta=0.1, seed=0, **options):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)) * [3.0, 0.1, 1.0, 7.0][:d] + 5.0, rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.sign(y)
    return Problem(X, y, beta, loss, **options)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
@pytest.mark.parametrize("weighted", [False, True])
def test_descent_never_ends_below_the_bound_and_does_not_leave_the_optimum(loss, weighted):
    options = {"sample_weight": np.linspace(0.0, 2.0, 15)} if weighted else {}
    problem = make(loss, **options)
    s = solve(problem, architecture=BatchNormReLU())
    assert s.status is Status.GLOBAL_OPTIMUM
    assert (s.scope, s.gap <= 1e-6) == ("global", True)
    found = [descend_batch_norm(problem, 12, seed) for seed in range(6)]
    assert min(found) >= s.lower_bound
    net = s.network
    start = np.concatenate([net.W.ravel(), net.gamma, net.alpha, net.a])
    ends = descend_batch_norm(problem, net.width, 0, start=start)
    assert s.lower_bound * (1 - 1e-12) <= ends <= s.objective * (1 + 1e-9)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
def test_the_network_evaluates_to_the_optimum_of_the_whitened_problem(loss):
    problem = make(loss, n=25, d=3, seed=4)
    s = solve(problem, architecture=BatchNormReLU())
    white = whiten(problem.X)
    inner = solve(Problem(white.data, problem.y, problem.beta, problem.loss))
    assert s.objective == pytest.approx(inner.objective, rel=1e-10)
    assert s.objective == s.network.objective(problem)
    assert white.to_relu(s.network, problem.X).objective(
        Problem(white.data, problem.y, problem.beta, problem.loss)
    ) == pytest.approx(s.objective, rel=1e-10)
    u, v = s.blocks
    back = ReLUNetwork.from_vectors(np.vstack([u, v]), np.repeat([1.0, -1.0], len(u)))
    assert white.from_relu(back, problem.X).objective(problem) == pytest.approx(s.objective, rel=1e-10)
    assert s.lower_bound <= inner.lower_bound


def test_forward_pass_is_the_formula_and_new_data_use_the_statistics_of_training():
    rng = np.random.default_rng(3)
    X, W = rng.standard_normal((9, 3)) + 2.0, rng.standard_normal((4, 3))
    gamma, alpha, a = rng.standard_normal((3, 4))
    net = BatchNormReLUNetwork.from_data(X, W, gamma, alpha, a)
    z = (X - X.mean(axis=0)) @ W.T
    truth = np.maximum(gamma * z / np.linalg.norm(z, axis=0) + alpha / 3.0, 0.0) @ a
    np.testing.assert_allclose(net(X), truth, atol=1e-12)
    new = rng.standard_normal((5, 3))
    # As a framework does it: deviations by the biased standard deviation, scale gamma / sqrt(n), bias alpha / sqrt(n).
    normal = (new @ W.T - (X @ W.T).mean(axis=0)) / (X @ W.T).std(axis=0)
    np.testing.assert_allclose(net(new), np.maximum(normal * gamma / 3.0 + alpha / 3.0, 0.0) @ a, atol=1e-12)
    np.testing.assert_allclose(net.penalty(), 0.5 * (gamma @ gamma + alpha @ alpha + a @ a), rtol=1e-14)


def test_units_and_means_of_the_features_do_not_matter():
    problem = make(n=20, d=3, seed=2)
    first = solve(problem, architecture=BatchNormReLU())
    moved = Problem(problem.X * [1e4, 1e-4, 1.0] + [1.0, -2.0, 0.0], problem.y, problem.beta)
    assert solve(moved, architecture=BatchNormReLU()).objective == pytest.approx(first.objective, rel=1e-6)


@pytest.mark.parametrize("X", [np.full((6, 2), 0.1), np.full((1, 3), 4.0)], ids=["constant", "one sample"])
def test_constant_data_leave_the_shift(X):
    n = len(X)
    problem = Problem(X, np.full(n, 2.0), beta=0.1)
    s = solve(problem, architecture=BatchNormReLU())
    # The only neuron is the constant c / sqrt(n) at the price of beta c.
    c = np.sqrt(n) * 2.0 - 0.1
    assert s.objective == pytest.approx(0.5 * n * (c / np.sqrt(n) - 2.0) ** 2 + 0.1 * c, rel=1e-9)
    assert s.gap <= 1e-6
    np.testing.assert_array_equal(s.network.gamma, 0.0)


def test_columns_that_are_constant_or_dependent_to_rounding_carry_no_neuron():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    more = np.column_stack([X, np.full(30, 0.3), X @ [1.0, 1.0], 1e8 + 0 * X[:, 0]])
    assert whiten(more).data.shape == whiten(X).data.shape == (30, 3)
    y = rng.standard_normal(30)
    few, many = (solve(Problem(data, y, 0.2), architecture=BatchNormReLU()).objective for data in (X, more))
    assert many == pytest.approx(few, rel=1e-8)


@pytest.mark.parametrize("power", [-30, -37, -40, -43])
def test_nearly_dependent_columns_that_a_network_can_use_stay_under_the_bound(power):
    x, z = np.array([5.0, -3.0, 7.0, 1.0, -8.0, 2.0, 0.0, -4.0]), np.array([-2.0, 6.0, 1.0, -7.0, 3.0, 5.0, -8.0, 2.0])
    deviation = (z - z.mean()) / np.linalg.norm(z - z.mean())
    problem = Problem(np.column_stack([x, x + z * 2.0**power]), 2.0 * np.maximum(deviation, 0.0), beta=0.05)
    root = np.sqrt(1.9)
    net = BatchNormReLUNetwork.from_data(problem.X, [[-1.0, 1.0]], [root], [0.0], [root])
    assert net.objective(problem) < 0.12
    s = solve(problem, architecture=BatchNormReLU())
    assert s.global_lower_bound <= net.objective(problem)


def test_more_features_than_samples():
    s = solve(make(n=6, d=4, seed=1), architecture=BatchNormReLU())
    assert s.status is Status.GLOBAL_OPTIMUM
    wide = np.random.default_rng(5).standard_normal((6, 40))
    assert solve(Problem(wide, np.arange(6.0), 0.1), architecture=BatchNormReLU()).gap <= 1e-6


def test_options_pass_through():
    problem = make(n=20, d=3, seed=6, beta=0.3)
    white = whiten(problem.X)
    listed = sample_patterns(white.data, 30, random_state=0)
    s = solve(problem, architecture=BatchNormReLU(), patterns=listed)
    assert s.scope == "patterns"
    assert s.patterns is listed
    assert solve(problem, architecture=BatchNormReLU(), patterns=30).objective >= s.global_lower_bound
    narrow = solve(problem, architecture=BatchNormReLU(), max_width=2)
    assert narrow.network.width <= 2
    full = solve(problem, architecture=BatchNormReLU())
    assert full.objective <= narrow.objective
    again = solve(problem, architecture=BatchNormReLU(), warm_start=full.network)
    assert again.objective <= full.objective * (1 + 1e-9)
    limited = solve(problem, architecture=BatchNormReLU(), time_limit=0.0)
    assert limited.status is Status.TIME_LIMIT
    assert limited.global_lower_bound <= full.objective


def test_an_interrupt_returns_a_network_with_a_valid_bound():
    problem = make(n=45, d=3, seed=8, beta=0.5)

    def stop(progress):
        raise KeyboardInterrupt

    s = solve(problem, architecture=BatchNormReLU(), verbose=stop)
    assert s.objective == s.network.objective(problem)
    assert s.global_lower_bound <= solve(problem, architecture=BatchNormReLU()).objective


def test_the_error_of_the_whitening_covers_what_it_measures():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((50, 3)) @ np.diag([1.0, 1e3, 1e-5]) + 1e4
    white = whiten(X)
    assert white.epsilon < 1e-3
    U = np.asarray(white.data[:, :-1], dtype=np.longdouble)
    centred = X.astype(np.longdouble) - X.astype(np.longdouble).mean(axis=0)
    for w in rng.standard_normal((20, 3)) / X.std(axis=0):
        v = centred @ w.astype(np.longdouble)
        v /= np.sqrt(v @ v)
        q = U.T @ v
        assert np.sqrt((v - U @ q) @ (v - U @ q)) <= white.epsilon * white.kappa
    assert whitening_error(X, np.ones(3), np.eye(3), np.ones(3), X) == (np.inf, np.inf)


@pytest.mark.parametrize(
    "loss", ["squared", "huber", LogisticLoss(offset=0.5), SquaredHingeLoss(offset=-0.5)], **BY_NAME
)
def test_the_size_of_dual_vectors_is_a_bound(loss):
    rng = np.random.default_rng(2)
    y = np.sign(rng.standard_normal(12))
    problem = Problem(np.ones((12, 1)), y, loss=loss, sample_weight=rng.uniform(0.1, 3.0, 12))
    for _ in range(300):
        nu = problem.loss.project_dual(rng.standard_normal(12) * rng.uniform(0, 20), y, problem.sample_weight)
        if problem.dual_value(nu) >= 0.0:
            assert np.linalg.norm(nu) <= dual_size(problem)


def test_without_a_sound_whitening_the_bound_is_zero():
    problem = make()
    white = whiten(problem.X)
    inner = solve(Problem(white.data, problem.y, problem.beta))
    none = certify_batch_norm(problem, inner.objective, inner.certificate, np.inf, np.inf)
    assert (none.lower_bound, none.global_lower_bound, none.dual_norm_bound) == (0.0, 0.0, np.inf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(patterns=sample_patterns(np.eye(15)[:, :2], 3)), "patterns belong to data of shape"),
        (
            dict(warm_start=ReLUNetwork([[1.0, 0.0]], [1.0])),
            "warm_start must be a BatchNormReLUNetwork with 2 features",
        ),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        solve(make(), architecture=BatchNormReLU(), **change)


def test_output_bias_is_refused():
    with pytest.raises(ValueError, match="does not take an output bias"):
        solve(make(output_bias_decay=1.0), architecture=BatchNormReLU())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(W=[1.0]), "W must have shape"),
        (dict(gamma=[1.0, 2.0]), "gamma must have shape"),
        (dict(a=[np.nan]), "a contains NaN"),
        (dict(scale=[-1.0]), "scale must be non-negative"),
        (dict(n_samples=0), "n_samples must be a positive integer"),
    ],
)
def test_bad_networks(parts, message):
    good = dict(W=[[1.0, 2.0]], gamma=[1.0], alpha=[0.0], a=[1.0], mean=[0.0, 0.0], scale=[1.0], n_samples=3)
    with pytest.raises(ValueError, match=message):
        BatchNormReLUNetwork(**{**good, **parts})
    with pytest.raises(ValueError, match="this network takes 2"):
        BatchNormReLUNetwork(**good)(np.ones((1, 3)))
    with pytest.raises(ValueError, match="W must have shape"):
        BatchNormReLUNetwork.from_data(np.ones((2, 2)), [[1.0]], [1.0], [1.0], [1.0])
