"""Judging parallel networks: the bounds and better networks behind :func:`cvxnn.landscape.certify`."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import ParallelReLU
from cvxnn.certificates.certificate import Certificate, certify_norm
from cvxnn.certificates.output_bias import admissible_dual
from cvxnn.certificates.parallel_bounds import parallel_pricing, positive_part_bound
from cvxnn.landscape._escape import best_mass
from cvxnn.landscape._judging import Judge
from cvxnn.parallel_networks import ParallelReLUNetwork, block_norms
from cvxnn.patterns.limits import format_count
from cvxnn.problem import Problem
from cvxnn.programs.parallel_relu import combination_count, is_exact_parallel
from cvxnn.solvers.trees import Trees, ascend, random_trees, tree_norms
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["ParallelJudge", "as_architecture", "parallel_residual", "require_parallel_method"]

_STARTS, _START_ENTRIES = 200, 4_000_000
_CANDIDATES = 10
_SHARE_OF_SEARCH, _SHARE_OF_SOLVE = 0.2, 0.6
_DEFAULT_SECONDS = 60.0
_EPS = float(np.finfo(np.float64).eps)


def as_architecture(network: ParallelReLUNetwork, architecture: object) -> ParallelReLU:
    """Architecture against whose networks a parallel network is judged; its own where none is given."""
    if architecture is None:
        return ParallelReLU(network.depth, network.branching, network.norm)
    if isinstance(architecture, ParallelReLU):
        width = architecture.width if architecture.depth > 2 else 1
        if (architecture.depth, width) == (network.depth, network.branching):
            return architecture
    raise ValueError(
        f"architecture must be ParallelReLU(depth={network.depth}, width={network.branching}) with either penalty, to "
        f"match the network; got {architecture!r}."
    )


def require_parallel_method(problem: Problem, architecture: ParallelReLU, method: str) -> None:
    """Refuse ways to a bound that parallel networks with several neurons below one do not have."""
    if method == "relaxation":
        raise ValueError('method "relaxation" needs networks of two layers; use "auto" or "dual" for parallel ones.')
    if method == "enumeration" and not is_exact_parallel(problem, architecture):
        count = format_count(combination_count(problem, architecture))
        raise ValueError(
            'method "enumeration" needs three layers and up to 30,000 combinations of first-layer patterns; '
            f'this is depth={architecture.depth} with up to {count} of them, use "auto" or "dual".'
        )


def parallel_residual(problem: Problem, network: ParallelReLUNetwork, dual: FloatArray) -> float:
    r"""Largest :math:`|s_k\, \nu^T g_k(X) / (\beta N_k) - 1|` over the sub-networks of positive norm."""
    vectors, levels, outputs = network.vectors()
    sizes = block_norms(vectors, network.norm)
    live = Trees(vectors, levels, outputs).take(sizes > 0)
    values = live.outputs * (live.values(problem.X) @ dual) / sizes[sizes > 0]
    return float(np.max(np.abs(values / problem.beta - 1.0), initial=0.0))


class ParallelJudge(Judge):
    """Judgement of parallel networks with several neurons below one."""

    def __init__(
        self,
        problem: Problem,
        network: ParallelReLUNetwork,
        architecture: ParallelReLU,
        tol: float,
        start: float,
        limit: float | None,
        seed: int,
    ) -> None:
        limit = _DEFAULT_SECONDS if limit is None else limit
        super().__init__(problem, replace(network, norm=architecture.penalty), tol, start, limit, seed)
        self.architecture = architecture
        self.dual = admissible_dual(problem, self.fit)
        self.escape_objective = math.inf
        self.exact = is_exact_parallel(problem, architecture)
        self.certificate = self._without_search(self.dual)
        # Far from the optimum the dual vector of the zero network is the better one.
        self._keep(self._without_search(admissible_dual(problem, np.zeros(problem.n_samples))))

    def run(self, method: str) -> None:
        """Look for an escape, then for better networks, and bound the best of them."""
        try:
            self._search()
            if method != "dual":
                self._solve()
            if self.architecture.depth == 3:
                if self.better is not None and method != "dual" and self._is_open(self.objective):
                    self._price(self.better)
                if (self.escape is None or method == "dual") and self._is_open(self.objective):
                    self._price(self.network)
        except KeyboardInterrupt:
            self.interrupted = True

    def _remaining(self) -> float:
        limit = math.inf if self.limit is None else self.limit
        return max(limit - (time.perf_counter() - self.start), 0.0)

    def _search(self) -> None:
        """Look for an escape among the ascents from random sub-networks and from those of the network."""
        X = self.problem.X
        shape = self.network.W.shape[1:]
        if self._remaining() == 0.0:
            return
        rng = np.random.default_rng(self.seed)
        count = int(np.clip(_START_ENTRIES // (len(X) * int(np.prod(shape[:-1]))), 16, _STARTS))
        starts = random_trees(X, count, shape, np.array([1.0, -1.0]), rng)
        vectors, levels, outputs = self.network.vectors()
        sizes = tree_norms(vectors, self.network.norm)
        own = Trees(vectors, levels, outputs).take(sizes > 0)
        starts = starts.joined(own.scaled(1.0 / sizes[sizes > 0]))
        deadline = time.perf_counter() + _SHARE_OF_SEARCH * self._remaining()
        found, values = ascend(X, self.dual, starts, self.network.norm, deadline=deadline)
        self._try_escapes(found, values)

    def _try_escapes(self, trees: Trees, values: FloatArray) -> None:
        """Give the sub-networks of norm one with the largest values their best masses, one at a time."""
        fit, limit = self.network(self.problem.X), self.best
        for k in np.argsort(-values, kind="stable")[:_CANDIDATES]:
            if values[k] <= self.problem.beta:
                break
            one = trees.take([int(k)])
            one = one.scaled(np.array([best_mass(self.problem, fit, one.fit(self.problem.X))]))
            grown = self.network.with_vectors(one.vectors, one.signs, one.outputs)
            objective = grown.objective(self.problem)
            # Differences within the rounding of two evaluations prove nothing.
            if objective < min(self.escape_objective, self.objective - 8.0 * _EPS * abs(limit)):
                self.escape = ParallelReLUNetwork.from_vectors(one.vectors, one.signs, one.outputs, self.network.norm)
                self.escape_objective = objective
                self.offer(grown)

    def _without_search(self, dual: FloatArray) -> Certificate:
        leaves = self.architecture.width ** (self.architecture.depth - 2)
        upper = positive_part_bound(self.problem.X, dual, leaves, self.architecture.penalty)
        return certify_norm(self.problem, self.objective, dual, upper, 0.0, method="positive part")

    def _solve(self) -> None:
        """Better networks, and the bound of the solve where it is one over all sub-networks."""
        solution = solve(
            self.problem,
            architecture=self.architecture,
            tol=0.1 * self.tol,
            certify=self.exact,
            time_limit=_SHARE_OF_SOLVE * self._remaining(),
            warm_start=self.network,
            random_state=self.seed,
        )
        self._take(solution)

    def _price(self, network: ParallelReLUNetwork) -> None:
        """Branch and bound at the dual vector of a network: it bounds the optimum, or finds a sub-network to add."""
        dual = admissible_dual(self.problem, network(self.problem.X))
        rows, beta = dual != 0.0, self.problem.beta
        found = parallel_pricing(
            self.problem.X[rows],
            dual[rows],
            self.architecture.width,
            self.architecture.penalty,
            target=beta * (1.0 + min(1e-2 * self.tol, 1e-7)),
            time_limit=self._remaining(),
        )
        self._keep(
            certify_norm(self.problem, self.objective, dual, found.upper, found.lower, method="sign branch and bound")
        )
        if network is self.network:
            self._try_escapes(Trees(found.vectors, (found.signs,), found.outputs), found.values)
        self.interrupted = self.interrupted or found.interrupted
