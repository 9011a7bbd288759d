"""Bounds of problems with an output bias, against the full program with a free or penalised constant."""

from __future__ import annotations

import math
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

from cvxnn import Problem, ReLUNetwork
from cvxnn.certificates.certificate import certify_global
from cvxnn.certificates.output_bias import best_dual, best_shift, zero_sum, zero_sum_dual
from cvxnn.patterns import enumerate_patterns


def optimum_with_bias(problem: Problem) -> tuple[ReLUNetwork, float]:
    """Best network and value of the convex program over all patterns, by a conic solver."""
    masks = enumerate_patterns(problem.X).masks
    blocks, fit, penalty, constraints = [], 0.0, 0.0, []
    bias = cp.Variable()
    for mask in masks:
        for sign in (1.0, -1.0):
            z = cp.Variable(problem.n_features)
            fit = fit + sign * cp.multiply(mask.astype(float), problem.X @ z)
            penalty = penalty + cp.norm(z)
            constraints.append(cp.multiply(np.where(mask, 1.0, -1.0), problem.X @ z) >= 0)
            blocks.append((z, sign))
    fit = fit + bias
    if problem.loss.name == "squared":
        loss = 0.5 * cp.sum(cp.multiply(problem.sample_weight, cp.square(fit - problem.y)))
    else:
        loss = cp.sum(cp.multiply(problem.sample_weight, cp.logistic(-cp.multiply(problem.y, fit))))
    value = loss + problem.beta * penalty + 0.5 * problem.output_bias_decay * cp.square(bias)
    program = cp.Problem(cp.Minimize(value), constraints)
    program.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    vectors = np.array([z.value for z, _ in blocks])
    network = ReLUNetwork.from_vectors(vectors, [sign for _, sign in blocks])
    return ReLUNetwork(network.W, network.a, float(bias.value)), float(program.value)


def random_problem(seed: int, loss: str, decay: float) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((7, 2))
    y = rng.standard_normal(7) + 2.0 if loss == "squared" else np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    weight = rng.integers(1, 4, 7).astype(float)
    return Problem(X, y, beta=0.2, loss=loss, sample_weight=weight, output_bias_decay=decay)


@pytest.mark.parametrize("decay", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("seed", range(3))
def test_bound_is_tight_at_the_optimum_and_valid_elsewhere(seed, loss, decay):
    problem = random_problem(seed, loss, decay)
    best, value = optimum_with_bias(problem)
    certificate, _ = certify_global(problem, best(problem.X), best.objective(problem))
    assert certificate.objective == pytest.approx(value, rel=1e-6)
    assert certificate.lower_bound <= value * (1.0 + 1e-8)
    assert certificate.gap < 1e-4
    rng = np.random.default_rng(seed + 100)
    for _ in range(20):
        net = ReLUNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal())
        other, _ = certify_global(problem, net(problem.X), net.objective(problem))
        assert other.lower_bound <= value * (1.0 + 1e-8)


def test_zero_sums_are_exact_and_in_the_domain():
    rng = np.random.default_rng(0)
    for trial in range(300):
        n = int(rng.integers(1, 40))
        loss = ("squared", "huber", "logistic", "squared_hinge")[trial % 4]
        y = rng.choice([-1.0, 1.0], n)
        weight = np.abs(rng.standard_normal(n)) * (rng.random(n) < 0.8)
        weight[0] = 1.0
        problem = Problem(rng.standard_normal((n, 2)), y, loss=loss, sample_weight=weight, output_bias_decay=0.0)
        raw = rng.standard_normal(n) * 10.0 ** rng.integers(-9, 9)
        nu = zero_sum(problem, problem.loss.project_dual(raw, problem.y, weight))
        assert math.fsum(nu) == 0.0
        assert np.array_equal(problem.loss.project_dual(nu, problem.y, weight), nu)


def test_a_near_zero_sum_moves_by_rounding_only():
    rng = np.random.default_rng(1)
    problem = Problem(rng.standard_normal((50, 2)), rng.standard_normal(50), output_bias_decay=0.0)
    nu = rng.standard_normal(50)
    nu -= nu.mean()
    assert np.max(np.abs(zero_sum(problem, nu) - nu)) <= 1e-12


def test_best_shift_minimises_the_loss():
    problem = Problem(np.eye(3), [1.0, 2.0, 6.0], output_bias_decay=0.0)
    assert best_shift(problem, np.zeros(3)) == pytest.approx(3.0, abs=1e-14)
    one_class = Problem(np.eye(2), [1.0, 1.0], loss="logistic", output_bias_decay=0.0)
    assert best_shift(one_class, np.zeros(2)) >= 0.0


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
def test_best_shift_is_the_root_that_bisection_finds(loss):
    rng = np.random.default_rng(0)
    labels = loss in ("logistic", "squared_hinge")
    for _ in range(200):
        n, decay = int(rng.choice([1, 2, 5, 50, 500])), float(rng.choice([0.0, 1e-6, 0.01, 1.0, 100.0]))
        size = 10.0 ** rng.uniform(-4, 4)
        fit = size * rng.standard_normal(n)
        y = rng.choice([-1.0, 1.0], n) if labels else size * rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2)
        if labels and (n < 5 or len(np.unique(y)) < 2):
            # Of labels of one kind no finite constant is the best one.
            decay = max(decay, 1e-6)
        problem = Problem(np.ones((n, 1)), y, loss=loss, sample_weight=rng.uniform(0.1, 3, n), output_bias_decay=decay)

        def slope(shift, problem=problem, fit=fit, decay=decay):
            return np.sum(problem.loss_gradient(fit + shift)) + decay * shift

        reach = 1.0
        while not slope(-reach) <= 0.0 <= slope(reach):
            reach *= 2.0
        root = brentq(slope, -reach, reach, xtol=1e-300, rtol=1e-15, maxiter=2000)
        shift = best_shift(problem, fit)
        # As near to the root as the rounding of the fit lets either of them be.
        size = np.max(np.abs(fit)) + abs(shift)
        rounding = (np.sum(problem.loss_hessian(fit + shift)) + decay) * size
        rounding += np.sum(np.abs(problem.loss_gradient(fit + shift)))
        assert abs(slope(shift)) <= abs(slope(root)) + 1e-14 * rounding


def test_an_output_bias_needs_a_problem_that_allows_it():
    net = ReLUNetwork([[1.0]], [1.0], output_bias=0.5)
    with pytest.raises(ValueError, match="output_bias_decay"):
        net.objective(Problem([[1.0]], [1.0]))
    problem = Problem([[1.0]], [1.0], beta=0.5, output_bias_decay=2.0)
    assert net.objective(problem) == pytest.approx(0.5 * 0.5**2 + 0.5 + 0.25)
    assert net.balanced().output_bias == net.merged([[1.0]]).output_bias == net.split(0).output_bias == 0.5
    with pytest.raises(ValueError, match="one output"):
        ReLUNetwork([[1.0]], [[1.0, 2.0]], output_bias=1.0)


def test_two_values_of_very_different_counts_keep_a_zero_sum():
    y = np.repeat([1.0, -1.0], [25, 5])
    problem = Problem(np.ones((30, 1)), y, loss="logistic", output_bias_decay=0.0)
    nu = best_dual(problem, np.zeros(30))
    assert math.fsum(nu) == 0.0
    np.testing.assert_allclose(nu, np.where(y > 0, 1 / 6, -5 / 6), rtol=1e-12)


def exact_dual_norm(X: np.ndarray, nu: np.ndarray) -> Fraction:
    """Dual norm of data with one column, without rounding."""
    sides = [[Fraction(max(side * x, 0.0)) * Fraction(v) for x, v in zip(X[:, 0], nu, strict=True)] for side in (1, -1)]
    return max(abs(sum(side)) for side in sides)


def test_bounds_of_zero_sums_hold_without_rounding():
    rng = np.random.default_rng(0)
    for trial in range(400):
        n = int(rng.integers(2, 9))
        problem = Problem(rng.standard_normal((n, 1)), rng.standard_normal(n), output_bias_decay=0.0)
        # Large parts that cancel: the mean is small, its rounding is not.
        common = rng.standard_normal(n) * 10.0 ** (trial % 12)
        common -= common.mean()
        dual, other = common + np.abs(rng.standard_normal(n)), -common - np.abs(rng.standard_normal(n))
        bounds = [math.nextafter(float(exact_dual_norm(problem.X, v)), math.inf) for v in (dual, other)]
        mixed, bound = zero_sum_dual(problem, dual, bounds[0], (other, bounds[1]))
        assert math.fsum(mixed) == 0.0
        assert exact_dual_norm(problem.X, mixed) <= Fraction(bound)
        assert bound <= max(bounds) * (1 + 1e-12)
        alone, bound = zero_sum_dual(problem, dual, bounds[0])
        assert math.fsum(alone) == 0.0 and exact_dual_norm(problem.X, alone) <= Fraction(bound)
