"""Bounds on the cones of given patterns against an exact non-negative least-squares solve."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cvxnn.certificates.cone_bounds import cone_bounds
from tests.oracles.pricing import activation_value, cone_maximum


def instance(n, d, count, seed):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((n, d)), rng.standard_normal(n)
    masks = rng.standard_normal((count, d)) @ X.T >= 0
    return X, nu, masks, rng.choice([-1, 1], count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "d"), [(6, 2), (20, 5), (12, 30), (400, 6)])
def test_equals_the_oracle(n, d, seed):
    X, nu, masks, signs = instance(n, d, 12, seed)
    upper, directions = cone_bounds(X, nu, masks, signs)
    truth = np.array([cone_maximum(X, s * nu, mask) for s, mask in zip(signs, masks, strict=True)])
    scale = np.abs(nu) @ np.linalg.norm(X, axis=1)
    assert np.all(upper >= truth - 1e-13 * scale)
    np.testing.assert_allclose(upper, truth, rtol=1e-8, atol=1e-9 * scale)
    values = signs * np.diag(np.atleast_2d(activation_value(X, nu, directions)[:, None] * np.eye(len(signs))))
    clear = truth > 1e-6 * scale
    np.testing.assert_allclose(values[clear], truth[clear], rtol=1e-6)


def test_any_multipliers_are_valid():
    X, nu, masks, signs = instance(15, 3, 30, 0)
    exact, _ = cone_bounds(X, nu, masks, signs)
    rng = np.random.default_rng(1)
    crude, _ = cone_bounds(X, nu, masks, signs, rho=rng.standard_normal(masks.shape), time_limit=0.0)
    assert np.all(crude >= exact * (1 - 1e-10))
    screened, _ = cone_bounds(X, nu, masks, signs, target=float(np.median(exact)))
    assert np.all(screened >= exact * (1 - 1e-10))
    assert np.array_equal(screened > np.median(exact), exact > np.median(exact))


def test_cones_in_parts_change_nothing(monkeypatch):
    X, nu, masks, signs = instance(40, 4, 50, 1)
    rho = np.abs(np.random.default_rng(2).standard_normal(masks.shape))
    whole = cone_bounds(X, nu, masks, signs), cone_bounds(X, nu, masks, signs, rho=rho, target=1.0)
    monkeypatch.setattr(sys.modules[cone_bounds.__module__], "_ENTRIES", 1)
    parts = cone_bounds(X, nu, masks, signs), cone_bounds(X, nu, masks, signs, rho=rho, target=1.0)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other[0], one[0], rtol=1e-10)
        np.testing.assert_allclose(other[1], one[1], atol=1e-7)
    late, _ = cone_bounds(X, nu, masks, signs, time_limit=0.0)
    assert np.all(late >= whole[0][0] * (1 - 1e-12))


def test_strings_without_a_cell_are_harmless():
    X = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    upper, directions = cone_bounds(X, [1.0, 1.0, 5.0], np.array([[True, False, True]]), [1])
    assert 0.0 <= upper[0] <= 1e-9
    assert np.all(np.isfinite(directions))


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scales(scale):
    X, nu, masks, signs = instance(15, 3, 10, 3)
    upper, _ = cone_bounds(X, nu, masks, signs)
    scaled, _ = cone_bounds(scale * X, scale * nu, masks, signs)
    np.testing.assert_allclose(scaled, scale**2 * upper, rtol=1e-8, atol=scale**2 * 1e-10)


def test_empty_and_zero():
    assert cone_bounds(np.ones((2, 2)), np.ones(2), np.zeros((0, 2), dtype=bool), [])[0].shape == (0,)
    assert cone_bounds(np.ones((2, 2)), np.zeros(2), np.ones((1, 2), dtype=bool), [1])[0].tolist() == [0.0]


def test_messages():
    masks = np.ones((1, 3), dtype=bool)
    with pytest.raises(ValueError, match="masks must have 3 columns"):
        cone_bounds(np.ones((3, 2)), np.ones(3), masks[:, :2], [1])
    with pytest.raises(ValueError, match="signs must hold 1 entries"):
        cone_bounds(np.ones((3, 2)), np.ones(3), masks, [2])
    with pytest.raises(ValueError, match="nu must have shape"):
        cone_bounds(np.ones((3, 2)), np.ones(2), masks, [1])
    with pytest.raises(ValueError, match="finite"):
        cone_bounds(np.ones((3, 2)), np.full(3, np.inf), masks, [1])
