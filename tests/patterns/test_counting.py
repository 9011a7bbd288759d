"""Cover's number against its definition and its recurrence."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from cvxnn.patterns import count_patterns


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("rank", range(1, 13))
def test_equals_the_sum_of_binomials(n, rank):
    assert count_patterns(n, rank) == 2 * sum(comb(n - 1, k) for k in range(rank))


def test_satisfies_covers_recurrence():
    for n in range(1, 30):
        for rank in range(2, 10):
            assert count_patterns(n + 1, rank) == count_patterns(n, rank) + count_patterns(n, rank - 1)


def test_is_exact_for_large_numbers():
    assert count_patterns(1000, 500) == 2**999
    assert count_patterns(200, 200) == 2**200
    assert count_patterns(np.int64(300), np.int32(3)) == 89702


def test_rank_zero_has_one_pattern():
    assert count_patterns(5, 0) == 1


@pytest.mark.parametrize(
    "n, rank, name", [(0, 1, "n"), (3, -1, "rank"), (2.5, 1, "n"), (3, "2", "rank"), (True, 1, "n")]
)
def test_bad_arguments_are_named(n, rank, name):
    with pytest.raises(ValueError, match=f"^{name} must be an integer >= "):
        count_patterns(n, rank)
