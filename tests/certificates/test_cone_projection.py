"""Projections on the cones of patterns against non-negative least squares and their own optimality conditions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.optimize import nnls

from cvxnn.certificates import cone_projection
from cvxnn.certificates.cone_projection import ConeProjector


def instance(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows (some zero, repeated or opposite), masks (some that no gate realises), points."""
    rng = np.random.default_rng(seed)
    n, d, count = int(rng.integers(1, 60)), int(rng.integers(1, 9)), int(rng.integers(1, 12))
    X = rng.standard_normal((n, d)) if seed % 2 else rng.integers(-1, 2, (n, d)).astype(float)
    X[rng.random(n) < 0.1] = 0.0
    X[n // 2 :: 3] = -2.0 * X[: len(X[n // 2 :: 3])]
    norms = np.linalg.norm(X, axis=1)
    masks = rng.standard_normal((count, d)) @ X.T >= 0
    masks ^= rng.random(masks.shape) < (0.05 if seed % 3 == 0 else 0.0)
    return X / np.where(norms > 0, norms, 1.0)[:, None], masks, rng.standard_normal((count, d))


def check(projector: ConeProjector, masks: np.ndarray, points: np.ndarray, vectors: np.ndarray) -> None:
    """Primal feasibility, dual feasibility, complementarity: together they are optimality."""
    every = np.arange(len(masks))
    orient = np.where(masks, 1.0, -1.0)
    multipliers = projector.dense_multipliers(every)
    scale = np.linalg.norm(points, axis=1)[:, None]
    slacks = orient * (vectors @ projector.rows.T)
    assert np.all(multipliers >= 0)
    assert np.all(slacks >= -1e-10 * scale)
    assert np.all(np.abs(points + (orient * multipliers) @ projector.rows - vectors) <= 1e-10 * scale)
    assert np.all(np.abs(slacks[multipliers > 0]) <= 1e-10 * scale.max())


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_non_negative_least_squares(seed):
    rows, masks, points = instance(seed)
    projector = ConeProjector(rows, masks)
    vectors = projector.project(points, np.arange(len(masks)))
    check(projector, masks, points, vectors)
    for mask, point, vector in zip(masks, points, vectors, strict=True):
        oriented = np.where(mask, 1.0, -1.0)[:, None] * rows
        _, residual = nnls(oriented.T, -point, maxiter=10_000)
        assert np.linalg.norm(vector) == pytest.approx(residual, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_a_chain_of_points_ends_where_a_fresh_start_does(seed):
    rows, masks, points = instance(seed)
    rng = np.random.default_rng(seed)
    projector, every = ConeProjector(rows, masks), np.arange(len(masks))
    for size in (1.0, 0.3, 0.1, 1e-3, 1.0):
        points = points + size * rng.standard_normal(points.shape)
        warm = projector.project(points, every)
        check(projector, masks, points, warm)
        assert np.allclose(warm, ConeProjector(rows, masks).project(points, every), rtol=0, atol=1e-9)


def test_long_use_does_not_spoil_the_factors():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((150, 12))
    rows = X / np.linalg.norm(X, axis=1)[:, None]
    masks = rng.standard_normal((8, 12)) @ rows.T >= 0
    projector, every = ConeProjector(rows, masks), np.arange(8)
    for _ in range(300):
        points = rng.standard_normal((8, 12))
        vectors = projector.project(points, every)
    check(projector, masks, points, vectors)


def test_part_of_the_cones_and_more_of_them_than_factors_fit(monkeypatch):
    rows, masks, points = instance(7)
    whole = ConeProjector(rows, masks).project(points, np.arange(len(masks)))
    monkeypatch.setattr(cone_projection, "_NUMBERS", 2 * 3 * rows.shape[1] ** 2)
    projector = ConeProjector(rows, masks)
    assert projector.room == 3
    for _ in range(2):
        assert np.allclose(projector.project(points, np.arange(len(masks))), whole, rtol=0, atol=1e-10)
    some = np.array([4, 1])
    assert np.allclose(projector.project(points[some], some), whole[some], rtol=0, atol=1e-10)


def test_work_ends_at_enough_or_at_the_deadline_with_multipliers_that_hold():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 10))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    masks = rng.standard_normal((6, 10)) @ rows.T >= 0
    points = rng.standard_normal((6, 10))
    exact = np.linalg.norm(ConeProjector(rows, masks).project(points, np.arange(6)), axis=1)
    for options in ({"enough": 1.5 * exact.max()}, {"deadline": time.perf_counter()}):
        projector = ConeProjector(rows, masks)
        lengths = np.linalg.norm(projector.project(points, np.arange(6), **options), axis=1)
        assert np.all(lengths >= exact * (1 - 1e-12))
        moved = points + (np.where(masks, 1.0, -1.0) * projector.dense_multipliers(np.arange(6))) @ rows
        assert np.allclose(np.linalg.norm(moved, axis=1), lengths, rtol=1e-10)
        if "enough" in options:
            assert np.all((lengths <= options["enough"]) | (lengths <= exact * (1 + 1e-10)))


@pytest.mark.parametrize("room", [None, 2])
def test_basis_is_orthogonal_to_the_active_rows(room, monkeypatch):
    rows, masks, points = instance(11)
    if room is not None:
        # Most cones have lost their factors by the time that their bases are asked for.
        monkeypatch.setattr(cone_projection, "_NUMBERS", 2 * room * rows.shape[1] ** 2)
    projector = ConeProjector(rows, masks)
    vectors = projector.project(points, np.arange(len(masks)))
    for k, vector in enumerate(vectors):
        basis, active = projector.basis(k), projector.active[k]
        assert basis.shape == (rows.shape[1], projector.dimension(k))
        assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        assert np.allclose(rows[active[active >= 0]] @ basis, 0.0, atol=1e-10)
        assert np.allclose(basis @ (basis.T @ vector), vector, atol=1e-10)


def test_drifted_factors_after_the_deadline_leave_the_point_of_the_multipliers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, masks, points = instance(7)
    projector, every = ConeProjector(rows, masks), np.arange(len(masks))
    refactored = []
    monkeypatch.setattr(cone_projection, "_DRIFT", -1.0)
    projector.project(points, every)
    monkeypatch.setattr(projector, "_refactor", lambda which: refactored.append(which))
    late = projector.project(2.0 * points, every, deadline=time.perf_counter() - 1.0)
    multipliers = projector.dense_multipliers(every)
    assert not refactored and np.all(multipliers >= 0.0)
    found = 2.0 * points + (np.where(masks, 1.0, -1.0) * multipliers) @ rows
    np.testing.assert_allclose(late, found, atol=1e-12)
