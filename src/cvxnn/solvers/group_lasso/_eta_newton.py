r"""Group lasso over a working set of blocks, as a smooth convex problem with one scalar for each block.

The identity :math:`\|u\| = \min_{w>0} (\|u\|^2/w + w)/2` turns

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

into the minimisation over ``w >= 0`` of

.. math:: F(w) = \min_\alpha\ \ell(G\alpha) + \tfrac\beta2 \alpha^T G \alpha + \tfrac\beta2 \mathbf 1^T w,
          \qquad G = \sum_i w_i D_i X X^T D_i,\quad u_i = w_i X^T D_i \alpha .

``F`` is convex with derivative :math:`\tfrac\beta2 (1 - c_i^2),\ c_i = \|X^T D_i \alpha\|`. The outer method is a
projected Newton method in ``w`` whose right-hand side is that of Hebden's secular equation ``1 / c_i = 1``; the inner
one is Newton in ``alpha`` (:mod:`cvxnn.solvers.group_lasso._ridge_newton`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, get_lapack_funcs

from cvxnn.losses import Loss
from cvxnn.solvers.group_lasso._kernel_square import KernelSquare
from cvxnn.solvers.group_lasso._ridge import GramCache, GramRidge, KernelRidge, Ridge, WorkingBlocks
from cvxnn.solvers.group_lasso._ridge_newton import Imprecise, factorise, solve_ridge

FloatArray = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_LEAST_DAMPING, _LEAST_SIZE = 1e-10, 1e-300
# The wrappers of this take longer than the routine on small matrices.
_POSV: Any = get_lapack_funcs("posv", dtype=np.float64)
# Columns beyond which the kd x kd route is not used.
GRAM_LIMIT = 6000
# Relative change of the weights within which a factor is used again.
_NEAR = 0.05
# Shifts of a matrix with unit diagonal that rounding has made indefinite; the last is beyond its size.
_SHIFTS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, 1e4)


@dataclass
class Model:
    """Loss on the samples, weight decay, and what is computed once for all working sets."""

    X: FloatArray
    y: FloatArray
    weight: FloatArray
    loss: Loss
    beta: float
    check: Callable[[], None]
    accuracy: float = 1e-8
    single: bool = True
    n_factorised: int = 0
    most_factorised: float = math.inf

    def __post_init__(self) -> None:
        """Prepare what every weight vector shares."""
        self.constant_curvature = self.loss.name == "squared"
        self.cache = GramCache() if self.constant_curvature else None
        self._square: KernelSquare | None = None

    @cached_property
    def lengths(self) -> FloatArray:
        """Lengths of the samples, ``(n,)``."""
        return np.sqrt(np.sum(self.X * self.X, axis=1))

    @cached_property
    def zero_value(self) -> float:
        """Loss of the zero network."""
        return self.value(np.zeros(len(self.y)))

    def value(self, fit: FloatArray) -> float:
        return self.loss.value(fit, self.y, self.weight)

    def gradient(self, fit: FloatArray) -> FloatArray:
        return self.loss.gradient(fit, self.y, self.weight)

    def hessian(self, fit: FloatArray, floor: float = 0.0) -> FloatArray:
        """Curvature of the loss, at least ``floor`` times its upper bound."""
        curvature = self.loss.hessian(fit, self.y, self.weight)
        return np.maximum(curvature, floor * self.loss.curvature * self.weight) if floor > 0.0 else curvature

    def largest_weight(self) -> float:
        """Upper bound of the weights at the optimum."""
        return self.zero_value / self.beta

    def ridge(self, blocks: WorkingBlocks, w: FloatArray, columns: int) -> Ridge:
        """Cheaper of the two routes for the active blocks, when the working set has so many columns."""
        n, d = self.X.shape
        k = len(w)
        size = k * d
        gram_cost = size**3 / 3.0 + n * size**2 * (1.0 if self.cache is None else 0.5) + 2.0 * n * size * columns
        kernel_cost = (n**3 / 3.0 + n * n * (k + columns)) * (0.5 if self.single else 1.0)
        if size <= GRAM_LIMIT and gram_cost < kernel_cost:
            return GramRidge(blocks, w, self.beta, self.cache)
        if self._square is None:
            self._square = KernelSquare(self.X.astype(np.float32) if self.single else self.X)
        return KernelRidge(blocks, self._square, w, self.beta)

    def use_double(self) -> None:
        """Give up single precision: the systems are too ill-conditioned for it."""
        self.single, self._square = False, None


@dataclass
class State:
    r"""Optimum of the ridge problem at one weight vector.

    ``vectors`` are :math:`X^T D_i \alpha` and ``norms`` their lengths c, for every block of the working set;
    ``value`` is F(w) and ``objective`` that of the group lasso at ``u_i = w_i vectors_i``.
    """

    w: FloatArray
    alpha: FloatArray
    fit: FloatArray
    vectors: FloatArray
    norms: FloatArray
    value: float
    objective: float
    ridge: Ridge | None

    def take(self, keep: npt.NDArray[np.bool_]) -> State:
        """State without some blocks of weight zero."""
        return replace(self, w=self.w[keep], vectors=self.vectors[keep], norms=self.norms[keep])

    def extend(self, fresh: WorkingBlocks) -> State:
        """State with further blocks at weight zero."""
        vectors = np.concatenate([self.vectors, fresh.correlate(self.alpha)])
        w = np.concatenate([self.w, np.zeros(len(fresh.ids))])
        return replace(self, w=w, vectors=vectors, norms=np.sqrt(np.sum(vectors * vectors, axis=1)))


def evaluate(
    model: Model,
    blocks: WorkingBlocks,
    w: FloatArray,
    start: FloatArray,
    near: Ridge | None = None,
    vectors: FloatArray | None = None,
) -> State:
    """Solve the ridge problem at ``w``, from the starting point ``alpha = start``.

    The factor of the problem ``near``, if given, is tried before a new one is made. The ``vectors`` of the starting
    point, if known, spare a product.
    """
    active = w > 0
    beta = model.beta
    if not np.any(active):
        ridge, fit = None, np.zeros_like(start)
        alpha = -model.gradient(fit) / beta
        vectors = blocks.correlate(alpha)
    else:
        few, positive, fit = blocks.take(active), w[active], None
        try:
            ridge = model.ridge(few, positive, len(w))
            if isinstance(ridge, KernelRidge) and isinstance(near, KernelRidge):
                # One that was made in single precision serves one in double precision, too.
                ridge.adopt(near)
            if vectors is not None:
                fit = few.fit(positive[:, None] * vectors[active])
            alpha = solve_ridge(model, ridge, start, fit)
        except Imprecise:
            model.use_double()
            ridge = model.ridge(few, positive, len(w))
            alpha = solve_ridge(model, ridge, start)
        vectors = blocks.correlate(alpha)
        # The fit is that of the blocks to the last digit.
        fit = few.fit(positive[:, None] * vectors[active])
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    loss = model.value(fit)
    value = loss + 0.5 * beta * (float(alpha @ fit) + float(np.sum(w)))
    objective = loss + beta * float(w @ norms)
    return State(w, alpha, fit, vectors, norms, value, objective, ridge)


def minimise_weights(
    model: Model, blocks: WorkingBlocks, state: State, *, done: Callable[[State], bool], max_steps: int = 60
) -> State:
    """Projected Newton in ``w`` until ``done(state)`` after a step, or until no step lowers ``F``.

    The state given loses its ridge problem.

    Raises
    ------
    OutOfTime
        When the deadline passes.
    """
    damping, floor = _LEAST_DAMPING, 0.0
    for _ in range(max_steps):
        try:
            new, damping, floor = _step(model, blocks, state, damping, floor)
        except Imprecise:
            model.use_double()
            state = evaluate(model, blocks, state.w, state.alpha)
            continue
        if new is None:
            break
        damping = max(damping / 10.0, _LEAST_DAMPING)
        floor = floor / 10.0 if floor > 1e-5 else 0.0
        # Nobody asks for the ridge problem of a point that was left; its blocks are large.
        state.ridge = None
        state = new
        if done(state):
            break
    return state


def _step(
    model: Model, blocks: WorkingBlocks, state: State, damping: float, floor: float
) -> tuple[State | None, float, float]:
    """State after a step that lowers ``F``, none where there is no such step, with the damping and floor it took."""
    curvature = _curvature(model, blocks, state, floor)
    attempt = 0
    while attempt < 12:
        # Hebden's right-hand side first, then the plain gradient, then with more and more damping.
        direction = _direction(curvature, state, damping, hebden=attempt != 1)
        # The optimum has beta * sum(w) <= F(0), which is the loss of the zero network.
        trial = np.clip(state.w + direction, 0.0, model.largest_weight())
        start = _predict(model, blocks, state, trial, floor)
        near = _near(state, trial) if attempt == 0 else None
        candidate = evaluate(model, blocks, trial, start, near, state.vectors if start is state.alpha else None)
        if _better(model, candidate, state):
            return candidate, damping, floor
        if state.ridge is not None and state.ridge.borrowed:
            # The curvature was that of another point.
            factorise(model, state.ridge, model.hessian(state.fit))
            curvature = _curvature(model, blocks, state, floor)
            continue
        attempt += 1
        if attempt > 1:
            damping = max(damping, 1e-8) * 30.0
            if not model.constant_curvature:
                # Flat stretches of the loss have no curvature: the model needs some to know how far to go.
                floor = min(1.0, max(10.0 * floor, 1e-3))
                curvature = _curvature(model, blocks, state, floor)
    return None, damping, floor


def _near(state: State, trial: FloatArray) -> Ridge | None:
    """Factor of the state where the new weights are so near that it serves them, too."""
    if state.ridge is None or not state.ridge.factorised:
        return None
    change = float(np.sum(np.abs(trial - state.w)))
    return state.ridge if change <= _NEAR * float(np.sum(trial)) else None


def _better(model: Model, candidate: State, state: State) -> bool:
    """Whether a step lowers ``F``, or leaves it within rounding and is nearer to optimality."""
    rounding = (1e-12 + 10.0 * model.accuracy**2) * abs(state.value)
    if candidate.value <= state.value - rounding:
        return True
    return candidate.value <= state.value + rounding and _residual(candidate) < 0.9 * _residual(state)


def _residual(state: State) -> float:
    """Violation of ``c_i = 1`` where ``w_i > 0`` and ``c_i <= 1`` elsewhere, weighted as in the duality gap."""
    excess = np.maximum(state.norms - 1.0, 0.0)
    slack = state.w * np.abs(state.norms - 1.0)
    return float(np.max(excess, initial=0.0)) + float(np.sum(slack)) / max(float(np.sum(state.w)), _EPS)


def _curvature(model: Model, blocks: WorkingBlocks, state: State, floor: float) -> FloatArray:
    """Matrix ``H'`` with ``d(c_i^2) = -2 sum_j H'_ij dw_j``, for a curvature of the loss that is at least the floor."""
    if state.ridge is None:
        columns = blocks.columns(state.vectors)
        return columns.T @ (model.hessian(state.fit, floor)[:, None] * columns) / model.beta
    # A step that was refused may have put its factor in the place of this one.
    if floor > 0.0 or not state.ridge.factorised:
        factorise(model, state.ridge, model.hessian(state.fit, floor))
    if not (isinstance(state.ridge, KernelRidge) and state.ridge.single):
        return state.ridge.weight_hessian(blocks.columns(state.vectors))
    size = max(float(np.max(np.abs(state.vectors), initial=0.0)), _LEAST_SIZE)
    curvature = state.ridge.weight_hessian(blocks.single_columns(state.vectors / size).T)
    curvature *= size * size
    return curvature


def _direction(curvature: FloatArray, state: State, damping: float, *, hebden: bool) -> FloatArray:
    """Newton direction on the blocks that may move; those at zero that would turn negative are left out."""
    c, w = state.norms, state.w
    rhs = c * c * (c - 1.0) if hebden else 0.5 * (c * c - 1.0)
    free = (w > 0) | (rhs > 0)
    diagonal = np.diag(curvature).copy()
    direction = np.zeros_like(w)
    largest = float(np.max(diagonal, initial=0.0))
    if largest == 0.0:
        return direction
    index = np.flatnonzero(free)
    scale = 1.0 / np.sqrt(np.maximum(diagonal[index], 1e-12 * largest))
    system = curvature[np.ix_(index, index)]
    system *= scale
    system *= scale[:, None]
    system.flat[:: len(index) + 1] += damping
    for _ in range(20):
        if index.size == 0:
            break
        direction[:] = 0.0
        direction[index] = scale * _solve_positive(system, scale * rhs[index])
        wrong = free & (w == 0) & (direction <= 0)
        if not np.any(wrong):
            break
        right = ~wrong[index]
        index, scale, system = index[right], scale[right], system[np.ix_(right, right)]
        free &= ~wrong
    return direction


def _solve_positive(system: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve a system with unit diagonal that is positive definite up to rounding."""
    for shift in _SHIFTS:
        shifted = system + shift * np.eye(len(system)) if shift > 0.0 else system
        _, solution, info = _POSV(shifted, rhs, lower=1)
        if info == 0:
            return solution
    raise LinAlgError("the curvature in the weights is not positive definite to rounding.")


def _predict(model: Model, blocks: WorkingBlocks, state: State, w: FloatArray, floor: float) -> FloatArray:
    """First-order prediction of ``alpha`` at new weights; exactness does not matter."""
    if model.constant_curvature or state.ridge is None:
        return state.alpha
    curvature = model.hessian(state.fit, floor)
    if not state.ridge.factorised:
        factorise(model, state.ridge, curvature)
    change = blocks.fit((w - state.w)[:, None] * state.vectors)
    return state.alpha - state.ridge.solve(curvature * change)
