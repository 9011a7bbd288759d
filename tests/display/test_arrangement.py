"""Cells as sectors and great circles, against a sweep of directions and closed forms."""

from __future__ import annotations

import io

import numpy as np
import pytest

from cvxnn import Problem, landscape, solve
from cvxnn.architectures import ParallelReLU
from cvxnn.display import ArrangementDisplay
from cvxnn.display.arrangement import _great_circle, _hammer, _project
from tests.landscape._instances import polygon, random_problem


def circle(angles):
    return np.column_stack([np.cos(angles), np.sin(angles)])


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (2, 1), (5, 2), (9, 3)])
def test_sectors_fill_the_circle_and_have_the_patterns_of_their_directions(n, seed):
    X = np.random.default_rng(seed).standard_normal((n, 2))
    display = ArrangementDisplay.from_problem(X)
    sectors, masks = display.sectors(), display.patterns.masks
    assert len(sectors) == 2 * n
    assert np.sum(sectors[:, 1] - sectors[:, 0]) == pytest.approx(2 * np.pi, rel=1e-12)
    for (begin, end), mask in zip(sectors, masks, strict=True):
        inside = begin + (end - begin) * np.linspace(0.01, 0.99, 25)
        np.testing.assert_array_equal(circle(inside) @ X.T > 0, np.tile(mask, (25, 1)))


def test_samples_of_one_line_and_zero_samples_make_no_sector_of_their_own():
    display = ArrangementDisplay.from_problem([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(np.sort(display.sectors()[:, 0]), np.pi / 2 * np.arange(4), atol=1e-12)
    assert np.all(np.isfinite(display.plot().ax_.get_xlim()))


@pytest.mark.parametrize("problem", [polygon(5), random_problem(6, 2, 0), random_problem(7, 3, 1)])
def test_dual_function_stays_below_one_and_optimal_directions_attain_it(problem):
    display = ArrangementDisplay.from_problem(problem)
    vectors = np.random.default_rng(0).standard_normal((20_000, problem.n_features))
    swept = np.abs(display.dual_function(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    assert np.max(swept) <= 1.0 + 1e-9
    assert len(display.directions)
    np.testing.assert_allclose(display.dual_function(display.directions), display.signs, rtol=1e-6)


def test_one_sample_in_closed_form():
    # Of one sample x with target y, nu = y - f and ||x|| nu = beta: the only optimal direction is x.
    display = ArrangementDisplay.from_problem(Problem([[3.0, 4.0]], [2.0], beta=0.5))
    np.testing.assert_allclose(display.directions, [[0.6, 0.8]], atol=1e-12)
    swept = circle(np.linspace(0, 6, 50))
    np.testing.assert_allclose(display.dual_function(swept), np.maximum(swept @ [0.6, 0.8], 0.0), atol=1e-9)


def test_several_outputs_have_the_norm_of_the_dual_function():
    X = np.random.default_rng(0).standard_normal((5, 2))
    problem = Problem(X, np.random.default_rng(1).standard_normal((5, 2)), beta=0.3)
    display = ArrangementDisplay.from_problem(problem)
    assert display.signs is None
    np.testing.assert_allclose(display.dual_function(display.directions), 1.0, rtol=1e-6)
    labels = display.plot().ax_.get_legend_handles_labels()[1]
    assert "optimal direction" in labels


def test_neurons_of_a_solution_touch_the_circle_also_for_losses_without_curvature():
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((6, 2)), rng.standard_normal(6), beta=0.2, loss="huber")
    with pytest.raises(landscape.OptimalSetError, match="no curvature"):
        ArrangementDisplay.from_problem(problem)
    solution = solve(problem, tol=1e-9)
    display = ArrangementDisplay.from_solution(problem, solution)
    assert len(display.directions) == solution.network.width > 0
    np.testing.assert_allclose(display.dual_function(display.directions), display.signs, rtol=1e-5)
    swept = display.dual_function(circle(np.linspace(0, 2 * np.pi, 5000)))
    assert np.max(np.abs(swept)) <= 1.0 + 1e-9
    assert "neuron, negative output weight" in display.plot().ax_.get_legend_handles_labels()[1]
    with pytest.raises(ValueError, match="solution must hold a ReLUNetwork with 1 features"):
        ArrangementDisplay.from_solution(Problem([[1.0]], [1.0]), solution)


def test_map_of_the_sphere_keeps_areas_and_great_circles_are_at_right_angles():
    # Tissot: the Jacobian of an equal-area map is the cosine of the latitude.
    rng = np.random.default_rng(0)
    longitude, latitude = rng.uniform(-3, 3, 50), rng.uniform(-1.4, 1.4, 50)
    step = 1e-5
    across = (_hammer(longitude + step, latitude) - _hammer(longitude - step, latitude)) / (2 * step)
    up = (_hammer(longitude, latitude + step) - _hammer(longitude, latitude - step)) / (2 * step)
    np.testing.assert_allclose(across[:, 0] * up[:, 1] - across[:, 1] * up[:, 0], np.cos(latitude), rtol=1e-7)
    pole = np.array([0.3, -0.5, 0.8])
    # Points of the map go back to the sphere by the inverse of Hammer's formulas.
    for x, y in np.concatenate(_great_circle(pole))[::40]:
        z = np.sqrt(1 - (x / 4) ** 2 - (y / 2) ** 2)
        lon, lat = 2 * np.arctan2(z * x, 2 * (2 * z**2 - 1)), np.arcsin(np.clip(z * y, -1, 1))
        vector = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        assert abs(vector @ pole) < 1e-7
    ahead_and_up = _project(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(ahead_and_up, [[0.0, 0.0], [0.0, np.sqrt(2.0)]], atol=1e-7)


def test_pictures_render_and_mark_what_is_optimal():
    for problem in (random_problem(5, 2, 3), random_problem(5, 3, 3)):
        display = ArrangementDisplay.from_problem(landscape.optimal_set(problem)).plot()
        marked = [line for line in display.ax_.lines if line.get_marker() in ("^", "v")]
        assert sum(len(line.get_xdata()) for line in marked) == len(display.directions)
        picture = io.BytesIO()
        display.figure_.savefig(picture, format="png")
        assert picture.getvalue()[:4] == b"\x89PNG"


def test_refusals():
    with pytest.raises(ValueError, match="X must have two or three columns to be drawn as an arrangement; got 4"):
        ArrangementDisplay.from_problem(np.ones((3, 4)))
    with pytest.raises(ValueError, match="made of data alone"):
        ArrangementDisplay.from_problem([[1.0, 0.0]]).dual_function([[1.0, 0.0]])
    with pytest.raises(ValueError, match="these have 3 columns"):
        ArrangementDisplay.from_problem([[1.0, 0.0, 1.0]]).sectors()
    parallel = landscape.optimal_set(polygon(4), architecture=ParallelReLU(depth=2))
    with pytest.raises(ValueError, match="optimal set of parallel networks"):
        ArrangementDisplay.from_problem(parallel)
