"""Coarse part of the preconditioner of joint Newton steps: exact on the masses, positive, harmless where singular."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers._mass_coupling import MassCoupling
from cvxnn.solvers.kink_newton import KinkNewton, _Run
from cvxnn.solvers.neurons import Neurons


def run_of(loss="squared", d=5, k=7, fine=True):
    rng = np.random.default_rng(0)
    X = np.c_[rng.standard_normal((60, d - 1)), np.ones(60)]
    y = np.sign(X[:, 0] * X[:, 1])
    problem = Problem(X, y, 0.6, loss, sample_weight=rng.integers(1, 3, 60).astype(float))
    neurons = Neurons(0.3 * rng.standard_normal((k, d)), np.where(np.arange(k) % 2, 1.0, -1.0))
    run = _Run(KinkNewton(problem), neurons)
    run.begin(1e-6 if fine else 1e-2)
    return run


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("fine", [True, False])
def test_coarse_solution_solves_the_system_of_the_masses(loss, fine):
    run = run_of(loss, fine=fine)
    system = run._system()
    directions = run.vectors / np.linalg.norm(run.vectors, axis=1, keepdims=True)
    force = np.random.default_rng(1).standard_normal(run.vectors.shape).astype(system.slopes.dtype)
    X = run.problem.X if fine else run.owner.single
    left = force - run._apply(system, X, system.coupling.apply(force))
    along = np.sum(directions * left, axis=1)
    assert np.max(np.abs(along)) < (1e-8 if fine else 1e-2) * np.max(np.abs(force))


def test_dependent_outputs_leave_a_finite_positive_operator():
    gram = np.ones((3, 3))
    coupling = MassCoupling(gram, np.eye(3))
    for force in np.vstack([np.eye(3), np.ones(3)]):
        solution = coupling.apply(np.diag(force))
        assert np.all(np.isfinite(solution))
        assert np.vdot(np.diag(force), solution) > 0.0
    # Neurons without any output couple with none.
    assert not np.any(MassCoupling(np.zeros((2, 2)), np.zeros((2, 2))).apply(np.eye(2)))


@pytest.mark.parametrize("eps", [1e-2, 1e-4])
def test_the_direction_is_the_newton_direction_of_the_dense_system(monkeypatch, eps):
    run = run_of()
    run.begin(eps)
    run.fine = True
    system = run._system()
    k, d = run.vectors.shape
    columns = [run._apply(system, run.problem.X, row.reshape(k, d)).ravel() for row in np.eye(k * d)]
    exact = -np.linalg.solve(np.array(columns).T, system.gradient.ravel())
    truncated = run._solve(system, math.inf).ravel()
    # A truncated step lowers the model by most of what the exact one does.
    hessian = np.array(columns)

    def model(step):
        return system.gradient.ravel() @ step + 0.5 * step @ hessian @ step

    assert model(exact) <= model(truncated) <= 0.8 * model(exact)
    monkeypatch.setattr("cvxnn.solvers.kink_newton._CG_GAIN", 0.0)
    monkeypatch.setattr("cvxnn.solvers.kink_newton._CG_TOL", 1e-10)
    monkeypatch.setattr("cvxnn.solvers.kink_newton._CG_FINE_MOST", 400)
    np.testing.assert_allclose(run._solve(system, math.inf).ravel(), exact, atol=1e-6 * np.max(np.abs(exact)))
