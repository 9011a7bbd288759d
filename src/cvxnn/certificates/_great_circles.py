r"""Sums of the active samples behind every arc of great circles, and in the cells on both sides of it.

With :math:`g(z) = L^\top z + \sum_j w_j (x_j^\top z)_+` and values in :math:`R^c`, a great circle is cut into arcs by
the samples that switch on or off along it. On an arc g is linear; so it is in the cells that border the arc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray
from cvxnn.certificates._vector_reduction import ReducedVectorPricing

__all__ = ["CircleSweep", "plane_bases"]

_PARALLEL = 1e-6
"""Rows at a smaller angle to a circle count as constant along it."""


@dataclass(frozen=True, eq=False)
class CircleSweep:
    """Arcs of q great circles between consecutive samples.

    Attributes
    ----------
    bases : ndarray (q, r, 2)
        Orthonormal bases of the planes of the circles.
    flat : ndarray (q, n, 2)
        Rows in these planes.
    start : ndarray (q, 2n)
        Angles at which the arcs begin, ascending; each ends where the next one begins.
    order, before : ndarray
        Rows in the order in which they switch, and those that are on at the angle -pi.
    """

    bases: FloatArray
    flat: FloatArray
    start: FloatArray
    order: npt.NDArray[np.intp]
    before: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, problem: ReducedVectorPricing, bases: FloatArray) -> CircleSweep:
        """Sort the samples along circles with bases ``(q, r, 2)``."""
        flat = np.matmul(problem.rows, bases)
        return cls(bases, flat, *_events(flat))

    def arcs(self, problem: ReducedVectorPricing) -> FloatArray:
        """Matrices A ``(q, 2n, 2, c)`` with ``g = A^T p`` at the points p of the plane on each arc."""
        terms = self.flat[:, :, :, None] * problem.weights[None, :, None, :]
        matrices = _prefix_sums(terms, self.order, self.before)
        matrices += np.einsum("qri,rc->qic", self.bases, problem.linear)[:, None]
        return matrices

    def cells(
        self, problem: ReducedVectorPricing, units: FloatArray, products: FloatArray, index: npt.NDArray[np.intp]
    ) -> Iterator[FloatArray]:
        """Matrices A ``(q, 2n, r, c)`` with ``g = A^T z`` in the cells next to each arc: of one side, then the other.

        The circles are those of the rows ``index``; ``units`` are the rows of unit length, ``products`` all
        ``x_j w_j^T``.
        """
        near = 1.0 - np.abs(units[index] @ units.T) < 0.5 * _PARALLEL * _PARALLEL
        near |= np.sqrt(np.sum(self.flat * self.flat, axis=2)) <= _PARALLEL * np.linalg.norm(problem.rows, axis=1)
        terms = np.where(near[:, :, None, None], 0.0, products[None])
        matrices = _prefix_sums(terms, self.order, self.before) + problem.linear
        aligned = near & (units[index] @ units.T > 0.0)
        for side in (aligned, near & ~aligned):
            yield matrices + np.einsum("qn,nrc->qrc", side.astype(np.float64), products)[:, None]


def plane_bases(normals: FloatArray) -> FloatArray:
    """Orthonormal bases ``(q, 3, 2)`` of the planes orthogonal to unit vectors ``(q, 3)``."""
    axis = np.eye(3)[np.argmin(np.abs(normals), axis=1)]
    first = np.cross(normals, axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.asarray(np.cross(normals, first), dtype=np.float64)], axis=2)


def _events(flat: FloatArray) -> tuple[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Angles at which rows ``(q, n, 2)`` switch on and off, sorted ``(q, 2n)``; their order; rows on at the angle -pi.

    Entry e of the order is a row that switches on there, or n plus a row that switches off.
    """
    angle = np.arctan2(flat[..., 1], flat[..., 0])
    on, off = angle - 0.5 * np.pi, angle + 0.5 * np.pi
    on = np.where(on < -np.pi, on + 2.0 * np.pi, on)
    off = np.where(off >= np.pi, off - 2.0 * np.pi, off)
    events = np.concatenate([on, off], axis=1)
    order = np.argsort(events, axis=1, kind="stable")
    return np.take_along_axis(events, order, axis=1), order, off < on


def _prefix_sums(terms: FloatArray, order: npt.NDArray[np.intp], before: npt.NDArray[np.bool_]) -> FloatArray:
    """Sums of the terms ``(q, n, i, c)`` of the rows that are on behind each event, ``(q, 2n, i, c)``."""
    initial = np.einsum("qn,qnic->qic", before.astype(np.float64), terms)
    steps = np.concatenate([terms, -terms], axis=1)
    steps = np.take_along_axis(steps, order[:, :, None, None], axis=1)
    steps[:, 0] += initial
    return np.cumsum(steps, axis=1, out=steps)
