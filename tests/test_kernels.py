"""Gated ReLU as kernel learning: the kernels against their definitions, the path against the group lasso."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import GatedReLU, Problem, solve
from cvxnn.kernels import gated_kernel, gated_tangent_kernel, reweighted_kernel_path

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def make(loss="squared", n=40, d=3, P=25, beta=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), 2.0 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.sign(y)
    return Problem(X, y, beta, loss), GatedReLU(rng.standard_normal((P, d)))


def test_gated_kernel_is_the_sum_over_gates():
    problem, architecture = make()
    X, eta = problem.X, np.random.default_rng(1).uniform(size=25)
    truth = sum(w * np.outer(m, m) * (X @ X.T) for w, m in zip(eta, architecture.masks(X), strict=True))
    np.testing.assert_allclose(gated_kernel(X, architecture.gates, eta), truth, atol=1e-12)
    np.testing.assert_allclose(gated_kernel(X, architecture.gates, eta, other=X[:5]), truth[:, :5], atol=1e-12)
    uniform = gated_kernel(X, architecture.gates)
    np.testing.assert_allclose(uniform, gated_kernel(X, architecture.gates, np.full(25, 1 / 25)))


def test_gated_kernel_is_the_tangent_kernel_of_the_network():
    # With the output weights fixed, derivatives in the first layer are the gated features.
    problem, architecture = make(n=6, P=4)
    X, masks = problem.X, architecture.masks(problem.X)
    features = np.concatenate([m[:, None] * X for m in masks], axis=1) / 2.0
    np.testing.assert_allclose(gated_kernel(X, architecture.gates), features @ features.T, atol=1e-14)


def test_many_random_gates_approach_the_closed_form():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.standard_normal((6, 3)), np.zeros((1, 3))])
    limit = gated_tangent_kernel(X)
    np.testing.assert_allclose(gated_kernel(X, rng.standard_normal((100_000, 3))), limit, atol=0.03)
    np.testing.assert_allclose(gated_tangent_kernel(X, other=X[:2]), limit[:, :2], atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_reweighting_ends_at_the_group_lasso(loss, beta):
    problem, architecture = make(loss, beta=beta)
    path = reweighted_kernel_path(problem, architecture)
    s = solve(problem, architecture=architecture, tol=1e-8)
    assert path.gap <= 1e-6
    assert path.objectives[-1] == pytest.approx(s.objective, rel=1e-6)
    assert path.objectives[-1] == path.network.objective(problem)
    assert np.all(np.diff(path.kernel_objectives) <= 1e-10 * path.kernel_objectives[1:])
    assert np.all(path.objectives <= path.kernel_objectives * (1 + 1e-12))
    assert path.kernel_objectives[-1] == pytest.approx(s.objective, rel=1e-5)
    assert np.all(path.lower_bounds <= s.objective)
    assert np.ptp(path.weights[0]) == 0.0
    # The fixed kernel of the first step is worse: that is what learning the weights gains.
    assert path.objectives[0] > path.objectives[-1]


def test_a_step_solves_kernel_ridge_regression_and_takes_the_norms_of_the_blocks():
    problem, architecture = make()
    path = reweighted_kernel_path(problem, architecture, max_iter=2)
    X, y, beta = problem.X, problem.y, problem.beta
    eta = path.weights[0]
    K = gated_kernel(X, architecture.gates, eta)
    alpha = np.linalg.solve(K + beta * np.eye(40), y)
    value = 0.5 * np.sum((K @ alpha - y) ** 2) + 0.5 * beta * alpha @ K @ alpha + 0.5 * beta * eta.sum()
    assert path.kernel_objectives[0] == pytest.approx(value, rel=1e-9)
    blocks = eta[:, None] * ((architecture.masks(X) * alpha) @ X)
    np.testing.assert_allclose(path.weights[1], np.linalg.norm(blocks, axis=1), rtol=1e-7)


def test_zero_network_and_limits():
    problem, architecture = make(beta=1e4)
    path = reweighted_kernel_path(problem, architecture)
    assert path.gap <= 1e-6
    assert path.network.penalty() <= 1e-6 * problem.loss_value(np.zeros(40))
    problem, architecture = make()
    assert len(reweighted_kernel_path(problem, architecture, time_limit=0.0).objectives) == 1
    assert len(reweighted_kernel_path(problem, architecture, max_iter=3).objectives) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, a: gated_kernel(p.X, a.gates, np.ones(3)), "weights has 3 entries but there are 25 gates"),
        (lambda p, a: gated_kernel(p.X, a.gates, -np.ones(25)), "weights must be non-negative"),
        (lambda p, a: gated_kernel(p.X, a.gates, other=np.ones((2, 2))), "other has 2 features but X has 3"),
        (lambda p, a: gated_tangent_kernel(p.X, other=np.ones((2, 2))), "other has 2 features but X has 3"),
        (lambda p, a: reweighted_kernel_path(p, GatedReLU(np.ones((2, 2)))), "gates has 2 columns"),
        (lambda p, a: reweighted_kernel_path(p, "gated"), "architecture must be GatedReLU"),
        (lambda p, a: reweighted_kernel_path(p, a, max_iter=0), "max_iter must be a positive integer"),
        (lambda p, a: reweighted_kernel_path(Problem(p.X, p.y, 0.0), a), "beta must be > 0"),
        (
            lambda p, a: reweighted_kernel_path(Problem(np.ones((4001, 3)), np.ones(4001)), a),
            "up to 4000 samples are taken",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(*make())


def test_a_kernel_that_rounds_to_an_indefinite_matrix_ends_the_newton_steps(monkeypatch):
    def refuse(*args, **kwargs):
        raise np.linalg.LinAlgError

    # Weights of 1e9 times the loss on two nearly equal rows do so, but when depends on the machine.
    monkeypatch.setattr("cvxnn.kernels.cho_factor", refuse)
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0], beta=0.5)
    path = reweighted_kernel_path(problem, GatedReLU([[1.0, -1.0], [-1.0, 1.0]]), max_iter=5)
    assert path.certificate.lower_bound <= 1.25 <= path.certificate.objective
