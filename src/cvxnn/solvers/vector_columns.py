"""Column generation for several outputs: weigh the neurons, move them jointly, add directions that violate the dual."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.column_state import LoopState
from cvxnn.solvers.output_lasso import solve_outputs
from cvxnn.solvers.vector_ascent import ascend_outputs
from cvxnn.solvers.vector_faces import refine_on_faces
from cvxnn.solvers.vector_lbfgs import descend_smoothed, start_outputs
from cvxnn.solvers.vector_neurons import VectorNeurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["VectorOptions", "VectorState", "first_network", "generate_directions", "improve"]

_STARTS = 200
_MOST_EFFORT = 8
_TIE = 1e-13
_NEGLIGIBLE = 1e-9
_SAME, _CLUSTER = 1.0 - 1e-12, 1.0 - 1e-5
_CLUSTERS = (1.0 - 1e-2, 1.0 - 1e-4)
_SMOOTHINGS = (1e-2, 1e-3)
_SMOOTHED_STEPS, _SMOOTHED_TOL = 150, 1e-4
_SNAP = 1e-3
_FINEST = 1e-12
_SMALL = 20_000
"""Entries of the hidden layer up to which the kinks are resolved at once, without smoothing them first."""

_LARGE = 100_000
"""Entries of the hidden layer from which steps are stopped early: other steps gain more in that time."""

_WIDEST = 400


@dataclass(frozen=True)
class VectorOptions:
    """Settings of the rounds.

    Attributes
    ----------
    tol : float
        Relative duality gap to reach.
    max_iter : int
    deadline : float
        On the clock of ``time.perf_counter``.
    seed : int
    """

    tol: float
    max_iter: int
    deadline: float
    seed: int


@dataclass
class VectorState(LoopState):
    """Best neurons so far; updated in place, so that an interrupt loses nothing.

    Attributes
    ----------
    neurons : VectorNeurons
    objective : float
    violation : float
        Largest dual norm met at the last point, divided by beta, minus one; 0 where no violation was found.
    iteration : int
    outcome : {"running", "search", "max_iter", "time_limit", "stalled"}
    """

    neurons: VectorNeurons
    objective: float
    violation: float = np.inf
    iteration: int = 0
    outcome: str = "running"

    @classmethod
    def zero(cls, problem: Problem) -> VectorState:
        """Zero network."""
        neurons = VectorNeurons.empty(problem.n_features, problem.n_outputs)
        return cls(neurons, neurons.objective(problem))

    def offer(self, problem: Problem, neurons: VectorNeurons) -> bool:
        """Keep the neurons if they are better; whether they were."""
        value = neurons.objective(problem)
        better = value < self.objective * (1.0 - _TIE)
        if better or (value <= self.objective and len(neurons) < len(self.neurons)):
            self.neurons, self.objective = neurons, value
        return better


def first_network(problem: Problem, state: VectorState, options: VectorOptions) -> None:
    """L-BFGS from random weights, for problems too large to begin with the zero network."""
    size = min(_WIDEST, max(32, problem.n_samples))
    rng = np.random.default_rng(options.seed)
    now = time.perf_counter()
    early = options.deadline if math.isinf(options.deadline) else now + 0.5 * (options.deadline - now)
    state.offer(problem, start_outputs(problem, width=size, deadline=early, rng=rng))


def generate_directions(
    problem: Problem,
    state: VectorState,
    options: VectorOptions,
    report: Callable[[VectorState], None],
    found: FloatArray | None = None,
) -> None:
    """Improve ``state`` until no violating direction is found, a limit is met, or progress ends.

    Parameters
    ----------
    problem : Problem
        Reduced problem: full column rank, order one.
    state : VectorState
        Start; updated in place.
    options : VectorOptions
    report : callable
        Called after each iteration; it may raise to stop.
    found : ndarray (k, d), optional
        Violating directions to begin with; the search looks for some otherwise.
    """
    effort, polished = 1, False
    if found is None and len(state.neurons):
        improve(problem, state, state.neurons, options.deadline)
        report(state)
    while state.outcome == "running":
        if state.stop_at_limits(options):
            break
        before = state.objective
        columns = _price(problem, state, options, effort) if found is None else found
        if columns is None and not polished:
            # What the search missed at a coarse point it may find at a fine one.
            _polish(problem, state, options.deadline)
            polished, state.outcome = True, "running"
            continue
        if columns is None:
            break
        polished = False
        found = None
        state.iteration += 1
        improve(problem, state, state.neurons.joined(columns), options.deadline)
        gained = before - state.objective > 1e-3 * options.tol * abs(state.objective)
        effort = 1 if gained else 2 * effort
        if not gained and effort > _MOST_EFFORT:
            state.outcome = "stalled"
        report(state)


def improve(problem: Problem, state: VectorState, neurons: VectorNeurons, deadline: float) -> None:
    """Weigh the neurons afresh, merge those that agree, and move all of them jointly to a stationary point."""
    # Far from the optimum the neurons are to be joined by others, and need no digits.
    far = min(1e-4, 1e-4 * state.violation)
    massed = _weigh(problem, neurons, max(10.0 * far, 1e-8), deadline)
    state.offer(problem, massed)
    merged = _merge(problem.X, massed)
    large = problem.n_samples * len(merged) > _SMALL
    if large:
        for smoothing in _SMOOTHINGS:
            merged = descend_smoothed(
                problem, merged, smoothing=smoothing, max_iter=_SMOOTHED_STEPS, rtol=_SMOOTHED_TOL, deadline=deadline
            )
            state.offer(problem, merged)
    tol = max(far, 1e-11)
    steps, inner = (8, 40) if problem.n_samples * len(merged) > _LARGE else (60, 150)
    refined = refine_on_faces(problem, merged, snap=_SNAP, tol=tol, max_iter=steps, cg_steps=inner, deadline=deadline)
    state.offer(problem, refined)
    if large:
        return
    if len(refined):
        # What Newton's method shrinks to nothing is dropped; the others may move once more.
        last = _weigh(problem, refined, max(far, 1e-8), deadline)
        if len(last) < len(refined):
            last = refine_on_faces(problem, last, tol=tol, deadline=deadline)
        state.offer(problem, last)


def _polish(problem: Problem, state: VectorState, deadline: float) -> None:
    """Last digits of the best neurons; at a tie the objective no longer tells, but the dual vector does.

    Two neurons that are about to become one approach each other slowly: they are merged where nothing is lost by that.
    """
    for cluster in (*_CLUSTERS, None):
        neurons = state.neurons if cluster is None else _merge(problem.X, state.neurons, cluster)
        if cluster is not None and len(neurons) == len(state.neurons):
            continue
        steps, inner = (20, 80) if problem.n_samples * len(neurons) > _LARGE else (60, 150)
        polished = refine_on_faces(problem, neurons, tol=_FINEST, max_iter=steps, cg_steps=inner, deadline=deadline)
        value = polished.objective(problem)
        if value <= state.objective * (1.0 + _TIE):
            state.neurons, state.objective = polished, min(value, state.objective)


def _price(problem: Problem, state: VectorState, options: VectorOptions, effort: int) -> FloatArray | None:
    """Violating directions at the current point; None (and the outcome set) where none is found."""
    N = problem.dual_vector(state.neurons.fit(problem.X))
    directions, values = ascend_outputs(
        problem,
        N,
        state.neurons.directions[np.argsort(-state.neurons.masses, kind="stable")],
        threshold=problem.beta * (1.0 + 0.1 * options.tol),
        n_starts=_STARTS * effort,
        rng=np.random.default_rng(options.seed + 7919 * state.iteration),
        deadline=options.deadline,
    )
    if len(values):
        state.violation = float(values[0]) / problem.beta - 1.0
        return directions[: max(10, len(state.neurons) // 3)]
    state.violation = 0.0
    state.outcome = "search"
    return None


def _weigh(problem: Problem, neurons: VectorNeurons, tol: float, deadline: float) -> VectorNeurons:
    """Best output rows for the directions; neurons of negligible mass go."""
    hidden = np.maximum(problem.X @ neurons.directions.T, 0.0)
    tol, rounds, inner = (max(tol, 1e-3), 2, 20) if hidden.size > _LARGE else (tol, 40, 120)
    outputs = solve_outputs(
        problem, hidden, neurons.outputs, tol=tol, max_rounds=rounds, cg_steps=inner, deadline=deadline
    )
    massed = VectorNeurons(neurons.directions, outputs)
    return massed.take(massed.masses > _NEGLIGIBLE * np.max(massed.masses, initial=0.0))


def _merge(X: FloatArray, neurons: VectorNeurons, cluster: float = _CLUSTER) -> VectorNeurons:
    """Sum neurons of nearly one direction, and neurons of nearly parallel outputs that no sample separates.

    Both keep the function nearly; what follows moves the result to where it fits best.
    """
    order = np.argsort(-neurons.masses, kind="stable")
    t = X @ neurons.directions.T
    up, down = t > 0.0, t < 0.0
    cosines = neurons.directions @ neurons.directions.T
    units = neurons.outputs / np.maximum(neurons.masses, 1e-300)[:, None]
    parallel = units @ units.T > cluster
    groups: list[list[int]] = []
    for i in order:
        for group in groups:
            same = all(
                cosines[i, j] > _SAME
                or (
                    (cosines[i, j] > cluster or parallel[i, j])
                    and not np.any(up[:, i] & down[:, j] | down[:, i] & up[:, j])
                )
                for j in group
            )
            if same:
                group.append(int(i))
                break
        else:
            groups.append([int(i)])
    if len(groups) == len(neurons):
        return neurons
    directions, outputs = [], []
    for group in groups:
        masses = neurons.masses[group]
        vector = masses @ neurons.directions[group]
        row = np.sum(neurons.outputs[group], axis=0)
        size = np.linalg.norm(vector)
        if size > 0.0 and np.any(row != 0.0):
            directions.append(vector / size)
            total = float(np.linalg.norm(row))
            # Parallel outputs keep the function where the vector keeps its length; one direction where the row does.
            outputs.append(row / total * (total if np.min(cosines[np.ix_(group, group)]) > cluster else size))
    return VectorNeurons(np.array(directions), np.array(outputs))
