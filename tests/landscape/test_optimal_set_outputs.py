"""Optimal sets of several outputs: scalar problems in disguise, closed forms, fine grids of directions, refusals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linprog

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.landscape.optimal_set import OptimalSet, OptimalSetError, optimal_set
from cvxnn.landscape.staircase import staircase
from tests.landscape._instances import grid, polygon, random_problem, triple
from tests.oracles.mass_polytope import components_by_linear_programs, vertices_by_supports
from tests.oracles.vector_program import plane_optimum

FloatArray = npt.NDArray[np.float64]

SCALAR = {
    "triple": triple(),
    "square": polygon(4),
    "hexagon": polygon(6),
    "octagon": polygon(8),
    "gauss": random_problem(12, 2, 4, beta=0.02),
    "gauss in space": random_problem(7, 3, 1),
}
LINES = [(1.0, 0.0), (0.6, -0.8), (1.0 / 3.0, 2.0 / 3.0, -2.0 / 3.0)]


def rows(o: OptimalSet) -> list[tuple[int, int, int, bool, bool]]:
    """The staircase without its words."""
    return [
        (row.width, row.components, row.labelled_components, row.isolated_points, row.continuum)
        for row in staircase(o, widths=range(12))
    ]


def matched(first: FloatArray, second: FloatArray) -> npt.NDArray[np.intp]:
    """For each direction of the first list its place in the second; both hold the same."""
    assert first.shape == second.shape
    order = np.argmax(first @ second.T, axis=1)
    assert np.array_equal(np.sort(order), np.arange(len(first)))
    np.testing.assert_allclose(second[order], first, atol=1e-9)
    return order


def sorted_rows(matrix: FloatArray) -> FloatArray:
    return matrix[np.lexsort(np.round(matrix, 7).T[::-1])]


@pytest.mark.parametrize("line", LINES, ids=["one column", "two", "three"])
@pytest.mark.parametrize("name", SCALAR)
def test_targets_on_a_line_give_the_scalar_set(name: str, line: tuple[float, ...]) -> None:
    scalar, v = SCALAR[name], np.array(line)
    expected = optimal_set(scalar)
    o = optimal_set(Problem(scalar.X, scalar.y[:, None] * v, scalar.beta))
    assert o.is_clear
    assert o.objective == pytest.approx(expected.objective, rel=1e-12)
    order = matched(expected.directions, o.directions)
    np.testing.assert_allclose(o.outputs[order], expected.signs[:, None] * v, atol=1e-9)
    np.testing.assert_allclose(sorted_rows(o.vertices()[:, order]), sorted_rows(expected.vertices()), atol=1e-9)
    np.testing.assert_allclose(o.mass_range()[order], expected.mass_range(), atol=1e-9)
    assert (o.min_width, o.max_irreducible_width) == (expected.min_width, expected.max_irreducible_width)
    assert (o.rank, o.dimension) == (expected.rank, expected.dimension)
    assert rows(o) == rows(expected)
    assert o.spurious_free_width - 1 == (expected.spurious_free_width - 1) * len(v)


def test_many_samples_on_common_circles() -> None:
    """Nine samples on a grid: up to four kinks meet in one direction."""
    scalar = grid(3)
    expected = optimal_set(scalar)
    o = optimal_set(Problem(scalar.X, scalar.y[:, None] * np.array(LINES[1]), scalar.beta))
    order = matched(expected.directions, o.directions)
    np.testing.assert_allclose(o.outputs[order], expected.signs[:, None] * np.array(LINES[1]), atol=1e-9)
    np.testing.assert_allclose(o.mass_range()[order], expected.mass_range(), atol=1e-8)
    assert (o.min_width, o.dimension) == (expected.min_width, expected.dimension)


def test_two_classes_are_a_logistic_output_of_scaled_data() -> None:
    """Outputs that sum to zero make the softmax loss that of their difference, sqrt(2) times the common length."""
    corners = polygon(8).X
    labels = np.arange(8) % 2
    expected = optimal_set(Problem(np.sqrt(2.0) * corners, 2.0 * labels - 1.0, beta=0.1, loss="logistic"))
    o = optimal_set(Problem(corners, labels, beta=0.1, loss="softmax"))
    assert expected.dimension == 2
    order = matched(expected.directions, o.directions)
    np.testing.assert_allclose(
        o.outputs[order], expected.signs[:, None] * np.array([-1.0, 1.0]) / np.sqrt(2.0), atol=1e-9
    )
    np.testing.assert_allclose(sorted_rows(o.vertices()[:, order]), sorted_rows(expected.vertices()), atol=1e-8)
    assert rows(o) == rows(expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_of_the_softmax_loss_closes_to_rounding(seed: int) -> None:
    """Its dual vectors are rounded to a grid, so that the largest multiple of a tight one may be infeasible."""
    rng = np.random.default_rng(seed)
    o = optimal_set(Problem(rng.standard_normal((5, 2)), np.arange(5) % 3, beta=0.2, loss="softmax"))
    bound, scale = scaled_dual_bound(o.problem, o.problem.project_dual(o.dual), o.problem.beta)
    assert o.objective * (1.0 - 1e-11) <= bound <= o.objective * (1.0 + 1e-13)
    assert scale <= 1.0
    assert o.gap <= 1e-11
    np.testing.assert_allclose(np.sum(o.fit, axis=1), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.sum(o.outputs, axis=1), 0.0, atol=1e-10)


def test_opposite_samples_in_closed_form() -> None:
    """Each sample has a neuron of its own: its mass is the norm of the target less beta."""
    Y = np.array([[3.0, 4.0], [-1.0, 0.0]])
    o = optimal_set(Problem([[1.0], [-1.0]], Y, beta=0.5))
    np.testing.assert_allclose(o.directions, [[-1.0], [1.0]])
    np.testing.assert_allclose(o.outputs, [[-1.0, 0.0], [0.6, 0.8]], atol=1e-14)
    np.testing.assert_allclose(o.vertices(), [[0.5, 4.5]], atol=1e-13)
    np.testing.assert_allclose(o.fit, [[2.7, 3.6], [-0.5, 0.0]], atol=1e-13)
    np.testing.assert_allclose(o.dual, [[0.3, 0.4], [-0.5, 0.0]], atol=1e-13)
    assert o.columns.shape == (2, 2, 2)
    assert o.margin == pytest.approx(1e-3)


def grid_of_directions(rank: int) -> FloatArray:
    """Unit vectors that are at most 0.02 apart in the plane, 0.04 in space."""
    if rank == 2:
        angles = np.linspace(0.0, 2.0 * np.pi, 4000, endpoint=False)
        return np.column_stack([np.cos(angles), np.sin(angles)])
    count = 12_000
    z = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    radius = np.sqrt(1.0 - z * z)
    return np.column_stack([radius * np.cos(turn), radius * np.sin(turn), z])


def ascend(problem: Problem, N: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Random search on the sphere around points, with shrinking steps: local maxima of ``||N^T (X u)_+||``."""
    rng = np.random.default_rng(0)

    def value(u: FloatArray) -> FloatArray:
        return np.linalg.norm(np.maximum(u @ problem.X.T, 0.0) @ N, axis=1)

    points, best = points.copy(), value(points)
    for step in np.geomspace(3e-2, 1e-8, 2500):
        moved = points + step * rng.standard_normal(points.shape)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        heights = value(moved)
        up = heights > best
        points[up], best[up] = moved[up], heights[up]
    return points, best


@pytest.mark.parametrize(
    ("n", "d", "c", "loss", "beta", "seed"),
    [
        (10, 2, 2, "squared", 0.3, 0),
        (14, 2, 3, "logistic", 0.5, 1),
        (9, 3, 2, "squared", 0.5, 2),
        (12, 3, 3, "softmax", 0.4, 3),
        (12, 3, 2, "huber", 0.3, 8),
    ],
)
def test_directions_are_the_maxima_that_a_search_finds(
    n: int, d: int, c: int, loss: str, beta: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.integers(0, c, n) if loss == "softmax" else 0.5 * rng.standard_normal((n, c))
    problem = Problem(X, np.sign(y) if loss == "logistic" else y, beta, loss)
    o = optimal_set(problem)
    assert o.is_clear
    assert o.directions.size
    every = grid_of_directions(d)
    values = np.linalg.norm(np.maximum(every @ X.T, 0.0) @ o.dual, axis=1)
    assert np.max(values) <= beta * (1.0 + 1e-12)
    found, heights = ascend(problem, o.dual, every[values >= 0.97 * beta])
    assert np.max(heights) <= beta * (1.0 + 1e-12)
    top = found[heights >= beta * (1.0 - 1e-9)]
    assert len(top)
    assert np.min(np.max(top @ o.directions.T, axis=1)) >= 1.0 - 1e-6
    images = np.maximum(X @ o.directions.T, 0.0).T @ o.dual
    np.testing.assert_allclose(images / beta, o.outputs, atol=1e-9)
    np.testing.assert_allclose(problem.dual_vector(o.fit), o.dual, atol=1e-10)
    for masses in o.vertices():
        np.testing.assert_allclose(o.columns @ masses, o.fit, atol=1e-9)
        assert o.network(masses).objective(problem) == pytest.approx(o.objective, rel=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_objective_is_that_of_the_semidefinite_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((8, 2)), rng.standard_normal((8, 2))
    assert optimal_set(Problem(X, Y, 0.1)).objective == pytest.approx(plane_optimum(X, Y, 0.1), rel=1e-7)


def scattered(seed: int = 1) -> Problem:
    """Random data with a small beta: opposite directions come in pairs, more of them than linear functions."""
    rng = np.random.default_rng(seed)
    return Problem(rng.standard_normal((8, 2)), rng.standard_normal((8, 2)), beta=0.01)


@pytest.mark.parametrize("seed", [1, 3])
def test_ambiguous_sets_of_two_outputs(seed: int) -> None:
    problem = scattered(seed)
    o = optimal_set(problem)
    assert o.dimension >= 1
    assert np.linalg.matrix_rank(o.outputs, tol=0.1) == 2
    vertices = o.vertices()
    matrix, fit = o.columns.reshape(-1, len(o.directions)), o.fit.ravel()
    np.testing.assert_allclose(sorted_rows(vertices), sorted_rows(vertices_by_supports(matrix, fit)), atol=1e-7)
    for row in staircase(o, widths=range(o.min_width - 1, o.connected_width + 1)):
        assert row.components == components_by_linear_programs(matrix, fit, row.width)
    for cost, (low, high) in zip(np.eye(len(o.directions)), o.mass_range(), strict=True):
        ends = [linprog(s * cost, A_eq=matrix, b_eq=fit, bounds=(0, None)).fun for s in (1.0, -1.0)]
        assert (ends[0], -ends[1]) == pytest.approx((low, high), abs=1e-6)
    assert np.ptp(np.sum(vertices, axis=1)) <= 1e-9 * o.total_mass
    for chosen in range(4):
        net = o.sample(chosen)
        assert net.objective(problem) == pytest.approx(o.objective, rel=1e-10)
        assert o.contains(net)
        np.testing.assert_allclose(matrix @ o.masses_of(net), fit, atol=1e-7)
    assert o.network(o.min_l2(), width=15, split=True).width == 15


def test_rotations_and_units_carry_over() -> None:
    problem = scattered()
    o = optimal_set(problem)
    turn = np.array([[0.8, 0.6, 0.0], [-0.6 * 0.28, 0.8 * 0.28, 0.96]])
    other = optimal_set(Problem(1e3 * problem.X[:, ::-1], 1e-2 * problem.y @ turn, beta=problem.beta * 10.0))
    order = matched(o.directions, other.directions[:, ::-1])
    np.testing.assert_allclose(other.outputs[order], o.outputs @ turn, atol=1e-9)
    np.testing.assert_allclose(
        sorted_rows(other.vertices()[:, order]) * 1e5, sorted_rows(o.vertices()), atol=1e-9, rtol=1e-9
    )
    assert rows(other) == rows(o)


def test_weights_repeat_samples_and_leave_them_out() -> None:
    rng = np.random.default_rng(6)
    X, Y, counts = rng.standard_normal((7, 2)), rng.standard_normal((7, 2)), np.array([1, 2, 0, 1, 3, 1, 1])
    o = optimal_set(Problem(X, Y, 0.2, sample_weight=counts))
    expected = optimal_set(Problem(np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0), 0.2))
    np.testing.assert_allclose(o.directions, expected.directions, atol=1e-9)
    np.testing.assert_allclose(o.vertices(), expected.vertices(), atol=1e-9)
    assert np.isnan(o.fit).all(axis=1).tolist() == (counts == 0).tolist()
    assert o.spurious_free_width == expected.spurious_free_width


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_the_zero_network(loss: str) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.integers(0, 3, 6)
    o = optimal_set(Problem(X, y if loss == "softmax" else np.eye(3)[y], beta=100.0, loss=loss))
    assert (o.min_width, o.vertices().shape, o.network([], width=2).a.shape) == (0, (1, 0), (2, 3))
    assert o.contains(ReLUNetwork.zero(2, 3))
    assert staircase(o)[0].phase == "one network"


def test_a_solution_and_limits_are_taken() -> None:
    problem = scattered()
    solution = solve(problem, tol=1e-9)
    o = optimal_set(problem, solution=solution, max_patterns=None, time_limit=100.0)
    assert o.solution is solution
    np.testing.assert_array_equal(o.directions, optimal_set(problem, solution=solution).directions)


CONTINUA = {
    "the cell of two samples": Problem(np.eye(2), [[1.1, 0.3], [0.3, 1.1]], beta=0.1),
    "ends of an arc only": Problem(np.eye(2), 1.1 * np.eye(2), beta=0.1),
    "an arc between two cells": Problem(np.eye(3), [[1.1, 0.3, 0.0], [0.3, 1.1, 0.0], [0.0, 0.0, 0.05]], beta=0.1),
    "a cell in space": Problem(np.eye(3), 1.1 * np.eye(3) + 0.2, beta=0.1),
}


@pytest.mark.parametrize("name", CONTINUA)
def test_a_continuum_of_directions_is_refused(name: str) -> None:
    problem = CONTINUA[name]
    # With N = beta I on the first two samples every direction between them attains beta.
    N = problem.dual_vector(solve(problem, tol=1e-12).network(problem.X))
    arc = np.linspace(0.0, 0.5 * np.pi, 7)
    values = np.linalg.norm(np.column_stack([np.cos(arc), np.sin(arc)]) @ N[:2], axis=1)
    np.testing.assert_allclose(values, problem.beta, rtol=1e-5)
    with pytest.raises(OptimalSetError, match="The optimal directions form a continuum") as caught:
        optimal_set(problem)
    assert "\n" not in str(caught.value)
    with pytest.raises(OptimalSetError, match="continuum"):
        staircase(problem)


def test_an_arc_inside_a_cell_is_seen_from_its_boundary() -> None:
    """The leading singular vectors of a cell span a plane that crosses it; no vertex or arc lies in that plane."""
    X = np.vstack([np.eye(3), [[1.0, 1.0, 1.0]]])
    plane = np.linalg.qr(np.array([[1.0, 1.0, 1.0], [0.3, -0.4, 0.2]]).T)[0]
    # Inside the orthant all samples are active: there the matrix of the cell is beta times a projection.
    beta = 0.2
    N = np.vstack([beta * plane @ plane.T, np.zeros((1, 3))])
    fit = np.maximum(X @ plane[:, :1] * np.sign(plane[0, 0]), 0.0) @ (plane[:, :1] * np.sign(plane[0, 0])).T
    inside = plane @ np.array([[1.0, 1.0], [0.15, -0.15]]) * np.sign(plane[0, 0])
    assert np.all(inside > 0.0)
    with pytest.raises(OptimalSetError, match="continuum"):
        optimal_set(Problem(X, fit + N, beta=beta))


def test_refusals_in_one_sentence() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(OptimalSetError, match=r"X has rank 4 and up to 16 activation patterns; for several outputs"):
        optimal_set(Problem(rng.standard_normal((4, 4)), rng.standard_normal((4, 2))))
    wide = Problem(rng.standard_normal((30, 3)), rng.standard_normal((30, 2)))
    with pytest.raises(
        OptimalSetError, match=r"up to 872 activation patterns \(30 samples on different lines, rank 3\)"
    ):
        optimal_set(wide, max_patterns=800)
    with pytest.raises(OptimalSetError, match="needs beta > 0"):
        optimal_set(Problem(np.eye(2), np.eye(2), beta=0.0))
    with pytest.raises(OptimalSetError, match="huber loss has no curvature at the optimal fit of 1 of 2 samples"):
        optimal_set(Problem([[1.0], [-1.0]], [[5.0, 0.1], [0.1, 0.2]], beta=1.2, loss="huber"))
    with pytest.raises(ValueError, match=r"connect takes problems with one output"):
        landscape.connect(wide, ReLUNetwork.zero(3, 2), ReLUNetwork.zero(3, 2))


def test_the_table_for_notebooks() -> None:
    o = optimal_set(scattered())
    assert f'>optimal directions</th><td style="text-align:left">{len(o.directions)}</td>' in o._repr_html_()


def test_networks_that_are_not_optimal() -> None:
    problem = scattered()
    o = optimal_set(problem)
    net = o.network(o.vertices()[0])
    with pytest.raises(ValueError, match="signs belong to problems of one output; this one has 2"):
        _ = o.signs
    with pytest.raises(ValueError, match="net must be a ReLUNetwork with 2 features and 2 outputs"):
        o.contains(ReLUNetwork(net.W, net.a[:, 0]))
    with pytest.raises(ValueError, match="features and 2 outputs; got ndarray"):
        o.contains(problem.X)
    with pytest.raises(OptimalSetError, match="is not balanced"):
        o.masses_of(ReLUNetwork(2.0 * net.W, 0.5 * net.a))
    turned = net.a @ np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    with pytest.raises(OptimalSetError, match="has a direction and output weights that no optimal network uses"):
        o.masses_of(ReLUNetwork(net.W, turned))
    with pytest.raises(OptimalSetError, match="The fit differs from the optimal one"):
        o.masses_of(ReLUNetwork(1.1 * net.W, 1.1 * net.a))
    scalar = solve(Problem(problem.X, problem.y[:, 0], problem.beta))
    with pytest.raises(ValueError, match="solution must hold a ReLUNetwork with 2 features and 2 outputs"):
        optimal_set(problem, solution=scalar)
