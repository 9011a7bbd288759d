r"""Group lasso over activation patterns by a primal-dual interior-point method, where Newton's methods stall.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

It is the method of :mod:`cvxnn.solvers.cone_interior_point` with blocks that have no cone: predictor-corrector steps
with Nesterov-Todd scaling, a system of size ``min(k d, n)`` for k blocks. The kinks of a loss and its flat stretches
are equations of their own there, and neither these nor a small penalty slow it down. A step costs more than one of the
other methods, as all blocks of the working set take part in it, zero or not: it goes on from where they end.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.gated_bound import GatedNorms
from cvxnn.networks import row_norms
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers._cone_algebra import NormScaling, join
from cvxnn.solvers._cone_iteration import ConeIteration, Direction, Targets, start_length
from cvxnn.solvers._cone_losses import interior_loss
from cvxnn.solvers._cone_system import BlockData, NewtonSystem
from cvxnn.solvers.group_lasso._common import Deadline, GroupLassoResult, concluded, dual_bound, in_row_space

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

__all__ = ["InteriorRun", "interior_serves", "patience_before", "work_before"]

# Most masks as floats, operations of a step for the first working set, and patterns priced at a time.
_STORE, _OPERATIONS, _SLAB = 1 << 22, 4e10, 1 << 22
# Samples beyond which memory is to stay small, and the largest system there.
_MANY, _SMALL_SYSTEM = 5000, 2048
# Steps of most solves, and the factorisations of another method between which these take over.
_USUAL_STEPS, _LEAST_PATIENCE, _MOST_PATIENCE = 30.0, 60.0, 250.0
# Operations of a method by rows before which it is not given up, and those that take as long as one here.
_LEAST_WORK, _ROW_SHARE = 2e9, 0.5
# Working sets, steps for each, and steps in a row without progress that end one.
_ROUNDS, _STEPS, _PATIENCE = 8, 100, 10
# Length of a step, and part of the gap that it leaves, that count as no progress.
_SHORT, _SLOW = 1e-3, 0.9
# Part of the tolerance that is aimed for, as the certificate rounds once more.
_MARGIN = 0.95
# Heights of the first norm cones relative to the vectors in them.
_ROOM = 2.0
# Solutions of a Newton system: the second mends the rounding of the first.
_SOLVES = 2
# Part of the tolerance that a working set is solved to where others are left out.
_INNER = 0.3
# Sizes of blocks, relative to the largest, below which they may count as zero.
_DUST = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9)


def interior_serves(problem: Problem, n_patterns: int) -> bool:
    """Whether the masks of all blocks, and the matrix of a step, are small enough to be kept as floats.

    Examples
    --------
    >>> interior_serves(Problem([[1.0]], [2.0]), 3)
    True
    """
    n, d = problem.X.shape
    return n * n_patterns <= _STORE and (n <= _MANY or n_patterns * d <= _SMALL_SYSTEM)


def patience_before(problem: Problem, n_patterns: int) -> float:
    """Factorisations of another method that cost as much as the steps here would; infinite where these do not serve.

    Examples
    --------
    >>> patience_before(Problem([[1.0]], [2.0]), 3)
    67.5
    """
    n, d = problem.X.shape
    if not interior_serves(problem, n_patterns):
        return math.inf
    # All columns against the blocks of a usual working set.
    ratio = max(1.0, n_patterns * d / (n / 3.0 + min(n_patterns, n)))
    return float(min(max(_USUAL_STEPS * ratio, _LEAST_PATIENCE), _MOST_PATIENCE))


def work_before(problem: Problem, n_patterns: int) -> float:
    """Operations of a method by rows that take as long as the steps here would; infinite where these do not serve.

    Examples
    --------
    >>> work_before(Problem([[1.0]], [2.0]), 3)
    2000000000.0
    """
    n, d = problem.X.shape
    if not interior_serves(problem, n_patterns):
        return math.inf
    size = n_patterns * d
    return max(_LEAST_WORK, _ROW_SHARE * _USUAL_STEPS * n * size * min(n, size))


class _FreeIteration(ConeIteration):
    """Iterate of blocks without cones, from a start that suits any penalty.

    The heights of the dual, which end at beta, start so large that the gradients of the loss lie in the norm cones: the
    dual equation holds from the first, and Newton's method follows the path of penalties by itself.
    """

    def __init__(self, problem: Problem, data: BlockData, points: FloatArray) -> None:
        self.problem, self.data, self.live = problem, data, data.orient != 0
        self.slack, self.multipliers = np.ones(data.orient.shape), np.zeros(data.orient.shape)
        count, length = len(points), start_length(problem, data, points)
        vectors = length * points
        fit = data.fit(vectors)
        pull = float(np.max(row_norms(data.fit_adjoint(problem.loss_gradient(fit))), initial=0.0))
        self.loss = interior_loss(problem, fit, length * max(pull, problem.beta))
        force = data.fit_adjoint(self.loss.gradient)
        height = max(problem.beta, _ROOM * float(np.max(row_norms(force))))
        self.primal, self.dual = join(np.full(count, _ROOM * length), vectors), join(height, force)
        self.primal_determinant = np.full(count, (_ROOM**2 - 1.0) * length**2)
        self.dual_determinant = height**2 - row_norms(force) ** 2

    def _factors(self, norm: NormScaling) -> FloatArray:
        """Factors of the inverse block matrices, ``size ((I - v v^T) + sqrt(2 h^2 - 1) v v^T)`` for an axis (h, t v).

        Summed up first, a block matrix would lose its small eigenvalue to rounding.
        """
        tail = norm.axis[:, 1:]
        sizes = row_norms(tail)
        unit = tail / np.where(sizes > 0.0, sizes, 1.0)[:, None]
        stretch = norm.size * (np.sqrt(2.0 * norm.axis[:, 0] ** 2 - 1.0) - 1.0)
        out = norm.size[:, None, None] * np.eye(tail.shape[1])
        return out + np.einsum("k,ki,kj->kij", stretch, unit, unit)

    def _direction(self, system: NewtonSystem, norm: NormScaling, residual: FloatArray, targets: Targets) -> Direction:
        """Newton direction whose change of the fit has an accuracy of its own: the dual vector follows from it."""
        data, curvature = self.data, self.loss.curvature()
        rise = self.problem.beta - self.dual[:, 0]
        head, tail = norm.axis[:, 0], norm.axis[:, 1:]
        lead = 2.0 * head**2 - 1.0
        upright = targets.cones[:, 0] - rise
        force = targets.cones[:, 1:] + (2.0 * head * upright / lead)[:, None] * tail
        shift = self.loss.shift(targets.loss)
        # S dz + A^T h df = right and df - A dz = drift, solved again for what rounding has left of both.
        right, drift = force - residual - data.fit_adjoint(shift), data.fit(self.vectors) - self.loss.fit
        vectors, pull, change = np.zeros_like(right), np.zeros_like(right), np.zeros_like(drift)
        for _ in range(_SOLVES):
            first = right + pull - data.fit_adjoint(curvature * change)
            second = drift - change + data.fit(vectors)
            more, fit = system.solve_with_fit(first - data.fit_adjoint(curvature * second))
            vectors, change = vectors + more, change + fit + second
            pull = pull + self._response(more, norm)[1]
        along = np.einsum("kr,kr->k", tail, vectors)
        heights = (upright * norm.size**2 + 2.0 * head * along) / lead
        nothing = np.zeros(data.orient.shape)
        return Direction(join(heights, vectors), join(rise, force + pull), nothing, nothing, change)


class InteriorRun:
    """One solve that goes on from the result of another method.

    Examples
    --------
    >>> from cvxnn.solvers.group_lasso.kernel import KernelRun
    >>> problem, masks = Problem([[1.0]], [2.0], beta=0.5), ActivationPatterns.from_masks([[True]], [[1.0]])
    >>> first = KernelRun(problem, masks, 1e-6, math.inf, Recorder(False)).result(Status.STALLED)
    >>> InteriorRun(problem, masks, 1e-6, math.inf, Recorder(False), first).finish(100).vectors.round(3)
    array([[1.5]])
    """

    def __init__(
        self,
        problem: Problem,
        patterns: ActivationPatterns,
        tol: float,
        deadline: float,
        recorder: Recorder,
        result: GroupLassoResult,
    ) -> None:
        self.tol, self.deadline, self.recorder = _MARGIN * tol, Deadline(deadline), recorder
        self.origin = first_occurrences(patterns.packed)
        self.patterns = patterns.subset(self.origin)
        X, self.exponent, self.basis = in_row_space(problem.X)
        beta = math.ldexp(problem.beta, -self.exponent)
        self.problem = Problem(X, problem.y, beta, problem.loss, sample_weight=problem.sample_weight)
        # Bounds are those of the certificate, in the units of the problem.
        self.norms, self.beta = GatedNorms(problem.X, self.patterns, keep=True), problem.beta
        self.best = result

    # -- course --------------------------------------------------------------------------------------------------------

    def finish(self, max_iter: int) -> GroupLassoResult:
        """Solve; a deadline, an interrupt or a singular system ends it with a status, and what was found is kept."""
        status = concluded(lambda: self.solve(max_iter))
        return replace(self.best, status=status, history=self.recorder.history())

    def solve(self, max_iter: int) -> Status:
        """Solve on one working set after the other until no block outside has a norm beyond the penalty."""
        begin = time.perf_counter()
        self.offer_bound(self.best.dual)
        norms = self.price(self.best.dual)
        # The certificate prices once more.
        self.deadline.at -= time.perf_counter() - begin
        if self.gap() <= self.tol:
            return Status.PATTERNS_OPTIMUM
        ids = self.working_set(norms)
        for _ in range(_ROUNDS):
            sizes, nu = self.descend(ids, max_iter)
            if self.gap() <= self.tol:
                return Status.PATTERNS_OPTIMUM
            if self.best.n_iter >= max_iter:
                return Status.MAX_ITER
            norms = self.price(nu)
            outside = norms > self.problem.beta
            outside[ids] = False
            if not np.any(outside):
                break
            used = ids[sizes > _DUST[-1] * np.max(sizes, initial=0.0)]
            ids = np.union1d(used, np.flatnonzero(outside))
        return Status.STALLED

    def descend(self, ids: IntArray, max_iter: int) -> tuple[FloatArray, FloatArray]:
        """Steps on a working set; the sizes of its blocks and the dual vector at the end."""
        problem, everything = self.problem, len(ids) == len(self.patterns)
        blocks = BlockData.free(problem.X, self.patterns.subset(ids).masks, self.deadline.check)
        iterate = _FreeIteration(problem, blocks, self.directions(blocks))
        wanted = self.tol if everything else _INNER * self.tol
        idle, bound, least = 0, -math.inf, np.full(3, np.inf)
        nu = -iterate.loss.gradient
        for _ in range(_STEPS):
            self.deadline.check()
            length = iterate.step()
            nu, value, top = self.dual_point(blocks, iterate)
            bound = max(bound, value)
            objective = self.offer(ids, blocks, iterate.vectors)
            gap = relative_gap(min(objective, self.best.objective), bound)
            self.best = replace(self.best, n_iter=self.best.n_iter + 1)
            if everything or gap <= wanted:
                self.offer_bound(nu)
            self.record(top)
            # The gap falls last: before it do the products and the heights.
            left = np.array([gap, iterate.complementarity()[0], iterate.dual[0, 0] - problem.beta])
            idle = idle + 1 if length < _SHORT or np.all(left > _SLOW * least) else 0
            least = np.minimum(left, least)
            if gap <= wanted or self.gap() <= self.tol or idle >= _PATIENCE or self.best.n_iter >= max_iter:
                break
        self.clean(ids, blocks, iterate.vectors)
        return row_norms(iterate.vectors), nu

    # -- parts ---------------------------------------------------------------------------------------------------------

    def working_set(self, norms: FloatArray) -> IntArray:
        """Patterns to begin with: all of them where a step with all is cheap, else those of the largest norms."""
        n, d = self.problem.X.shape
        room = _OPERATIONS / (n * d)
        # The matrix of a step takes n k d min(n, k d) operations.
        count = int(max(10.0, room / n, min(math.sqrt(room / d), n / d), len(self.best.index)))
        if count >= len(norms):
            return np.arange(len(norms))
        return np.sort(np.argsort(-norms, kind="stable")[:count])

    def directions(self, blocks: BlockData) -> FloatArray:
        """Unit vectors to start from: the gradients at the zero network, ``(k, d)``."""
        problem = self.problem
        out = blocks.fit_adjoint(problem.dual_vector(np.zeros(problem.n_samples)))
        sizes = row_norms(out)
        out[sizes == 0.0, 0] = 1.0
        return out / np.where(sizes > 0.0, sizes, 1.0)[:, None]

    def price(self, nu: FloatArray) -> FloatArray:
        """Norms ``||X^T D_i nu||`` of all blocks."""
        weighted = self.problem.X * nu[:, None]
        out = np.empty(len(self.patterns))
        for piece, masks in self.patterns.chunks(max(1, _SLAB // len(nu))):
            self.deadline.check()
            out[piece] = row_norms(masks.astype(np.float64) @ weighted)
        return out

    def dual_point(self, blocks: BlockData, iterate: ConeIteration) -> tuple[FloatArray, float, float]:
        """Better one of the dual vectors of the iterate and of its fit, with its value and largest norm."""
        problem, found = self.problem, None
        for gradient in (iterate.loss.gradient, problem.loss_gradient(iterate.loss.fit)):
            nu = problem.project_dual(-gradient)
            top = float(np.max(row_norms(blocks.fit_adjoint(nu))))
            value = self.value(nu, top / problem.beta)
            if found is None or value > found[1]:
                found = nu, value, top
        assert found is not None
        return found

    def value(self, nu: FloatArray, excess: float) -> float:
        """Dual value less its rounding, for a vector whose largest norm is ``excess`` penalties."""
        problem = self.problem
        return dual_bound(problem.loss, problem.y, problem.sample_weight, nu, excess)

    # -- results -------------------------------------------------------------------------------------------------------

    def gap(self) -> float:
        """Relative duality gap of the best points."""
        return relative_gap(self.best.objective, self.best.lower_bound)

    def objective(self, blocks: BlockData, vectors: FloatArray) -> float:
        """Objective of some blocks."""
        problem = self.problem
        return problem.loss_value(blocks.fit(vectors)) + problem.beta * float(np.sum(row_norms(vectors)))

    def offer(self, ids: IntArray, blocks: BlockData, vectors: FloatArray) -> float:
        """Keep the blocks if they are the best so far; their objective."""
        objective = self.objective(blocks, vectors)
        if objective < self.best.objective:
            self.keep(ids, vectors, objective)
        return objective

    def keep(self, ids: IntArray, vectors: FloatArray, objective: float) -> None:
        """Keep blocks, in the units of the problem, and forget those that are zero."""
        few = row_norms(vectors) > 0.0
        vectors = vectors[few]
        wide = np.ldexp(vectors if self.basis is None else vectors @ self.basis.T, -self.exponent)
        self.best = replace(self.best, index=self.origin[ids[few]], vectors=wide, objective=objective)

    def offer_bound(self, nu: FloatArray) -> None:
        """Keep a dual vector of the domain if its bound for all patterns is the best so far."""
        bound = self.value(nu, self.norms.largest(nu)[0] / self.beta)
        if bound > self.best.lower_bound:
            self.best = replace(self.best, dual=nu, lower_bound=bound)

    def clean(self, ids: IntArray, blocks: BlockData, vectors: FloatArray) -> None:
        """Set the vanishing blocks to zero where that leaves the gap within the tolerance or lowers the objective."""
        sizes = row_norms(vectors)
        for level in _DUST:
            tried = np.where((sizes > level * np.max(sizes, initial=0.0))[:, None], vectors, 0.0)
            objective = self.objective(blocks, tried)
            within = self.gap() <= self.tol and relative_gap(objective, self.best.lower_bound) <= self.tol
            if within or objective < self.best.objective:
                self.keep(ids, tried, objective)
                return

    def record(self, largest: float) -> None:
        """Write a row of the history; ``largest`` is the largest norm of the working set."""
        best = self.best
        self.recorder.record(
            "blocks",
            best.n_iter,
            objective=best.objective,
            lower_bound=best.lower_bound,
            estimate=best.lower_bound,
            width=len(best.index),
            violation=max(0.0, largest / self.problem.beta - 1.0),
        )
