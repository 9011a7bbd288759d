"""Judging networks with several outputs: the bounds and better networks behind :func:`cvxnn.landscape.certify`."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate
from cvxnn.certificates.vector_certificate import certify_outputs
from cvxnn.landscape._escape import best_outputs_escape
from cvxnn.landscape._judging import Judge
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import reduce_rank
from cvxnn.problem import Problem
from cvxnn.programs.reduction import reduce_problem
from cvxnn.programs.vector_output import is_exact_outputs
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


class OutputsJudge(Judge):
    """Judgement of networks with several outputs."""

    def __init__(
        self, problem: Problem, network: ReLUNetwork, tol: float, start: float, limit: float | None, seed: int
    ) -> None:
        rows = network.a.reshape(network.width, problem.n_outputs)
        super().__init__(problem, replace(network, a=rows), tol, start, limit, seed)
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
        self._found(best_outputs_escape(self.problem, self.network, directions))

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
        self._take(solution)
        for network in (self.better, self.network):
            if network is not None and self._is_open(self.objective):
                self._keep(self._bound(network, "auto"))
