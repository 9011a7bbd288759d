"""Points of a regularisation path of gated networks, by one solver for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn._threads import solver_threads
from cvxnn.architectures import GatedReLU
from cvxnn.certificates.certificate import Certificate
from cvxnn.certificates.gated_bound import GatedNorms, certify_gated
from cvxnn.landscape._path_points import PathPoint
from cvxnn.networks import row_norms, safe_ratio
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, problem_at
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.solution import Blocks, History, Solution, Status
from cvxnn.solvers.group_lasso import ROWS, GroupLassoResult, solve_group_lasso
from cvxnn.solvers.group_lasso.continuation import Continuation
from cvxnn.solvers.group_lasso.row_continuation import RowContinuation

FloatArray = npt.NDArray[np.float64]

__all__ = ["GatedPoints"]

# Entries of a slab of masks.
_SLAB = 1 << 20
# Bounds of the factor by which an extrapolation changes the length of a block.
_LEAST_GROWTH, _MOST_GROWTH = 0.1, 3.0


class GatedPoints:
    """Makes the points of gated networks one after another, each from those before.

    The factorisations and the masks of one point serve the next. Where that does not lead to the tolerance, the point
    is solved by itself, from the network before, and once more from nothing where that stalls.
    """

    def __init__(self, problem: Problem, architecture: GatedReLU, patterns: ActivationPatterns, tol: float) -> None:
        self.problem, self.architecture, self.patterns, self.tol = problem, architecture, patterns, tol
        self.norms = GatedNorms(problem.X, patterns, keep=True)
        self.course: Continuation | RowContinuation | None = None
        if problem.n_samples > ROWS:
            self.course = RowContinuation(problem, patterns) if RowContinuation.serves(problem, patterns) else None
        elif Continuation.serves(problem, patterns):
            self.course = Continuation(problem, patterns)

    def __call__(self, beta: float, points: Sequence[PathPoint], time_limit: float | None) -> PathPoint:
        """Point at a weight decay."""
        deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
        here = problem_at(self.problem, beta)
        with solver_threads(here, self.architecture, listed=True):
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
        steps, seconds = self.course.n_steps, np.array([time.perf_counter() - begin])
        objective = problem.loss_value(fit) + problem.beta * float(np.sum(row_norms(u)))
        certificate = certify_gated(problem, objective, self.patterns, nu, norms=self.norms)
        history = History(np.array([steps]), seconds, np.array([objective]), np.array([certificate.lower_bound]))
        return self._solution(u, certificate, Status.STALLED, history, steps)

    def _alone(self, problem: Problem, near: Solution | None, points: Sequence[PathPoint], deadline: float) -> Solution:
        """Solution of the point by itself."""
        start = _extrapolated(points, problem.beta) if near is None else near.blocks.u
        start = start if start is not None and np.any(start) else None
        result = self._solved(problem, start, deadline)
        if result.status is Status.STALLED and start is not None:
            # The path of penalties may lead where a start that is far off in some blocks does not.
            afresh = self._solved(problem, None, deadline)
            best = min(result, afresh, key=lambda found: found.objective - found.lower_bound)
            result = replace(best, status=afresh.status)
        u = np.zeros(self.architecture.gates.shape)
        u[result.index] = result.vectors
        objective = problem.loss_value(self._fit(problem.X, u)) + problem.beta * float(np.sum(row_norms(u)))
        certificate = certify_gated(problem, objective, self.patterns, result.dual, norms=self.norms)
        status = Status.STALLED if result.status.converged else result.status
        solution = self._solution(u, certificate, status, result.history, result.n_iter)
        if self.course is not None:
            self.course.resume(problem.beta, u, result.dual)
        return solution

    def _solved(self, problem: Problem, start: FloatArray | None, deadline: float) -> GroupLassoResult:
        """Result of the solver from some blocks, or from the path of penalties."""
        left = None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter())
        return solve_group_lasso(problem, self.patterns, tol=self.tol, time_limit=left, warm_start=start)

    def _fit(self, X: FloatArray, u: FloatArray) -> FloatArray:
        """Fit of blocks ``(P, d)``."""
        used = np.flatnonzero(row_norms(u))
        fit = np.zeros(len(X))
        for piece, masks in self.patterns.subset(used).chunks(max(1, _SLAB // len(X))):
            fit += np.einsum("kn,kn->n", masks, u[used[piece]] @ X.T)
        return fit

    def _solution(
        self, u: FloatArray, certificate: Certificate, status: Status, history: History, n_iter: int
    ) -> Solution:
        """Solution with some blocks; ``status`` is the one where the certificate does not prove the tolerance."""
        return Solution(
            network=GatedReLUNetwork.from_vectors(self.architecture.gates, u),
            certificate=certificate,
            status=Status.PATTERNS_OPTIMUM if certificate.gap <= self.tol else status,
            patterns=self.patterns,
            blocks=Blocks(u, np.zeros_like(u)),
            history=history,
            n_iter=n_iter,
        )


def _extrapolated(points: Sequence[PathPoint], beta: float) -> FloatArray | None:
    """Last blocks continued linearly in the logarithm of beta; those that would turn back are shortened."""
    if not points or points[-1].network.width == 0:
        return None
    u = points[-1].solution.blocks.u
    if len(points) == 1:
        return u
    last, before = points[-1], points[-2]
    step = math.log(beta / last.beta) / math.log(last.beta / before.beta)
    mass = row_norms(u)
    there = np.where(mass[:, None] > 0, u + step * (u - before.solution.blocks.u), 0.0)
    along = safe_ratio(np.sum(there * u, axis=1), mass * mass)
    short = along < _LEAST_GROWTH
    there[short] = _LEAST_GROWTH * u[short]
    return there * np.minimum(1.0, _MOST_GROWTH * safe_ratio(mass, row_norms(there)))[:, None]
