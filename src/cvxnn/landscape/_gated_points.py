"""Points of a regularisation path of gated networks, by one solver for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from cvxnn._threads import blas_threads
from cvxnn.architectures import GatedReLU
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.landscape._path_points import PathPoint, problem_at
from cvxnn.networks import row_norms
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.programs.gated import GatedReLUNetwork, solve_gated
from cvxnn.solution import Blocks, History, Solution, Status
from cvxnn.solvers.group_lasso import ROWS
from cvxnn.solvers.group_lasso.continuation import Continuation

__all__ = ["GatedPoints"]


class GatedPoints:
    """Makes the points of gated networks one after another, each from those before.

    The factorisations and the masks of one point serve the next. Where that does not lead to the tolerance, the point
    is solved by itself, from the network before.
    """

    def __init__(self, problem: Problem, architecture: GatedReLU, patterns: ActivationPatterns, tol: float) -> None:
        self.problem, self.architecture, self.patterns, self.tol = problem, architecture, patterns, tol
        self.course: Continuation | None = None
        if problem.n_samples <= ROWS and Continuation.serves(problem, patterns):
            self.course = Continuation(problem, patterns)

    def __call__(self, beta: float, points: Sequence[PathPoint], time_limit: float | None) -> PathPoint:
        """Point at a weight decay."""
        deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
        here = problem_at(self.problem, beta)
        with blas_threads(here, self.architecture):
            solution = self._continued(here, deadline)
            if solution is None or not solution.status.converged:
                solution = self._alone(here, solution, points, deadline)
        network = solution.network
        # The zero network has the least norm of all, so that it is the member where it is optimal.
        minimum_norm = network.width == 0 and solution.status.converged
        return PathPoint(here, solution, network, solution.objective, minimum_norm)

    def _continued(self, problem: Problem, deadline: float) -> Solution | None:
        """Solution from the former one; None where there is no way from there."""
        if self.course is None:
            return None
        begin = time.perf_counter()
        found = self.course.solve(problem.beta, tol=self.tol, deadline=deadline)
        if found is None:
            return None
        u, fit, nu = found
        objective = problem.loss_value(fit) + problem.beta * float(np.sum(row_norms(u)))
        certificate = certify_gated(problem, objective, self.patterns, nu)
        seconds = np.array([time.perf_counter() - begin])
        steps = self.course.n_steps
        history = History(np.array([steps]), seconds, np.array([objective]), np.array([certificate.lower_bound]))
        return Solution(
            network=GatedReLUNetwork.from_vectors(self.architecture.gates, u),
            certificate=certificate,
            status=Status.PATTERNS_OPTIMUM if certificate.gap <= self.tol else Status.STALLED,
            patterns=self.patterns,
            blocks=Blocks(u, np.zeros_like(u)),
            history=history,
            n_iter=steps,
        )

    def _alone(self, problem: Problem, near: Solution | None, points: Sequence[PathPoint], deadline: float) -> Solution:
        """Solution of the point by itself."""
        start = near.network if near is not None else _extrapolated(points, problem.beta, self.architecture)
        solution = solve_gated(
            problem,
            self.architecture,
            tol=self.tol,
            time_limit=None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter()),
            warm_start=start if start is not None and start.width else None,
            patterns=self.patterns,
        )
        if self.course is not None:
            self.course.resume(problem.beta, solution.blocks.u, solution.dual)
        return solution


def _extrapolated(points: Sequence[PathPoint], beta: float, architecture: GatedReLU) -> GatedReLUNetwork | None:
    """Last network with its masses continued linearly in the logarithm of beta."""
    if not points or points[-1].network.width == 0:
        return None
    u = points[-1].solution.blocks.u
    mass = row_norms(u)
    if len(points) > 1:
        last, before = points[-1], points[-2]
        step = math.log(beta / last.beta) / math.log(last.beta / before.beta)
        change = step * (mass - row_norms(before.solution.blocks.u))
        factor = np.divide(change, mass, out=np.zeros_like(mass), where=mass > 0)
        u = u * np.clip(1.0 + factor, 0.1, 3.0)[:, None]
    return GatedReLUNetwork.from_vectors(architecture.gates, u)
