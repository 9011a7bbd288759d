"""Joint moves of all neurons with the method that the size of the problem affords."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cvxnn.problem import Problem
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.kink_newton import KinkNewton
from cvxnn.solvers.local_search import merge_neurons
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.smoothed_kinks import SmoothedKinks

__all__ = ["JointMoves"]

_LEAST_MASS = 1e-5
"""Share of the largest mass below which a neuron is left out."""


class JointMoves:
    """Lowers the objective by moving all neurons: :class:`KinkNewton` where it fits, else :class:`SmoothedKinks`.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    products : PairProducts, optional
        Those of X in single precision; formed otherwise.

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.1)
    >>> moved = JointMoves(problem).minimize(Neurons(np.array([[1.0]]), np.ones(1)), [(1e-4, 8)])
    >>> round(moved.objective(problem), 6)
    0.195
    """

    def __init__(self, problem: Problem, products: PairProducts | None = None) -> None:
        self.problem = problem
        self._products = products
        self._newton: KinkNewton | None = None
        self._steps: SmoothedKinks | None = None

    def minimize(
        self, neurons: Neurons, schedule: Sequence[tuple[float, int]], *, deadline: float = math.inf
    ) -> Neurons:
        """Best neurons met along smoothings and numbers of steps; see :meth:`KinkNewton.minimize`."""
        if KinkNewton.affords(self.problem, len(neurons)):
            self._newton = self._newton or KinkNewton(self.problem, self._products)
            return self._newton.minimize(neurons, schedule, deadline=deadline)
        self._steps = self._steps or SmoothedKinks(self.problem, self._products)
        self._steps.restart()
        for eps, count in schedule:
            neurons = self._steps.minimize(neurons, eps=eps, max_steps=count, deadline=deadline)
        return neurons

    def cleaned(self, neurons: Neurons) -> Neurons:
        """Neurons without vanishing ones, those that no sample separates merged."""
        masses = neurons.masses
        return merge_neurons(self.problem.X, neurons.take(masses > _LEAST_MASS * np.max(masses, initial=0.0)))
