"""Sampled patterns are real, distinct, reproducible, and complete when all are asked for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cvxnn.patterns import enumerate_patterns, sample_patterns, sampling
from cvxnn.patterns._bits import all_distinct


def grid_with_bias(k):
    points = np.array(list(product(range(k), repeat=2)), dtype=float)
    return np.column_stack([points, np.ones(len(points))])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("n, d, wanted", [(40, 10, 700), (200, 3, 1001), (12, 30, 500)])
def test_sampled_patterns_are_distinct_and_made_by_their_gates(n, d, wanted, pairs):
    X = np.random.default_rng(n).standard_normal((n, d))
    X[3] = 0.0
    patterns = sample_patterns(X, wanted, include_complements=pairs)
    assert len(patterns) == wanted
    assert all_distinct(patterns.packed)
    assert np.array_equal(patterns.gates @ X.T >= 0, patterns.masks)
    assert patterns.masks[:, 3].all()


def test_opposites_fill_the_second_half():
    X = np.random.default_rng(0).standard_normal((30, 6))
    X[0] = 0.0
    patterns = sample_patterns(X, 300, include_complements=True)
    assert np.array_equal(patterns.gates[150:], -patterns.gates[:150])
    assert np.array_equal(patterns.masks[150:, 1:], ~patterns.masks[:150, 1:])
    odd = sample_patterns(X, 299, include_complements=True)
    assert len(odd) == 299
    assert np.array_equal(odd.packed, patterns.packed[:299])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("wanted", [57, 58, 10_000])
def test_few_cells_are_found_to_the_last(wanted, pairs):
    X = grid_with_bias(3)
    patterns = sample_patterns(X, wanted, include_complements=pairs)
    assert len(patterns) == min(wanted, 58)
    assert all_distinct(patterns.packed)
    assert enumerate_patterns(X).contains(patterns.masks).all()


def test_returns_what_it_found_when_cells_cannot_be_listed(monkeypatch):
    """Without the exact enumeration the search ends after fruitless batches instead of running for ever."""
    monkeypatch.setattr(sampling, "_ENUMERABLE", 0)
    X = grid_with_bias(6)
    every = len(enumerate_patterns(X))
    patterns = sample_patterns(X, every)
    assert every / 2 < len(patterns) <= every
    assert all_distinct(patterns.packed)


def test_seed_decides_the_result():
    X = np.random.default_rng(0).standard_normal((30, 5))
    first, again = sample_patterns(X, 100), sample_patterns(X, 100, random_state=0)
    assert np.array_equal(first.packed, again.packed) and np.array_equal(first.gates, again.gates)
    assert not np.array_equal(first.packed, sample_patterns(X, 100, random_state=1).packed)
    generator = np.random.default_rng(0)
    assert np.array_equal(first.packed, sample_patterns(X, 100, random_state=generator).packed)
    assert not np.array_equal(first.packed, sample_patterns(X, 100, random_state=generator).packed)


def test_units_of_features_do_not_matter():
    X = np.random.default_rng(0).standard_normal((30, 5))
    scaled = sample_patterns(X * np.array([1e8, 1.0, 1e-8, 1.0, 1e3]), 500)
    assert 0.3 < scaled.masks.mean() < 0.7
    assert len(scaled) == 500
    assert np.array_equal(sample_patterns(X, 500).masks, sample_patterns(X * 1024.0, 500).masks)


def test_zero_data_have_one_pattern():
    patterns = sample_patterns(np.zeros((3, 2)), 10)
    assert len(patterns) == 1
    assert patterns.masks.all()


@pytest.mark.parametrize("wanted", [0, -3, 2.5, "many", None])
def test_bad_numbers_are_named(wanted):
    with pytest.raises(ValueError, match=r"^n_patterns must be an integer >= 1"):
        sample_patterns(np.eye(2), wanted)


def test_bad_data_are_named():
    with pytest.raises(ValueError, match=r"^X contains 1 NaN"):
        sample_patterns([[np.nan]], 3)
