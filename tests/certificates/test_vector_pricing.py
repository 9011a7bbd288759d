"""The pricing bound of several outputs against dense directions, local ascents, the scalar bound and invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import cvxnn.certificates.vector_arrangement as arrangement
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.certificates.vector_pricing import vector_norm_bound, vector_pricing_bound

GRID = np.c_[np.array(list(itertools.product([-1.0, 0.0, 1.0], repeat=2))), np.ones(9)]
CUBE = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
LATTICE = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
BRAID = np.array([[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1], [0, 0, 1, -1.0]])


def values(X, N, points):
    return np.linalg.norm(np.maximum(points @ X.T, 0.0) @ N, axis=1)


def climbed(X, N, starts=400, steps=200, seed=0):
    """Largest value that ascents from many directions and from all rows attain."""
    rng = np.random.default_rng(seed)
    points = np.vstack([rng.standard_normal((starts, X.shape[1])), X, -X])
    points = points[np.any(points != 0, axis=1)]
    best = 0.0
    for step in np.geomspace(1.0, 1e-7, steps):
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
        best = max(best, float(np.max(values(X, N, points))))
        hidden = np.maximum(points @ X.T, 0.0)
        outputs = hidden @ N
        slopes = ((outputs @ N.T) * (hidden > 0)) @ X
        points = points + step * slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-300)
    return best


def assert_exact(X, N, *, tight=1e-9):
    bound = vector_pricing_bound(X, N)
    best = climbed(X, N)
    assert bound.method == "arrangement"
    assert bound.closed
    assert best <= bound.upper
    assert bound.upper - bound.lower <= tight * bound.upper
    assert bound.lower >= best * (1 - 1e-7)
    np.testing.assert_allclose(np.linalg.norm(bound.directions, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(bound.values, values(X, N, bound.directions), rtol=1e-12)
    assert np.all(np.diff(bound.values) <= 0)
    return bound


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("n", "d", "c"), [(1, 1, 2), (9, 1, 3), (1, 2, 2), (12, 2, 2), (2, 3, 2), (7, 3, 1), (25, 3, 4)]
)
def test_random_data(n, d, c, seed):
    rng = np.random.default_rng(seed)
    assert_exact(rng.standard_normal((n, d)), rng.standard_normal((n, c)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("X", [GRID, CUBE, LATTICE, BRAID], ids=["grid", "cube", "lattice", "braid"])
def test_degenerate_data(X, seed):
    rng = np.random.default_rng(seed)
    N = np.ones((len(X), 2)) if seed == 2 else rng.standard_normal((len(X), 3))
    assert_exact(X, N)


def test_ternary_rows_with_zeros_duplicates_and_opposites():
    rng = np.random.default_rng(0)
    X = rng.integers(-1, 2, (30, 3)).astype(float)
    X[0] = 0.0
    assert_exact(X, rng.integers(-2, 3, (30, 2)).astype(float))


@pytest.mark.parametrize("angle", [1e-5, 1e-6, 1e-7, 1e-9, 1e-11, 1e-13])
def test_rows_nearly_on_one_plane_or_line(angle):
    rng = np.random.default_rng(1)
    base = rng.standard_normal((6, 3))
    X = np.vstack([base, base + angle * rng.standard_normal((6, 3)), -base + angle * rng.standard_normal((6, 3))])
    assert_exact(X, rng.standard_normal((18, 2)), tight=1e-7)


def test_leading_singular_vectors_that_nearly_coincide():
    # On the cell that holds the circle around the axis both leading values agree but for a small difference.
    angles = np.linspace(0.0, 2 * np.pi, 7)[:-1]
    X = np.c_[np.cos(angles), np.sin(angles), np.full(6, 2.0)]
    for difference in (0.0, 1e-12, 1e-9, 1e-6, 1e-3):
        N = X @ np.diag([1.0, 1.0 + difference, 0.45])
        bound = assert_exact(X, N, tight=1e-6)
        assert bound.upper >= climbed(X, N)


@pytest.mark.parametrize("seed", range(3))
def test_one_output_is_the_scalar_problem(seed):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((15, 3)), rng.standard_normal(15)
    scalar = pricing_bound(X, nu)
    assert vector_pricing_bound(X, nu[:, None]).upper == pytest.approx(scalar.upper, rel=1e-9)
    # A direction is the same for outputs that are multiples of one column.
    both = vector_pricing_bound(X, np.outer(nu, [3.0, -4.0]))
    assert both.upper == pytest.approx(5.0 * scalar.upper, rel=1e-9)


def test_invariances():
    rng = np.random.default_rng(0)
    X, N = rng.standard_normal((10, 3)), rng.standard_normal((10, 3))
    upper = vector_pricing_bound(X, N).upper
    rotation, lift = np.linalg.qr(rng.standard_normal((3, 3)))[0], np.linalg.qr(rng.standard_normal((6, 3)))[0]
    assert vector_pricing_bound(X, N @ rotation).upper == pytest.approx(upper, rel=1e-9)
    assert vector_pricing_bound(X @ lift.T, N).upper == pytest.approx(upper, rel=1e-9)
    assert vector_pricing_bound(1e8 * X, 1e-8 * N).upper == pytest.approx(upper, rel=1e-9)
    assert vector_pricing_bound(1e200 * X, 1e-220 * N).upper == pytest.approx(1e-20 * upper, rel=1e-9)
    half = vector_pricing_bound(np.vstack([X, X]), np.vstack([0.5 * N, 0.5 * N]))
    assert half.upper == pytest.approx(upper, rel=1e-9)
    shared = vector_pricing_bound(np.vstack([X, np.zeros((3, 3))]), np.vstack([N, np.ones((3, 3))]))
    assert shared.upper == pytest.approx(upper, rel=1e-9)


def test_small_slabs_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    X, N = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    whole = vector_pricing_bound(X, N)
    monkeypatch.setattr(arrangement, "_ENTRIES", 1)
    assert vector_pricing_bound(X, N).upper == pytest.approx(whole.upper, rel=1e-12)


@pytest.mark.parametrize("d", [2, 4, 9])
@pytest.mark.parametrize("seed", range(3))
def test_spectral_bound_holds_at_any_rank(d, seed):
    rng = np.random.default_rng(seed)
    X, N = rng.standard_normal((20, d)), rng.standard_normal((20, 3)) * rng.uniform(0.01, 3.0, (20, 1))
    bound = vector_norm_bound(X, N)
    assert climbed(X, N) <= bound
    cheap = vector_pricing_bound(X, N, method="cheap")
    assert cheap.method == "spectral"
    assert cheap.lower <= cheap.upper == pytest.approx(bound)
    assert vector_norm_bound(X, np.zeros_like(N)) == 0.0


def test_limits_leave_a_valid_bound(monkeypatch):
    rng = np.random.default_rng(0)
    X, N = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    late = vector_pricing_bound(X, N, time_limit=0.0)
    assert late.method == "spectral"
    assert late.upper >= vector_pricing_bound(X, N).upper

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(arrangement, "plane_bases", interrupt)
    stopped = vector_pricing_bound(X, N)
    assert stopped.interrupted
    assert stopped.upper == late.upper


def test_zero_and_bad_input():
    zero = vector_pricing_bound(np.zeros((2, 3)), np.ones((2, 2)))
    assert (zero.upper, zero.method) == (0.0, "zero")
    with pytest.raises(ValueError, match=r"N must have shape \(2, c\)"):
        vector_pricing_bound(np.eye(2), np.ones(2))
    with pytest.raises(ValueError, match="must be finite"):
        vector_pricing_bound(np.eye(2), [[np.nan], [1.0]])
    with pytest.raises(ValueError, match='"auto" or "cheap"'):
        vector_pricing_bound(np.eye(2), np.eye(2), method="exact")
    with pytest.raises(ValueError, match="d > 0"):
        vector_pricing_bound(np.zeros((2, 0)), np.eye(2))
    with pytest.raises(ValueError, match=r"X and N have entries .* products overflow"):
        vector_pricing_bound(1e160 * np.eye(2), 1e160 * np.eye(2))


@pytest.mark.parametrize(("power", "other"), [(-500, 0), (520, 0), (510, 500), (1010, 0), (0, 1010)])
def test_data_whose_squares_leave_the_range_of_floats(power, other):
    rng = np.random.default_rng(0)
    X, N = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    bound = vector_pricing_bound(X, N)
    scaled = vector_pricing_bound(np.ldexp(X, power), np.ldexp(N, other))
    assert scaled.upper == pytest.approx(np.ldexp(bound.upper, power + other), rel=1e-12)
    assert scaled.lower == pytest.approx(np.ldexp(bound.lower, power + other), rel=1e-12)
