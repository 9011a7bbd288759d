r"""Exact maximum of :math:`\|N^\top (X u)_+\|` over the unit ball for data of rank at most 3.

On the cone of an activation pattern D the function is :math:`\|A_D^\top u\|` with :math:`A_D = X^\top D N`. Its
maximum over a closed cell is attained on the boundary, or inside at a leading left singular vector of :math:`A_D`.
The boundaries are the great circles :math:`x_j^\top u = 0`; on each of them the same holds one dimension lower, and the
arcs between consecutive samples are searched in closed form, with prefix sums for :math:`A_D`.

Why the bound holds in floating point:

- A circle whose arcs end at rounded angles is the exact circle of rows that are moved by a few units of rounding, which
  changes the function by no more than its Lipschitz constant allows; so do rounded prefix sums.
- Let a leading singular vector u lie inside a cell at distance r from its boundary. There the squared function is
  at least :math:`\sigma_1^2 \cos^2 r`, so that cells of inradius below 1e-5 are covered by the boundaries but for
  5e-11 of the value. A wider cell has an edge longer than 6e-5 / n. Its pattern is that of this edge: the signs of
  rows at an angle of more than 1e-6 to the circle are those of the arc, whose ends are known to 1e-9, and the other
  rows have on the whole cell the sign of its side of the circle.
- Where :math:`\sigma_1` and :math:`\sigma_2` nearly agree the vector is not well determined; but the great circle
  through both vectors leaves the cell, where the squared function is at least :math:`\sigma_2^2`: the maximum inside
  exceeds that on the boundary by no more than :math:`\sigma_1^2 - \sigma_2^2`, squared.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from cvxnn.certificates._great_circles import CircleSweep, plane_bases
from cvxnn.certificates._rounding import FloatArray, gamma
from cvxnn.certificates._vector_reduction import ReducedVectorPricing

__all__ = ["ArrangementScan", "scan_arrangement", "scan_size"]

LARGEST_RANK = 3
MOST_LINES = 4000
"""Up to so many lines the arcs of a rank 3 arrangement, ``4 n^2`` of them, are searched."""

_FAT = 1e-5
_PEAK_TOLERANCE, _FLAT = 1e-5, 1e-10
_ENTRIES = 1 << 21
_TOP = 24


@dataclass
class ArrangementScan:
    """Outcome of a scan, in the units of the reduced problem.

    Attributes
    ----------
    upper : float
        Upper bound of the maximum; infinity where time ran out.
    directions : ndarray (k, r)
        Good unit vectors met, among them a maximiser (up to rounding).
    """

    upper: float
    directions: FloatArray


def scan_size(problem: ReducedVectorPricing) -> int | None:
    """Number of arcs that a scan searches, or None where the rank or the number of lines is beyond it."""
    n = len(problem.rows)
    if problem.rank > LARGEST_RANK or (problem.rank == LARGEST_RANK and n > MOST_LINES):
        return None
    return {1: 2, 2: 2 * n, 3: 4 * n * n}[problem.rank]


def scan_arrangement(
    problem: ReducedVectorPricing, *, starts: FloatArray | None = None, deadline: float = math.inf
) -> ArrangementScan:
    """Search all arcs and cells of a problem of rank at most 3.

    Parameters
    ----------
    problem : ReducedVectorPricing
    starts : ndarray (k, r), optional
        Directions whose values help to leave out cells.
    deadline : float
        On the clock of ``time.perf_counter``.
    """
    r = problem.rank
    if r == 1:
        points = np.array([[1.0], [-1.0]])
        slack = gamma(2 * len(problem.rows) + 16) * problem.lipschitz
        return ArrangementScan(float(np.max(problem.values(points))) * (1.0 + 1e-14) + slack, points)
    search = _Search(problem, starts)
    if r == 2:
        search.circles(np.eye(2)[None], None)
    else:
        n, c = problem.weights.shape
        step = max(1, _ENTRIES // (2 * n * 5 * c))
        for first in range(0, n, step):
            if time.perf_counter() > deadline:
                return ArrangementScan(math.inf, search.directions())
            index = np.arange(first, min(first + step, n))
            search.circles(plane_bases(search.units[index]), index)
    return ArrangementScan(search.upper(), search.directions())


@dataclass
class _Cells:
    """Cells whose leading singular value exceeds what the boundaries are known to attain."""

    first: list[FloatArray] = field(default_factory=list)
    second: list[FloatArray] = field(default_factory=list)
    attained: list[FloatArray] = field(default_factory=list)


class _Search:
    """Running maximum over circles, and the cells that may exceed it."""

    def __init__(self, problem: ReducedVectorPricing, starts: FloatArray | None) -> None:
        self.problem = problem
        n = len(problem.rows)
        self.units = problem.rows / np.linalg.norm(problem.rows, axis=1, keepdims=True)
        # Prefix sums of 2n terms, rounded angles and bases: all of them move g by a multiple of its Lipschitz constant.
        self.slack = (gamma(6 * n + 64) + 4e-14) * problem.lipschitz
        self.products = problem.rows[:, :, None] * problem.weights[:, None, :]
        self.boundary = 0.0
        self.cells = _Cells()
        self.points = np.zeros((0, problem.rank))
        self.values = np.zeros(0)
        seeds = [self.units, -self.units] if n <= 512 else [self.units[:512]]
        if starts is not None and len(starts):
            sizes = np.linalg.norm(starts, axis=1)
            seeds.append(starts[sizes > 0] / sizes[sizes > 0, None])
        self.keep(np.vstack(seeds))

    def keep(self, points: FloatArray) -> FloatArray:
        """Remember the best of some directions; return the values of all."""
        values = self.problem.values(points)
        joined, heights = np.vstack([self.points, points]), np.concatenate([self.values, values])
        order = np.argsort(-heights, kind="stable")[: 8 * _TOP]
        self.points, self.values = joined[order], heights[order]
        return values

    def directions(self) -> FloatArray:
        """The best directions met, without those that nearly agree with better ones."""
        kept: list[int] = []
        for k in range(len(self.points)):
            if len(kept) == _TOP:
                break
            if not kept or np.max(self.points[kept] @ self.points[k]) < 1.0 - 1e-9:
                kept.append(k)
        return self.points[kept]

    def upper(self) -> float:
        """Upper bound of the maximum from circles and cells."""
        thin = 1.0 if self.problem.rank == 2 else 1.0 / math.sqrt(1.0 - _FAT * _FAT)
        boundary = max(self.boundary, float(np.max(self.values, initial=0.0))) * thin + self.slack
        top = boundary
        if self.cells.first:
            first, second = np.concatenate(self.cells.first), np.concatenate(self.cells.second)
            attained = np.concatenate(self.cells.attained)
            gap = np.maximum(first - second, 0.0)
            lipschitz = self.problem.lipschitz
            # The computed vector is off by an angle of the error of the matrix over the gap of its eigenvalues.
            angle = 16.0 * self.slack * np.sqrt(first) / np.maximum(gap, 1e-300)
            inside = attained >= np.sqrt(first) - 2.0 * self.slack - lipschitz * np.minimum(angle, 1.0)
            capped = np.minimum(np.sqrt(first), np.sqrt(boundary * boundary + gap)) + 2.0 * self.slack
            top = max(top, float(np.max(capped[inside], initial=0.0)))
        return top * (1.0 + 1e-14)

    def circles(self, bases: FloatArray, index: np.ndarray | None) -> None:
        """Search great circles with bases ``(q, r, 2)``; those of the rows ``index`` border cells."""
        sweep = CircleSweep.of(self.problem, bases)
        self._arcs(bases, sweep.start, sweep.arcs(self.problem))
        if index is not None:
            for matrices in sweep.cells(self.problem, self.units, self.products, index):
                self._interiors(matrices)

    def _arcs(self, bases: FloatArray, start: FloatArray, matrices: FloatArray) -> None:
        """Largest value on each arc: at its start (its end is the start of the next one) or at a peak inside."""
        points = np.stack([np.cos(start), np.sin(start)], axis=-1)
        outputs = np.einsum("qei,qeic->qec", points, matrices)
        ends = np.sqrt(np.sum(outputs * outputs, axis=2))
        square = np.sum(matrices * matrices, axis=3)
        mean = 0.5 * (square[..., 0] + square[..., 1])
        half = 0.5 * (square[..., 0] - square[..., 1])
        cross = np.sum(matrices[..., 0, :] * matrices[..., 1, :], axis=2)
        radius = np.hypot(half, cross)
        length = np.diff(start, axis=1, append=start[:, :1] + 2.0 * np.pi)
        offset = np.mod(0.5 * np.arctan2(cross, half) - start + _PEAK_TOLERANCE, np.pi)
        # A peak that is flat to rounding counts wherever it lies, at a loss of no more than its height.
        inside = (offset <= length + 2.0 * _PEAK_TOLERANCE) | (radius <= _FLAT * mean)
        peaks = np.where(inside, np.sqrt(mean + radius), 0.0)
        self.boundary = max(self.boundary, float(np.max(ends)), float(np.max(peaks)))
        angles = np.where(inside & (peaks > ends), start + offset - _PEAK_TOLERANCE, start)
        values = np.maximum(ends, peaks)
        best = np.argpartition(-values.ravel(), min(4 * _TOP, values.size - 1))[: 4 * _TOP]
        circle = best // values.shape[1]
        chosen = angles.ravel()[best]
        flat = np.stack([np.cos(chosen), np.sin(chosen)], axis=1)
        found = np.einsum("kri,ki->kr", bases[circle], flat)
        self.keep(found / np.linalg.norm(found, axis=1, keepdims=True))

    def _interiors(self, matrices: FloatArray) -> None:
        """Note cells whose leading singular value exceeds the boundaries met so far."""
        matrices = matrices.reshape(-1, *matrices.shape[2:])
        known = max(self.boundary, float(np.max(self.values, initial=0.0)))
        gram = np.matmul(matrices, matrices.transpose(0, 2, 1))
        squared = np.matmul(gram, gram)
        # lambda_1^4 is at most the trace of the fourth power.
        cap = np.sqrt(np.sqrt(np.sum(squared * squared, axis=(1, 2))))
        gram = gram[cap * (1.0 + 1e-12) > known * known]
        if not len(gram):
            return
        eigenvalues, vectors = np.linalg.eigh(gram)
        high = eigenvalues[:, -1] > known * known
        if not high.any():
            return
        leading = vectors[high, :, -1]
        attained = np.maximum(self.keep(leading), self.keep(-leading))
        self.cells.first.append(eigenvalues[high, -1])
        self.cells.second.append(eigenvalues[high, -2])
        self.cells.attained.append(attained)
