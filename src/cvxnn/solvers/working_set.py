"""Working set over listed patterns: solve on few cells, look through all listed cones for violations, repeat."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.problem import Problem
from cvxnn.solvers.cell_program import refinements, solve_cells
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["solve_listed"]


def solve_listed(
    problem: Problem,
    masks: BoolArray,
    gates: FloatArray,
    state: ColumnState,
    options: ColumnOptions,
    report: Callable[[ColumnState], None],
) -> None:
    """Solve the program confined to the cones of ``masks (P, n)``; ``state`` is updated in place.

    Parameters
    ----------
    problem : Problem
        Reduced problem: full column rank, order one.
    masks : ndarray (P, n) of bool
        Listed patterns; both output signs are allowed in every cone.
    gates : ndarray (P, r)
        Their gates, recorded in the state for the cells in use.
    state : ColumnState
        Starts from the zero network.
    options : ColumnOptions
    report : callable
        Called after each iteration.
    """
    both = np.concatenate([masks, masks])
    signs = np.repeat([1.0, -1.0], len(masks))
    active = np.zeros(0, dtype=np.intp)
    vectors = np.zeros((0, problem.n_features))
    while state.outcome == "running":
        if state.stop_at_limits(options):
            break
        before = state.objective
        new = _violated(problem, both, signs, state, options, active)
        state.iteration += 1
        if len(new) == 0:
            state.outcome = "listed"
        else:
            order = np.concatenate([active, new])
            start = np.vstack([vectors, np.zeros((len(new), problem.n_features))])
            vectors = solve_cells(problem, both[order], signs[order], start=start)
            solution = Neurons(vectors, signs[order])
            state.offer(problem, refinements(problem, solution, cells=both[order], deadline=options.deadline))
            state.gates = gates[order % len(masks)]
            # Cells without mass leave, so that the programs stay small; the objective has fallen, so no cycle.
            alive = np.linalg.norm(vectors, axis=1) > 1e-8 * np.max(np.linalg.norm(vectors, axis=1), initial=0.0)
            active, vectors = order[alive], vectors[alive]
            if not state.objective < before * (1.0 - 1e-14):
                state.outcome = "stalled"
        report(state)


def _violated(
    problem: Problem,
    masks: BoolArray,
    signs: FloatArray,
    state: ColumnState,
    options: ColumnOptions,
    active: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Index of the cones whose bound exceeds beta, largest first, at most as many as are in use (or 20)."""
    nu = problem.dual_vector(state.neurons.fit(problem.X))
    target = problem.beta * (1.0 + 1e-2 * options.tol)
    remaining = options.deadline - time.perf_counter()
    upper, _ = cone_bounds(
        problem.X, nu, masks, signs, target=target, time_limit=None if np.isinf(remaining) else max(remaining, 0.0)
    )
    upper[active] = 0.0
    state.violation = max(float(np.max(upper, initial=0.0)) / problem.beta - 1.0, 0.0)
    order = np.argsort(-upper, kind="stable")
    order = order[upper[order] > target]
    return order[: max(20, len(active))]
