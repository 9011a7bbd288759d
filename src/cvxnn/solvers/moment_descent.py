"""Gradient descent on the norm of a generator with a quadratic penalty on its violated moments: a start, no proof."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

FloatArray = npt.NDArray[np.float64]

__all__ = ["descend_moments"]

_WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
_MAX_ITER = 200
_COLLAPSED = 1e-6


def descend_moments(
    U: FloatArray,
    moments: FloatArray,
    radius: float,
    start: FloatArray,
    latent: FloatArray | None = None,
    *,
    deadline: float | None = None,
) -> FloatArray:
    r"""Local minimum of ``||W||^2 + weight * sum of squared excesses`` for weights that grow.

    The excesses are those of :math:`|1^\top (Z W u)_+ - \text{moment}(u)|` over the radius, at the given directions.

    Parameters
    ----------
    U : ndarray (K, d)
    moments : ndarray (K,)
    radius : float
    start : ndarray (k, d)
    latent : ndarray (m, k), optional
        The map Z; the identity by default.
    deadline : float, optional
        Reading of ``time.monotonic`` after which no further weight is tried.

    Returns
    -------
    ndarray (k, d)

    Examples
    --------
    >>> U = np.array([[1.0], [-1.0]])
    >>> descend_moments(U, np.array([2.0, 0.0]), 0.5, np.array([[2.0]])).round(3)
    array([[1.5]])
    """
    # Units in which the largest moment is of order one.
    size = max(float(np.max(np.abs(moments))), radius)
    shape = start.shape
    target, allowed = moments / size, radius / size

    def penalised(flat: FloatArray, weight: float) -> tuple[float, FloatArray]:
        W = flat.reshape(shape)
        seen = U @ (W if latent is None else latent @ W).T
        difference = np.sum(np.maximum(seen, 0.0), axis=1) - target
        excess = np.sign(difference) * np.maximum(np.abs(difference) - allowed, 0.0)
        slope = ((seen > 0.0) * excess[:, None]).T @ U
        gradient = 2.0 * W + 2.0 * weight * (slope if latent is None else latent.T @ slope)
        return float(np.sum(W * W) + weight * np.sum(excess * excess)), gradient.ravel()

    begin = start.ravel() / size
    point = begin
    for weight in _WEIGHTS:
        if deadline is not None and time.monotonic() > deadline:
            break
        options = {"maxiter": _MAX_ITER}
        point = minimize(penalised, point, args=(weight,), jac=True, method="L-BFGS-B", options=options).x
        if np.linalg.norm(point) <= _COLLAPSED * np.linalg.norm(begin):
            # All neurons died, and nothing wakes them: a larger weight starts afresh.
            point = begin
    return point.reshape(shape) * size
