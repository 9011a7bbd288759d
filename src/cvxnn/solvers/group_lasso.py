r"""Group lasso over activation patterns: working sets, a path of penalties, and the duality gap as stopping rule.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

The few blocks that are nonzero are found by pricing all of them, :math:`\|X^T D_i \nu\| > \beta`, one matrix product
over the packed masks. Each working set is solved by Newton's method in one scalar for each block. A quarter of the
samples gives the first working set where there are many; beyond :data:`ROWS` samples the method is that of
:mod:`cvxnn.solvers.group_lasso_rows`, which needs no matrix of their number squared.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import History, Status
from cvxnn.solvers._eta_newton import Model, State, evaluate, minimise_weights
from cvxnn.solvers._ridge import Blocks
from cvxnn.solvers._ridge_newton import OutOfTime

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["GroupLassoResult", "solve_group_lasso"]

# Floats of a slab of masks.
_SLAB = 1 << 22
# Relative gap at which a penalty of the path is left.
_PATH_GAP = 0.1
# Samples beyond which the method by rows is faster and smaller.
ROWS = 5000
# Samples from which on a part of them gives the start, the part, and the relative gap that it is solved to.
_SAMPLED = 900
_SAMPLE_PART = 4
_SAMPLE_GAP = 1e-2
# Nonzero columns at the start, relative to the samples, up to which the method by rows is the faster one.
_FEW_COLUMNS = 1.75
# Steps of that method before it is given up.
_ROW_STEPS = 20
# Cost of pricing all patterns, relative to a factorisation, up to which it follows every Newton step.
_CHEAP_PRICE = 0.1
# Iterations after which a solve that is not done takes several steps between two pricings all the same.
_SINGLE_STEPS = 12
# Working sets in a row without progress before a penalty is left or the solve ends.
_PATIENCE = 6
_MAX_ITER = 200
_EPS = float(np.finfo(np.float64).eps)
_TINY = 1e-300


@dataclass(frozen=True)
class GroupLassoResult:
    """Blocks found, dual vector and course of the solve.

    Attributes
    ----------
    index : ndarray (k,)
        Patterns with a nonzero block, increasing.
    vectors : ndarray (k, d)
        Their blocks ``u_i``.
    dual : ndarray (n,)
        Dual vector with the best bound.
    status : Status
    history : History
    n_iter : int
        Working sets that were solved.
    """

    index: IntArray
    vectors: FloatArray
    dual: FloatArray
    status: Status
    history: History
    n_iter: int


def solve_group_lasso(
    problem: Problem,
    patterns: ActivationPatterns,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int | None = None,
    warm_start: FloatArray | None = None,
    recorder: Recorder | None = None,
) -> GroupLassoResult:
    """Solve the group lasso to a relative duality gap.

    Parameters
    ----------
    problem : Problem
        Data, loss and a positive ``beta``.
    patterns : ActivationPatterns
        One block for each pattern; of equal patterns only the first carries weight.
    tol : float, default 1e-6
        Relative duality gap.
    time_limit : float, optional
        Seconds; checked between factorisations.
    max_iter : int, optional
        Working sets, 200 by default.
    warm_start : ndarray (P, d), optional
        Blocks to start from; the path of penalties is skipped.
    recorder : Recorder, optional
        Keeps the history, one row a working set, and calls back.

    Returns
    -------
    GroupLassoResult

    Examples
    --------
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> result = solve_group_lasso(problem, ActivationPatterns.from_masks([[True]], [[1.0]]))
    >>> result.vectors.round(6)
    array([[1.5]])
    """
    from cvxnn.solvers.group_lasso_rows import solve_group_lasso_rows

    begin = time.perf_counter()
    recorder = Recorder(False) if recorder is None else recorder
    start, by_rows = warm_start, problem.n_samples > ROWS
    try:
        if not by_rows and problem.n_samples >= _SAMPLED:
            if start is None:
                start = _sampled_start(problem, patterns, None if time_limit is None else begin + time_limit)
            by_rows = start is not None and _few_columns(problem, start)
    except OutOfTime:
        by_rows = False
    except KeyboardInterrupt:
        return _Run(problem, patterns, tol, math.inf, recorder).result(Status.INTERRUPTED)
    limit = _MAX_ITER if max_iter is None else max_iter
    first = None
    if by_rows:
        left = None if time_limit is None else max(0.0, time_limit - (time.perf_counter() - begin))
        # Few samples can go to the other method where this one is slow; many cannot.
        steps = limit if problem.n_samples > ROWS else min(limit, _ROW_STEPS)
        first = solve_group_lasso_rows(
            problem, patterns, tol=tol, time_limit=left, max_iter=steps, warm_start=start, recorder=recorder
        )
        if problem.n_samples > ROWS or steps == limit or first.status not in (Status.MAX_ITER, Status.STALLED):
            return first
    run = _Run(problem, patterns, tol, math.inf if time_limit is None else begin + time_limit, recorder)
    if first is not None:
        start = run.continue_from(first, len(patterns))
    try:
        status = run.solve(limit, start)
    except OutOfTime:
        status = Status.TIME_LIMIT
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return run.result(status)


def _sampled_start(problem: Problem, patterns: ActivationPatterns, deadline: float | None) -> FloatArray | None:
    """Blocks ``(P, d)`` of the problem on a part of the samples; nothing where that has fewer than features."""
    counted = np.flatnonzero(problem.sample_weight > 0)
    size = counted.size // _SAMPLE_PART
    if size < problem.n_features:
        return None
    rows = np.sort(np.random.default_rng(0).permutation(counted)[:size])
    weight = problem.sample_weight[rows]
    weight *= float(np.sum(problem.sample_weight)) / float(np.sum(weight))
    part = Problem(problem.X[rows], problem.y[rows], problem.beta, problem.loss, sample_weight=weight)
    masks = np.concatenate([piece[:, rows] for _, piece in patterns.chunks(max(1, _SLAB // len(counted)))])
    few = ActivationPatterns.from_masks(masks, patterns.gates)
    run = _Run(part, few, _SAMPLE_GAP, math.inf if deadline is None else deadline, Recorder(False))
    run.solve(_MAX_ITER, None)
    result = run.result(Status.STALLED)
    vectors = np.zeros((len(patterns), problem.n_features))
    vectors[result.index] = result.vectors
    return vectors


def _few_columns(problem: Problem, start: FloatArray) -> bool:
    """Whether the nonzero blocks have so few columns that products with them cost less than a kernel."""
    active = np.count_nonzero(np.any(start != 0.0, axis=1))
    return int(active) * problem.n_features <= _FEW_COLUMNS * problem.n_samples


class _Run:
    """One solve: the scaled problem, the best primal and dual points, and the record."""

    def __init__(
        self, problem: Problem, patterns: ActivationPatterns, tol: float, deadline: float, recorder: Recorder
    ) -> None:
        self.problem, self.tol, self.deadline, self.recorder = problem, tol, deadline, recorder
        self.origin = first_occurrences(patterns.packed)
        self.patterns = patterns.subset(self.origin)
        # A power of two brings X to order one exactly; u and beta change by the inverse.
        largest = float(np.max(np.abs(problem.X)))
        self.exponent = math.frexp(largest)[1] if largest > 0 else 0
        X = np.ldexp(problem.X, -self.exponent)
        # With n < d the blocks lie in the row space: X^T = Q R leaves n coordinates.
        self.basis: FloatArray | None = None
        if X.shape[0] < X.shape[1]:
            self.basis, triangle = np.linalg.qr(X.T)
            X = np.ascontiguousarray(triangle.T)
        self.beta = math.ldexp(problem.beta, -self.exponent)
        self.model = Model(
            X, problem.y, problem.sample_weight, problem.loss, self.beta, lambda: time.perf_counter() > self.deadline
        )
        self.zero_fit = np.zeros(problem.n_samples)
        self.objective = problem.loss_value(self.zero_fit)
        self.best: tuple[IntArray, FloatArray] = (np.zeros(0, dtype=np.int64), np.zeros((0, X.shape[1])))
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
        self.objective, self.bound = float(result.history.objective[-1]), float(result.history.lower_bound[-1])
        self.dual, self.n_iter = result.dual, result.n_iter
        return vectors

    # -- pricing -------------------------------------------------------------------------------------------------------

    def price(self, nu: FloatArray) -> FloatArray:
        """Norms ``||X^T D_i nu||`` of all blocks, ``(P,)``."""
        out = np.empty(len(self.patterns))
        weighted = self.model.X * nu[:, None]
        for piece, masks in self.patterns.chunks(max(1, _SLAB // len(nu))):
            blocks = masks.astype(np.float64) @ weighted
            out[piece] = np.sqrt(np.sum(blocks * blocks, axis=1))
        return out

    def dual_point(self, state: State) -> FloatArray:
        """Dual vector ``beta * alpha`` of a state.

        It equals minus the gradient at the fit up to the residual of the ridge solve, but its norms are those that the
        state was solved for; on data with columns of very different scale the gradient's are not.
        """
        return self.problem.loss.project_dual(self.model.beta * state.alpha, self.problem.y, self.problem.sample_weight)

    def note(self, state: State, blocks: Blocks) -> None:
        """Keep the blocks of a state if they are the best so far."""
        lengths = state.w * state.norms
        objective = self.model.value(state.fit) + self.beta * float(np.sum(lengths))
        if objective < self.objective:
            active = state.w > 0
            self.objective = objective
            self.best = (blocks.ids[active], state.w[active, None] * state.vectors[active])

    def bound_from(self, nu: FloatArray, norms: FloatArray) -> None:
        """Update the lower bound by a dual vector with known norms."""
        # The certificate adds rounding to the norms; twice that here, so that it will agree.
        magnitude = np.abs(self.model.X).T @ np.abs(nu)
        slack = 4.0 * (len(nu) + 8) * _EPS * float(np.linalg.norm(magnitude))
        bound = self.dual_bound(nu, (float(np.max(norms)) + slack) / self.beta)
        if bound > self.bound:
            self.bound, self.dual = bound, nu

    def dual_bound(self, nu: FloatArray, excess: float) -> float:
        """Dual value less its rounding, for a vector whose largest norm is ``excess`` penalties."""
        problem = self.problem
        scale = min(1.0, problem.loss.dual_scale_limit(nu, problem.y, problem.sample_weight))
        scale = min(scale, 1.0 / excess if excess > 0.0 else 1.0) * (1.0 - 4.0 * _EPS)
        point = problem.loss.project_dual(scale * nu, problem.y, problem.sample_weight)
        slack = (len(nu) + 16) * _EPS * problem.loss.dual_magnitude(point, problem.y, problem.sample_weight)
        return problem.dual_value(point) - slack

    def gap(self) -> float:
        return (self.objective - self.bound) / max(abs(self.objective), _TINY)

    def penalty_gap(self, state: State, nu: FloatArray, excess: float) -> float:
        """Relative gap at the penalty of the path, when the largest norm is ``excess`` penalties."""
        return (state.objective - self.dual_bound(nu, excess)) / max(abs(state.objective), _TINY)

    # -- course --------------------------------------------------------------------------------------------------------

    def solve(self, max_iter: int, warm_start: FloatArray | None) -> Status:
        nu = self.problem.dual_vector(self.zero_fit)
        norms = self.price(nu)
        top = float(np.max(norms, initial=0.0))
        self.bound_from(nu, norms)
        if self.n_iter == 0:
            self.record(top)
        if top <= self.beta or self.gap() <= self.tol:
            return Status.PATTERNS_OPTIMUM
        if warm_start is not None and np.any(warm_start):
            penalties = [self.beta]
            blocks, w, nu, norms = self.given_blocks(warm_start)
        else:
            count = max(1, math.ceil(math.log10(top / self.beta) - 0.3))
            penalties = [self.beta * (top / self.beta) ** (i / count) for i in range(count - 1, 0, -1)] + [self.beta]
            blocks, w = self.blocks(np.zeros(0, dtype=np.int64)), np.zeros(0)
        for penalty in penalties:
            self.model.beta, self.model.accuracy = penalty, 1e-3
            state = evaluate(self.model, blocks, w, nu / penalty)
            blocks, state, nu, norms, status = self.solve_penalty(blocks, state, norms, max_iter)
            if status is not None:
                return status
            w = state.w
        return Status.STALLED

    def solve_penalty(
        self, blocks: Blocks, state: State, norms: FloatArray, max_iter: int
    ) -> tuple[Blocks, State, FloatArray, FloatArray, Status | None]:
        """Alternate working sets and pricing at one penalty; no status where the path goes on."""
        penalty = self.model.beta
        final = penalty <= self.beta
        inner_tol, path_gap, stuck = 0.1, math.inf, 0
        while True:
            blocks, state = self.extend(blocks, state, norms / penalty)
            state = self.newton(blocks, state, inner_tol)
            self.n_iter += 1
            nu = self.dual_point(state)
            norms = self.price(nu)
            self.bound_from(nu, norms)
            self.record(float(np.max(norms)))
            previous, path_gap = path_gap, self.penalty_gap(state, nu, float(np.max(norms)) / penalty)
            keep = state.w > 0
            blocks, state = blocks.take(keep), state.take(keep)
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

    def blocks(self, ids: IntArray) -> Blocks:
        masks = self.patterns.subset(ids).masks
        return Blocks(self.model.X, masks.astype(np.float64).T, ids)

    def given_blocks(self, vectors: FloatArray) -> tuple[Blocks, FloatArray, FloatArray, FloatArray]:
        """Blocks with their weights, their dual vector and its norms."""
        u = (vectors if self.basis is None else vectors @ self.basis)[self.origin]
        lengths = np.sqrt(np.sum(u * u, axis=1))
        ids = np.flatnonzero(lengths > 0)
        blocks = self.blocks(ids)
        nu = -self.model.gradient(blocks.fit(np.ldexp(u[ids], self.exponent)))
        return blocks, np.ldexp(lengths[ids], self.exponent), nu, self.price(nu)

    def extend(self, blocks: Blocks, state: State, norms: FloatArray) -> tuple[Blocks, State]:
        """Add the most violated blocks at weight zero."""
        outside = norms.copy()
        outside[blocks.ids] = 0.0
        # So many further blocks cost less than the factorisation.
        room = max(10, len(state.w), len(self.model.y) // 4)
        candidates = np.flatnonzero(outside > 1.0)
        if candidates.size > room:
            order = np.argsort(-outside[candidates], kind="stable")
            candidates = np.sort(candidates[order[:room]])
        if candidates.size == 0:
            return blocks, state
        fresh = self.blocks(candidates)
        return blocks.join(fresh), state.extend(fresh)

    def newton(self, blocks: Blocks, state: State, inner_tol: float) -> State:
        """Newton steps on the working set: to a relative gap, or a single one where pricing is cheap."""
        accuracy, steps = inner_tol, 60
        if self.single_steps and self.n_iter < _SINGLE_STEPS:
            # The gap after a step is about the square of the one before.
            accuracy, inner_tol, steps = max(self.tol, inner_tol * inner_tol), 0.3 * self.tol, 1
        self.model.accuracy = 3e-2 * accuracy

        def done(state: State) -> bool:
            self.note(state, blocks)
            if self.model.expired():
                raise OutOfTime
            nu = self.dual_point(state)
            return self.penalty_gap(state, nu, float(np.max(state.norms, initial=0.0))) <= inner_tol

        return minimise_weights(self.model, blocks, state, done=done, max_steps=steps)

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
        ids, vectors = self.best
        vectors = np.ldexp(vectors if self.basis is None else vectors @ self.basis.T, -self.exponent)
        index = self.origin[ids]
        order = np.argsort(index)
        return GroupLassoResult(index[order], vectors[order], self.dual, status, self.recorder.history(), self.n_iter)
