"""Newton's method on the faces of group programs: optimality conditions to rounding, never worse."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.programs.parallel_groups import GroupSet
from cvxnn.solvers._ridge_solve import ridge_solve
from cvxnn.solvers.conic_groups import solve_groups
from cvxnn.solvers.group_newton import polish_groups
from cvxnn.solvers.trees import random_trees, tree_norms


def value(problem, groups, vectors, norm, shape):
    fit = np.sum([group.fit @ z for group, z in zip(groups, vectors, strict=True)], axis=0)
    return problem.loss_value(fit) + problem.beta * float(tree_norms(vectors.reshape(-1, *shape), norm).sum())


@pytest.mark.parametrize("norm", ["path", "l21"])
@pytest.mark.parametrize("seed", range(4))
def test_dual_values_of_the_groups_in_use_equal_beta_to_rounding(norm, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((7, 2)), rng.standard_normal(7)
    problem, shape = Problem(X, y, 0.2), (2, 2)
    groups = GroupSet(problem, norm, shape)
    groups.add(random_trees(X, 60, shape, np.array([1.0, -1.0]), rng))
    rough = solve_groups(problem, groups.groups, groups.parts)
    fine = polish_groups(problem, groups.groups, rough, groups.parts)
    best = value(problem, groups.groups, rough, norm, shape)
    assert value(problem, groups.groups, fine, norm, shape) <= best + 1e-12
    sizes = tree_norms(fine.reshape(-1, *shape), norm)
    fit = np.sum([group.fit @ z for group, z in zip(groups.groups, fine, strict=True)], axis=0)
    nu = problem.dual_vector(fit)
    for k in np.flatnonzero(sizes > 1e-9 * sizes.sum()):
        group = groups.groups[k]
        assert abs(nu @ group.fit @ fine[k] / sizes[k] - problem.beta) <= 1e-11
        assert np.min(group.cone @ fine[k], initial=0.0) >= -1e-12


def test_far_from_the_optimum_it_is_never_worse():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    problem, shape = Problem(X, y, 0.2), (2, 2)
    trees = random_trees(X, 10, shape, np.array([1.0, -1.0]), rng)
    groups = GroupSet(problem, "path", shape)
    groups.add(trees)
    start = trees.vectors.reshape(10, -1)[: len(groups)]
    found = polish_groups(problem, groups.groups, start, 1)
    assert value(problem, groups.groups, found, "path", shape) <= value(problem, groups.groups, start, "path", shape)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_ridge_solve_of_dependent_columns_fits_as_least_squares_do(size):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 6))
    A = np.column_stack([A, A[:, :3] + A[:, 3:]])
    g = A.T @ rng.standard_normal(20)
    x = ridge_solve(size * (A.T @ A), g)
    np.testing.assert_allclose(size * (A @ x), A @ np.linalg.lstsq(A.T @ A, g, rcond=1e-10)[0], rtol=1e-6)


def test_ridge_solve_without_a_definite_matrix_goes_downhill():
    g = np.array([1.0, -2.0])
    np.testing.assert_array_equal(ridge_solve(np.zeros((2, 2)), g), np.zeros(2))
    np.testing.assert_array_equal(ridge_solve(np.diag([4.0, -400.0]), g), g / 400.0)
    assert ridge_solve(np.zeros((0, 0)), np.zeros(0)).shape == (0,)
