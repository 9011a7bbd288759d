"""Softmax loss against finite differences, cvxpy's conjugate, and exact arithmetic of its domain."""

from __future__ import annotations

from fractions import Fraction

import cvxpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

from cvxnn import Problem, SoftmaxLoss

LOSS = SoftmaxLoss()


def sample(seed, n=6, c=4, *, hard=True, spread=1.0):
    rng = np.random.default_rng(seed)
    y = np.eye(c)[rng.integers(0, c, n)] if hard else rng.dirichlet(np.ones(c), n)
    weight = np.broadcast_to(rng.uniform(0.1, 3.0, n)[:, None], (n, c))
    return spread * rng.standard_normal((n, c)), y, weight


@pytest.mark.parametrize("hard", [True, False])
def test_derivatives_match_finite_differences(hard):
    fit, y, weight = sample(0, hard=hard)
    shape = fit.shape

    def value(flat):
        return LOSS.value(flat.reshape(shape), y, weight)

    def gradient(flat):
        return LOSS.gradient(flat.reshape(shape), y, weight).ravel()

    assert check_grad(value, gradient, fit.ravel()) < 1e-6
    hessian = np.array([LOSS.hessian_product(fit, y, weight, e.reshape(shape)).ravel() for e in np.eye(fit.size)])
    numeric = [(gradient(fit.ravel() + 1e-6 * e) - gradient(fit.ravel() - 1e-6 * e)) / 2e-6 for e in np.eye(fit.size)]
    np.testing.assert_allclose(hessian, numeric, atol=1e-6)
    np.testing.assert_allclose(np.diag(hessian).reshape(shape), LOSS.hessian(fit, y, weight), atol=1e-14)
    assert np.linalg.eigvalsh(hessian)[-1] <= LOSS.curvature * weight.max()


def test_curvature_is_attained_in_the_limit():
    # Two classes of equal probability and a third that has none.
    fit, y, one = np.array([[0.0, 0.0, -60.0]]), np.eye(3)[:1], np.ones((1, 3))
    direction = np.array([[1.0, -1.0, 0.0]]) / np.sqrt(2.0)
    assert np.sum(direction * LOSS.hessian_product(fit, y, one, direction)) == pytest.approx(0.5)


def test_value_is_stable_far_out():
    y, one = np.eye(2)[:1], np.ones((1, 2))
    assert LOSS.value(np.array([[-1e4, 1e4]]), y, one) == pytest.approx(2e4)
    assert LOSS.value(np.array([[1e4, -1e4]]), y, one) == 0.0
    assert np.all(np.isfinite(LOSS.gradient(np.array([[-1e4, 1e4]]), y, one)))


@pytest.mark.parametrize("hard", [True, False])
def test_conjugate_matches_a_conic_solver(hard):
    fit, y, weight = sample(1, n=1, c=3, hard=hard)
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    free = cvxpy.Variable(3)
    value = weight[0, 0] * (cvxpy.log_sum_exp(free) - y[0] @ free) + nu[0] @ free
    # The infimum is attained along a line; the sum of the outputs pins it.
    primal = cvxpy.Problem(cvxpy.Minimize(value), [cvxpy.sum(free) == 0]).solve(solver="CLARABEL")
    assert LOSS.dual_value(nu, y, weight) == pytest.approx(primal, abs=1e-7)
    assert LOSS.conjugate(-nu, y, weight) == pytest.approx(-primal, abs=1e-7)


@pytest.mark.parametrize("hard", [True, False])
def test_fenchel_equality_holds_at_the_gradient_only(hard):
    fit, y, weight = sample(2, hard=hard)
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    assert LOSS.value(fit, y, weight) + np.sum(nu * fit) == pytest.approx(LOSS.dual_value(nu, y, weight), rel=1e-12)
    other = fit + np.random.default_rng(3).standard_normal(fit.shape)
    assert LOSS.value(other, y, weight) + np.sum(nu * other) > LOSS.dual_value(nu, y, weight)


def exact_domain(nu, y, weight):
    """Whether every row sums to zero and stays below weight times target, in rational arithmetic."""
    for row, targets, w in zip(nu.tolist(), y.tolist(), weight[:, 0].tolist(), strict=True):
        exact = [Fraction(value) for value in row]
        caps = [Fraction(w) * Fraction(t) for t in targets]
        if sum(exact) != 0 or any(e > cap for e, cap in zip(exact, caps, strict=True)):
            return False
    return True


@given(
    seed=st.integers(0, 10_000),
    c=st.integers(2, 12),
    hard=st.booleans(),
    spread=st.sampled_from([0.0, 1.0, 30.0, 1e3]),
    scale=st.sampled_from([1.0, 0.3, 1.0 - 1e-15, 1e-9, 0.0]),
    weight_scale=st.sampled_from([1.0, 1e-8, 1e9, 2.0**-30]),
)
def test_projection_reaches_the_domain_exactly(seed, c, hard, spread, scale, weight_scale):
    fit, y, weight = sample(seed, c=c, hard=hard, spread=spread)
    weight = weight * weight_scale
    nu = -scale * LOSS.gradient(fit, y, weight)
    projected = LOSS.project_dual(nu, y, weight)
    assert exact_domain(projected, y, weight)
    assert np.isfinite(LOSS.dual_value(projected, y, weight))
    # Only rounding is corrected: a few steps of the grid, per class.
    assert np.max(np.abs(projected - nu) / weight) <= 4.0 * c * 2.0**-49
    np.testing.assert_array_equal(LOSS.project_dual(projected, y, weight), projected)


@given(seed=st.integers(0, 1000), size=st.sampled_from([1.0, 1e3, 1e300]))
def test_projection_of_anything_is_in_the_domain(seed, size):
    fit, y, weight = sample(seed, spread=size)
    assert exact_domain(LOSS.project_dual(fit, y, weight), y, weight)


def test_tiny_weights_get_the_zero_dual():
    fit, y, weight = sample(4)
    weight = np.array(weight)
    weight[0], weight[1] = 5e-324, 0.0
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    assert exact_domain(nu, y, weight)
    assert not np.any(nu[:2])
    assert np.isfinite(LOSS.dual_value(nu, y, weight))


def test_domain_and_scale_limit():
    fit, y, weight = sample(5)
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    limit = LOSS.dual_scale_limit(nu, y, weight)
    assert limit >= 1.0
    assert np.isfinite(LOSS.dual_value(LOSS.project_dual(0.999 * limit * nu, y, weight), y, weight))
    assert LOSS.dual_value(1.001 * limit * nu, y, weight) == -np.inf
    assert LOSS.dual_value(-nu, y, weight) == -np.inf
    assert LOSS.dual_scale_limit(-nu, y, weight) == 0.0
    lifted = nu + 1e-3
    assert LOSS.dual_scale_limit(lifted, y, weight) == 0.0
    assert LOSS.dual_value(lifted, y, weight) == -np.inf
    tilted = nu.copy()
    tilted[0, 0] = np.nextafter(nu[0, 0], -np.inf)
    assert LOSS.dual_value(tilted, y, weight) == -np.inf
    assert LOSS.dual_scale_limit(np.zeros_like(nu), y, weight) == np.inf


def test_dual_value_is_the_entropy_within_its_stated_error():
    fit, y, weight = sample(6, n=40, c=7, hard=False, spread=8.0)
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    q = [
        [float(Fraction(t) - Fraction(v) / Fraction(w)) for v, t, w in zip(a, b, c, strict=True)]
        for a, b, c in zip(nu.tolist(), y.tolist(), weight.tolist(), strict=True)
    ]
    long = np.array(q, dtype=np.longdouble)
    total = np.array([float(sum(map(Fraction, row)) - 1) for row in y.tolist()], dtype=np.longdouble) + 1
    entropy = np.sum(-long * np.log(long), axis=1) + total * np.log(total)
    exact = float(np.sum(weight[:, 0] * entropy))
    slack = 17.0 * np.finfo(float).eps * LOSS.dual_magnitude(nu, y, weight)
    assert abs(LOSS.dual_value(nu, y, weight) - exact) <= slack


def test_weights_equal_repeated_samples():
    fit, y, _ = sample(7)
    counts = np.array([1, 2, 3, 1, 2, 1])
    repeat = np.repeat(np.arange(6), counts)
    weight = np.broadcast_to(counts[:, None].astype(float), y.shape)
    ones = np.ones((repeat.size, y.shape[1]))
    assert LOSS.value(fit, y, weight) == pytest.approx(LOSS.value(fit[repeat], y[repeat], ones))
    nu = LOSS.project_dual(-LOSS.gradient(fit, y, weight), y, weight)
    each = LOSS.project_dual(nu[repeat] / counts[repeat][:, None], y[repeat], ones)
    assert LOSS.dual_value(nu, y, weight) == pytest.approx(LOSS.dual_value(each, y[repeat], ones))


def test_two_classes_are_a_logistic_loss_of_the_difference():
    rng = np.random.default_rng(8)
    X, fit, labels = rng.standard_normal((9, 2)), rng.standard_normal((9, 2)), rng.integers(0, 2, 9)
    labels[:2] = 0, 1
    two = Problem(X, labels, loss="softmax")
    one = Problem(X, 2.0 * labels - 1.0, loss="logistic")
    difference = fit[:, 1] - fit[:, 0]
    assert two.loss_value(fit) == pytest.approx(one.loss_value(difference))
    nu = two.project_dual(two.dual_vector(fit))
    np.testing.assert_allclose(nu[:, 1], one.dual_vector(difference), atol=1e-14)
    assert two.dual_value(nu) == pytest.approx(one.dual_value(one.dual_vector(difference)))
