r"""Group lasso over activation patterns: working sets, a path of penalties, and the duality gap as stopping rule.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

The few blocks that are nonzero are found by pricing all of them, :math:`\|X^T D_i \nu\| > \beta`, one matrix product
over the packed masks. Each working set is solved by Newton's method in one scalar for each block. Once the square of
the gap is within the tolerance, the best lengths of the blocks along their dual directions often end the solve
(:mod:`cvxnn.solvers.group_lasso._lengths`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import relative_gap
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso._common import (
    Deadline,
    GroupLassoResult,
    concluded,
    dual_bound,
    fitting_scale,
    in_row_space,
    norm_slack,
)
from cvxnn.solvers.group_lasso._eta_newton import Model, State, evaluate, minimise_weights
from cvxnn.solvers.group_lasso._kernel_lengths import lengthened, worth_lengthening
from cvxnn.solvers.group_lasso._lengths import CLOSE
from cvxnn.solvers.group_lasso._ridge import WorkingBlocks
from cvxnn.solvers.group_lasso.interior import patience_before

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["KernelRun"]

# Floats of a slab of masks, and masks up to which all are kept: in single precision, and as truth values.
_SLAB = 1 << 20
_KEPT, _KEPT_TRUTHS = 1 << 19, 1 << 23
_NONE = np.zeros(0, dtype=np.int64)
_SINGLE_EPS = float(np.finfo(np.float32).eps)
# Relative gap at which a penalty of the path is left.
_PATH_GAP = 0.1
# Cost of pricing all patterns, relative to a factorisation, up to which it follows every Newton step.
_CHEAP_PRICE = 0.1
# Iterations after which a solve that is not done takes several steps between two pricings all the same.
_SINGLE_STEPS = 12
# Working sets in a row without progress before a penalty is left or the solve ends.
_PATIENCE = 6


class KernelRun:
    """One solve: the scaled problem, the best primal and dual points, and the record.

    Unless it is ``patient`` it ends as stalled after as much work as the interior-point method would take.
    """

    def __init__(
        self,
        problem: Problem,
        patterns: ActivationPatterns,
        tol: float,
        deadline: float,
        recorder: Recorder,
        *,
        patient: bool = False,
    ) -> None:
        self.problem, self.tol, self.deadline, self.recorder = problem, tol, Deadline(deadline), recorder
        self.origin = first_occurrences(patterns.packed)
        self.patterns = patterns.subset(self.origin)
        X, self.exponent, self.basis = in_row_space(problem.X)
        self.beta = math.ldexp(problem.beta, -self.exponent)
        self.model = Model(X, problem.y, problem.sample_weight, problem.loss, self.beta, self.deadline.check)
        self.model.most_factorised = math.inf if patient else patience_before(problem, len(self.patterns))
        self._kept: SingleArray | npt.NDArray[np.bool_] | None = None
        self.zero_fit = np.zeros(problem.n_samples)
        self.objective = problem.loss_value(self.zero_fit)
        self.best: tuple[IntArray, FloatArray] = (_NONE, np.zeros((0, X.shape[1])))
        self.dual = problem.dual_vector(self.zero_fit)
        self.bound = 0.0
        self.n_iter = 0
        n, d = X.shape
        # Where a Newton step costs far more than pricing, each is followed by it.
        self.single_steps = self.model.constant_curvature and len(self.patterns) * d <= _CHEAP_PRICE * n * n

    def continue_from(self, result: GroupLassoResult, n_patterns: int) -> FloatArray:
        """Take over what another method has found; its blocks are the start."""
        vectors = np.zeros((n_patterns, self.problem.n_features))
        vectors[result.index] = result.vectors
        u = vectors[self.origin] if self.basis is None else vectors[self.origin] @ self.basis
        ids = np.flatnonzero(np.any(u != 0.0, axis=1))
        self.best = (ids, np.ldexp(u[ids], self.exponent))
        self.objective, self.bound = result.objective, result.lower_bound
        self.dual, self.n_iter = result.dual, result.n_iter
        return vectors

    def begin_at(self, vectors: FloatArray) -> None:
        """Take over blocks ``(P, d)``, some of them nonzero perhaps, as the start of another method."""
        norms = self.given_blocks(vectors)[3] if np.any(vectors) else np.zeros(1)
        self.record(float(np.max(norms)))

    # -- pricing -------------------------------------------------------------------------------------------------------

    def price(self, nu: FloatArray, ids: IntArray, known: FloatArray) -> FloatArray:
        """Norms ``||X^T D_i nu||`` of all blocks, ``(P,)``; those of the blocks ``ids`` are known.

        The product is in single precision; norms that may be the largest are computed in double precision after it.
        """
        out = np.empty(len(self.patterns))
        size = float(np.max(np.abs(nu)))
        if size == 0.0:
            out[:] = 0.0
            return out
        weighted = self.model.X * (nu / size)[:, None]
        single = weighted.astype(np.float32)
        for piece, masks in self._single_masks():
            blocks = masks @ single
            out[piece] = np.sqrt(np.einsum("ij,ij->i", blocks, blocks))
        slack = 4.0 * _SINGLE_EPS * float(np.linalg.norm(np.sum(np.abs(single), axis=0)))
        known = known / size
        floor = max(float(np.max(known, initial=0.0)), float(np.max(out, initial=0.0)) - slack)
        out[ids] = known
        near = out + slack > floor
        near[ids] = False
        index = np.flatnonzero(near)
        step = max(1, _SLAB // len(nu))
        for start in range(0, index.size, step):
            few = index[start : start + step]
            blocks = self.patterns.subset(few).masks.astype(np.float64) @ weighted
            out[few] = np.sqrt(np.sum(blocks * blocks, axis=1))
        return out * size

    def _single_masks(self) -> Iterable[tuple[slice, SingleArray]]:
        """Masks in single precision, piece by piece; kept from one pricing to the next where they are small."""
        n = len(self.model.y)
        entries = len(self.patterns) * n
        step = max(1, _SLAB // n)
        if entries > _KEPT_TRUTHS:
            return ((piece, masks.astype(np.float32)) for piece, masks in self.patterns.chunks(step))
        if self._kept is None:
            masks = self.patterns.masks
            self._kept = masks.astype(np.float32) if entries <= _KEPT else masks
        kept, step = self._kept, max(1, step // 4)
        if entries <= _KEPT:
            return [(slice(None), kept.astype(np.float32, copy=False))]
        pieces = (slice(low, low + step) for low in range(0, len(kept), step))
        return ((piece, kept[piece].astype(np.float32)) for piece in pieces)

    def dual_point(self, state: State) -> FloatArray:
        """Dual vector ``beta * alpha`` of a state.

        It equals minus the gradient at the fit up to the residual of the ridge solve, but its norms are those that the
        state was solved for; on data with columns of very different scale the gradient's are not.
        """
        return self.problem.loss.project_dual(self.model.beta * state.alpha, self.problem.y, self.problem.sample_weight)

    def known_norms(self, blocks: WorkingBlocks, state: State, nu: FloatArray) -> FloatArray:
        """Norms of the working set for the dual vector of its state, ``(k,)``."""
        if np.array_equal(nu, self.model.beta * state.alpha):
            return self.model.beta * state.norms
        vectors = blocks.correlate(nu)
        return np.sqrt(np.sum(vectors * vectors, axis=1))

    def note(self, state: State, blocks: WorkingBlocks) -> None:
        """Keep the blocks of a state if they are the best so far."""
        lengths = state.w * state.norms
        objective = self.model.value(state.fit) + self.beta * float(np.sum(lengths))
        if objective < self.objective:
            active = state.w > 0
            self.objective = objective
            self.best = (blocks.ids[active], state.w[active, None] * state.vectors[active])

    def bound_from(self, nu: FloatArray, norms: FloatArray) -> float:
        """Lower bound that a dual vector with known norms gives; the best one is kept."""
        bound = self.dual_bound(nu, (float(np.max(norms)) + norm_slack(self.model.X, nu)) / self.beta)
        if bound > self.bound:
            self.bound, self.dual = bound, nu
        return bound

    def dual_bound(self, nu: FloatArray, excess: float) -> float:
        """Dual value less its rounding, for a vector whose largest norm is ``excess`` penalties."""
        return dual_bound(self.problem.loss, self.problem.y, self.problem.sample_weight, nu, excess)

    def gap(self) -> float:
        """Relative duality gap of the best points."""
        return relative_gap(self.objective, self.bound)

    def penalty_gap(self, state: State, nu: FloatArray, excess: float) -> float:
        """Relative gap at the penalty of the path, when the largest norm is ``excess`` penalties."""
        return relative_gap(state.objective, self.dual_bound(nu, excess))

    # -- course --------------------------------------------------------------------------------------------------------

    def finish(self, max_iter: int, warm_start: FloatArray | None) -> Status:
        """Solve; a deadline, an interrupt, a singular system or too many of them end it, and what was found is kept."""
        return concluded(lambda: self.solve(max_iter, warm_start))

    def solve(self, max_iter: int, warm_start: FloatArray | None) -> Status:
        """Price, then follow the path of penalties, or start from the blocks given."""
        begin = time.perf_counter()
        given = False
        if warm_start is not None and np.any(warm_start):
            given = True
            blocks, w, nu, norms = self.given_blocks(warm_start)
        else:
            nu = self.problem.dual_vector(self.zero_fit)
            norms = self.price(nu, _NONE, np.zeros(0))
            self.bound_from(nu, norms)
            blocks, w = self.blocks(_NONE), np.zeros(0)
        # The certificate prices once more.
        self.deadline.at -= time.perf_counter() - begin
        top = float(np.max(norms, initial=0.0))
        if self.n_iter == 0:
            self.record(top)
        if self.gap() <= self.tol or (not given and top <= self.beta):
            return Status.PATTERNS_OPTIMUM
        count = 1 if given else max(1, math.ceil(math.log10(top / self.beta) - 0.3))
        penalties = [self.beta * (top / self.beta) ** (i / count) for i in range(count - 1, 0, -1)] + [self.beta]
        for penalty in penalties:
            self.model.beta, self.model.accuracy = penalty, 1e-3
            state = evaluate(self.model, blocks, w, nu / penalty)
            blocks, state, nu, norms, status = self.solve_penalty(blocks, state, norms, max_iter)
            if status is not None:
                return status
            w = state.w
        return Status.STALLED

    def solve_penalty(
        self, blocks: WorkingBlocks, state: State, norms: FloatArray, max_iter: int
    ) -> tuple[WorkingBlocks, State, FloatArray, FloatArray, Status | None]:
        """Alternate working sets and pricing at one penalty; no status where the path goes on."""
        penalty = self.model.beta
        final = penalty <= self.beta
        inner_tol, path_gap, stuck = 0.1, math.inf, 0
        while True:
            blocks, state = self.extend(blocks, state, norms / penalty)
            state = self.newton(blocks, state, inner_tol)
            self.n_iter += 1
            nu = self.dual_point(state)
            norms = self.price(nu, blocks.ids, self.known_norms(blocks, state, nu))
            bound, largest = self.bound_from(nu, norms), float(np.max(norms))
            self.record(largest)
            previous = path_gap
            path_gap = relative_gap(state.objective, bound) if final else self.penalty_gap(state, nu, largest / penalty)
            keep = state.w > 0
            blocks, state = blocks.take(keep), state.take(keep)
            if final and self.gap() > self.tol and worth_lengthening(path_gap, self.tol):
                self.lengthen(blocks, state, norms / penalty)
            stuck = stuck + 1 if path_gap >= 0.9 * previous else 0
            status = None
            if self.gap() <= self.tol:
                status = Status.PATTERNS_OPTIMUM
            elif self.n_iter >= max_iter:
                status = Status.MAX_ITER
            elif final and stuck >= _PATIENCE and inner_tol <= 1e-2 * self.tol:
                status = Status.STALLED
            if status is not None or (not final and (path_gap <= _PATH_GAP or stuck >= _PATIENCE)):
                return blocks, state, nu, norms, status
            inner_tol = min(0.1 * path_gap, inner_tol * (0.1 if stuck else 1.0))
            inner_tol = max(inner_tol, (1e-4 if stuck else 0.3) * self.tol)

    def blocks(self, ids: IntArray) -> WorkingBlocks:
        """Blocks of some patterns."""
        return WorkingBlocks(self.model.X, self.masks(ids).astype(np.float64).T, ids)

    def masks(self, ids: IntArray) -> npt.NDArray:
        """Masks of some patterns ``(k, n)``."""
        return self.patterns.subset(ids).masks if self._kept is None else self._kept[ids]

    def given_blocks(self, vectors: FloatArray) -> tuple[WorkingBlocks, FloatArray, FloatArray, FloatArray]:
        """Blocks with their weights, their dual vector and its norms."""
        u = (vectors if self.basis is None else vectors @ self.basis)[self.origin]
        lengths = np.sqrt(np.sum(u * u, axis=1))
        ids = np.flatnonzero(lengths > 0)
        blocks, u, w = self.blocks(ids), np.ldexp(u[ids], self.exponent), np.ldexp(lengths[ids], self.exponent)
        fit = blocks.fit(u)
        scale = fitting_scale(self.model.value, fit, self.beta * float(np.sum(w)))
        u, w, fit = scale * u, scale * w, scale * fit
        # A limit that ends the solve before its first step must not lose the start.
        objective = self.model.value(fit) + self.beta * float(np.sum(w))
        if objective < self.objective:
            self.objective, self.best = objective, (ids, u)
        nu = -self.model.gradient(fit)
        norms = self.price(nu, _NONE, np.zeros(0))
        self.bound_from(self.problem.loss.project_dual(nu, self.problem.y, self.problem.sample_weight), norms)
        return blocks, w, nu, norms

    def extend(self, blocks: WorkingBlocks, state: State, norms: FloatArray) -> tuple[WorkingBlocks, State]:
        """Add the most violated blocks at weight zero."""
        outside = norms.copy()
        outside[blocks.ids] = 0.0
        # So many further blocks cost less than the factorisation.
        n, active = len(self.model.y), len(state.w)
        room = max(10, active, n // 4)
        if self.single_steps:
            # The first steps choose few blocks, and choose again at the next pricing.
            room = max(10, active, n // 24, min(6 * active, n // 4))
        candidates = np.flatnonzero(outside > 1.0)
        if candidates.size > room:
            order = np.argsort(-outside[candidates], kind="stable")
            candidates = np.sort(candidates[order[:room]])
        if candidates.size == 0:
            return blocks, state
        blocks = blocks.extended(self.masks(candidates), candidates)
        return blocks, state.extend(blocks.last(candidates.size))

    def newton(self, blocks: WorkingBlocks, state: State, inner_tol: float) -> State:
        """Newton steps on the working set: to a relative gap, or a single one where pricing is cheap."""
        single = self.single_steps and self.n_iter < _SINGLE_STEPS
        # The gap after a step is about the square of the one before.
        accuracy = max(self.tol, inner_tol * inner_tol) if single else inner_tol
        self.model.accuracy = 3e-2 * accuracy

        def done(state: State) -> bool:
            self.note(state, blocks)
            self.deadline.check()
            if single:
                return True
            nu = self.dual_point(state)
            return self.penalty_gap(state, nu, float(np.max(state.norms, initial=0.0))) <= inner_tol

        if not single and done(state):
            return state
        return minimise_weights(self.model, blocks, state, done=done)

    def lengthen(self, blocks: WorkingBlocks, state: State, norms: FloatArray) -> None:
        """Try the best lengths along the vectors of the state, those of further blocks with large norms among them."""
        close = norms > 1.0 - CLOSE
        close[blocks.ids] = False
        fresh = np.flatnonzero(close)
        blocks = blocks.extended(self.masks(fresh), fresh)
        found = lengthened(self.model, blocks, state.extend(blocks.last(fresh.size)))
        if found is None:
            return
        blocks, vectors, fit = found
        nu = self.problem.loss.project_dual(-self.model.gradient(fit), self.problem.y, self.problem.sample_weight)
        known = blocks.correlate(nu)
        norms = self.price(nu, blocks.ids, np.sqrt(np.sum(known * known, axis=1)))
        self.bound_from(nu, norms)
        objective = self.model.value(fit) + self.beta * float(np.sum(np.sqrt(np.sum(vectors * vectors, axis=1))))
        if objective < self.objective:
            self.objective, self.best = objective, (blocks.ids, vectors)
        if self.gap() <= self.tol:
            self.n_iter += 1
            self.record(float(np.max(norms)))

    # -- results -------------------------------------------------------------------------------------------------------

    def record(self, largest: float) -> None:
        """Write a row of the history; ``largest`` is the largest norm over all blocks."""
        self.recorder.record(
            "start" if self.n_iter == 0 else "blocks",
            self.n_iter,
            objective=self.objective,
            lower_bound=self.bound,
            estimate=self.bound,
            width=len(self.best[0]),
            violation=max(0.0, largest / self.beta - 1.0),
        )

    def result(self, status: Status) -> GroupLassoResult:
        """Best points, in the units of the problem."""
        ids, vectors = self.best
        vectors = np.ldexp(vectors if self.basis is None else vectors @ self.basis.T, -self.exponent)
        index = self.origin[ids]
        order = np.argsort(index)
        return GroupLassoResult(
            index=index[order],
            vectors=vectors[order],
            dual=self.dual,
            objective=self.objective,
            lower_bound=self.bound,
            status=status,
            history=self.recorder.history(),
            n_iter=self.n_iter,
        )
