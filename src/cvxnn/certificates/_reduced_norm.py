"""What reduced pricing problems share: coordinates, the way back, and the grouping of rows into lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray


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
        lifted = directions if self.basis is None else directions @ self.basis.T
        norms = np.sqrt(np.sum(lifted * lifted, axis=1, keepdims=True))
        return lifted / np.where(norms > 0.0, norms, 1.0)

    def outputs(self, directions: FloatArray) -> FloatArray:
        """Evaluate ``g`` at ``(k, r)`` points: ``(k,)`` or ``(k, c)``."""
        return np.maximum(directions @ self.rows.T, 0.0) @ self.weights + directions @ self.linear


def line_groups(units: FloatArray) -> npt.NDArray[np.intp]:
    """Number of the line through the origin on which each unit row lies; rows that agree to 1e-12 share one."""
    n, d = units.shape
    lead = np.argmax(np.abs(units) > 0.5 / math.sqrt(d), axis=1)
    flips = np.where(units[np.arange(n), lead] < 0.0, -1.0, 1.0)
    # A group that straddles a rounding boundary is merely not merged.
    keys = np.round(units * flips[:, None], 12) + 0.0
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
