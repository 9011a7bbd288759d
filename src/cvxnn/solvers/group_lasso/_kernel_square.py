"""Square array that holds a kernel matrix in one triangle and the factor of a system made of it in the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import get_blas_funcs, get_lapack_funcs

Floats = npt.NDArray[np.floating]

__all__ = ["Factor", "KernelSquare"]

# Sides of a tile: the transposed one must stay in a core's cache.
_NARROW, _LONG = 64, 512


class Factor:
    """Cholesky factor in the lower triangle of a square, for as long as no other one takes its place."""

    def __init__(self, square: KernelSquare) -> None:
        self._square, self._number = square, square.made

    @property
    def valid(self) -> bool:
        """Whether the square still holds this factor."""
        return self._square.made == self._number

    @property
    def array(self) -> Floats:
        """Array ``(n, n)`` with the factor in its lower triangle, and numbers that mean nothing above it."""
        if not self.valid:
            raise RuntimeError("another factor has taken the place of this one.")
        return self._square.array


class KernelSquare:
    r"""Kernel :math:`X X^\top` and one factor of :math:`I + (X X^\top) \circ (R^\top R)`, in the memory of one matrix.

    Parameters
    ----------
    X : ndarray (n, d)
        Its precision is that of the kernel and of the factors.

    Examples
    --------
    >>> square = KernelSquare(np.eye(2))
    >>> factor = square.factorise(np.array([[1.0, 2.0], [1.0, -1.0]]))
    >>> np.tril(factor.array @ factor.array.T) * np.eye(2)
    array([[3., 0.],
           [0., 6.]])
    """

    def __init__(self, X: Floats) -> None:
        # One product of an array with itself takes half the time, and is symmetric to the last bit.
        self.array: Floats = (X @ X.T).T
        self._diagonal = self.array.diagonal().copy()
        # A number and no reference to the factor: a cycle would keep the array until the collector comes by.
        self.made = 0

    @property
    def dtype(self) -> npt.DTypeLike:
        """Precision of the kernel."""
        return self.array.dtype

    def factorise(self, rows: Floats, shift: float = 0.0) -> Factor | None:
        """Factor for the rows R ``(k, n)``, with a shift relative to the largest entry of the diagonal.

        The factor before it is lost. None where the system is not positive definite to rounding.
        """
        self.made += 1
        syrk: Any = get_blas_funcs("syrk", dtype=self.dtype)
        potrf: Any = get_lapack_funcs("potrf", dtype=self.dtype)
        # In place: C-ordered (k, n) is Fortran-ordered (n, k).
        self.array = syrk(1.0, rows.T, lower=1, beta=0.0, c=self.array, overwrite_c=1)
        self._multiply()
        diagonal = self.array.T.reshape(-1)[:: len(self.array) + 1]
        diagonal += 1.0 + shift * float(np.max(diagonal))
        self.array, info = potrf(self.array, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            return None
        return Factor(self)

    def _multiply(self) -> None:
        """Multiply the lower triangle and the diagonal by the kernel, entry by entry."""
        rows = self.array.T
        n = len(rows)
        for low in range(0, n, _NARROW):
            high = min(low + _NARROW, n)
            corner = rows[low:high, low:high]
            product = corner * corner.T
            np.fill_diagonal(product, corner.diagonal() * self._diagonal[low:high])
            np.copyto(corner, product, where=np.tri(high - low, dtype=bool).T)
            for left in range(high, n, _LONG):
                right = min(left + _LONG, n)
                rows[low:high, left:right] *= rows[left:right, low:high].T
