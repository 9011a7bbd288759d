"""The container of activation patterns against plain Boolean arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import all_distinct, first_occurrences, hash_rows, pack

masks_arrays = hnp.arrays(np.bool_, st.tuples(st.integers(0, 12), st.integers(1, 70)))


def make(masks) -> ActivationPatterns:
    masks = np.asarray(masks, dtype=bool)
    return ActivationPatterns.from_masks(masks, np.arange(2.0 * len(masks)).reshape(len(masks), 2))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(masks_arrays, st.integers(0, 12), st.integers(0, 12))
def test_packing_loses_nothing(masks, start, stop):
    patterns = make(masks)
    assert np.array_equal(patterns.masks, masks) and patterns.masks.dtype == np.bool_
    assert np.array_equal(patterns.unpack(start, stop), masks[start:stop])
    assert len(patterns) == len(masks)
    assert patterns.nbytes == len(masks) * -(-masks.shape[1] // 8)
    pieces = [piece for _, piece in patterns.chunks(5)]
    assert np.array_equal(np.concatenate([masks[:0], *pieces]), masks)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 90), st.integers(0, 2**32), st.integers(1, 3))
def test_set_operations_equal_those_of_tuples(n, seed, n_free):
    """Few free bits, so that repetitions are common."""
    rng = np.random.default_rng(seed)
    masks = np.repeat(rng.random((1, n)) < 0.5, 14, axis=0)
    masks[:, :n_free] = rng.random(masks[:, :n_free].shape) < 0.5
    masks[:, -1] = rng.random(14) < 0.5
    rows = list(map(tuple, masks.tolist()))
    first, second = make(masks[:8]), make(masks[8:])
    unique = first.unique()
    assert list(map(tuple, unique.masks.tolist())) == list(dict.fromkeys(rows[:8]))
    assert list(map(tuple, first.union(second).masks.tolist())) == list(dict.fromkeys(rows))
    assert first.contains(masks[8:]).tolist() == [row in rows[:8] for row in rows[8:]]
    assert first.contains(masks[0]) is True
    assert all_distinct(first.packed) == (len(set(rows[:8])) == 8)
    assert np.array_equal(first.gates[first_occurrences(first.packed)], unique.gates)


def test_hash_tells_rows_apart_that_differ_in_top_bits():
    rows = np.zeros((4, 128), dtype=bool)
    rows[1, 63] = rows[2, 127] = rows[3, 63] = rows[3, 127] = True
    assert np.unique(hash_rows(pack(rows))).size == 4


def test_subset_accepts_integers_booleans_and_slices():
    patterns = make(np.eye(5))
    assert np.array_equal(patterns.subset([3, 0]).masks, np.eye(5, dtype=bool)[[3, 0]])
    assert np.array_equal(patterns.subset(np.arange(5) > 2).gates, patterns.gates[3:])
    assert np.array_equal(patterns.subset(slice(1, 3)).masks, np.eye(5, dtype=bool)[1:3])
    assert len(patterns.subset([])) == 0


def test_from_gates_equals_the_definition():
    rng = np.random.default_rng(0)
    X, gates = rng.standard_normal((11, 3)), rng.standard_normal((6, 3))
    X[4] = 0.0
    patterns = ActivationPatterns.from_gates(X, gates)
    assert np.array_equal(patterns.masks, gates @ X.T >= 0)
    assert patterns.masks[:, 4].all()
    with pytest.raises(ValueError, match="as many columns as X has features"):
        ActivationPatterns.from_gates(X, gates[:, :2])


def test_arrays_are_read_only_and_short_repr():
    patterns = make(np.eye(3))
    with pytest.raises(ValueError, match="read-only"):
        patterns.packed[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        patterns.gates[0, 0] = 1.0
    assert repr(patterns) == "ActivationPatterns(n_patterns=3, n_samples=3, n_features=2)"


def test_mismatched_shapes_are_named():
    with pytest.raises(ValueError, match="gates must have shape"):
        ActivationPatterns.from_masks(np.eye(3, dtype=bool), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="packed must be a uint8 array"):
        ActivationPatterns(np.zeros((2, 3), dtype=np.uint8), np.zeros((2, 1)), 8)
    with pytest.raises(ValueError, match="masks must be a boolean array"):
        ActivationPatterns.from_masks([True, False], np.zeros((1, 1)))
    with pytest.raises(ValueError, match="masks must hold booleans"):
        ActivationPatterns.from_masks([[0.5, 1.0]], np.zeros((1, 1)))
    with pytest.raises(ValueError, match="samples and 2 features"):
        make(np.eye(3)).union(make(np.eye(4)))
    with pytest.raises(ValueError, match=r"masks must have shape \(3,\)"):
        make(np.eye(3)).contains([True])
    with pytest.raises(ValueError, match="size must be at least 1"):
        list(make(np.eye(3)).chunks(0))
