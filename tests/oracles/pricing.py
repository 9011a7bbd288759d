"""Slow truths for the pricing problem ``max |nu^T (X u)_+|`` over the unit ball."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

FloatArray = npt.NDArray[np.float64]


def activation_value(X: FloatArray, nu: FloatArray, directions: FloatArray) -> FloatArray:
    """Return ``nu^T (X u)_+`` for every row `u` of `directions`."""
    return np.maximum(np.atleast_2d(directions) @ X.T, 0.0) @ nu


def cone_maximum(X: FloatArray, weights: FloatArray, mask: npt.NDArray[np.bool_]) -> float:
    """Return the maximum of ``weights^T (X u)_+`` on the unit ball inside the cone of one bit string."""
    oriented = np.where(mask, 1.0, -1.0)[:, None] * X
    return float(nnls(oriented.T, -(weights * mask) @ X, maxiter=10_000)[1])


def dual_norm_by_strings(X: FloatArray, nu: FloatArray) -> float:
    """Return the dual norm from all ``2^n`` bit strings; those without a cell have the cone {0} or a shared face."""
    best = 0.0
    for bits in itertools.product((False, True), repeat=len(X)):
        mask = np.array(bits)
        best = max(best, cone_maximum(X, nu, mask), cone_maximum(X, -nu, mask))
    return best


def dual_norm_on_plane(X: FloatArray, nu: FloatArray) -> float:
    """Return the dual norm for ``X (n, 2)`` from a sweep over the angle: one linear piece between two kinks."""
    angles = np.arctan2(X[:, 1], X[:, 0])
    kinks = np.sort(np.mod(np.concatenate([angles + np.pi / 2, angles - np.pi / 2]), 2 * np.pi))
    kinks = np.append(kinks, kinks[0] + 2 * np.pi)
    middle = 0.5 * (kinks[1:] + kinks[:-1])
    inside = np.column_stack([np.cos(middle), np.sin(middle)])
    gradients = ((inside @ X.T > 0) * nu) @ X
    points = np.vstack([gradients, -gradients, np.column_stack([np.cos(kinks), np.sin(kinks)])])
    norms = np.linalg.norm(points, axis=1)
    points = points[norms > 0] / norms[norms > 0, None]
    return float(np.max(np.abs(activation_value(X, nu, points)), initial=0.0))


def dual_norm_on_line(X: FloatArray, nu: FloatArray) -> float:
    """Return the dual norm for ``X (n, 1)``: the two unit vectors."""
    return float(np.max(np.abs(activation_value(X, nu, np.array([[1.0], [-1.0]])))))
