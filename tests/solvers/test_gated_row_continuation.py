"""Group lasso with many samples at one penalty after another: against separate solves, certified from outside."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.architectures import GatedReLU, gate_patterns
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.landscape import regularization_path
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso import ROWS, row_continuation, solve_group_lasso
from cvxnn.solvers.group_lasso._row_descent import Level, Point, Price
from cvxnn.solvers.group_lasso._row_products import Rows
from cvxnn.solvers.group_lasso.row_continuation import RowContinuation
from tests.solvers._gated_courses import LOSSES, gated_problem, largest_penalty


def at(problem, beta):
    return Problem(problem.X, problem.y, beta, problem.loss, sample_weight=problem.sample_weight)


def objective_of(here, patterns, u):
    columns = [mask * (here.X @ v) for mask, v in zip(patterns.masks, u, strict=True)]
    fit = np.sum(columns, axis=0)
    return fit, here.loss_value(fit) + here.beta * float(np.sum(np.linalg.norm(u, axis=1)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("tol", [1e-4, 1e-7])
def test_every_penalty_is_solved_to_the_tolerance(loss, tol):
    problem, patterns = gated_problem(loss, n=300)
    course = RowContinuation(problem, patterns)
    solved = 0
    for beta in largest_penalty(problem, patterns) * np.geomspace(1.0, 0.02, 8):
        here = at(problem, beta)
        alone = solve_group_lasso(here, patterns, tol=1e-9)
        found = course.solve(beta, tol=tol)
        if found is None:
            vectors = np.zeros((len(patterns), problem.n_features))
            vectors[alone.index] = alone.vectors
            course.resume(beta, vectors, alone.dual)
            continue
        solved += 1
        u, fit, nu = found
        expected, objective = objective_of(here, patterns, u)
        np.testing.assert_allclose(fit, expected, rtol=0, atol=1e-10 * np.abs(problem.y).max())
        assert certify_gated(here, objective, patterns, nu).gap <= tol
        assert alone.objective * (1 - 2e-9) <= objective <= alone.objective * (1 + tol + 2e-9)
    assert solved >= 6


@pytest.mark.parametrize("largest", [0, 300 * 12])
def test_products_that_are_too_large_are_left_to_newton_steps(largest, monkeypatch):
    monkeypatch.setattr(row_continuation, "_LARGEST", largest)
    problem, patterns = gated_problem("squared", n=300)
    course = RowContinuation(problem, patterns)
    for beta in largest_penalty(problem, patterns) * np.geomspace(0.8, 0.02, 7):
        u, _, nu = course.solve(beta, tol=1e-4)
        here = at(problem, beta)
        assert certify_gated(here, objective_of(here, patterns, u)[1], patterns, nu).gap <= 1e-4


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_of_the_data_do_not_matter(scale):
    problem, patterns = gated_problem("squared", n=300, seed=3)
    scaled = Problem(scale * problem.X, problem.y, sample_weight=problem.sample_weight)
    one, two = RowContinuation(problem, patterns), RowContinuation(scaled, patterns)
    for share in (0.6, 0.3, 0.15, 0.1):
        beta = share * largest_penalty(problem, patterns)
        u, _, nu = one.solve(beta, tol=1e-4)
        v, _, mu = two.solve(scale * beta, tol=1e-4)
        assert (
            certify_gated(
                at(scaled, scale * beta), objective_of(at(scaled, scale * beta), patterns, v)[1], patterns, mu
            ).gap
            <= 1e-4
        )
        np.testing.assert_allclose(scale * v, u, atol=2e-2 * np.abs(u).max())
        np.testing.assert_allclose(mu, nu, atol=2e-2 * np.abs(nu).max())


def test_of_equal_patterns_the_first_carries_all():
    problem, patterns = gated_problem("squared", n=300, seed=1)
    double = patterns.subset(np.concatenate([np.arange(len(patterns)), np.arange(5)]))
    beta = 0.4 * largest_penalty(problem, patterns)
    u = RowContinuation(problem, double).solve(beta, tol=1e-4)[0]
    assert not np.any(u[len(patterns) :])
    np.testing.assert_array_equal(u[: len(patterns)], RowContinuation(problem, patterns).solve(beta, tol=1e-4)[0])


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_model_of_a_step_has_the_gradients_at_its_end(damping):
    problem, patterns = gated_problem("squared", n=300, seed=3)
    rows = Rows(problem.X, problem.y, problem.sample_weight, problem.loss, patterns.packed, 0, lambda: None)
    beta = 0.3 * largest_penalty(problem, patterns)
    level = Level(rows, beta, Point(np.zeros(0, dtype=np.intp), np.zeros((0, problem.n_features)), np.zeros(len(rows))))
    level._damping, full, zeroed = damping, 0, 0
    for _ in range(6):
        price = level.price()
        level.advance(price, 0.0)
        if level.modelled is None:
            continue
        full += 1
        ids, held = level.point.ids, np.any(level.modelled != price.gradient, axis=1)
        # A quadratic loss is its own model, up to rounding; blocks that were zero keep the former gradients.
        assert np.all(held[ids])
        zeroed += np.count_nonzero(held) - len(ids)
        columns = [mask[:, None] * problem.X for mask in patterns.masks[held]]
        residual = problem.sample_weight * (sum_of(problem, patterns, level.point) - problem.y)
        truth = np.array([column.T @ residual for column in columns])
        np.testing.assert_allclose(level.modelled[held], truth, rtol=0, atol=1e-4 * beta)
    assert full >= 2 and zeroed > 0


def sum_of(problem, patterns, point):
    return np.einsum("kn,nd,kd->n", patterns.masks[point.ids], problem.X, point.U)


def test_gradients_are_continued_in_the_logarithm_of_the_penalty():
    problem, patterns = gated_problem("squared", n=300, seed=4)
    top = largest_penalty(problem, patterns)
    course = RowContinuation(problem, patterns)
    assert course.expected(top) is None
    betas = top * np.array([0.9, 0.8, 0.7])
    for beta in betas:
        u, fit, _ = course.solve(beta, tol=1e-6)
        columns = patterns.masks[:, :, None] * problem.X
        gradient = np.einsum("pnd,n->pd", columns, problem.loss.gradient(fit, problem.y, problem.sample_weight))
        scaled = np.ldexp(beta, -course.exponent)
        np.testing.assert_allclose(np.ldexp(course.gradients[scaled], course.exponent), gradient, atol=1e-3 * beta)
    assert len(course.gradients) == 2
    here, (one, two) = np.ldexp(0.6 * top, -course.exponent), np.ldexp(betas[1:], -course.exponent)
    stride = np.log(here / two) / np.log(two / one)
    expected = (1 + stride) * course.gradients[two] - stride * course.gradients[one]
    np.testing.assert_allclose(course.expected(here), expected, rtol=0, atol=1e-12 * top)
    # Another method's solution comes without gradients.
    course.resume(0.6 * top, u, np.zeros(problem.n_samples))
    assert course.expected(0.5 * here) is None
    assert course.solve(0.5 * top, tol=1e-4) is not None


@pytest.mark.parametrize("loss", LOSSES)
def test_turns_that_are_left_alone_cost_less_than_the_tolerance(loss):
    problem, patterns = gated_problem(loss, seed=5, n=300)
    course = RowContinuation(problem, patterns)
    top, tol = largest_penalty(problem, patterns), 1e-3
    for beta in (0.8 * top, 0.4 * top):
        here = at(problem, beta)
        optimum = solve_group_lasso(here, patterns, tol=1e-9)

        def gap_of(excess, here=here, optimum=optimum):
            value = here.loss.dual_value(optimum.dual / (1.0 + excess), here.y, here.sample_weight)
            return (optimum.objective - value) / optimum.objective

        course.level.beta, gap = beta, gap_of(1e-2)
        price = Price(np.zeros((1, 1)), np.array([(1.0 + 1e-2) * beta]), optimum.dual)
        assert gap > tol
        assert 0.2 * tol <= gap_of(course.turn(price, gap, tol)) <= 0.7 * tol
    assert course.turn(Price(np.zeros((1, 1)), np.array([beta]), optimum.dual), tol, tol) == np.inf


def test_far_penalties_and_deadlines_are_refused():
    problem, patterns = gated_problem("squared", n=300)
    top = largest_penalty(problem, patterns)
    course = RowContinuation(problem, patterns)
    assert course.solve(0.1 * top, tol=1e-4) is None
    assert course.solve(0.5 * top, tol=1e-4) is not None
    assert course.solve(0.05 * top, tol=1e-4) is None
    assert course.solve(0.2 * top, tol=1e-4, deadline=-np.inf) is None
    # What was cut short leaves the last penalty as it was.
    u, _, nu = course.solve(0.2 * top, tol=1e-4)
    here = at(problem, 0.2 * top)
    assert certify_gated(here, objective_of(here, patterns, u)[1], patterns, nu).gap <= 1e-4


def test_zero_network_and_samples_without_weight():
    problem, patterns = gated_problem("squared", n=300)
    u, fit, _ = RowContinuation(problem, patterns).solve(1.1 * largest_penalty(problem, patterns), tol=1e-6)
    assert not np.any(u) and not np.any(fit)
    weight = np.ones(problem.n_samples)
    weight[3] = 0.0
    assert RowContinuation.serves(problem, patterns)
    assert not RowContinuation.serves(Problem(problem.X, problem.y, sample_weight=weight), patterns)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_paths_with_many_samples_agree_with_separate_solves(loss):
    problem, _ = gated_problem(loss, n=ROWS + 8, seed=2)
    architecture = GatedReLU(np.random.default_rng(4).standard_normal((30, problem.n_features)))
    path = regularization_path(problem, architecture=architecture, n_betas=8, ratio=1e-2, tol=1e-4)
    patterns = gate_patterns(problem.X, architecture.gates)
    assert path.status == "complete"
    for point in path:
        assert point.solution.status is Status.PATTERNS_OPTIMUM
        alone = solve_group_lasso(at(problem, point.beta), patterns, tol=1e-7)
        assert alone.objective * (1 - 1e-7) <= point.objective <= alone.objective * (1 + 1e-4 + 1e-7)
        assert point.lower_bound <= alone.objective
    assert regularization_path(problem, architecture=architecture, time_limit=0.0).status == "time_limit"
