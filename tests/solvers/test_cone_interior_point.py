"""The interior-point solver of the ReLU program on fixed patterns, against a general conic solver and brute force."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.losses import HuberLoss
from cvxnn.problem import Problem
from cvxnn.solvers.cone_interior_point import ConeSolution, solve_cone_blocks
from tests.oracles.conic import conic_optimum
from tests.oracles.full_program import all_strings

DATA = Path(__file__).parents[1] / "data"
LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def check_solution(problem: Problem, masks: np.ndarray, signs: np.ndarray, solution: ConeSolution) -> None:
    """Every claim of the result, recomputed from the data alone."""
    X, beta = problem.X, problem.beta
    z, rho = solution.vectors, solution.multipliers
    sizes = np.linalg.norm(z, axis=1)
    orient = np.where(masks, 1.0, -1.0)
    fit = sum(s * mask * (X @ u) for s, mask, u in zip(signs, masks, z, strict=True))
    assert np.allclose(fit, solution.fit, rtol=0, atol=1e-12 * max(1.0, np.abs(fit).max()))
    assert solution.objective == pytest.approx(problem.loss_value(solution.fit) + beta * sizes.sum(), rel=1e-13)
    limit = 1e-9 * np.outer(sizes, np.linalg.norm(X, axis=1))
    assert np.all(orient * (z @ X.T) >= -limit)
    assert solution.violation <= 1e-9
    assert np.all(rho >= 0)
    forces = (masks * signs[:, None] * solution.dual + orient * rho) @ X
    assert np.all(np.linalg.norm(forces, axis=1) <= beta * (1 + 1e-12) + 1e-13)
    assert solution.lower_bound == pytest.approx(problem.dual_value(solution.dual), rel=1e-13)
    assert solution.lower_bound <= solution.objective * (1 + 1e-12)


def random_instance(seed: int) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Small instances of many kinds: general, ternary, grid, repeated or zero rows, masks that no gate realises."""
    rng = np.random.default_rng(seed)
    n, blocks = int(rng.integers(1, 31)), int(rng.integers(1, 9))
    rank = int(rng.integers(1, min(n, 5) + 1))
    kind = seed % 5
    X = rng.standard_normal((n, rank))
    if kind == 1:
        X = rng.integers(-1, 2, (n, rank)).astype(float)
    elif kind == 2:
        X[n // 2 :] = X[: n - n // 2] * rng.choice([1.0, -1.0, 2.0], size=(n - n // 2, 1))
    elif kind == 3:
        X = np.column_stack([rng.integers(0, 3, (n, rank - 1)), np.ones(n)])
    elif kind == 4:
        X[rng.random(n) < 0.3] = 0.0
    _, values, right = np.linalg.svd(X, full_matrices=False)
    X = X @ right[values > 1e-9 * values.max(initial=1e-300)].T
    if X.shape[1] == 0:
        X = np.ones((n, 1))
    masks = rng.standard_normal((blocks, X.shape[1])) @ X.T >= 0
    if seed % 3 == 0:
        masks ^= rng.random(masks.shape) < 0.15
    loss = LOSSES[rng.integers(4)]
    y = rng.choice([-1.0, 1.0], n) if loss in ("logistic", "squared_hinge") else 3.0 * rng.standard_normal(n)
    weight = rng.integers(0, 4, n).astype(float) if rng.random() < 0.5 else None
    if weight is not None and not weight.any():
        weight = None
    form = HuberLoss(delta=float(rng.uniform(0.3, 2.0))) if loss == "huber" else loss
    problem = Problem(X, y, float(10 ** rng.uniform(-3, 0.5)), form, sample_weight=weight)
    return problem, masks, rng.choice([-1.0, 1.0], blocks)


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_conic_solver(seed):
    problem, masks, signs = random_instance(seed)
    solution = solve_cone_blocks(problem, masks, signs)
    check_solution(problem, masks, signs, solution)
    assert solution.converged
    assert solution.gap <= 1e-8
    truth = conic_optimum(problem, masks, signs)
    assert solution.objective == pytest.approx(truth, rel=2e-8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1000, 100_000))
def test_converges_on_any_instance(seed):
    problem, masks, signs = random_instance(seed)
    solution = solve_cone_blocks(problem, masks, signs)
    check_solution(problem, masks, signs, solution)
    assert solution.converged


@pytest.mark.parametrize(
    "name", ["01_sqrt3_staircase", "03_polygon6", "06_random_sq_n6_d3", "07_random_logistic_n6_d2"]
)
def test_all_strings_give_the_global_optimum(name):
    fixture = json.loads((DATA / f"{name}.json").read_text())
    loss = "logistic" if fixture["kind"] == "log" else "squared"
    problem = Problem(fixture["X"], fixture["y"], fixture["beta"], loss)
    strings = all_strings(problem.n_samples)
    masks = np.concatenate([strings, strings])
    signs = np.repeat([1.0, -1.0], len(strings))
    solution = solve_cone_blocks(problem, masks, signs, tol=1e-11)
    check_solution(problem, masks, signs, solution)
    assert solution.converged
    assert solution.objective == pytest.approx(fixture["p_star"], rel=1e-11)
    assert np.allclose(solution.fit, fixture["fit"], rtol=0, atol=1e-5)


def test_degenerate_grid_gives_the_global_optimum():
    fixture = json.loads((DATA / "08_grid3x3_bias_degenerate.json").read_text())
    problem = Problem(fixture["X"], fixture["y"], fixture["beta"])
    gates = np.random.default_rng(0).standard_normal((60_000, 3))
    found = np.unique(gates @ problem.X.T >= 0, axis=0)
    atoms = np.array(fixture["atoms_directions"])
    nearby = (atoms[:, None, :] + 1e-3 * gates[None, :500, :]).reshape(-1, 3)
    cells = np.unique(np.concatenate([found, nearby @ problem.X.T >= 0]), axis=0)
    masks = np.concatenate([cells, cells])
    signs = np.repeat([1.0, -1.0], len(cells))
    solution = solve_cone_blocks(problem, masks, signs, tol=1e-11)
    check_solution(problem, masks, signs, solution)
    assert solution.converged
    assert solution.objective == pytest.approx(fixture["p_star"], rel=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
def test_real_data(loss, diabetes):
    X, y = diabetes
    y = np.where(y > 0, 1.0, -1.0) if loss in ("logistic", "squared_hinge") else y
    problem = Problem(X, y, 1e-2 * len(y), loss)
    rng = np.random.default_rng(3)
    masks, signs = rng.standard_normal((20, X.shape[1])) @ X.T >= 0, np.resize([1.0, -1.0], 20)
    solution = solve_cone_blocks(problem, masks, signs)
    check_solution(problem, masks, signs, solution)
    assert solution.converged
    if loss == "squared":
        assert solution.objective == pytest.approx(conic_optimum(problem, masks, signs, tight=False), rel=1e-6)


@pytest.fixture(scope="module")
def diabetes():
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    return np.column_stack([X, np.ones(len(y))]), (y - y.mean()) / y.std()


def test_flat_cone_keeps_its_line():
    # Rows e1, -e1, e2 with bits 1, 1, 1: z_1 >= 0 and z_1 <= 0, so the cone is the ray {0} x [0, inf).
    problem = Problem([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [5.0, 5.0, 2.0], beta=0.5)
    solution = solve_cone_blocks(problem, [[True, True, True]], [1.0])
    assert solution.converged
    assert solution.vectors[0, 0] == pytest.approx(0.0, abs=1e-14)
    assert solution.vectors[0, 1] == pytest.approx(1.5, rel=1e-7)
    assert solution.objective == pytest.approx(25.0 + 0.5 * 0.25 + 0.5 * 1.5, rel=1e-9)
    check_solution(problem, np.ones((1, 3), bool), np.ones(1), solution)


def test_cone_of_the_origin_alone():
    problem = Problem([[1.0], [1.0]], [3.0, 4.0], beta=0.1)
    masks = np.array([[True, False]])
    solution = solve_cone_blocks(problem, masks, [1.0])
    assert np.all(solution.vectors == 0)
    assert solution.converged
    assert solution.objective == pytest.approx(12.5)
    check_solution(problem, masks, np.ones(1), solution)


def test_zero_is_optimal_above_the_largest_beta():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    masks = rng.standard_normal((4, 3)) @ X.T >= 0
    solution = solve_cone_blocks(Problem(X, y, 1e3), masks, np.ones(4))
    assert solution.converged
    assert np.all(solution.vectors == 0)
    assert solution.objective == pytest.approx(0.5 * y @ y)


def test_masks_without_bits_and_no_masks():
    problem = Problem([[1.0, 2.0], [0.0, 1.0]], [1.0, -1.0], beta=0.3)
    for masks in (np.zeros((2, 2), bool), np.zeros((0, 2), bool)):
        solution = solve_cone_blocks(problem, masks, np.ones(len(masks)))
        assert solution.vectors.shape == (len(masks), 2)
        assert solution.objective == pytest.approx(1.0)
        assert solution.converged


def test_scaling_the_targets_scales_the_solution():
    problem, masks, signs = random_instance(10)
    problem = Problem(problem.X, np.linspace(-1, 2, problem.n_samples), 0.05)
    one = solve_cone_blocks(problem, masks, signs, tol=1e-10)
    for scale in (1e-6, 1e6):
        scaled = Problem(problem.X, scale * problem.y, scale * problem.beta)
        other = solve_cone_blocks(scaled, masks, signs, tol=1e-10)
        assert other.converged
        assert other.objective == pytest.approx(scale**2 * one.objective, rel=1e-9)


def test_weights_equal_repeated_rows():
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((10, 3)), rng.choice([-1.0, 1.0], 10)
    weight = rng.integers(0, 4, 10)
    masks, signs = rng.standard_normal((5, 3)) @ X.T >= 0, np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    again = np.repeat(np.arange(10), np.maximum(weight, 1))
    twice = np.where(weight[again] > 0, 1.0, 0.0)
    for loss in LOSSES:
        one = solve_cone_blocks(Problem(X, y, 0.2, loss, sample_weight=weight), masks, signs, tol=1e-10)
        two = solve_cone_blocks(
            Problem(X[again], y[again], 0.2, loss, sample_weight=twice), masks[:, again], signs, tol=1e-10
        )
        assert one.objective == pytest.approx(two.objective, rel=1e-9)


def test_start_is_never_lost(diabetes):
    X, y = diabetes
    problem = Problem(X, y, 1e-2 * len(y))
    gates = np.random.default_rng(1).standard_normal((12, X.shape[1]))
    masks, signs = gates @ X.T >= 0, np.resize([1.0, -1.0], 12)
    full = solve_cone_blocks(problem, masks, signs)
    short = solve_cone_blocks(problem, masks, signs, start=full.vectors, max_iter=1)
    assert not short.converged
    assert short.objective <= full.objective
    check_solution(problem, masks, signs, short)
    again = solve_cone_blocks(problem, masks, signs, start=gates)
    assert again.converged
    assert again.objective == pytest.approx(full.objective, rel=2e-8)


def test_time_limit_returns_a_feasible_point(diabetes):
    X, y = diabetes
    problem = Problem(X, y, 1e-2 * len(y))
    masks = np.random.default_rng(2).standard_normal((10, X.shape[1])) @ X.T >= 0
    solution = solve_cone_blocks(problem, masks, np.ones(10), time_limit=0.0)
    assert not solution.converged
    check_solution(problem, masks, np.ones(10), solution)


def test_same_input_same_output():
    problem, masks, signs = random_instance(7)
    one, two = (solve_cone_blocks(problem, masks, signs) for _ in range(2))
    assert np.array_equal(one.vectors, two.vectors)
    assert one.lower_bound == two.lower_bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.ones((2, 3), bool)}, "masks must have shape"),
        ({"signs": np.ones(3)}, "signs must have shape"),
        ({"signs": np.array([1.0, 0.5])}, "signs must hold only -1 and \\+1"),
        ({"start": np.ones((2, 3))}, "start must have shape"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"beta": 0.0}, "beta > 0"),
    ],
)
def test_refusals(change, message):
    arguments = {"masks": np.ones((2, 2), bool), "signs": np.ones(2), "start": None, "tol": 1e-8, "beta": 0.1} | change
    problem = Problem(np.eye(2), [1.0, 2.0], arguments.pop("beta"))
    with pytest.raises(ValueError, match=message):
        solve_cone_blocks(problem, arguments.pop("masks"), arguments.pop("signs"), **arguments)
