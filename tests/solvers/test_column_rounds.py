"""Rounds of column generation: what a search may cost, early and late, and when a finer smoothing takes over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.column_rounds import ColumnRounds
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.neuron_search import Ascents
from cvxnn.solvers.neurons import Neurons

FINEST = 3


def rounds(n=20, d=3, **options):
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((n, d)), rng.standard_normal(n), 1.0)
    settings = {"tol": 1e-4, "exact": False, "max_iter": 100, "deadline": math.inf, "seed": 0, **options}
    return ColumnRounds(problem, ColumnOptions(**settings))


def state_of(loop, neurons=None):
    neurons = Neurons.empty(loop.problem.X.shape[1]) if neurons is None else neurons
    return ColumnState(neurons, neurons.objective(loop.problem), np.zeros((0, 0)))


def searched(loop, state, monkeypatch):
    """Arguments of the first search of a round in which all find nothing."""
    seen = []

    def find(nu, neurons, **arguments):
        seen.append(arguments)
        return Neurons.empty(loop.problem.X.shape[1]), np.zeros(0)

    monkeypatch.setattr(loop.search, "find", find)
    loop._find(state, 1)
    return seen[0]


def test_late_searches_of_large_tables_take_more_starts_and_what_was_late_remains_so(monkeypatch):
    loop = rounds(2000, 800)
    state = state_of(loop)
    early = searched(loop, state, monkeypatch)
    state.violation = 0.04
    late = searched(loop, state, monkeypatch)
    state.violation = 0.2
    later = searched(loop, state, monkeypatch)
    assert early["ascents"] is Ascents.USUAL and early["pool"] is None
    assert late["ascents"] is later["ascents"] is Ascents.LATE
    assert late["pool"] is later["pool"] is loop.pool
    # Their work is linear in n d: a quarter of the starts at first, with the pooled ones alike.
    assert late["n_starts"] == pytest.approx(4 * early["n_starts"] + 2, abs=2) and later["n_starts"] == late["n_starts"]
    assert late["n_pooled"] == pytest.approx(4 * early["n_pooled"] + 2, abs=2)


def test_searches_of_small_tables_take_as_many_starts_late_as_early(monkeypatch):
    loop = rounds()
    state = state_of(loop)
    early = searched(loop, state, monkeypatch)
    state.violation = 0.04
    assert searched(loop, state, monkeypatch)["n_starts"] == early["n_starts"] == 800


def test_a_pool_of_earlier_solves_takes_the_place_of_most_starts(monkeypatch):
    pool = DirectionPool()
    pool.replace(np.eye(3, dtype=np.float32), np.ones(3, dtype=np.float32))
    loop = rounds(pool=pool)
    first = searched(loop, state_of(loop), monkeypatch)
    assert first["n_starts"] == 0 and first["pool"] is pool and first["n_pooled"] == 400
    assert loop.starts == 200


@pytest.mark.parametrize(
    ("gains", "levels"),
    [
        # A finer one from below 1e-3, 1e-4 and 1e-7 of gain, one at a time.
        ([1e-2, 5e-4, 5e-4, 5e-5, 5e-5], [0, 0, 1, 1, 2]),
        ([5e-6, 1e-2, 5e-6, 1e-2], [0, 1, 1, 2]),
        # Without progress the finest at once, and seven such rounds in a row end it.
        ([1e-9, 1e-2, 1e-9, *[0.0] * 6], [0, *[FINEST] * 8]),
    ],
)
def test_finer_smoothings_take_over_where_rounds_gain_little(gains, levels, monkeypatch):
    loop = rounds(tol=1e-4, max_iter=len(gains))
    state, seen = state_of(loop), []

    def round_(state, found, level):
        seen.append(level)
        state.objective *= 1.0 - gains[len(seen) - 1]

    monkeypatch.setattr(loop, "_find", lambda state, effort: Neurons.empty(3))
    monkeypatch.setattr(loop, "_round", round_)
    settled = []
    monkeypatch.setattr(loop, "_settle", lambda state, deadline: settled.append(len(seen)))
    loop.run(state, lambda state: None)
    assert seen == levels
    assert state.outcome == ("stalled" if gains[-1] == 0.0 else "max_iter")
    # Before the last of the slow rounds, and at the end.
    assert settled == ([len(gains) - 1] if gains[-1] == 0.0 else []) + [len(gains)]


def test_where_a_proof_follows_one_search_with_few_starts_is_enough(monkeypatch):
    loop = rounds(exact=True)
    state, seen = state_of(loop), []

    def find(nu, neurons, **arguments):
        seen.append((arguments["n_starts"], arguments["threshold"]))
        return Neurons.empty(3), np.zeros(0)

    monkeypatch.setattr(loop.search, "find", find)
    monkeypatch.setattr(loop, "_thorough", lambda *_: (Neurons.empty(3), np.zeros(0)))
    loop._find(state, 1)
    # Violations that a proof would still see count, too.
    assert seen == [(200, pytest.approx(1.0 + 1e-7, rel=1e-12))]
    assert state.outcome == "search"


def test_another_method_takes_over_where_a_round_gains_little(monkeypatch):
    loop = ColumnRounds(rounds().problem, rounds(exact=True).options, least_gain=1e-6)
    state, gains = state_of(loop), [1e-2, 2e-6, 5e-7, 1e-2]

    def round_(state, found, level):
        state.objective *= 1.0 - gains.pop(0)

    monkeypatch.setattr(loop, "_find", lambda state, effort: Neurons.empty(3))
    monkeypatch.setattr(loop, "_round", round_)
    loop.run(state, lambda state: None)
    assert gains == [1e-2] and state.outcome == "stalled"
    assert not loop.may_be_thorough and rounds().may_be_thorough


def test_violating_neurons_that_are_given_are_the_first_to_join(monkeypatch):
    loop = rounds()
    given = Neurons(np.eye(3)[:1], np.ones(1))
    events = []

    def find(state, effort):
        events.append("search")
        state.outcome = "search"

    monkeypatch.setattr(loop, "_find", find)
    monkeypatch.setattr(loop, "_round", lambda state, found, level: events.append(found))
    loop.run(state_of(loop), lambda state: None, given)
    assert events == [given, "search"]
