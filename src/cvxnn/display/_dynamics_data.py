"""Where a run of gradient descent is drawn: its fit along the line of the data, its kinks, its neurons."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.landscape.dynamics import Dynamics
from cvxnn.networks import row_norms

FloatArray = npt.NDArray[np.float64]

__all__ = ["curves", "kinks", "positions"]

_GRID = 241

_BEYOND = 0.15
"""Part of the width of the data that is shown beyond them on either side."""

_FEW = 20
"""Kinks of more neurons would hide the fit."""


def curves(run: Dynamics, columns: tuple[int, int]) -> FloatArray:
    """Outputs of the recorded networks along the line of the data."""
    X = run.problem.X
    low, high = np.min(X[:, columns[0]]), np.max(X[:, columns[0]])
    room = _BEYOND * (high - low)
    x = np.linspace(low - room, high + room, _GRID)
    line = np.empty((_GRID, 2))
    line[:, columns[0]], line[:, columns[1]] = x, X[0, columns[1]]
    return np.stack([np.column_stack([x, run.network(record)(line)]) for record in range(len(run))])


def kinks(run: Dynamics, columns: tuple[int, int]) -> FloatArray | None:
    """Points of the fit at which the neurons switch, ``(T, m, 2)``; NaN for neurons that never do, None for many."""
    places = run.activation_points
    if places is None or places.shape[1] > _FEW:
        return None
    line = np.empty((places.shape[1], 2))
    line[:, columns[1]] = run.problem.X[0, columns[1]]
    heights = np.empty(places.shape)
    for record, row in enumerate(places):
        known = np.isfinite(row)
        line[:, columns[0]] = np.where(known, row, 0.0)
        heights[record] = np.where(known, run.network(record)(line), np.nan)
    return np.stack([places, heights], axis=2)


def positions(run: Dynamics) -> tuple[FloatArray, tuple[str, str]]:
    """Where the neurons are drawn, and what that is."""
    W = run.weights
    assert W is not None
    a = run.outputs.reshape(*run.norms.shape, -1)
    sizes = np.stack([row_norms(rows) for rows in a])
    mass = run.norms * sizes * (np.where(a[:, :, 0] < 0, -1.0, 1.0) if a.shape[2] == 1 else 1.0)
    amount = r"$a\,\|w\|$ (output weight times norm)" if a.shape[2] == 1 else r"$\|a\|\,\|w\|$ (product of the norms)"
    if run.activation_points is not None:
        return (
            np.stack([run.activation_points, mass], axis=2),
            ("input at which the neuron switches (units of the data)", amount),
        )
    if W.shape[2] == 2:
        return sizes[:, :, None] * W, (r"$\|a\|\,w_1$ (weight on feature 1)", r"$\|a\|\,w_2$ (weight on feature 2)")
    first = W[0] / np.where(run.norms[0] > 0, run.norms[0], 1.0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.sum(W * first, axis=2) / run.norms
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return np.stack([angle, mass], axis=2), ("angle to the start (degrees)", amount)
