"""Tables with many more rows than columns: order, equal rows and triangular factor, without copies of the table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

__all__ = ["row_groups", "row_order", "tall_slabs", "triangle"]

# Entries of a slab of rows, and its least rows for each column.
_SLAB, _TALL = 1 << 20, 8


def tall_slabs(table: FloatArray) -> list[slice]:
    """Slices of rows, far more in each than there are columns; a small table is one.

    Examples
    --------
    >>> tall_slabs(np.zeros((300, 2)))
    [slice(0, 300, None)]
    """
    n, d = table.shape
    step = max(_TALL * d, _SLAB // d)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def triangle(table: FloatArray) -> FloatArray:
    """Return the factor R of a tall table ``(n, d)``, which has its singular values and right singular vectors.

    Slab by slab it is as accurate as at once, where it takes two copies of the table. One that is not tall is returned
    as it is.

    Examples
    --------
    >>> triangle(np.array([[3.0], [4.0]])).round(12)
    array([[-5.]])
    """
    if len(table) <= table.shape[1]:
        return table
    first, *others = tall_slabs(table)
    factor = np.asarray(np.linalg.qr(table[first], mode="r"))
    for rows in others:
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, table[rows]]), mode="r"))
    return factor


def row_order(columns: Iterable[FloatArray], index: IntArray) -> tuple[IntArray, BoolArray]:
    """Sort the rows ``index`` of a table by its columns, the first one first; equal rows keep their order.

    Only the rows that earlier columns leave equal are looked at again.

    Parameters
    ----------
    columns : iterable of ndarray (n,)
        Columns of finite numbers.
    index : ndarray (k,) of int
        Rows to sort, without repetition.

    Returns
    -------
    order : ndarray (k,) of int
        The rows, sorted.
    first : ndarray (k,) of bool
        Whether a row differs from the one before it in that order.

    Examples
    --------
    >>> order, first = row_order(np.array([[1.0, 5.0], [0.0, 7.0], [1.0, 5.0]]).T, np.arange(3))
    >>> order, first
    (array([1, 0, 2]), array([ True,  True, False]))
    """
    order = index.copy()
    first = np.zeros(len(order), dtype=np.bool_)
    first[:1] = True
    for column in columns:
        tied = ~first
        tied[:-1] |= tied[1:]
        places = np.flatnonzero(tied)
        if places.size == 0:
            break
        runs, rows = np.cumsum(first)[places], order[places]
        values = column[rows]
        starts = first[places]
        falls = (values[1:] < values[:-1]) & ~starts[1:]
        if falls.any():
            sort = np.lexsort((values, runs)) if starts.sum() > 1 else np.argsort(values, kind="stable")
            values = values[sort]
            order[places] = rows[sort]
        first[places[1:]] |= values[1:] != values[:-1]
    return order, first


def row_groups(columns: Iterable[FloatArray], n: int) -> IntArray:
    """Number of each of n rows among the distinct rows in lexicographic order, ``(n,)``.

    Examples
    --------
    >>> row_groups(np.array([[1.0, 5.0], [0.0, 7.0], [1.0, 5.0]]).T, 3)
    array([1, 0, 1])
    """
    order, first = row_order(columns, np.arange(n))
    groups = np.empty(n, dtype=np.intp)
    groups[order] = np.cumsum(first) - 1
    return groups
