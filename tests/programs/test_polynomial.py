"""Polynomial activation: the semidefinite program against a conic solver and against descent on the network."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import HuberLoss, Polynomial, Problem, ReLUNetwork, Status, solve
from cvxnn.programs.polynomial_network import PolynomialNetwork
from tests.oracles.polynomial import descend, polynomial_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.3)]
BY_NAME = {"ids": lambda loss: loss if isinstance(loss, str) else repr(loss)}
RELU_LIKE = (0.09, 0.5, 0.47)
ACTIVATIONS = [RELU_LIKE, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -2.0), (-1.0, 0.5, 0.0), (0.0, 1.0, 1.0)]


def make(loss="squared", n=14, d=3, beta=0.2, seed=0, **options):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.sign(y)
    return Problem(X, y, beta, loss, **options)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_optimum_is_that_of_a_conic_solver(loss, activation):
    problem = make(loss, sample_weight=np.linspace(0.0, 2.0, 14))
    s = solve(problem, architecture=Polynomial(*activation))
    truth = polynomial_optimum(problem, activation)
    assert s.status is Status.GLOBAL_OPTIMUM
    assert (s.scope, s.gap <= 1e-6) == ("global", True)
    assert s.objective == pytest.approx(truth, rel=2e-6)
    assert s.lower_bound <= truth * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (4, 9), (40, 2)])
@pytest.mark.parametrize("beta", [1e-4, 0.05])
def test_shapes(shape, beta):
    problem = make(n=shape[0], d=shape[1], beta=beta, seed=3)
    s = solve(problem, architecture=Polynomial(*RELU_LIKE))
    assert s.gap <= 1e-6
    assert s.objective == pytest.approx(polynomial_optimum(problem, RELU_LIKE), rel=1e-4)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("activation", [RELU_LIKE, (1.0, 1.0, 0.0)])
def test_descent_never_ends_below_the_bound_and_often_ends_on_it(loss, activation):
    problem = make(loss, n=20, d=2, seed=5)
    s = solve(problem, architecture=Polynomial(*activation))
    found = [descend(problem, activation, 8, seed) for seed in range(8)]
    assert min(found) >= s.lower_bound
    assert min(found) <= 1.001 * s.objective


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
def test_network_matrices_and_certificate_agree(loss):
    problem = make(loss, n=30, d=4, seed=1)
    s = solve(problem, architecture=Polynomial(*RELU_LIKE))
    a, b, c = RELU_LIKE
    assert s.objective == s.network.objective(problem)
    assert s.patterns is None
    assert s.network.width <= 2 * (problem.n_features + 1)
    np.testing.assert_allclose(np.linalg.norm(s.network.W, axis=1), 1.0, atol=1e-14)
    for Z in s.blocks:
        assert np.trace(Z[:-1, :-1]) == pytest.approx(Z[-1, -1], abs=1e-12)
        assert np.linalg.eigvalsh(Z)[0] >= -1e-12
    Z = s.blocks.u - s.blocks.v
    X = problem.X
    fit = a * np.sum((X @ Z[:-1, :-1]) * X, axis=1) + b * X @ Z[:-1, -1] + c * Z[-1, -1]
    np.testing.assert_allclose(fit, s.network(X), atol=1e-12 * np.abs(fit).max())
    assert s.blocks.u[-1, -1] + s.blocks.v[-1, -1] == pytest.approx(s.network.penalty(), rel=1e-12)
    nu = s.certificate.scale * s.dual
    U = np.random.default_rng(0).standard_normal((2000, 4))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    t = X @ U.T
    assert np.max(np.abs(nu @ (a * t * t + b * t + c))) <= problem.beta


def test_noise_of_the_null_space_is_no_neuron():
    # One neuron made the data: a solution from the interior has small masses in every other direction.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 6))
    u = np.array([0.6, 0.8, 0.0, 0.0, 0.0, 0.0])
    t = X @ u
    s = solve(Problem(X, 3.0 * (t * t + t), beta=0.1), architecture=Polynomial(1.0, 1.0, 0.0))
    assert s.network.width == 1
    np.testing.assert_allclose(s.network.W[0], u, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_scales_of_data_targets_weights_and_coefficients(scale):
    problem = make(n=20, d=3, seed=7)
    base = solve(problem, architecture=Polynomial(*RELU_LIKE))
    a, b, c = RELU_LIKE
    data = Problem(scale * problem.X, problem.y, problem.beta)
    s = solve(data, architecture=Polynomial(a / scale**2, b / scale, c))
    assert s.objective == pytest.approx(base.objective, rel=1e-6)
    targets = Problem(problem.X, scale * problem.y, scale * problem.beta)
    s = solve(targets, architecture=Polynomial(a, b, c))
    assert s.objective == pytest.approx(scale**2 * base.objective, rel=1e-6)
    weights = Problem(problem.X, problem.y, scale * problem.beta, sample_weight=np.full(20, scale))
    assert solve(weights, architecture=Polynomial(a, b, c)).objective == pytest.approx(scale * base.objective, rel=1e-6)
    times = Problem(problem.X, problem.y, scale * problem.beta)
    s = solve(times, architecture=Polynomial(scale * a, scale * b, scale * c))
    assert s.objective == pytest.approx(base.objective, rel=1e-6)


def test_zero_network_where_beta_is_large():
    s = solve(make(beta=1e4), architecture=Polynomial(*RELU_LIKE))
    assert (s.network.width, s.status) == (0, Status.GLOBAL_OPTIMUM)
    assert s.gap < 1e-12
    zero = solve(Problem(np.zeros((4, 2)), np.ones(4), 0.1), architecture=Polynomial(1.0, 1.0, 0.0))
    assert (zero.network.width, zero.gap) == (0, pytest.approx(0.0, abs=1e-12))


def test_weights_are_repetitions():
    problem = make(n=10, d=2, seed=9)
    counts = np.arange(10) % 3
    weighted = Problem(problem.X, problem.y, 0.2, sample_weight=counts)
    repeated = Problem(np.repeat(problem.X, counts, axis=0), np.repeat(problem.y, counts), 0.2)
    first, second = (solve(p, architecture=Polynomial(*RELU_LIKE)).objective for p in (weighted, repeated))
    assert first == pytest.approx(second, rel=1e-7)


def test_many_samples_and_a_few_features_go_through_the_small_system():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((3000, 3))
    for loss in ("squared", "logistic", "huber", "squared_hinge"):
        y = np.sign(X[:, 0] * X[:, 1] + 0.3 * rng.standard_normal(3000))
        s = solve(Problem(X, y, 3.0, loss), architecture=Polynomial(*RELU_LIKE))
        assert (s.status, s.scope) == (Status.GLOBAL_OPTIMUM, "global")


def test_warm_start():
    problem = make(n=25, d=3, seed=2)
    first = solve(problem, architecture=Polynomial(*RELU_LIKE))
    again = solve(problem, architecture=Polynomial(*RELU_LIKE), warm_start=first.network)
    assert again.objective <= first.objective * (1 + 1e-12)
    assert (again.n_iter, again.status) == (1, Status.GLOBAL_OPTIMUM)
    wide = make(n=3, d=5, seed=2)
    first = solve(wide, architecture=Polynomial(*RELU_LIKE))
    assert solve(wide, architecture=Polynomial(*RELU_LIKE), warm_start=first.network).n_iter == 1


def test_limits_and_interrupts_return_a_network_with_a_valid_bound():
    problem = make(n=60, d=8, seed=2)
    truth = solve(problem, architecture=Polynomial(*RELU_LIKE)).objective
    calls = []

    def stop(progress):
        calls.append(progress)
        if len(calls) == 4:
            raise KeyboardInterrupt

    options = [(dict(time_limit=0.0), Status.TIME_LIMIT), (dict(max_iter=2), Status.MAX_ITER)]
    for option, status in [*options, (dict(verbose=stop), Status.INTERRUPTED)]:
        s = solve(problem, architecture=Polynomial(*RELU_LIKE), **option)
        assert s.status is status
        assert s.objective == s.network.objective(problem)
        assert 0.0 <= s.lower_bound <= truth <= s.objective * (1 + 1e-9)


def test_same_input_same_output():
    first, second = (solve(make(seed=6), architecture=Polynomial(*RELU_LIKE)) for _ in range(2))
    np.testing.assert_array_equal(first.network.W, second.network.W)
    assert first.lower_bound == second.lower_bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(patterns=5), "a polynomial activation has none"),
        (dict(max_width=3), "max_width needs"),
        (dict(warm_start=ReLUNetwork([[1.0, 0.0, 0.0]], [1.0])), "warm_start must be a PolynomialNetwork"),
        (dict(warm_start=PolynomialNetwork([[1.0, 0, 0]], [1.0], (1, 0, 0))), "warm_start must have the coefficients"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        solve(make(), architecture=Polynomial(*RELU_LIKE), **change)


def test_what_the_program_does_not_cover_is_refused():
    with pytest.raises(ValueError, match="does not take an output bias"):
        solve(make(output_bias_decay=1.0), architecture=Polynomial(*RELU_LIKE))
    with pytest.raises(ValueError, match="take fewer features, such as principal components"):
        solve(Problem(np.eye(9500, 200) + 1e-3, np.ones(9500)), architecture=Polynomial(*RELU_LIKE))


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ((0.0, 0.0, 0.0), "the zero function"),
        ((np.nan, 1.0, 0.0), "a must be a finite number"),
        (("x", 1, 1), "a must be"),
    ],
)
def test_bad_activations(coefficients, message):
    with pytest.raises(ValueError, match=message):
        Polynomial(*coefficients)


def test_bad_networks():
    with pytest.raises(ValueError, match="rows of norm 1"):
        PolynomialNetwork([[2.0]], [1.0], RELU_LIKE)
    with pytest.raises(ValueError, match="alpha must have shape"):
        PolynomialNetwork([[1.0]], [[1.0]], RELU_LIKE)
    with pytest.raises(ValueError, match="this network takes 1"):
        PolynomialNetwork([[1.0]], [1.0], RELU_LIKE)([[1.0, 2.0]])


def test_rows_that_are_a_little_long_do_not_beat_the_bound():
    problem = make(beta=0.05)
    s = solve(problem, architecture=Polynomial(*RELU_LIKE), tol=1e-10)
    long = PolynomialNetwork((1.0 + 5e-7) * s.network.W, s.network.alpha, RELU_LIKE)
    assert long.objective(problem) >= s.lower_bound
    np.testing.assert_allclose(np.sum(long.W * long.W, axis=1), 1.0, rtol=1e-14)
    assert np.array_equal(PolynomialNetwork(long.W, long.alpha, RELU_LIKE).W, long.W)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_huber_loss_with_residuals_far_beyond_its_width(size):
    problem = make(n=20, d=3, seed=8)
    far = Problem(problem.X, size * problem.y, 0.5, HuberLoss(delta=0.5))
    s = solve(far, architecture=Polynomial(*RELU_LIKE))
    assert s.status is Status.GLOBAL_OPTIMUM
    assert s.objective < far.loss_value(np.zeros(20))
