"""Optimal sets, staircases, stationarity and regularisation paths: the data behind the pictures."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.architectures import GatedReLU
from cvxnn.display import OptimalSetDisplay, RegularizationPathDisplay, StaircaseDisplay, StationarityDisplay
from cvxnn.display.optimal_set import polytope_edges
from tests.landscape._instances import fixture, polygon, random_problem, triple


def renders(display) -> bool:
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    return picture.getvalue()[:4] == b"\x89PNG"


def test_edges_of_the_cube_and_of_the_simplex():
    # {(x, s) >= 0 : x_i + s_i = 1} is the cube: vertices are joined where one coordinate differs.
    columns = np.hstack([np.eye(3), np.eye(3)])
    corners = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    edges = polytope_edges(columns, np.hstack([corners, 1.0 - corners]))
    expected = [(i, j) for i, j in itertools.combinations(range(8), 2) if np.sum(np.abs(corners[i] - corners[j])) == 1]
    assert edges.tolist() == [list(pair) for pair in expected]
    assert len(polytope_edges(np.ones((1, 4)), np.eye(4))) == 6


def test_polytope_of_the_octagon():
    display = OptimalSetDisplay.from_problem(polygon(8)).plot()
    # The brute-force answers: ten vertices of four or five neurons, dimension 8 - 5.
    assert sorted(display.widths.tolist()) == [4] * 2 + [5] * 8 and display.dimension == 3
    # Euler's formula: each of the eight masses is zero on a face of its own, and 10 - 16 + 8 = 2.
    assert np.all(np.bincount(display.edges.ravel(), minlength=10) >= 3) and len(display.edges) == 16
    np.testing.assert_allclose(display.min_l2, display.min_l2[0])
    assert 0.0 < display.explained < 1.0 and renders(display)


def test_projection_keeps_distances_of_polytopes_that_fit_into_the_picture():
    for problem in (triple(), polygon(6), random_problem(5, 2, 0)):
        display = OptimalSetDisplay.from_problem(problem)
        assert display.dimension <= 2 and display.explained == 1.0
        for i, j in itertools.combinations(range(len(display.vertices)), 2):
            kept = np.linalg.norm(display.points[i] - display.points[j])
            assert kept == pytest.approx(np.linalg.norm(display.vertices[i] - display.vertices[j]), rel=1e-9)
        assert renders(display.plot())


def test_chosen_coordinates_are_masses():
    display = OptimalSetDisplay.from_problem(polygon(8), coordinates=(1, 6)).plot()
    np.testing.assert_array_equal(display.points, display.vertices[:, [1, 6]])
    assert display.ax_.get_ylabel() == "mass on optimal direction 6"


def test_refused_optimal_sets():
    with pytest.raises(ValueError, match="coordinates must be two different integers from 0 to 7; got"):
        OptimalSetDisplay.from_problem(polygon(8), coordinates=(1, 8))
    with pytest.raises(ValueError, match="zero network is the only optimum"):
        OptimalSetDisplay.from_problem(polygon(4, beta=100.0))
    with pytest.raises(landscape.OptimalSetError, match="raise max_vertices"):
        OptimalSetDisplay.from_problem(polygon(8), max_vertices=3)


@pytest.mark.parametrize("name", ["01_sqrt3_staircase", "04_polygon8"])
def test_stairs_are_those_of_brute_force(name):
    problem, stored = fixture(name)
    display = StaircaseDisplay.from_problem(problem).plot()
    for width, count in stored["components_by_width"].items():
        at = dict(zip(display.widths, zip(display.components, display.labelled_components, strict=True), strict=True))
        if int(width) in at:
            assert at[int(width)] == (count["up_to_permutation"], count["labelled"])
    names = display.critical_widths()
    assert "m*" in names[stored["m_star"]] and "M*" in names[stored["M_star"]]
    steps = [patch for patch in display.ax_.patches if hasattr(patch, "get_data")]
    np.testing.assert_array_equal(steps[1].get_data().values, display.components)
    assert renders(display)


def test_stairs_of_chosen_widths_leave_the_others_empty():
    display = StaircaseDisplay.from_rows(landscape.staircase(triple(), widths=[1, 2, 400])).plot()
    values = display.ax_.patches[1].get_data().values
    assert values[:2].tolist() == [1, 2] and np.all(np.isnan(values[2:-1])) and values[-1] == 1
    assert renders(display)
    with pytest.raises(ValueError, match="stairs must be a Staircase"):
        StaircaseDisplay.from_rows([1, 2])


def test_stationarity_of_an_optimum_and_of_a_network_beside_it():
    problem = random_problem(8, 2, 0)
    network = solve(problem).network
    display = StationarityDisplay.from_network(problem, network).plot()
    assert display.is_directional and np.all(display.directional <= display.tol)
    assert display.ax_.get_title() == "Stationary: yes (Clarke), yes (in every direction)"
    # The imbalance of a neuron by its definition.
    moved = ReLUNetwork(np.vstack([network.W * 1.1, [0.0, 0.0]]), np.append(network.a, 0.0))
    away = StationarityDisplay.from_network(problem, moved).plot()
    nu = problem.dual_vector(moved(problem.X))
    pull = nu @ np.maximum(problem.X @ moved.W[:-1].T, 0.0)
    expected = np.abs(problem.beta * moved.a[:-1] - pull) / (problem.beta * np.abs(moved.a[:-1]))
    np.testing.assert_allclose(away.output[:-1], expected, rtol=1e-6)
    assert away.kinds[-1] == "zero" and not away.is_directional and renders(away)


def test_residual_of_the_output_bias_is_that_of_its_gradient():
    problem = Problem([[1.0, 1.0], [2.0, 1.0]], [3.0, 1.0], beta=0.2, output_bias_decay=0.5)
    network = ReLUNetwork([[1.0, 0.0]], [1.0], output_bias=0.5)
    display = StationarityDisplay.from_network(problem, network).plot()
    nu = problem.y - network(problem.X)
    expected = abs(0.5 * 0.5 - np.sum(nu)) / (0.5 * 0.5 + np.sum(np.abs(nu)))
    assert display.output_bias == pytest.approx(expected)
    assert display.ax_.lines[-1].get_xdata().tolist() == [1] and renders(display)


def test_regularization_path_has_the_closed_form_of_one_sample():
    # One sample x = 1 with target y: f = y - beta, mass y - beta, objective beta^2/2 + beta (y - beta).
    betas = np.array([3.0, 1.5, 1.0, 0.25])
    display = RegularizationPathDisplay.from_problem(Problem([[1.0]], [2.0]), betas)
    np.testing.assert_allclose(display.betas, betas)
    assert display.beta_max == pytest.approx(2.0)
    np.testing.assert_allclose([float(np.sum(m)) for m in display.masses], np.maximum(2.0 - betas, 0.0), atol=1e-6)
    np.testing.assert_allclose(display.losses, np.minimum(betas, 2.0) ** 2 / 2, rtol=1e-5)
    assert [len(pairs) for pairs in display.links] == [0, 1, 1]
    assert len(display.plot().axes_) == 3 and renders(display)


def test_masses_add_up_to_the_penalty_and_links_join_like_with_like():
    path = landscape.regularization_path(random_problem(8, 2, 1), n_betas=8)
    display = RegularizationPathDisplay.from_path(path)
    np.testing.assert_allclose([np.sum(m) for m in display.masses], path.penalties, rtol=1e-9, atol=1e-12)
    for i, pairs in enumerate(display.links):
        before, after = path.networks[i], path.networks[i + 1]
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
        for first, second in pairs:
            u, v = before.W[first], after.W[second]
            assert u @ v >= 0.9 * np.linalg.norm(u) * np.linalg.norm(v)
            assert before.a[first] * after.a[second] > 0
    single = display.plot(panel="width")
    again = display.plot(single.axes_[1], panel="width")
    np.testing.assert_array_equal(again.ax_.lines[-2].get_ydata(), path.widths)
    with pytest.raises(ValueError, match="panel must be one of objective, width, masses; got 'mass'"):
        display.plot(panel="mass")


def test_gated_paths_are_drawn_too():
    problem = random_problem(8, 2, 2)
    path = landscape.regularization_path(problem, n_betas=4, architecture=GatedReLU(np.eye(2)))
    display = RegularizationPathDisplay.from_path(path).plot()
    np.testing.assert_allclose([np.sum(m) for m in display.masses], path.penalties, rtol=1e-9, atol=1e-12)
    for i, pairs in enumerate(display.links):
        gates = path.networks[i].gates[pairs[:, 0]], path.networks[i + 1].gates[pairs[:, 1]]
        np.testing.assert_array_equal(*gates)
