"""The search with exact concave steps, asked for violating neurons."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.thorough_search import find_thoroughly


def test_what_is_found_is_above_the_threshold_in_units_of_beta():
    """At the dual vector (3, 4) the largest value is 5, that of the other sign nothing."""
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], beta=2.0)
    for threshold, count in ((2.4, 1), (2.6, 0)):
        found, values = find_thoroughly(problem, Neurons.empty(2), n_starts=16, threshold=threshold, random_state=0)
        assert len(found) == len(values) == count
    found, values = find_thoroughly(problem, Neurons.empty(2), n_starts=16, threshold=2.4, random_state=0)
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8]], atol=1e-9)
    assert values[0] == pytest.approx(2.5) and found.signs[0] == 1.0


def test_the_dual_vector_is_that_of_the_neurons():
    """The optimum leaves the dual norm at beta: nothing violates; and less than it violates."""
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], beta=2.0)
    best = Neurons(np.array([[1.8, 2.4]]), np.array([1.0]))
    for neurons, count in ((best, 0), (Neurons(0.9 * best.vectors, best.signs), 1)):
        found, _ = find_thoroughly(problem, neurons, n_starts=16, threshold=1.0 + 1e-6, random_state=0)
        assert len(found) == count


def test_nothing_is_searched_after_the_deadline():
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], beta=2.0)
    late = time.perf_counter()
    found, values = find_thoroughly(
        problem, Neurons.empty(2), n_starts=16, threshold=1.0, random_state=0, deadline=late
    )
    assert len(found) == len(values) == 0
