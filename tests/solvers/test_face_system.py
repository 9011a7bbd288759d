"""The Newton system of listed cones against its dense form."""

import numpy as np
import pytest

from cvxnn.solvers._face_system import FaceSystem


def instance(sizes, *, n=30, r=6, seed=0):
    """Rows, maps of faces, signed masks, curvature with samples that have none, and an error."""
    rng = np.random.default_rng(seed)
    maps = [rng.standard_normal((r, size)) for size in sizes]
    weights = rng.choice([-1.0, 1.0], (len(sizes), 1)) * (rng.uniform(size=(len(sizes), n)) < 0.5)
    curvature = rng.uniform(size=n) * (np.arange(n) % 3 > 0)
    return rng.standard_normal((n, r)), maps, weights, curvature, rng.standard_normal(n)


def dense_solution(X, maps, weights, curvature, error):
    columns = np.hstack([weight[:, None] * (X @ part) for weight, part in zip(weights, maps, strict=True)])
    return np.linalg.solve(np.eye(len(X)) + columns @ columns.T * curvature, error)


@pytest.mark.parametrize("sizes", [[1], [1, 3, 2], [6, 6, 6, 6, 5], [6, 6, 6, 6, 6, 6]], ids=sum)
def test_a_system_is_solved(sizes):
    """With fewer columns than samples, nearly as many, and more."""
    X, maps, weights, curvature, error = instance(sizes)
    found = FaceSystem(X).solve(maps, weights, curvature, error)
    np.testing.assert_allclose(found, dense_solution(X, maps, weights, curvature, error), atol=1e-9)


def test_one_system_leaves_no_trace_in_the_next():
    """The memory of a large system serves a smaller one, of the other form, and the large one again."""
    X, *large = instance([6] * 6)
    small = instance([2, 1], seed=1)[1:]
    system = FaceSystem(X)
    for parts in (large, small, large):
        np.testing.assert_allclose(system.solve(*parts), dense_solution(X, *parts), atol=1e-9)


def test_without_faces_the_error_is_the_solution():
    X, _, _, curvature, error = instance([1])
    np.testing.assert_array_equal(FaceSystem(X).solve([], np.zeros((0, 30)), curvature, error), error)


@pytest.mark.parametrize("spoilt", [np.nan, 1e200])
def test_a_system_that_is_not_positive_definite_has_no_solution(spoilt):
    X, maps, weights, curvature, error = instance([2, 1])
    maps[1][0, 0] = spoilt
    with np.errstate(over="ignore", invalid="ignore"):
        assert FaceSystem(X).solve(maps, weights, curvature, error) is None
