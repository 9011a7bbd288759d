"""Moves before the first search."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers import opening_moves as module
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.lbfgs_start import lbfgs_start
from cvxnn.solvers.neurons import Neurons


def _problem() -> Problem:
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.standard_normal((80, 4)), np.ones(80)])
    return Problem(X, np.abs(X[:, 0]) - np.maximum(X[:, 1], 0.0) + 0.1 * rng.standard_normal(80), beta=0.05)


def test_nothing_moves_without_a_deadline_or_after_it_or_without_neurons() -> None:
    problem = _problem()
    start = lbfgs_start(problem, width=20, max_iter=30)
    for deadline in (np.inf, time.perf_counter() - 1.0):
        moved, seconds = module.opening_moves(problem, JointMoves(problem), start, deadline=deadline)
        assert moved is start and seconds == 0.0
    empty = Neurons.empty(problem.n_features)
    assert module.opening_moves(problem, JointMoves(problem), empty, deadline=time.perf_counter() + 9.0)[0] is empty


@pytest.mark.parametrize("ample", [0, 10**9])
def test_moves_lower_the_objective_and_ample_time_takes_one_step(monkeypatch: pytest.MonkeyPatch, ample: int) -> None:
    problem, taken = _problem(), []
    start = lbfgs_start(problem, width=20, max_iter=30)
    moves = JointMoves(problem)
    minimize = moves.minimize

    def counted(neurons: Neurons, schedule: tuple[tuple[float, int], ...], *, deadline: float) -> Neurons:
        taken.append(sum(count for _, count in schedule))
        return minimize(neurons, schedule, deadline=deadline)

    monkeypatch.setattr(moves, "minimize", counted)
    monkeypatch.setattr(module, "_AMPLE", ample)
    moved, seconds = module.opening_moves(problem, moves, start, deadline=time.perf_counter() + 1e4)
    assert seconds > 0.0
    assert moved.objective(problem) < start.objective(problem)
    assert taken == ([1] if ample == 0 else [1, 17])
