"""Column generation where a proof follows: rounds lead, programs on cells end it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import Problem, solve
from cvxnn.solvers.column_generation import generate_columns
from cvxnn.solvers.column_rounds import ColumnRounds
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.neurons import Neurons


def test_programs_on_cells_reach_the_optimum_where_the_rounds_stop_early(monkeypatch):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 2))
    problem = Problem(X, np.abs(X[:, 0]) + 0.3 * rng.standard_normal(60), 1.0)
    led = []

    def run(self, state, report, violating=None):
        led.append(self.least_gain)
        state.outcome = "stalled"

    monkeypatch.setattr(ColumnRounds, "run", run)
    none = Neurons.empty(2)
    state = ColumnState(none, none.objective(problem), np.zeros((0, 2)))
    options = ColumnOptions(tol=1e-8, exact=True, max_iter=50, deadline=math.inf, seed=0)
    generate_columns(problem, state, options, lambda state: None)
    assert led == [1e-6] and state.outcome in ("search", "stalled") and state.iteration > 1
    monkeypatch.undo()
    assert state.objective == pytest.approx(solve(problem, tol=1e-9).objective, rel=1e-9)
