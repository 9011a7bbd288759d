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

from cvxnn.solvers.group_lasso._common import OutOfTime
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


class Imprecise(Exception):
    """Raised where the factor in single precision does not lead to the accuracy that is wanted."""


def solve_ridge(model: Model, ridge: Ridge, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Minimise ``l(G alpha) + beta/2 alpha^T G alpha``; return ``alpha`` and the fit ``G alpha``.

    Newton with backtracking, at most 60 steps.

    Raises
    ------
    Imprecise
        Where a factor in single precision does not lead to the accuracy of the model.
    OutOfTime
        When the deadline passes.
    """
    if model.constant_curvature:
        return _refine(model, ridge, start)
    beta = model.beta
    alpha, fit = start, ridge.apply(start)
    value = model.value(fit) + 0.5 * beta * float(alpha @ fit)
    previous = 0.0
    curvature = model.hessian(fit)
    for _ in range(60):
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
            t *= 0.5
        if not accepted and ridge.distance(curvature) > 0.0:
            factorise(model, ridge, curvature)
            continue
        if not accepted:
            break
        alpha, fit, value = new_alpha, new_fit, new_value
        curvature = model.hessian(fit)
        change = ridge.change(step, step_fit)
        # Newton's error falls at least as fast as the last two changes tell.
        if change <= model.accuracy or (t == 0.5 and change * change <= model.accuracy * previous):
            break
        previous = change if t == 0.5 else 0.0
    if ridge.distance(curvature) > _SAME_CURVATURE:
        # The factor is also what the curvature in the weights is made of.
        factorise(model, ridge, curvature)
    # The recurrence of the fit drifts by rounding; one product restores fit = G alpha.
    return alpha, ridge.apply(alpha)


def _refine(model: Model, ridge: Ridge, alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Minimiser for the squared loss: one linear system, solved again for what rounding has left."""
    fit = ridge.apply(alpha)
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
        new_fit = ridge.apply(new_alpha)
        residual = model.beta * new_alpha + model.gradient(new_fit)
        previous, size = size, float(np.linalg.norm(residual))
        if size < previous:
            alpha, fit = new_alpha, new_fit
        change = ridge.change(step, step_fit)
        if change * size <= model.accuracy * previous or change <= model.accuracy:
            return alpha, fit
        if size > 0.25 * previous:
            # The system is singular to rounding, in this precision at least.
            if _single(model, ridge):
                raise Imprecise
            break
    return alpha, fit


def _single(model: Model, ridge: Ridge) -> bool:
    return model.single and isinstance(ridge, KernelRidge)


def factorise(model: Model, ridge: Ridge, curvature: FloatArray) -> None:
    if model.expired():
        raise OutOfTime
    try:
        ridge.factorise(curvature)
    except LinAlgError:
        if _single(model, ridge):
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
    # A trace of curvature keeps samples without any in the symmetric form.
    h = np.maximum(curvature, 1e-8 * float(np.max(curvature)) + 1e-290)
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
    if count == 1 and size > 0.0 and _single(model, ridge):
        raise Imprecise
    return step, step_fit, _LINEAR_STEPS
