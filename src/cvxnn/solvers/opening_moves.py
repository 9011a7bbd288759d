"""Joint moves before the first search, where the time is short: a search costs as much as many steps."""

from __future__ import annotations

import math
import time

from cvxnn.problem import Problem
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

__all__ = ["SCHEDULES", "opening_moves"]

_PROBE = ((1e-2, 1),)
"""Step that tells how long one takes."""

SCHEDULES: tuple[tuple[tuple[float, int], ...], ...] = (
    ((1e-2, 4), (3e-3, 4), (1e-3, 3), (3e-4, 2), (1e-4, 2), (1e-5, 2)),
    ((1e-3, 2), (1e-4, 3), (1e-5, 3)),
)
"""The first of these that can be gone through is taken: one left at a large smoothing gains nothing."""

_AMPLE = 40
"""From the time of so many steps on, searches come first: with new neurons moves get further."""


def opening_moves(
    problem: Problem, moves: JointMoves, neurons: Neurons, *, deadline: float = math.inf
) -> tuple[Neurons, float]:
    """Neurons merged, weighed and moved jointly, and the seconds that a step takes.

    With a deadline one step is taken to see how long it takes; a whole schedule follows where the time is short.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    moves : JointMoves
    neurons : Neurons
        Those of a start, such as that of L-BFGS.
    deadline : float
        Time of ``time.perf_counter``. Without one the neurons remain as they are, and the seconds are 0.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.1)
    >>> start = Neurons(np.array([[1.0]]), np.ones(1))
    >>> opening_moves(problem, JointMoves(problem), start)[0] is start
    True
    """
    if math.isinf(deadline) or len(neurons) == 0 or time.perf_counter() >= deadline:
        return neurons, 0.0
    massed = solve_masses(problem, moves.cleaned(neurons), tol=1e-7, max_iter=20)
    begin = time.perf_counter()
    probed = moves.minimize(massed, _PROBE, deadline=deadline)
    now = time.perf_counter()
    each = now - begin
    steps = (deadline - now) / max(each, 1e-9)
    if steps < _AMPLE:
        for schedule in SCHEDULES:
            if steps >= sum(count for _, count in schedule):
                return moves.minimize(probed, schedule, deadline=deadline), each
    return probed, each
