"""Rows of box least-squares problems, batched: the same for all problems, or other ones for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_GRAM_ENTRIES = 8_000_000  # largest table of row outer products that is kept (64 MB)


class BoxRows:
    """Rows ``y_j`` of shape (q, d), the same for all problems of a batch."""

    def __init__(self, rows: Float) -> None:
        n, d = rows.shape
        self.rows = rows
        self.norms: Float = np.linalg.norm(rows, axis=1)
        self._upper = np.triu_indices(d)
        self._table: Float | None = None
        if n * self._upper[0].size <= _GRAM_ENTRIES:
            self._table = rows[:, self._upper[0]] * rows[:, self._upper[1]]

    @property
    def count(self) -> int:
        return self.rows.shape[0]

    def dots(self, u: Float) -> Float:
        """``y_j^T u_i`` of shape (S, q)."""
        return u @ self.rows.T

    def sums(self, lam: Float) -> Float:
        """``sum_j lam_ij y_j`` of shape (S, d)."""
        return lam @ self.rows

    def gram(self, weights: Float) -> Float:
        """``sum_j w_ij y_j y_j^T`` of shape (S, d, d), as one GEMM where memory allows."""
        d = self.rows.shape[1]
        out = np.empty((weights.shape[0], d, d))
        if self._table is None:
            for k, w in enumerate(weights):
                out[k] = (self.rows.T * w) @ self.rows
            return out
        packed = weights @ self._table
        out[:, self._upper[0], self._upper[1]] = packed
        out[:, self._upper[1], self._upper[0]] = packed
        return out

    def take(self, keep: Bool) -> BoxRows:
        """Rows of the problems that are kept: the same."""
        del keep
        return self

    def chosen(self, which: Bool) -> OwnRows:
        """The rows of each problem that ``which`` (S, q) chooses."""
        counts = which.sum(axis=1)
        most = int(counts.max(initial=0))
        # Stable: the chosen ones first.
        own = self.rows[np.argsort(~which, axis=1, kind="stable")[:, :most]]
        own[np.arange(most) >= counts[:, None]] = 0.0
        return OwnRows(own)


@dataclass(frozen=True)
class OwnRows:
    """Rows (S, m, d), other ones for each problem of a batch; zero where a problem has fewer than m."""

    rows: Float

    @property
    def count(self) -> int:
        return self.rows.shape[1]

    def dots(self, u: Float) -> Float:
        """As those of :class:`BoxRows`, of shape (S, m)."""
        return np.matmul(self.rows, u[:, :, None])[:, :, 0]

    def sums(self, lam: Float) -> Float:
        """As those of :class:`BoxRows`, of shape (S, d)."""
        return np.matmul(lam[:, None, :], self.rows)[:, 0, :]

    def gram(self, weights: Float) -> Float:
        """As that of :class:`BoxRows`, of shape (S, d, d)."""
        return np.matmul(self.rows.transpose(0, 2, 1) * weights[:, None, :], self.rows)

    def take(self, keep: Bool) -> OwnRows:
        """Rows of the problems that are kept."""
        return OwnRows(self.rows[keep])
