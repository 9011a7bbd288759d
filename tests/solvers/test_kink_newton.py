"""Joint Newton steps: monotone, stationary at the end, the same for weights and copies of rows."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.face_newton import polish
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.kink_newton import KinkNewton, _Run
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.narrowing import narrow
from cvxnn.solvers.neurons import Neurons

DOWN = [(1e-2, 4), (1e-3, 6), (1e-4, 8), (1e-5, 10), (1e-6, 10), (1e-7, 10), (1e-8, 10)]


def table(n=80, d=4, seed=0, loss="squared", weights=False):
    rng = np.random.default_rng(seed)
    X = np.c_[rng.standard_normal((n, d - 1)), np.ones(n)]
    y = np.sin(2 * X[:, 0]) + 0.3 * np.abs(X[:, 1]) + 0.1 * rng.standard_normal(n)
    y = np.where(y > np.median(y), 1.0, -1.0) if loss in ("logistic", "squared_hinge") else y
    return Problem(X, y, 0.02 * n, loss, sample_weight=rng.integers(1, 4, n).astype(float) if weights else None)


def some_neurons(problem, k, seed=1):
    rng = np.random.default_rng(seed)
    return Neurons(0.3 * rng.standard_normal((k, problem.n_features)), np.where(np.arange(k) % 2, 1.0, -1.0))


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
@pytest.mark.parametrize("weights", [False, True])
def test_monotone_and_nothing_left_on_the_faces(loss, weights):
    problem = table(loss=loss, weights=weights)
    start = some_neurons(problem, 12)
    newton, last = KinkNewton(problem), start
    for _ in range(6):
        moved = solve_masses(problem, newton.minimize(last, DOWN, tol=0.0))
        assert moved.objective(problem) <= last.objective(problem) * (1 + 1e-12)
        last = moved
    # Newton's method on the faces, which knows nothing of smoothing, finds no more than the smoothing took.
    polished = polish(problem, last).neurons.objective(problem)
    assert polished >= last.objective(problem) * (1 - 1e-4)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_diagonals_in_the_eigenbasis_serve_as_well_as_blocks(monkeypatch, loss):
    problem = table(loss=loss, weights=True)
    start = some_neurons(problem, 12)
    blocks = solve_masses(problem, KinkNewton(problem).minimize(start, DOWN, tol=0.0))
    monkeypatch.setattr("cvxnn.solvers.kink_newton._BLOCK_FEATURES", 1)
    assert KinkNewton.affords(problem, 12)
    newton, last = KinkNewton(problem), start
    for _ in range(6):
        moved = solve_masses(problem, newton.minimize(last, DOWN, tol=0.0))
        assert moved.objective(problem) <= last.objective(problem) * (1 + 1e-12)
        last = moved
    assert polish(problem, last).neurons.objective(problem) >= last.objective(problem) * (1 - 1e-4)
    assert last.objective(problem) <= blocks.objective(problem) * 1.02
    # Where nothing is gained the start comes back as it was, not turned to the other basis and back.
    late = newton.minimize(start, DOWN, deadline=time.perf_counter() - 1.0)
    np.testing.assert_array_equal(late.vectors, start.vectors)


def test_start_counts_and_zero_vectors_go():
    problem = table()
    start = Neurons(np.zeros((2, 4)), np.ones(2))
    assert len(KinkNewton(problem).minimize(start, DOWN)) == 0
    good = KinkNewton(problem).minimize(some_neurons(problem, 8), DOWN)
    assert KinkNewton(problem).minimize(good, [(0.3, 2)]).objective(problem) <= good.objective(problem)


def test_repeated_rows_equal_weights():
    plain = table(n=40)
    counts = np.random.default_rng(0).integers(1, 4, 40)
    weighted = Problem(plain.X, plain.y, plain.beta, sample_weight=counts.astype(float))
    repeated = Problem(np.repeat(plain.X, counts, axis=0), np.repeat(plain.y, counts), plain.beta)
    start = some_neurons(plain, 6)
    a, b = (KinkNewton(problem).minimize(start, [(1e-2, 1)]) for problem in (weighted, repeated))
    assert a.objective(weighted) == pytest.approx(b.objective(repeated), rel=1e-4)


def test_zero_rows_change_nothing_but_the_loss_of_their_own():
    problem = table()
    longer = Problem(np.vstack([problem.X, np.zeros((5, 4))]), np.r_[problem.y, -np.ones(5)], problem.beta)
    start = some_neurons(problem, 6)
    a = KinkNewton(problem).minimize(start, DOWN[:1]).objective(problem)
    b = KinkNewton(longer).minimize(start, DOWN[:1]).objective(longer) - 2.5
    assert np.isfinite(b) and b == pytest.approx(a, rel=1e-2)


def test_deadline_and_determinism():
    problem = table()
    start = some_neurons(problem, 8)
    late = KinkNewton(problem).minimize(start, DOWN, deadline=time.perf_counter() - 1.0)
    np.testing.assert_array_equal(late.vectors, start.vectors)
    a, b = (KinkNewton(problem).minimize(start, DOWN[:3]) for _ in range(2))
    np.testing.assert_array_equal(a.vectors, b.vectors)


def test_moves_beyond_the_size_of_newton_steps_descend_too(monkeypatch):
    monkeypatch.setattr("cvxnn.solvers.kink_newton._MOST_ENTRIES", 0)
    problem = table()
    start = some_neurons(problem, 8)
    moves = JointMoves(problem)
    moved = moves.minimize(start, DOWN[:3])
    assert moved.objective(problem) < start.objective(problem)
    # A second call knows nothing of the first one.
    np.testing.assert_array_equal(moves.minimize(start, DOWN[:3]).vectors, moved.vectors)


@pytest.mark.parametrize("width", [1, 3, 6])
def test_narrow_keeps_the_width_and_beats_plain_truncation(width):
    problem = table()
    wide = KinkNewton(problem).minimize(some_neurons(problem, 16), DOWN)
    thin = narrow(problem, wide, width)
    assert len(thin) <= width
    heaviest = wide.take(np.argsort(-wide.masses)[:width])
    assert thin.objective(problem) <= heaviest.objective(problem)
    zero = Neurons.empty(4).objective(problem)
    assert thin.objective(problem) < zero
    late = narrow(problem, wide, width, deadline=-np.inf)
    assert len(late) <= width and thin.objective(problem) <= late.objective(problem) * (1 + 1e-12)


def test_narrow_leaves_a_narrow_network_no_worse():
    problem = table()
    few = KinkNewton(problem).minimize(some_neurons(problem, 2), DOWN)
    assert narrow(problem, few, 5).objective(problem) <= few.objective(problem) * (1 + 1e-12)


def test_narrow_takes_neurons_of_no_mass():
    problem = table()
    wide = KinkNewton(problem).minimize(some_neurons(problem, 6), DOWN)
    with_zero = wide.joined(Neurons(np.zeros((2, 4)), np.ones(2)))
    np.testing.assert_array_equal(narrow(problem, with_zero, 2).vectors, narrow(problem, wide, 2).vectors)


def test_a_smoothing_begins_afresh_after_one_that_gave_up():
    problem = table()
    run = _Run(KinkNewton(problem), some_neurons(problem, 6))
    run.damping = 1e9
    run.begin(1e-3)
    assert run.damping <= 1.0
    before = run.true_value()
    for _ in range(4):
        run.step(np.inf)
    assert run.true_value() < before
