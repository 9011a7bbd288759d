"""A good network in seconds: local search in the variables of the convex program."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._ascent import ascend
from cvxnn.solvers.lbfgs_start import lbfgs_start
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

FloatArray = npt.NDArray[np.float64]
Pricing = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

__all__ = ["default_width", "local_search", "merge_neurons"]

# Smoothing and its factor per round, in the first cycle and in the later ones.
_FIRST_SMOOTHING, _FIRST_FACTOR = 5e-3, 0.7
_NEXT_SMOOTHING, _NEXT_FACTOR = 3e-3, 0.3
_LAST_SMOOTHING = 1e-6
_QUIET_CYCLES = 2
_STEPS = 8
_STARTS = 200
_LARGEST_WORK_ARRAY = 1 << 24


def default_width(n_samples: int) -> int:
    """Width of the random start: that of the data up to 400, less where the hidden layer would not fit in memory.

    Examples
    --------
    >>> default_width(5), default_width(442), default_width(100_000)
    (32, 400, 167)
    """
    return min(400, max(32, n_samples), max(32, _LARGEST_WORK_ARRAY // n_samples))


def local_search(
    problem: Problem,
    *,
    start: Neurons | None = None,
    width: int | None = None,
    time_limit: float | None = None,
    max_rounds: int = 200,
    random_state: int | np.random.Generator | None = 0,
    pricing: Pricing | None = None,
    callback: Callable[[Neurons, float], None] | None = None,
    tol: float = 1e-5,
) -> Neurons:
    r"""Lower :math:`\mathrm{loss}(\sum_i s_i (X z_i)_+, y) + \beta \sum_i \|z_i\|` over the vectors and their number.

    An L-BFGS start on a wide network, then rounds of: merge neurons, re-optimise their masses
    (:func:`solve_masses`), move all vectors jointly at a shrinking smoothing of the kinks
    (:class:`SmoothedKinks`), and add neurons that a quick ascent finds to violate dual feasibility. Rounds form
    cycles; each cycle begins at a large smoothing again. No bound is computed: the result is a point, good in
    practice, that other parts of the library judge.

    Parameters
    ----------
    problem : Problem
        Data of full column rank whose rows are of order one; targets of order one.
    start : Neurons, optional
        Neurons to begin with instead of the L-BFGS start.
    width : int, optional
        Neurons of the L-BFGS start; by default :func:`default_width`.
    time_limit : float, optional
        Seconds of wall time; exceeded by no more than one step.
    max_rounds : int, default 200
        Most rounds.
    random_state : int, Generator or None, default 0
        Seed of the first weights.
    pricing : callable, optional
        A search more thorough than the built-in ascent, called once a cycle: takes the dual vector ``(n,)`` at the
        current neurons and returns directions ``(q, d)`` and signs ``(q,)`` worth adding, best first, maybe none.
    callback : callable, optional
        Called as ``callback(neurons, objective)`` whenever the best objective falls.
    tol : float, default 1e-5
        Stop when two cycles in a row each lower the objective by at most this fraction of it.

    Returns
    -------
    Neurons
        The best neurons met; none where the zero function was the best.

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.5)
    >>> best = local_search(problem)
    >>> best.vectors.round(6), best.signs
    (array([[1.5]]), array([1.]))
    """
    rng = np.random.default_rng(random_state)
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    incumbent = _Incumbent(problem, callback)
    if start is None:
        share = None if time_limit is None else 0.5 * time_limit
        size = default_width(problem.n_samples) if width is None else width
        start = lbfgs_start(problem, width=size, time_limit=share, random_state=rng)
    incumbent.offer(start)
    pricer = _Pricer(problem, pricing, rng)
    _rounds(problem, start, incumbent, max_rounds=max_rounds, deadline=deadline, pricer=pricer, tol=tol)
    final = merge_neurons(problem.X, incumbent.neurons)
    incumbent.offer(final)
    if time.perf_counter() < deadline:
        incumbent.offer(solve_masses(problem, final))
    return incumbent.neurons


class _Incumbent:
    """The best neurons met so far; the zero function is the first."""

    def __init__(self, problem: Problem, callback: Callable[[Neurons, float], None] | None) -> None:
        self.problem = problem
        self.callback = callback
        self.neurons = Neurons.empty(problem.n_features)
        self.value = self.neurons.objective(problem)

    def offer(self, neurons: Neurons) -> None:
        """Keep the neurons if they are strictly better, or as good and not more."""
        value = neurons.objective(self.problem)
        if value < self.value or (value == self.value and len(neurons) <= len(self.neurons)):
            improved = value < self.value
            self.neurons, self.value = neurons, value
            if improved and self.callback is not None:
                self.callback(neurons, value)


def _rounds(
    problem: Problem,
    neurons: Neurons,
    incumbent: _Incumbent,
    *,
    max_rounds: int,
    deadline: float,
    pricer: _Pricer,
    tol: float,
) -> None:
    """Cycles of rounds; the smoothing falls within a cycle and the next cycle begins at a large one again."""
    steps = SmoothedKinks(problem)
    eps, factor, quiet = _FIRST_SMOOTHING, _FIRST_FACTOR, 0
    cycle_value = incumbent.value
    for _ in range(max_rounds):
        before = incumbent.value
        neurons = solve_masses(problem, _clean(problem.X, neurons), tol=min(1e-8, 1e-2 * tol), max_iter=20)
        incumbent.offer(neurons)
        neurons = steps.minimize(neurons, eps=eps, max_steps=_STEPS, deadline=deadline)
        incumbent.offer(neurons)
        if time.perf_counter() >= deadline:
            break
        last = eps <= _LAST_SMOOTHING
        if last:
            quiet = quiet + 1 if cycle_value - incumbent.value <= tol * abs(incumbent.value) else 0
            cycle_value = incumbent.value
            if quiet >= _QUIET_CYCLES:
                break
        grown = pricer.grow(neurons, margin=min(5e-4, max(2e-5, eps)), effort=4**quiet, thorough=last)
        if len(grown) == 0:
            break
        if last:
            eps, factor = _NEXT_SMOOTHING, _NEXT_FACTOR
        else:
            idle = len(grown) == len(neurons) and before - incumbent.value <= 0.1 * tol * abs(incumbent.value)
            eps = max((_NEXT_FACTOR if idle else factor) * eps, _LAST_SMOOTHING)
        neurons = grown


class _Pricer:
    """Proposes neurons: quick ascent in every round, the caller's search at the end of each cycle."""

    def __init__(self, problem: Problem, outer: Pricing | None, rng: np.random.Generator) -> None:
        self.problem = problem
        self.outer = outer
        self.rng = rng
        self.largest = max(64, 2 * default_width(problem.n_samples))

    def grow(self, neurons: Neurons, *, margin: float, effort: int, thorough: bool) -> Neurons:
        """Neurons with those found to violate dual feasibility by a relative margin, at a small mass."""
        nu = self.problem.dual_vector(neurons.fit(self.problem.X))
        directions, signs = ascend(
            self.problem,
            nu,
            neurons,
            threshold=(1.0 + margin) * self.problem.beta,
            n_starts=_STARTS * effort,
            rng=self.rng,
        )
        if thorough and self.outer is not None:
            found = self.outer(nu)
            directions = np.vstack([np.reshape(found[0], (-1, directions.shape[1])), directions])
            signs = np.concatenate([np.ravel(found[1]), signs])
        room = min(len(signs), max(10, len(neurons) // 3), max(0, self.largest - len(neurons)))
        if room == 0:
            return neurons
        mass = 0.01 * float(neurons.masses.mean()) if len(neurons) else 1.0
        unit = directions[:room] / np.linalg.norm(directions[:room], axis=1, keepdims=True)
        return neurons.joined(Neurons(mass * unit, np.sign(signs[:room])))


def _clean(X: FloatArray, neurons: Neurons) -> Neurons:
    """Drop neurons of negligible mass and merge those of nearly equal direction."""
    masses = neurons.masses
    neurons = neurons.take(masses > 1e-4 * np.max(masses, initial=0.0))
    merged = merge_neurons(X, neurons)
    return _merge_where(merged, _far(merged))


def merge_neurons(X: FloatArray, neurons: Neurons) -> Neurons:
    r"""Sum neurons of the same sign that no sample strictly separates; the function on the data is unchanged.

    For such neurons :math:`(X z_1)_+ + (X z_2)_+ = (X (z_1 + z_2))_+`, so the objective never rises.

    Examples
    --------
    >>> X = np.array([[1.0, 2.0], [-1.0, -1.0]])
    >>> merge_neurons(X, Neurons(np.eye(2), np.ones(2))).vectors
    array([[1., 1.]])
    """
    products = X @ neurons.vectors.T
    up, down = (products > 0).astype(np.float32), (products < 0).astype(np.float32)
    separated = up.T @ down
    return _merge_where(neurons, (separated + separated.T) > 0)


def _far(neurons: Neurons) -> npt.NDArray[np.bool_]:
    unit = neurons.vectors / np.maximum(neurons.masses, 1e-300)[:, None]
    return unit @ unit.T < 0.9999


def _merge_where(neurons: Neurons, conflict: npt.NDArray[np.bool_]) -> Neurons:
    """Sum greedily, heaviest first, neurons of the same sign without a conflict between any two of a group."""
    k = len(neurons)
    conflict = conflict | (neurons.signs[:, None] != neurons.signs)
    order = np.argsort(-neurons.masses, kind="stable")
    blocked = np.zeros((k, k), dtype=bool)
    vectors, signs, groups = np.zeros_like(neurons.vectors), np.zeros(k), 0
    for i in order:
        free = np.flatnonzero(~blocked[:groups, i])
        home = int(free[0]) if free.size else groups
        groups = max(groups, home + 1)
        vectors[home] += neurons.vectors[i]
        signs[home] = neurons.signs[i]
        blocked[home] |= conflict[i]
    return Neurons(vectors[:groups], signs[:groups])
