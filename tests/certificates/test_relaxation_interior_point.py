"""Interior point for the relaxation: never above the optimum, equal to it after cuts, and what ends the search."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cvxnn import Problem, solve
from cvxnn.certificates import relaxation_interior_point as module
from cvxnn.certificates._relaxation_conic import solve_pieces
from cvxnn.certificates._relaxation_model import PieceMultipliers, make_piece
from cvxnn.certificates._relaxation_pieces import piece_bound
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.relaxation_interior_point import interior_point_bound
from cvxnn.certificates.relaxation_rows import reduce_rows
from tests.oracles.pricing import cone_maximum, dual_norm_by_strings
from tests.oracles.relaxation import relaxation_optimum

DATA = Path(__file__).parents[1] / "data"
LOSSES = ["squared", "huber", "logistic", "squared_hinge"]


def fixture(name):
    stored = json.loads((DATA / f"{name}.json").read_text())
    loss = "squared" if stored["kind"] == "sq" else "logistic"
    return Problem(stored["X"], stored["y"], stored["beta"], loss), stored["p_star"]


def random_problem(n, d, *, loss="squared", beta=0.1, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    y = np.sign(y) if loss in ("logistic", "squared_hinge") else 2.0 * y
    return Problem(X, y, beta, loss, sample_weight=rng.uniform(0.2, 3.0, n) if weighted else None)


def assert_closes(problem, optimum, **options):
    bound = interior_point_bound(problem, upper=optimum, **options)
    assert bound.lower_bound <= optimum * (1 + 1e-12)
    assert bound.lower_bound >= optimum * (1 - 1e-6)
    # The parts of the result make the same proof again.
    again, scale = scaled_dual_bound(problem, bound.dual, bound.dual_norm_bound)
    assert again == bound.lower_bound and scale == bound.scale
    return bound


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("01_sqrt3_staircase", 1.0),
        ("03_polygon6", 0.944),
        ("04_polygon8", 0.925),
        ("06_random_sq_n6_d3", 1.0),
        ("07_random_logistic_n6_d2", 0.9979),
        ("08_grid3x3_bias_degenerate", 1.0),
        ("10_zero_optimum", 1.0),
        ("12_clarke_not_Bstationary", 1.0),
    ],
)
def test_known_optima(name, root):
    problem, optimum = fixture(name)
    uncut = interior_point_bound(problem, upper=optimum, max_rows=0)
    assert uncut.lower_bound / optimum == pytest.approx(root, abs=5e-4 if root < 1 else 1e-6)
    bound = assert_closes(problem, optimum)
    assert bound.lower_bound >= uncut.lower_bound
    assert bound.method == "interior point" and not bound.interrupted
    assert (bound.iterations == 1) == (root == 1.0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "d"), [(7, 2), (8, 3)])
def test_closes_on_random_problems(n, d, loss):
    problem = random_problem(n, d, loss=loss, seed=n, weighted=True)
    assert_closes(problem, solve(problem, tol=1e-9).objective)


@pytest.mark.parametrize("seed", range(6))
def test_never_above_the_optimum(seed):
    problem = random_problem(6, 3, loss=LOSSES[seed % 4], beta=10.0 ** -(seed % 3), seed=seed)
    solution = solve(problem, tol=1e-9)
    assert solution.scope == "global"
    for depth in (0, 1, 2):
        bound = interior_point_bound(problem, max_rows=depth)
        assert 0.0 < bound.lower_bound <= solution.objective * (1 + 1e-12)
        truth = dual_norm_by_strings(problem.X, bound.dual)
        assert bound.dual_norm_bound >= truth * (1 - 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_primal_relaxation(loss):
    problem = random_problem(5, 2, loss=loss, beta=0.02, seed=3, weighted=True)
    truth = relaxation_optimum(problem)
    assert interior_point_bound(problem, max_rows=0).lower_bound == pytest.approx(truth, rel=1e-6)


def test_the_uncut_relaxation_may_be_loose_and_cuts_close_it():
    x = np.arange(6) - 2.5
    problem = Problem(np.column_stack([x, np.ones(6)]), np.abs(x) % 2, beta=0.05)
    optimum = solve(problem, tol=1e-9).objective
    values = [interior_point_bound(problem, upper=optimum, max_rows=k).lower_bound / optimum for k in (0, 1, 2, 3)]
    assert values[0] < 0.96
    assert values == sorted(values)
    assert values[-1] > 1 - 1e-6


def masks_of(fixed):
    return [
        np.array(m)
        for m in itertools.product((False, True), repeat=len(fixed))
        if np.all((2 * np.array(m) - 1) * fixed >= 0)
    ]


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_any_multipliers_bound_a_piece(scale):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((5, 3))
    X[4] = -2.0 * X[1]
    rows = reduce_rows(X)
    for trial in range(12):
        nu = scale * rng.standard_normal(5)
        fixed = rng.integers(-1, 2, len(rows.rows)).astype(np.int8) * (trial > 2)
        piece = make_piece(rows.rows, int(rng.choice([-1, 1])), fixed.astype(np.int8))
        size = rng.choice([0.0, 0.1, 10.0])
        multipliers = PieceMultipliers(
            size * rng.standard_normal(len(piece.pairs)),
            size * rng.standard_normal((len(piece.forms), 1 + rows.rank)),
            size * rng.standard_normal(),
        )
        per_sample = np.zeros(5)
        per_sample[rows.samples] = rows.side * fixed[rows.group]
        truth = max(cone_maximum(X, piece.sign * nu, mask) for mask in masks_of(per_sample))
        assert piece_bound(rows, piece, nu, multipliers, scale) >= truth * (1 - 1e-12)


def test_optimal_multipliers_are_tight_on_every_piece():
    problem = random_problem(6, 3, seed=2)
    rows = reduce_rows(problem.X)
    pieces = []
    for sign, first, second in itertools.product((1, -1), (1, -1), (1, -1)):
        fixed = np.array([first, 0, second, 0, 0, 0], dtype=np.int8)
        pieces.append(make_piece(rows.rows, sign, fixed))
    answer = solve_pieces(problem, rows, pieces)
    for piece, multipliers in zip(pieces, answer.multipliers, strict=True):
        bound = piece_bound(rows, piece, answer.nu, multipliers, problem.beta)
        truth = max(cone_maximum(problem.X, piece.sign * answer.nu, m) for m in masks_of(rows.side * piece.fixed))
        assert truth * (1 - 1e-12) <= bound <= problem.beta * (1 + 1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-2])
def test_perturbed_multipliers_and_duals_stay_valid(size):
    problem = random_problem(6, 3, seed=4)
    rows = reduce_rows(problem.X)
    rng = np.random.default_rng(0)
    pieces = [make_piece(rows.rows, s, np.array([c, 0, 0, 0, 0, 0], dtype=np.int8)) for s in (1, -1) for c in (1, -1)]
    answer = solve_pieces(problem, rows, pieces)
    for piece, exact in zip(pieces, answer.multipliers, strict=True):
        masks = masks_of(rows.side * piece.fixed)
        for _ in range(5):
            nu = answer.nu * (1.0 + size * abs(rng.standard_normal())) + size * rng.standard_normal(6)
            moved = PieceMultipliers(
                exact.products + size * rng.standard_normal(exact.products.shape),
                exact.cones + size * rng.standard_normal(exact.cones.shape),
                exact.balance + size * rng.standard_normal(),
            )
            truth = max(cone_maximum(problem.X, piece.sign * nu, mask) for mask in masks)
            for unit in (problem.beta, 0.5 * problem.beta):
                assert piece_bound(rows, piece, nu, moved, unit) >= truth * (1 - 1e-12)


def test_improvements_are_reported():
    problem, optimum = fixture("04_polygon8")
    reported = []
    bound = interior_point_bound(problem, upper=optimum, on_improvement=reported.append)
    values = [found.lower_bound for found in reported]
    assert values == sorted(values) and values[-1] == bound.lower_bound and len(values) == bound.iterations


def test_directions_are_the_neurons_where_the_relaxation_is_exact():
    problem, optimum = fixture("06_random_sq_n6_d3")
    bound = interior_point_bound(problem, upper=optimum)
    stored = json.loads((DATA / "06_random_sq_n6_d3.json").read_text())
    for atom, sign in zip(stored["atoms_directions"], stored["atoms_signs"], strict=True):
        assert np.max((bound.directions @ np.array(atom))[bound.signs == sign]) > 0.5
    np.testing.assert_allclose(np.linalg.norm(bound.directions, axis=1), 1.0)


def degenerate_cases():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    yield "zero rows", Problem(np.vstack([X, np.zeros((2, 3))]), [*y, 1.0, 2.0], 0.1)
    yield "duplicates", Problem(np.vstack([X[:4], X[:4], -X[:2]]), [*y[:4], *(y[:4] + 0.1), 1.0, -1.0], 0.1)
    yield "zero column", Problem(np.column_stack([X, np.zeros(6)]), y, 0.1)
    yield "more features than samples", Problem(rng.standard_normal((4, 10)), y[:4], 0.1)
    yield "one sample", Problem(X[:1], y[:1], 0.1)
    yield "one feature", Problem(X[:, :1], y, 0.1)
    yield "low rank", Problem(X[:, :2] @ rng.standard_normal((2, 5)), y, 0.1)
    yield "zero weights", Problem(X, y, 0.1, sample_weight=[0, 1, 2, 0, 3, 1])
    yield "uneven rows", Problem(X * np.array([1, 1e-3, 1e3, 1, 1, 1e-6])[:, None], y, 0.1)
    yield "large beta", Problem(X, y, 1e3)
    yield "small beta", Problem(X, y, 1e-6)
    yield "large data", Problem(1e8 * X, y, 0.1)
    yield "tiny data", Problem(1e-150 * X, y, 0.1)
    yield "large targets", Problem(X, 1e8 * y, 1e7)


@pytest.mark.parametrize(("name", "problem"), list(degenerate_cases()), ids=lambda case: str(case)[:20])
def test_degenerate_data(name, problem):
    assert_closes(problem, solve(problem, tol=1e-9).objective)


def test_networks_that_can_only_be_zero():
    zero = Problem(np.zeros((3, 2)), [1.0, 2.0, -1.0], 0.1)
    assert interior_point_bound(zero).lower_bound == pytest.approx(3.0, rel=1e-12)
    assert interior_point_bound(Problem(np.eye(2), [0.0, 0.0], 0.1)).lower_bound == 0.0


def test_time_limit_keeps_the_best_bound():
    problem = random_problem(10, 3, seed=10)
    optimum = solve(problem, tol=1e-9).objective
    nothing = interior_point_bound(problem, time_limit=0.0)
    assert nothing.lower_bound == 0.0 and nothing.iterations == 0
    for limit in (1e-3, 0.05):
        bound = interior_point_bound(problem, upper=optimum, time_limit=limit)
        assert 0.0 <= bound.lower_bound <= optimum * (1 + 1e-12)


def test_interrupt_keeps_the_best_bound(monkeypatch):
    problem, optimum = fixture("07_random_logistic_n6_d2")
    calls = []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve_pieces(*args, **options)

    monkeypatch.setattr(module, "solve_pieces", interrupted)
    bound = interior_point_bound(problem, upper=optimum)
    assert bound.interrupted and bound.iterations == 1
    assert 0.99 * optimum < bound.lower_bound < optimum


def test_no_answer_of_the_solver_is_no_bound(monkeypatch):
    monkeypatch.setattr(module, "solve_pieces", lambda *args, **options: None)
    assert interior_point_bound(random_problem(4, 2)).lower_bound == 0.0


def test_same_input_same_output():
    problem = random_problem(7, 3, loss="logistic", seed=1)
    first, second = interior_point_bound(problem, max_rows=2), interior_point_bound(problem, max_rows=2)
    assert first.lower_bound == second.lower_bound
    np.testing.assert_array_equal(first.dual, second.dual)


def test_messages():
    problem = random_problem(4, 2)
    with pytest.raises(ValueError, match="max_rows must be a non-negative integer; got -1"):
        interior_point_bound(problem, max_rows=-1)
    with pytest.raises(ValueError, match="beta is 0"):
        interior_point_bound(Problem(problem.X, problem.y, 0.0))
    with pytest.raises(ValueError, match="at most 60"):
        interior_point_bound(random_problem(70, 3))
    with pytest.raises(ValueError, match="output_bias"):
        interior_point_bound(Problem(problem.X, problem.y, 0.1, output_bias_decay=1.0))
