"""Threads of the solvers: results in order, whatever their number, and errors that come back."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn._workers import in_parallel, pieces_of, workers
from cvxnn.solvers.local_search import local_search


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_pieces(count):
    with workers(count):
        assert in_parallel(lambda x: -x, range(50)) == [-x for x in range(50)]
        assert in_parallel(lambda x: x, []) == []


def test_pieces_cover_the_parts_once():
    for size in (0, 1, 7, 8, 9, 100):
        pieces = pieces_of(range(size))
        assert [x for piece in pieces for x in piece] == list(range(size))
        assert len(pieces) == min(size, 8)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_any_thread_is_raised_and_leaves_no_thread(error):
    def work(x: int) -> int:
        if x == 3:
            raise error
        return x

    before = threading.active_count()
    with workers(3), pytest.raises(error):
        in_parallel(work, range(20))
    assert threading.active_count() == before


def test_threads_keep_the_handling_of_floating_point_errors():
    def overflow(x: float) -> float:
        return float(np.float64(1e308) * x)

    with workers(3), np.errstate(over="ignore"):
        assert in_parallel(overflow, [10.0] * 6) == [np.inf] * 6


def test_work_inside_a_thread_starts_no_threads():
    def nested(x: int) -> list[int]:
        return in_parallel(lambda _: threading.get_ident(), range(4))

    with workers(2):
        assert all(len(set(found)) == 1 for found in in_parallel(nested, range(6)))


def test_the_search_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 6))
    problem = Problem(X, np.abs(X[:, 0]) + 0.1 * rng.standard_normal(2000), beta=20.0)
    found = []
    for count in (1, 3):
        with workers(count):
            found.append(local_search(problem, max_rounds=3))
    np.testing.assert_array_equal(found[0].vectors, found[1].vectors)
