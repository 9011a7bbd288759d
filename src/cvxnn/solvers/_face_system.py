"""Newton system of the fit in the proximal method on listed cones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["FaceSystem"]


class FaceSystem:
    r"""Solves :math:`(I + C C^T H) x = e`, where C maps the faces on which blocks lie to the fit.

    The columns of C that belong to the cone k are :math:`D_k X B_k`, with a map :math:`B_k` from the face to the
    block. Memory is kept from one system to the next: fresh pages of some megabytes cost more than the products.

    Parameters
    ----------
    X : ndarray (n, r)
        Rows of data.
    """

    def __init__(self, X: FloatArray) -> None:
        self._X = X
        self._columns, self._masks, self._gram = _Room(), _Room(), _Room()

    def solve(
        self, maps: list[FloatArray], weights: FloatArray, curvature: FloatArray, error: FloatArray
    ) -> FloatArray | None:
        """Return x, ``(n,)``; None where rounding or an overflow leaves no positive definite system.

        Parameters
        ----------
        maps : list of ndarray (r, q_k)
            One map for each cone in use.
        weights : ndarray (K, n)
            Their masks, times the output signs.
        curvature : ndarray (n,)
            Diagonal of H, non-negative.
        error : ndarray (n,)
        """
        if not maps:
            return error
        n, root = len(error), np.sqrt(curvature)
        sizes = np.array([part.shape[1] for part in maps])
        joint = np.hstack(maps)
        scaled, masks = (room.matrix(joint.shape[1], n) for room in (self._columns, self._masks))
        np.matmul(joint.T, self._X.T, out=scaled)
        # With another mode NumPy would write to fresh memory first.
        np.take(weights * root, np.repeat(np.arange(len(maps)), sizes), axis=0, out=masks, mode="clip")
        scaled *= masks
        # A product of a matrix with its own transpose takes half the time of one with another.
        few = len(scaled) <= n
        gram = self._gram.matrix(min(scaled.shape), min(scaled.shape))
        wide = scaled if few else scaled.T
        np.matmul(wide, wide.T, out=gram)
        try:
            inner = _solve_shifted(gram, scaled @ (root * error) if few else root * error)
        except LinAlgError:
            return None
        if not few:
            inner = scaled @ inner
        moves = np.add.reduceat(joint * inner, np.cumsum(sizes) - sizes, axis=1)
        return error - np.einsum("kn,kn->n", weights, moves.T @ self._X.T)


class _Room:
    """Memory for one matrix after another."""

    def __init__(self) -> None:
        self._entries = np.empty(0)

    def matrix(self, rows: int, columns: int) -> FloatArray:
        """Matrix with arbitrary entries; overwrites the one before."""
        if self._entries.size < rows * columns:
            self._entries = np.empty(rows * columns)
        return self._entries[: rows * columns].reshape(rows, columns)


def _solve_shifted(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Solve ``(I + gram) x = right``; `gram` is overwritten."""
    gram[np.diag_indices(len(gram))] += 1.0
    # The transpose of the symmetric matrix has the order of entries that LAPACK overwrites in place.
    factor = cho_factor(gram.T, lower=True, overwrite_a=True, check_finite=False)
    solution = cho_solve(factor, right, check_finite=False)
    if not np.all(np.isfinite(solution)):
        raise LinAlgError("the system is not positive definite to working precision")
    return solution
