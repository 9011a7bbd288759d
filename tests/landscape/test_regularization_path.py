"""Regularisation paths against separate solves, concavity, and the smallest decay with a zero optimum."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn import Problem, Status, solve
from cvxnn.architectures import GatedReLU
from cvxnn.landscape.regularization_path import beta_max, regularization_path
from cvxnn.patterns import enumerate_patterns
from tests.oracles.full_program import full_program_optimum

DATA = Path(__file__).parents[1] / "data"
LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def make_problem(loss: str, seed: int = 0, n: int = 10) -> Problem:
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, 2)), np.ones(n)])
    y = rng.standard_normal(n) if loss in ("squared", "huber") else rng.choice([-1.0, 1.0], n)
    return Problem(X, y, loss=loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_path_has_the_shape_that_theory_gives(loss):
    problem = make_problem(loss)
    path = regularization_path(problem, n_betas=8, ratio=1e-2, minimum_norm=False)
    assert path.status == "complete" and len(path) == 8
    assert np.all(np.diff(path.betas) < 0)
    assert path.betas[0] == path.beta_max.upper
    assert path.betas[-1] == pytest.approx(1e-2 * path.betas[0])
    assert path.widths[0] == 0
    assert np.all(path.gaps <= 1e-6) and set(path.scopes) == {"global"}
    slack = 1e-6 * path.objectives[0]
    # Objectives fall and are concave in beta; losses fall and penalties rise.
    assert np.all(np.diff(path.objectives) <= slack)
    slopes = np.diff(path.objectives) / np.diff(path.betas)
    assert np.all(np.diff(slopes) >= -1e-5 * slopes.max())
    assert np.all(np.diff(path.losses) <= slack)
    assert np.all(np.diff(path.penalties) >= -1e-5 * path.penalties.max())
    assert path.objectives == pytest.approx(path.losses + path.betas * path.penalties)
    assert path.minimum_norm.tolist() == [True] + 7 * [False]
    assert path.gaps[0] < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
def test_points_against_a_conic_solver(loss):
    problem = make_problem(loss, seed=1, n=6)
    path = regularization_path(problem, [0.5, 0.05], minimum_norm=False)
    masks = enumerate_patterns(problem.X).masks
    for point in path:
        truth = full_program_optimum(problem.X, problem.y, point.beta, loss, np.ones(6), masks)
        assert point.objective == pytest.approx(truth, rel=2e-6)
        assert point.lower_bound <= truth * (1 + 1e-7)
        assert point.problem.beta == point.beta and point.solution.gap <= 1e-6


@given(seed=st.integers(0, 10_000), loss=st.sampled_from(LOSSES))
@settings(max_examples=15, deadline=None)
def test_beta_max_separates_zero_from_nonzero_optima(seed, loss):
    problem = make_problem(loss, seed, n=7)
    found = beta_max(problem)
    assert found.exact and found.lower <= found.upper <= found.lower * (1 + 1e-8)
    assert float(found) == found.upper
    nu = problem.dual_vector(np.zeros(7))
    attained = found.sign * float(nu @ np.maximum(problem.X @ found.direction, 0.0))
    assert attained == pytest.approx(found.lower, rel=1e-12)
    above = solve(Problem(problem.X, problem.y, found.upper, loss))
    below = solve(Problem(problem.X, problem.y, 0.99 * found.lower, loss), tol=1e-9)
    assert above.network.width == 0
    assert below.network.width > 0
    assert below.objective < problem.loss_value(np.zeros(7))


def test_beta_max_where_branch_and_bound_is_out_of_reach():
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((80, 12)), rng.standard_normal(80))
    found = beta_max(problem, time_limit=0.2)
    assert 0.0 < found.lower < found.upper and not found.exact
    path = regularization_path(problem, [1.001 * found.upper])
    assert path.widths.tolist() == [0] and path.scopes == ("global",)


def test_minimum_norm_member_where_optima_are_a_continuum():
    case = json.loads((DATA / "01_sqrt3_staircase.json").read_text())
    problem = Problem(case["X"], case["y"], beta=case["beta"])
    path = regularization_path(problem, [10.0, case["beta"], 0.1])
    assert path.minimum_norm.all()
    # Masses (c, (1 - c)/2, (1 - c)/2) of total norm 1 have the least Euclidean norm at c = 1/3.
    masses = np.sort(np.linalg.norm(path[1].network.W, axis=1) * np.abs(path[1].network.a))
    assert masses == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-7)
    assert path[1].objective == pytest.approx(case["p_star"], rel=1e-10)
    assert path.widths[0] == 0
    kept = regularization_path(problem, [case["beta"]], minimum_norm=False)
    assert not kept.minimum_norm.any()
    assert kept[0].objective == pytest.approx(case["p_star"], rel=1e-6)


def test_betas_in_any_order_and_sequence_protocol():
    problem = make_problem("squared", n=5)
    path = regularization_path(problem, [0.1, 1.0, 0.1, 0.5], minimum_norm=False)
    assert path.betas.tolist() == [1.0, 0.5, 0.1]
    assert path[0] is path.points[0] and path[1:] == path.points[1:]
    assert [point.beta for point in path] == path.betas.tolist()
    assert len(path.networks) == len(path.solutions) == len(path.lower_bounds) == 3
    assert "points=3" in repr(path)
    assert regularization_path(problem, 0.3, minimum_norm=False).betas.tolist() == [0.3]


def test_weights_of_samples_are_kept():
    problem = make_problem("squared", n=6)
    weight = np.array([1.0, 2.0, 0.0, 1.0, 1.0, 3.0])
    weighted = Problem(problem.X, problem.y, sample_weight=weight)
    index = np.repeat(np.arange(6), weight.astype(int))
    repeated = Problem(problem.X[index], problem.y[index])
    one = regularization_path(weighted, [0.3, 0.03], minimum_norm=False)
    two = regularization_path(repeated, [0.3, 0.03], minimum_norm=False)
    assert one.objectives == pytest.approx(two.objectives, rel=1e-6)
    assert one.beta_max.upper == pytest.approx(two.beta_max.upper, rel=1e-8)


def test_an_interrupt_keeps_what_is_finished():
    problem = make_problem("squared", n=6)
    seen = []

    def stop_at_third(point):
        seen.append(point)
        if len(seen) == 3:
            raise KeyboardInterrupt

    path = regularization_path(problem, n_betas=10, minimum_norm=False, verbose=stop_at_third)
    assert path.status == "interrupted" and path.points == tuple(seen)
    assert regularization_path(problem, time_limit=0.0).status == "time_limit"
    assert "points=0" in repr(regularization_path(problem, time_limit=0.0))


def test_progress_goes_to_standard_error(capsys):
    regularization_path(make_problem("squared", n=4), [1.0, 0.1], minimum_norm=False, verbose=True)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("beta") == 2


@pytest.mark.parametrize("loss", LOSSES)
def test_path_of_gated_networks(loss):
    problem = make_problem(loss, seed=2, n=30)
    gates = np.random.default_rng(0).standard_normal((12, 3))
    path = regularization_path(problem, architecture=GatedReLU(gates), n_betas=8, ratio=1e-2)
    assert path.status == "complete" and set(path.scopes) == {"patterns"}
    assert path.widths[0] == 0 and path.widths[-1] > 0
    assert np.all(path.gaps <= 1e-6)
    assert np.all(np.diff(path.losses) <= 1e-6 * path.objectives[0])
    for point in path:
        alone = solve(point.problem, architecture=GatedReLU(gates))
        assert point.objective == pytest.approx(alone.objective, rel=2e-6)
        assert point.network.objective(point.problem) == pytest.approx(point.objective, rel=1e-12)
        assert point.lower_bound <= alone.objective * (1 + 1e-12)


@pytest.mark.parametrize("gates", [[[1.0], [-1.0]], [[1.0], [-1.0], [0.0]]], ids=["sides", "all"])
def test_gated_point_whose_start_leads_nowhere_is_solved_afresh(gates):
    # Continued from the point before, one of the points stalls at a gap of more than 0.9.
    X = [-0.6563, -0.0698, -2.7842, 0.9529, 0.5057, -0.1243, -0.1587, -0.3996, -0.7252, -1.0595]
    X += [-1.4095, 0.5635, -0.6897, -0.5548, -0.2323, -0.0004, 2.0617, -2.2885, -0.2073, -0.65]
    y = np.ones(20)
    y[[5, 16, 18, 19]] = -1.0
    problem = Problem(np.array(X)[:, None], y, loss="squared_hinge")
    betas = 15.07 * np.geomspace(1.0, 1e-4 / 1.5, 5)
    path = regularization_path(problem, betas, architecture=GatedReLU(gates), tol=1e-4)
    assert [point.solution.status for point in path] == [Status.PATTERNS_OPTIMUM] * 5
    assert np.all(path.gaps <= 1e-4)


def test_gated_beta_max_separates_zero_from_nonzero_optima():
    problem, gates = make_problem("squared", seed=3, n=20), np.random.default_rng(1).standard_normal((9, 3))
    top = beta_max(problem, architecture=GatedReLU(gates))
    nu = problem.dual_vector(np.zeros(20))
    norms = [np.linalg.norm(problem.X.T @ (mask * nu)) for mask in GatedReLU(gates).masks(problem.X)]
    assert top.exact and top.lower == pytest.approx(max(norms), rel=1e-12) and top.upper >= max(norms)
    assert np.linalg.norm(top.direction) == pytest.approx(1.0)
    path = regularization_path(problem, [1.001 * top.upper, 0.99 * top.upper], architecture=GatedReLU(gates))
    assert path.widths[0] == 0 and path.widths[1] >= 1


def test_gated_path_refuses_what_it_cannot_do():
    problem = make_problem("squared")
    with pytest.raises(ValueError, match="minimum_norm must be False"):
        regularization_path(problem, [0.1], architecture=GatedReLU(np.eye(3)), minimum_norm=True)
    with pytest.raises(ValueError, match="architecture must be"):
        regularization_path(problem, [0.1], architecture="gated")


def test_bad_input():
    problem = make_problem("squared", n=4)
    for betas, word in (([], "betas is empty"), ([0.0, 1.0], "positive"), ([np.nan], "NaN"), (["a"], "betas")):
        with pytest.raises(ValueError, match=word):
            regularization_path(problem, betas)
    with pytest.raises(ValueError, match="n_betas"):
        regularization_path(problem, n_betas=0)
    with pytest.raises(ValueError, match="ratio"):
        regularization_path(problem, ratio=2.0)
    with pytest.raises(ValueError, match="zero network is optimal at every beta"):
        regularization_path(Problem(np.eye(2), [0.0, 0.0]))
    biased = Problem(np.eye(2), [1.0, 0.0], output_bias_decay=1.0)
    with pytest.raises(ValueError, match="output bias"):
        regularization_path(biased)
    with pytest.raises(ValueError, match="output bias"):
        beta_max(biased)


def test_a_network_that_time_left_at_zero_is_not_the_minimum_norm_member():
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((300, 8)), rng.standard_normal(300))
    gates = GatedReLU(rng.standard_normal((200, 8)))
    top = beta_max(problem, architecture=gates).upper
    path = regularization_path(problem, [1e-4 * top], architecture=gates, time_limit=1e-3)
    assert path.status == "time_limit"
    assert not any(path.minimum_norm)


def test_the_certificate_of_the_zero_network_belongs_to_its_dual_vector():
    weight = np.array([1.0, 0.0, 2.0])
    problem = Problem([[1.0, 0.0], [5.0, 1.0], [0.0, 1.0]], [1.0, 3.0, -1.0], sample_weight=weight)
    top = beta_max(problem)
    for tol, status in ((1e-6, "global optimum"), (1e-300, None)):
        point = regularization_path(problem, [2.0 * top.upper], tol=tol)[0]
        certificate = point.solution.certificate
        np.testing.assert_array_equal(certificate.dual, problem.dual_vector(np.zeros(3)))
        assert point.network.width == 0 and point.gap < 1e-12
        assert point.solution.status.converged == (point.gap <= tol)
        assert status is None or point.solution.status.value == status


@pytest.mark.parametrize("architecture", [None, GatedReLU(np.eye(3))], ids=["relu", "gated"])
def test_an_interrupt_of_the_largest_beta_ends_the_path(architecture, monkeypatch):
    from cvxnn.landscape import _beta_max

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_beta_max, "pricing_bound", interrupt)
    monkeypatch.setattr(_beta_max, "largest_gated_block", interrupt)
    problem = make_problem("squared")
    found = beta_max(problem, architecture=architecture)
    assert found.interrupted and (found.lower, found.upper) == (0.0, np.inf)
    for betas in (None, [0.1]):
        path = regularization_path(problem, betas, architecture=architecture)
        assert path.status == "interrupted" and len(path) == 0 and path.beta_max.interrupted


def test_options_are_checked_before_any_work(monkeypatch):
    monkeypatch.setattr(sys.modules["cvxnn.landscape.regularization_path"], "beta_max", None)
    for options in ({"n_betas": 0}, {"ratio": 2.0}, {"betas": [-1.0]}):
        with pytest.raises(ValueError):
            regularization_path(make_problem("squared"), **options)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_points_beyond_enumeration_are_as_good_as_separate_solves(loss):
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.standard_normal((60, 7)), np.ones(60)])
    signal = np.maximum(X[:, 0] - X[:, 1], 0.0) - np.maximum(X[:, 2], 0.0) + 0.3 * rng.standard_normal(60)
    y = signal if loss == "squared" else np.where(signal > np.median(signal), 1.0, -1.0)
    problem = Problem(X, y, loss=loss, sample_weight=rng.uniform(0.5, 2.0, 60))
    path = regularization_path(problem, [8.0, 4.0, 2.0], tol=1e-4)
    again = regularization_path(problem, [8.0, 4.0], tol=1e-4)
    assert np.array_equal(path.objectives[:2], again.objectives)
    assert set(path.scopes) == {"patterns"} and not path.minimum_norm.any()
    trials = rng.standard_normal((1000, 8))
    assert path.widths[-1] > 3
    for point in path:
        alone = solve(point.problem, tol=1e-4)
        assert point.objective <= alone.objective * (1.0 + 1e-5)
        assert point.solution.status.value == "patterns optimum" and point.gap <= 1e-4
        # Ascents that know nothing of the solver find no neuron that would lower the objective by much.
        nu = point.problem.dual_vector(point.network(X))
        for sign in (1.0, -1.0):
            u = trials / np.linalg.norm(trials, axis=1, keepdims=True)
            for step in np.geomspace(1.0, 1e-3, 60):
                gradient = sign * ((u @ X.T > 0.0) * nu) @ X
                u += step * gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-300)
                u /= np.linalg.norm(u, axis=1, keepdims=True)
            assert np.max(sign * np.maximum(u @ X.T, 0.0) @ nu) <= 1.001 * point.beta


def test_options_of_the_solves_are_checked():
    problem = make_problem("squared", n=4)
    with pytest.raises(ValueError, match="random_state must be a non-negative integer"):
        regularization_path(problem, [0.1], random_state=-1)
    with pytest.raises(ValueError, match="tol"):
        regularization_path(problem, [0.1], tol=0.0)


def test_problem_of_a_point_differs_in_the_weight_decay_only():
    problem = Problem([[1.0], [2.0]], [-1.0, 1.0], 3.0, "logistic", sample_weight=[1.0, 2.0])
    (point,) = regularization_path(problem, [0.5]).points
    there = point.problem
    assert (there.beta, problem.beta, there.loss) == (0.5, 3.0, problem.loss)
    for name in ("X", "y", "sample_weight"):
        np.testing.assert_array_equal(getattr(there, name), getattr(problem, name))
        assert not getattr(there, name).flags.writeable
