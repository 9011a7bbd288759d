r"""Ridge problem in ``alpha`` at fixed weights: Newton steps, each by preconditioned conjugate gradients.

.. math:: \min_\alpha\ \ell(G\alpha) + \tfrac\beta2 \alpha^T G \alpha

The preconditioner is a factor in single precision, or the one of a problem nearby; products with ``G`` go through the
blocks in double precision, so that neither limits the accuracy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from cvxnn.solvers.group_lasso._common import Laborious
from cvxnn.solvers.group_lasso._ridge import KernelRidge, Ridge

if TYPE_CHECKING:
    from cvxnn.solvers.group_lasso._eta_newton import Model

FloatArray = npt.NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# Steps of conjugate gradients for one system, and those after which a factor is made anew.
_LINEAR_STEPS = 20
_STALE_STEPS = 5
# Relative change of the curvature of the loss within which a factor is used again.
_SAME_CURVATURE = 0.02
# Newton steps at one weight vector; length below which a step is short, and the floor of the curvature after one.
_NEWTON_STEPS = 60
_SHORT = 0.1
_FLOOR = 1e-3
# Curvature that a sample has at least in a system, relative to the largest, and to the most that the loss can have.
_TRACE, _LEAST_TRACE = 1e-8, 1e-30
# Accuracy below which the fit is computed from alpha after each system.
_FINE = 1e-7


class Imprecise(Exception):
    """Raised where the factor in single precision does not lead to the accuracy that is wanted."""


def solve_ridge(model: Model, ridge: Ridge, start: FloatArray, fit: FloatArray | None = None) -> FloatArray:
    """Minimise ``l(G alpha) + beta/2 alpha^T G alpha`` from ``start``, whose fit ``G start`` may be known.

    Newton with backtracking, at most 60 steps.

    Raises
    ------
    Imprecise
        Where a factor in single precision does not lead to the accuracy of the model.
    OutOfTime
        When the deadline passes.
    """
    if model.constant_curvature:
        return _refine(model, ridge, start, fit)
    beta = model.beta
    alpha, fit = start, ridge.apply(start) if fit is None else fit
    value = model.value(fit) + 0.5 * beta * float(alpha @ fit)
    previous, floor = 0.0, 0.0
    curvature = model.hessian(fit)
    for _ in range(_NEWTON_STEPS):
        residual = beta * alpha + model.gradient(fit)
        # Bound of the error in the norms c_i, which are held against 1.
        if float(model.lengths @ np.abs(residual)) <= model.accuracy * beta:
            break
        if ridge.distance(curvature) > _SAME_CURVATURE:
            factorise(model, ridge, curvature)
        step, step_fit, steps = _conjugate_gradients(model, ridge, curvature, -residual, 0.3 * model.accuracy, 1e-4)
        if steps > _STALE_STEPS and (ridge.borrowed or ridge.distance(curvature) > 0.0):
            factorise(model, ridge, curvature)
            step, step_fit, _ = _conjugate_gradients(model, ridge, curvature, -residual, 0.3 * model.accuracy, 1e-4)
        slope = float(residual @ step_fit)
        t, accepted = 1.0, False
        while t > 1e-10 and not accepted:
            new_alpha, new_fit = alpha + t * step, fit + t * step_fit
            new_value = model.value(new_fit) + 0.5 * beta * float(new_alpha @ new_fit)
            accepted = new_value <= value + 1e-4 * t * slope + 8.0 * _EPS * abs(value)
            if not accepted:
                t = _shorter(model, (alpha, fit), (step, step_fit)) if t == 1.0 else 0.5 * t
        if not accepted and ridge.distance(curvature) > 0.0:
            factorise(model, ridge, curvature)
            continue
        if not accepted:
            break
        alpha, fit, value = new_alpha, new_fit, new_value
        full = t == 1.0 and floor == 0.0
        # Flat stretches of the loss have no curvature: after short steps the model takes some for them.
        floor = min(1.0, max(_FLOOR, 10.0 * floor)) if t < _SHORT else (0.1 * floor if floor > _FLOOR else 0.0)
        curvature = model.hessian(fit, floor)
        change = ridge.change(step, step_fit)
        # Newton's error falls at least as fast as the last two changes tell.
        if full and (change <= model.accuracy or change * change <= model.accuracy * previous):
            break
        previous = change if full else 0.0
    if ridge.distance(curvature) > _SAME_CURVATURE:
        # The factor is also what the curvature in the weights is made of.
        factorise(model, ridge, curvature)
    return alpha


def _shorter(
    model: Model, point: tuple[FloatArray, FloatArray], step: tuple[FloatArray, FloatArray], halvings: int = 30
) -> float:
    """Part of a step in ``alpha`` and the fit at which the convex objective along it is least, below one."""
    (alpha, fit), (direction, image) = point, step
    linear, square = model.beta * float(alpha @ image), model.beta * float(direction @ image)
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        rising = float(model.gradient(fit + middle * image) @ image) + linear + middle * square > 0.0
        low, high = (low, middle) if rising else (middle, high)
        if low > 0.8 * high:
            break
    return high if low == 0.0 else low


def _refine(model: Model, ridge: Ridge, alpha: FloatArray, fit: FloatArray | None) -> FloatArray:
    """Minimiser for the squared loss: one linear system, solved again for what rounding has left."""
    fit = ridge.apply(alpha) if fit is None else fit
    residual = model.beta * alpha + model.gradient(fit)
    size = float(np.linalg.norm(residual))
    if not ridge.borrowed:
        factorise(model, ridge, model.weight)
    for _ in range(8):
        step, step_fit, steps = _conjugate_gradients(model, ridge, model.weight, -residual, model.accuracy)
        if steps > _STALE_STEPS and ridge.borrowed:
            factorise(model, ridge, model.weight)
            step, step_fit, _ = _conjugate_gradients(model, ridge, model.weight, -residual, model.accuracy)
        new_alpha = alpha + step
        # The recurrence of the fit drifts by rounding, which matters where that is all there is to mend.
        new_fit = ridge.apply(new_alpha) if model.accuracy < _FINE else fit + step_fit
        residual = model.beta * new_alpha + model.gradient(new_fit)
        previous, size = size, float(np.linalg.norm(residual))
        if size < previous:
            alpha, fit = new_alpha, new_fit
        change = ridge.change(step, step_fit)
        if change * size <= model.accuracy * previous or change <= model.accuracy:
            return alpha
        if size > 0.25 * previous:
            # The system is singular to rounding, in this precision at least.
            if _single(ridge):
                raise Imprecise
            break
    return alpha


def _single(ridge: Ridge) -> bool:
    return isinstance(ridge, KernelRidge) and ridge.single


def factorise(model: Model, ridge: Ridge, curvature: FloatArray) -> None:
    model.check()
    model.n_factorised += 1
    if model.n_factorised > model.most_factorised:
        raise Laborious
    try:
        ridge.factorise(curvature)
    except LinAlgError:
        if _single(ridge):
            raise Imprecise from None
        raise


def _conjugate_gradients(
    model: Model, ridge: Ridge, curvature: FloatArray, r: FloatArray, wanted: float, forcing: float = 0.0
) -> tuple[FloatArray, FloatArray, int]:
    r"""Solve ``(beta I + H G) s = r``; return ``s``, ``G s`` and the number of steps.

    The operator is self-adjoint for the inner product with weights ``1 / H``, and so is the factor that preconditions.
    Stops where the next step would change the norms ``c_i`` by less than ``wanted``, or than ``forcing`` times the
    first change.
    """
    # A trace of curvature keeps samples without any in the symmetric form, also where no sample has any.
    most = model.loss.curvature * float(np.max(model.weight))
    h = np.maximum(curvature, max(_TRACE * float(np.max(curvature)), _LEAST_TRACE * most))
    root = np.sqrt(h)
    step, step_fit = np.zeros_like(r), np.zeros_like(r)
    size = float(np.linalg.norm(r))
    z = ridge.solve(r, root)
    direction, product, first = z, float(np.sum(r * z / h)), 0.0
    for count in range(1, _LINEAR_STEPS + 1):
        image = ridge.apply(direction)
        q = model.beta * direction + h * image
        energy = float(np.sum(direction * q / h))
        if not (energy > 0.0 and math.isfinite(energy) and product > 0.0):
            break
        t = product / energy
        step, step_fit, r = step + t * direction, step_fit + t * image, r - t * q
        change = abs(t) * ridge.change(direction, image)
        first = max(first, change)
        previous, size = size, float(np.linalg.norm(r))
        if change * size <= max(wanted, forcing * first) * previous or size <= _EPS * previous:
            return step, step_fit, count
        z = ridge.solve(r, root)
        last, product = product, float(np.sum(r * z / h))
        direction = z + (product / last) * direction
    if count == 1 and size > 0.0 and _single(ridge):
        raise Imprecise
    return step, step_fit, _LINEAR_STEPS
