"""Ascent of many directions at once, which searches for directions share."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.networks import unit_rows

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["STEPS", "batches", "climb"]

STEPS: SingleArray = np.array([np.inf, *np.geomspace(1.0, 1e-3, 39)], dtype=np.float32)
"""Lengths of the ascent steps: straight to the gradient first, then shrinking because maxima lie on kinks."""

_LEAST_VALUE = 0.3
"""Least value, as a share of the norm of its gradient, that a gradient is divided by where axes have costs."""

_BATCH_ENTRIES = 1 << 17


def batches(count: int, samples: int) -> list[slice]:
    """Slices of directions whose products with so many samples stay in a core's cache.

    Examples
    --------
    >>> batches(40, 100_000)
    [slice(0, 16, None), slice(16, 32, None), slice(32, 40, None)]
    """
    size = max(16, _BATCH_ENTRIES // samples)
    return [slice(low, min(low + size, count)) for low in range(0, count, size)]


def climb(
    X: SingleArray,
    nu: SingleArray,
    points: SingleArray,
    signs: SingleArray,
    steps: SingleArray,
    deadline: float,
    costs: SingleArray | None = None,
) -> SingleArray:
    r"""Projected ascent of :math:`s\,\nu^\top (X u)_+` on the unit sphere, in place.

    With ``costs`` the value is divided by :math:`(\sum_k c_k u_k^2)^{1/2}`, the norm of u in the variables that the
    penalty sees, and steps along dear axes are shorter; the points stay on the unit sphere.

    Parameters
    ----------
    X : ndarray (n, d)
    nu : ndarray (n,)
    points : ndarray (q, d)
        Unit rows.
    signs : ndarray (q,)
    steps : ndarray
        Lengths of the steps, part of :data:`STEPS`.
    deadline : float
        On the clock of ``time.perf_counter``; batches that begin later stay as they are.
    costs : ndarray (d,), optional
        Positive; equal costs are the same as none.

    Returns
    -------
    ndarray (q,)
        Values before the last step.
    """
    values = np.zeros(len(points), dtype=np.float32)

    def work(part: slice) -> None:
        if time.perf_counter() < deadline:
            points[part], values[part] = _climb(X, nu, points[part], signs[part], steps, costs)

    in_parallel(work, batches(len(points), len(X)))
    return values


def _climb(
    X: SingleArray,
    nu: SingleArray,
    points: SingleArray,
    signs: SingleArray,
    steps: SingleArray,
    costs: SingleArray | None,
) -> tuple[SingleArray, SingleArray]:
    bits = nu.view(np.int32)
    value = np.zeros(len(points), np.float32)
    for step in steps:
        active = points @ X.T
        # The sign bit of minus the product, spread over the word, masks the bits of nu.
        np.negative(active, out=active)
        masks = active.view(np.int32)
        np.right_shift(masks, 31, out=masks)
        masks &= bits
        gradient = (active @ X) * signs[:, None]
        value = np.einsum("ij,ij->i", gradient, points)
        if costs is None:
            gradient = unit_rows(gradient)
            moved = gradient if np.isinf(step) else unit_rows(points + step * gradient)
        else:
            share = np.float32(1.0 if np.isinf(step) else step / (1.0 + step))
            norm, move = _costly_move(gradient, value, points, costs)
            value /= norm
            moved = unit_rows(points + share * move)
        stuck = ~np.any(moved, axis=1)
        points = np.where(stuck[:, None], points, moved)
    return points, value


def _costly_move(
    gradient: npt.NDArray, value: npt.NDArray, points: npt.NDArray, costs: npt.NDArray
) -> tuple[npt.NDArray, npt.NDArray]:
    """Norms that the penalty sees, and the preconditioned gradients of the logarithm of value over norm.

    With equal costs the points would move to the directions of the gradients.
    """
    squares = np.maximum((points * points) @ costs, np.finfo(np.float32).tiny)[:, None]
    relative = costs / squares
    size = np.maximum(value, _LEAST_VALUE * np.linalg.norm(gradient, axis=1))
    move = gradient / np.maximum(size, np.finfo(np.float32).tiny)[:, None] - relative * points
    return np.sqrt(squares[:, 0]), move / np.maximum(relative, 1.0)
