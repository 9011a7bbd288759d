r"""From a good network to a good one of limited width.

The neuron whose removal costs least is found from the curvature of the masses: at their optimum the objective rises by
:math:`c_i^2 / (2 [G^{-1}]_{ii})` to second order when neuron i goes and the other masses adapt, with the Gram
matrix G of the outputs per unit of mass.
"""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.mass_program import removal_costs, solve_masses
from cvxnn.solvers.neuron_search import NeuronSearch
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]

__all__ = ["narrow"]

_DROPPED_SHARE = 4
_DESCENT = ((1e-2, 2), (1e-3, 3), (1e-4, 4))
_LAST_DESCENT = ((1e-3, 4), (1e-4, 6), (1e-5, 6), (1e-6, 6), (1e-7, 8))
_ROUNDS, _FAILURES = 12, 3
_STARTS = 400
_NEW_MASS = 1e-2
_GROWN_WIDTH, _TRIED, _DRAWN, _DISTINCT = 6, 16, 500, 0.98
"""Up to this width the network is also built neuron by neuron, each the best of so many tried."""


def narrow(problem: Problem, neurons: Neurons, width: int, *, deadline: float = math.inf, seed: int = 0) -> Neurons:
    """Return at most ``width`` neurons of an objective as low as exchanges and joint moves make it.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    neurons : Neurons
        Start, for instance the optimum among all widths.
    width : int
        At least 1.
    deadline : float
        Time of ``time.perf_counter`` after which neurons are only left out, and no more are moved.
    seed : int
        Seed of the searches for neurons to exchange.

    References
    ----------
    Hassibi and Stork (1993), "Second order derivatives for network pruning: optimal brain surgeon".

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [2.0, -1.0], beta=0.1)
    >>> both = Neurons(np.array([[1.9], [-0.9]]), np.array([1.0, -1.0]))
    >>> narrow(problem, both, 1).vectors.round(6)
    array([[1.9]])
    """
    moves = JointMoves(problem)
    neurons = neurons.take(neurons.masses > 0.0)
    best = _shrink(problem, neurons, width, moves, deadline)
    best_value = best.objective(problem)
    search, failures = NeuronSearch(problem), 0
    if width <= _GROWN_WIDTH and time.perf_counter() < deadline:
        grown = _grow(problem, neurons, width, moves, search, deadline, seed)
        if grown.objective(problem) < best_value:
            best, best_value = grown, grown.objective(problem)
    for k in range(_ROUNDS):
        if failures >= _FAILURES or time.perf_counter() >= deadline:
            break
        nu = problem.dual_vector(best.fit(problem.X))
        found, _ = search.find(
            nu, best, n_starts=_STARTS, random_state=np.random.default_rng([seed, k]), deadline=deadline
        )
        if len(found) == 0:
            break
        found = found.take(np.arange(min(len(found), max(1, width // 2))))
        mass = _NEW_MASS * float(best.masses.mean()) if len(best) else 1.0
        wider = solve_masses(problem, best.joined(Neurons(mass * found.vectors, found.signs)), tol=1e-8)
        wider = moves.minimize(wider, _DESCENT, deadline=deadline)
        candidate = _shrink(problem, wider, width, moves, deadline)
        value = candidate.objective(problem)
        failures = 0 if value < best_value * (1.0 - 1e-6) else failures + 1
        if value < best_value:
            best, best_value = candidate, value
    moved = moves.minimize(best, _LAST_DESCENT, deadline=deadline)
    return moved if moved.objective(problem) < best_value else best


def _grow(
    problem: Problem,
    neurons: Neurons,
    width: int,
    moves: JointMoves,
    search: NeuronSearch,
    deadline: float,
    seed: int,
) -> Neurons:
    """Add one neuron at a time: the one that leads lowest of those found and of the given ones."""
    grown = Neurons.empty(problem.n_features)
    for k in range(width):
        nu = problem.dual_vector(grown.fit(problem.X))
        found, _ = search.find(
            nu, grown, n_starts=_STARTS, random_state=np.random.default_rng([seed, 1, k]), deadline=deadline
        )
        given = Neurons(neurons.vectors / neurons.masses[:, None], neurons.signs)
        drawn = np.random.default_rng([seed, 2, k]).standard_normal((_DRAWN, problem.n_features))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        trials = _promising(problem, nu, found.joined(given), drawn)
        best, best_value = grown, grown.objective(problem)
        for i in range(len(trials)):
            if time.perf_counter() >= deadline:
                break
            trial = solve_masses(problem, grown.joined(trials.take(np.array([i]))), tol=1e-8)
            trial = moves.minimize(trial, _DESCENT, deadline=deadline)
            value = trial.objective(problem)
            if value < best_value:
                best, best_value = trial, value
        if best is grown:
            break
        grown = best
    return grown


def _promising(problem: Problem, nu: FloatArray, known: Neurons, free: FloatArray) -> Neurons:
    """Distinct unit directions, those of either sign among them, that do best when one alone gets its best mass."""
    directions = np.vstack([known.vectors, free])
    pull, curved = np.zeros(len(directions)), np.zeros(len(directions))
    curvature = problem.loss_hessian(np.zeros(problem.n_samples))
    for rows in row_slabs(problem.n_samples, len(directions)):
        outputs = np.maximum(problem.X[rows] @ directions.T, 0.0)
        pull += nu[rows] @ outputs
        outputs *= outputs
        curved += curvature[rows] @ outputs
    index = np.concatenate([np.arange(len(directions)), np.arange(len(known), len(directions))])
    signs = np.concatenate([known.signs, np.ones(len(free)), -np.ones(len(free))])
    trials = Neurons(directions[index], signs)
    slope = np.maximum(pull[index] * signs - problem.beta, 0.0)
    promised = slope**2 / np.maximum(curved[index], 1e-300)
    chosen: list[int] = []
    for i in np.argsort(-promised, kind="stable"):
        same = trials.signs[chosen] == trials.signs[i]
        if not np.any(same & (trials.vectors[chosen] @ trials.vectors[i] > _DISTINCT)):
            chosen.append(int(i))
        if promised[i] <= 0.0 or len(chosen) == _TRIED:
            break
    return trials.take(np.array(chosen, dtype=np.intp))


def _shrink(problem: Problem, neurons: Neurons, width: int, moves: JointMoves, deadline: float) -> Neurons:
    """Leave out neurons, a share of the excess at a time, and let the others adapt."""
    neurons = moves.cleaned(neurons)
    while len(neurons) > width:
        excess = len(neurons) - width
        late = time.perf_counter() >= deadline
        count = excess if late else max(1, -(-excess // _DROPPED_SHARE))
        keep = np.sort(np.argsort(removal_costs(problem, neurons), kind="stable")[count:])
        neurons = solve_masses(problem, neurons.take(keep), tol=1e-8)
        if not late:
            neurons = moves.cleaned(moves.minimize(neurons, _DESCENT, deadline=deadline))
    return neurons
