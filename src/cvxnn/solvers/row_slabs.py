"""Passes over the hidden layer by slabs of rows, so that no array of its size is formed."""

from __future__ import annotations

from collections.abc import Sequence

from cvxnn._workers import pieces_of

__all__ = ["row_pieces", "row_slabs"]

_SLAB_ENTRIES = 1 << 16
"""Entries of the work arrays of one slab: few enough to stay in a core's cache."""


def row_slabs(n_samples: int, width: int, *, entries: int | None = None) -> list[slice]:
    """Slices that cover the rows: at least 64 each, a multiple of eight, of about as many entries as fit in a cache.

    Parameters
    ----------
    n_samples : int
    width : int
        Columns of the work arrays.
    entries : int, optional
        Entries of the work arrays, where they need not stay in a core's cache.

    Examples
    --------
    >>> row_slabs(300, 512)
    [slice(0, 128, None), slice(128, 256, None), slice(256, 300, None)]
    """
    rows = max(64, (_SLAB_ENTRIES if entries is None else entries) // max(width, 1) // 8 * 8)
    return [slice(i, min(i + rows, n_samples)) for i in range(0, n_samples, rows)]


def row_pieces(n_samples: int, width: int) -> list[Sequence[slice]]:
    """The slabs of :func:`row_slabs` in a few runs, for :func:`in_parallel`."""
    return pieces_of(row_slabs(n_samples, width))
