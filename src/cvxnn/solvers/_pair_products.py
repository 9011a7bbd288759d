"""Sums ``sum_j w_j x_j x_j^T`` for many weight vectors at once, as matrix products in single precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel, pieces_of

SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

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
        self._table: SingleArray | None = None

    @property
    def count(self) -> int:
        """Number of pairs, ``d (d + 1) / 2``."""
        d = self._rows.shape[1]
        return d * (d + 1) // 2

    def prepare(self) -> None:
        """Form the products of all rows where they fit in memory."""
        if self._table is None and len(self._rows) * self.count <= _CACHED_ENTRIES:
            self._table = self._form(slice(None))

    def of(self, part: slice) -> SingleArray:
        """Products of some of the rows, ``(rows, pairs)``."""
        return self._form(part) if self._table is None else self._table[part]

    def matrices(self, packed: SingleArray) -> SingleArray:
        """Symmetric matrices ``(q, d, d)`` of their upper triangles ``(q, pairs)``."""
        d = self._rows.shape[1]
        out = np.empty((len(packed), d, d), dtype=np.float32)
        out[:, self._upper[0], self._upper[1]] = packed
        out[:, self._upper[1], self._upper[0]] = packed
        return out

    def sums(self, weights: SingleArray) -> SingleArray:
        """Matrices ``(q, d, d)`` for weights ``(q, n)``."""
        n = len(self._rows)
        packed = np.zeros((len(weights), self.count), dtype=np.float32)
        self.prepare()
        if self._table is not None:
            table = self._table

            def multiply(part: Sequence[int]) -> None:
                rows = slice(part[0], part[-1] + 1)
                np.matmul(weights[rows], table, out=packed[rows])

            in_parallel(multiply, pieces_of(range(len(weights))))
        else:
            step = max(16, _SLAB_ENTRIES // self.count)
            for low in range(0, n, step):
                part = slice(low, low + step)
                packed += weights[:, part] @ self.of(part)
        return self.matrices(packed)

    @cached_property
    def _upper(self) -> tuple[IntArray, IntArray]:
        first, second = np.triu_indices(self._rows.shape[1])
        return first, second

    def _form(self, part: slice) -> SingleArray:
        return self._rows[part][:, self._upper[0]] * self._rows[part][:, self._upper[1]]
