r"""Group lasso over activation patterns at many penalties, one after another, with one factorisation for several.

From one penalty to the next the weights of the blocks change little, and so does the matrix that Newton's method in
these weights factorises (:mod:`cvxnn.solvers.group_lasso._eta_newton`). Here it stays as it is for as long as the
duality gap falls fast: it preconditions the ridge problems and gives the curvature in the weights. All patterns are
priced after every step. Once the square of the gap is within the tolerance, the best lengths of the blocks along their
directions often end the penalty (:mod:`cvxnn.solvers.group_lasso._lengths`). Products are in single precision while
that serves; the result is evaluated in double.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from cvxnn.certificates.certificate import relative_gap
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.solvers.group_lasso._common import SINGLE_TOL, OutOfTime, dual_bound
from cvxnn.solvers.group_lasso._course import LEAST_GROWTH, MOST_GROWTH, Course
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._frozen import Frozen, weight_step
from cvxnn.solvers.group_lasso._kernel_square import KernelSquare
from cvxnn.solvers.group_lasso._lengths import CLOSE, best_lengths, unit_vectors, weighted_sum
from cvxnn.solvers.group_lasso._ridge import GramRidge, KernelRidge, WorkingBlocks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SingleArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]

__all__ = ["Continuation"]

# Most entries of the masks, kept as floats in single precision.
_LARGEST_MASKS = 1 << 24
# Gap from which on products are in double precision where single precision does not serve the tolerance.
_EXACT_GAP = 1e-4
# Most steps at a penalty, and steps without progress before it is given up.
_MOST_STEPS, _PATIENCE = 20, 3
# Further steps that the last one foretells beyond which the factorisation is made anew.
_MANY_STEPS = 1.5
# Columns of the blocks, relative to the samples, up to which these are not the ones to factorise a matrix for.
_FEW_COLUMNS = 0.25
# Steps of conjugate gradients in a step, and the factor by which they reduce the residual.
_LINEAR_STEPS, _REDUCTION = 8, 0.05
# Part of the residual left from which on the factorisation is no use as a preconditioner.
_POOR = 0.3
# Most Newton steps of a ridge problem, the least of their lengths, and the rounding of its objective.
_NEWTON_STEPS, _LEAST_LENGTH, _ROUNDING = 5, 1e-3, 1e-6
# Gap up to which lengths alone are worth a try, the factor of the gaps that they start from where the blocks are few
# beside the samples, and the bounds of the gap reached relative to the square of the one before.
_NEAR, _FEW_HOPE, _FEW_BLOCKS = 0.1, 10.0, 0.06
_LEAST_RATE, _MOST_RATE = 0.1, 10.0
# Most lengths in a row, and the gap relative to the tolerance up to which further vectors join; the turn of a vector
# from its block, relative to the tolerance, that asks for it: one minus the cosine.
_POLISHES, _AGAIN, _TURN = 3, 3.0, 0.3
# Part of the tolerance that is aimed for in single precision.
_MARGIN = 0.7


@dataclass(frozen=True)
class Found:
    """Solution at a penalty: weights ``(P,)``, dual vector over it ``(n,)``, and the nonzero blocks ``(k, d)``."""

    w: FloatArray
    alpha: FloatArray
    ids: IntArray
    blocks: FloatArray


class Continuation(Course):
    """Course over matrices of all samples: what is extrapolated are the weights of the blocks.

    Examples
    --------
    >>> patterns = ActivationPatterns.from_masks([[True]], [[1.0]])
    >>> course = Continuation(Problem([[1.0]], [2.0]), patterns)
    >>> [course.solve(beta, tol=1e-4)[0].round(6).tolist() for beta in (1.5, 0.5)]
    [[[0.5]], [[1.5]]]
    """

    def __init__(self, problem: Problem, patterns: ActivationPatterns) -> None:
        super().__init__(problem, patterns)
        self.masks: SingleArray = patterns.subset(self.origin).masks.astype(np.float32)
        X = np.ldexp(problem.X, -self.exponent)
        self.model = Model(X, problem.y, problem.sample_weight, problem.loss, 1.0, self.deadline.check)
        self.single: SingleArray = X.astype(np.float32)
        self.w: FloatArray = np.zeros(len(self.origin))
        self.alpha: FloatArray = np.zeros(problem.n_samples)
        self.frozen: Frozen | None = None
        self.square: KernelSquare | None = None
        self.rate = 1.0

    @staticmethod
    def serves(problem: Problem, patterns: ActivationPatterns) -> bool:
        """Whether the masks of all patterns are small enough to be kept as floats."""
        return len(patterns) * problem.n_samples <= _LARGEST_MASKS and problem.n_samples >= problem.n_features

    def solve(
        self, beta: float, *, tol: float, deadline: float = math.inf
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Blocks ``(P, d)``, their fit and the dual vector at a penalty, from the former one.

        None where the penalty is far from it, or where the steps lead nowhere. Whether the gap is within ``tol`` is for
        a certificate to say.
        """
        beta = math.ldexp(beta, -self.exponent)
        if self.is_far(beta):
            return None
        self.deadline.at, self.model.beta, self.n_steps = deadline, beta, 0
        alpha = self.alpha * (self.past[-1][0] / beta) if self.past else -self.model.gradient(self.alpha) / beta
        try:
            w = self.predicted(beta)
            if self.past and not self.model.constant_curvature:
                alpha = self.better(w, self.alpha, alpha)
            found = self.descend(w, alpha, _MARGIN * tol)
        except (LinAlgError, OutOfTime):
            found = None
        if found is None:
            self.frozen = None
            return None
        self.w, self.alpha = found.w, found.alpha
        self.remember(beta, self.w)
        return self.result(found)

    def resume(self, beta: float, vectors: FloatArray, nu: FloatArray) -> None:
        """Go on from a solution that another method has found: blocks ``(P, d)`` and dual vector."""
        beta = math.ldexp(beta, -self.exponent)
        lengths = np.sqrt(np.sum(vectors * vectors, axis=1))[self.origin]
        self.w, self.alpha = np.ldexp(lengths, self.exponent), nu / beta
        self.remember(beta, self.w)
        self.frozen = None

    def largest_penalty(self) -> float:
        """Penalty from which on the zero network is optimal, for the scaled data."""
        model = self.model
        nu = model.gradient(np.zeros(len(model.y)))
        size = float(np.max(np.abs(nu)))
        vectors = self.prices(nu / size, np.float32) if size > 0.0 else np.zeros((1, 1))
        return size * float(np.max(np.sqrt(np.sum(vectors * vectors, axis=1)), initial=0.0))

    def predicted(self, beta: float) -> FloatArray:
        """Weights continued linearly in the logarithm of the penalty."""
        if len(self.past) < 2:
            return self.w
        (_, w0), (_, w1) = self.past
        step = self.stride(beta)
        growth = np.divide(step * (w1 - w0), w1, out=np.zeros_like(w1), where=w1 > 0)
        return w1 * np.clip(1.0 + growth, LEAST_GROWTH, MOST_GROWTH)

    def better(self, w: FloatArray, *starts: FloatArray) -> FloatArray:
        """The start with the least objective of the ridge problem: one keeps ``alpha``, one the dual vector."""
        model, ids = self.model, np.flatnonzero(w > 0)
        values = []
        for alpha in starts:
            fit = self.product(ids, w[ids], np.float32)(alpha)
            values.append(model.value(fit) + 0.5 * model.beta * float(alpha @ fit))
        return starts[int(np.argmin(values))]

    def descend(self, w: FloatArray, alpha: FloatArray, tol: float) -> Found | None:
        """Newton steps in the weights until the gap is small; None where it does not fall."""
        model, gap, stuck, fresh = self.model, math.inf, 0, False
        best = math.inf, w, alpha
        for _ in range(_MOST_STEPS):
            self.deadline.check()
            self.n_steps += 1
            ids = np.flatnonzero(w > 0)
            dtype = np.float64 if tol < SINGLE_TOL and gap <= _EXACT_GAP else np.float32
            alpha, fit = self.ridge(ids, w[ids], alpha, dtype)
            vectors = self.prices(alpha, dtype)
            norms = np.sqrt(np.einsum("pd,pd->p", vectors, vectors)).astype(np.float64)
            previous, gap = gap, self.gap(w, alpha, fit, norms)
            if gap <= tol:
                return self.found(ids, w[ids] * norms[ids], vectors[ids], w, alpha)
            if gap <= _NEAR and self.rate * gap * gap <= self.ease(ids) * tol:
                polished = self.polished(w, vectors, norms, gap, tol)
                if polished is not None:
                    return polished
            stuck = 0 if gap < 0.9 * best[0] else stuck + 1
            if stuck > _PATIENCE:
                return None
            worse = gap > 2.0 * best[0]
            if gap < best[0]:
                best = gap, w, alpha
            if worse and not fresh:
                # The curvature was that of another point: back, and make it that of this one.
                gap, w, alpha = best
                ids = np.flatnonzero(w > 0)
                if ids.size == 0:
                    return None
                self.factorise(ids, w[ids], model.hessian(fit))
                fresh = True
                continue
            fresh = bool(
                not fresh
                and ids.size
                and self.frozen is not None
                and self.frozen.lasting
                and _steps_left(gap, previous, max(tol, min(_NEAR, math.sqrt(tol / self.rate)))) > _MANY_STEPS
            )
            if fresh:
                self.factorise(ids, w[ids], model.hessian(fit))
            moving = np.flatnonzero((w > 0) | (norms > 1.0))
            w = w.copy()
            w[moving] = self.stepped(moving, w[moving], vectors[moving], norms[moving], fit)
        return None

    def found(self, ids: IntArray, lengths: FloatArray, vectors: Floats, w: FloatArray, alpha: FloatArray) -> Found:
        """Blocks with some lengths along the vectors, whose norms are the weights ``w``, and the dual vector."""
        wide = vectors.astype(np.float64)
        sizes = np.sqrt(np.sum(wide * wide, axis=1))
        blocks = wide * np.divide(lengths, sizes, out=np.zeros_like(sizes), where=sizes > 0)[:, None]
        return Found(w, alpha, ids, blocks)

    def polished(self, w: FloatArray, vectors: Floats, norms: FloatArray, gap: float, tol: float) -> Found | None:
        """Best lengths along the vectors, and along those that follow, where they bring the gap within the tolerance.

        The first lengths leave violated norms where the vectors are not yet right. There the vectors of the new dual
        vector join the blocks found, for as long as that halves the gap.
        """
        model, dtype = self.model, np.float64 if tol < SINGLE_TOL else np.float32
        ids = np.flatnonzero((w > 0) | (norms > 1.0 - CLOSE))
        units, lengths = unit_vectors(vectors[ids]), w[ids] * norms[ids]
        rows = self.columns(ids, units, dtype)
        for k in range(_POLISHES):
            found = best_lengths(model, rows, lengths)
            if found is None:
                return None
            fit, last = weighted_sum(rows, found), gap
            nu = -model.gradient(fit)
            fresh = self.prices(nu / model.beta, dtype)
            sizes = np.sqrt(np.einsum("pd,pd->p", fresh, fresh)).astype(np.float64)
            bound = dual_bound(model.loss, model.y, model.weight, nu, float(np.max(sizes)))
            gap = relative_gap(model.value(fit) + model.beta * float(np.sum(found)), bound)
            if k == 0:
                self.rate = math.sqrt(self.rate * min(max(gap / (last * last), _LEAST_RATE), _MOST_RATE))
            if k > 0 and gap > 0.5 * last:
                return None
            U = np.zeros((len(w), units.shape[1]))
            np.add.at(U, ids, found[:, None] * units)
            new = np.sqrt(np.sum(U * U, axis=1))
            if gap <= tol:
                some = np.flatnonzero(new)
                return Found(new, nu / model.beta, some, U[some])
            if gap > _AGAIN * self.ease(ids) * tol:
                return None
            turned = np.einsum("pd,pd->p", U, fresh) < (1.0 - _TURN * tol) * new * sizes
            turned = np.flatnonzero(np.where(new > 0, turned, sizes > 1.0 - CLOSE))
            further = unit_vectors(fresh[turned])
            keep = found > 0
            ids, units = np.concatenate([ids[keep], turned]), np.concatenate([units[keep], further])
            rows = np.concatenate([rows[keep], self.columns(turned, further, dtype)])
            lengths = np.concatenate([found[keep], np.zeros(len(turned))])
        return None

    def ease(self, ids: IntArray) -> float:
        """Factor of the gaps that lengths may start from: where they take one small system they are cheap."""
        return _FEW_HOPE if self.model.constant_curvature and ids.size <= _FEW_BLOCKS * len(self.model.y) else 1.0

    def columns(self, ids: IntArray, units: FloatArray, dtype: type) -> Floats:
        """Columns ``D_i X v_i`` as rows ``(k, n)``."""
        return self.masks[ids].astype(dtype, copy=False) * (units.astype(dtype) @ self.data(dtype).T)

    def prices(self, alpha: FloatArray, dtype: type) -> Floats:
        """Vectors ``X^T D_i alpha`` of all blocks, ``(P, d)``."""
        return self.masks.astype(dtype, copy=False) @ (self.data(dtype) * alpha.astype(dtype)[:, None])

    def gap(self, w: FloatArray, alpha: FloatArray, fit: FloatArray, norms: FloatArray) -> float:
        """Relative duality gap at the weights, up to the rounding of the products."""
        model = self.model
        objective = model.value(fit) + model.beta * float(w @ norms)
        nu = model.loss.project_dual(model.beta * alpha, model.y, model.weight)
        bound = dual_bound(model.loss, model.y, model.weight, nu, float(np.max(norms)))
        return relative_gap(objective, bound)

    def factorise(self, ids: IntArray, w: FloatArray, curvature: FloatArray) -> None:
        """Make the factorisation anew at the present weights."""
        model, blocks = self.model, self.working(ids)
        if ids.size * model.X.shape[1] <= _FEW_COLUMNS * len(model.y):
            ridge = GramRidge(blocks, w, model.beta, model.cache)
        else:
            self.square = self.square or KernelSquare(self.single)
            ridge = KernelRidge(blocks, self.square, w, model.beta)
        ridge.factorise(curvature)
        root = np.sqrt(np.maximum(curvature, 1e-16 * float(np.max(curvature, initial=0.0)) + 1e-290))
        self.frozen = Frozen(ridge, root, model.beta, len(self.masks))

    def data(self, dtype: type) -> npt.NDArray[np.floating]:
        """Scaled data in a precision."""
        return self.single if dtype is np.float32 else self.model.X

    def working(self, ids: IntArray) -> WorkingBlocks:
        """Blocks of some patterns, in double precision."""
        return WorkingBlocks(self.model.X, self.masks[ids].astype(np.float64).T, ids)

    # -- ridge problem -------------------------------------------------------------------------------------------------

    def ridge(self, ids: IntArray, w: FloatArray, alpha: FloatArray, dtype: type) -> tuple[FloatArray, FloatArray]:
        """Inexact Newton steps of the ridge problem at fixed weights; the new ``alpha`` and its fit."""
        model = self.model
        if ids.size == 0:
            fit = np.zeros_like(alpha)
            return -model.gradient(fit) / model.beta, fit
        apply = self.product(ids, w, dtype)
        fit, first = apply(alpha), 0.0
        for _ in range(1 if model.constant_curvature else _NEWTON_STEPS):
            residual = -(model.beta * alpha + model.gradient(fit))
            size = float(np.linalg.norm(residual))
            if size <= _REDUCTION * first:
                break
            first = max(size, first)
            curvature = model.hessian(fit)
            if self.frozen is None or not self.frozen.lasting:
                self.factorise(ids, w, curvature)
            step, step_fit, left = self.linear_step(apply, residual, curvature)
            if left > _POOR and self.frozen is not None and self.frozen.lasting:
                self.factorise(ids, w, curvature)
                step, step_fit, _ = self.linear_step(apply, residual, curvature)
            t = 1.0 if model.constant_curvature else self.length(alpha, fit, step, step_fit)
            alpha, fit = alpha + t * step, fit + t * step_fit
        return alpha, fit

    def product(self, ids: IntArray, w: FloatArray, dtype: type) -> Callable[[FloatArray], FloatArray]:
        """Product with ``G`` at some weights, in a precision."""
        masks, X, weights = self.masks[ids].astype(dtype, copy=False), self.data(dtype), w.astype(dtype)[:, None]

        def apply(x: FloatArray) -> FloatArray:
            back = weights * (masks @ (X * x.astype(dtype)[:, None]))
            return np.einsum("nd,nd->n", X, masks.T @ back).astype(np.float64)

        return apply

    def length(self, alpha: FloatArray, fit: FloatArray, step: FloatArray, step_fit: FloatArray) -> float:
        """Step length, halved until the ridge problem's objective falls."""
        model = self.model

        def value(t: float) -> float:
            there = fit + t * step_fit
            return model.value(there) + 0.5 * model.beta * float((alpha + t * step) @ there)

        here, t = value(0.0), 1.0
        while t > _LEAST_LENGTH and not value(t) <= here * (1.0 + _ROUNDING):
            t *= 0.5
        return t

    def linear_step(
        self, apply: Callable[[FloatArray], FloatArray], residual: FloatArray, curvature: FloatArray
    ) -> tuple[FloatArray, FloatArray, float]:
        """``s`` with ``(beta I + H G) s`` near the residual, ``G s``, and the part of the residual that is left.

        By conjugate gradients, preconditioned with the factorisation.
        """
        if self.frozen is None:
            raise RuntimeError("a factorisation comes before the ridge problem.")
        # A trace of curvature keeps samples without any in the symmetric form.
        h = np.maximum(curvature, 1e-8 * float(np.max(curvature)) + 1e-290)
        root = np.sqrt(h)
        step, step_fit = np.zeros_like(residual), np.zeros_like(residual)
        size = float(np.linalg.norm(residual))
        if size == 0.0:
            return step, step_fit, 0.0
        z = self.frozen.ridge.solve(residual, root)
        direction, product = z, float(np.sum(residual * z / h))
        for _ in range(_LINEAR_STEPS):
            image = apply(direction)
            q = self.model.beta * direction + h * image
            energy = float(np.sum(direction * q / h))
            if not (energy > 0.0 and product > 0.0 and math.isfinite(energy)):
                break
            t = product / energy
            step, step_fit, residual = step + t * direction, step_fit + t * image, residual - t * q
            if float(np.linalg.norm(residual)) <= _REDUCTION * size:
                break
            z = self.frozen.ridge.solve(residual, root)
            last, product = product, float(np.sum(residual * z / h))
            direction = z + (product / last) * direction
        return step, step_fit, float(np.linalg.norm(residual)) / size

    # -- weights -------------------------------------------------------------------------------------------------------

    def stepped(
        self, ids: IntArray, w: FloatArray, vectors: npt.NDArray[np.floating], norms: FloatArray, fit: FloatArray
    ) -> FloatArray:
        """Weights after a Newton step; blocks at zero that would turn negative stay there."""
        frozen = self.frozen
        if frozen is None:
            columns = (self.masks[ids] * (vectors @ self.single.T)).T.astype(np.float64)
            curvature = columns.T @ (self.model.hessian(fit)[:, None] * columns) / self.model.beta
        else:
            new = frozen.place[ids] < 0
            if np.any(new):
                frozen.add(ids[new], (self.masks[ids[new]] * (vectors[new] @ self.single.T)).T.astype(np.float64))
            place = frozen.place[ids]
            curvature = frozen.curvature[np.ix_(place, place)]
        direction = weight_step(curvature, w, norms * norms * (norms - 1.0))
        return np.clip(w + direction, 0.0, self.model.largest_weight())

    def result(self, found: Found) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Blocks, fit and dual vector in double precision, in the units of the problem."""
        blocks, problem = self.working(found.ids), self.problem
        u = np.zeros((self.n_patterns, problem.n_features))
        u[self.origin[found.ids]] = np.ldexp(found.blocks, -self.exponent)
        nu = problem.loss.project_dual(self.model.beta * found.alpha, problem.y, problem.sample_weight)
        return u, blocks.fit(found.blocks), nu


def _steps_left(gap: float, previous: float, tol: float) -> float:
    """Steps until the gap is small if it goes on to fall as in the last one."""
    if not math.isfinite(previous):
        return 0.0
    return math.log(gap / tol) / math.log(previous / gap) if gap < previous else math.inf
