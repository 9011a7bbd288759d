"""Linear splines of one-dimensional data against a conic solver, exact rationals, grids of knots and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cvxnn import HuberLoss, Problem, ReLUNetwork, Status, solve
from cvxnn.certificates.spline_bound import hinge_correlations, hinge_norm
from cvxnn.losses import get_loss
from cvxnn.solvers._nonnegative_least_squares import polish_nonnegative_least_squares
from cvxnn.splines import LinearSpline, fit_spline, network_spline
from tests.oracles.hinge_lasso import hinge_lasso_optimum

LOSSES = ["squared", "logistic", "squared_hinge", HuberLoss(delta=0.3)]


def table(seed, n=25, loss="squared", *, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2.0, 3.0, n)
    x = np.round(x, 1) if ties else x
    y = np.sin(2.0 * x) + 0.2 * rng.standard_normal(n)
    labels = get_loss(loss).labels
    return x, np.where(y > 0, 1.0, -1.0) if labels else y, rng.uniform(0.5, 2.0, n)


def free_bias_objective(network, x, y, beta, loss, weight):
    """Objective in which biases cost nothing, from the weights of a network on [x, 1]."""
    fit = network(np.column_stack([x, np.ones_like(x)]))
    penalty = 0.5 * float(np.sum(network.W[:, 0] ** 2) + np.sum(network.a**2))
    return get_loss(loss).value(fit, y, weight) + beta * penalty


@pytest.mark.parametrize("beta", [0.02, 0.5, 5.0])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "name", loss))
@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_lasso_of_a_conic_solver(loss, beta, ties):
    x, y, weight = table(3, loss=loss, ties=ties)
    solution = fit_spline(x, y, beta, loss, sample_weight=weight, tol=1e-9)
    oracle = hinge_lasso_optimum(x, y, beta, loss, weight, np.unique(x))
    assert solution.status is Status.GLOBAL_OPTIMUM
    assert solution.gap <= 1e-9
    assert solution.objective == pytest.approx(oracle, rel=1e-7)
    network = solution.spline.network()
    assert free_bias_objective(network, x, y, beta, loss, weight) == pytest.approx(solution.objective, rel=1e-11)
    assert np.allclose(network(np.column_stack([x, np.ones_like(x)])), solution.spline(x), atol=1e-11)


def test_knots_elsewhere_do_not_help():
    x, y, weight = table(5, n=15)
    solution = fit_spline(x, y, 0.2, sample_weight=weight, tol=1e-10)
    grid = np.linspace(x.min() - 1.0, x.max() + 1.0, 801)
    assert hinge_lasso_optimum(x, y, 0.2, "squared", weight, grid) >= solution.lower_bound - 1e-8
    both = hinge_lasso_optimum(x, y, 0.2, "squared", weight, np.concatenate([grid, x]))
    assert both == pytest.approx(solution.objective, rel=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_descent_never_goes_below_the_bound(seed):
    x, y, weight = table(seed, n=12)
    solution = fit_spline(x, y, 0.3, sample_weight=weight, tol=1e-8)
    rng = np.random.default_rng(seed)
    w, b, a, c = rng.standard_normal(20), rng.standard_normal(20), rng.standard_normal(20), 0.0
    best = math.inf
    for _ in range(4000):
        hidden = np.outer(x, w) + b
        active = np.maximum(hidden, 0.0)
        residual = active @ a + c - y
        best = min(best, 0.5 * float(weight @ residual**2) + 0.15 * float(w @ w + a @ a))
        back = (weight * residual)[:, None] * (hidden > 0) * a
        w, b, a, c = (
            w - 3e-3 * (x @ back + 0.3 * w),
            b - 3e-3 * back.sum(axis=0),
            a - 3e-3 * (active.T @ (weight * residual) + 0.3 * a),
            c - 3e-3 * float(weight @ residual),
        )
    assert best >= solution.lower_bound
    assert best == pytest.approx(solution.objective, rel=0.3)


@pytest.mark.parametrize("seed", range(60))
def test_hard_scales_and_losses_are_solved(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    loss = LOSSES[seed % 3] if seed % 4 else HuberLoss(delta=float(10 ** rng.uniform(-2, 1)))
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3) + rng.choice([0.0, 5.0])
    y = rng.choice([-1.0, 1.0], n) if get_loss(loss).labels else rng.standard_normal(n)
    weight = np.where(rng.random(n) < 0.2, 0.0, rng.uniform(0.5, 2.0, n))
    weight[0] = 1.0
    beta = 10.0 ** rng.uniform(-4, 1) * max(float(x.std()), 1e-3)
    solution = fit_spline(x, y, beta, loss, sample_weight=weight)
    assert solution.status is Status.GLOBAL_OPTIMUM
    value = get_loss(loss).value(solution.spline(x), y, weight) + beta * solution.spline.norm
    assert value == pytest.approx(solution.objective, rel=1e-9, abs=1e-12)
    assert not np.any(solution.certificate.dual[weight == 0])


@pytest.mark.parametrize("seed", range(20))
def test_bound_of_the_norm_is_above_the_exact_one(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    knots = np.sort(rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3))
    steps = rng.integers(-(2**40), 2**40, n)
    steps[-1] -= steps.sum()
    nu = steps * 2.0**-40
    exact_x, exact_nu = [Fraction(float(v)) for v in knots], [Fraction(float(v)) for v in nu]
    assert sum(exact_nu) == 0
    largest = Fraction(0)
    for t in exact_x:
        for side in (1, -1):
            total = sum(v * max(side * (p - t), Fraction(0)) for v, p in zip(exact_nu, exact_x, strict=True))
            largest = max(largest, abs(total))
    upper, attained = hinge_norm(knots, nu)
    assert Fraction(upper) >= largest
    assert attained == pytest.approx(float(largest), rel=1e-9)
    middle = 0.5 * (knots[:-1] + knots[1:])
    between = np.abs(np.maximum(knots - middle[:, None], 0.0) @ nu)
    assert np.all(between <= upper)


def test_correlations_at_the_knots():
    x, y, _ = table(1)
    x, nu = np.sort(x), y - y.mean()
    right, left = hinge_correlations(x, nu)
    assert np.allclose(right, np.maximum(x - x[:, None], 0.0) @ nu)
    assert np.allclose(left, np.maximum(x[:, None] - x, 0.0) @ nu)


def test_weights_equal_repeated_rows_and_order_does_not_matter():
    x, y, _ = table(7)
    counts = np.random.default_rng(0).integers(0, 4, len(x))
    once = fit_spline(x, y, 0.3, sample_weight=counts.astype(float), tol=1e-9)
    repeated = fit_spline(np.repeat(x, counts), np.repeat(y, counts), 0.3, tol=1e-9)
    assert once.objective == pytest.approx(repeated.objective, rel=1e-8)
    order = np.random.default_rng(1).permutation(len(x))
    shuffled = fit_spline(x[order], y[order], 0.3, sample_weight=counts[order].astype(float), tol=1e-9)
    assert shuffled.objective == pytest.approx(once.objective, rel=1e-12)
    assert np.allclose(shuffled.certificate.dual, once.certificate.dual[order], atol=1e-9)


def test_reflection_shift_and_scale():
    x, y, weight = table(9)
    value = fit_spline(x, y, 0.3, sample_weight=weight, tol=1e-10).objective
    assert fit_spline(-x, y, 0.3, sample_weight=weight, tol=1e-10).objective == pytest.approx(value, rel=1e-9)
    assert fit_spline(x + 7.0, y, 0.3, sample_weight=weight, tol=1e-10).objective == pytest.approx(value, rel=1e-9)
    scaled = fit_spline(1e3 * x, y, 300.0, sample_weight=weight, tol=1e-10)
    assert scaled.objective == pytest.approx(value, rel=1e-9)


def test_many_samples():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.0, 3.0, 20_000)
    y = np.sin(2.0 * x) + 0.3 * rng.standard_normal(len(x))
    solution = fit_spline(x, y, 20.0)
    assert solution.status is Status.GLOBAL_OPTIMUM
    assert len(solution.spline.knots) < 60


def test_constant_data_and_large_beta_give_a_constant():
    y = np.array([1.0, 2.0, 6.0])
    for x, beta in ((np.full(3, 2.0), 0.1), (np.array([0.0, 1.0, 2.0]), 1e3)):
        solution = fit_spline(x, y, beta)
        assert solution.status is Status.GLOBAL_OPTIMUM
        assert len(solution.spline.knots) == 0
        assert solution.spline.constant == pytest.approx(3.0)


def test_penalised_bias_has_its_knots_between_the_samples():
    root = math.sqrt(3.0)
    X = np.array([[-root, 1.0], [root, 1.0]])
    solution = solve(Problem(X, [1.1, 1.1], beta=0.2))
    assert solution.objective == pytest.approx(0.21, abs=1e-9)
    assert solution.dual == pytest.approx([0.1, 0.1], abs=1e-6)
    spline = network_spline(solution.network)
    assert spline(X[:, 0]) == pytest.approx([1.0, 1.0], abs=1e-6)
    # Free biases can only be cheaper: here a constant costs nothing.
    assert fit_spline(X[:, 0], [1.1, 1.1], 0.2).objective == pytest.approx(0.0, abs=1e-9)
    # Another optimum: its knots are no samples, so the problem is no lasso over hinges at the samples.
    between = ReLUNetwork.from_vectors([[-root / 4, 0.25], [root / 4, 0.25]], [1, 1])
    assert between.objective(Problem(X, [1.1, 1.1], beta=0.2)) == pytest.approx(0.21, abs=1e-12)
    assert network_spline(between).knots == pytest.approx([-1 / root, 1 / root])


def test_penalised_biases_cost_more():
    x, y, _ = table(11, n=8)
    penalised = solve(Problem(np.column_stack([x, np.ones_like(x)]), y, beta=0.3))
    assert penalised.scope == "global"
    assert fit_spline(x, y, 0.3).objective <= penalised.objective


@pytest.mark.parametrize("seed", range(10))
def test_spline_of_a_network(seed):
    rng = np.random.default_rng(seed)
    network = ReLUNetwork(rng.integers(-2, 3, (8, 2)), rng.standard_normal(8), 0.5)
    x = rng.uniform(-5.0, 5.0, 50)
    spline = network_spline(network)
    assert np.allclose(spline(x), network(np.column_stack([x, np.ones_like(x)])), atol=1e-12)
    again = network_spline(spline.network())
    assert np.allclose(again(x), spline(x), atol=1e-12)
    assert again.norm == pytest.approx(spline.norm)
    far = np.array([-1e6, 1e6])
    assert np.allclose(np.diff(spline(np.array([far[1], far[1] + 1.0]))), spline.slopes[-1], atol=1e-6)
    assert np.allclose(np.diff(spline(np.array([far[0], far[0] + 1.0]))), spline.slopes[0], atol=1e-6)
    assert np.allclose(spline.slope_changes, np.diff(spline.slopes))


def test_limits_and_interrupts_keep_a_valid_bound():
    x, y, _ = table(2, n=300)
    optimum = fit_spline(x, y, 0.05, tol=1e-9).objective
    for limited in (fit_spline(x, y, 0.05, max_iter=1), fit_spline(x, y, 0.05, time_limit=0.0)):
        assert limited.status in (Status.MAX_ITER, Status.TIME_LIMIT)
        assert limited.lower_bound <= optimum * (1 + 1e-9) <= limited.objective * (1 + 1e-8)

    def stop(progress):
        if progress.iteration == 2:
            raise KeyboardInterrupt

    interrupted = fit_spline(x, y, 0.05, verbose=stop)
    assert interrupted.status is Status.INTERRUPTED
    assert interrupted.lower_bound <= optimum * (1 + 1e-9)
    assert len(interrupted.history) >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": [[1.0, 2.0]], "y": [1.0]}, "x must have 1 dimension"),
        ({"x": [1.0, np.nan], "y": [1.0, 2.0]}, "x contains 1 NaN"),
        ({"x": [1.0, 2.0], "y": [1.0]}, "y has 1 entries"),
        ({"x": [1.0, 2.0], "y": [1.0, 2.0], "beta": 0.0}, "beta must be a finite number > 0"),
        ({"x": [1.0, 2.0], "y": [1.0, 2.0], "loss": "hinge"}, "loss must be one of"),
        ({"x": [1.0, 2.0], "y": [0.0, 1.0], "loss": "logistic"}, "labels -1 and"),
        ({"x": [1.0, 2.0], "y": [0.0, 1.0], "tol": 0.0}, "tol must be"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(ValueError, match=words):
        fit_spline(**arguments)


def test_bad_splines_and_networks():
    with pytest.raises(ValueError, match="vectors of one length"):
        LinearSpline(0.0, [1.0], [1.0, 2.0], [0.0])
    with pytest.raises(ValueError, match="increasing order"):
        LinearSpline(0.0, [1.0, 1.0], [1.0, 2.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="network must be a ReLUNetwork on"):
        network_spline(ReLUNetwork(np.ones((1, 3)), [1.0]))


@pytest.mark.parametrize("seed", range(10))
def test_active_set_meets_the_optimality_conditions(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((12, 9))
    # Dependent and nearly dependent columns.
    matrix[:, 4] = matrix[:, 3]
    matrix[:, 5] = 0.5 * matrix[:, 1] + 0.5 * matrix[:, 2]
    target, cost = rng.standard_normal(12), 0.1
    point = polish_nonnegative_least_squares(matrix, target, cost, np.zeros(9))
    slope = matrix.T @ (matrix @ point - target)
    slope[1:] += cost
    assert np.all(point[1:] >= 0)
    assert np.all(slope[1:] >= -1e-10)
    assert np.max(np.abs(slope[np.insert(point[1:] > 0, 0, True)])) < 1e-10
