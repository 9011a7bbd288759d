"""Cells of the arrangement around given vectors: gates and masks whose closed cones contain them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["adjacent_gates", "masks_of", "unique_cells"]

ZERO_TOL = 1e-9
"""A pre-activation below this share of ``||x_j|| ||z||`` counts as zero: the vector lies on that hyperplane."""

_SLAB_ENTRIES = 1 << 19
"""Entries of the work arrays of a slab of rows."""


def adjacent_gates(X: FloatArray, vectors: FloatArray, *, seed: int = 0, zero_tol: float = ZERO_TOL) -> FloatArray:
    """Return for each vector a gate in the interior of an open cell whose closure contains it.

    A vector on some hyperplanes has several such cells; one is chosen by a small seeded random move that changes no
    nonzero sign.

    Parameters
    ----------
    X : ndarray (n, r)
    vectors : ndarray (k, r)
    seed : int
    zero_tol : float
        Relative size of a pre-activation that counts as zero.

    Returns
    -------
    ndarray (k, r)
    """
    rng = np.random.default_rng(seed)
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(size > 0, size, 1.0)
    moves = rng.standard_normal(vectors.shape)
    row_norm = np.linalg.norm(X, axis=1)
    nearest = np.full(len(vectors), np.inf)
    for rows in row_slabs(len(X), len(vectors), entries=_SLAB_ENTRIES):
        z, dz = units @ X[rows].T, moves @ X[rows].T
        off = np.abs(z) > zero_tol * row_norm[rows]
        ratio = np.full(z.shape, np.inf)
        np.divide(np.abs(z), np.abs(dz), out=ratio, where=off & (dz != 0))
        nearest = np.minimum(nearest, np.min(ratio, axis=1, initial=np.inf))
    return units + np.minimum(0.5 * nearest, 1e-3)[:, None] * moves


def masks_of(X: FloatArray, gates: FloatArray) -> BoolArray:
    """Masks ``1[X g >= 0]``, ``(k, n)``."""
    return gates @ X.T >= 0


def unique_cells(masks: BoolArray, signs: FloatArray) -> npt.NDArray[np.intp]:
    """Index of the first occurrence of each distinct pair (mask, sign), in order."""
    if len(masks) == 0:
        return np.zeros(0, dtype=np.intp)
    keys = np.hstack([np.packbits(masks, axis=1), (signs > 0)[:, None].astype(np.uint8)])
    _, first = np.unique(keys, axis=0, return_index=True)
    return np.sort(first)
