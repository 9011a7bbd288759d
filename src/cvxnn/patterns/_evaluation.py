"""Patterns of gates that are given in the coordinates of a geometry, verified at the gates as stored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.patterns._bits import pack, packed_width
from cvxnn.patterns._geometry import Geometry

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

_CHUNK_ENTRIES = 400_000  # entries of a block of products: it stays in the cache
_ROUNDING = 1e-14  # a unit gate closer to a hyperplane than this has no reliable sign there


def allocate(geometry: Geometry, count: int) -> tuple[ByteArray, FloatArray]:
    """Return uninitialised packed masks and gates of ``count`` patterns."""
    n, d = geometry.rows.shape
    return np.empty((count, packed_width(n)), dtype=np.uint8), np.empty((count, d))


def evaluate(geometry: Geometry, block: FloatArray, packed: ByteArray, gates: FloatArray) -> BoolArray:
    """Write patterns and gates of the data for gates (k, r) of the lines; tell which are reliable (k,)."""
    reliable = np.empty(block.shape[0], dtype=np.bool_)
    size = max(1, _CHUNK_ENTRIES // geometry.rows.shape[0])
    for start in range(0, block.shape[0], size):
        piece = slice(start, start + size)
        in_rows = geometry.gates_of_rows(block[piece])
        products = in_rows @ geometry.rows.T
        packed[piece] = pack(products >= 0)
        gates[piece] = geometry.gates_of_data(in_rows)
        products[:, ~geometry.nonzero] = np.inf
        reliable[piece] = np.abs(products, out=products).min(axis=1) > _ROUNDING
    return reliable


def opposite(geometry: Geometry, packed: ByteArray) -> ByteArray:
    """Return the patterns of the opposite gates: every bit flipped, except for samples that are zero."""
    return packed ^ pack(geometry.nonzero[None])
