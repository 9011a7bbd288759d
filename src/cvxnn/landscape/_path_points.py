"""Points of a regularisation path: the zero network, the solver's network, or the minimum-norm member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cvxnn._threads import solver_threads
from cvxnn._validation import as_number, as_seed
from cvxnn.architectures import ReLU
from cvxnn.certificates.certificate import certify_norm, relative_gap
from cvxnn.landscape._beta_max import BetaMax
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, problem_at
from cvxnn.programs.dispatch import SolveOptions
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.relu import solve_relu
from cvxnn.progress import Recorder
from cvxnn.solution import Blocks, History, Solution, Status
from cvxnn.solvers.direction_pool import DirectionPool

__all__ = ["PathPoint", "ReLUPoints"]

_SAME = 1e-9
"""Relative excess up to which the minimum-norm member counts as optimal as the solver's."""


@dataclass(frozen=True, eq=False)
class PathPoint:
    """Optimal network at one weight decay.

    Attributes
    ----------
    problem : Problem
        The problem at this ``beta``.
    solution : Solution
        Result of the solver, with the certificate.
    network : ReLUNetwork or GatedReLUNetwork
        The minimum-norm member of the optimal set where ``minimum_norm``, else the network of ``solution``.
    objective : float
        Objective of ``network``.
    minimum_norm : bool
        Whether ``network`` is proved to be, among all optimal networks, the one whose masses have the least Euclidean
        norm. False: the optimal set was not listed, and the solver's member is kept.
    """

    problem: Problem
    solution: Solution
    network: ReLUNetwork | GatedReLUNetwork
    objective: float
    minimum_norm: bool

    @property
    def beta(self) -> float:
        """Weight decay."""
        return self.problem.beta

    @property
    def lower_bound(self) -> float:
        """Proved lower bound within :attr:`scope`."""
        return self.solution.lower_bound

    @property
    def scope(self) -> str:
        """Scope of the bound, "global" or "patterns"."""
        return self.solution.scope

    @property
    def gap(self) -> float:
        """Relative duality gap of :attr:`network`."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def loss(self) -> float:
        """Summed loss of the network."""
        return self.problem.loss_value(self.network(self.problem.X))

    @property
    def penalty(self) -> float:
        """Weight decay term of the network without beta, the sum of the masses of its neurons."""
        return self.network.penalty()


def _zero_point(problem: Problem, beta: float, top: BetaMax, tol: float) -> PathPoint:
    """Point at a beta that is proved to have the zero network as its optimum; nothing is left to solve."""
    here = problem_at(problem, beta)
    network = ReLUNetwork.zero(problem.n_features)
    objective = network.objective(here)
    nu = here.dual_vector(np.zeros(here.n_samples))
    certificate = certify_norm(here, objective, nu, top.upper, top.lower, method="beta_max")
    patterns = ActivationPatterns.from_gates(here.X, top.direction[None])
    nothing = np.zeros((1, here.n_features))
    history = History(
        np.ones(1, dtype=np.int64), np.zeros(1), np.array([objective]), np.array([certificate.lower_bound])
    )
    status = Status.GLOBAL_OPTIMUM if certificate.gap <= tol else Status.STALLED
    solution = Solution(network, certificate, status, patterns, Blocks(nothing, nothing.copy()), history, 1)
    return PathPoint(here, solution, network, objective, minimum_norm=True)


class ReLUPoints:
    """Makes the points of ReLU networks one after another, each from the network before.

    The directions that the searches of all points so far have found serve the next; see :class:`DirectionPool`.

    Parameters
    ----------
    problem : Problem
    top : BetaMax
    tol : float
    random_state : int or None
    list_set : bool
        Ask for the minimum-norm member.
    """

    def __init__(self, problem: Problem, top: BetaMax, tol: float, random_state: int | None, *, list_set: bool) -> None:
        self.problem, self.top, self.list_set = problem, top, list_set
        self.tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
        self.seed = as_seed(random_state, "random_state")
        self.pool = DirectionPool()

    def __call__(self, beta: float, points: Sequence[PathPoint], time_limit: float | None) -> PathPoint:
        """Point at a weight decay."""
        if beta >= self.top.upper:
            return _zero_point(self.problem, beta, self.top, self.tol)
        here = problem_at(self.problem, beta)
        warm = points[-1].network if points and points[-1].network.width else None
        solution = self._solution(here, time_limit, warm)
        member = _minimum_norm_member(here, solution) if self.list_set and solution.scope == "global" else None
        network = solution.network if member is None else member
        return PathPoint(here, solution, network, network.objective(here), member is not None)

    def _solution(self, problem: Problem, time_limit: float | None, warm: Any) -> Solution:
        options = SolveOptions("auto", self.tol, False, time_limit, None, None, warm, self.seed)
        with solver_threads(problem, ReLU(), listed=False):
            return solve_relu(problem, replace(options.relu(None, warm), pool=self.pool), Recorder(verbose=False))


def _minimum_norm_member(problem: Problem, solution: Solution) -> ReLUNetwork | None:
    """Optimal network whose masses have the least Euclidean norm; None where the optimal set is out of reach."""
    from cvxnn.landscape.optimal_set import OptimalSetError, optimal_set

    if solution.network.width == 0 and solution.status.converged:
        return solution.network
    try:
        every = optimal_set(problem)
        network = every.network(every.min_l2())
    except OptimalSetError:
        return None
    return network if network.objective(problem) <= solution.objective * (1.0 + _SAME) else None
