"""State and settings that the loops over columns share: the best point so far, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["PROOF_THRESHOLD", "ColumnOptions", "ColumnState", "LoopState"]

PROOF_THRESHOLD = 1e-3
"""Relative excess over beta, in units of the tolerance, that counts as a violation where a proof follows."""

_SEED_STRIDE = 7919
_TIE = 1e-12
"""Relative difference of objectives within which the quality of the dual vector decides."""


class Limits(Protocol):
    """Settings of a loop that say when to stop."""

    @property
    def max_iter(self) -> int:
        """Most outer iterations."""
        ...

    @property
    def deadline(self) -> float:
        """On the clock of ``time.perf_counter``."""
        ...


class LoopState:
    """How far a loop is: ``outcome`` is "running" until it ends."""

    iteration: int
    outcome: str

    def stop_at_limits(self, options: Limits) -> bool:
        """Whether a limit is met; the outcome then tells which."""
        if self.iteration >= options.max_iter:
            self.outcome = "max_iter"
        elif time.perf_counter() > options.deadline:
            self.outcome = "time_limit"
        return self.outcome != "running"


@dataclass
class ColumnState(LoopState):
    """Best point so far; updated in place, so that an interrupt loses nothing.

    Attributes
    ----------
    neurons : Neurons
        Best neurons found.
    objective : float
    gates : ndarray (K, r)
        Gates of the cells of the last program solved.
    violation : float
        Largest dual norm met at the last point, divided by beta, minus one; 0 where no violation was found.
    iteration : int
    outcome : {"running", "search", "listed", "max_iter", "time_limit", "stalled"}
        "search": the search found no violating neuron. "listed": none of the listed cones holds one.
    """

    neurons: Neurons
    objective: float
    gates: FloatArray
    violation: float = np.inf
    iteration: int = 0
    outcome: str = "running"

    def offer(self, problem: Problem, candidates: Iterable[Neurons]) -> None:
        """Take each candidate that is better; where objectives tie, the one whose dual vector is closer to feasible."""
        for candidate in candidates:
            value = candidate.objective(problem)
            if value < self.objective * (1.0 - _TIE) or (
                value <= self.objective * (1.0 + _TIE)
                and _stationarity_error(problem, candidate) < _stationarity_error(problem, self.neurons)
            ):
                self.neurons, self.objective = candidate, value


@dataclass(frozen=True)
class ColumnOptions:
    """Settings of the loops over columns.

    Attributes
    ----------
    tol : float
        Relative duality gap to reach.
    exact : bool
        Whether a proof follows: the search then goes to a finer threshold and leaves thoroughness to the proof.
    max_iter : int
        Outer iterations, counted in the state.
    deadline : float
        On the clock of ``time.perf_counter``.
    seed : int
    pool : DirectionPool, optional
        Directions that solves at other weight decays have found. The rounds begin with them and bring them up to date;
        one search with random starts then confirms that nothing is left, where it takes four without a pool.
    """

    tol: float
    exact: bool
    max_iter: int
    deadline: float
    seed: int
    pool: DirectionPool | None = None

    def seed_at(self, iteration: int) -> int:
        """Seed of the search of an iteration; those of two nearby seeds never meet."""
        return self.seed + _SEED_STRIDE * iteration


def _stationarity_error(problem: Problem, neurons: Neurons) -> float:
    """Largest departure of ``s h_nu(u)`` from beta over the neurons: 0 at an optimum."""
    # A denormal mass has no direction.
    neurons = neurons.take(neurons.masses > np.finfo(np.float64).tiny)
    if len(neurons) == 0:
        return np.inf
    nu = problem.dual_vector(neurons.fit(problem.X))
    units = neurons.vectors / neurons.masses[:, None]
    attained = neurons.signs * (np.maximum(units @ problem.X.T, 0.0) @ nu)
    return float(np.max(np.abs(attained - problem.beta)))
