"""Norm cones ``{(t, z) : t >= ||z||}`` in batches: Jordan product, Nesterov-Todd scaling, steps to the boundary.

Vectors have shape ``(K, r + 1)``, the height t first. Determinants ``t^2 - ||z||^2`` are handed in: close to the
boundary they cannot be recovered from rounded vectors, while their changes along a step can be summed accurately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["NormScaling", "cone_step", "determinant_after", "join", "product", "ray_step", "scaling"]


def join(heights: FloatArray | float, vectors: FloatArray) -> FloatArray:
    """Stack heights ``(K,)`` (or one number) and vectors ``(K, r)`` to ``(K, r + 1)``."""
    out = np.empty((vectors.shape[0], vectors.shape[1] + 1))
    out[:, 0] = heights
    out[:, 1:] = vectors
    return out


def _minkowski(first: FloatArray, second: FloatArray) -> FloatArray:
    return first[:, 0] * second[:, 0] - np.einsum("kr,kr->k", first[:, 1:], second[:, 1:])


def determinant_after(determinant: FloatArray, values: FloatArray, step: FloatArray) -> FloatArray:
    """Return the determinants of ``values + step``, given those of ``values``."""
    moved = values + step
    size = np.linalg.norm(moved[:, 1:], axis=1)
    plain = (moved[:, 0] - size) * (moved[:, 0] + size)
    summed = determinant + 2.0 * _minkowski(values, step) + _minkowski(step, step)
    after = np.where(plain > 1e-4 * moved[:, 0] ** 2, plain, summed)
    # A step to 0.99 of the boundary keeps at least 1e-4 of the determinant; anything less is rounding.
    return np.maximum(after, 1e-5 * determinant)


def product(first: FloatArray, second: FloatArray) -> FloatArray:
    """Jordan product ``(x^T y, x_0 y_1 + y_0 x_1)``."""
    out = first[:, :1] * second + second[:, :1] * first
    out[:, 0] = np.einsum("kr,kr->k", first, second)
    return out


@dataclass(frozen=True)
class NormScaling:
    """Scaling W with ``W dual = W^-1 primal = point``; ``W = size * boost(axis)``.

    Attributes
    ----------
    size : array (K,)
        Scale of W.
    axis : array (K, r + 1)
        Vector of determinant one that defines the boost.
    point : array (K, r + 1)
        Scaled iterate.
    determinant : array (K,)
        Determinant of the scaled iterate.
    """

    size: FloatArray
    axis: FloatArray
    point: FloatArray
    determinant: FloatArray

    def scale_dual(self, values: FloatArray) -> FloatArray:
        """``W v``."""
        return self.size[:, None] * _boost(self.axis, values, 1.0)

    def scale_primal(self, values: FloatArray) -> FloatArray:
        """``W^-1 v``."""
        return _boost(self.axis, values, -1.0) / self.size[:, None]

    def divide(self, values: FloatArray) -> FloatArray:
        """Solve ``point o x = values`` for x."""
        head, tail = self.point[:, 0], self.point[:, 1:]
        out = np.empty_like(values)
        out[:, 0] = (head * values[:, 0] - np.einsum("kr,kr->k", tail, values[:, 1:])) / self.determinant
        out[:, 1:] = (values[:, 1:] - out[:, :1] * tail) / head[:, None]
        return out


def _boost(axis: FloatArray, values: FloatArray, sign: float) -> FloatArray:
    inner = np.einsum("kr,kr->k", axis[:, 1:], values[:, 1:])
    out = np.empty_like(values)
    out[:, 0] = axis[:, 0] * values[:, 0] + sign * inner
    factor = sign * values[:, 0] + inner / (1.0 + axis[:, 0])
    out[:, 1:] = values[:, 1:] + factor[:, None] * axis[:, 1:]
    return out


def scaling(
    primal: FloatArray, primal_determinant: FloatArray, dual: FloatArray, dual_determinant: FloatArray
) -> NormScaling:
    """Nesterov-Todd scaling of primal and dual points in the interior of the cones."""
    first, second = np.sqrt(primal_determinant), np.sqrt(dual_determinant)
    unit, other = primal / first[:, None], dual / second[:, None]
    half = np.sqrt(0.5 * (1.0 + np.maximum(np.einsum("kr,kr->k", unit, other), 1.0)))
    axis = (unit - other) / (2.0 * half)[:, None]
    axis[:, 0] = np.sqrt(1.0 + np.einsum("kr,kr->k", axis[:, 1:], axis[:, 1:]))
    # The scaled point in a form without cancellation between its two large parts.
    point = np.empty_like(primal)
    point[:, 0] = half
    point[:, 1:] = (half + other[:, 0])[:, None] * unit[:, 1:] + (half + unit[:, 0])[:, None] * other[:, 1:]
    point[:, 1:] /= (unit[:, 0] + other[:, 0] + 2.0 * half)[:, None]
    determinant = first * second
    point *= np.sqrt(determinant)[:, None]
    return NormScaling(np.sqrt(first / second), axis, point, determinant)


def cone_step(values: FloatArray, determinant: FloatArray, change: FloatArray) -> float:
    """Largest step that keeps every row of ``values + step * change`` in its cone."""
    root = np.sqrt(determinant)
    unit = values / root[:, None]
    along = _minkowski(unit, change)
    rest = change[:, 1:] - ((along + change[:, 0]) / (unit[:, 0] + 1.0))[:, None] * unit[:, 1:]
    top = float(((np.linalg.norm(rest, axis=1) - along) / root).max(initial=0.0))
    return np.inf if top <= 0.0 else 1.0 / top


def ray_step(values: FloatArray, change: FloatArray) -> float:
    """Largest step that keeps ``values + step * change`` positive."""
    top = float((-change / values).max(initial=0.0))
    return np.inf if top <= 0.0 else 1.0 / top
