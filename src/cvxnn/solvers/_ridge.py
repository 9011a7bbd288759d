r"""Linear algebra of the weighted ridge problem behind the group lasso, in sample space or in block space.

With fixed weights ``w`` the penalty :math:`\tfrac{\beta}{2}\sum_i \|u_i\|^2/w_i` makes the fit
:math:`f = G\alpha,\ G = \sum_i w_i D_i X X^T D_i` (representer theorem). Both classes below apply ``G`` and solve
:math:`(\beta I + H G) d = r` for a diagonal ``H >= 0``: :class:`KernelRidge` factorises an n x n matrix that is formed
in n^2 k operations, because ``G`` is the Hadamard product of ``X X^T`` and ``D diag(w) D^T``; :class:`GramRidge`
factorises a kd x kd matrix and is the better one where kd < n.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Bytes of a temporary slab of rows.
_SLAB = 1 << 25


class Blocks:
    """Working set: data ``X (n, d)`` and float masks ``D (n, k)`` of the blocks with identifiers ``ids (k,)``."""

    def __init__(self, X: FloatArray, masks: FloatArray, ids: IntArray) -> None:
        self.X, self.masks, self.ids = X, masks, ids

    def correlate(self, x: FloatArray) -> FloatArray:
        """Rows ``X^T D_i x``, ``(k, d)``."""
        return (self.masks * x[:, None]).T @ self.X

    def columns(self, vectors: FloatArray) -> FloatArray:
        """Columns ``D_i X u_i``, ``(n, k)``."""
        return self.masks * (self.X @ vectors.T)

    def take(self, keep: npt.NDArray[np.bool_]) -> Blocks:
        """Blocks where ``keep`` holds."""
        return self if keep.all() else Blocks(self.X, np.ascontiguousarray(self.masks[:, keep]), self.ids[keep])


class Ridge(ABC):
    """Operator ``G`` for one weight vector, with the factorisation for one diagonal ``H``."""

    def __init__(self, blocks: Blocks, w: FloatArray, beta: float) -> None:
        self._blocks, self._w, self._beta = blocks, w, beta

    def apply(self, x: FloatArray) -> FloatArray:
        """``G x``, through the blocks: far smaller rounding errors than a product with the matrix ``G`` itself."""
        return np.sum(self._blocks.columns(self._w[:, None] * self._blocks.correlate(x)), axis=1)

    @abstractmethod
    def factorise(self, curvature: FloatArray) -> None:
        """Factorise for ``H = diag(curvature)``; raises LinAlgError where it is not positive definite."""

    @abstractmethod
    def solve(self, r: FloatArray) -> FloatArray:
        """``(beta I + H G)^{-1} r``."""

    @abstractmethod
    def weight_hessian(self, columns: FloatArray) -> FloatArray:
        r"""``B^T (beta I + H G)^{-1} H B`` for columns ``B (n, k)``: curvature of the ridge optimum in ``w``."""


class KernelRidge(Ridge):
    """Route through the n x n matrix ``beta I + H^{1/2} G H^{1/2}``."""

    def __init__(self, blocks: Blocks, kernel: FloatArray, w: FloatArray, beta: float) -> None:
        super().__init__(blocks, w, beta)
        scaled = blocks.masks * np.sqrt(w)
        self._gram = scaled @ scaled.T
        self._gram *= kernel

    def factorise(self, curvature: FloatArray) -> None:
        self._root = np.sqrt(curvature)
        if np.all(curvature == 1.0):
            system = self._gram.copy()
        else:
            system = self._gram * self._root
            system *= self._root[:, None]
        system.flat[:: len(system) + 1] += self._beta
        # The transpose of a C-ordered symmetric matrix is Fortran-ordered: LAPACK works in place.
        self._factor = cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)

    def solve(self, r: FloatArray) -> FloatArray:
        inner = cho_solve(self._factor, self._root * (self._gram @ r), check_finite=False)
        return (r - self._root * inner) / self._beta

    def weight_hessian(self, columns: FloatArray) -> FloatArray:
        half = solve_triangular(
            self._factor[0], self._root[:, None] * columns, lower=True, overwrite_b=True, check_finite=False
        )
        return half.T @ half


class GramRidge(Ridge):
    """Route through the kd x kd matrix ``beta I + A^T H A`` with ``A = [sqrt(w_i) D_i X]``."""

    def __init__(self, blocks: Blocks, w: FloatArray, beta: float, cache: GramCache | None = None) -> None:
        super().__init__(blocks, w, beta)
        self._cache = cache
        self._root = np.sqrt(w)[:, None]

    def _down(self, x: FloatArray) -> FloatArray:
        return (self._root * self._blocks.correlate(x)).ravel()

    def _up(self, p: FloatArray) -> FloatArray:
        return np.sum(self._blocks.columns(self._root * p.reshape(-1, self._blocks.X.shape[1])), axis=1)

    def factorise(self, curvature: FloatArray) -> None:
        self._curvature = curvature
        if self._cache is None:
            system = cross_gram(self._blocks, self._blocks, curvature)
        else:
            system = self._cache.gram(self._blocks, curvature)
        scale = np.repeat(self._root[:, 0], self._blocks.X.shape[1])
        system *= scale
        system *= scale[:, None]
        system.flat[:: len(system) + 1] += self._beta
        self._factor = cho_factor(system.T, lower=True, overwrite_a=True, check_finite=False)

    def solve(self, r: FloatArray) -> FloatArray:
        inner = cho_solve(self._factor, self._down(r), check_finite=False)
        return (r - self._curvature * self._up(inner)) / self._beta

    def weight_hessian(self, columns: FloatArray) -> FloatArray:
        curved = self._curvature[:, None] * columns
        k, d = self._blocks.masks.shape[1], self._blocks.X.shape[1]
        down = np.empty((k, d, columns.shape[1]))
        for i in range(k):
            down[i] = self._root[i] * ((self._blocks.X * self._blocks.masks[:, i, None]).T @ curved)
        half = solve_triangular(
            self._factor[0], down.reshape(k * d, -1), lower=True, overwrite_b=True, check_finite=False
        )
        return (columns.T @ curved - half.T @ half) / self._beta


def cross_gram(left: Blocks, right: Blocks, curvature: FloatArray) -> FloatArray:
    """Matrix of the blocks ``X^T D_i H D_j X``, ``(k d, k' d)``, gathered over slabs of rows."""
    n, d = left.X.shape
    out = np.zeros((left.masks.shape[1] * d, right.masks.shape[1] * d))
    step = max(1, _SLAB // (8 * max(out.shape)))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        a = _expand(left, rows, curvature[rows])
        b = a if left is right and np.all(curvature[rows] == 1.0) else _expand(right, rows, None)
        out += a.T @ b
    return out


def _expand(blocks: Blocks, rows: slice, curvature: FloatArray | None) -> FloatArray:
    x = blocks.X[rows] if curvature is None else blocks.X[rows] * curvature[:, None]
    return (blocks.masks[rows, :, None] * x[:, None, :]).reshape(len(x), -1)


class GramCache:
    """Gram blocks of a loss with constant curvature, kept from one weight vector to the next."""

    def __init__(self) -> None:
        self._stored: Blocks | None = None
        self._gram = np.zeros((0, 0))

    def gram(self, blocks: Blocks, curvature: FloatArray) -> FloatArray:
        """Copy of the matrix of ``blocks``; only the blocks that are not stored are computed."""
        d = blocks.X.shape[1]
        known = {} if self._stored is None else {int(b): i for i, b in enumerate(self._stored.ids)}
        new = np.array([int(b) not in known for b in blocks.ids], dtype=bool)
        if self._stored is None or np.all(new):
            self._stored, self._gram = blocks, cross_gram(blocks, blocks, curvature)
            return self._gram.copy()
        if np.any(new):
            self._extend(self._stored, blocks.take(new), curvature)
            known = {int(b): i for i, b in enumerate(self._stored.ids)}
        place = np.array([known[int(b)] for b in blocks.ids])
        entries = (place[:, None] * d + np.arange(d)).ravel()
        if len(place) < len(self._stored.ids) // 2:
            keep = np.sort(place)
            kept = (keep[:, None] * d + np.arange(d)).ravel()
            out = self._gram[np.ix_(entries, entries)]
            self._gram = self._gram[np.ix_(kept, kept)]
            self._stored = Blocks(blocks.X, self._stored.masks[:, keep], self._stored.ids[keep])
            return out
        return self._gram[np.ix_(entries, entries)]

    def _extend(self, stored: Blocks, fresh: Blocks, curvature: FloatArray) -> None:
        cross = cross_gram(stored, fresh, curvature)
        corner = cross_gram(fresh, fresh, curvature)
        self._gram = np.block([[self._gram, cross], [cross.T, corner]])
        self._stored = Blocks(fresh.X, np.hstack([stored.masks, fresh.masks]), np.concatenate([stored.ids, fresh.ids]))
