"""A good network in seconds: local search in the variables of the convex program."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._ascent import ascend
from cvxnn.solvers.axis_scales import axis_scales
from cvxnn.solvers.lbfgs_start import lbfgs_start
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_slabs
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

FloatArray = npt.NDArray[np.float64]

__all__ = ["default_width", "local_search", "merge_neurons"]

# Smoothing and its factor per round, in the first cycle and in the later ones.
_FIRST_SMOOTHING, _FIRST_FACTOR = 5e-3, 0.7
_NEXT_SMOOTHING, _NEXT_FACTOR = 3e-3, 0.3
_LAST_SMOOTHING = 1e-6
# Cycles in a row without progress that end the rounds.
_QUIET_CYCLES = 2
# Joint steps of a round, and starts of its search, with this factor for each quiet cycle.
_STEPS = 4
_STARTS, _QUIET_FACTOR = 200, 4
# Relative excess over beta, of the order of the smoothing between these, that counts as a violation.
_LEAST_MARGIN, _MOST_MARGIN = 2e-5, 5e-4
# Mass of new neurons, relative to the mean, and share of the largest mass below which a neuron is left out.
_NEW_MASS, _NEGLIGIBLE = 0.01, 1e-4
# Cosine from which on directions are nearly equal.
_SAME = 0.9999
# Two starts are pooled up to this many multiplications in a product with X.
_POOLED_PRODUCTS = 1 << 23
# Rounds of the second search, and its share of the time left for its start.
_POOL_ROUNDS, _POOL_START = 16, 0.3
# Relative difference of objectives that is rounding.
_ROUNDING = 1e-15
# Share of the neurons that a round may add, at least so many.
_GROWTH, _FEWEST_NEW = 1 / 3, 10
# Most entries of the hidden layer.
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
    width: int | None = None,
    time_limit: float | None = None,
    max_rounds: int = 200,
    random_state: int | np.random.Generator | None = 0,
    callback: Callable[[Neurons, float], None] | None = None,
    tol: float = 1e-5,
    shares: tuple[float, float] = (0.5, 1.0),
    least_share: float = 1.0,
) -> Neurons:
    r"""Lower :math:`\mathrm{loss}(\sum_i s_i (X z_i)_+, y) + \beta \sum_i \|z_i\|` over the vectors and their number.

    An L-BFGS start on a wide network, then rounds of: merge neurons, re-optimise their masses
    (:func:`solve_masses`), move all vectors jointly at a shrinking smoothing of the kinks
    (:class:`SmoothedKinks`), and add neurons that a quick ascent finds to violate dual feasibility. Rounds form
    cycles; each cycle begins at a large smoothing again. For small problems the neurons of a short search from a
    second random start then join, and the rounds go on. No bound is computed: the result is a point, good in
    practice, that other parts of the library judge.

    Parameters
    ----------
    problem : Problem
        Data of full column rank whose rows are of order one; targets of order one.
    width : int, optional
        Neurons of the L-BFGS start; by default :func:`default_width`.
    time_limit : float, optional
        Seconds of wall time; exceeded by no more than one step.
    max_rounds : int, default 200
        Most rounds.
    random_state : int, Generator or None, default 0
        Seed of the first weights.
    callback : callable, optional
        Called as ``callback(neurons, objective)`` whenever the best objective falls.
    tol : float, default 1e-5
        Stop when two cycles in a row each lower the objective by at most this fraction of it.
    shares : (float, float), default (0.5, 1)
        Share of the time limit for the L-BFGS start, and share of what it leaves for all that follows.
    least_share : float, default 1
        Part of the time for the L-BFGS start after which many steps are enough; see :func:`lbfgs_start`.

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
    search = _Search(problem, incumbent, rng, deadline=deadline, tol=tol)
    start = search.start(width, shares[0], least_share)
    search.leave(1.0 - shares[1])
    incumbent.offer(start)
    found = search.rounds(start, max_rounds)
    pooled = problem.X.size * default_width(problem.n_samples) <= _POOLED_PRODUCTS
    if pooled and len(found) and time.perf_counter() < search.deadline:
        search.pool(found, width, max_rounds)
    search.finish()
    return incumbent.neurons


def _share(part: float, deadline: float) -> float | None:
    """Seconds that are a part of the time left."""
    return None if np.isinf(deadline) else max(part * (deadline - time.perf_counter()), 0.0)


class _Incumbent:
    """The best neurons met so far; the zero function is the first."""

    def __init__(self, problem: Problem, callback: Callable[[Neurons, float], None] | None) -> None:
        self.problem = problem
        self.callback = callback
        self.neurons = Neurons.empty(problem.n_features)
        self.value = self.neurons.objective(problem)

    def offer(self, neurons: Neurons) -> float:
        """Keep the neurons if they are better, or as good but for rounding and not more; return their objective."""
        value = neurons.objective(self.problem)
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
        rng: np.random.Generator,
        *,
        deadline: float,
        tol: float,
    ) -> None:
        self.problem = problem
        self.incumbent = incumbent
        self.pricer = _Pricer(problem, rng, deadline)
        self.steps = SmoothedKinks(problem)
        self.rng = rng
        self.deadline = deadline
        self.tol = tol

    def start(self, width: int | None, part: float, least_share: float = 1.0) -> Neurons:
        """L-BFGS from random weights."""
        size = default_width(self.problem.n_samples) if width is None else width
        limit = _share(part, self.deadline)
        return lbfgs_start(
            self.problem,
            width=size,
            time_limit=limit,
            least_share=least_share,
            random_state=self.rng,
            keep=self.incumbent.offer,
        )

    def leave(self, part: float) -> None:
        """Leave a part of the time that is left to others."""
        if part > 0.0 and np.isfinite(self.deadline):
            self.deadline -= part * max(self.deadline - time.perf_counter(), 0.0)
            self.pricer.deadline = self.deadline

    def rounds(self, neurons: Neurons, max_rounds: int) -> Neurons:
        """Cycles of rounds; the smoothing falls within a cycle and the next cycle begins at a large one again."""
        tol, quiet = self.tol, 0
        eps, factor = _FIRST_SMOOTHING, _FIRST_FACTOR
        best, best_value = neurons, neurons.objective(self.problem)
        cycle_value = best_value

        def note(met: Neurons) -> Neurons:
            nonlocal best, best_value
            value = self.incumbent.offer(met)
            if value <= best_value:
                best, best_value = met, value
            return met

        for k in range(max_rounds):
            before = best_value
            massed = note(self.massed(neurons))
            neurons = note(self.steps.minimize(massed, eps=eps, max_steps=_STEPS, deadline=self.deadline))
            last = eps <= _LAST_SMOOTHING
            if last:
                quiet = quiet + 1 if cycle_value - best_value <= tol * abs(best_value) else 0
                cycle_value = best_value
            # New neurons serve only a round that follows.
            if quiet >= _QUIET_CYCLES or k + 1 == max_rounds or time.perf_counter() >= self.deadline:
                break
            grown = self.pricer.grow(
                neurons, margin=min(_MOST_MARGIN, max(_LEAST_MARGIN, eps)), effort=_QUIET_FACTOR**quiet
            )
            if len(grown) == 0 or time.perf_counter() >= self.deadline:
                break
            if last:
                eps, factor = _NEXT_SMOOTHING, _NEXT_FACTOR
            else:
                idle = len(grown) == len(neurons) and before - best_value <= 0.1 * tol * abs(best_value)
                eps = max((_NEXT_FACTOR if idle else factor) * eps, _LAST_SMOOTHING)
            neurons = grown
        return best

    def massed(self, neurons: Neurons) -> Neurons:
        """Neurons merged and weighed afresh."""
        tol = min(1e-8, 1e-2 * self.tol)
        return solve_masses(self.problem, self.cleaned(neurons), tol=tol, max_iter=20)

    def cleaned(self, neurons: Neurons) -> Neurons:
        """Neurons without those of negligible mass, those of nearly equal direction merged."""
        masses = neurons.masses
        neurons = neurons.take(masses > _NEGLIGIBLE * np.max(masses, initial=0.0))
        merged = merge_neurons(self.problem.X, neurons)
        return _merge_where(merged, _far_apart(merged.vectors / self.pricer.scales))

    def pool(self, neurons: Neurons, width: int | None, max_rounds: int) -> None:
        """Search shortly from other random weights, join the neurons and go on from there."""
        spare = _Incumbent(self.problem, None)
        other = _Search(self.problem, spare, self.rng, deadline=self.deadline, tol=self.tol)
        found = other.rounds(self.start(width, _POOL_START), min(_POOL_ROUNDS, max_rounds))
        self.rounds(self.cleaned(neurons.joined(found)), max_rounds)

    def finish(self) -> None:
        """Merge and weigh the result."""
        for _ in range(2):
            final = merge_neurons(self.problem.X, self.incumbent.neurons)
            self.incumbent.offer(final)
            if time.perf_counter() >= self.deadline:
                break
            self.incumbent.offer(solve_masses(self.problem, final))


class _Pricer:
    """Proposes neurons by a quick ascent."""

    def __init__(self, problem: Problem, rng: np.random.Generator, deadline: float) -> None:
        self.problem = problem
        self.rng = rng
        self.deadline = deadline
        self.scales = axis_scales(problem)
        largest = 2 * default_width(problem.n_samples)
        self.largest = max(64, min(largest, _LARGEST_WORK_ARRAY // problem.n_samples))

    def grow(self, neurons: Neurons, *, margin: float, effort: int) -> Neurons:
        """Neurons with those found to violate dual feasibility by a relative margin, at a small mass."""
        directions, signs = ascend(
            self.problem,
            self.problem.dual_vector(neurons.fit(self.problem.X)),
            neurons,
            threshold=(1.0 + margin) * self.problem.beta,
            n_starts=_STARTS * effort,
            rng=self.rng,
            deadline=self.deadline,
            scales=self.scales,
        )
        room = min(len(signs), max(_FEWEST_NEW, int(_GROWTH * len(neurons))), max(0, self.largest - len(neurons)))
        if room == 0:
            return neurons
        mass = _NEW_MASS * float(neurons.masses.mean()) if len(neurons) else 1.0
        return neurons.joined(Neurons(mass * directions[:room], signs[:room]))


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


def _far_apart(vectors: FloatArray) -> npt.NDArray[np.bool_]:
    """Which pairs ``(k, k)`` of vectors do not have nearly equal directions."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-300)[:, None]
    return unit @ unit.T < _SAME


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
