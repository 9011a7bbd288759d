"""The polish: from the accuracy of a solver to machine precision, never upwards, never out of its cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cvxnn import Problem, solve
from cvxnn.solvers.cells import adjacent_gates, masks_of, unique_cells
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.face_newton import polish
from cvxnn.solvers.neurons import Neurons
from tests.oracles.full_program import all_strings

DATA = Path(__file__).parent.parent / "data"


def random_problem(seed, loss="squared", n=30, d=3):
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], n) if loss == "logistic" else rng.standard_normal(n)
    return Problem(rng.standard_normal((n, d)), y, 0.5, loss), rng


@pytest.mark.parametrize("name", ["06_random_sq_n6_d3", "07_random_logistic_n6_d2", "08_grid3x3_bias_degenerate"])
def test_digits_are_gained_on_the_full_program(name):
    data = json.loads((DATA / f"{name}.json").read_text())
    problem = Problem(data["X"], data["y"], data["beta"], "squared" if data["kind"] == "sq" else "logistic")
    masks = all_strings(problem.n_samples)
    both, signs = np.concatenate([masks, masks]), np.repeat([1.0, -1.0], len(masks))
    vectors = solve_conic(problem, both, signs, tol=1e-7)
    assert vectors is not None
    rough = Neurons(vectors, signs)
    fine = polish(problem, rough).neurons
    assert fine.objective(problem) <= rough.objective(problem)
    assert fine.objective(problem) == pytest.approx(data["p_star"], rel=1e-13)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_perturbed_optimum_is_recovered(loss):
    problem, rng = random_problem(0, loss)
    best = solve(problem)
    network = best.network
    vectors = np.abs(network.a)[:, None] * network.W
    noisy = Neurons(vectors * (1 + 1e-3 * rng.standard_normal((len(vectors), 1))), np.sign(network.a))
    assert noisy.objective(problem) > best.objective * (1 + 1e-9)
    assert polish(problem, noisy).neurons.objective(problem) == pytest.approx(best.objective, rel=1e-12)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("copies", [1, 2])
def test_rough_neurons_are_read_whole(seed, copies):
    """Neurons beside their kinks, some within the tolerance of the reading and some not, on rows that come twice."""
    problem, rng = random_problem(seed, n=40, d=6)
    problem = Problem(np.repeat(problem.X, copies, axis=0), np.repeat(problem.y, copies), 2.0)
    best = solve(problem)
    vectors = np.abs(best.network.a)[:, None] * best.network.W
    for size in (1e-7, 1e-6, 1e-5):
        noise = size * rng.standard_normal(vectors.shape) * np.linalg.norm(vectors, axis=1, keepdims=True)
        result = polish(problem, Neurons(vectors + noise, np.sign(best.network.a)), zero_tol=size)
        assert result.neurons.objective(problem) == pytest.approx(best.objective, rel=1e-12)


def test_superfluous_neurons_go():
    """A neuron of little mass, on a kink or off all of them, holds up nothing on its way out."""
    stationary = []
    for seed in range(20):
        problem, rng = random_problem(seed, n=25)
        best = solve(problem)
        vectors = np.abs(best.network.a)[:, None] * best.network.W
        for k in range(8):
            extra = rng.standard_normal(3)
            if k % 2:
                row = problem.X[rng.integers(25)]
                extra -= (extra @ row) / (row @ row) * row
            extra *= 10.0 ** rng.uniform(-8.0, -5.0) * np.max(np.abs(best.network.a)) / np.linalg.norm(extra)
            signs = np.append(np.sign(best.network.a), rng.choice([-1.0, 1.0]))
            result = polish(problem, Neurons(np.vstack([vectors, extra]), signs), mass_tol=0.0)
            assert result.neurons.objective(problem) <= best.objective * (1 + 1e-13)
            stationary.append(result.stationary)
    # Where the optimal networks are many, rounding may lead along them without an end.
    assert np.mean(stationary) > 0.95


def test_objective_never_rises():
    for seed in range(20):
        problem, rng = random_problem(seed, n=12)
        start = Neurons(rng.standard_normal((5, 3)), rng.choice([-1.0, 1.0], 5))
        for zero_tol in (1e-9, 1e-5, 1e-2):
            assert polish(problem, start, zero_tol=zero_tol).neurons.objective(problem) <= start.objective(problem) * (
                1 + 1e-15
            )


def test_cells_are_not_left():
    for seed in range(10):
        problem, rng = random_problem(seed, n=15)
        gates = rng.standard_normal((6, 3))
        masks, signs = masks_of(problem.X, gates), rng.choice([-1.0, 1.0], 6)
        vectors = solve_conic(problem, masks, signs, tol=1e-6)
        assert vectors is not None
        fine = polish(problem, Neurons(vectors, signs), cells=masks).neurons
        orientation = np.where(masks, 1.0, -1.0)
        for vector in fine.vectors:
            inside = np.min(orientation * (problem.X @ vector), axis=1) >= -1e-9 * np.linalg.norm(vector)
            assert inside.any()
        exact = solve_conic(problem, masks, signs)
        assert exact is not None
        assert fine.objective(problem) == pytest.approx(Neurons(exact, signs).objective(problem), rel=1e-8)


def test_nothing_to_polish():
    problem, _ = random_problem(0)
    empty = Neurons.empty(3)
    assert len(polish(problem, empty).neurons) == 0


def test_adjacent_gates_lie_in_cells_that_contain_the_vectors():
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, (12, 3)).astype(float)
    vectors = np.vstack([rng.standard_normal((5, 3)), rng.integers(-1, 2, (6, 3))])
    gates = adjacent_gates(X, vectors)
    rows = X[np.any(X != 0, axis=1)]
    assert np.all(gates @ rows.T != 0)
    orientation = np.where(masks_of(X, gates), 1.0, -1.0)
    assert np.min(orientation * (vectors @ X.T)) >= -1e-12
    cells = unique_cells(masks_of(X, gates), np.ones(len(gates)))
    assert len(cells) == len(np.unique(masks_of(X, gates), axis=0))
