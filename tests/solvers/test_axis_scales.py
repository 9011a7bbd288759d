"""Searches on data of uneven scale against the convex optimum over all patterns."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from cvxnn import Problem, patterns, solve
from cvxnn.networks import unit_rows
from cvxnn.programs.reduction import reduce_problem
from cvxnn.solvers._directions import STEPS, climb
from cvxnn.solvers.axis_scales import axis_scales, kink_axes, round_axes
from cvxnn.solvers.column_generation import generate_columns
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.kink_newton import KinkNewton
from cvxnn.solvers.local_search import local_search
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neuron_search import NeuronSearch
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

FloatArray = npt.NDArray[np.float64]

_COLUMNS = {
    "one large": np.diag([1e3, 1.0, 1.0]),
    "graded": np.diag([1e3, 1.0, 1e-2]),
    "far from zero": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1e3, 1e3, 1.0]]),
}


def _table(n: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    X[:, -1] = 1.0
    return X, rng.standard_normal(n)


def _searched(problem: Problem) -> float:
    """Objective of the search without programs on cells or a proof."""
    reduction = reduce_problem(problem)
    found = local_search(reduction.problem, max_rounds=1)
    state = ColumnState(found, found.objective(reduction.problem), np.zeros((0, reduction.problem.n_features)))
    options = ColumnOptions(1e-6, exact=False, max_iter=30, deadline=math.inf, seed=0)
    generate_columns(reduction.problem, state, options, lambda _: None)
    return reduction.expand(state.neurons).network().objective(problem)


@pytest.mark.parametrize("columns", _COLUMNS)
def test_the_search_finds_the_optimum_over_all_patterns(columns: str) -> None:
    X, y = _table(14)
    # An invertible map of the columns changes the norm of weights, not the set of patterns.
    every = patterns.enumerate_patterns(X)
    A = _COLUMNS[columns]
    problem = Problem(X @ A, y, beta=0.1)
    listed = patterns.ActivationPatterns(every.packed, every.gates @ np.linalg.inv(A).T, every.n_samples)
    truth = solve(problem, patterns=listed, tol=1e-7)
    assert truth.gap <= 1e-6
    found = _searched(problem)
    assert truth.lower_bound * (1.0 - 1e-9) <= found <= truth.objective * (1.0 + 1e-3)


def test_even_data_keep_their_axes() -> None:
    X, y = _table(60)
    assert np.array_equal(kink_axes(X), np.eye(3))
    assert np.array_equal(axis_scales(Problem(X, y, beta=0.1)), np.ones(3))


def test_scales_undo_those_of_columns_and_do_not_see_an_outlying_row() -> None:
    X, y = _table(60)
    A = _COLUMNS["far from zero"]
    for data, target in ((X @ A, y), (np.vstack([X @ A, 1e6 * (X[0] @ A)]), np.append(y, 1.0))):
        axes = kink_axes(data)
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
        scales = axis_scales(Problem(data @ axes, target, beta=1e-3))
        assert np.prod(scales) == pytest.approx(1.0)
        sizes = np.linalg.norm((data @ axes * scales)[:60], axis=0)
        assert sizes.max() <= 3.0 * sizes.min()


def test_ascent_with_costs_reaches_the_largest_ratio_on_a_circle() -> None:
    rng = np.random.default_rng(1)
    X, nu = rng.standard_normal((30, 2)).astype(np.float32), rng.standard_normal(30).astype(np.float32)
    for costs in ([1.0, 1.0], [1e-4, 1.0], [100.0, 0.01]):
        weights = np.array(costs, dtype=np.float32)
        angles = np.linspace(0.0, 2.0 * np.pi, 200_001)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ratio = np.maximum(circle @ X.T.astype(float), 0.0) @ nu.astype(float) / np.sqrt(circle**2 @ weights)
        points = unit_rows(rng.standard_normal((64, 2)).astype(np.float32))
        climb(X, nu, points, np.ones(64, np.float32), STEPS, math.inf, weights)
        reached = np.maximum(points @ X.T, 0.0) @ nu / np.sqrt(points**2 @ weights)
        assert reached.max() == pytest.approx(ratio.max(), rel=2e-3)


def test_steps_in_scaled_variables_lower_the_true_objective() -> None:
    X, y = _table(60)
    problem = reduce_problem(Problem(X @ _COLUMNS["far from zero"], y, beta=0.1)).problem
    assert not np.array_equal(axis_scales(problem), np.ones(3))
    search = NeuronSearch(problem)
    found, values = search.find(problem.dual_vector(np.zeros(60)), Neurons.empty(3), n_starts=100)
    assert np.allclose(found.masses, 1.0)
    nu = problem.dual_vector(np.zeros(60)) / problem.beta
    assert np.allclose(found.signs * (np.maximum(problem.X @ found.vectors.T, 0.0).T @ nu), values)
    drawn = np.random.default_rng(1).standard_normal((12, 3)) * axis_scales(problem)
    start = solve_masses(problem, Neurons(drawn, np.tile([1.0, -1.0], 6)))
    newton = KinkNewton(problem, search.products).minimize(start, [(1e-2, 4), (1e-4, 8)])
    smoothed = SmoothedKinks(problem).minimize(start, eps=1e-3, max_steps=12)
    for moved in (newton, smoothed):
        assert moved.objective(problem) < start.objective(problem) * 0.99


def test_round_axes_make_the_data_round_where_the_penalty_allows_it() -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((300, 4)) @ (np.eye(4) + 0.8)
    problem = Problem(X, rng.standard_normal(300), beta=1e-9)
    axes, scales = round_axes(problem)
    assert axes is not None and np.array_equal(axis_scales(problem), np.ones(4))
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-12)
    assert np.prod(scales) == pytest.approx(1.0)
    scatter = (X @ axes * scales).T @ (X @ axes * scales)
    np.testing.assert_allclose(scatter, scatter[0, 0] * np.eye(4), atol=1e-6 * scatter[0, 0])
    uneven = Problem(X * [1.0, 1e4, 1.0, 1.0], problem.y, beta=1e-9)
    axes, scales = round_axes(uneven)
    assert axes is None and np.array_equal(scales, axis_scales(uneven))
