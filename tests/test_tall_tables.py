"""Tables with many rows: order and equal rows as NumPy finds them, factors and scalings slab by slab as at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import cvxnn._tall_tables as tall_tables
from cvxnn._tall_tables import row_groups, row_order, tall_slabs, triangle
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.patterns import reduce_rank, sample_patterns
from cvxnn.patterns._rank import equilibrate


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(tall_tables, "_SLAB", 1 << 12)


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tables():
    rng = np.random.default_rng(0)
    return {
        "distinct": rng.standard_normal((300, 4)),
        "few values": rng.integers(0, 3, (400, 5)).astype(float),
        "late differences": np.column_stack([np.ones((200, 3)), rng.integers(0, 9, 200)]),
        "repeated rows": rng.standard_normal((20, 6))[rng.integers(0, 20, 300)],
        "signed zeros": rng.choice([-0.0, 0.0, 1.0], (100, 3)),
        "one row": np.ones((1, 2)),
    }


@pytest.mark.parametrize("name", tables())
def test_groups_and_order_are_those_of_numpy(name):
    table = tables()[name]
    _, inverse = np.unique(table + 0.0, axis=0, return_inverse=True)
    np.testing.assert_array_equal(row_groups(table.T, len(table)), inverse.ravel())
    index = np.random.default_rng(1).permutation(len(table))[: max(1, len(table) // 2)]
    order, first = row_order(table.T, index)
    # Stable: rows that are equal stay in the order in which they came.
    np.testing.assert_array_equal(order, index[np.lexsort(table[index].T[::-1])])
    differs = np.any(table[order[1:]] != table[order[:-1]], axis=1)
    np.testing.assert_array_equal(first, np.concatenate([[True], differs]))


@pytest.mark.parametrize("shape", [(3000, 7), (50, 50), (5, 9), (5000, 300)])
def test_triangular_factor_has_the_singular_values(shape, small_slabs):
    table = np.random.default_rng(0).standard_normal(shape) * np.logspace(0, -6, shape[1])
    factor = triangle(table)
    assert len(factor) <= max(shape[1], min(shape))
    expected = np.linalg.svd(table, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(factor, compute_uv=False), expected, rtol=1e-12, atol=1e-13 * expected[0])


def test_scaling_and_coordinates_do_not_depend_on_the_slabs(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 4)) @ rng.standard_normal((4, 6)) * 10.0 ** rng.uniform(-3, 3, 6)
    scaled, exponents = equilibrate(X)
    Z = reduce_rank(X)[0]
    monkeypatch.setattr(tall_tables, "_SLAB", 1 << 10)
    assert len(tall_slabs(X)) > 10
    again, same = equilibrate(X)
    np.testing.assert_array_equal(again, scaled)
    np.testing.assert_array_equal(same, exponents)
    Z2, V2 = reduce_rank(X)
    assert Z2.shape == Z.shape
    np.testing.assert_allclose(Z2 @ V2.T, X, rtol=0, atol=1e-12 * np.abs(X).max())
    np.testing.assert_allclose(np.linalg.norm(Z2, axis=0), np.linalg.norm(Z, axis=0), rtol=1e-10)


def test_rank_and_patterns_need_few_copies_of_the_data(small_slabs):
    X = np.random.default_rng(0).standard_normal((60_000, 12))
    assert peak_of(lambda: reduce_rank(X)) < 2.6 * X.nbytes
    masks = 20 * len(X) / 8
    assert peak_of(lambda: sample_patterns(X, 20)) < 2.6 * X.nbytes + 2 * masks + 10e6


@pytest.mark.parametrize("rank", [3, 5])
def test_bounds_hold_slab_by_slab(rank, monkeypatch):
    rng = np.random.default_rng(rank)
    X, nu = rng.standard_normal((400, rank)) @ rng.standard_normal((rank, 8)), rng.standard_normal(400)
    X[7], X[8] = -3.0 * X[5], 2.0 * X[6]
    whole = pricing_bound(X, nu, method="cheap")
    monkeypatch.setattr(tall_tables, "_SLAB", 1 << 9)
    parts = pricing_bound(X, nu, method="cheap")
    assert parts.upper == pytest.approx(whole.upper, rel=1e-9)
    units = rng.standard_normal((2000, 8))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    assert parts.upper >= np.max(np.abs(np.maximum(units @ X.T, 0.0) @ nu))
    assert parts.upper >= parts.lower >= 0.99 * whole.lower
