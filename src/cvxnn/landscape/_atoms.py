r"""All directions at which a dual-feasible vector attains its dual norm: the atoms of the optimal networks.

With the samples split by the sign of their weight in :math:`h(u) = s\,\nu^\top (Xu)_+`, the convex part is a maximum of
linear functions and the concave part a minimum, so that

.. math:: \max_{\|u\| \le 1} h(u) = \max_D\ \min_{0 \le \lambda \le 1}
          \Big\| \sum_{j \in D} h_j x_j - \sum_{h_j < 0} \lambda_j |h_j| x_j \Big\| ,

where D runs over the patterns of the samples of positive weight alone. Each D has one maximiser, the unit residual, and
every maximiser of h belongs to each D that agrees with its signs. Any multipliers give an upper bound, which
discards nearly all D; the rest are solved exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.optimize import lsq_linear

from cvxnn.certificates._reduction import ReducedPricing, reduce_pricing
from cvxnn.networks import unit_rows
from cvxnn.patterns import ActivationPatterns, enumerate_patterns
from cvxnn.patterns.limits import Limits

FloatArray = npt.NDArray[np.float64]

__all__ = ["NEAR", "SAME_DIRECTION", "Atoms", "distinct", "find_atoms"]

NEAR = 1e-3
"""Maxima further below the largest than this relative distance are not told apart."""

SAME_DIRECTION = 1e-6
"""Directions closer than this are one."""

_ON_KINK = 1e-9
_ROUNDS = 50
_ENTRIES = 4_000_000
_CHECK_EVERY = 5
_SCREENING_STEPS = 300


@dataclass(frozen=True, eq=False)
class Atoms:
    """Directions and output weights at which a local maximum comes near, or reaches, the level.

    Attributes
    ----------
    directions : ndarray (k, d)
        Unit vectors.
    outputs : ndarray (k,) or (k, c)
        Signs s, +1.0 or -1.0, for one output; unit vectors v for several.
    values : ndarray (k,)
        ``s * nu^T (X u)_+``, or ``v^T N^T (X u)_+``.
    rejected : float
        No other local maximum has a larger value.
    n_patterns : int
        Patterns searched, both signs together.
    bends : ndarray (k,)
        How much the square of the value falls along a great circle, relative to itself and to the square of the sine of
        the angle: zero on an arc of maxima, which exist for several outputs only; infinity where it falls at once.
    """

    directions: FloatArray
    outputs: FloatArray
    values: FloatArray
    rejected: float
    n_patterns: int
    bends: FloatArray

    def above(self, level: float) -> Atoms:
        """Only those whose value reaches the level."""
        keep = self.values >= level
        rejected = max(self.rejected, float(np.max(self.values[~keep], initial=0.0)))
        kept = (self.directions[keep], self.outputs[keep], self.values[keep])
        return Atoms(*kept, rejected, self.n_patterns, self.bends[keep])

    @property
    def largest(self) -> float:
        """Largest value, 0 where there is none."""
        return float(np.max(self.values, initial=0.0))


def find_atoms(X: FloatArray, nu: FloatArray, beta: float, *, limits: Limits) -> Atoms:
    """Find every local maximum of ``s * nu^T (X u)_+`` on the unit sphere, for both s, that comes near beta.

    Parameters
    ----------
    X : ndarray (n, d)
        Data.
    nu : ndarray (n,)
        Dual vector.
    beta : float
        The level; maxima of at least ``(1 - NEAR) beta`` are returned.
    limits : Limits
        Largest accepted number of patterns, and the time.

    Raises
    ------
    PatternLimitError
        When the patterns of the samples of one sign of weight exceed a limit.
    """
    reduced = reduce_pricing(X, nu)
    floor = (1.0 - NEAR) * beta
    if reduced is None:
        return Atoms(np.zeros((0, X.shape[1])), np.zeros(0), np.zeros(0), floor, 0, np.zeros(0))
    found, signs, count = [np.zeros((0, X.shape[1]))], [np.zeros(0)], 0
    for sign in (1.0, -1.0):
        search = _Search(reduced, sign, float(np.ldexp(floor, -reduced.exponent)), limits)
        points = search.run()
        if len(points):
            found.append(np.array([_refine(X, sign * nu, point) for point in reduced.lift(points)]))
            signs.append(np.full(len(points), sign))
        count += search.n_patterns
    points, signed = np.vstack(found), np.concatenate(signs)
    values = signed * (np.maximum(points @ X.T, 0.0) @ nu)
    order = distinct(points, signed, values)
    return Atoms(points[order], signed[order], values[order], floor, count, np.full(len(order), np.inf))


class _Search:
    """The maxima of one sign whose value reaches a floor."""

    def __init__(self, reduced: ReducedPricing, sign: float, floor: float, limits: Limits) -> None:
        weights = sign * reduced.weights
        self.floor = floor
        self.limits = limits
        self.linear = sign * reduced.linear
        convex = weights > 0.0
        self.rows = reduced.rows[convex]
        self.heavy = weights[convex][:, None] * self.rows
        self.sizes = np.linalg.norm(self.rows, axis=1)
        # One column for each sample of negative weight.
        concave = weights < 0.0
        self.columns = (reduced.rows[concave] * -weights[concave][:, None]).T
        self.n_patterns = 1

    def run(self) -> FloatArray:
        """Return unit maximisers ``(q, r)``, possibly repeated."""
        if len(self.rows) == 0:
            return self._finish(np.zeros((1, 0), dtype=np.bool_))
        patterns = self._patterns()
        self.n_patterns = len(patterns)
        found = [np.zeros((0, self.linear.size))]
        size = max(_ENTRIES // max(self.columns.shape[1], len(self.rows)), 64)
        for _, masks in patterns.chunks(size):
            self.limits.check_time()
            found.append(self._finish(masks[self._screen(masks @ self.heavy + self.linear)]))
        return np.vstack(found)

    def _patterns(self) -> ActivationPatterns:
        return enumerate_patterns(
            self.rows,
            max_patterns=self.limits.max_patterns,
            max_memory=self.limits.max_memory,
            time_limit=self.limits.time_limit,
        )

    def _screen(self, targets: FloatArray) -> npt.NDArray[np.intp]:
        """Tell which targets ``(B, r)`` may be as far as the floor from the zonotope of the columns.

        Accelerated projected gradient steps on the multipliers; whatever they are, the residual bounds the value.
        """
        index = np.arange(len(targets))
        if self.columns.shape[1] == 0:
            return index[np.linalg.norm(targets, axis=1) >= self.floor]
        columns = self.columns
        step = 1.0 / float(np.linalg.norm(columns, 2)) ** 2
        current = np.full((len(targets), columns.shape[1]), 0.5)
        ahead, momentum = current, 1.0
        for iteration in range(_SCREENING_STEPS):
            residual = targets[index] - ahead @ columns.T
            new = np.clip(ahead + step * (residual @ columns), 0.0, 1.0)
            after = 0.5 * (1.0 + float(np.sqrt(1.0 + 4.0 * momentum**2)))
            ahead = new + ((momentum - 1.0) / after) * (new - current)
            current, momentum = new, after
            if iteration % _CHECK_EVERY == 0:
                keep = np.linalg.norm(targets[index] - current @ columns.T, axis=1) >= self.floor
                if not keep.all():
                    index, current, ahead = index[keep], current[keep], ahead[keep]
                if index.size == 0:
                    break
        return index

    def _finish(self, masks: npt.NDArray[np.bool_]) -> FloatArray:
        """Maximisers that belong to the masks, followed until their signs agree with their mask."""
        solved: dict[bytes, FloatArray | None] = {}
        found = []
        for mask in masks:
            current = mask
            for _ in range(_ROUNDS):
                key = current.tobytes()
                if key in solved:
                    break
                self.limits.check_time()
                solved[key] = point = self._maximiser(current)
                if point is None:
                    break
                heights = self.rows @ point
                clear = np.abs(heights) > _ON_KINK * self.sizes
                after = np.where(clear, heights > 0.0, current)
                if np.array_equal(after, current):
                    found.append(point)
                    break
                current = after
        return np.array(found).reshape(len(found), self.linear.size)

    def _maximiser(self, mask: npt.NDArray[np.bool_]) -> FloatArray | None:
        target = mask @ self.heavy + self.linear
        residual = target
        if self.columns.shape[1]:
            scale = float(np.max(np.abs(self.columns)))
            solution = lsq_linear(self.columns / scale, target / scale, (0.0, 1.0), method="bvls", tol=1e-15)
            residual = target - self.columns @ solution.x
        length = float(np.linalg.norm(residual))
        return residual / length if length >= self.floor else None


def _refine(X: FloatArray, weights: FloatArray, point: FloatArray) -> FloatArray:
    """Put a maximiser exactly on its kinks: there it is the projected gradient of its face."""
    lengths = np.linalg.norm(X, axis=1)
    heights = X @ point
    clear = np.abs(heights) > _ON_KINK * lengths
    gradient = X.T @ np.where(clear & (heights > 0.0), weights, 0.0)
    kinks = X[~clear & (lengths > 0.0) & (weights != 0.0)]
    refined = _project_out(kinks, gradient)
    length = float(np.linalg.norm(refined))
    if length == 0.0:
        return point
    refined = refined / length
    return refined if float(np.linalg.norm(refined - point)) <= SAME_DIRECTION else point


def _project_out(rows: FloatArray, vector: FloatArray) -> FloatArray:
    """Remove from ``vector`` its part in the span of ``rows``."""
    if len(rows) == 0:
        return vector
    factors: Any = qr(unit_rows(rows).T, mode="economic", pivoting=True)
    diagonal = np.abs(np.diagonal(factors[1]))
    basis = factors[0][:, : int(np.sum(diagonal > 1e-9))]
    vector = vector - basis @ (basis.T @ vector)
    return vector - basis @ (basis.T @ vector)


def distinct(points: FloatArray, signs: FloatArray, values: FloatArray) -> npt.NDArray[np.intp]:
    """Indices of one point of each group closer than the tolerance, sorted by sign, then by coordinates."""
    chosen: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        near = np.linalg.norm(points[chosen] - points[i], axis=1) <= SAME_DIRECTION
        if not np.any(near & (signs[chosen] == signs[i])):
            chosen.append(int(i))
    index = np.array(chosen, dtype=np.intp)
    keys = np.round(points[index], 6) + 0.0
    return index[np.lexsort((*keys.T[::-1], -signs[index]))] if index.size else index
