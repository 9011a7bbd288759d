r"""Matrix products with the columns ``A = [D_1 X, ..., D_k X]`` of gated blocks, for many samples and little memory.

With masks ``M (k, n)`` both directions are plain matrix products that stream over the masks,

.. math:: A u = \mathrm{rowsum}\big(X \circ M^T U\big),\qquad A^T r = M\,\mathrm{diag}(r) X,

so that nothing of size n k is ever formed: the masks stay bits and are expanded slab by slab inside the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._powers import times_power
from cvxnn._workers import in_parallel, pieces_of
from cvxnn.losses import Loss
from cvxnn.solvers.group_lasso._common import chosen_bits, exponent_of

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
ByteArray = npt.NDArray[np.uint8]

# Entries of a slab of expanded masks: it stays in the cache between its two products.
_SLAB = 1 << 18
_LEAST_ROWS = 256
# Slabs at least, for two threads and more, unless they are shorter than this.
_RUNS = 8
_LEAST_RUN = 512
# Multiples of columns that suit the kernels of a BLAS, and the part of the columns that may be added to reach one.
_MULTIPLES = (16, 4)
_PADDING = 0.125
# Rows that are read as one.
_FOLD = 16
_EPS, _SINGLE_EPS = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)


def _padded(columns: int) -> int:
    """Columns of the data in single precision."""
    for multiple in _MULTIPLES:
        wide = -(-columns // multiple) * multiple
        if wide - columns <= _PADDING * columns:
            return wide
    return columns


def _column_sizes(X: FloatArray) -> FloatArray:
    """Largest absolute value of each column."""
    # Reductions along the first axis are several times as fast where the rows are long.
    fold = min(_FOLD, len(X))
    whole = len(X) // fold * fold
    wide = X[:whole].reshape(whole // fold, -1)
    extremes = np.maximum(np.max(wide, axis=0), -np.min(wide, axis=0)).reshape(fold, -1)
    return np.maximum(np.max(extremes, axis=0), np.max(np.abs(X[whole:]), axis=0, initial=0.0))


class Rows:
    """Samples, targets and packed masks of all patterns; ``X`` is divided by ``2**exponent``.

    ``check`` is called once a product and may raise to end the work.
    """

    def __init__(
        self,
        X: FloatArray,
        y: FloatArray,
        weight: FloatArray,
        loss: Loss,
        packed: ByteArray,
        exponent: int,
        check: Callable[[], None],
    ) -> None:
        self.X, self.y, self.weight, self.loss = X, y, weight, loss
        self.packed, self.exponent, self.check = packed, exponent, check
        # Columns of order one keep their own relative accuracy in single precision; the powers of two go to the blocks.
        largest = _column_sizes(X)
        self._powers = np.where(largest > 0, np.frexp(largest)[1], exponent)
        self._columns = self._powers - exponent
        self._single = np.zeros((len(X), _padded(X.shape[1])), dtype=np.float32)
        step = max(1, _SLAB // X.shape[1])
        for start in range(0, len(X), step):
            piece = slice(start, start + step)
            self._single[piece, : X.shape[1]] = times_power(X[piece], -self._powers)

    def __len__(self) -> int:
        return len(self.y)

    def value(self, fit: FloatArray) -> float:
        return self.loss.value(fit, self.y, self.weight)

    def gradient(self, fit: FloatArray) -> FloatArray:
        return self.loss.gradient(fit, self.y, self.weight)

    def curvature(self, fit: FloatArray, floor: float) -> FloatArray:
        """Curvature of the loss, at least ``floor`` times its upper bound."""
        curvature = self.loss.hessian(fit, self.y, self.weight)
        return np.maximum(curvature, floor * self.loss.curvature * self.weight)

    @property
    def single(self) -> SingleArray:
        """Data divided by ``2**exponent``, a new array ``(n, d)``."""
        # Several times as fast as ldexp of all entries. A power that underflows has no column of more than zeros.
        return self._single[:, : self.X.shape[1]] * np.ldexp(np.float32(1.0), self._columns)

    def sample(self, index: IntArray) -> Rows:
        """Rows of some samples."""
        packed = chosen_bits(self.packed, index)
        return Rows(self.X[index], self.y[index], self.weight[index], self.loss, packed, self.exponent, self.check)

    def bits(self, ids: IntArray | None) -> ByteArray:
        """Packed masks of some patterns, or of all."""
        return self.packed if ids is None else self.packed[ids]

    def forward(self, bits: ByteArray, U: FloatArray, *, exact: bool = False) -> FloatArray:
        """``A u`` for blocks ``U (k, d)``, in single precision unless ``exact``; ``(n,)``."""
        self.check()
        out = np.zeros(len(self))
        if len(U) == 0:
            return out
        shift = exponent_of(U)
        V = self._scaled(U, shift, exact)

        def sweep(slabs: Sequence[slice]) -> None:
            for rows, masks in self._expanded(bits, slabs, V.dtype):
                out[rows] = np.einsum("sd,sd->s", masks.T @ V, self._data(rows, exact))

        in_parallel(sweep, self._pieces(bits))
        return times_power(out, shift)

    def backward(self, bits: ByteArray, r: FloatArray, *, exact: bool = False) -> FloatArray:
        """``A^T r`` as rows ``(k, d)``; single precision is summed up in double from slab to slab."""
        self.check()
        shift = exponent_of(r)
        weights = times_power(r, -shift).astype(np.float64 if exact else np.float32)

        def sweep(slabs: Sequence[slice]) -> FloatArray:
            total: FloatArray | None = None
            for rows, masks in self._expanded(bits, slabs, weights.dtype):
                part = masks @ (self._data(rows, exact) * weights[rows, None])
                total = part.astype(np.float64) if total is None else np.add(total, part, out=total)
            return np.zeros((len(bits), self.X.shape[1])) if total is None else total[:, : self.X.shape[1]]

        return times_power(np.sum(in_parallel(sweep, self._pieces(bits)), axis=0), self._columns + shift)

    def curved(self, bits: ByteArray, U: FloatArray, h: SingleArray) -> tuple[FloatArray, FloatArray]:
        """``A^T diag(h) A u`` and ``A u`` in single precision, each slab expanded once."""
        self.check()
        shift = exponent_of(U)
        V = self._scaled(U, shift, False)
        fit = np.empty(len(self))

        def sweep(slabs: Sequence[slice]) -> FloatArray:
            total = np.zeros(V.shape)
            part = np.empty(V.shape, dtype=np.float32)
            store = np.empty((max(rows.stop - rows.start for rows in slabs), V.shape[1]), dtype=np.float32)
            for rows, masks in self._expanded(bits, slabs, V.dtype):
                x, product = self._single[rows], store[: rows.stop - rows.start]
                np.matmul(masks.T, V, out=product)
                z = np.einsum("sd,sd->s", product, x)
                fit[rows] = z
                z *= h[rows]
                np.multiply(x, z[:, None], out=product)
                total += np.matmul(masks, product, out=part)
            return total[:, : U.shape[1]]

        image = np.sum(in_parallel(sweep, self._pieces(bits)), axis=0)
        return times_power(image, self._columns + shift), times_power(fit, shift)

    def single_slack(self, bits: ByteArray, r: FloatArray) -> float:
        """Estimate of the rounding of the norms of :meth:`backward`, relative to ``norm_slack(X, r)``.

        Errors of the products in single precision add up as the root of their number in each slab, with a factor to
        spare; a certificate does not rest on it.
        """
        return (4.0 * math.sqrt(self._step(bits)) + 8.0) * _SINGLE_EPS / (4.0 * (len(r) + 8) * _EPS)

    def forward_slack(self, U: FloatArray) -> FloatArray:
        """Estimate of the rounding of :meth:`forward` in single precision, ``(n,)``, with a factor to spare."""
        sizes = np.sum(np.abs(U), axis=0)[None]
        shift = exponent_of(sizes)
        V = self._scaled(sizes, shift, False)[0]
        out = np.empty(len(self))
        step = max(_LEAST_ROWS, _SLAB // len(V))
        for start in range(0, len(self), step):
            rows = slice(start, start + step)
            out[rows] = np.abs(self._single[rows]) @ V
        return times_power(out, shift) * ((4.0 + 2.0 * math.sqrt(len(U))) * _SINGLE_EPS)

    def _scaled(self, U: FloatArray, shift: int, exact: bool) -> npt.NDArray[Any]:
        """Blocks divided by ``2**shift``, in the scale of the columns."""
        V = times_power(U, self._columns - shift)
        if exact:
            return V
        padded = np.zeros((len(U), self._single.shape[1]), dtype=np.float32)
        padded[:, : U.shape[1]] = V
        return padded

    def _data(self, rows: slice, exact: bool) -> FloatArray | SingleArray:
        return times_power(self.X[rows], -self._powers) if exact else self._single[rows]

    def _step(self, bits: ByteArray) -> int:
        """Samples of a slab, a multiple of the eight of a byte; few enough for several threads."""
        step = min(_SLAB // max(1, len(bits)), max(_LEAST_RUN, -(-len(self) // _RUNS)))
        return max(_LEAST_ROWS, -(-step // 8) * 8)

    def _pieces(self, bits: ByteArray) -> list[Sequence[slice]]:
        """Slabs of samples in a few runs."""
        step = self._step(bits)
        return pieces_of([slice(start, min(len(self), start + step)) for start in range(0, len(self), step)])

    def _expanded(
        self, bits: ByteArray, slabs: Sequence[slice], dtype: npt.DTypeLike
    ) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Slabs with their masks as floats ``(k, s)``, one after the other in the same memory."""
        store = np.empty(len(bits) * max((rows.stop - rows.start for rows in slabs), default=0), dtype=dtype)
        for rows in slabs:
            size = rows.stop - rows.start
            piece = bits[:, rows.start // 8 : (rows.stop + 7) // 8]
            masks = store[: len(bits) * size].reshape(len(bits), size)
            np.copyto(masks, np.unpackbits(piece, axis=1, count=size, bitorder="little"))
            yield rows, masks
