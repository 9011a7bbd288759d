"""Problems whose patterns can be listed: the optimum equals the conic program over all cells, with scope "global"."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, Status, patterns, solve
from tests.oracles.full_program import all_strings, full_program_optimum
from tests.oracles.pattern_enumeration import patterns_by_linear_programming

DATA = Path(__file__).parent / "data"
LOSSES = ["squared", "logistic", "huber", "squared_hinge"]
FIXTURES = [p for p in sorted(DATA.glob("*.json")) if "p_star" in json.loads(p.read_text())]


def make(seed, loss, n, d, kind="gauss"):
    rng = np.random.default_rng(seed)
    if kind == "gauss":
        X = rng.standard_normal((n, d))
    elif kind == "grid":
        X = np.c_[rng.integers(-1, 2, (n, d - 1)), np.ones(n)].astype(float)
    else:  # duplicates, opposite rows, zero rows
        X = rng.standard_normal((n, d))
        X[1], X[2], X[3] = X[0], -X[0], 0.0
    y = rng.choice([-1.0, 1.0], n) if loss in ("logistic", "squared_hinge") else 2.0 * rng.standard_normal(n)
    weight = rng.integers(1, 4, n).astype(float)
    return X, y, weight


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_fixtures(path):
    data = json.loads(path.read_text())
    loss = "squared" if data["kind"] == "sq" else "logistic"
    s = solve(Problem(data["X"], data["y"], data["beta"], loss))
    assert s.status is Status.GLOBAL_OPTIMUM and s.scope == "global"
    assert s.objective == pytest.approx(data["p_star"], rel=1e-9)
    assert s.lower_bound <= data["p_star"] * (1 + 1e-15)
    assert s.gap <= 1e-9
    np.testing.assert_allclose(s.network(np.array(data["X"])), data["fit"], atol=1e-6)
    np.testing.assert_allclose(s.dual, data["dual_nu"], atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["gauss", "grid", "degenerate"])
@pytest.mark.parametrize("d", [2, 3])
def test_optimum_equals_the_full_conic_program(loss, kind, d):
    X, y, weight = make(3 * d, loss, 7, d, kind)
    truth = full_program_optimum(X, y, 0.2, loss, weight, sorted(patterns_by_linear_programming(X)))
    s = solve(Problem(X, y, 0.2, loss, sample_weight=weight))
    assert s.scope == "global"
    assert s.objective == pytest.approx(truth, rel=1e-6)
    assert s.lower_bound <= truth * (1 + 1e-7)
    assert s.gap <= 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_high_rank_small_n(loss):
    X, y, weight = make(5, loss, 5, 6)
    truth = full_program_optimum(X, y, 0.3, loss, weight, all_strings(5))
    s = solve(Problem(X, y, 0.3, loss, sample_weight=weight))
    assert s.scope == "global"
    assert s.objective == pytest.approx(truth, rel=1e-6)


def test_solution_is_consistent():
    X, y, weight = make(1, "squared", 12, 3)
    problem = Problem(X, y, 0.2, sample_weight=weight)
    s = solve(problem)
    assert s.objective == s.network.objective(problem)
    assert s.gap == (s.objective - s.lower_bound) / s.objective
    # The blocks lie in their cones, reproduce the fit, and their norms are the penalty.
    masks = s.patterns.masks
    orientation = np.where(masks, 1.0, -1.0)
    for block in s.blocks:
        assert np.min(orientation * (block @ X.T)) >= -1e-8
    fit = np.sum(masks * ((s.blocks.u - s.blocks.v) @ X.T), axis=0)
    np.testing.assert_allclose(fit, s.network(X), atol=1e-7)
    norms = np.linalg.norm(np.vstack(s.blocks), axis=1).sum()
    assert problem.loss_value(fit) + problem.beta * norms == pytest.approx(s.objective, rel=1e-7)
    assert len(s.history) >= 1
    assert np.all(np.diff(s.history.objective) <= 1e-12) and np.all(np.diff(s.history.lower_bound) >= 0)


def test_gradient_descent_never_beats_the_bound():
    from scipy.optimize import minimize

    X, y, weight = make(8, "squared", 10, 2)
    problem = Problem(X, y, 0.1, sample_weight=weight)
    s = solve(problem)
    rng = np.random.default_rng(0)

    def objective(v):
        return ReLUNetwork(v[:16].reshape(8, 2), v[16:]).objective(problem)

    best = min(minimize(objective, rng.standard_normal(24), method="L-BFGS-B").fun for _ in range(4))
    assert best >= s.lower_bound
    assert best <= s.objective * 1.2


def test_all_listed_patterns_reach_the_global_optimum():
    X, y, _ = make(2, "squared", 9, 3)
    problem = Problem(X, y, 0.2)
    listed = solve(problem, patterns=patterns.enumerate_patterns(X))
    free = solve(problem)
    assert listed.status is Status.GLOBAL_OPTIMUM and listed.scope == "global"
    assert listed.objective == pytest.approx(free.objective, rel=1e-7)
    assert listed.lower_bound <= free.objective * (1 + 1e-12)


def test_listed_patterns_equal_the_conic_program():
    X, y, weight = make(4, "logistic", 12, 3)
    listed = patterns.sample_patterns(X, 8, random_state=1)
    truth = full_program_optimum(X, y, 0.2, "logistic", weight, listed.masks)
    s = solve(Problem(X, y, 0.2, "logistic", sample_weight=weight), patterns=listed)
    assert s.objective == pytest.approx(truth, rel=1e-6)
    assert s.lower_bound <= truth * (1 + 1e-7)
    assert s.gap <= 1e-6
    orientation = np.where(listed.masks, 1.0, -1.0)
    assert min(np.min(orientation * (block @ X.T)) for block in s.blocks) >= -1e-7


def test_same_input_same_output():
    X, y, _ = make(6, "huber", 20, 3)
    first, second = (solve(Problem(X, y, 0.3, "huber")) for _ in range(2))
    np.testing.assert_array_equal(first.network.W, second.network.W)
    assert first.lower_bound == second.lower_bound


def test_invariances():
    rng = np.random.default_rng(0)
    X, y, weight = make(7, "squared", 9, 3)
    base = solve(Problem(X, y, 0.2, sample_weight=weight)).objective
    repeat = np.repeat(np.arange(9), weight.astype(int))
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    order = rng.permutation(9)
    cases = {
        "weights are repeated rows": Problem(X[repeat], y[repeat], 0.2),
        "rotation": Problem(X @ rotation, y, 0.2, sample_weight=weight),
        "permutation": Problem(X[order], y[order], 0.2, sample_weight=weight[order]),
        "sign of y": Problem(X, -y, 0.2, sample_weight=weight),
        "wider data of the same rank": Problem(X @ np.c_[rotation, np.zeros((3, 2))], y, 0.2, sample_weight=weight),
        "scale of X and beta": Problem(1e3 * X, y, 0.2e3, sample_weight=weight),
        "zero weight": Problem(np.r_[X, [[9.0, 9, 9]]], np.r_[y, 5.0], 0.2, sample_weight=np.r_[weight, 0.0]),
    }
    for name, problem in cases.items():
        s = solve(problem)
        assert s.scope == "global", name
        assert s.objective == pytest.approx(base, rel=1e-9), name


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2])
def test_a_start_next_to_the_optimum_is_no_trap(size):
    data = json.loads((DATA / "01_sqrt3_staircase.json").read_text())
    problem = Problem(data["X"], data["y"], data["beta"])
    masses = np.array(data["vertices_masses"])[0]
    best = ReLUNetwork.from_vectors(masses[:, None] * np.array(data["atoms_directions"]), data["atoms_signs"])
    rng = np.random.default_rng(0)
    for _ in range(10):
        start = ReLUNetwork(
            best.W + size * rng.standard_normal(best.W.shape), best.a + size * rng.standard_normal(best.a.shape)
        )
        s = solve(problem, warm_start=start)
        assert s.scope == "global" and s.gap <= 1e-9
