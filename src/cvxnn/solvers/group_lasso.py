r"""Group lasso over activation patterns: working sets, a path of penalties, and the duality gap as stopping rule.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

The few blocks that are nonzero are found by pricing all of them, :math:`\|X^T D_i \nu\| > \beta`, one matrix product
over the packed masks. Each working set is solved by Newton's method in one scalar for each block.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import History, Status
from cvxnn.solvers._eta_newton import Model, OutOfTime, State, minimise_weights
from cvxnn.solvers._group_fista import minimise_blocks
from cvxnn.solvers._ridge import Blocks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["GroupLassoResult", "solve_group_lasso"]

# Floats of a slab of masks.
_SLAB = 1 << 22
# Factor between two penalties of the path, and the relative gap at which a penalty is left.
_PATH_FACTOR = 10.0
_PATH_GAP = 0.1
# Working sets in a row without progress before a penalty is left or the solve ends.
_PATIENCE = 6
_MAX_ITER = 200


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
    run = _Run(problem, patterns, tol, time_limit, Recorder(False) if recorder is None else recorder)
    try:
        status = run.solve(_MAX_ITER if max_iter is None else max_iter, warm_start)
    except OutOfTime:
        status = Status.TIME_LIMIT
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return run.result(status)


class _Run:
    """One solve: the scaled problem, the best primal and dual points, and the record."""

    def __init__(
        self,
        problem: Problem,
        patterns: ActivationPatterns,
        tol: float,
        time_limit: float | None,
        recorder: Recorder,
    ) -> None:
        self.deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
        self.problem, self.tol, self.recorder = problem, tol, recorder
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
        vectors = state.w[:, None] * state.vectors
        penalty = float(np.sum(np.sqrt(np.sum(vectors * vectors, axis=1))))
        objective = self.model.value(state.fit) + self.beta * penalty
        if objective < self.objective:
            active = state.w > 0
            self.objective = objective
            self.best = (blocks.ids[active], vectors[active])

    def bound_from(self, nu: FloatArray, norms: FloatArray) -> None:
        """Update the lower bound by a dual vector with known norms."""
        # The certificate adds rounding to the norms; twice that here, so that it will agree.
        magnitude = np.abs(self.model.X).T @ np.abs(nu)
        slack = 4.0 * (len(nu) + 8) * float(np.finfo(np.float64).eps) * float(np.linalg.norm(magnitude))
        tau = math.ldexp(float(np.max(norms)) + slack, self.exponent)
        bound, _ = scaled_dual_bound(self.problem, nu, tau)
        if bound > self.bound:
            self.bound, self.dual = bound, nu

    def gap(self) -> float:
        return (self.objective - self.bound) / max(abs(self.objective), float(np.finfo(np.float64).tiny))

    # -- course --------------------------------------------------------------------------------------------------------

    def solve(self, max_iter: int, warm_start: FloatArray | None) -> Status:
        nu = self.dual
        norms = self.price(nu)
        top = float(np.max(norms, initial=0.0))
        self.bound_from(nu, norms)
        self.record(top)
        if top <= self.beta or self.gap() <= self.tol:
            return Status.PATTERNS_OPTIMUM
        w = np.zeros(0)
        blocks = self.blocks(np.zeros(0, dtype=np.int64))
        if warm_start is None:
            penalty = max(self.beta, top / _PATH_FACTOR)
        else:
            penalty = self.beta
            blocks, w = self.warm_blocks(warm_start)
        alpha = nu / penalty
        inner_tol, path_gap, stuck = 0.1, math.inf, 0
        while True:
            final = penalty <= self.beta
            self.model.beta = penalty
            blocks, w = self.extend(blocks, w, norms / penalty)
            state = self.newton(blocks, w, alpha, inner_tol)
            self.n_iter += 1
            nu = self.dual_point(state)
            norms = self.price(nu)
            self.bound_from(nu, norms)
            self.record(float(np.max(norms)))
            if self.gap() <= self.tol:
                return Status.PATTERNS_OPTIMUM
            if self.n_iter >= max_iter:
                return Status.MAX_ITER
            previous, path_gap = path_gap, self.penalty_gap(state, nu, float(np.max(norms)) / penalty)
            keep = state.w > 0
            blocks, w, alpha = blocks.take(keep), state.w[keep], state.alpha
            stuck = stuck + 1 if path_gap >= 0.9 * previous else 0
            if not final and (path_gap <= _PATH_GAP or stuck >= _PATIENCE):
                penalty, inner_tol, path_gap, stuck = max(self.beta, penalty / _PATH_FACTOR), 0.1, math.inf, 0
            elif final and stuck >= _PATIENCE and inner_tol <= 1e-2 * self.tol:
                return Status.STALLED
            else:
                inner_tol = min(0.1 * path_gap, inner_tol * (0.1 if stuck else 1.0))
                inner_tol = max(inner_tol, (1e-4 if stuck else 0.3) * self.tol)

    def blocks(self, ids: IntArray) -> Blocks:
        masks = self.patterns.subset(ids).masks
        return Blocks(self.model.X, np.ascontiguousarray(masks.T, dtype=np.float64), ids)

    def warm_blocks(self, warm_start: FloatArray) -> tuple[Blocks, FloatArray]:
        """Weights of given blocks; those of equal patterns are added up."""
        vectors = warm_start if self.basis is None else warm_start @ self.basis
        lengths = np.sqrt(np.sum(vectors * vectors, axis=1))[self.origin]
        ids = np.flatnonzero(lengths > 0)
        return self.blocks(ids), np.ldexp(lengths[ids], self.exponent)

    def extend(self, blocks: Blocks, w: FloatArray, norms: FloatArray) -> tuple[Blocks, FloatArray]:
        """Add the most violated blocks at weight zero."""
        outside = norms.copy()
        outside[blocks.ids] = 0.0
        room = max(10, len(w))
        candidates = np.flatnonzero(outside > 1.0)
        if candidates.size > room:
            order = np.argsort(-outside[candidates], kind="stable")
            candidates = np.sort(candidates[order[:room]])
        if candidates.size == 0:
            return blocks, w
        fresh = self.blocks(candidates)
        merged = Blocks(blocks.X, np.hstack([blocks.masks, fresh.masks]), np.concatenate([blocks.ids, fresh.ids]))
        return merged, np.concatenate([w, np.zeros(candidates.size)])

    def newton(self, blocks: Blocks, w: FloatArray, alpha: FloatArray, inner_tol: float) -> State:
        def done(state: State) -> bool:
            self.note(state, blocks)
            if self.model.expired():
                raise OutOfTime
            nu = self.dual_point(state)
            return self.penalty_gap(state, nu, float(np.max(state.norms, initial=0.0))) <= inner_tol

        if not self.model.fits(len(w)):
            return minimise_blocks(self.model, blocks, self.starting_vectors(blocks, w, alpha), done=done)
        self.model.accuracy = 1e-2 * inner_tol
        return minimise_weights(self.model, blocks, w, alpha, done=done)

    def starting_vectors(self, blocks: Blocks, w: FloatArray, alpha: FloatArray) -> FloatArray:
        """Blocks with lengths ``w`` along the correlations with the dual vector."""
        correlations = blocks.correlate(alpha)
        lengths = np.sqrt(np.sum(correlations * correlations, axis=1))
        return correlations * np.divide(w, lengths, out=np.zeros_like(w), where=lengths > 0)[:, None]

    def penalty_gap(self, state: State, nu: FloatArray, excess: float) -> float:
        """Relative gap at the penalty of the path, when the largest norm is ``excess`` penalties."""
        problem = self.problem
        scale = 1.0 / max(1.0, excess)
        scale = min(scale, problem.loss.dual_scale_limit(nu, problem.y, problem.sample_weight))
        point = problem.loss.project_dual(scale * nu, problem.y, problem.sample_weight)
        return (state.objective - problem.dual_value(point)) / max(abs(state.objective), 1e-300)

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
