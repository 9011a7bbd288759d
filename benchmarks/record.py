"""What a peer is given, what it returns, and the line that is kept of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Case
from benchmarks.data import Table
from cvxnn import Problem, ReLUNetwork

FloatArray = npt.NDArray[np.float64]

__all__ = ["Job", "NetworkTrace", "Outcome", "Point", "TimeUpError"]


class TimeUpError(Exception):
    """Raised inside a peer's callback when its time is spent or its target is met."""


class Point(NamedTuple):
    """State after some seconds of a peer's own clock: objective, and violation of the cones (0 without cones)."""

    seconds: float
    objective: float
    violation: float = 0.0


@dataclass(frozen=True, eq=False)
class Job:
    """One run of one method.

    Attributes
    ----------
    case : Case
    table : Table
    problem : Problem
    gates : ndarray (P, d) or None
        The same for every method.
    limit : float
        Seconds, warm-up not counted.
    seed : int
    options : dict
        Settings of the method.
    target : float or None
        Objective at which a peer may stop: it is told the moment an ideal stopping rule would choose.
    feasible : float
        Violation up to which a point counts as feasible.
    accuracy : float
        Relative distance of the target from the optimum.
    clock : callable
        Seconds of networks trained by their weights: wall clock, or ``time.process_time``.
    """

    case: Case
    table: Table
    problem: Problem
    gates: FloatArray | None
    limit: float
    seed: int
    options: dict[str, Any]
    target: float | None = None
    feasible: float = 1e-4
    accuracy: float = 1e-4
    clock: Callable[[], float] = time.perf_counter

    def met(self, objective: float, violation: float = 0.0) -> bool:
        """Whether the target is reached by a feasible point, and not by use of the violation that is allowed."""
        if self.target is None or objective > self.target or violation > self.feasible:
            return False
        return violation == 0.0 or objective >= self.target - 2.0 * self.accuracy * abs(self.target)


@dataclass(eq=False)
class Outcome:
    """What a peer returns: the course, and what is needed to judge the end.

    Attributes
    ----------
    trace : list of Point
    seconds : float
        All its seconds.
    status : str
        Its own word for how it ended.
    width : int or None
        Nonzero neurons or blocks.
    predict : callable or None
        From rows (n, d) to outputs (n,).
    lower_bound, global_lower_bound : float or None
        Proved bounds, if it proves any: for its own patterns, and for networks of every width.
    notes : dict
        Anything else that goes to the file.
    """

    trace: list[Point]
    seconds: float
    status: str
    width: int | None = None
    predict: Callable[[FloatArray], FloatArray] | None = None
    lower_bound: float | None = None
    global_lower_bound: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class NetworkTrace:
    """Copies of a network at about 40 moments, evenly spaced in the logarithm of time; scored when the run is over."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._kept: list[tuple[float, FloatArray, FloatArray, float]] = []
        self._step = math.log(max(job.limit, 1e-3) / 0.02) / 40 if job.limit > 0.02 else 0.1
        self._next = 0.02
        self._begin = job.clock()

    @property
    def seconds(self) -> float:
        """Seconds since the clock started."""
        return self.job.clock() - self._begin

    def due(self) -> bool:
        """Whether a copy should be made now; raises TimeUpError once the time is over."""
        now = self.seconds
        if now > self.job.limit:
            raise TimeUpError
        return now >= self._next

    def keep(self, W: npt.ArrayLike, a: npt.ArrayLike, output_bias: float = 0.0) -> None:
        """Copy first layer (m, d), second layer (m,) and output bias."""
        now = self.seconds
        self._kept.append((now, np.array(W), np.array(a), output_bias))
        self._next = max(self._next, now) * math.exp(self._step)

    def outcome(self, status: str, **notes: Any) -> Outcome:
        """Balance and score the copies in double precision; the course is the best so far."""
        seconds, best, network = self.seconds, math.inf, ReLUNetwork.zero(self.job.problem.n_features)
        trace = []
        for moment, W, a, output_bias in self._kept:
            if not (np.all(np.isfinite(W)) and np.all(np.isfinite(a)) and math.isfinite(output_bias)):
                continue
            candidate = ReLUNetwork(W, a, output_bias).balanced()
            value = candidate.objective(self.job.problem)
            if value < best:
                best, network = value, candidate
            trace.append(Point(moment, best))
        return Outcome(trace, seconds, status, network.width, network, notes=notes)
