"""Vertices of mass polytopes against all supports, their graph against linear programs, and bounds of supports."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cvxnn.landscape._polytope import MassPolytope
from cvxnn.landscape._supports import largest_vertex_support, smallest_support
from cvxnn.landscape._vertex_graph import vertex_components, vertex_path
from cvxnn.landscape._vertices import ArithmeticLimitError, VertexLimitError
from tests.oracles.mass_polytope import components_by_linear_programs, vertices_by_supports


def polytope_of(seed: int, k: int, r: int, kind: str) -> MassPolytope:
    """Columns on the plane of total mass one; small integers make degenerate polytopes, sparse fits put it on faces."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (r - 1, k)).astype(float) if kind == "integer" else rng.standard_normal((r - 1, k))
    A = np.vstack([np.ones(k), rows])
    masses = np.ones(k) if kind != "face" else np.zeros(k)
    masses[rng.permutation(k)[: max(k // 2, 1)]] += 1.0
    return MassPolytope(A, A @ masses)


def listed(polytope: MassPolytope, limit: int = 10_000) -> np.ndarray:
    return polytope.vertices(max_vertices=limit, check=lambda: None)


def same_rows(left: np.ndarray, right: np.ndarray) -> None:
    assert left.shape == right.shape
    order_left, order_right = (np.lexsort(np.round(rows, 7).T[::-1]) for rows in (left, right))
    np.testing.assert_allclose(left[order_left], right[order_right], atol=1e-7)
    np.testing.assert_array_equal(left[order_left] > 0.0, right[order_right] > 0.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(2, 9),
    r=st.integers(1, 5),
    kind=st.sampled_from(["integer", "real", "face"]),
)
def test_vertices_are_those_of_all_supports(seed: int, k: int, r: int, kind: str) -> None:
    polytope = polytope_of(seed, k, min(r, k), kind)
    found = listed(polytope)
    same_rows(found, vertices_by_supports(polytope.columns, polytope.fit))
    np.testing.assert_allclose(polytope.columns @ found.T, np.tile(polytope.fit[:, None], len(found)), atol=1e-9)
    np.testing.assert_allclose(np.column_stack([found.min(axis=0), found.max(axis=0)]), polytope.ranges, atol=1e-9)
    assert polytope.dimension == np.linalg.matrix_rank(found - found[0], tol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(4, 10),
    r=st.integers(2, 6),
    noise=st.sampled_from([1e-13, 1e-11, 1e-9, 1e-7, 1e-5]),
)
def test_noise_of_the_fit_gives_the_exact_supports_or_a_refusal(seed: int, k: int, r: int, noise: float) -> None:
    # Degenerate vertices fall apart under noise, into many whose small masses come from it alone.
    exact = polytope_of(seed, k, min(r, k), "integer")
    rng = np.random.default_rng(seed)
    change = exact.columns @ rng.standard_normal(k)
    moved = exact.fit + noise * np.linalg.norm(exact.fit) / np.linalg.norm(change) * change
    found = None
    try:
        found = listed(MassPolytope(exact.columns, moved, noise))
    except (ArithmeticLimitError, ArithmeticError):
        assert noise >= 1e-7
    if found is not None:
        expected = vertices_by_supports(exact.columns, exact.fit)
        np.testing.assert_array_equal(np.unique(found > 0.0, axis=0), np.unique(expected > 0.0, axis=0))


def test_slices_of_a_cube_through_its_corners_are_listed_exactly() -> None:
    # Pairs of masses with sums 1 are a cube; a plane orthogonal to its diagonal may pass through its corners.
    k = 6
    A = np.vstack([np.kron(np.eye(3), [1.0, 1.0]), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    for level, count in ((1.0, 3), (1.5, 6), (2.0, 3), (3.0, 1)):
        found = listed(MassPolytope(A, np.array([1.0, 1.0, 1.0, level])))
        assert found.shape == (count, k)


def test_birkhoff_polytope_has_all_permutations() -> None:
    A = np.vstack([np.kron(np.eye(4), np.ones(4)), np.kron(np.ones(4), np.eye(4))])
    found = listed(MassPolytope(A, np.ones(8)))
    assert len(found) == 24
    np.testing.assert_allclose(found[found > 0.0], 1.0, atol=1e-12)


def test_too_many_vertices_are_refused() -> None:
    with pytest.raises(VertexLimitError, match="more than 5"):
        listed(polytope_of(1, 9, 4, "real"), limit=5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(2, 7), r=st.integers(1, 4), kind=st.sampled_from(["integer", "real"]))
def test_components_of_the_vertex_graph_are_those_of_the_set(seed: int, k: int, r: int, kind: str) -> None:
    polytope = polytope_of(seed, k, min(r, k), kind)
    found = listed(polytope)
    for width in range(k + 1):
        labels = vertex_components(found, width)
        assert labels.dtype == np.int64
        assert len(set(labels[labels >= 0])) == components_by_linear_programs(polytope.columns, polytope.fit, width)
        np.testing.assert_array_equal(labels >= 0, np.sum(found > 0.0, axis=1) <= width)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(3, 8), r=st.integers(1, 4), width=st.integers(1, 8))
def test_vertex_paths_join_exactly_the_vertices_of_one_component(seed: int, k: int, r: int, width: int) -> None:
    found = listed(polytope_of(seed, k, min(r, k), "integer"))
    labels = vertex_components(found, width)
    for goal in range(len(found)):
        path = vertex_path(found, width, 0, goal)
        assert (path is not None) == (labels[0] >= 0 and labels[0] == labels[goal])
        if path is not None:
            assert (path[0], path[-1], len(set(path))) == (0, goal, len(path))
            for one, two in itertools.pairwise(path):
                assert np.sum((found[one] > 0.0) | (found[two] > 0.0)) <= width


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(2, 9),
    r=st.integers(1, 5),
    kind=st.sampled_from(["integer", "real", "face"]),
)
def test_support_bounds_hold_without_the_list(seed: int, k: int, r: int, kind: str) -> None:
    polytope = polytope_of(seed, k, min(r, k), kind)
    sizes = np.sum(listed(polytope) > 0.0, axis=1)
    small, large = smallest_support(polytope, time_limit=20.0), largest_vertex_support(polytope)
    assert small.lower == small.upper == sizes.min()
    assert np.sum(small.masses > 0.0) == small.upper
    np.testing.assert_allclose(polytope.columns @ small.masses, polytope.fit, atol=1e-8)
    assert large.lower <= sizes.max() <= large.upper


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(2, 9),
    r=st.integers(1, 5),
    kind=st.sampled_from(["integer", "real", "face"]),
)
def test_least_norm_and_interior_points(seed: int, k: int, r: int, kind: str) -> None:
    polytope = polytope_of(seed, k, min(r, k), kind)
    found = listed(polytope)
    masses = polytope.nearest_to_zero()
    np.testing.assert_allclose(polytope.columns @ masses, polytope.fit, atol=1e-9)
    assert np.all(masses >= 0.0)
    # Optimal: no vertex lies further down along the gradient, so the norm is least over their convex hull.
    assert np.min(found @ masses) >= masses @ masses * (1.0 - 1e-9)
    weights = np.ones(len(found)) / len(found)
    other = minimize(lambda t: np.sum((t**2 @ found / np.sum(t**2)) ** 2), weights, method="BFGS")
    assert masses @ masses <= other.fun * (1.0 + 1e-9)
    np.testing.assert_array_equal(polytope.interior > 0.0, np.any(found > 0.0, axis=0))
