"""Kernel and factor in one array: the factor is that of NumPy, and the kernel outlives every factorisation."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.group_lasso import _eta_newton
from cvxnn.solvers.group_lasso._eta_newton import Model, evaluate
from cvxnn.solvers.group_lasso._kernel_square import KernelSquare
from cvxnn.solvers.group_lasso._ridge import KernelRidge, WorkingBlocks


def system_of(X, rows):
    return np.eye(len(X)) + (X @ X.T) * (rows.T @ rows)


@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-11), (np.float32, 2e-4)])
@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 600, 1100])
def test_factors_one_after_the_other_are_those_of_the_dense_systems(n, dtype, tol):
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, 5)).astype(dtype)
    square = KernelSquare(X)
    for k in (3, 1, 7):
        rows = rng.standard_normal((k, n)).astype(dtype)
        factor = square.factorise(rows)
        expected = np.linalg.cholesky(system_of(X.astype(float), rows.astype(float)))
        np.testing.assert_allclose(np.tril(factor.array), expected, rtol=tol, atol=tol)


def test_a_shift_is_relative_to_the_largest_entry_of_the_diagonal():
    rng = np.random.default_rng(0)
    X, rows = rng.standard_normal((40, 3)), rng.standard_normal((2, 40))
    factor = np.tril(KernelSquare(X).factorise(rows, 0.5).array)
    product = system_of(X, rows) - np.eye(40)
    np.testing.assert_allclose(factor @ factor.T, product + np.eye(40) * (1 + 0.5 * product.diagonal().max()))


def test_a_factor_is_gone_once_another_is_made_or_fails():
    square = KernelSquare(np.ones((3, 1)))
    first = square.factorise(np.ones((1, 3)))
    assert first.valid
    second = square.factorise(np.zeros((1, 3)))
    assert second.valid and not first.valid
    with pytest.raises(RuntimeError, match="another factor"):
        _ = first.array
    # So large a shift makes the system negative definite.
    assert square.factorise(np.ones((1, 3)), -10.0) is None
    assert not second.valid
    square.factorise(np.full((1, 3), np.nan))
    # What is not a number in one system does not stay in the next.
    np.testing.assert_allclose(np.tril(square.factorise(np.zeros((1, 3))).array), np.eye(3))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_a_point_whose_factor_another_took_has_the_same_curvature_and_prediction(loss):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 6))
    y = np.where(rng.standard_normal(30) > 0, 1.0, -1.0)
    problem = Problem(X, y, 0.5, loss)
    masks = rng.random((30, 12)) < 0.5
    blocks = WorkingBlocks(X, masks.astype(float), np.arange(12))
    model = Model(X, y, problem.sample_weight, problem.loss, problem.beta, lambda: None, single=False)
    state = evaluate(model, blocks, np.linspace(0.1, 1.0, 12), np.zeros(30))
    assert isinstance(state.ridge, KernelRidge)
    other = np.linspace(1.0, 0.2, 12)
    h = problem.loss_hessian(state.fit)
    system = problem.beta * np.eye(30) + h[:, None] * (X @ X.T) * (masks @ (state.w[:, None] * masks.T))
    columns = blocks.columns(state.vectors)
    change = columns @ (other - state.w)
    evaluate(model, blocks, other, state.alpha)
    assert not state.ridge.factorised and _eta_newton._near(state, state.w) is None
    # Only a loss without constant curvature predicts; for the other one any start will do.
    predicted = state.alpha - (loss != "squared") * np.linalg.solve(system, h * change)
    np.testing.assert_allclose(_eta_newton._predict(model, blocks, state, other, 0.0), predicted, rtol=1e-8, atol=1e-11)
    evaluate(model, blocks, other, state.alpha)
    expected = columns.T @ np.linalg.solve(system, h[:, None] * columns)
    np.testing.assert_allclose(_eta_newton._curvature(model, blocks, state, 0.0), expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_curvature_from_single_precision_is_that_of_the_dense_system(scale):
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((30, 6)), scale * rng.standard_normal(30)
    problem = Problem(X, y, 0.5)
    masks = rng.random((30, 12)) < 0.5
    blocks = WorkingBlocks(X, masks.astype(float), np.arange(12))
    model = Model(X, y, problem.sample_weight, problem.loss, problem.beta, lambda: None)
    state = evaluate(model, blocks, np.linspace(0.1, 1.0, 12), np.zeros(30))
    assert isinstance(state.ridge, KernelRidge) and state.ridge.single
    system = problem.beta * np.eye(30) + (X @ X.T) * (masks @ (state.w[:, None] * masks.T))
    columns = blocks.columns(state.vectors)
    expected = columns.T @ np.linalg.solve(system, columns)
    found = _eta_newton._curvature(model, blocks, state, 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.max(expected))


def test_solving_without_a_factor_is_an_error():
    blocks = WorkingBlocks(np.ones((3, 1)), np.ones((3, 1)), np.arange(1))
    ridge = KernelRidge(blocks, KernelSquare(np.ones((3, 1))), np.ones(1), 1.0)
    with pytest.raises(RuntimeError, match="factorise must come before"):
        ridge.solve(np.ones(3))
