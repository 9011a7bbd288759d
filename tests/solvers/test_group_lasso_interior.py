"""Interior-point method of the group lasso: against the conic truth, and where the other methods stall."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import HuberLoss, Problem
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.patterns import ActivationPatterns
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers._cone_system import BlockData, NewtonSystem
from cvxnn.solvers.group_lasso import interior, solve_group_lasso
from cvxnn.solvers.group_lasso.interior import InteriorRun, interior_serves
from cvxnn.solvers.group_lasso.kernel import KernelRun
from tests.oracles.group_lasso import group_lasso_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.3)]


def make(loss, n=40, d=3, P=30, fraction=0.1, seed=0, weighted=True):
    """Problem with beta a fraction of the one from which zero is optimal, and its patterns."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), 2.0 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    weight = rng.uniform(0.5, 2.0, n) if weighted else np.ones(n)
    masks = (rng.standard_normal((P, d)) @ X.T) >= 0
    nu = Problem(X, y, 1.0, loss, sample_weight=weight).dual_vector(np.zeros(n))
    top = np.max(np.linalg.norm((masks * nu) @ X, axis=1))
    patterns = ActivationPatterns.from_masks(masks, np.ones((P, d)))
    return Problem(X, y, fraction * top, loss, sample_weight=weight), patterns


def objective(problem, patterns, result):
    masks = patterns.masks[result.index]
    fit = np.sum(masks.T * (problem.X @ result.vectors.T), axis=1)
    return problem.loss_value(fit) + problem.beta * float(np.sum(np.linalg.norm(result.vectors, axis=1)))


def alone(problem, patterns, tol=1e-6, deadline=math.inf, recorder=None, max_iter=200):
    """Result of the method from nothing."""
    recorder = recorder or Recorder(False)
    first = KernelRun(problem, patterns, tol, deadline, Recorder(False)).result(Status.STALLED)
    return InteriorRun(problem, patterns, tol, deadline, recorder, first).finish(max_iter)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("shape", [(40, 3, 30), (60, 2, 6), (4, 6, 9), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("fraction", [0.6, 1e-2])
def test_conic_truth(loss, shape, fraction):
    problem, patterns = make(loss, *shape, fraction=fraction)
    result = alone(problem, patterns)
    truth, _ = group_lasso_optimum(problem, patterns.masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert result.objective == pytest.approx(objective(problem, patterns, result), rel=1e-12)
    assert result.objective == pytest.approx(truth, rel=2e-6)
    assert certify_gated(problem, result.objective, patterns, result.dual).gap <= 1e-6
    assert len(set(result.index)) == len(result.index)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_working_sets_reach_the_optimum_of_all_blocks(loss, monkeypatch):
    problem, patterns = make(loss, n=80, P=60, fraction=0.1)
    monkeypatch.setattr(interior, "_OPERATIONS", 1.0)
    result = alone(problem, patterns)
    truth, _ = group_lasso_optimum(problem, patterns.masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert result.objective == pytest.approx(truth, rel=2e-6)
    assert certify_gated(problem, result.objective, patterns, result.dual).gap <= 1e-6


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("shape", [(60, 4, 20), (400, 4, 50)], ids=["interpolation", "regression"])
@pytest.mark.parametrize("fraction", [1e-4, 1e-6, 1e-8])
def test_tiny_penalties_are_proved(loss, shape, fraction):
    problem, patterns = make(loss, *shape, fraction=fraction, seed=1)
    result = solve_group_lasso(problem, patterns, tol=1e-6)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert certify_gated(problem, objective(problem, patterns, result), patterns, result.dual).gap <= 1e-6


def test_result_of_another_method_is_only_improved():
    problem, patterns = make("huber", fraction=0.01)
    best = solve_group_lasso(problem, patterns, tol=1e-8)
    rows = []
    again = InteriorRun(problem, patterns, 1e-12, math.inf, Recorder(rows.append), best).finish(best.n_iter + 9)
    assert again.objective <= best.objective and again.lower_bound >= best.lower_bound
    assert len(rows) == again.n_iter - best.n_iter <= 9


@pytest.mark.parametrize("stop", ["deadline", "interrupt", "steps"])
def test_what_ends_the_solve_keeps_a_valid_bound(stop):
    problem, patterns = make("logistic", fraction=1e-3)
    best = alone(problem, patterns, tol=1e-9)

    def interrupt(progress):
        if progress.iteration == 9:
            raise KeyboardInterrupt

    options = {
        "deadline": {"deadline": -math.inf},
        "interrupt": {"recorder": Recorder(interrupt)},
        "steps": {"max_iter": 7},
    }
    result = alone(problem, patterns, **options[stop])
    statuses = {"deadline": Status.TIME_LIMIT, "interrupt": Status.INTERRUPTED, "steps": Status.MAX_ITER}
    assert result.status is statuses[stop]
    assert result.lower_bound <= best.objective and best.lower_bound <= result.objective
    assert result.objective == pytest.approx(objective(problem, patterns, result), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("P", [4, 30], ids=["blocks", "samples"])
def test_direction_solves_the_newton_equations(loss, P):
    problem, patterns = make(loss, P=P, fraction=1e-3)
    iterates = []

    class Watched(interior._FreeIteration):
        def _direction(self, system, norm, residual, targets):
            out = super()._direction(system, norm, residual, targets)
            # In the dual cones and in the fit; W^-2 times the primal change completes the complementarity.
            dual = out.dual[:, 1:] - self.data.fit_adjoint(
                self.loss.shift(targets.loss) + self.loss.curvature() * out.fit
            )
            cones = norm.scale_primal(norm.scale_primal(out.primal)) + out.dual - targets.cones
            iterates.append(
                (
                    np.max(np.abs(dual - residual)) / problem.beta,
                    np.max(np.abs(out.fit - self.data.fit(out.primal[:, 1:]))),
                    np.max(np.abs(cones)) / np.max(np.abs(out.dual)),
                )
            )
            return out

    data = BlockData.free(problem.X, patterns.masks, lambda: None)
    points = np.tile(np.eye(3)[0], (P, 1))
    iterate = Watched(problem, data, points)
    for _ in range(5):
        iterate.step()
    assert np.max(np.array(iterates), axis=0) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_systems_in_pieces_are_the_same(monkeypatch):
    from cvxnn.solvers import _cone_system

    problem, patterns = make("squared", n=50, P=6)
    data = BlockData.free(problem.X, patterns.masks, lambda: None)
    factors = np.random.default_rng(0).standard_normal((6, 3, 3))
    right, curvature = np.ones((6, 3)), np.linspace(0.0, 2.0, 50)
    whole = NewtonSystem(data, factors, curvature).solve(right)
    monkeypatch.setattr(_cone_system, "_CHUNK", 100)
    np.testing.assert_allclose(NewtonSystem(data, factors, curvature).solve(right), whole, rtol=1e-12)
    columns = np.concatenate([mask[:, None] * problem.X for mask in patterns.masks], axis=1)
    inverse = np.zeros((18, 18))
    for k in range(6):
        inverse[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] = factors[k] @ factors[k].T
    truth = np.linalg.solve(np.linalg.inv(inverse) + columns.T @ (curvature[:, None] * columns), right.ravel())
    np.testing.assert_allclose(whole.ravel(), truth, rtol=1e-7)


def test_sizes_that_it_serves():
    assert interior_serves(make("squared", n=400, P=500)[0], 500)
    assert not interior_serves(make("squared", n=400, P=5)[0], 20_000)
    assert not interior_serves(make("squared", n=6000, d=5, P=5)[0], 500)


def test_what_stalls_on_a_part_of_the_samples_goes_on_from_there(monkeypatch):
    from cvxnn.solvers.group_lasso import dispatch, kernel

    problem, patterns = make("logistic", n=120, P=10, fraction=1e-3)
    monkeypatch.setattr(dispatch, "_SAMPLED", 100)
    monkeypatch.setattr(kernel, "patience_before", lambda problem, n_patterns: 2)
    rows = []
    result = solve_group_lasso(problem, patterns, recorder=Recorder(rows.append))
    truth, _ = group_lasso_optimum(problem, patterns.masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert result.objective == pytest.approx(truth, rel=2e-6)
    assert [row.iteration for row in rows] == list(range(result.n_iter + 1))
    assert np.all(np.diff(result.history.objective) <= 0) and np.all(np.diff(result.history.lower_bound) >= 0)


def test_where_it_stalls_the_method_by_kernels_goes_on_without_a_limit(monkeypatch):
    from cvxnn.solvers.group_lasso import kernel

    problem, patterns = make("huber", fraction=1e-2)
    monkeypatch.setattr(kernel, "patience_before", lambda problem, n_patterns: 2)
    monkeypatch.setattr(InteriorRun, "solve", lambda run, max_iter: Status.STALLED)
    result = solve_group_lasso(problem, patterns)
    truth, _ = group_lasso_optimum(problem, patterns.masks)
    assert result.status is Status.PATTERNS_OPTIMUM
    assert result.objective == pytest.approx(truth, rel=2e-6)
