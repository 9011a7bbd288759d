"""Starts of the search for neurons: unit vectors, of the kinds that their origin promises, in the promised shares."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.neuron_search import Ascents, NeuronSearch
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.search_starts import late_starts, usual_starts

COUNT, D = 6000, 60
NEURON, MAXIMUM = np.eye(D)[:1], np.eye(D)[1:2]
"""With noise of at most their own length, copies of them keep a cosine of 0.7; random vectors do not reach 0.6."""


def rows_of(seed):
    return np.random.default_rng(seed).standard_normal((50, D))


def late(origin, neurons=NEURON, maxima=(NEURON, MAXIMUM)):
    return late_starts(neurons, np.vstack(maxima), COUNT, np.random.default_rng(2), origin)


@pytest.mark.parametrize("origin", ["near", "far"])
def test_usual_starts_are_unit_vectors_without_neurons_and_on_zero_rows_too(origin):
    for rows in (rows_of(0), np.zeros((4, D))):
        for neurons in (NEURON[:0], NEURON):
            starts = usual_starts(rows, neurons, 100, np.random.default_rng(1), origin)
            np.testing.assert_allclose(np.linalg.norm(starts, axis=1), 1.0)


def test_relatives_of_the_neurons_are_half_of_the_usual_starts_near_them_and_a_quarter_far_from_them():
    def share(origin):
        starts = usual_starts(rows_of(0), NEURON, COUNT, np.random.default_rng(2), origin)
        return np.mean(np.abs(starts @ NEURON[0]) > 0.65)

    # Reflections at rows of so many features hardly turn a neuron; five twelfths of the far starts are relatives, and
    # differences of the only neuron with itself are replaced by random vectors.
    assert share("near") > 0.9
    assert 0.25 < share("far") < 5 / 12


def test_late_starts_around_maxima_are_copies_and_sums():
    starts = late("around")
    of_neuron, of_maximum = starts @ NEURON[0], starts @ MAXIMUM[0]
    # Half are copies of either, a quarter copies of the neuron, and a quarter the neuron twice.
    assert np.mean(of_maximum > 0.65) == pytest.approx(0.25, abs=0.03)
    assert np.mean(of_neuron > 0.65) == pytest.approx(0.75, abs=0.03)
    assert np.mean(of_neuron > 1.0 - 1e-12) == pytest.approx(0.25, abs=0.03)


def test_late_starts_across_are_opposites_sums_and_differences():
    starts = late("across")
    of_neuron, of_maximum = starts @ NEURON[0], starts @ MAXIMUM[0]
    assert np.mean((of_neuron < -0.65) & (np.abs(of_maximum) < 0.6)) == pytest.approx(1 / 3, abs=0.03)
    half = np.sqrt(0.5)
    both = np.isclose(of_neuron, half) & np.isclose(of_maximum, half)
    apart = np.isclose(of_neuron, -of_maximum) & np.isclose(np.abs(of_neuron), half)
    assert np.mean(both) == pytest.approx(1 / 6, abs=0.03) and np.mean(apart) == pytest.approx(1 / 6, abs=0.03)
    # The difference of a maximum with itself is no direction: a random vector takes its place.
    np.testing.assert_allclose(np.linalg.norm(starts, axis=1), 1.0)


def test_late_starts_beyond_are_random_vectors_and_differences_of_neurons():
    pair = np.eye(D)[2:4]
    starts = late("beyond", pair)
    difference = np.isclose(np.abs(starts @ (pair[0] - pair[1])), np.sqrt(2.0))
    # A quarter of all are differences of one neuron with itself: random vectors, too.
    assert np.mean(difference) == pytest.approx(0.25, abs=0.03)
    assert np.max(np.abs(starts[~difference] @ np.eye(D)[:4].T)) < 0.7


def test_late_starts_make_do_without_neurons_and_without_maxima():
    for origin in ("around", "across"):
        starts = late(origin, NEURON[:0], [MAXIMUM])
        assert np.mean(np.abs(starts @ MAXIMUM[0]) > 0.65) > 0.6
    for origin in ("around", "across", "beyond"):
        assert np.max(np.abs(late(origin, NEURON[:0], [NEURON[:0]]) @ NEURON[0])) < 0.7
        assert late_starts(NEURON, NEURON, 0, np.random.default_rng(0), origin).shape == (0, D)


def test_late_ascents_begin_beside_the_directions_of_a_pool(monkeypatch):
    problem = Problem(rows_of(3), np.ones(50), 1.0)
    search, pool, seen = NeuronSearch(problem), DirectionPool(), []
    both_signs = search._both_signs

    def watch(starts, *arguments):
        seen.append(starts)
        return both_signs(starts, *arguments)

    monkeypatch.setattr(search, "_both_signs", watch)
    for ascents in (Ascents.USUAL, Ascents.LATE):
        # Its points have any length.
        pool.replace(0.1 * MAXIMUM.astype(np.float32), np.ones(1, dtype=np.float32))
        search.find(np.ones(50), Neurons(NEURON, np.ones(1)), n_starts=400, pool=pool, ascents=ascents)
    beside = [np.mean(starts @ MAXIMUM[0] > 0.65) for starts in seen]
    assert beside[:2] == [0.0, 0.0] and beside[2] > 0.2 and beside[3] > 0.1 and beside[4] == 0.0
