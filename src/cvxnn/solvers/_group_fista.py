r"""Group lasso over a working set by accelerated proximal gradient steps, for sizes that no factorisation can hold.

FISTA (Beck and Teboulle, 2009) with the gradient restart of O'Donoghue and Candes (2015) and backtracking on the step.
Each step costs two matrix products with the data; nothing larger than the masks is stored.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.solvers._eta_newton import Model, OutOfTime, State
from cvxnn.solvers._ridge import Blocks

FloatArray = npt.NDArray[np.float64]

# Steps between two evaluations of the stopping rule.
_CHECK = 10


def minimise_blocks(
    model: Model, blocks: Blocks, vectors: FloatArray, *, done: Callable[[State], bool], max_steps: int = 20000
) -> State:
    """Minimise over the blocks of the working set from ``vectors (k, d)`` until ``done(state)``.

    The returned state has weights ``||u_i||`` and unit vectors, so that ``u_i = w_i vectors_i`` as elsewhere.

    Raises
    ------
    OutOfTime
        When the deadline passes.
    """
    u, fit = vectors, np.sum(blocks.columns(vectors), axis=1)
    point, point_fit, momentum = u, fit, 1.0
    lipschitz = _first_lipschitz(model, blocks)
    state = _state(model, blocks, u, fit)
    for step in range(1, max_steps + 1):
        if model.expired():
            raise OutOfTime
        residual = model.gradient(point_fit)
        gradient = blocks.correlate(residual)
        value = model.value(point_fit)
        while True:
            new = _shrink(point - gradient / lipschitz, model.beta / lipschitz)
            new_fit = np.sum(blocks.columns(new), axis=1)
            move = new - point
            bound = value + float(np.sum(gradient * move)) + 0.5 * lipschitz * float(np.sum(move * move))
            if model.value(new_fit) <= bound + 1e-14 * abs(value):
                break
            lipschitz *= 2.0
        if float(np.sum((point - new) * (new - u))) > 0.0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum * momentum))
        ratio = (momentum - 1.0) / following
        point, point_fit = new + ratio * (new - u), new_fit + ratio * (new_fit - fit)
        u, fit, momentum = new, new_fit, following
        # A step that was too careful once is not kept for good.
        lipschitz *= 0.995
        if step % _CHECK == 0:
            state = _state(model, blocks, u, fit)
            if done(state):
                return state
    return state


def _first_lipschitz(model: Model, blocks: Blocks) -> float:
    """Rough lower estimate of the Lipschitz constant by a few power iterations from a fixed start."""
    x = np.ones(len(model.y))
    scale = model.loss.curvature * model.weight
    size = 0.0
    for _ in range(4):
        x = x / max(float(np.linalg.norm(x)), np.finfo(np.float64).tiny)
        image = np.sum(blocks.columns(blocks.correlate(np.sqrt(scale) * x)), axis=1) * np.sqrt(scale)
        size, x = float(np.linalg.norm(image)), image
    return max(size, np.finfo(np.float64).tiny)


def _shrink(vectors: FloatArray, threshold: float) -> FloatArray:
    """Proximal map of the sum of the norms of the rows."""
    lengths = np.sqrt(np.sum(vectors * vectors, axis=1))
    factor = np.zeros_like(lengths)
    np.divide(lengths - threshold, lengths, out=factor, where=lengths > threshold)
    return vectors * factor[:, None]


def _state(model: Model, blocks: Blocks, u: FloatArray, fit: FloatArray) -> State:
    lengths = np.sqrt(np.sum(u * u, axis=1))
    unit = np.divide(u, lengths[:, None], out=np.zeros_like(u), where=lengths[:, None] > 0)
    # The recurrence of the fit is exact for u: it was computed from it.
    nu = -model.gradient(fit)
    correlations = blocks.correlate(nu) / model.beta
    norms = np.sqrt(np.sum(correlations * correlations, axis=1))
    objective = model.value(fit) + model.beta * float(np.sum(lengths))
    return State(lengths, nu / model.beta, fit, unit, norms, objective, objective, None)
