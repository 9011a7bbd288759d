r"""Whether a direction is a local maximum of :math:`\|g(u)\|` on the unit sphere, and how flat it is there.

Around u the function :math:`g(z) = L^\top z + \sum_j w_j (x_j^\top z)_+` is linear on each of the cells that meet in u.
With :math:`v = g(u) / \|g(u)\|`, the derivative of the norm along a tangent d is

.. math:: \delta(d) = d^\top A_0 v + \sum_{j : x_j^\top u = 0} (w_j^\top v)\, (x_j^\top d)_+

where :math:`A_0` collects the other samples that are active. It is linear on the sectors between the tangents of the
kinks. Where it vanishes, with :math:`g(z) = A^\top z` in that sector, the squared norm along the great circle through u
and d is :math:`\|A^\top u\|^2 \cos^2 t + \|A^\top d\|^2 \sin^2 t`: constant exactly where both are equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import null_space

from cvxnn.certificates._vector_reduction import ReducedVectorPricing

FloatArray = npt.NDArray[np.float64]

__all__ = ["LocalShape", "local_shape", "sharpened"]

_ON_KINK = 1e-9
_LEVEL = 1e-8
_SAME_ANGLE = 1e-9
_TOP = 1e-9


class LocalShape(NamedTuple):
    """Shape of the norm around a direction, relative to its value.

    Attributes
    ----------
    rise : float
        Largest derivative along a tangent; not positive at a local maximum.
    bend : float
        Least ``(||g(u)||^2 - ||A^T d||^2) / ||g(u)||^2`` over the tangents d along which the derivative vanishes: zero
        along an arc of maxima; infinity where there is no such tangent.
    """

    rise: float
    bend: float


class _Sector(NamedTuple):
    """Tangents in the plane between two angles, with the matrix of the cell that they point into."""

    first: float
    last: float
    matrix: FloatArray

    def holds(self, d: FloatArray) -> bool:
        """Whether a tangent points into the sector."""
        offset = (np.arctan2(d[1], d[0]) - self.first) % (2.0 * np.pi)
        return bool(offset <= self.last - self.first)


def local_shape(problem: ReducedVectorPricing, u: FloatArray) -> LocalShape:
    """Shape of the norm of g around a unit vector, in at most three dimensions."""
    on, kinks = _activity(problem, u)
    base = _matrix(problem, on)
    out = base.T @ u
    value = float(np.linalg.norm(out))
    v = out / value
    if u.size == 1:
        return LocalShape(-np.inf, np.inf)
    tangents = null_space(u[None, :])
    if u.size == 2:
        return _on_the_line(problem, base, kinks, tangents[:, 0], v, value)
    rise, bend = -np.inf, np.inf
    for sector in _sectors(problem, base, kinks, tangents):
        matrix = tangents.T @ sector.matrix
        slope = matrix @ v / value
        form = matrix @ matrix.T / value**2
        rays = [np.array([np.cos(t), np.sin(t)]) for t in (sector.first, sector.last)]
        steepest = float(np.linalg.norm(slope))
        rise = max(rise, *(float(slope @ ray) for ray in rays))
        if steepest <= _LEVEL:
            top = np.linalg.eigh(form)[1][:, -1]
            rays += [d for d in (top, -top) if sector.holds(d)]
        elif sector.holds(slope):
            rise = max(rise, steepest)
        bend = min([bend, *(1.0 - float(d @ form @ d) for d in rays if abs(float(slope @ d)) <= _LEVEL)])
    return LocalShape(rise, bend)


def _on_the_line(
    problem: ReducedVectorPricing,
    base: FloatArray,
    kinks: npt.NDArray[np.intp],
    tangent: FloatArray,
    v: FloatArray,
    value: float,
) -> LocalShape:
    """Shape along the two tangents of a circle."""
    rise, bend = -np.inf, np.inf
    for d in (tangent, -tangent):
        ahead = kinks[problem.rows[kinks] @ d > 0.0]
        image = (base + problem.rows[ahead].T @ problem.weights[ahead]).T @ d / value
        slope = float(image @ v)
        rise = max(rise, slope)
        if abs(slope) <= _LEVEL:
            bend = min(bend, 1.0 - float(image @ image))
    return LocalShape(rise, bend)


def _activity(problem: ReducedVectorPricing, u: FloatArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Samples that are active off their kink, and those on it."""
    heights = problem.rows @ u
    kink = np.abs(heights) <= _ON_KINK * np.linalg.norm(problem.rows, axis=1)
    return (heights > 0.0) & ~kink, np.flatnonzero(kink)


def _matrix(problem: ReducedVectorPricing, on: npt.NDArray[np.bool_]) -> FloatArray:
    return problem.linear + problem.rows[on].T @ problem.weights[on]


def _sectors(
    problem: ReducedVectorPricing, base: FloatArray, kinks: npt.NDArray[np.intp], tangents: FloatArray
) -> list[_Sector]:
    """Sectors of the tangent plane between the tangents of the kinks, at most half a turn each."""
    flat = problem.rows[kinks] @ tangents
    angles = np.arctan2(flat[:, 1], flat[:, 0]) + 0.5 * np.pi if len(kinks) else np.zeros(1)
    cuts = np.sort(np.concatenate([angles, angles + np.pi]) % (2.0 * np.pi))
    cuts = cuts[np.append(np.diff(cuts) > _SAME_ANGLE, True)]
    if len(cuts) > 1 and cuts[0] + 2.0 * np.pi - cuts[-1] <= _SAME_ANGLE:
        cuts = cuts[:-1]
    found = []
    for first, last in zip(cuts, np.append(cuts[1:], cuts[0] + 2.0 * np.pi), strict=True):
        middle = 0.5 * (first + last)
        ahead = kinks[flat @ np.array([np.cos(middle), np.sin(middle)]) > 0.0]
        found.append(_Sector(first, last, base + problem.rows[ahead].T @ problem.weights[ahead]))
    return found


def sharpened(problem: ReducedVectorPricing, u: FloatArray) -> FloatArray:
    """Put a maximiser exactly on its kinks: there it is a leading singular vector of its face."""
    on, kinks = _activity(problem, u)
    units = problem.rows[kinks] / np.linalg.norm(problem.rows[kinks], axis=1, keepdims=True)
    face = null_space(units, rcond=_ON_KINK) if len(kinks) else np.eye(u.size)
    if face.shape[1] == 0:
        return u
    inside = face.T @ _matrix(problem, on)
    vectors, sizes, _ = np.linalg.svd(inside, full_matrices=True)
    leading = vectors[:, : max(int(np.sum(sizes**2 >= (1.0 - _TOP) * sizes[0] ** 2)), 1)]
    moved = face @ (leading @ (leading.T @ (face.T @ u)))
    return moved / np.linalg.norm(moved)
