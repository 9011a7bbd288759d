"""Choice of directions that differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]

__all__ = ["SIMILARITY", "distinct"]

SIMILARITY = 0.998
_BLOCK = 96


def distinct(
    directions: npt.NDArray, signs: npt.NDArray, order: IntArray, *, similarity: float = SIMILARITY
) -> IntArray:
    """Members of ``order`` whose cosine with every chosen earlier one of the same sign is at most ``similarity``.

    Parameters
    ----------
    directions : ndarray (q, d)
        Unit rows.
    signs : ndarray (q,)
    order : ndarray of int
        Positions of directions, the most wanted first.
    similarity : float, default 0.998

    Returns
    -------
    ndarray of int
        Part of ``order``, in its order.

    Examples
    --------
    >>> distinct(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]), np.ones(3), np.array([1, 0, 2]))
    array([1, 2])
    """
    chosen = np.ones(len(order), dtype=bool)
    ordered = signs[order]
    for sign in np.unique(ordered):
        places = np.flatnonzero(ordered == sign)
        chosen[places] = _unlike_earlier(directions[order[places]], similarity)
    return order[chosen]


def _unlike_earlier(rows: npt.NDArray, similarity: float) -> npt.NDArray[np.bool_]:
    """Whether each row is to be kept, unlike all earlier ones that are."""
    kept = np.ones(len(rows), dtype=bool)
    for low in range(0, len(rows), _BLOCK):
        part = slice(low, low + _BLOCK)
        before = rows[:low][kept[:low]]
        if low:
            kept[part] = (rows[part] @ before.T).max(axis=1) <= similarity
        places = low + np.flatnonzero(kept[part])
        block = rows[places]
        later = np.triu(block @ block.T > similarity, 1)
        free = np.ones(len(block), dtype=bool)
        # Few rows have any double, and the others rule out nothing.
        for i in np.flatnonzero(later.any(axis=1)).tolist():
            if free[i]:
                free &= ~later[i]
        kept[places] = free
    return kept
