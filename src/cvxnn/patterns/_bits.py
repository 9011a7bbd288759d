"""Packed bit rows: packing, hashing, and exact set operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]


def packed_width(n_bits: int) -> int:
    """Count the bytes that hold ``n_bits`` bits."""
    return (n_bits + 7) // 8


def pack(masks: BoolArray) -> ByteArray:
    """Pack boolean rows (P, n), least significant bit first."""
    return np.packbits(masks, axis=1, bitorder="little")


def unpack(packed: ByteArray, n_bits: int) -> BoolArray:
    """Return the boolean rows (P, n) of packed bits."""
    return np.unpackbits(packed, axis=1, count=n_bits, bitorder="little").view(np.bool_)


def hash_rows(packed: ByteArray) -> npt.NDArray[np.uint64]:
    """Hash each row to a word: different words prove different rows; up to 64 bits the converse holds too."""
    n_rows, width = packed.shape
    n_words = (width + 7) // 8
    padded = np.zeros((n_rows, 8 * n_words), dtype=np.uint8)
    padded[:, :width] = packed
    words = padded.view(np.uint64)
    if n_words == 1:
        return words[:, 0]
    odd = np.uint64(1)
    keys = np.random.default_rng(0).integers(0, 2**64, size=(2, n_words), dtype=np.uint64) | odd
    # A purely linear hash would collide on rows that differ in the top bits of two words.
    words = words * keys[0]
    words ^= words >> np.uint64(29)
    words *= keys[1]
    words ^= words >> np.uint64(32)
    return words.sum(axis=1, dtype=np.uint64)


def all_distinct(packed: ByteArray) -> bool:
    """Tell whether no two rows are equal (exact: equal hashes are compared in full)."""
    words = np.sort(hash_rows(packed))
    if not np.any(words[1:] == words[:-1]):
        return True
    return packed.shape[1] > 8 and first_occurrences(packed).size == packed.shape[0]


def first_occurrences(packed: ByteArray) -> npt.NDArray[np.intp]:
    """Ascending indices of the first occurrence of each distinct row."""
    if packed.shape[0] == 0:
        return np.empty(0, dtype=np.intp)
    return np.sort(np.unique(_as_items(packed), return_index=True)[1])


def members(rows: ByteArray, reference: ByteArray) -> BoolArray:
    """Tell for each row whether it occurs in ``reference``."""
    if rows.shape[0] == 0 or reference.shape[0] == 0:
        return np.zeros(rows.shape[0], dtype=np.bool_)
    sorted_items, labels = np.unique(_as_items(np.concatenate([reference, rows])), return_inverse=True)
    present = np.zeros(sorted_items.size, dtype=np.bool_)
    present[labels[: reference.shape[0]]] = True
    return present[labels[reference.shape[0] :]]


def _as_items(packed: ByteArray) -> npt.NDArray[Any]:
    """View each row as one opaque item, which NumPy can sort and compare."""
    rows = np.ascontiguousarray(packed)
    if rows.shape[1] <= 8:
        return hash_rows(rows)  # the bits themselves: sorting integers is much faster than sorting bytes
    return rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
