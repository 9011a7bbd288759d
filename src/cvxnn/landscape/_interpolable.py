"""Which targets a two-layer ReLU network can take on given data at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.patterns._geometry import line_representatives

FloatArray = npt.NDArray[np.float64]

__all__ = ["InterpolationError", "check_interpolable"]

_FITS = 1e-9


class InterpolationError(ValueError):
    """No network interpolates the data, or the interpolators of least norm could not be found."""


def check_interpolable(X: FloatArray, y: FloatArray) -> None:
    r"""Refuse targets outside the span of all contributions :math:`(Xu)_+`, and name the samples in conflict.

    On a line that carries samples, contributions are free numbers p and q on its two sides, except that over the lines
    with samples on both sides p - q is linear: :math:`(t)_+ = (|t| + t)/2`, and the functions :math:`|u_l^T u|` of
    distinct lines are independent.
    """
    norms = np.linalg.norm(X, axis=1)
    size = float(np.max(np.abs(y)))
    silent = np.flatnonzero((norms == 0) & (y != 0))
    if silent.size:
        raise InterpolationError(
            f"no network interpolates: sample {silent[0]} is zero in every feature, so every network is 0 there, "
            f"but y is {y[silent[0]]:g} (add a column of ones for a bias)."
        )
    rows = np.flatnonzero(norms > 0)
    if rows.size == 0:
        return
    units, slopes = X[rows] / norms[rows, None], y[rows] / norms[rows]
    lines = units[line_representatives(units)]
    cosines = units @ lines.T
    home = np.argmax(np.abs(cosines), axis=1)
    ahead = cosines[np.arange(len(home)), home] > 0
    sides = np.full((len(lines), 2), np.nan)
    for j, (line, side) in enumerate(zip(home, ahead.astype(int), strict=True)):
        if np.isnan(sides[line, side]):
            sides[line, side] = slopes[j]
        elif abs(sides[line, side] - slopes[j]) * norms[rows[j]] > _FITS * size:
            twin = int(np.flatnonzero((home[:j] == line) & (ahead[:j] == ahead[j]))[0])
            raise InterpolationError(
                f"no network interpolates: samples {rows[twin]} and {rows[j]} point in the same direction, so every "
                f"network has outputs in proportion there, but y is {y[rows[twin]]:g} and {y[rows[j]]:g}."
            )
    both = ~np.isnan(sides).any(axis=1)
    if np.any(both):
        jump = sides[both, 1] - sides[both, 0]
        error = lines[both] @ np.linalg.lstsq(lines[both], jump, rcond=1e-10)[0] - jump
        if float(np.max(np.abs(error))) > _FITS * float(np.max(np.abs(slopes))):
            raise InterpolationError(
                "no network interpolates: over the pairs of samples that point in opposite directions, the difference "
                "of the targets must be a linear function of the features, and it is not."
            )
