"""Judging networks with several outputs: the bounds and better networks behind :func:`cvxnn.landscape.certify`."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.certificates.vector_certificate import certify_outputs
from cvxnn.landscape._escape import Escape, best_outputs_escape, with_neuron
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import reduce_rank
from cvxnn.problem import Problem
from cvxnn.programs.reduction import reduce_problem
from cvxnn.programs.vector_output import is_exact_outputs
from cvxnn.solution import Status
from cvxnn.solvers.vector_ascent import ascend_outputs
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["OutputsJudge", "require_outputs_method"]

_STARTS = 400
_SHARE_OF_SEARCH, _SHARE_OF_SOLVE = 0.3, 0.6
_DEFAULT_SECONDS = 60.0


def require_outputs_method(problem: Problem, method: str) -> None:
    """Refuse ways to a bound that problems with several outputs do not have."""
    if method == "relaxation":
        raise ValueError('method "relaxation" needs one output; use "auto" or "dual" for several.')
    if method == "enumeration" and not _is_exact(problem):
        raise ValueError(
            f'method "enumeration" needs data of rank up to 3 (and some thousands of samples) for several outputs; '
            f'X has rank {reduce_rank(problem.X)[0].shape[1]} and {problem.n_samples} samples, use "auto" or "dual".'
        )


def _is_exact(problem: Problem) -> bool:
    return is_exact_outputs(reduce_problem(problem).problem, certify=True)


class OutputsJudge:
    """Bounds and better networks, collected as long as there is time."""

    def __init__(
        self, problem: Problem, network: ReLUNetwork, tol: float, start: float, limit: float | None, seed: int
    ) -> None:
        self.problem, self.tol, self.start, self.limit, self.seed = problem, tol, start, limit, seed
        self.network = replace(network, a=network.a.reshape(network.width, problem.n_outputs))
        self.objective = self.network.objective(problem)
        self.dual = problem.dual_vector(self.network(problem.X))
        self.escape: Escape | None = None
        self.better: ReLUNetwork | None = None
        self.best = self.objective
        self.interrupted = False
        self.exact = _is_exact(problem)
        self.certificate = self._bound(self.network, "cheap")

    def run(self, method: str) -> None:
        """Look for an escape, then for better networks, and bound the best of them."""
        try:
            self._search()
            if method == "dual":
                self._keep(self._bound(self.network, "auto"))
            else:
                self._solve()
        except KeyboardInterrupt:
            self.interrupted = True

    def _remaining(self) -> float:
        limit = self.limit
        if limit is None:
            limit = math.inf if self.exact else _DEFAULT_SECONDS
        return max(limit - (time.perf_counter() - self.start), 0.0)

    def _search(self) -> None:
        """Look for an escape among the ascents from many directions, those of the neurons included."""
        sizes = np.linalg.norm(self.network.W, axis=1)
        seconds = _SHARE_OF_SEARCH * self._remaining()
        directions, _ = ascend_outputs(
            self.problem,
            self.dual,
            self.network.W[sizes > 0] / sizes[sizes > 0, None],
            threshold=self.problem.beta,
            n_starts=_STARTS,
            rng=np.random.default_rng(self.seed),
            deadline=time.perf_counter() + seconds,
        )
        self._try_escapes(directions)

    def _try_escapes(self, directions: FloatArray) -> None:
        escape = best_outputs_escape(self.problem, self.network, directions)
        if escape is not None and (self.escape is None or escape.objective < self.escape.objective):
            self.escape = escape
            self._offer(with_neuron(self.network, escape.w, escape.a))

    def _offer(self, network: ReLUNetwork) -> None:
        objective = network.objective(self.problem)
        if objective < self.best:
            self.better, self.best = network, objective

    def _keep(self, certificate: Certificate) -> None:
        if certificate.lower_bound > self.certificate.lower_bound:
            self.certificate = replace(certificate, objective=self.objective)

    def _bound(self, network: ReLUNetwork, method: str) -> Certificate:
        """Bound at the dual vector of a network; directions that violate the dual of the given one are tried."""
        certificate, pricing = certify_outputs(
            self.problem,
            network(self.problem.X),
            self.objective,
            starts=network.W if network.width else None,
            time_limit=None if math.isinf(self._remaining()) else self._remaining(),
            method=method,
        )
        self.interrupted = self.interrupted or pricing.interrupted
        if network is self.network:
            self._try_escapes(pricing.directions)
        return certificate

    def _solve(self) -> None:
        """Better networks, and the bound at the best one, exact where the rank allows."""
        seconds = _SHARE_OF_SOLVE * self._remaining()
        solution = solve(
            self.problem,
            tol=0.1 * self.tol,
            certify=self.exact,
            time_limit=None if math.isinf(seconds) else seconds,
            warm_start=self.network,
            random_state=self.seed,
        )
        self.interrupted = self.interrupted or solution.status is Status.INTERRUPTED
        self._offer(solution.network)
        if solution.scope == "global":
            self._keep(solution.certificate)
        for network in (self.better, self.network):
            closed = relative_gap(self.objective, self.certificate.lower_bound) <= self.tol
            if network is not None and not self.interrupted and not closed:
                self._keep(self._bound(network, "auto"))
