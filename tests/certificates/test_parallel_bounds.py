"""Bounds of the pricing problem of three layers hold for every sub-network, and close on small data."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.certificates.group_bounds import group_bound
from cvxnn.certificates.parallel_bounds import parallel_pricing, part_bound, subnetwork_values
from cvxnn.certificates.parallel_multipliers import Multipliers
from cvxnn.certificates.pricing import pricing_bound

NORMS = ("path", "l21")


def units(rng, count, m, d, norm):
    V = rng.standard_normal((count, m, d)) * rng.random((count, m, 1)) ** 2
    lengths = np.linalg.norm(V, axis=2)
    size = lengths.sum(axis=1) if norm == "l21" else np.linalg.norm(lengths, axis=1)
    return V / size[:, None, None]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_any_multipliers_give_a_bound(norm, seed):
    rng = np.random.default_rng(seed)
    n, m, d = 6, 3, 2
    X, c, signs = rng.standard_normal((n, d)), rng.standard_normal(n), np.array([1, -1, 1], dtype=np.int8)
    V = units(rng, 4000, m, d, norm)
    z = V @ X.T
    g = np.einsum("m,kmn->kn", signs, np.maximum(z, 0.0))
    values = np.maximum(g, 0.0) @ c
    for k in range(200):
        open_inner, open_outer = rng.random((m, n)) < rng.random(), rng.random(n) < rng.random()
        inner = np.where(open_inner, 0, np.where(z[k] >= 0, 1, -1)).astype(np.int8)
        outer = np.where(open_outer, 0, np.where(g[k] >= 0, 1, -1)).astype(np.int8)
        p, q, t = rng.standard_normal(n), rng.standard_normal(n), rng.standard_normal((m, n))
        bound = part_bound(X, c, signs, inner, outer, Multipliers(p, q, t, V[k]), norm)
        fits = np.all(z * inner >= 0, axis=(1, 2)) & np.all(g * outer >= 0, axis=1)
        assert fits[k]
        assert np.all(values[fits] <= bound)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_closes_and_is_above_every_value(norm, seed):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((6, 2)), rng.standard_normal(6)
    found = parallel_pricing(X, nu, 2, norm, target=0.0, max_nodes=300)
    again = parallel_pricing(X, nu, 2, norm, target=found.lower * (1 + 1e-6))
    assert again.closed
    assert again.upper <= again.lower * (1 + 1.1e-6)
    V = units(rng, 50_000, 2, 2, norm)
    for pair in ([1.0, 1.0], [1.0, -1.0]):
        for s in (1.0, -1.0):
            values = subnetwork_values(X, s * nu, V, np.tile(pair, (len(V), 1)))
            assert np.max(values) <= again.upper
    # What was met is what it is said to be.
    for v, signs, s, value in zip(again.vectors, again.signs, again.outputs, again.values, strict=True):
        assert subnetwork_values(X, s * nu, v[None], signs[None])[0] == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_more_data_than_patterns_can_be_listed():
    rng = np.random.default_rng(0)
    X, nu = rng.standard_normal((30, 8)), rng.standard_normal(30)
    found = parallel_pricing(X, nu, 2, "path", target=0.0, max_nodes=20)
    V = units(rng, 5000, 2, 8, "path")
    assert np.max(subnetwork_values(X, nu, V, np.tile([1.0, -1.0], (5000, 1)))) <= found.upper
    assert found.upper >= np.sqrt(2.0) * pricing_bound(X, nu, max_nodes=0).lower


def test_scale_and_wide_data():
    rng = np.random.default_rng(2)
    X, nu = rng.standard_normal((4, 7)), rng.standard_normal(4)
    one = parallel_pricing(X, nu, 2, "l21", target=0.0, max_nodes=200)
    big = parallel_pricing(2.0**60 * X, 2.0**-90 * nu, 2, "l21", target=0.0, max_nodes=200)
    assert big.upper == pytest.approx(one.upper * 2.0**-30, rel=1e-12)
    assert parallel_pricing(X, np.zeros(4), 2, "path", target=1.0).upper == 0.0


@pytest.mark.parametrize("parts", [1, 2])
def test_group_bound_is_above_every_point(parts):
    rng = np.random.default_rng(parts)
    fit, cone, nu = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(5)
    Z = rng.standard_normal((20_000, 4))
    lengths = np.linalg.norm(Z.reshape(len(Z), parts, -1), axis=2)
    Z /= lengths.sum(axis=1, keepdims=True)
    inside = Z[np.all(Z @ cone.T >= 0, axis=1)]
    bound = group_bound(fit, cone, nu, parts)
    best = np.max(inside @ (fit.T @ nu))
    assert best <= bound
    assert bound <= group_bound(fit, np.zeros((0, 4)), nu, parts)


@pytest.mark.parametrize("limit", [0, 50])
def test_units_below_the_floating_point_numbers_leave_a_bound(limit):
    X, nu = 1e-150 * np.array([[1.0, 2.0], [3.0, -1.0]]), 1e-200 * np.array([1.0, -2.0])
    found = parallel_pricing(X, nu, 2, "path", target=1e-300, max_nodes=limit)
    assert 0.0 < found.upper < 1e-300
