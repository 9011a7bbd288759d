"""Working set over listed patterns: solve on few cells, look through all listed cones for violations, repeat."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.cell_program import refinements
from cvxnn.solvers.cells import unique_cells
from cvxnn.solvers.column_state import ColumnOptions, ColumnState
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.cone_proximal import ConeProximal
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

__all__ = ["solve_listed"]

_STAGE = 0.2
"""Factor from one weight decay to the next on the way down to beta."""

_STAGE_TOL = 3e-2
"""Relative gap at which a stage on the way ends."""

_ROUND_TOL = 1e-2
"""Gap at which a round at beta ends, as a share of the gap among all listed cones before it."""

_MORE = 20
"""Cones that a round takes in, at least; more where more are in use."""


def solve_listed(
    problem: Problem,
    masks: BoolArray,
    gates: FloatArray,
    state: ColumnState,
    options: ColumnOptions,
    report: Callable[[ColumnState], None],
) -> None:
    """Solve the program confined to the cones of ``masks (P, n)``; ``state`` is updated in place.

    The weight decay comes down to beta in stages, each solved to a few digits from the last; at beta the accuracy of
    the rounds follows the gap. A round takes in the cones that violate the dual most.

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
    distinct = unique_cells(masks, np.ones(len(masks)))
    cells = np.concatenate([masks[distinct], masks[distinct]])
    signs = np.repeat([1.0, -1.0], len(distinct))
    both = np.concatenate([gates[distinct], gates[distinct]])
    work = _Rounds(problem, cells, signs, state, options)
    while state.outcome == "running":
        if state.stop_at_limits(options):
            break
        state.iteration += 1
        work.advance()
        state.gates = both[work.which]
        report(state)


class _Rounds:
    """Rounds of the proximal method on a growing and shrinking set of cones."""

    def __init__(
        self, problem: Problem, cells: BoolArray, signs: FloatArray, state: ColumnState, options: ColumnOptions
    ) -> None:
        self.problem = problem
        self.cells = cells
        self.signs = signs
        self.state = state
        self.options = options
        self.solver = ConeProximal(problem, cells, signs, deadline=options.deadline)
        self.which: IntArray = np.zeros(0, dtype=np.intp)
        self.beta = np.inf
        self.tol = max(min(1e-3 * options.tol, 1e-9), 1e-12)
        self.best_gap = np.inf

    def advance(self) -> None:
        """One stage or round; sets the outcome of the state where it was the last."""
        problem, solver, state = self.problem, self.solver, self.state
        if self.beta > problem.beta:
            self.beta = max(problem.beta, _STAGE * min(self.beta, self._largest_bound()))
        bounds, complete = solver.bounds(self.beta, limit=4 * max(_MORE, len(self.which)))
        largest = float(bounds.max(initial=0.0))
        state.violation = max(largest / problem.beta - 1.0, 0.0)
        masses = solver.masses()
        new = np.flatnonzero(bounds > self.beta * (1.0 + 1e-10))
        new = new[~np.isin(new, self.which)]
        new = new[np.argsort(-bounds[new], kind="stable")][: max(_MORE, len(self.which))]
        tol = _STAGE_TOL
        if self.beta == problem.beta:
            gap = self._gap(largest, self._neurons())
            if complete and (gap <= 10.0 * self.tol or (new.size == 0 and gap >= 0.5 * self.best_gap)):
                self._finish(gap)
                return
            self.best_gap = min(gap, self.best_gap)
            tol = self.tol if new.size == 0 else max(self.tol, _ROUND_TOL * min(gap, 1.0))
        self.which = np.union1d(np.flatnonzero(masses > 0.0), new)
        if self.which.size:
            solver.descend(self.which, self.beta, tol=tol)
            state.offer(problem, [self._neurons()])

    def _largest_bound(self) -> float:
        """Dual norm over all cones, within a factor that does no harm; at the zero network it starts the stages."""
        crude = float(self.solver.crude_bounds(self.solver.dual).max())
        return float(self.solver.bounds(0.3 * crude, limit=_MORE)[0].max())

    def _neurons(self) -> Neurons:
        used = np.flatnonzero(self.solver.masses() > 0.0)
        return Neurons(self.solver.vectors[used], self.signs[used])

    def _gap(self, largest: float, neurons: Neurons) -> float:
        """Relative gap of neurons among all listed cones, in which their dual vector has the norm ``largest``."""
        problem = self.problem
        objective = neurons.objective(problem)
        scale = min(1.0, problem.beta / largest) if largest > 0.0 else 1.0
        bound = problem.dual_value(scale * problem.dual_vector(neurons.fit(problem.X)))
        return (objective - bound) / max(abs(objective), 1e-300)

    def _finish(self, gap: float) -> None:
        """Clean the solution; where the gap has not closed, the interior-point method goes on with the cells in use."""
        problem, state, options = self.problem, self.state, self.options
        massed = solve_masses(problem, self._neurons())
        nu = problem.dual_vector(massed.fit(problem.X))
        # A last digit of the objective is not worth the dual vector that proves it.
        if self._gap(float(self.solver.crude_bounds(nu).max()), massed) <= max(gap, 0.01 * options.tol):
            state.offer(problem, [massed])
        state.outcome = "listed"
        if gap <= 0.1 * options.tol or self.which.size == 0 or time.perf_counter() > options.deadline:
            return
        cells = self.cells[self.which]
        remaining = None if np.isinf(options.deadline) else max(options.deadline - time.perf_counter(), 1e-3)
        start = self.solver.vectors[self.which]
        signs = self.signs[self.which]
        vectors = solve_cone_blocks(problem, cells, signs, start=start, tol=1e-9, time_limit=remaining).vectors
        solution = Neurons(vectors, signs)
        state.offer(problem, refinements(problem, solution, cells=cells, deadline=options.deadline))
