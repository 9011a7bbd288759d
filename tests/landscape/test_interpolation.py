"""Minimum-norm interpolation against a conic program over all cells, and against closed forms."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space

from cvxnn import Problem, solve
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.interpolation import InterpolationError, nonunique_interpolators
from cvxnn.patterns import PatternLimitError, enumerate_patterns


def least_norm(X: np.ndarray, y: np.ndarray) -> float:
    """Optimal value over all cells and signs; infinite where no network interpolates."""
    fit, norms, cones = 0, [], []
    for mask in enumerate_patterns(X).masks:
        for sign in (1.0, -1.0):
            z = cp.Variable(X.shape[1])
            fit = fit + sign * (mask[:, None] * X) @ z
            norms.append(cp.norm(z))
            cones.append((np.where(mask, 1.0, -1.0)[:, None] * X) @ z >= 0)
    program = cp.Problem(cp.Minimize(sum(norms)), [*cones, fit == y])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
        program.solve(solver=cp.CLARABEL)
    return float(program.value)


def check(X: np.ndarray, y: np.ndarray, found) -> None:
    """Every claim of the result, recomputed from the data alone."""
    size = max(float(np.abs(y).max()), 1e-300)
    assert np.linalg.norm(found.directions, axis=1) == pytest.approx(np.ones(len(found.signs)), abs=1e-12)
    assert np.allclose(found.columns, found.signs * np.maximum(X @ found.directions.T, 0.0), atol=1e-12)
    attained = found.signs * (found.dual @ np.maximum(X @ found.directions.T, 0.0))
    assert attained == pytest.approx(np.ones(len(found.signs)), abs=1e-9)
    assert np.all(found.masses >= 0)
    assert found.residual < 1e-9 * size
    assert found.norm == pytest.approx(found.masses.sum())
    assert found.gap < 1e-9
    assert found.lower_bound <= found.norm * (1 + 1e-9)
    bound = pricing_bound(X, found.dual, target=1.0 + 1e-8)
    assert bound.closed and bound.lower <= 1.0 + 1e-9
    network = found.network()
    assert np.abs(network(X) - y).max() < 1e-9 * size
    assert network.penalty() == pytest.approx(found.norm, rel=1e-12)
    low, high = found.mass_range.T
    assert np.all(low <= found.masses + 1e-9 * found.norm) and np.all(found.masses <= high + 1e-9 * found.norm)
    assert found.is_unique == (np.max(high - low) < 1e-7 * found.norm)


def test_continuum_of_the_two_point_example():
    root = np.sqrt(3.0)
    X, y = np.array([[-root, 1.0], [root, 1.0]]), np.array([1.0, 1.0])
    found = nonunique_interpolators(X, y)
    check(X, y, found)
    assert found.norm == pytest.approx(1.0, abs=1e-14)
    assert found.dual == pytest.approx([0.5, 0.5], abs=1e-12)
    assert not found.is_unique and found.dimension == 1 and found.dual_is_unique
    truth = np.array([[0.0, 1.0], [-root / 2, 0.5], [root / 2, 0.5]])
    order = [int(np.argmax(found.directions @ u)) for u in truth]
    assert found.directions[order] == pytest.approx(truth, abs=1e-12)
    assert found.mass_range[order] == pytest.approx(np.array([[0, 1.0], [0, 0.5], [0, 0.5]]), abs=1e-12)
    for middle in np.linspace(0.0, 1.0, 5):
        masses = np.empty(3)
        masses[order] = [middle, (1 - middle) / 2, (1 - middle) / 2]
        network = found.network(masses)
        assert network(X) == pytest.approx(y, abs=1e-14)
        assert network.penalty() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize(("corners", "dimension"), [(4, 1), (5, 5), (6, 1), (8, 3)])
def test_regular_polygons(corners, dimension):
    angles = 2 * np.pi * np.arange(corners) / corners
    X, y = np.column_stack([np.cos(angles), np.sin(angles)]), np.ones(corners)
    found = nonunique_interpolators(X, y)
    check(X, y, found)
    assert found.dimension == dimension
    assert found.norm == pytest.approx(least_norm(X, y), rel=1e-6)


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, d = [(4, 2), (6, 2), (7, 3), (5, 4)][seed % 4]
    kind = (seed // 4) % 4
    X = rng.standard_normal((n, d))
    if kind == 1:
        X[:, -1] = 1.0
    elif kind == 2:
        X = np.column_stack([rng.integers(-2, 3, (n, d - 1)), np.ones(n)]).astype(float)
    elif kind == 3:
        X = rng.integers(-1, 2, (n, d)).astype(float)
    y = rng.standard_normal(n) if rng.random() < 0.5 else rng.integers(-1, 2, n).astype(float)
    return X, y


@pytest.mark.parametrize("seed", range(16))
def test_norm_against_a_conic_solver(seed):
    X, y = data(seed)
    X, first = np.unique(X, axis=0, return_index=True)
    y = y[first]
    try:
        found = nonunique_interpolators(X, y)
    except InterpolationError:
        assert not np.isfinite(least_norm(X, y))
        return
    check(X, y, found)
    assert found.norm == pytest.approx(least_norm(X, y), rel=1e-5, abs=1e-7)


@given(seed=st.integers(0, 100_000))
@settings(max_examples=30, deadline=None)
def test_targets_of_a_network_are_interpolated_with_no_larger_norm(seed):
    X, _ = data(seed)
    rng = np.random.default_rng(seed)
    U, c = rng.standard_normal((3, X.shape[1])), rng.standard_normal(3)
    y = np.maximum(X @ U.T, 0.0) @ c
    if not np.any(y):
        return
    found = nonunique_interpolators(X, y)
    check(X, y, found)
    assert found.norm <= np.abs(c) @ np.linalg.norm(U, axis=1) * (1 + 1e-9)
    assert np.count_nonzero(found.network(found.masses).a) >= 1


def test_random_members_interpolate_at_the_same_norm():
    """General data without bias: dual vectors orthogonal to linear functions make a continuum of antipodal pairs."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    found = nonunique_interpolators(X, y)
    check(X, y, found)
    assert found.dimension >= 1
    assert np.abs(X.T @ found.dual).max() < 1e-12 * np.abs(found.dual).sum()
    kernel = null_space(found.columns)
    assert kernel.shape[1] >= found.dimension
    for _ in range(10):
        move = kernel @ rng.standard_normal(kernel.shape[1])
        down = move < 0
        reach = np.min(found.masses[down] / -move[down])
        network = found.network(np.maximum(found.masses + rng.random() * reach * move, 0.0))
        assert network.penalty() == pytest.approx(found.norm, rel=1e-12)
        assert network(X) == pytest.approx(y, abs=1e-11)


def test_small_weight_decay_leads_to_the_same_norm():
    rng = np.random.default_rng(4)
    X, y = np.column_stack([rng.standard_normal(6), np.ones(6)]), rng.standard_normal(6)
    found = nonunique_interpolators(X, y)
    check(X, y, found)
    beta = 1e-6 / found.norm
    solution = solve(Problem(X, y, beta=beta), tol=1e-9)
    assert solution.objective / beta <= found.norm * (1 + 1e-9)
    assert solution.objective / beta == pytest.approx(found.norm, rel=1e-4)


def test_span_is_the_effective_dimension():
    """Targets can be interpolated exactly when they lie in the span of the contributions."""
    X = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -3.0], [1.0, 1.0]])
    columns = np.maximum(X @ np.random.default_rng(0).standard_normal((2, 50)), 0.0)
    basis = np.linalg.svd(columns)[0]
    rank = effective_dimension(X)
    inside, outside = basis[:, :rank] @ np.arange(1.0, rank + 1), basis[:, rank]
    check(X, inside, nonunique_interpolators(X, inside))
    with pytest.raises(InterpolationError):
        nonunique_interpolators(X, outside)


def test_what_cannot_be_interpolated_is_told():
    with pytest.raises(InterpolationError, match="samples 0 and 2 point in the same direction"):
        nonunique_interpolators([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], [1.0, 1.0, 3.0])
    with pytest.raises(InterpolationError, match="sample 1 is zero in every feature"):
        nonunique_interpolators([[1.0], [0.0]], [1.0, 2.0])
    with pytest.raises(InterpolationError, match="opposite directions"):
        nonunique_interpolators(
            [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [-1.0, -1.0]], [0, 0, 0, 0, 1, 0]
        )


def test_zero_targets_duplicates_and_limits():
    nothing = nonunique_interpolators(np.eye(2), [0.0, 0.0])
    assert nothing.norm == 0.0 and nothing.is_unique and nothing.network().width == 0
    X = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    y = np.array([2.0, 2.0, -1.0, 0.0])
    check(X, y, nonunique_interpolators(X, y))
    scaled = nonunique_interpolators(1e5 * X, 1e-3 * y)
    assert scaled.norm == pytest.approx(1e-8 * nonunique_interpolators(X, y).norm, rel=1e-9)
    with pytest.raises(PatternLimitError, match="max_patterns"):
        nonunique_interpolators(np.random.default_rng(0).standard_normal((30, 3)), np.ones(30), max_patterns=100)
    with pytest.raises(ValueError, match="must match"):
        nonunique_interpolators(X, [1.0])


def test_bad_masses():
    found = nonunique_interpolators(np.eye(2), [1.0, 2.0])
    assert found.directions == pytest.approx(np.array([[1.0, 2.0]]) / np.sqrt(5.0))
    with pytest.raises(ValueError, match="one a direction"):
        found.network([1.0, 1.0])
    with pytest.raises(ValueError, match="negative"):
        found.network(-found.masses)
    with pytest.raises(ValueError, match="interpolate y"):
        found.network(2.0 * found.masses)


def test_more_cells_than_one_program_takes():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal((14, 2)), np.ones(14)])
    y = np.sin(3 * X[:, 0])
    found = nonunique_interpolators(X, y)
    check(X, y, found)
