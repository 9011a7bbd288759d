"""An output bias that follows the neurons: derivatives against differences, solvers against an explicit bias."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from cvxnn import HuberLoss, Problem
from cvxnn.solvers.best_bias import BestBias, as_sum, bias_slopes, coupling, replaced
from cvxnn.solvers.face_newton import polish
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.kink_newton import KinkNewton, _Run
from cvxnn.solvers.lbfgs_start import _TwoLayer
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

LOSSES = ["squared", "logistic", "squared_hinge", HuberLoss(0.7)]


def biased(loss="squared", decay=0.0, n=40, d=3, beta=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = X[:, 0] * X[:, 1] + 1.0 + 0.2 * rng.standard_normal(n)
    y = np.where(y > 0.8, 1.0, -1.0) if loss in ("logistic", "squared_hinge") else y
    weight = rng.integers(1, 4, n).astype(float)
    return Problem(X, y, beta, loss, sample_weight=weight, output_bias_decay=decay)


def some_neurons(problem, k=8, seed=1):
    rng = np.random.default_rng(seed)
    return Neurons(0.3 * rng.standard_normal((k, problem.n_features)), np.where(np.arange(k) % 2, 1.0, -1.0))


def value_at(problem, fit, bias):
    return problem.loss_value(fit + bias) + 0.5 * problem.output_bias_decay * bias**2


@pytest.mark.parametrize("decay", [0.0, 0.3, 50.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_value_gradient_and_hessian(loss, decay):
    problem = biased(loss, decay)
    best = BestBias(problem)
    rng = np.random.default_rng(2)
    fit, move = rng.standard_normal(40), rng.standard_normal(40)
    oracle = minimize_scalar(lambda b: value_at(problem, fit, b), method="brent", options={"xtol": 1e-14})
    assert best.loss_value(fit) == pytest.approx(oracle.fun, rel=1e-13)
    h = 1e-6
    slope = (best.loss_value(fit + h * move) - best.loss_value(fit - h * move)) / (2 * h)
    assert best.loss_gradient(fit) @ move == pytest.approx(slope, rel=1e-6)
    change = (best.loss_gradient(fit + h * move) - best.loss_gradient(fit - h * move)) / (2 * h)
    np.testing.assert_allclose(best.hessian_product(fit, move), change, atol=1e-6)
    if decay == 0.0:
        # A constant is free: the loss does not change along it.
        np.testing.assert_allclose(best.hessian_product(fit, np.ones(40)), 0.0, atol=1e-12)
        assert best.loss_value(fit + 3.0) == pytest.approx(best.loss_value(fit), rel=1e-12)
    assert np.array_equal(best.dual_vector(fit), -best.loss_gradient(fit))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sum_over_samples_has_the_same_value_and_gradient(loss):
    best = BestBias(biased(loss, 0.4))
    fit = np.random.default_rng(3).standard_normal(40)
    plain, constant = as_sum(best, lambda: fit)
    assert not isinstance(plain, BestBias) and plain.output_bias_decay is None
    assert plain.loss_value(fit) + constant == pytest.approx(best.loss_value(fit), rel=1e-14)
    np.testing.assert_allclose(plain.loss_gradient(fit), best.loss_gradient(fit), atol=1e-14)
    assert as_sum(plain, pytest.fail) == (plain, 0.0)
    assert coupling(plain, np.ones(40)) is None


def test_where_the_loss_is_flat_nothing_is_taken_from_its_hessian():
    best = BestBias(Problem(np.eye(2), [1.0, -1.0], loss="squared_hinge", output_bias_decay=0.0))
    fit = np.array([5.0, -5.0])
    assert best.loss_value(fit) == 0.0
    np.testing.assert_array_equal(best.hessian_product(fit, np.ones(2)), np.zeros(2))


def test_replaced_data_keep_the_bias():
    best = replaced(BestBias(biased(decay=0.4)), X=np.eye(40))
    assert isinstance(best, BestBias) and best.n_features == 40 and best.biased.n_features == 40
    assert best.biased.output_bias_decay == 0.4


@pytest.mark.parametrize("loss", LOSSES)
def test_the_start_sees_the_bias(loss):
    problem = biased(loss, 0.4)
    layers = _TwoLayer(BestBias(problem), 6)
    point = layers.random_point(np.random.default_rng(0))
    value, gradient = layers(point)
    neurons = layers.neurons(point)
    W, a = layers.split(point)
    decay = 0.5 * problem.beta * (np.sum(W**2 * layers.squares) + np.sum(a**2))
    fit = neurons.fit(problem.X)
    oracle = minimize_scalar(lambda b: value_at(problem, fit, b), method="brent", options={"xtol": 1e-14})
    assert value == pytest.approx(oracle.fun + decay, rel=1e-12)
    move = np.random.default_rng(1).standard_normal(len(point))
    slope = (layers(point + 1e-6 * move)[0] - layers(point - 1e-6 * move)[0]) / 2e-6
    assert gradient @ move == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
def test_masses_are_those_of_the_program_with_an_explicit_bias(loss, decay):
    problem = biased(loss, decay)
    neurons = some_neurons(problem)
    units = neurons.vectors / neurons.masses[:, None]
    outputs = np.maximum(problem.X @ units.T, 0.0) * neurons.signs

    def value(point):
        return value_at(problem, outputs @ point[:-1], point[-1]) + problem.beta * point[:-1].sum()

    def gradient(point):
        slope = problem.loss_gradient(outputs @ point[:-1] + point[-1])
        return np.append(outputs.T @ slope + problem.beta, slope.sum() + decay * point[-1])

    bounds = [(0.0, None)] * len(neurons) + [(None, None)]
    start = np.append(neurons.masses, 0.0)
    oracle = minimize(value, start, jac=gradient, bounds=bounds, options={"maxiter": 10**4, "ftol": 0, "gtol": 1e-11})
    best = BestBias(problem)
    solved = solve_masses(best, neurons)
    assert solved.objective(best) == pytest.approx(oracle.fun, rel=1e-11)
    if loss == "squared":
        # The first model is the problem itself.
        assert solve_masses(best, neurons, max_iter=1).objective(best) == pytest.approx(oracle.fun, rel=1e-11)


def rank_one_part(best, neurons, move):
    """Product of the part that the bias takes from the Hessian in the vectors with a move of them."""
    X = best.X
    linear = np.einsum("ni,nd->nid", (X @ neurons.vectors.T > 0) * neurons.signs, X).reshape(len(X), -1)
    fit, along = neurons.fit(X), linear @ move.ravel()
    return (linear.T @ (best.loss_hessian(fit) * along - best.hessian_product(fit, along))).reshape(move.shape)


@pytest.mark.parametrize("fine", [True, False])
def test_systems_have_the_part_of_rank_one(fine):
    problem = biased("logistic", 0.4)
    best, neurons = BestBias(problem), some_neurons(problem)
    run, plain = (_Run(KinkNewton(p), neurons) for p in (best, as_sum(best, lambda: neurons.fit(problem.X))[0]))
    systems = []
    for each in (run, plain):
        each.begin(1e-12 if fine else 1e-4)
        each.fine = fine
        systems.append(each._system())
    kind = systems[0].slopes.dtype
    move = np.random.default_rng(4).standard_normal(neurons.vectors.shape).astype(kind)
    X = problem.X.astype(kind)
    taken = plain._apply(systems[1], X, move) - run._apply(systems[0], X, move)
    oracle = rank_one_part(best, neurons, move.astype(float))
    tolerance = 1e-7 if fine else 1e-2
    np.testing.assert_allclose(taken, oracle, atol=tolerance * np.max(np.abs(oracle)))


@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_of_the_bias_are_a_sum_over_samples(loss):
    best = BestBias(biased(loss, 0.4))
    rng = np.random.default_rng(5)
    slopes, diagonal = rng.standard_normal((40, 6)), best.loss_hessian(rng.standard_normal(40))
    oracle = np.einsum("n,ni,nd->id", coupling(best, diagonal), slopes, best.X)
    np.testing.assert_allclose(bias_slopes(best, diagonal, slopes, best.X), oracle, atol=1e-12)


def test_products_of_the_smoothed_steps_have_it_too():
    best = BestBias(biased("logistic", 0.4))
    neurons = some_neurons(best)
    neurons = neurons.take(np.argsort(-neurons.signs, kind="stable"))
    plain, constant = as_sum(best, lambda: neurons.fit(best.X))
    assert constant > 5e-4 * neurons.objective(best)
    move = np.random.default_rng(4).standard_normal(neurons.vectors.shape).astype(np.float32)
    products = []
    for problem in (plain, best):
        steps = SmoothedKinks(problem)
        state = steps._state(neurons.vectors, neurons.signs, np.full(len(neurons), 1e-10))
        products.append(steps._apply(state, move))
        assert state.true_value == pytest.approx(neurons.objective(best) - (problem is plain) * constant, rel=1e-5)
    # Moves are those of the signed vectors there.
    signs = neurons.signs[:, None]
    oracle = signs * rank_one_part(best, neurons, signs * move)
    np.testing.assert_allclose(products[0] - products[1], oracle, atol=1e-3 * np.max(np.abs(oracle)))


@pytest.mark.parametrize("moves", [KinkNewton, SmoothedKinks])
@pytest.mark.parametrize("loss", LOSSES)
def test_moves_and_polish_end_where_neither_neurons_nor_bias_would_move(loss, moves):
    problem = biased(loss, 0.4, n=80)
    best, last = BestBias(problem), some_neurons(problem, 12)
    steps = moves(best)
    for _ in range(4):
        if moves is KinkNewton:
            moved = steps.minimize(last, [(10.0**-k, 8) for k in range(2, 9)], tol=0.0)
        else:
            moved = last
            for k in range(2, 7):
                moved = steps.minimize(moved, eps=10.0**-k, max_steps=8)
        assert moved.objective(best) <= last.objective(best) * (1 + 1e-12)
        last = JointMoves(best).cleaned(solve_masses(best, moved))
    polished, stationary = polish(best, last)
    assert stationary
    assert polished.objective(best) >= last.objective(best) * (1 - 1e-3)
    # First-order conditions of the problem with an explicit bias.
    fit = polished.fit(problem.X)
    bias = minimize_scalar(lambda b: value_at(problem, fit, b), method="brent", options={"xtol": 1e-14}).x
    nu = problem.dual_vector(fit + bias)
    assert np.sum(nu) == pytest.approx(0.4 * bias, abs=1e-6)
    units = polished.vectors / polished.masses[:, None]
    attained = polished.signs * (np.maximum(units @ problem.X.T, 0.0) @ nu)
    np.testing.assert_allclose(attained, problem.beta, rtol=1e-6)
