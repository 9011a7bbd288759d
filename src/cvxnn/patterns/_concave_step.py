"""Exact concave steps for the pricing problem, batched over many directions.

The function ``h(u) = sum_j sigma_j (y_j^T u)_+`` with ``sigma_j = +-1`` is one convex part (``sigma_j = 1``)
minus another.  Replacing the first by its linear minorant at ``u`` leaves a concave maximisation over the
unit ball that is solved exactly through its dual, a least-squares problem over a box.  Of many rows in
few dimensions screening decides most beforehand.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from ._box_rows import BoxRows, OwnRows
from ._screening import undecided_rows

Float = npt.NDArray[np.float64]
_MAX_ITERATIONS = 40
_LEAST_CURVATURE = 1e-13  # keeps the d x d systems regular in double precision
_FLOOR = 1e-12  # residuals shorter than 1e-6 of the target are only resolved absolutely
_LEAST_SCREENED, _MOST_FEATURES = 1000, 12  # rows and features for which screening takes less time than it saves
_UNDECIDED_SHARE = 1 / 4  # of the rows at most, so that it pays to gather them


def expired(deadline: float | None) -> bool:
    """Whether the moment ``deadline`` on the monotonic clock has passed."""
    return deadline is not None and time.monotonic() >= deadline


def box_residuals(
    rows: BoxRows,
    targets: Float,
    *,
    tol: float,
    starts: Float | None = None,
    deadline: float | None = None,
) -> Float:
    r"""Shortest vector from the zonotope ``{rows^T lam : 0 <= lam <= 1}`` to each target, batched.

    Primal-dual interior point method (Mehrotra) on ``min 1/2 ||g - rows^T lam||^2``; every Newton system is
    reduced to ``d x d``.  The residual ``u = g - rows^T lam`` maximises
    ``g^T u - sum_j (y_j^T u)_+ - ||u||^2 / 2``, so ``u / ||u||`` maximises the first two terms on the ball.

    Parameters
    ----------
    rows : BoxRows
        Those of shape (q, d).
    targets : (S, d) array
    tol : float
        Bound on the duality gap relative to ``||u||^2``.
    starts : (S, d) array, optional
        Unit vectors near the directions of the residuals; of many rows those that they decide are left out, which
        changes no result.
    deadline : float or None
        Moment on the monotonic clock after which the current, less accurate vectors are returned.

    Returns
    -------
    (S, d) array
    """
    if starts is None or rows.count < _LEAST_SCREENED or targets.shape[1] > _MOST_FEATURES:
        return _interior_point(rows, targets, tol, deadline)
    undecided, left = undecided_rows(rows, targets, starts)
    few = undecided.sum(axis=1) <= _UNDECIDED_SHARE * rows.count
    residuals = np.empty_like(targets)
    if not few.all():
        residuals[~few] = _interior_point(rows, targets[~few], tol, deadline)
    if few.any():
        residuals[few] = _interior_point(rows.chosen(undecided[few]), left[few], tol, deadline)
    return residuals


def _interior_point(boxes: BoxRows | OwnRows, targets: Float, tol: float, deadline: float | None) -> Float:
    q = boxes.count
    residuals = targets.copy()
    if q == 0 or len(targets) == 0:
        return residuals
    live = np.arange(targets.shape[0])
    lam = np.full((targets.shape[0], q), 0.5)
    top = lam.copy()  # 1 - lam, carried along since the difference loses all digits near 1
    size = (targets * targets).sum(axis=1)
    u = targets - boxes.sums(lam)
    t = boxes.dots(u)
    shift = np.abs(t).mean(axis=1, keepdims=True) + 1e-8
    low, high = np.maximum(-t, 0.0) + shift, np.maximum(t, 0.0) + shift
    for _ in range(_MAX_ITERATIONS):
        gap = (low * lam + high * top).sum(axis=1)
        keep = gap > tol * np.maximum((u * u).sum(axis=1), _FLOOR * size[live])
        if expired(deadline):
            break
        if not keep.all():
            residuals[live[~keep]] = u[~keep]
            live, boxes = live[keep], boxes.take(keep)
            if live.size == 0:
                return residuals
            u, lam, top, low, high, gap = (part[keep] for part in (u, lam, top, low, high, gap))
        u, lam, top, low, high = _mehrotra_step(boxes, targets[live], (u, lam, top, low, high), gap / (2 * q))
    residuals[live] = u
    return residuals


def _mehrotra_step(
    boxes: BoxRows | OwnRows,
    targets: Float,
    state: tuple[Float, Float, Float, Float, Float],
    mu: Float,
) -> tuple[Float, Float, Float, Float, Float]:
    """Take one predictor-corrector step; the state holds ``u``, ``lam``, ``1 - lam`` and their multipliers.

    ``u`` is a variable of its own, not recomputed from ``lam``: near a solution rounding in ``lam`` is
    amplified by the large weights of the rows with ``0 < lam < 1``, which leaves ``u`` untouched.
    """
    u, lam, top, low, high = state
    weight = 1.0 / (low / lam + high / top + _LEAST_CURVATURE)
    system = boxes.gram(weight)
    diagonal = np.arange(targets.shape[1])
    system[:, diagonal, diagonal] += 1.0
    inverse = np.linalg.inv(system)
    drift = (high - low) - boxes.dots(u)
    offset = targets - boxes.sums(lam) - u

    def direction(r_low: Float, r_high: Float) -> tuple[Float, Float, Float, Float]:
        c = weight * (r_low / lam - r_high / top - drift)
        du = np.matmul(inverse, (offset - boxes.sums(c))[:, :, None])[:, :, 0]
        step = weight * boxes.dots(du) + c
        return du, step, (r_low - low * step) / lam, (r_high + high * step) / top

    def longest(step: Float, d_low: Float, d_high: Float) -> Float:
        worst = np.maximum(np.maximum(-step / lam, step / top), np.maximum(-d_low / low, -d_high / high))
        return np.minimum(1.0, 1.0 / np.maximum(worst.max(axis=1), 1e-300))

    _, step, d_low, d_high = direction(-low * lam, -high * top)
    length = longest(step, d_low, d_high)[:, None]
    after = (low + length * d_low) * (lam + length * step) + (high + length * d_high) * (top - length * step)
    centre = (mu * (after.mean(axis=1) / (2.0 * mu)) ** 3)[:, None]
    du, step, d_low, d_high = direction(centre - low * lam - d_low * step, centre - high * top + d_high * step)
    length = np.minimum(1.0, 0.995 * longest(step, d_low, d_high))[:, None]
    lam, top = lam + length * step, top - length * step
    return u + length * du, lam, top, low + length * d_low, high + length * d_high
