r"""Training runs seen through the convex program: at each step, the best network with the neurons' current patterns.

The activation patterns of the neurons at a step confine a convex program; its optimum tells how much the run could
still gain without changing patterns, and how that floor falls as patterns change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.landscape._cell_optimum import CellOptimum, cell_optimum
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.solution import Solution

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["PatternOptima", "Trajectory", "TrajectoryStep", "trajectory_optima"]

_NODES = 2000
_CHEAP_RANK = 3
"""Up to this number of features the pricing problem of a step closes in a fraction of a second."""


@dataclass(frozen=True, eq=False)
class TrajectoryStep:
    """One step of a training run.

    Attributes
    ----------
    objective : float
        Objective of the network of the step.
    optimum : float
        Objective of the best network found whose neurons keep to the current patterns, either output sign.
    lower_bound : float
        Proved lower bound of the objective of all networks that keep to these patterns.
    patterns : ActivationPatterns
        Distinct patterns of the neurons that have a weight vector and are active on some sample.
    best : ReLUNetwork
        Network that attains ``optimum``.
    new_patterns : int
        Patterns that the step before did not have; all of them at the first step.
    """

    objective: float
    optimum: float
    lower_bound: float
    patterns: ActivationPatterns
    best: ReLUNetwork
    new_patterns: int

    @property
    def distance(self) -> float:
        """Objective minus :attr:`optimum`: what the run could gain without changing patterns."""
        return self.objective - self.optimum

    @property
    def gap(self) -> float:
        """Relative gap of ``optimum`` to its own lower bound."""
        return relative_gap(self.optimum, self.lower_bound)


@dataclass(frozen=True, eq=False)
class Trajectory(Sequence[TrajectoryStep]):
    """Steps of a training run, each with the optimum of its patterns; a sequence of :class:`TrajectoryStep`.

    Attributes
    ----------
    steps : tuple of TrajectoryStep
    global_lower_bound : float
        Best proved bound met that holds for all networks, whatever their patterns.
    solves : int
        Convex programs solved; steps that share their patterns share one.
    """

    steps: tuple[TrajectoryStep, ...]
    global_lower_bound: float
    solves: int

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> TrajectoryStep: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[TrajectoryStep, ...]: ...

    def __getitem__(self, index: Any) -> Any:
        """Return one step, or a tuple of steps for a slice."""
        return self.steps[index]

    @property
    def objectives(self) -> FloatArray:
        """Objectives of the run, ``(T,)``."""
        return np.array([step.objective for step in self.steps])

    @property
    def optima(self) -> FloatArray:
        """Optima of the programs on the current patterns, ``(T,)``; never above the objectives."""
        return np.array([step.optimum for step in self.steps])

    @property
    def lower_bounds(self) -> FloatArray:
        """Proved lower bounds of these programs, ``(T,)``."""
        return np.array([step.lower_bound for step in self.steps])

    @property
    def distances(self) -> FloatArray:
        """Objectives minus optima, ``(T,)``."""
        return self.objectives - self.optima

    @property
    def n_patterns(self) -> npt.NDArray[np.int64]:
        """Numbers of distinct patterns, ``(T,)``."""
        return np.array([len(step.patterns) for step in self.steps], dtype=np.int64)

    @property
    def new_patterns(self) -> npt.NDArray[np.int64]:
        """Numbers of patterns that the step before did not have, ``(T,)``."""
        return np.array([step.new_patterns for step in self.steps], dtype=np.int64)

    def __repr__(self) -> str:
        """Key figures on one line."""
        if not self.steps:
            return "Trajectory(steps=0)"
        first, last = self.steps[0], self.steps[-1]
        return (
            f"Trajectory(steps={len(self)}, objective {first.objective:.6g} -> {last.objective:.6g}, "
            f"optimum of the patterns {first.optimum:.6g} -> {last.optimum:.6g}, solves={self.solves})"
        )


def trajectory_optima(
    problem: Problem,
    networks: Iterable[ReLUNetwork | tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    tol: float = 1e-6,
    solution: Solution | None = None,
) -> Trajectory:
    r"""Optimum of the convex program confined to the current activation patterns, at each step of a training run.

    .. math:: p_t = \min_{z}\ \ell\big(\textstyle\sum_i s_i D_i X z_i\big) + \beta \sum_i \|z_i\|,
              \qquad (2D_i - I) X z_i \ge 0,\ D_i \in \{1[X w \ge 0] : w \text{ a neuron of step } t\},\ s_i = \pm 1

    Parameters
    ----------
    problem : Problem
        With ``beta > 0``.
    networks : iterable of ReLUNetwork or of pairs (W, a)
        Networks of the run, with one output; their widths may differ.
    tol : float, default 1e-6
        Relative gap to which each program is solved.
    solution : Solution, optional
        A solution of the problem; its global lower bound is used, too.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        On ``beta = 0``, networks that do not fit the problem, or a problem with an output bias.

    Notes
    -----
    The value :math:`p_t` is never above the objective of step t, and never below the optimum of the problem. It may
    rise from one step to the next: patterns are lost as well as gained. Steps with the same set of patterns share one
    solve. A solve starts from the network of its step.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, on a subset of the patterns.

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[-1.0], [1.0]], [1.0, 2.0], beta=0.5)
    >>> run = trajectory_optima(problem, [ReLUNetwork([[0.1]], [0.1]), ([[1.0], [-0.5]], [1.0, 0.5])])
    >>> run.n_patterns, run.optima.round(6)
    (array([1, 2]), array([1.375, 1.25 ]))
    """
    require_no_output_bias(problem, "trajectory_optima")
    require_one_output(problem, "trajectory_optima")
    if problem.beta == 0.0:
        raise ValueError("beta is 0; trajectory_optima needs beta > 0, since without it optima may not be attained.")
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    if isinstance(networks, ReLUNetwork) or not isinstance(networks, Iterable):
        raise ValueError(f"networks must be a sequence of networks, one a step; got {type(networks).__name__}.")
    optima = PatternOptima(problem, tol=tol, bound=0.0 if solution is None else solution.global_lower_bound)
    for position, entry in enumerate(networks):
        optima.add(_as_network(entry, problem, position))
    return optima.trajectory()


class PatternOptima:
    """Optima of the patterns of networks that come one by one; equal sets of patterns share a solve.

    Parameters
    ----------
    problem : Problem
        With one output, ``beta > 0`` and no output bias.
    tol : float
        Relative gap to which each program is solved.
    bound : float
        A lower bound over all networks.
    """

    def __init__(self, problem: Problem, *, tol: float, bound: float = 0.0) -> None:
        self._problem, self._tol, self._bound = problem, tol, bound
        self._cache: dict[bytes, CellOptimum] = {}
        self._steps: list[TrajectoryStep] = []

    def add(self, network: ReLUNetwork, *, time_limit: float | None = None) -> TrajectoryStep:
        """Append the step of a network; ``time_limit`` cuts short the solve, not the proof of its bound."""
        problem = self._problem
        masks, gates, start = _current_patterns(problem.X, network)
        key = np.packbits(masks, axis=1).tobytes()
        optimum = self._cache.get(key)
        own = network.balanced().objective(problem)
        if optimum is None or own < optimum.value:
            both, sides = np.concatenate([masks, masks]), np.repeat([1.0, -1.0], len(masks))
            optimum = cell_optimum(
                problem, both, sides, start=start, tol=self._tol, polish=False, time_limit=time_limit
            )
            self._cache[key] = optimum
            self._bound = max(self._bound, _global_bound(problem, optimum))
        patterns = ActivationPatterns.from_masks(masks, gates)
        known = [] if not self._steps else np.asarray(self._steps[-1].patterns.contains(masks))
        step = TrajectoryStep(
            network.objective(problem),
            optimum.value,
            optimum.lower_bound,
            patterns,
            optimum.network,
            len(masks) - int(np.count_nonzero(known)),
        )
        self._steps.append(step)
        return step

    def trajectory(self) -> Trajectory:
        """All steps so far."""
        return Trajectory(tuple(self._steps), self._bound, len(self._cache))


def _as_network(entry: Any, problem: Problem, position: int) -> ReLUNetwork:
    """Network of an entry of the run, checked against the problem."""
    network = entry
    if not isinstance(entry, ReLUNetwork):
        try:
            W, a = entry
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"networks[{position}] must be a ReLUNetwork or a pair (W, a); got {type(entry).__name__}."
            ) from error
        network = ReLUNetwork(W, a)
    if network.a.ndim != 1 or network.n_features != problem.n_features:
        raise ValueError(
            f"networks[{position}] must have {problem.n_features} features and one output; got {network!r}."
        )
    return network


def _current_patterns(X: FloatArray, network: ReLUNetwork) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Distinct patterns ``(P, n)`` in a fixed order, a gate of each, and the vectors ``(2 P, d)`` of the network.

    Neurons without weights, or active on no sample, bring no pattern: their block of the program would be empty.
    """
    ahead = network.W @ X.T
    alive = np.any(ahead > 0, axis=1)
    W, a, masks = network.W[alive], network.a[alive], ahead[alive] >= 0
    _, first, home = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True, return_inverse=True)
    count = len(first)
    vectors = np.zeros((2 * count, X.shape[1]))
    np.add.at(vectors, home.ravel() + np.where(a < 0, count, 0), np.abs(a)[:, None] * W)
    return masks[first], W[first], vectors


def _global_bound(problem: Problem, optimum: CellOptimum) -> float:
    """Bound over all networks from the dual vector of a step, without branching where that would take long."""
    method = "auto" if problem.n_features <= _CHEAP_RANK else "cheap"
    upper = pricing_bound(problem.X, optimum.dual, target=problem.beta, method=method, max_nodes=_NODES).upper
    return scaled_dual_bound(problem, optimum.dual, upper)[0]
