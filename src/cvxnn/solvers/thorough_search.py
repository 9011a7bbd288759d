"""Violating neurons by the search with exact concave steps, which finds maxima that ascent passes by."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from cvxnn.patterns.search import search
from cvxnn.problem import Problem
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["find_thoroughly"]


def find_thoroughly(
    problem: Problem,
    neurons: Neurons,
    *,
    n_starts: int,
    threshold: float,
    random_state: int | np.random.Generator,
    deadline: float = math.inf,
) -> tuple[Neurons, FloatArray]:
    """Directions of value above ``threshold * beta`` at the dual vector of the neurons; see :func:`search`.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    neurons : Neurons
        Current neurons: starts are made of them, too.
    n_starts : int
    threshold : float
    random_state : int or Generator
    deadline : float
        Time of ``time.perf_counter`` at which the search stops with what it has.

    Returns
    -------
    found : Neurons
        Unit vectors, best first.
    values : ndarray (q,)
        Their values divided by beta.

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], beta=2.0)
    >>> found, values = find_thoroughly(problem, Neurons.empty(2), n_starts=16, threshold=1.0, random_state=0)
    >>> found.vectors[0].round(3), found.signs[0], values[0].round(3)
    (array([0.6, 0.8]), np.float64(1.0), np.float64(2.5))
    """
    left = deadline - time.perf_counter()
    if left <= 0.0:
        return Neurons.empty(problem.n_features), np.zeros(0)
    result = search(
        problem.X,
        problem.dual_vector(neurons.fit(problem.X)),
        starts=neurons.vectors if len(neurons) else None,
        n_starts=n_starts,
        threshold=threshold * problem.beta,
        random_state=random_state,
        time_limit=None if math.isinf(left) else left,
    )
    return Neurons(result.directions, result.signs.astype(np.float64)), result.values / problem.beta
