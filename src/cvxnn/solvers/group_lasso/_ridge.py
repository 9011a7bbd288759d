r"""Linear algebra of the weighted ridge problem behind the group lasso, in sample space or in block space.

With fixed weights ``w`` the penalty :math:`\tfrac{\beta}{2}\sum_i \|u_i\|^2/w_i` makes the fit
:math:`f = G\alpha,\ G = \sum_i w_i D_i X X^T D_i` (representer theorem). Both classes below apply ``G`` and solve
:math:`(\beta I + H G) d = r` for a diagonal ``H > 0``: :class:`KernelRidge` factorises an n x n matrix that is formed
in n^2 k operations, because ``G`` is the Hadamard product of ``X X^T`` and ``D diag(w) D^T``; :class:`GramRidge`
factorises a kd x kd matrix and is the better one where kd < n. A kernel in single precision halves time and memory;
its factor is then a preconditioner, and conjugate gradients with the blocks in double precision do the rest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, get_blas_funcs, get_lapack_funcs

from cvxnn.solvers.group_lasso._kernel_square import Factor, KernelSquare

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# The wrappers of these take longer than the routines on small matrices.
_LAPACK: Any = get_lapack_funcs(("potrf", "potrs", "trtrs"), dtype=np.float64)
_POTRF, _POTRS, _TRTRS = _LAPACK
# Shifts of a matrix, relative to its diagonal, that rounding has made indefinite.
_SHIFTS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)
# Bytes of a temporary slab of rows, and entries of a temporary slab of columns.
_SLAB, _FIT_ENTRIES = 1 << 25, 1 << 18


class WorkingBlocks:
    """Working set: data ``X (n, d)`` and float masks ``D (n, k)`` of the blocks with identifiers ``ids (k,)``."""

    def __init__(self, X: FloatArray, masks: FloatArray, ids: IntArray) -> None:
        # One block a row in memory: blocks are added and taken away, samples are not.
        self.X, self._rows, self.ids = X, np.ascontiguousarray(masks.T), ids

    @property
    def masks(self) -> FloatArray:
        """Masks ``(n, k)``."""
        return self._rows.T

    def correlate(self, x: FloatArray) -> FloatArray:
        """Rows ``X^T D_i x``, ``(k, d)``."""
        return self._rows @ (self.X * x[:, None])

    def columns(self, vectors: FloatArray) -> FloatArray:
        """Columns ``D_i X u_i``, ``(n, k)``."""
        return (self._rows * (vectors @ self.X.T)).T

    def single_columns(self, vectors: FloatArray) -> npt.NDArray[np.float32]:
        """The same columns in single precision, as rows ``(k, n)``."""
        out = vectors.astype(np.float32) @ self.X.astype(np.float32).T
        out *= self._rows
        return out

    def fit(self, vectors: FloatArray) -> FloatArray:
        """Sum of the columns, ``(n,)``."""
        out = np.zeros(len(self.X))
        step = max(1, _FIT_ENTRIES // max(1, len(out)))
        for low in range(0, len(vectors), step):
            some = slice(low, low + step)
            out += np.einsum("kn,kn->n", self._rows[some], vectors[some] @ self.X.T)
        return out

    def take(self, keep: BoolArray) -> WorkingBlocks:
        """Blocks where ``keep`` holds."""
        return self if keep.all() else WorkingBlocks(self.X, self._rows[keep].T, self.ids[keep])

    def extended(self, masks: npt.NDArray, ids: IntArray) -> WorkingBlocks:
        """These blocks followed by others with the masks ``(q, n)``."""
        rows = np.empty((len(self._rows) + len(masks), len(self.X)))
        rows[: len(self._rows)], rows[len(self._rows) :] = self._rows, masks
        return WorkingBlocks(self.X, rows.T, np.concatenate([self.ids, ids]))

    def last(self, count: int) -> WorkingBlocks:
        """So many blocks at the end, without a copy of their masks."""
        first = len(self.ids) - count
        return WorkingBlocks(self.X, self._rows[first:].T, self.ids[first:])


class Ridge(ABC):
    """Operator ``G`` for one weight vector, with the factorisation for one diagonal ``H``."""

    def __init__(self, blocks: WorkingBlocks, w: FloatArray, beta: float) -> None:
        self._blocks, self._w, self._beta = blocks, w, beta
        self._total = float(np.sum(w))
        #: Whether the factor is that of another ridge problem.
        self.borrowed = False
        self._curvature: FloatArray | None = None

    @property
    def factorised(self) -> bool:
        """Whether there is a factor to solve with."""
        return self._curvature is not None

    def distance(self, curvature: FloatArray) -> float:
        """Relative change of the curvature since the factorisation, infinity without one."""
        if self._curvature is None or not self.factorised:
            return math.inf
        return float(np.sum(np.abs(curvature - self._curvature))) / max(float(np.sum(curvature)), 1e-290)

    def apply(self, x: FloatArray) -> FloatArray:
        """``G x``, through the blocks: far smaller rounding errors than a product with the matrix ``G`` itself."""
        return self._blocks.fit(self._w[:, None] * self._blocks.correlate(x))

    def _own_curvature(self) -> FloatArray:
        if self._curvature is None:
            raise RuntimeError("factorise must come before solve.")
        return self._curvature

    def change(self, step: FloatArray, step_fit: FloatArray) -> float:
        """Root mean square of the norms ``||X^T D_i step||``, weighted by ``w``; ``step_fit`` is ``G step``."""
        return float(np.sqrt(max(0.0, float(step @ step_fit)) / self._total))

    @abstractmethod
    def factorise(self, curvature: FloatArray) -> None:
        """Factorise for ``H = diag(curvature)``; raises LinAlgError where it is not positive definite."""

    @abstractmethod
    def solve(self, r: FloatArray, root: FloatArray | None = None) -> FloatArray:
        """``(beta I + H G)^{-1} r`` to the precision of the factor.

        With ``root``, the square root of another ``H``, the result is an approximation for that one, self-adjoint for
        the inner product with weights ``1 / H``.
        """

    @abstractmethod
    def weight_hessian(self, columns: npt.NDArray[np.floating]) -> FloatArray:
        r"""``B^T (beta I + H G)^{-1} H B`` for columns ``B (n, k)``: curvature of the ridge optimum in ``w``.

        Columns in the precision and the order of the factor are overwritten.
        """


class KernelRidge(Ridge):
    """Route through the n x n matrix ``I + H^{1/2} G H^{1/2} / beta``, in the precision of the kernel.

    The factor lies in the square that holds the kernel, and is lost when another ridge problem is factorised there.
    """

    def __init__(self, blocks: WorkingBlocks, square: KernelSquare, w: FloatArray, beta: float) -> None:
        super().__init__(blocks, w, beta)
        self._square = square
        self._made: Factor | None = None

    def adopt(self, other: KernelRidge) -> None:
        """Use the factor of another ridge problem on the same samples, which preconditions this one."""
        self._made, self._root, self._curvature = other._made, other._root, other._curvature
        self.borrowed = True

    @property
    def single(self) -> bool:
        """Whether the kernel is in single precision."""
        return self._square.dtype == np.float32

    @property
    def factorised(self) -> bool:
        return self._made is not None and self._made.valid

    @property
    def factor(self) -> npt.NDArray[np.floating]:
        """Array ``(n, n)`` with the factor in its lower triangle."""
        if self._made is None:
            raise RuntimeError("factorise must come before the factor is used.")
        return self._made.array

    def factorise(self, curvature: FloatArray) -> None:
        dtype = self._square.dtype
        self.borrowed = False
        self._curvature = curvature
        # Samples without curvature keep a trace of it, so that the system stays symmetric.
        self._root = np.sqrt(np.maximum(curvature, 1e-16 * float(np.max(curvature, initial=0.0)) + 1e-290))
        scaled = self._blocks.masks.T.astype(dtype)
        scaled *= np.sqrt(self._w / self._beta).astype(dtype)[:, None]
        scaled *= self._root.astype(dtype)
        # A shift that rounding asks for is made good by the conjugate gradients.
        for shift in _SHIFTS if dtype == np.float64 else _SHIFTS[:1]:
            self._made = self._square.factorise(scaled, shift)
            if self._made is not None:
                return
        raise LinAlgError("the ridge system is singular to rounding.")

    def solve(self, r: FloatArray, root: FloatArray | None = None) -> FloatArray:
        # Twice as many calls as with potrs, and five times as fast for one right-hand side.
        factor = self.factor
        trsv: Any = get_blas_funcs("trsv", dtype=factor.dtype)
        root = self._root if root is None else root
        half = r / root
        size = float(np.max(np.abs(half), initial=0.0))
        if size == 0.0:
            return np.zeros_like(r)
        inner = trsv(factor, (half / size).astype(factor.dtype), lower=1, overwrite_x=1)
        inner = trsv(factor, inner, lower=1, trans=1, overwrite_x=1)
        return root * inner.astype(np.float64) * (size / self._beta)

    def weight_hessian(self, columns: npt.NDArray[np.floating]) -> FloatArray:
        factor = self.factor
        trsm: Any = get_blas_funcs("trsm", dtype=factor.dtype)
        size = max(float(np.max(columns, initial=0.0)), -float(np.min(columns, initial=0.0)))
        if size == 0.0:
            return np.zeros((columns.shape[1],) * 2)
        scale = self._root / size
        if columns.dtype == factor.dtype:
            scaled = np.asfortranarray(columns)
            scaled *= scale.astype(factor.dtype)[:, None]
        else:
            # What single precision cannot hold is scaled before.
            scaled = np.asfortranarray(columns * scale[:, None], dtype=factor.dtype)
        half = trsm(1.0, factor, scaled, lower=1, overwrite_b=1)
        out = (half.T @ half).astype(np.float64)
        out *= size * size / self._beta
        return out


class GramRidge(Ridge):
    """Route through the kd x kd matrix ``beta I + A^T H A`` with ``A = [sqrt(w_i) D_i X]``."""

    def __init__(self, blocks: WorkingBlocks, w: FloatArray, beta: float, cache: GramCache | None = None) -> None:
        super().__init__(blocks, w, beta)
        self._cache = cache
        self._root = np.sqrt(w)[:, None]

    def _down(self, x: FloatArray) -> FloatArray:
        return (self._root * self._blocks.correlate(x)).ravel()

    def _up(self, p: FloatArray) -> FloatArray:
        return self._blocks.fit(self._root * p.reshape(-1, self._blocks.X.shape[1]))

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
        self._factor, info = _POTRF(system.T, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            raise LinAlgError("the ridge system is singular to rounding.")

    def solve(self, r: FloatArray, root: FloatArray | None = None) -> FloatArray:
        curvature = self._own_curvature() if root is None else root * root
        inner, _ = _POTRS(self._factor, self._down(r), lower=1)
        return (r - curvature * self._up(inner)) / self._beta

    def weight_hessian(self, columns: npt.NDArray[np.floating]) -> FloatArray:
        curved = self._own_curvature()[:, None] * columns
        n, d = self._blocks.X.shape
        down = np.zeros((len(self._root) * d, columns.shape[1]))
        step = max(1, _SLAB // (8 * len(down)))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            down += _expanded(self._blocks, rows, None) @ curved[rows]
        down *= np.repeat(self._root[:, 0], d)[:, None]
        half, _ = _TRTRS(self._factor, down, lower=1)
        return (columns.T @ curved - half.T @ half) / self._beta


def cross_gram(left: WorkingBlocks, right: WorkingBlocks, curvature: FloatArray) -> FloatArray:
    """Matrix of the blocks ``X^T D_i H D_j X``, ``(k d, k' d)``, gathered over slabs of rows."""
    n, d = left.X.shape
    out = np.zeros((left.masks.shape[1] * d, right.masks.shape[1] * d))
    step = max(1, _SLAB // (8 * max(out.shape)))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        if left is right:
            # A product of an array with itself takes half the time.
            a = _expanded(left, rows, np.sqrt(curvature[rows]))
            out += a @ a.T
        else:
            out += _expanded(left, rows, curvature[rows]) @ _expanded(right, rows, None).T
    return out


def _expanded(blocks: WorkingBlocks, rows: slice, curvature: FloatArray | None) -> FloatArray:
    """Columns of all ``D_i X`` as rows ``(k d, n)``, over a slab of samples: consecutive samples lie side by side."""
    x = np.array(blocks.X[rows].T, order="C")
    if curvature is not None:
        x *= curvature
    return np.multiply(blocks.masks.T[:, None, rows], x, order="C").reshape(-1, x.shape[1])


class GramCache:
    """Gram blocks of a loss with constant curvature, kept from one weight vector to the next."""

    def __init__(self) -> None:
        self._stored: WorkingBlocks | None = None
        self._gram = np.zeros((0, 0))

    def gram(self, blocks: WorkingBlocks, curvature: FloatArray) -> FloatArray:
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
            self._stored = WorkingBlocks(blocks.X, self._stored.masks[:, keep], self._stored.ids[keep])
            return out
        return self._gram[np.ix_(entries, entries)]

    def _extend(self, stored: WorkingBlocks, fresh: WorkingBlocks, curvature: FloatArray) -> None:
        cross = cross_gram(stored, fresh, curvature)
        corner = cross_gram(fresh, fresh, curvature)
        self._gram = np.block([[self._gram, cross], [cross.T, corner]])
        self._stored = stored.extended(fresh.masks.T, fresh.ids)
