r"""Parallel networks of three and more layers and their convex program.

With :math:`v_{kj} = |a_k b_{kj}| w_{kj}`, training :math:`f(X) = \sum_k a_k (\sum_j b_{kj} (X w_{kj})_+)_+`
with a penalty of the products of its weights is equivalent to

.. math:: \min\ \mathrm{loss}\Big(\sum_g s_g \tilde D_g \sum_j I_{gj} D_{gj} X v_{gj}\Big) + \beta \sum_g N(V_g),\quad
          (2 D_{gj} - I) X v_{gj} \ge 0,\quad (2 \tilde D_g - I) \sum_j I_{gj} D_{gj} X v_{gj} \ge 0

over all patterns of both layers and all signs (Ergen and Pilanci, 2021). Sub-networks are found by ascent of the dual
function, solved on their patterns by an interior-point method, and proved optimal by branch and bound over signs.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import ParallelReLU
from cvxnn.certificates.certificate import Certificate, certify_confined, certify_norm, relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.group_bounds import group_bound
from cvxnn.certificates.parallel_bounds import ParallelPricing, parallel_pricing, positive_part_bound
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns.counting import count_patterns
from cvxnn.patterns.limits import format_count
from cvxnn.problem import Problem
from cvxnn.programs.parallel_groups import GroupSet
from cvxnn.programs.reduction import Reduction, reduce_problem
from cvxnn.programs.relu import ReLUOptions, solve_relu
from cvxnn.progress import Recorder
from cvxnn.solution import Blocks, Solution, Status
from cvxnn.solvers.trees import Trees, ascend, descend_jointly, random_trees, refit_masses, tree_norms

FloatArray = npt.NDArray[np.float64]

__all__ = ["ParallelOptions", "combination_count", "is_exact_parallel", "solve_parallel"]

_EXACT, _CERTIFY = 2_500, 30_000
"""Combinations of first-layer patterns up to which the branch and bound runs, unasked and with ``certify``."""

_NODES, _SECONDS = 20_000, 60.0
_CONIC_ENTRIES = 3_000_000
_OVERTIME = 0.25
"""Share of the time limit that the bound among the patterns may take after it."""
_STARTS, _START_ENTRIES = 96, 4_000_000
_NEW = 6
"""Sub-networks that a round adds at most, for each output sign."""


@dataclass(frozen=True)
class ParallelOptions:
    """Options of :func:`solve_parallel`, as checked by :func:`cvxnn.solve`."""

    tol: float = 1e-6
    certify: bool = False
    time_limit: float | None = None
    max_iter: int = 200
    warm_start: object = None
    seed: int = 0


def solve_parallel(
    problem: Problem, architecture: ParallelReLU, options: ParallelOptions, recorder: Recorder
) -> Solution:
    """Best parallel network of an architecture, with its certificate.

    With two layers, or one neuron in each layer of a sub-network, this is the two-layer problem. With three layers the
    bound is of scope "global" where the branch and bound over the signs of both layers closes, which it is tried for
    up to 60 signs of the first layer, or with ``certify``. Elsewhere, and for more layers, the scope is "patterns": the
    bound holds among networks whose sub-networks keep the patterns and signs of those met, and
    ``global_lower_bound`` is that of a relaxation.

    Raises
    ------
    ValueError
        For an output bias, several outputs, or ``certify`` where the patterns are too many.

    References
    ----------
    Ergen and Pilanci (2021), "Global optimality beyond two layers: training deep ReLU networks via convex programs".

    Examples
    --------
    >>> problem = Problem([[0.5, 1.0], [1.0, 0.0], [0.5, -1.0]], [0.0, 1.0, 0.0], beta=0.05)
    >>> s = solve_parallel(problem, ParallelReLU(), ParallelOptions(), Recorder(False))
    >>> s.scope, s.gap < 1e-6
    ('global', True)
    """
    _check_start(options.warm_start, architecture, problem)
    if architecture.depth == 2 or architecture.width == 1:
        return _as_two_layers(problem, architecture, options, recorder)
    if options.certify:
        _check_certify(problem, architecture)
    return _Run(problem, architecture, options, recorder).solve()


def _check_start(network: object, architecture: ParallelReLU, problem: Problem) -> None:
    if network is None:
        return
    fits = isinstance(network, ParallelReLUNetwork)
    if isinstance(network, ParallelReLUNetwork):
        width = architecture.width if architecture.depth > 2 else 1
        shape = (network.n_features, network.depth, network.branching)
        fits = shape == (problem.n_features, architecture.depth, width)
    if not fits:
        raise ValueError(
            f"warm_start must be a ParallelReLUNetwork of {architecture!r} with {problem.n_features} features; "
            f"got {network!r}."
        )


def _check_certify(problem: Problem, architecture: ParallelReLU) -> None:
    if architecture.depth > 3:
        raise ValueError(
            f"certify=True has a method for depth 2 and 3 only; got depth={architecture.depth}. "
            'Leave it False: the bound is then one of scope "patterns".'
        )
    count = combination_count(problem, architecture)
    if count > _CERTIFY:
        raise ValueError(
            f"certify=True covers up to {format_count(_CERTIFY)} combinations of first-layer patterns; X with width="
            f"{architecture.width} has up to {format_count(count)}. "
            'Leave it False: the bound is then one of scope "patterns".'
        )


def is_exact_parallel(problem: Problem, architecture: ParallelReLU) -> bool:
    """Whether ``certify`` has a branch and bound for this problem: three layers and few enough combinations."""
    return architecture.depth == 3 and combination_count(problem, architecture) <= _CERTIFY


def combination_count(problem: Problem, architecture: ParallelReLU) -> int:
    """Tuples of patterns of the first layer of a sub-network, at most."""
    n = problem.n_samples
    return count_patterns(n, min(n, problem.n_features)) ** architecture.width


def _as_two_layers(
    problem: Problem, architecture: ParallelReLU, options: ParallelOptions, recorder: Recorder
) -> Solution:
    """Sub-networks with one neuron in each layer are neurons: a chain of them adds nothing."""
    start = options.warm_start
    two = ReLUOptions(
        None,
        options.tol,
        options.certify,
        options.time_limit,
        options.max_iter,
        start.to_two_layers() if isinstance(start, ParallelReLUNetwork) else None,
        options.seed,
        None,
    )
    solution = solve_relu(problem, two, recorder)
    network = ParallelReLUNetwork.from_two_layers(solution.network, architecture.depth, architecture.penalty)
    certificate = replace(solution.certificate, objective=network.objective(problem))
    return replace(solution, network=network, certificate=certificate)


class _Run:
    """One solve: the best trees so far, in the reduced problem, and how the search stands."""

    def __init__(
        self, problem: Problem, architecture: ParallelReLU, options: ParallelOptions, recorder: Recorder
    ) -> None:
        self.problem, self.architecture, self.options, self.recorder = problem, architecture, options, recorder
        self.norm = architecture.penalty
        self.reduction: Reduction = reduce_problem(problem)
        self.small = self.reduction.problem
        self.shape = (architecture.width,) * (architecture.depth - 2) + (self.small.n_features,)
        self.leaves = architecture.width ** (architecture.depth - 2)
        self.rng = np.random.default_rng(options.seed)
        limit = options.time_limit
        self.deadline = math.inf if limit is None else time.perf_counter() + limit
        self.latest = math.inf if limit is None else self.deadline + _OVERTIME * limit
        self.trees = self._start()
        self.groups = GroupSet(self.small, self.norm, self.shape)
        self.iteration = 0
        self.pricing: ParallelPricing | None = None
        self.pricing_dual: FloatArray | None = None
        self.outcome = "search"

    def solve(self) -> Solution:
        """Search, solve on the patterns met, prove; whatever is there when time runs out is returned."""
        interrupted = False
        try:
            if not len(self.trees) and not self._wants_proof():
                self._start_from_two_layers()
            self._search()
            self._polish()
            if self._wants_proof():
                self._prove()
        except KeyboardInterrupt:
            interrupted = True
        return self._finish(interrupted)

    def _start(self) -> Trees:
        signs = tuple(np.ones((0, *self.shape[:axes])) for axes in range(len(self.shape) - 1, 0, -1))
        empty = Trees(np.zeros((0, *self.shape)), signs, np.zeros(0))
        network = self.options.warm_start
        if not isinstance(network, ParallelReLUNetwork) or network.width == 0:
            return empty
        vectors, levels, outputs = network.vectors()
        reduced = vectors @ self.reduction.basis / self.reduction.vector_scale
        return refit_masses(self.small, Trees(reduced, levels, outputs), self.norm)

    def _start_from_two_layers(self) -> None:
        """Begin with the best two-layer network, at the penalty at which its neurons are sub-networks of equal cost."""
        spread = self.leaves if self.norm == "path" else 1
        small = self.small
        lighter = Problem(
            small.X, small.y, small.beta / math.sqrt(spread), small.loss, sample_weight=small.sample_weight
        )
        left = None if math.isinf(self.deadline) else 0.25 * max(self.deadline - time.perf_counter(), 0.0)
        options = ReLUOptions(None, self.options.tol, False, left, self.options.max_iter, None, self.options.seed, None)
        net = solve_relu(lighter, options, Recorder(False)).network
        z = np.abs(net.a)[:, None] * net.W
        vectors = np.zeros((net.width, self.leaves, small.n_features))
        vectors[:, :spread] = z[:, None] / spread
        signs = tuple(np.ones((net.width, *self.shape[:axes])) for axes in range(len(self.shape) - 1, 0, -1))
        trees = Trees(vectors.reshape(net.width, *self.shape), signs, np.where(net.a < 0, -1.0, 1.0))
        self._accept(refit_masses(small, trees, self.norm))

    def _objective(self, trees: Trees) -> float:
        fit = trees.fit(self.small.X)
        return self.small.loss_value(fit) + self.small.beta * float(tree_norms(trees.vectors, self.norm).sum())

    def _dual(self) -> FloatArray:
        return self.small.dual_vector(self.trees.fit(self.small.X))

    def _accept(self, trees: Trees) -> None:
        if self._objective(trees) <= self._objective(self.trees):
            self.trees = trees

    def _over(self) -> bool:
        if time.perf_counter() > self.deadline:
            self.outcome = "time_limit"
        elif self.iteration >= self.options.max_iter:
            self.outcome = "max_iter"
        return self.outcome != "search"

    def _violators(self, margin: float) -> tuple[Trees, float]:
        """Distinct trees of norm one whose dual value exceeds beta by a relative margin, and the largest excess."""
        X, nu = self.small.X, self._dual()
        count = int(np.clip(_START_ENTRIES // (len(X) * self.leaves), 16, _STARTS))
        starts = random_trees(X, count, self.shape, np.array([1.0, -1.0]), self.rng)
        if len(self.trees):
            near = self.trees.scaled(1.0 / tree_norms(self.trees.vectors, self.norm))
            noise = 0.1 * self.rng.standard_normal(near.vectors.shape) / math.sqrt(near.vectors[0].size)
            starts = starts.joined(Trees(near.vectors + noise, near.signs, near.outputs))
        found, values = ascend(X, nu, starts, self.norm, deadline=self.deadline)
        excess = values / self.small.beta - 1.0
        order = [int(k) for k in np.argsort(-excess) if excess[k] > margin]
        outputs = found.take(order).values(X)
        outputs = outputs / np.maximum(np.linalg.norm(outputs, axis=1, keepdims=True), 1e-300)
        chosen: list[int] = []
        for i, k in enumerate(order):
            same = [j for j in chosen if found.outputs[order[j]] == found.outputs[k]]
            if len(same) < _NEW and all(float(outputs[i] @ outputs[j]) < 1.0 - 1e-6 for j in same):
                chosen.append(i)
        return found.take([order[i] for i in chosen]), float(np.max(excess, initial=0.0))

    def _search(self) -> None:
        """Add violating trees, give masses, and move all of them together, until nothing is gained."""
        quiet = 0
        while quiet < 2 and not self._over():
            self.iteration += 1
            before = self._objective(self.trees)
            found, excess = self._violators(1e-3)
            self._record("columns", excess)
            if not len(found):
                quiet += 1
                continue
            grown = refit_masses(self.small, self.trees.joined(found.scaled(np.full(len(found), 1e-6))), self.norm)
            self._accept(grown)
            moved = descend_jointly(self.small, self.trees, self.norm, steps=200, deadline=self.deadline)
            self._accept(refit_masses(self.small, moved, self.norm))
            quiet = quiet + 1 if before - self._objective(self.trees) <= 1e-6 * before else 0

    def _polish(self, extra: Trees | None = None) -> None:
        """Solve on the patterns met, and add those of trees that violate the dual, until the search finds none."""
        self.groups.add(self.trees)
        if extra is not None:
            self.groups.add(extra)
        quiet = 0
        while quiet < 2 and self.groups.size <= _CONIC_ENTRIES and not self._over():
            self.iteration += 1
            if quiet == 0:
                self._solve_groups()
            found, excess = self._violators(0.1 * self.options.tol)
            self._record("columns", excess)
            quiet = 0 if self._add(found) else quiet + 1

    def _add(self, found: Trees) -> int:
        """Add the groups around trees: those of themselves and, as they lie on faces, of neighbours."""
        new = self.groups.add(found)
        for size in (1e-7, 1e-4):
            noise = self.rng.standard_normal(found.vectors.shape)
            new += self.groups.add(Trees(found.vectors + size * noise, found.signs, found.outputs))
        return new

    def _solve_groups(self) -> None:
        left = None if math.isinf(self.deadline) else self.deadline - time.perf_counter()
        trees = self.groups.solve(left)
        if trees is not None:
            self._accept(trees)
            self._accept(refit_masses(self.small, trees, self.norm))

    def _wants_proof(self) -> bool:
        if self.architecture.depth != 3 or self.outcome != "search":
            return False
        return self.options.certify or combination_count(self.small, self.architecture) <= _EXACT

    def _prove(self) -> None:
        """Branch and bound over the signs; what it finds above beta goes to the groups, and the solve goes on."""
        seconds = math.inf
        if self.options.time_limit is None and self.options.certify:
            seconds = time.perf_counter() + _SECONDS
        deadline = min(self.deadline, seconds)
        while not self._over():
            self.iteration += 1
            beta, tol = self.problem.beta, self.options.tol
            samples = self.reduction.samples
            nu = self.problem.dual_vector(self._network()(self.problem.X))
            found = parallel_pricing(
                self.problem.X[samples],
                nu[samples],
                self.architecture.width,
                self.norm,
                target=beta * (1.0 + 0.5 * tol),
                time_limit=None if math.isinf(deadline) else max(deadline - time.perf_counter(), 0.0),
                max_nodes=None if self.options.certify else _NODES,
                stop_above=beta * (1.0 + tol),
            )
            self.pricing, self.pricing_dual = found, nu
            self._record("certify", max(found.lower / beta - 1.0, 0.0))
            if found.interrupted:
                raise KeyboardInterrupt
            above = found.values > beta * (1.0 + 0.5 * tol)
            if found.closed or not np.any(above) or time.perf_counter() > deadline:
                return
            vectors = found.vectors[above] @ self.reduction.basis
            if not self._add(Trees(vectors, (found.signs[above],), found.outputs[above])):
                return
            self._polish()

    def _network(self) -> ParallelReLUNetwork:
        vectors = self.reduction.vector_scale * (self.trees.vectors @ self.reduction.basis.T)
        return ParallelReLUNetwork.from_vectors(vectors, self.trees.signs, self.trees.outputs, self.norm)

    def _record(self, phase: str, excess: float) -> None:
        objective = self._objective(self.trees) * self.reduction.objective_scale
        nu = self._dual()
        estimate, _ = scaled_dual_bound(self.small, nu, self.small.beta * (1.0 + max(excess, 0.0)))
        self.recorder.record(
            phase,
            self.iteration,
            objective=objective,
            lower_bound=0.0,
            estimate=estimate * self.reduction.objective_scale,
            width=len(self.trees),
            violation=max(excess, 0.0),
        )

    def _finish(self, interrupted: bool) -> Solution:
        network = self._network()
        certificate = self._certificate(network, interrupted)
        if certificate.gap <= self.options.tol and certificate.scope == "global":
            status = Status.GLOBAL_OPTIMUM
        elif interrupted:
            status = Status.INTERRUPTED
        elif self.outcome != "search":
            status = Status.TIME_LIMIT if self.outcome == "time_limit" else Status.MAX_ITER
        else:
            status = Status.PATTERNS_OPTIMUM if certificate.gap <= self.options.tol else Status.STALLED
        vectors, _, outputs = network.vectors()
        gates = vectors.reshape(-1, network.n_features)
        positive = np.repeat(outputs > 0, self.leaves)[:, None]
        masks = gates @ self.problem.X.T >= 0
        return Solution(
            network=network,
            certificate=certificate,
            status=status,
            patterns=ActivationPatterns.from_masks(masks, gates),
            blocks=Blocks(np.where(positive, gates, 0.0), np.where(positive, 0.0, gates)),
            history=self.recorder.history(),
            n_iter=self.iteration,
        )

    def _certificate(self, network: ParallelReLUNetwork, interrupted: bool) -> Certificate:
        problem = self.problem
        objective, nu = network.objective(problem), problem.dual_vector(network(problem.X))
        nu = problem.loss.project_dual(nu, problem.y, problem.sample_weight)
        upper, method = positive_part_bound(problem.X, nu, self.leaves, self.norm), "positive part"
        best = certify_norm(problem, objective, nu, upper, 0.0, method=method)
        if self.pricing is not None and self.pricing_dual is not None:
            pricing, method = self.pricing, "sign branch and bound"
            proved = certify_norm(problem, objective, self.pricing_dual, pricing.upper, pricing.lower, method=method)
            best = max(best, proved, key=lambda certificate: certificate.lower_bound)
        if relative_gap(objective, best.lower_bound) <= self.options.tol:
            return best
        return self._patterns_certificate(best, nu, interrupted)

    def _patterns_certificate(self, best: Certificate, nu: FloatArray, interrupted: bool) -> Certificate:
        """Bound among the groups met; those of the network itself at the least."""
        groups = self.groups
        if interrupted or self.outcome == "time_limit":
            groups = GroupSet(self.small, self.norm, self.shape)
        groups.add(self.trees)
        goal = math.inf if interrupted else self.problem.beta * (1.0 + 1e-3 * self.options.tol)
        kept, tau = self.reduction.samples, 0.0
        for group in groups.on(self.problem.X[kept]):
            # Without multipliers the bound is loose, and costs next to nothing.
            goal = math.inf if time.perf_counter() > self.latest else goal
            tau = max(tau, group_bound(group.fit, group.cone, nu[kept], groups.parts, target=goal))
        return certify_confined(
            self.problem,
            best.objective,
            nu,
            tau,
            best.dual_norm_attained,
            n_patterns=len(groups),
            method="group bounds",
            global_lower_bound=best.global_lower_bound,
        )
