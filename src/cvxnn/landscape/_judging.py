"""What judging a network collects, for one output and for several: the best bound, escape and better network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.landscape._escape import Escape, with_neuron
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solution import Solution, Status

FloatArray = npt.NDArray[np.float64]

__all__ = ["Judge"]


class Judge(ABC):
    """Bounds and better networks, collected as long as there is time."""

    certificate: Certificate

    def __init__(
        self,
        problem: Problem,
        network: ReLUNetwork | ParallelReLUNetwork,
        tol: float,
        start: float,
        limit: float | None,
        seed: int,
    ) -> None:
        self.problem, self.tol, self.start, self.limit, self.seed = problem, tol, start, limit, seed
        self.network: Any = network
        self.fit = network(problem.X)
        self.objective = network.objective(problem)
        self.dual: FloatArray = problem.dual_vector(self.fit)
        self.escape: Any = None
        self.better: Any = None
        self.best = self.objective
        self.interrupted = False

    @abstractmethod
    def run(self, method: str) -> None:
        """Look for an escape, then for better networks and bounds by the chosen method."""

    def _found(self, escape: Escape | None) -> None:
        """Take an escape that lowers the objective further than the one at hand."""
        if escape is not None and (self.escape is None or escape.objective < self.escape.objective):
            self.escape = escape
            self.offer(with_neuron(self.network, escape.w, escape.a))

    def offer(self, network: ReLUNetwork | ParallelReLUNetwork) -> None:
        """Remember a network that is better than all before."""
        objective = network.objective(self.problem)
        if objective < self.best:
            self.better, self.best = network, objective

    def _keep(self, certificate: Certificate) -> None:
        if certificate.lower_bound > self.certificate.lower_bound:
            self.certificate = replace(certificate, objective=self.objective)

    def _take(self, solution: Solution) -> None:
        """Network of a solution, and its bound if that holds for every network."""
        self.interrupted = self.interrupted or solution.status is Status.INTERRUPTED
        self.offer(solution.network)
        if solution.scope == "global":
            self._keep(solution.certificate)

    def _is_open(self, objective: float) -> bool:
        return not self.interrupted and relative_gap(objective, self.certificate.lower_bound) > self.tol
