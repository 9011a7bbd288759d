"""Column generation: solve the ReLU program on the active cells, find neurons outside that violate the dual, repeat.

Rounds that move all neurons at once (:class:`ColumnRounds`) get further in less time; where a proof follows, programs
on the cells, which are solved to the last digit, take over where the rounds gain little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cvxnn.problem import Problem
from cvxnn.solvers.best_bias import BestBias
from cvxnn.solvers.cell_program import refinements, solve_cells
from cvxnn.solvers.cells import adjacent_gates, masks_of, unique_cells
from cvxnn.solvers.column_rounds import ColumnRounds
from cvxnn.solvers.column_state import PROOF_THRESHOLD, ColumnOptions, ColumnState
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.thorough_search import find_thoroughly

__all__ = ["generate_columns"]

_FINEST = 1e-9
"""Relative gap to which the programs on the cells are solved."""

_STARTS, _MOST_EFFORT = 200, 8
"""Starts of a search, and how many times as many are tried where nothing is gained before that counts as stalled."""

_CONFIRMED_RANK, _CONFIRMING_STARTS = 4, 800
"""From this rank on a proof takes so long that a second search, with so many starts, is worth its time before it."""

_FEWEST_NEW, _NEW_SHARE = 10, 3
"""Most neurons that a round adds: so many, or one for so many present."""

_LEAST_GAIN = 1e-13

_ROUNDS_SAMPLES, _ROUNDS_GAIN = 40, 1e-6
"""Above this number of samples rounds of joint moves come first, until one gains no more than this share."""

_LARGE_SAMPLES, _ROUNDS_SHARE, _ROUNDS_AFTER = 5000, 0.6, 0.5
"""Above this number they go on to their end, since the programs on the cells take long; for at most this share of the
time, and the programs begin only where this multiple of the time that the rounds took is left."""


def generate_columns(
    problem: Problem,
    state: ColumnState,
    options: ColumnOptions,
    report: Callable[[ColumnState], None],
    found: Neurons | None = None,
) -> None:
    """Improve ``state`` until no violating neuron is left, a limit is met, or progress ends.

    Parameters
    ----------
    problem : Problem
        Reduced problem: full column rank, order one.
    state : ColumnState
        Start; updated in place.
    options : ColumnOptions
    report : callable
        Called after each iteration; it may raise to stop.
    found : Neurons, optional
        Violating directions to begin with; the search looks for some otherwise.
    """
    # The programs on the cells know no output bias.
    if not options.exact or isinstance(problem, BestBias):
        ColumnRounds(problem, options).run(state, report, found)
        return
    if found is None and problem.n_samples > _ROUNDS_SAMPLES and state.outcome == "running":
        _lead(problem, state, options, report)
    effort = 1
    while state.outcome == "running":
        if state.stop_at_limits(options):
            break
        before = state.objective
        columns = _price(problem, state, options, effort) if found is None else found
        found = None
        state.iteration += 1
        if columns is not None:
            _solve_on_cells(problem, state, columns, options)
            gained = state.objective < before * (1.0 - _LEAST_GAIN)
            effort = 1 if gained else 2 * effort
            if not gained and effort > _MOST_EFFORT:
                state.outcome = "stalled"
        report(state)


def _lead(problem: Problem, state: ColumnState, options: ColumnOptions, report: Callable[[ColumnState], None]) -> None:
    """Rounds of joint moves up to where the programs on the cells are faster."""
    begin = time.perf_counter()
    left = options.deadline - begin
    limit = begin + _ROUNDS_SHARE * left
    least_gain = _ROUNDS_GAIN if problem.n_samples <= _LARGE_SAMPLES else 0.0
    ColumnRounds(problem, replace(options, deadline=limit), least_gain=least_gain).run(state, report)
    now = time.perf_counter()
    # A program on the cells takes about as long as the rounds; begun late it would end long after the deadline.
    if state.outcome != "max_iter" and options.deadline - now > _ROUNDS_AFTER * min(now - begin, limit - begin):
        state.outcome = "running"


def _price(problem: Problem, state: ColumnState, options: ColumnOptions, effort: int) -> Neurons | None:
    """Violating neurons at the current point; None (and the outcome set) where there are none."""
    confirming = [_CONFIRMING_STARTS] if problem.n_features >= _CONFIRMED_RANK else []
    for k, n_starts in enumerate([_STARTS * effort, *confirming]):
        found, values = find_thoroughly(
            problem,
            state.neurons,
            n_starts=n_starts,
            threshold=1.0 + PROOF_THRESHOLD * options.tol,
            random_state=np.random.default_rng([options.seed_at(state.iteration), k]),
            deadline=options.deadline,
        )
        if len(found):
            state.violation = float(values[0]) - 1.0
            return found.take(np.arange(min(len(found), max(_FEWEST_NEW, len(state.neurons) // _NEW_SHARE))))
    # A search that the deadline cut short has shown nothing, but then the proof has no time either.
    state.violation = 0.0
    state.outcome = "search"
    return None


def _solve_on_cells(problem: Problem, state: ColumnState, found: Neurons, options: ColumnOptions) -> None:
    """Solve the program on the cells of the current neurons and the new ones; keep what is better."""
    joined = state.neurons.joined(found)
    gates = adjacent_gates(problem.X, joined.vectors, seed=options.seed + state.iteration)
    masks = masks_of(problem.X, gates)
    index = unique_cells(masks, joined.signs)
    remaining = options.deadline - time.perf_counter()
    start = np.vstack([state.neurons.vectors, np.zeros_like(found.vectors)])[index]
    vectors = solve_cells(
        problem,
        masks[index],
        joined.signs[index],
        start=start,
        tol=_FINEST,
        time_limit=None if np.isinf(remaining) else max(remaining, 1e-3),
    )
    state.gates = gates[index]
    candidate = Neurons(vectors, joined.signs[index])
    state.offer(problem, refinements(problem, candidate, deadline=options.deadline))
