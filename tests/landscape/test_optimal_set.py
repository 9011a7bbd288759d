"""The optimal set against stored answers, closed forms, all cells, and many trained or moved networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.optimal_set import OptimalSet, OptimalSetError, optimal_set
from cvxnn.losses import HuberLoss
from cvxnn.patterns import enumerate_patterns
from tests.landscape._instances import fixture, grid, polygon, random_problem, triple
from tests.oracles.mass_polytope import vertices_by_supports
from tests.oracles.pricing import dual_norm_by_strings

FloatArray = npt.NDArray[np.float64]


def atoms_by_cells(problem: Problem, nu: FloatArray) -> list[tuple[FloatArray, float]]:
    """Maximiser of every cell and sign by non-negative least squares; those that attain beta, each once."""
    found: list[tuple[FloatArray, float]] = []
    for mask in enumerate_patterns(problem.X).masks:
        oriented = np.where(mask, 1.0, -1.0)[:, None] * problem.X
        for sign in (1.0, -1.0):
            target = sign * (nu * mask) @ problem.X
            rho, value = nnls(oriented.T, -target, maxiter=10_000)
            # Next to a direction that is close to a kink, the cell behind the kink has a maximum not far below beta.
            if value < problem.beta * (1.0 - 1e-11):
                continue
            u = (target + oriented.T @ rho) / value
            if not any(s == sign and np.linalg.norm(u - v) < 1e-4 for v, s in found):
                found.append((u, sign))
    return found


def check_atoms(o: OptimalSet) -> None:
    """The directions are unit vectors on the level, all of them, and no other direction is above it."""
    p = o.problem
    values = o.signs * (np.maximum(p.X @ o.directions.T, 0.0).T @ o.dual)
    np.testing.assert_allclose(values, p.beta, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(o.directions, axis=1), 1.0, rtol=1e-13)
    expected = atoms_by_cells(p, o.dual)
    assert len(expected) == len(o.signs)
    for u, sign in expected:
        distance = np.linalg.norm(o.directions - u, axis=1)
        assert np.min(distance) < 1e-6
        assert o.signs[np.argmin(distance)] == sign


def check_members(o: OptimalSet) -> None:
    """Everything made from the set is optimal and recognised; everything moved off it is not."""
    p = o.problem
    for masses in (o.sparsest(), o.densest(), o.min_l2(), *o.vertices()[:3]):
        net = o.network(masses)
        np.testing.assert_allclose(net.objective(p), o.objective, rtol=1e-12)
        np.testing.assert_allclose(o.masses_of(net), masses, atol=1e-9 * o.total_mass)
        for split in (False, True):
            wide = o.network(masses, width=net.width + 3, split=split)
            assert wide.width == net.width + 3
            assert o.contains(wide, tol=1e-9)
    for seed in range(5):
        net = o.sample(seed)
        np.testing.assert_allclose(net.objective(p), o.objective, rtol=1e-12)
        assert o.contains(net, tol=1e-9)
        fixed = o.sample(seed, width=o.min_width + seed)
        assert fixed.width == o.min_width + seed
        assert o.contains(fixed, tol=1e-9)
        rng = np.random.default_rng(seed)
        assert not o.contains(ReLUNetwork(net.W + 1e-2 * rng.standard_normal(net.W.shape), net.a))
        assert not o.contains(ReLUNetwork(1.01 * net.W, net.a / 1.01))
        assert not o.contains(ReLUNetwork(1.01 * net.W, 1.01 * net.a))


@pytest.mark.parametrize(
    "name",
    [
        "01_sqrt3_staircase",
        "03_polygon6",
        "04_polygon8",
        "06_random_sq_n6_d3",
        "07_random_logistic_n6_d2",
        "08_grid3x3_bias_degenerate",
        "10_zero_optimum",
    ],
)
def test_stored_answers(name: str) -> None:
    problem, stored = fixture(name)
    o = optimal_set(problem)
    np.testing.assert_allclose(o.objective, stored["p_star"], rtol=1e-10)
    np.testing.assert_allclose(o.fit, stored["fit"], atol=1e-8)
    np.testing.assert_allclose(o.dual, stored["dual_nu"], atol=1e-8)
    np.testing.assert_allclose(o.total_mass, stored["total_mass"], rtol=1e-8, atol=1e-12)
    assert (len(o.signs), o.rank, len(o.vertices())) == (stored["n_atoms"], stored["atom_rank"], stored["n_vertices"])
    assert (o.min_width, o.max_irreducible_width) == (stored["m_star"], stored["M_star"])
    assert o.is_unique == stored["optimal_unique_up_to_split_perm"]
    assert sorted(np.sum(o.vertices() > 0.0, axis=1)) == sorted(stored["vertex_support_sizes"])
    assert o.is_clear
    for u, sign in zip(stored["atoms_directions"], stored["atoms_signs"], strict=True):
        assert np.any((np.linalg.norm(o.directions - u, axis=1) < 1e-6) & (o.signs == sign))


def test_closed_form_of_the_continuum() -> None:
    o = optimal_set(triple())
    half = np.sqrt(3.0) / 2.0
    np.testing.assert_allclose(o.directions, [[-half, 0.5], [0.0, 1.0], [half, 0.5]], atol=1e-12)
    np.testing.assert_allclose(o.vertices(), [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(o.mass_range(), [[0.0, 0.5], [0.0, 1.0], [0.0, 0.5]], atol=1e-12)
    # The point (t, 1 - 2 t, t) of least norm has t = 1/3.
    np.testing.assert_allclose(o.min_l2(), [1.0 / 3.0] * 3, atol=1e-12)
    np.testing.assert_allclose([o.objective, o.total_mass], [0.21, 1.0], rtol=1e-12)
    assert (o.connected_width, o.spurious_free_width) == (3, 3)


@pytest.mark.parametrize("corners", range(4, 13))
def test_regular_polygons(corners: int) -> None:
    o = optimal_set(polygon(corners))
    check_atoms(o)
    check_members(o)
    vertices = o.vertices()
    np.testing.assert_allclose(np.column_stack([vertices.min(axis=0), vertices.max(axis=0)]), o.mass_range(), atol=1e-9)
    # The symmetry of the data carries over: the fit is constant, and so are the least-norm masses on each orbit.
    np.testing.assert_allclose(o.fit, o.fit[0], rtol=1e-10)
    if corners <= 8:
        expected = vertices_by_supports(o.columns, o.fit)
        assert len(expected) == len(vertices)
        np.testing.assert_array_equal(np.unique(expected > 0.0, axis=0), np.unique(vertices > 0.0, axis=0))


@pytest.mark.parametrize(
    "problem",
    [
        grid(3),
        grid(4),
        polygon(7, loss="logistic"),
        random_problem(8, 2, 0, loss="logistic"),
        random_problem(10, 3, 1, beta=0.3),
        random_problem(12, 2, 4, beta=0.02),
        Problem([[1.0, 2.0], [1.0, 2.0], [-2.0, -4.0], [0.0, 0.0], [3.0, 1.0]], [1.0, 0.8, -1.0, 5.0, 2.0], beta=0.2),
        Problem(np.eye(3)[:, [0, 1, 2, 0]], [1.0, -1.0, 2.0], beta=0.1),
        Problem([[2.0]], [3.0], beta=0.5),
        Problem(np.column_stack([np.linspace(-1, 1, 9), np.ones(9)]), np.abs(np.linspace(-1, 1, 9)), beta=0.01),
    ],
    ids=["grid3", "grid4", "polygon7log", "log", "gauss", "small beta", "duplicates", "wide", "scalar", "abs"],
)
def test_directions_are_those_of_all_cells(problem: Problem) -> None:
    o = optimal_set(problem)
    check_atoms(o)
    check_members(o)
    assert o.contains(solve(problem, tol=1e-10).network)
    if problem.n_samples <= 9:
        assert dual_norm_by_strings(problem.X, o.dual) <= problem.beta * (1.0 + 1e-10)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 7),
    d=st.integers(1, 3),
    beta=st.sampled_from([0.05, 0.3, 1.0]),
    loss=st.sampled_from(["squared", "logistic"]),
)
def test_integer_data(seed: int, n: int, d: int, beta: float, loss: str) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (n, d)).astype(float)
    y = rng.choice([-1.0, 1.0], n) if loss == "logistic" else rng.integers(-2, 3, n).astype(float)
    problem = Problem(X, y, beta=beta, loss=loss)
    o = optimal_set(problem)
    np.testing.assert_allclose(o.objective, solve(problem, tol=1e-9).objective, rtol=1e-8, atol=1e-12)
    if not np.any(X):
        assert len(o.signs) == 0
        return
    check_atoms(o)
    if o.min_width:
        check_members(o)
        expected = vertices_by_supports(o.columns, o.fit)
        np.testing.assert_array_equal(np.unique(expected > 0.0, axis=0), np.unique(o.vertices() > 0.0, axis=0))


def test_many_opposite_pairs_make_random_optima_ambiguous() -> None:
    # The dual vector is orthogonal to the features, so that directions are optimal in opposite pairs. Mass moved from
    # one to the other adds a linear function of the features: more pairs than features make the optimum ambiguous.
    o = optimal_set(random_problem(12, 2, 4, beta=0.02))
    np.testing.assert_allclose(o.problem.X.T @ o.dual, 0.0, atol=1e-12)
    cosines = o.directions @ o.directions.T
    pairs = np.sum((cosines < -1.0 + 1e-9) & (np.outer(o.signs, o.signs) > 0.0)) // 2
    assert 2 * pairs == len(o.signs) > 4
    assert o.dimension == pairs - 2
    check_members(o)


def test_zero_weights_leave_samples_out() -> None:
    problem = random_problem(8, 2, 3)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    weighted = Problem(problem.X, problem.y, beta=0.1, sample_weight=weights)
    index = np.repeat(np.arange(8), weights.astype(int))
    repeated = optimal_set(Problem(problem.X[index], problem.y[index], beta=0.1))
    o = optimal_set(weighted)
    np.testing.assert_allclose(o.directions, repeated.directions, atol=1e-9)
    np.testing.assert_allclose(o.mass_range(), repeated.mass_range(), atol=1e-9)
    np.testing.assert_array_equal(np.isnan(o.fit), weights == 0.0)
    np.testing.assert_array_equal(o.dual[weights == 0.0], 0.0)
    np.testing.assert_allclose(o.objective, repeated.objective, rtol=1e-12)
    assert o.spurious_free_width == repeated.spurious_free_width
    check_members(o)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale: float) -> None:
    base, problem = optimal_set(polygon(6)), polygon(6)
    scaled = optimal_set(Problem(scale * problem.X, problem.y, beta=scale * problem.beta))
    np.testing.assert_allclose(scaled.directions, base.directions, atol=1e-10)
    np.testing.assert_allclose(scaled.vertices() * scale, base.vertices(), atol=1e-10)
    other = optimal_set(Problem(problem.X, scale * problem.y, beta=scale * problem.beta))
    np.testing.assert_allclose(other.vertices() / scale, base.vertices(), atol=1e-10)


def test_largest_beta_and_beyond() -> None:
    problem = polygon(5)
    top = dual_norm_by_strings(problem.X, problem.y)
    for beta, atoms in ((top, 10), (1.1 * top, 0)):
        o = optimal_set(Problem(problem.X, problem.y, beta=beta))
        assert len(o.signs) in (0, atoms)
        assert (o.min_width, o.max_irreducible_width, o.connected_width) == (0, 0, 0)
        assert o.vertices().shape == (1, len(o.signs))
        assert o.is_unique
        assert o.total_mass == 0.0
        assert o.contains(ReLUNetwork.zero(2))
        assert o.contains(ReLUNetwork(np.zeros((3, 2)), np.zeros(3)))
        assert not o.contains(ReLUNetwork([[1.0, 0.0]], [1.0]))
        assert (o.sample(0).width, o.sample(0, width=2).width) == (0, 2)
    near = optimal_set(Problem(problem.X, problem.y, beta=top * (1.0 - 1e-5)))
    assert len(near.vertices()) == 22
    check_members(near)
    hidden = optimal_set(Problem(problem.X, problem.y, beta=top * (1.0 - 1e-10)))
    for ask in (hidden.vertices, hidden.sparsest, lambda: hidden.min_width, lambda: hidden.connected_width):
        with pytest.raises(OptimalSetError, match="certain to a relative"):
            ask()
    assert hidden.contains(hidden.sample(3), tol=1e-3)
    with pytest.raises(OptimalSetError, match="smallest one for which the zero network is optimal"):
        optimal_set(Problem(problem.X, problem.y, beta=top * (1.0 - 1e-12)))


@pytest.mark.parametrize("share", [0.9, 0.999, 0.9999, 0.999999])
@pytest.mark.parametrize(
    ("corners", "phase", "count", "low", "high"),
    [
        (7, 0.3, 198, 6, 7),
        (7, np.pi / 2.0, 198, 6, 7),
        (9, 0.3, 1016, 8, 9),
        (9, np.pi / 2.0, 1016, 8, 9),
        (10, 0.0, 12, 5, 7),
        (10, np.pi / 2.0, 12, 5, 7),
    ],
)
def test_vanishing_networks_have_no_false_vertices(
    corners: int, phase: float, count: int, low: int, high: int, share: float
) -> None:
    # The symmetry of the data makes the fit constant, so that the polytope has one shape at every beta.
    angles = 2.0 * np.pi * np.arange(corners) / corners + phase
    X, y = np.column_stack([np.cos(angles), np.sin(angles)]), np.ones(corners)
    top = dual_norm_by_strings(X, y)
    try:
        o = optimal_set(Problem(X, y, beta=top * share))
    except OptimalSetError:
        assert (corners, share) == (9, 0.999999)
        return
    np.testing.assert_allclose(o.fit, 1.0 - share, rtol=1e-13 / (1.0 - share))
    assert np.max(np.abs(o.fit / (1.0 - share) - 1.0)) <= o.error
    assert (len(o.vertices()), o.min_width, o.max_irreducible_width) == (count, low, high)
    assert np.min(o.vertices()[o.vertices() > 0.0]) > 1e-3 * np.max(o.vertices())
    if corners == 10:
        expected = vertices_by_supports(o.columns, np.ones(corners))
        np.testing.assert_array_equal(np.unique(expected > 0.0, axis=0), np.unique(o.vertices() > 0.0, axis=0))


@pytest.mark.parametrize("shift", [1e-8, -1e-8, 3e-8, 1e-7, -1e-7])
def test_rounded_data_have_the_directions_of_the_rounded_data(shift: float) -> None:
    # At the root of three both kinds of networks are optimal; beyond it one neuron is worse, before it two are.
    root = np.sqrt(3.0) * (1.0 + shift)
    o = optimal_set(Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2))
    assert (len(o.signs), o.min_width, o.is_unique, o.is_clear) == (*((2, 2) if shift > 0.0 else (1, 1)), True, True)
    check_atoms(o)
    check_members(o)


@pytest.mark.parametrize(("corners", "digits"), [(5, 7), (5, 8), (7, 7), (7, 8)])
def test_rounded_polygons_are_taken(corners: int, digits: int) -> None:
    exact = polygon(corners)
    o = optimal_set(Problem(exact.X.round(digits), exact.y, beta=0.1))
    values = o.signs * (np.maximum(o.problem.X @ o.directions.T, 0.0).T @ o.dual)
    np.testing.assert_allclose(values, 0.1, rtol=1e-9)
    assert dual_norm_by_strings(o.problem.X, o.dual) <= 0.1 * (1.0 + 1e-9)
    np.testing.assert_allclose(o.objective, solve(o.problem, tol=1e-10).objective, rtol=1e-9)
    assert o.margin >= o.error


def test_small_masses_count_and_small_stray_neurons_do_not() -> None:
    o = optimal_set(polygon(7))
    vertices = o.vertices()
    for seed in range(2500, 2520):
        assert o.contains(o.sample(seed), tol=1e-9)
    masses = (1.0 - 1e-4) * vertices[0] + 1e-4 * vertices[-1]
    net = o.network(masses)
    np.testing.assert_allclose(o.masses_of(net), masses, rtol=1e-9)
    stray = np.sqrt(1e-7 * o.total_mass)
    for count, accepted in ((5, True), (200, False)):
        W = np.vstack([net.W, np.tile([[stray, 0.01 * stray]], (count, 1))])
        assert o.contains(ReLUNetwork(W, np.append(net.a, np.full(count, -stray)))) == accepted


def test_output_bias_is_not_optimal() -> None:
    o = optimal_set(triple())
    net = o.network([0.0, 1.0, 0.0])
    shifted = ReLUNetwork(net.W, net.a, output_bias=5.0)
    assert not o.contains(shifted)
    with pytest.raises(OptimalSetError, match="output bias of 5"):
        o.masses_of(shifted)


def test_a_given_solution_is_refined() -> None:
    problem = polygon(8)
    rough = solve(problem, tol=1e-3)
    o = optimal_set(problem, solution=rough)
    np.testing.assert_allclose(o.objective, optimal_set(problem).objective, rtol=1e-13)
    assert len(o.vertices()) == 10


def test_moves_of_masses_stay_in_the_set() -> None:
    o = optimal_set(polygon(8))
    rng = np.random.default_rng(0)
    for _ in range(5):
        masses = o.move_mass(o.densest(), rng.standard_normal(8))
        assert np.sum(masses > 0.0) < 8
        np.testing.assert_allclose(o.network(masses).objective(o.problem), o.objective, rtol=1e-12)
        half = o.move_mass(o.densest(), rng.standard_normal(8), share=0.5)
        assert np.all(half > 0.0)
    unique = optimal_set(grid(3))
    np.testing.assert_array_equal(unique.move_mass(unique.densest(), np.ones(5)), unique.densest())


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Problem(np.eye(2), [3.0, 0.1], beta=0.1, loss=HuberLoss(0.05)), "no curvature"),
        (Problem(np.eye(2), [1.0, -1.0], beta=1e-9, loss="squared_hinge"), "curvature|fit to a relative error"),
        (Problem(np.eye(2), [1.0, -1.0], beta=0.0), "beta > 0"),
        (random_problem(60, 12, 0), "activation patterns"),
    ],
    ids=["huber", "hinge", "beta", "patterns"],
)
def test_refusals_say_why(problem: Problem, words: str) -> None:
    with pytest.raises(OptimalSetError, match=words):
        optimal_set(problem)


def test_losses_with_curvature_at_the_fit_are_taken() -> None:
    huber = optimal_set(random_problem(8, 2, 1, loss="huber"))
    squared = optimal_set(Problem(huber.problem.X, huber.problem.y, beta=0.1, loss=HuberLoss(1e3)))
    check_atoms(huber)
    check_atoms(squared)
    np.testing.assert_allclose(
        squared.objective, optimal_set(Problem(huber.problem.X, huber.problem.y, beta=0.1)).objective, rtol=1e-11
    )


def test_bad_arguments_get_one_sentence() -> None:
    o = optimal_set(triple())
    with pytest.raises(ValueError, match="problem must be"):
        optimal_set(np.eye(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one entry for each of the 3"):
        o.network([1.0, 2.0])
    with pytest.raises(ValueError, match="must not be negative"):
        o.network([-1.0, 1.0, 1.0])
    with pytest.raises(OptimalSetError, match="differs from the optimal one"):
        o.network([1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="width must be at least 3"):
        o.network([0.25, 0.5, 0.25], width=2)
    with pytest.raises(ValueError, match="net must be"):
        o.contains(ReLUNetwork([[1.0]], [1.0]))
    with pytest.raises(OptimalSetError, match="Neuron 0 is not balanced"):
        o.masses_of(ReLUNetwork([[0.0, 2.0]], [0.5]))
    with pytest.raises(OptimalSetError, match="no optimal network uses"):
        o.masses_of(ReLUNetwork([[1.0, 0.0]], [1.0]))
    other = solve(Problem(np.eye(3), [1.0, 2.0, 3.0], beta=0.1))
    with pytest.raises(ValueError, match="solution must hold a ReLUNetwork with 2 features"):
        optimal_set(triple(), solution=other)
    with pytest.raises(ValueError, match="max_patterns must be a finite number"):
        optimal_set(triple(), max_patterns="x")  # type: ignore[arg-type]
    for tol in (2.0, 0.0, "a"):
        with pytest.raises(ValueError, match="tol must be"):
            optimal_set(triple(), tol=tol)  # type: ignore[arg-type]
    with pytest.raises(OptimalSetError, match="time_limit=0 leaves no time"):
        optimal_set(triple(), time_limit=0)
    for seed in ("a", -1, 1.5, True):
        with pytest.raises(ValueError, match="random_state must be"):
            o.sample(seed)  # type: ignore[arg-type]
    for limit in ("a", 0, -5, 2.5, True):
        with pytest.raises(ValueError, match="max_vertices must be a positive integer"):
            o.vertices(max_vertices=limit)  # type: ignore[arg-type]
    with pytest.raises(OptimalSetError, match="raise max_vertices"):
        optimal_set(polygon(9)).vertices(max_vertices=20)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), d=st.integers(1, 3), ternary=st.booleans())
def test_effective_dimension_is_the_rank_of_all_contributions(seed: int, n: int, d: int, ternary: bool) -> None:
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, (n, d)).astype(float) if ternary else rng.standard_normal((n, d))
    X[rng.integers(n)] = rng.choice([-2.0, 0.0, 1.0]) * X[rng.integers(n)]
    # In a cell, all linear functions of its active samples: the columns of D X, over all cells.
    spans = np.hstack([mask[:, None] * X for mask in enumerate_patterns(X).masks])
    assert effective_dimension(X) == np.linalg.matrix_rank(spans, tol=1e-9)
