"""Exact maximum of ``nu^T (X u)_+`` on the unit circle by an angular sweep."""

from __future__ import annotations

import numpy as np


def angular_sweep(X: np.ndarray, nu: np.ndarray) -> tuple[float, np.ndarray]:
    """Maximum over the unit circle and a maximiser, for ``X`` of shape ``(n, 2)``.

    The circle is cut at all directions orthogonal to a row.  On each closed arc the function is ``g^T u``
    with a constant ``g``, so its maximum is at ``g / ||g||`` if that lies in the arc and at an end otherwise.
    """
    rows = X[np.any(X != 0, axis=1)]
    angles = np.arctan2(rows[:, 1], rows[:, 0])
    cuts = np.unique(np.mod(np.concatenate([angles + np.pi / 2, angles - np.pi / 2, [0.0]]), 2 * np.pi))
    ends = np.append(cuts[1:], cuts[0] + 2 * np.pi)
    best, where = -np.inf, np.zeros(2)
    for low, high in zip(cuts, ends, strict=True):
        middle = 0.5 * (low + high)
        active = X @ np.array([np.cos(middle), np.sin(middle)]) > 0
        g = X[active].T @ nu[active]
        turned = middle + np.mod(np.arctan2(g[1], g[0]) - middle + np.pi, 2 * np.pi) - np.pi
        for angle in (low, high, float(np.clip(turned, low, high))):
            u = np.array([np.cos(angle), np.sin(angle)])
            value = float(nu @ np.maximum(X @ u, 0.0))
            if value > best:
                best, where = value, u
    return best, where
