"""Group lasso at one penalty after another: against separate solves, with certificates from outside."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.architectures import GatedReLU, gate_patterns
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.solvers.group_lasso import solve_group_lasso
from cvxnn.solvers.group_lasso.continuation import Continuation
from tests.solvers._gated_courses import LOSSES, gated_problem, largest_penalty


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("tol", [1e-4, 1e-7])
def test_every_penalty_is_solved_to_the_tolerance(loss, tol):
    problem, patterns = gated_problem(loss, n=120, least_weight=0)
    course = Continuation(problem, patterns)
    solved = 0
    for beta in largest_penalty(problem, patterns) * np.geomspace(1.0, 1e-2, 12):
        here = Problem(problem.X, problem.y, beta, loss, sample_weight=problem.sample_weight)
        alone = solve_group_lasso(here, patterns, tol=1e-9)
        found = course.solve(beta, tol=tol)
        if found is None:
            vectors = np.zeros((len(patterns), problem.n_features))
            vectors[alone.index] = alone.vectors
            course.resume(beta, vectors, alone.dual)
            continue
        solved += 1
        u, fit, nu = found
        columns = [mask * (problem.X @ v) for mask, v in zip(patterns.masks, u, strict=True)]
        np.testing.assert_allclose(fit, np.sum(columns, axis=0), rtol=0, atol=1e-10 * np.abs(problem.y).max())
        objective = here.loss_value(fit) + beta * float(np.sum(np.linalg.norm(u, axis=1)))
        assert certify_gated(here, objective, patterns, nu).gap <= tol
        assert alone.objective * (1 - 2e-9) <= objective <= alone.objective * (1 + tol + 2e-9)
    assert solved >= 9


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_of_the_data_do_not_matter(scale):
    problem, patterns = gated_problem("squared", n=120, least_weight=0, seed=3)
    scaled = Problem(scale * problem.X, problem.y, sample_weight=problem.sample_weight)
    one, two = Continuation(problem, patterns), Continuation(scaled, patterns)
    for beta in largest_penalty(problem, patterns) * np.geomspace(0.9, 0.1, 5):
        first, second = one.solve(beta, tol=1e-6), two.solve(scale * beta, tol=1e-6)
        assert first is not None and second is not None
        np.testing.assert_allclose(second[1], first[1], rtol=0, atol=1e-2 * np.abs(first[1]).max())
        np.testing.assert_allclose(scale * second[0], first[0], rtol=0, atol=2e-2 * np.abs(first[0]).max())


def test_equal_patterns_carry_weight_once():
    problem, patterns = gated_problem("squared", n=120, least_weight=0, seed=1)
    double = type(patterns).from_masks(np.vstack([patterns.masks] * 2), np.vstack([patterns.gates] * 2))
    beta = 0.3 * largest_penalty(problem, patterns)
    found = Continuation(problem, double).solve(beta, tol=1e-4)
    assert found is not None
    assert not np.any(found[0][len(patterns) :])
    np.testing.assert_array_equal(found[0][: len(patterns)], Continuation(problem, patterns).solve(beta, tol=1e-4)[0])


def test_penalties_far_from_the_last_one_are_left_to_others():
    problem, patterns = gated_problem("squared", n=120, least_weight=0)
    top = largest_penalty(problem, patterns)
    course = Continuation(problem, patterns)
    assert course.solve(0.1 * top, tol=1e-4) is None
    assert course.solve(0.5 * top, tol=1e-4) is not None
    assert course.solve(0.05 * top, tol=1e-4) is None
    assert course.solve(0.2 * top, tol=1e-4) is not None
    assert course.solve(0.1 * top, tol=1e-4, deadline=-np.inf) is None


def test_zero_blocks_above_the_largest_norm_and_without_data():
    problem, patterns = gated_problem("squared", n=120, least_weight=0)
    u, fit, nu = Continuation(problem, patterns).solve(2.0 * largest_penalty(problem, patterns), tol=1e-6)
    assert not np.any(u) and not np.any(fit)
    np.testing.assert_allclose(nu, problem.dual_vector(fit), rtol=1e-14)
    nothing = Problem(np.zeros((5, 2)), np.ones(5))
    u, fit, _ = Continuation(nothing, gate_patterns(nothing.X, GatedReLU(np.eye(2)).gates)).solve(1.0, tol=1e-6)
    assert not np.any(u) and not np.any(fit)
    assert not Continuation.serves(Problem(np.ones((2, 3)), np.ones(2)), patterns)
