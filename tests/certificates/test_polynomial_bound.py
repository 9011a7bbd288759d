"""The bound of the polynomial pricing problem: exact rational arithmetic never exceeds it, and it is tight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.certificates.polynomial_bound import maximise_on_sphere, polynomial_dual_norm


def exact(X, coefficients, nu, u):
    """Value ``nu^T sigma(X u)`` over ``|u|^2 = 1``, in rationals: u is a rational point of the sphere."""
    a, b, c = (Fraction(float(value)) for value in coefficients)
    total = Fraction(0)
    for row, weight in zip(X, nu, strict=True):
        t = sum(Fraction(float(x)) * v for x, v in zip(row, u, strict=True))
        total += Fraction(float(weight)) * ((a * t + b) * t + c)
    return total


def rational_unit(u):
    """Rational point of the unit sphere near u, by stereographic projection from the last axis."""
    if u[-1] > 0.0:
        return [-v for v in rational_unit(-u)]
    p = [Fraction(float(v / (1.0 - u[-1]))) for v in u[:-1]]
    square = sum((v * v for v in p), Fraction(0))
    return [2 * v / (square + 1) for v in p] + [(square - 1) / (square + 1)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_no_rational_unit_vector_exceeds_the_bound(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    integer = seed % 2
    X = rng.integers(-2, 3, (n, d)).astype(float) if integer else rng.standard_normal((n, d))
    nu = rng.integers(-2, 3, n).astype(float) if integer else rng.standard_normal(n)
    X *= 10.0 ** (rng.integers(-12, 12) if seed % 3 == 0 else 0)
    coefficients = tuple(float(v) for v in rng.choice([0.0, 1.0, -1.0, 0.3, 1e-3, 50.0], 3))
    upper, attained, maxima = polynomial_dual_norm(X, coefficients, nu)
    assert attained <= upper * (1 + 1e-14)
    best = Fraction(0)
    for sign, directions, _ in maxima:
        for u in directions:
            unit = rational_unit(u)
            assert sum(v * v for v in unit) == 1
            value = sign * exact(X, coefficients, nu, unit)
            assert value <= Fraction(upper)
            best = max(best, value)
    # Tight, but for what cancels between the constant and the other terms.
    size = float(np.sum(np.abs(nu)) * (sum(np.abs(coefficients)) * (1.0 + np.sum(X * X))))
    assert upper - float(best) <= 1e-9 * max(float(best), 1e-3 * size) + 1e-250


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_maximum_on_the_sphere_beats_every_other_point(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    Q = rng.integers(-2, 3, (d, d)).astype(float)
    Q, g = Q + Q.T, rng.integers(-1, 2, d).astype(float)
    best = maximise_on_sphere(Q, g)
    others = rng.standard_normal((500, d))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    value = best.multiplier + best.slack
    assert np.max(np.sum((others @ Q) * others, axis=1) + others @ g) <= value + 1e-9
    np.testing.assert_allclose(np.linalg.norm(best.directions, axis=1), 1.0, atol=1e-12)
    met = np.sum((best.directions @ Q) * best.directions, axis=1) + best.directions @ g
    np.testing.assert_allclose(met, value, atol=1e-7)


def test_hard_case_and_zero():
    best = maximise_on_sphere(np.diag([2.0, 2.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert best.multiplier + best.slack == pytest.approx(2.125, abs=1e-12)
    assert len(best.directions) == 2
    upper, attained, _ = polynomial_dual_norm(np.ones((3, 2)), (1.0, 1.0, 1.0), np.zeros(3))
    assert attained == 0.0
    assert upper < 1e-250


def test_linear_activation_has_a_closed_form():
    X, nu = np.random.default_rng(0).standard_normal((6, 3)), np.arange(6.0)
    upper, attained, _ = polynomial_dual_norm(X, (0.0, 2.0, 1.0), nu)
    truth = 2.0 * np.linalg.norm(X.T @ nu) + 15.0
    assert attained == pytest.approx(truth, rel=1e-12)
    assert truth * (1 - 1e-14) <= upper <= truth * (1 + 1e-12)
