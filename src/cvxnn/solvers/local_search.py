"""A good network in seconds: local search in the variables of the convex program."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._ascent import ascend
from cvxnn.solvers._row_slabs import fitted, objective, row_slabs
from cvxnn.solvers.lbfgs_start import lbfgs_start
from cvxnn.solvers.mass_program import removal_costs, solve_masses
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
_STEPS = 4
_STARTS = 200
# Several starts are pooled up to this many multiplications in a product with X.
_POOLED_PRODUCTS = 1 << 23
_POOL_ROUNDS = 16
_POLISH_SMOOTHINGS = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)
_POLISH_STEPS = 8
_ROUNDING = 1e-15
_SWAPS = 4
_NARROW_STARTS, _NARROW_POLISHED, _NARROW_PRODUCTS = 24, 3, 1 << 20
_DROP_SHARE = 8
# Share of the neurons that a round may add.
_GROWTH = 1 / 3
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
    max_width: int | None = None,
    n_starts: int | None = None,
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
    max_width : int, optional
        Most neurons of the result. By default the number is free; at most twice :func:`default_width` are used.
    n_starts : int, optional
        Random starts whose neurons are pooled: when the search from the first one has settled, the neurons of a
        short search from the next one join it. By default 2 for small problems and 1 for others.
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

    Raises
    ------
    ValueError
        If ``max_width`` or ``n_starts`` is not a positive integer.

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.5)
    >>> best = local_search(problem)
    >>> best.vectors.round(6), best.signs
    (array([[1.5]]), array([1.]))
    """
    if n_starts is None:
        n_starts = 2 if problem.X.size * default_width(problem.n_samples) <= _POOLED_PRODUCTS else 1
    for name, value in (("max_width", max_width), ("n_starts", n_starts)):
        if value is not None and not (isinstance(value, (int, np.integer)) and value >= 1):
            raise ValueError(f"{name} must be a positive integer; got {value!r}.")
    rng = np.random.default_rng(random_state)
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    incumbent = _Incumbent(problem, callback, max_width)
    search = _Search(problem, incumbent, pricing, rng, deadline=deadline, tol=tol)
    if max_width is not None:
        search.narrow_starts(max_width)
    if start is None:
        start = search.start(width, 0.5)
    incumbent.offer(start)
    found = search.rounds(start, max_rounds)
    for _ in range(n_starts - 1):
        if time.perf_counter() >= deadline or len(found) == 0:
            break
        found = search.pool(found, width, max_rounds)
    search.finish(found)
    return incumbent.neurons


def _share(part: float, deadline: float) -> float | None:
    """Seconds that are a part of the time left."""
    return None if np.isinf(deadline) else max(part * (deadline - time.perf_counter()), 0.0)


class _Incumbent:
    """The best neurons met so far that are not too many; the zero function is the first."""

    def __init__(
        self, problem: Problem, callback: Callable[[Neurons, float], None] | None, max_width: int | None
    ) -> None:
        self.problem = problem
        self.callback = callback
        self.max_width = max_width
        self.neurons = Neurons.empty(problem.n_features)
        self.value = self.neurons.objective(problem)

    def offer(self, neurons: Neurons) -> float:
        """Keep the neurons if they are better, or as good but for rounding and not more; return their objective."""
        value = objective(self.problem, neurons)
        if self.max_width is not None and len(neurons) > self.max_width:
            return value
        fewer = len(neurons) <= len(self.neurons) and value <= self.value * (1.0 + _ROUNDING)
        if value < self.value or fewer:
            improved = value < self.value
            self.neurons, self.value = neurons, min(value, self.value)
            if improved and self.callback is not None:
                self.callback(neurons, value)
        return value


class _Search:
    """The stages of the search; all of them offer what they find to one incumbent."""

    def __init__(
        self,
        problem: Problem,
        incumbent: _Incumbent,
        pricing: Pricing | None,
        rng: np.random.Generator,
        *,
        deadline: float,
        tol: float,
    ) -> None:
        self.problem = problem
        self.incumbent = incumbent
        self.pricer = _Pricer(problem, pricing, rng)
        self.steps = SmoothedKinks(problem)
        self.rng = rng
        self.deadline = deadline
        self.tol = tol

    def start(self, width: int | None, part: float) -> Neurons:
        """L-BFGS from random weights."""
        size = default_width(self.problem.n_samples) if width is None else width
        limit = _share(part, self.deadline)
        return lbfgs_start(self.problem, width=size, time_limit=limit, random_state=self.rng)

    def rounds(self, neurons: Neurons, max_rounds: int) -> Neurons:
        """Cycles of rounds; the smoothing falls within a cycle and the next cycle begins at a large one again."""
        problem, tol = self.problem, self.tol
        eps, factor, quiet = _FIRST_SMOOTHING, _FIRST_FACTOR, 0
        best, best_value = neurons, objective(problem, neurons)
        cycle_value = best_value
        for _ in range(max_rounds):
            before = best_value
            for stage in ("masses", "vectors"):
                if stage == "masses":
                    neurons = solve_masses(problem, _clean(problem.X, neurons), tol=min(1e-8, 1e-2 * tol), max_iter=20)
                else:
                    neurons = self.steps.minimize(neurons, eps=eps, max_steps=_STEPS, deadline=self.deadline)
                value = self.incumbent.offer(neurons)
                if value <= best_value:
                    best, best_value = neurons, value
            if time.perf_counter() >= self.deadline:
                break
            last = eps <= _LAST_SMOOTHING
            if last:
                quiet = quiet + 1 if cycle_value - best_value <= tol * abs(best_value) else 0
                cycle_value = best_value
                if quiet >= _QUIET_CYCLES:
                    break
            grown = self.pricer.grow(neurons, margin=min(5e-4, max(2e-5, eps)), effort=4**quiet, thorough=last)
            if len(grown) == 0:
                break
            if last:
                eps, factor = _NEXT_SMOOTHING, _NEXT_FACTOR
            else:
                idle = len(grown) == len(neurons) and before - best_value <= 0.1 * tol * abs(best_value)
                eps = max((_NEXT_FACTOR if idle else factor) * eps, _LAST_SMOOTHING)
            neurons = grown
        return best

    def pool(self, neurons: Neurons, width: int | None, max_rounds: int) -> Neurons:
        """Search shortly from other random weights, join the neurons and go on from there."""
        spare = _Incumbent(self.problem, None, None)
        other = _Search(self.problem, spare, None, self.rng, deadline=self.deadline, tol=self.tol)
        found = other.rounds(self.start(width, 0.3), min(_POOL_ROUNDS, max_rounds))
        masses = _clean(self.problem.X, neurons.joined(found))
        return self.rounds(masses, max_rounds)

    def polish(self, neurons: Neurons) -> Neurons:
        """Lower the objective with the neurons that are there."""
        neurons = solve_masses(self.problem, _clean(self.problem.X, neurons), tol=1e-8, max_iter=20)
        for eps in _POLISH_SMOOTHINGS:
            self.incumbent.offer(neurons)
            if time.perf_counter() >= self.deadline:
                break
            neurons = self.steps.minimize(neurons, eps=eps, max_steps=_POLISH_STEPS, deadline=self.deadline)
            neurons = solve_masses(self.problem, _clean(self.problem.X, neurons), tol=1e-8, max_iter=20)
        self.incumbent.offer(neurons)
        return neurons

    def finish(self, neurons: Neurons) -> None:
        """Merge and weigh the result, and bring it down to the width that was asked for."""
        most = self.incumbent.max_width
        if most is not None and len(neurons) > most:
            self.polish(self.narrow(neurons, most))
            neurons = self.incumbent.neurons
            for _ in range(_SWAPS):
                if time.perf_counter() >= self.deadline:
                    break
                grown = self.pricer.grow(neurons, margin=1e-3, effort=1, thorough=False)
                grown = self.steps.minimize(grown, eps=1e-3, max_steps=_STEPS, deadline=self.deadline)
                neurons = self.polish(self.narrow(grown, most))
        for _ in range(2):
            final = merge_neurons(self.problem.X, self.incumbent.neurons)
            self.incumbent.offer(final)
            if time.perf_counter() >= self.deadline:
                break
            self.incumbent.offer(solve_masses(self.problem, final))

    def narrow_starts(self, width: int) -> None:
        """Train networks of that width, so that there is one whenever the search ends; polish the best of them."""
        trained = []
        for _ in range(int(np.clip(_NARROW_PRODUCTS // (self.problem.X.size * width), 2, _NARROW_STARTS))):
            limit = _share(0.05, self.deadline)
            found = lbfgs_start(self.problem, width=width, rtol=1e-4, time_limit=limit, random_state=self.rng)
            trained.append((self.incumbent.offer(found), len(trained), found))
        for _, _, found in sorted(trained)[:_NARROW_POLISHED]:
            if time.perf_counter() >= self.deadline:
                break
            self.polish(found)

    def narrow(self, neurons: Neurons, most: int) -> Neurons:
        """Drop the neurons that cost least, some at a time, and move the others into their place."""
        neurons = solve_masses(self.problem, _clean(self.problem.X, neurons), tol=1e-8, max_iter=20)
        while len(neurons) > most:
            target = max(most, len(neurons) - max(1, len(neurons) // _DROP_SHARE))
            cost = removal_costs(self.problem, neurons)
            neurons = neurons.take(np.sort(np.argsort(-cost, kind="stable")[:target]))
            neurons = solve_masses(self.problem, neurons, tol=1e-8, max_iter=20)
            neurons = self.steps.minimize(neurons, eps=1e-3, max_steps=2 * _STEPS, deadline=self.deadline)
        return neurons


class _Pricer:
    """Proposes neurons: quick ascent in every round, the caller's search at the end of each cycle."""

    def __init__(self, problem: Problem, outer: Pricing | None, rng: np.random.Generator) -> None:
        self.problem = problem
        self.outer = outer
        self.rng = rng
        largest = 2 * default_width(problem.n_samples)
        self.largest = max(64, min(largest, _LARGEST_WORK_ARRAY // problem.n_samples))

    def grow(self, neurons: Neurons, *, margin: float, effort: int, thorough: bool) -> Neurons:
        """Neurons with those found to violate dual feasibility by a relative margin, at a small mass."""
        nu = self.problem.dual_vector(fitted(self.problem, neurons))
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
        room = min(len(signs), max(10, int(_GROWTH * len(neurons))), max(0, self.largest - len(neurons)))
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
    separated = np.zeros((len(neurons), len(neurons)), np.float32)
    for rows in row_slabs(len(X), len(neurons)):
        products = X[rows] @ neurons.vectors.T
        separated += (products > 0).astype(np.float32).T @ (products < 0).astype(np.float32)
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
