"""Lexicographic order and equal rows of a table, without copies of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

__all__ = ["row_groups", "row_order"]


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


def row_groups(table: FloatArray) -> IntArray:
    """Number of each row of ``table (n, d)`` among the distinct rows in lexicographic order, ``(n,)``.

    Examples
    --------
    >>> row_groups(np.array([[1.0, 5.0], [0.0, 7.0], [1.0, 5.0]]))
    array([1, 0, 1])
    """
    order, first = row_order(table.T, np.arange(len(table)))
    groups = np.empty(len(table), dtype=np.intp)
    groups[order] = np.cumsum(first) - 1
    return groups
