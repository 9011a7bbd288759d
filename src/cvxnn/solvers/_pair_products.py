"""Sums ``sum_j w_j x_j x_j^T`` for many weight vectors at once, as matrix products in single precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvxnn.solvers._workers import in_parallel, pieces_of

SingleArray = npt.NDArray[np.float32]

__all__ = ["PairProducts"]

_CACHED_ENTRIES = 10_000_000
_SLAB_ENTRIES = 1 << 20


class PairProducts:
    """Products of pairs of features, row by row: kept where they fit in memory, else formed slab by slab.

    Parameters
    ----------
    rows : ndarray (n, d) of float32

    Examples
    --------
    >>> products = PairProducts(np.eye(2, dtype=np.float32))
    >>> products.sums(np.array([[3.0, 4.0]], dtype=np.float32))
    array([[[3., 0.],
            [0., 4.]]], dtype=float32)
    """

    def __init__(self, rows: SingleArray) -> None:
        self._rows = rows
        self._upper = np.triu_indices(rows.shape[1])
        self._table: SingleArray | None = None

    def _products(self, part: slice) -> SingleArray:
        return self._rows[part][:, self._upper[0]] * self._rows[part][:, self._upper[1]]

    def sums(self, weights: SingleArray) -> SingleArray:
        """Matrices ``(q, d, d)`` for weights ``(q, n)``."""
        n, d = self._rows.shape
        pairs = len(self._upper[0])
        if self._table is None and n * pairs <= _CACHED_ENTRIES:
            self._table = self._products(slice(None))
        if self._table is not None:
            packed = np.empty((len(weights), pairs), dtype=np.float32)
            table = self._table

            def multiply(part: Sequence[int]) -> None:
                rows = slice(part[0], part[-1] + 1)
                np.matmul(weights[rows], table, out=packed[rows])

            in_parallel(multiply, pieces_of(range(len(weights))))
        else:
            packed = np.zeros((len(weights), pairs), dtype=np.float32)
            step = max(16, _SLAB_ENTRIES // pairs)
            for low in range(0, n, step):
                part = slice(low, low + step)
                packed += weights[:, part] @ self._products(part)
        out = np.empty((len(weights), d, d), dtype=np.float32)
        out[:, self._upper[0], self._upper[1]] = packed
        out[:, self._upper[1], self._upper[0]] = packed
        return out
