"""What reduced pricing problems share: coordinates, the way back, and the grouping of rows into lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._tall_tables import row_groups, tall_slabs
from cvxnn.certificates._rounding import FloatArray, gamma


@dataclass(frozen=True)
class ReducedNorm:
    """Function ``g(z) = linear^T z + sum_j weights_j (rows_j^T z)_+`` on the ball of ``R^r``.

    The maximum of the original function over its unit ball is at most ``2**exponent * (factor * max g + slack)``.

    Attributes
    ----------
    rows : ndarray (n, r)
    weights : ndarray (n,) or (n, c)
    linear : ndarray (r,) or (r, c)
    factor, slack : float
    exponent : int
    basis : ndarray (d, r) or None
        Basis of the row space, None where the coordinates are the original ones.
    """

    rows: FloatArray
    weights: FloatArray
    linear: FloatArray
    factor: float
    slack: float
    exponent: int
    basis: FloatArray | None

    @property
    def rank(self) -> int:
        """Number of coordinates."""
        return self.rows.shape[1]

    def upper(self, value: float) -> float:
        """Carry an upper bound of the reduced problem back to the original one, rounding up."""
        padded = (max(value, 0.0) * self.factor + self.slack) * (1.0 + 4e-16)
        try:
            # The scaling is exact unless the result is subnormal.
            return math.nextafter(math.ldexp(padded, self.exponent), math.inf)
        except OverflowError:
            return math.inf

    def lift(self, directions: FloatArray) -> FloatArray:
        """Map reduced directions ``(k, r)`` to unit vectors ``(k, d)``."""
        return lift_units(directions, self.basis)

    def outputs(self, directions: FloatArray) -> FloatArray:
        """Evaluate ``g`` at ``(k, r)`` points: ``(k,)`` or ``(k, c)``."""
        return np.maximum(directions @ self.rows.T, 0.0) @ self.weights + directions @ self.linear


@dataclass(frozen=True)
class MergedLines:
    """Rows by the lines that they lie on: ``X ~ ratio * reference``, where the longest row of a line is its reference.

    Attributes
    ----------
    group : ndarray (n,) of int
        Number of the line of each row.
    heads : ndarray (k,) of int
        Row that is the longest of each line.
    lengths : ndarray (n,)
        Norms of the rows; 1 for a zero row.
    reference : ndarray (n, d)
        Longest row of the line of each row.
    ratio : ndarray (n,)
        Negative where a row points the other way.
    defect : ndarray (n, d)
        Bound of the entries of ``X - ratio * reference``, rounding included; zero for a row alone on its line.
    alone : ndarray (n,) of bool
        Whether a row shares its line with no other.
    """

    group: npt.NDArray[np.intp]
    heads: npt.NDArray[np.intp]
    lengths: FloatArray
    reference: FloatArray
    ratio: FloatArray
    defect: FloatArray
    alone: npt.NDArray[np.bool_]


def merged_lines(X: FloatArray) -> MergedLines | None:
    """Return the lines on which the rows of ``X (n, d)`` lie, or None where each row is alone on its line."""
    n = len(X)
    lengths = np.empty(n)
    for rows in tall_slabs(X):
        lengths[rows] = np.sqrt(np.sum(X[rows] * X[rows], axis=1))
    lengths[lengths == 0.0] = 1.0
    group = line_groups(X, lengths)
    if int(group.max()) + 1 == n:
        return None
    order = np.lexsort((lengths, group))
    last = np.append(np.flatnonzero(np.diff(group[order])), n - 1)
    heads = order[last]  # the longest row of each group
    reference = X[heads][group]
    ratio = np.sum(X * reference, axis=1) / np.sum(reference * reference, axis=1)
    parallel = ratio[:, None] * reference
    defect = np.abs(X - parallel) + gamma(3) * (np.abs(X) + np.abs(parallel))
    alone = np.bincount(group)[group] == 1
    ratio[alone], defect[alone] = 1.0, 0.0
    return MergedLines(group, heads, lengths, reference, ratio, defect, alone)


def line_groups(X: FloatArray, lengths: FloatArray) -> npt.NDArray[np.intp]:
    """Number of the line through the origin on which each row of this length lies, to 1e-12, ``(n,)``."""
    n, d = X.shape
    divisor = np.empty(n)
    for rows in tall_slabs(X):
        units = X[rows] / lengths[rows, None]
        lead = np.argmax(np.abs(units) > 0.5 / math.sqrt(d), axis=1)
        divisor[rows] = np.where(units[np.arange(len(units)), lead] < 0.0, -lengths[rows], lengths[rows])
    # A line that straddles a rounding boundary merely gets two keys. Most rows differ in the first of them.
    keys = (np.round(column / divisor, 12) + 0.0 for column in X.T)
    return row_groups(keys, n)


def lift_units(directions: FloatArray, basis: FloatArray | None) -> FloatArray:
    """Map directions ``(k, r)`` in coordinates of a basis ``(d, r)`` to unit vectors ``(k, d)``; zero stays zero."""
    lifted = directions if basis is None else directions @ basis.T
    norms = np.sqrt(np.sum(lifted * lifted, axis=1, keepdims=True))
    return lifted / np.where(norms > 0.0, norms, 1.0)
