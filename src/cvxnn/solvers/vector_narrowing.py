"""From a good network with several outputs to one of limited width."""

from __future__ import annotations

import math
import time

import numpy as np

from cvxnn.problem import Problem
from cvxnn.solvers.output_lasso import solve_outputs
from cvxnn.solvers.vector_faces import refine_on_faces
from cvxnn.solvers.vector_lbfgs import descend_smoothed, start_outputs
from cvxnn.solvers.vector_neurons import VectorNeurons

__all__ = ["narrow_outputs"]

_RANDOM_STARTS = 6
_SMOOTHINGS = (1e-2, 1e-3, 1e-4)


def narrow_outputs(
    problem: Problem, neurons: VectorNeurons, width: int, *, deadline: float = math.inf, seed: int = 0
) -> VectorNeurons:
    """Return at most ``width`` neurons: the best of those that remain of the given ones and of a few random starts.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    neurons : VectorNeurons
        Start, for instance the optimum among all widths.
    width : int
        At least 1.
    deadline : float
        Time of ``time.perf_counter`` after which neurons are only left out, and no more are moved.
    seed : int
        Seed of the random starts.

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [[2.0, 0.0], [0.0, 1.0]], beta=0.1)
    >>> both = VectorNeurons(np.array([[1.0], [-1.0]]), np.array([[1.9, 0.0], [0.0, 0.9]]))
    >>> narrow_outputs(problem, both, 1).outputs.round(6) + 0.0
    array([[1.9, 0. ]])
    """
    best = _moved(problem, _shrunk(problem, neurons, width), deadline)
    value = best.objective(problem)
    rng = np.random.default_rng(seed)
    for _ in range(_RANDOM_STARTS):
        if time.perf_counter() >= deadline:
            break
        start = start_outputs(problem, width=width, deadline=deadline, rng=rng)
        candidate = _moved(problem, start, deadline)
        if len(candidate) <= width and candidate.objective(problem) < value:
            best, value = candidate, candidate.objective(problem)
    return best


def _shrunk(problem: Problem, neurons: VectorNeurons, width: int) -> VectorNeurons:
    """Leave out the neurons that contribute least, one after the other, and let the outputs of the others adapt."""
    while len(neurons) > width:
        hidden = np.maximum(problem.X @ neurons.directions.T, 0.0)
        weight = problem.sample_weight @ (hidden * hidden)
        share = weight * neurons.masses**2
        count = max(1, (len(neurons) - width) // 2)
        keep = np.sort(np.argsort(share, kind="stable")[count:])
        outputs = solve_outputs(problem, hidden[:, keep], neurons.outputs[keep], tol=1e-6, max_rounds=5)
        neurons = VectorNeurons(neurons.directions[keep], outputs)
        neurons = neurons.take(neurons.masses > 0.0)
    return neurons


def _moved(problem: Problem, neurons: VectorNeurons, deadline: float) -> VectorNeurons:
    """Joint moves at a falling smoothing, and on the faces at the end."""
    if time.perf_counter() >= deadline:
        return neurons
    best, value = neurons, neurons.objective(problem)
    moved = neurons
    for smoothing in _SMOOTHINGS:
        moved = descend_smoothed(problem, moved, smoothing=smoothing, max_iter=200, deadline=deadline)
        moved = moved if len(moved) else neurons
        if moved.objective(problem) < value:
            best, value = moved, moved.objective(problem)
    refined = refine_on_faces(problem, moved, snap=1e-4, deadline=deadline)
    return refined if refined.objective(problem) < value else best
