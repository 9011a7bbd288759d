"""Exact enumeration against Cover's number, published counts, linear programs, and a second algorithm."""

from __future__ import annotations

import json
import tracemalloc
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvxnn.patterns import (
    ActivationPatterns,
    PatternLimitError,
    count_patterns,
    degenerate,
    enumerate_patterns,
    general_position,
    limits,
)
from cvxnn.patterns._bits import all_distinct
from cvxnn.patterns._geometry import describe
from tests.oracles.pattern_enumeration import patterns_by_linear_programming

DATA = Path(__file__).parent.parent / "data"
FIXTURE = json.loads((DATA / "15_pattern_counts.json").read_text())["cases"]


def with_bias(points):
    points = np.asarray(points, dtype=float)
    return np.column_stack([points, np.ones(len(points))])


def grid(*sizes):
    return np.array(list(product(*map(range, sizes))), dtype=float)


def as_set(patterns: ActivationPatterns) -> set[tuple[bool, ...]]:
    return set(map(tuple, patterns.masks.tolist()))


def check_consistent(X, patterns: ActivationPatterns) -> None:
    """Each gate makes its mask exactly and lies inside the cell; masks differ; opposites are present."""
    X = np.asarray(X, dtype=float)
    products = patterns.gates @ X.T
    assert np.array_equal(products >= 0, patterns.masks)
    norms = np.linalg.norm(X, axis=1)
    assert np.all(np.abs(products[:, norms > 0]) > 1e-13 * norms[norms > 0])
    assert np.allclose(np.linalg.norm(patterns.gates, axis=1), 1.0, rtol=0, atol=1e-12)
    assert all_distinct(patterns.packed)
    opposites = patterns.masks ^ (norms > 0)
    assert patterns.contains(opposites).all()


DEGENERATE = {
    "duplicates": (np.array([[1, 0, 2], [0, 1, 1], [1, 0, 2], [1, 1, 0], [0, 1, 1]], dtype=float), 8),
    "collinear": (
        np.array([[1, 0, 2], [0, 1, 1], [-2, 0, -4], [1, 1, 0], [1, 1, 1], [0, -3, -3]], dtype=float),
        14,
    ),
    "grid 3x3 and bias": (with_bias(grid(3, 3)), 58),
    "line and bias": (with_bias([[-1.0], [0.0], [1.0], [1.0], [2.0], [3.0]]), 10),
    "binary 2 and bias": (with_bias(grid(2, 2)), 14),
    "binary 3": (grid(2, 2, 2), 32),
    "binary 3 and bias": (with_bias(grid(2, 2, 2)), 104),
    "binary 4 and bias": (with_bias(grid(2, 2, 2, 2)), 1882),
    "signs 3": (2 * grid(2, 2, 2) - 1, 14),
    "signs 4": (2 * grid(2, 2, 2, 2) - 1, 104),
    "braid 4": (np.array([np.eye(4)[i] - np.eye(4)[j] for i in range(4) for j in range(i)]), 24),
    "braid 5": (np.array([np.eye(5)[i] - np.eye(5)[j] for i in range(5) for j in range(i)]), 120),
    "braid 6": (np.array([np.eye(6)[i] - np.eye(6)[j] for i in range(6) for j in range(i)]), 720),
    "coordinates": (np.eye(7), 128),
    "rank one": (np.outer([1.0, -2.0, 3.0, 0.5], [1.0, 2.0, -1.0]), 2),
    "one sample": (np.array([[2.0, -1.0]]), 2),
    "one number": (np.array([[5.0]]), 2),
    "all zero": (np.zeros((3, 2)), 1),
    "zero rows": (np.vstack([np.zeros((2, 3)), np.eye(3)]), 8),
    "zero columns": (np.column_stack([np.zeros(3), np.eye(3)[:, :2]]), 4),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_known_counts_of_degenerate_data(name):
    """Threshold functions (binary inputs), Weyl chambers of the symmetric group (braid), closed forms."""
    X, expected = DEGENERATE[name]
    patterns = enumerate_patterns(X)
    assert len(patterns) == expected
    check_consistent(X, patterns)


@pytest.mark.parametrize("name", FIXTURE)
def test_counts_of_the_fixture(name):
    X = np.array(FIXTURE[name]["X"])
    patterns = enumerate_patterns(X)
    assert len(patterns) == FIXTURE[name]["count"]
    check_consistent(X, patterns)


def test_threshold_functions_of_five_inputs():
    """The 94572 linear threshold functions of five binary inputs (Winder 1965; OEIS A000609)."""
    X = with_bias(grid(2, 2, 2, 2, 2))
    patterns = enumerate_patterns(X)
    assert len(patterns) == 94572
    check_consistent(X, patterns)


@pytest.mark.parametrize(
    "n, rank",
    [
        (4, 2),
        (6, 2),
        (7, 3),
        (8, 3),
        (8, 4),
        (7, 5),
        (6, 6),
        (9, 3),
        (500, 2),
        (100, 3),
        (300, 3),
        (50, 4),
        (40, 5),
    ],
)
def test_general_position_has_covers_number(n, rank):
    X = np.random.default_rng(n + rank).standard_normal((n, rank))
    patterns = enumerate_patterns(X)
    assert len(patterns) == count_patterns(n, rank)
    check_consistent(X, patterns)


@pytest.mark.parametrize("n, d", [(5, 2), (6, 3), (6, 4), (4, 6), (1, 3), (7, 1)])
def test_both_algorithms_equal_linear_programs(n, d):
    X = np.random.default_rng(10 * n + d).standard_normal((n, d))
    truth = patterns_by_linear_programming(X)
    assert as_set(enumerate_patterns(X)) == truth
    geometry = describe(X)
    for gates in (
        np.concatenate(list(general_position.half_gates(geometry.lines))),
        degenerate.half_gates(geometry.lines),
    ):
        masks = gates @ geometry.basis.T @ geometry.rows.T > 0
        assert len(masks) == len(truth) // 2
        assert set(map(tuple, np.concatenate([masks, ~masks]).tolist())) == truth


@pytest.mark.parametrize("n, rank", [(80, 3), (30, 4), (16, 5), (12, 7)])
def test_the_two_algorithms_agree(n, rank):
    lines = describe(np.random.default_rng(n).standard_normal((n, rank))).lines
    first = np.concatenate(list(general_position.half_gates(lines)))
    second = degenerate.half_gates(lines)
    assert len(first) == len(second) == count_patterns(n, rank) // 2
    sets = []
    for gates in (first, second):
        gates = gates * np.where(gates @ lines[0] > 0, 1.0, -1.0)[:, None]
        sets.append({row.tobytes() for row in np.packbits(gates @ lines.T > 0, axis=1)})
    assert sets[0] == sets[1] and len(sets[0]) == len(first)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
        elements=st.integers(-1, 1),
    )
)
def test_small_integer_data_equal_linear_programs(X):
    patterns = enumerate_patterns(X)
    assert as_set(patterns) == patterns_by_linear_programming(X)
    check_consistent(X, patterns)


@pytest.mark.parametrize("seed", range(3))
def test_dependent_real_data_equal_linear_programs(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((8, 3))
    X[2] = -1.7 * X[1]
    X[4] = X[0] + 0.3 * X[1]
    X[6] = 0.0
    X[7] = X[0] - 2.0 * X[3]
    patterns = enumerate_patterns(X)
    assert as_set(patterns) == patterns_by_linear_programming(X)
    check_consistent(X, patterns)


def test_each_dependent_triple_removes_one_pair_of_cells():
    """In rank 3 the triangle between three hyperplanes, and its opposite, vanish when they share a line."""
    X = np.random.default_rng(5).standard_normal((120, 3))
    X[20] = X[21] + X[22]
    X[30] = X[31] - X[32]
    patterns = enumerate_patterns(X)
    assert len(patterns) == count_patterns(120, 3) - 4
    check_consistent(X, patterns)


def test_repeated_samples_leave_general_position():
    """Sixty samples on fifty lines have the patterns of the fifty, expanded."""
    rng = np.random.default_rng(6)
    base = rng.standard_normal((50, 3))
    X = np.vstack([base, -2.0 * base[:5], base[5:10]])
    patterns = enumerate_patterns(X)
    assert len(patterns) == count_patterns(50, 3)
    assert np.array_equal(patterns.masks[:, 50:55], ~patterns.masks[:, :5])
    assert np.array_equal(patterns.masks[:, 55:], patterns.masks[:, 5:10])


INVARIANT = {
    "grid": with_bias(grid(4, 3)),
    "cube": with_bias(grid(2, 2, 2)),
    "general": np.random.default_rng(3).standard_normal((12, 3)),
    "deficient": np.random.default_rng(4).standard_normal((9, 2)) @ np.random.default_rng(5).standard_normal((2, 5)),
}


@pytest.mark.parametrize("name", INVARIANT)
def test_patterns_do_not_depend_on_the_coordinates(name):
    X = INVARIANT[name]
    n, d = X.shape
    rng = np.random.default_rng(0)
    reference = as_set(enumerate_patterns(X))
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    rows, columns = 10.0 ** rng.uniform(-8, 8, (n, 1)), 10.0 ** rng.uniform(-8, 8, d)
    changed = {
        "tiny": X * 1e-6,
        "huge": X * 1e6,
        "inexact": X * 0.1,
        "rows": X * rows,
        "columns": X * columns,
        "rows and columns": X * rows * columns,
        "rotated": X @ rotation,
        "embedded": X @ rng.standard_normal((d, d + 3)),
        "repeated column": np.column_stack([X, X[:, 0]]),
        "float noise": X + 1e-15 * rng.standard_normal(X.shape) * np.abs(X).max(),
    }
    for how, Y in changed.items():
        patterns = enumerate_patterns(Y)
        assert as_set(patterns) == reference, how
        assert np.array_equal(patterns.gates @ Y.T >= 0, patterns.masks), how


def test_patterns_follow_a_permutation_and_negation_of_samples():
    X = INVARIANT["grid"]
    order = np.random.default_rng(1).permutation(len(X))
    reference = enumerate_patterns(X)
    permuted = enumerate_patterns(X[order])
    assert as_set(permuted) == set(map(tuple, reference.masks[:, order].tolist()))
    signs = np.where(np.arange(len(X)) % 3 == 0, -1.0, 1.0)
    negated = enumerate_patterns(X * signs[:, None])
    assert as_set(negated) == set(map(tuple, (reference.masks ^ (signs < 0)).tolist()))


def test_standardised_grid_keeps_its_degeneracy():
    points = grid(6, 5)
    standard = (points - points.mean(axis=0)) / points.std(axis=0)
    shifted = 0.1 * points + 1000.3
    reference = as_set(enumerate_patterns(with_bias(points)))
    assert as_set(enumerate_patterns(with_bias(standard))) == reference
    assert as_set(enumerate_patterns(with_bias(shifted))) == reference


def test_opposites_fill_the_second_half():
    X = np.vstack([with_bias(grid(3, 3)), np.zeros((1, 3))])
    patterns = enumerate_patterns(X)
    half = len(patterns) // 2
    assert np.array_equal(patterns.gates[half:], -patterns.gates[:half])
    assert np.array_equal(patterns.masks[half:, :-1], ~patterns.masks[:half, :-1])
    assert patterns.masks[:, -1].all()


def test_same_input_same_output():
    X = with_bias(grid(5, 4))
    first, second = enumerate_patterns(X), enumerate_patterns(X.copy())
    assert np.array_equal(first.packed, second.packed)
    assert np.array_equal(first.gates, second.gates)


def test_input_is_not_changed():
    X = with_bias(grid(3, 3))
    copy = X.copy()
    enumerate_patterns(X)
    assert np.array_equal(X, copy)


def test_accepts_lists_integers_and_single_precision():
    X = with_bias(grid(3, 3))
    reference = as_set(enumerate_patterns(X))
    for Y in (X.tolist(), X.astype(int), X.astype(np.float32), np.asfortranarray(X), X.astype(object)):
        assert as_set(enumerate_patterns(Y)) == reference


def test_masks_are_packed_and_never_unpacked_at_once():
    X = np.random.default_rng(0).standard_normal((400, 3))
    enumerate_patterns(X[:10])
    tracemalloc.start()
    patterns = enumerate_patterns(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert patterns.nbytes == 50 * len(patterns)
    boolean = 400 * len(patterns)
    assert peak < boolean / 2
    assert patterns.nbytes + patterns.gates.nbytes < peak


@pytest.mark.parametrize(
    "X, words",
    [
        ([[1.0, np.nan]], "NaN"),
        ([[1.0, np.inf]], "infinite"),
        ([1.0, 2.0], "dimension"),
        (np.zeros((2, 2, 2)), "dimension"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 0)), "empty"),
        ([["a", "b"]], "numbers"),
        ([[1.0], [1.0, 2.0]], "rectangular"),
        ([[1.0 + 1.0j]], "complex"),
    ],
)
def test_bad_data_get_one_sentence(X, words):
    with pytest.raises(ValueError, match=words) as caught:
        enumerate_patterns(X)
    assert str(caught.value).startswith("X ") and str(caught.value).endswith(".")


def test_refuses_too_many_patterns_before_any_work():
    X = np.random.default_rng(0).standard_normal((300, 40))
    with pytest.raises(
        PatternLimitError, match=r"about 10\^49 activation.*max_patterns=2,000,000; raise .* sample_pat"
    ):
        enumerate_patterns(X)
    with pytest.raises(PatternLimitError, match=r"up to 1,334 .*max_patterns=1,000; raise max_patterns"):
        enumerate_patterns(X[:37, :3], max_patterns=1000)
    assert len(enumerate_patterns(X[:37, :3], max_patterns=1334)) == 1334


def test_refusal_counts_lines_not_samples():
    base = np.random.default_rng(0).standard_normal((10, 3))
    X = np.vstack([base, 2.0 * base, -base])
    assert len(enumerate_patterns(X, max_patterns=count_patterns(10, 3))) == count_patterns(10, 3)


def test_refuses_too_much_memory_and_time():
    X = np.random.default_rng(0).standard_normal((300, 3))
    with pytest.raises(PatternLimitError, match=r"89,702 .*5\.3 MiB, more than max_memory=1 MiB"):
        enumerate_patterns(X, max_memory=2**20)
    with pytest.raises(PatternLimitError, match=r"89,702 .*time_limit=0\.001 s"):
        enumerate_patterns(X, time_limit=1e-3)


def test_work_stops_at_the_time_limit(monkeypatch):
    """With a clock that ticks once a reading, both algorithms run out of time between their steps."""
    readings = count()
    monkeypatch.setattr(limits, "time", SimpleNamespace(perf_counter=lambda: float(next(readings))))
    for X in (with_bias(grid(2, 2, 2, 2)), np.random.default_rng(0).standard_normal((100, 4))):
        with pytest.raises(PatternLimitError, match=r"stopped after time_limit=3 s; raise time_limit or use"):
            enumerate_patterns(X, time_limit=3.0)


@pytest.mark.parametrize("name", ["max_patterns", "max_memory", "time_limit"])
@pytest.mark.parametrize("value", [0, -1, "many", np.nan])
def test_bad_limits_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        enumerate_patterns(np.eye(2), **{name: value})


def test_colliding_words_are_settled_by_the_signs():
    """Beyond 64 rows cells are matched by random words; equal words of two cells must not merge them."""
    earlier = np.eye(2)
    gates = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2.0)
    traces = gates[:1]
    words = np.array([7, 7], dtype=np.uint64)
    found = degenerate._matched(words, words[:1], gates, traces, earlier)
    assert found.tolist() == [True, False]
