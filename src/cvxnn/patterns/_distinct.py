"""The best of directions that differ."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.intp]

__all__ = ["SIMILARITY", "distinct"]

SIMILARITY = 0.998
_BLOCK = 96


def distinct(
    directions: npt.NDArray,
    groups: npt.NDArray,
    values: npt.NDArray,
    *,
    above: float = -math.inf,
    similarity: float = SIMILARITY,
) -> IntArray:
    """Positions of the largest values first, without directions close to a better one of their group.

    Parameters
    ----------
    directions : ndarray (q, d)
        Unit rows.
    groups : ndarray (q,)
        Signs, or other labels: directions of two groups are never close.
    values : ndarray (q,)
        Of two that are equal the first counts as the better one.
    above : float, default -inf
        Only values above it are looked at.
    similarity : float, default 0.998
        Cosine above which two directions are close.

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> distinct(np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]), np.ones(3), np.array([2.0, 3.0, 1.0]))
    array([1, 2])
    """
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > above]
    labels = groups[order]
    by_label = np.argsort(labels, kind="stable")
    kept = np.ones(len(order), dtype=bool)
    for places in np.split(by_label, np.flatnonzero(np.diff(labels[by_label])) + 1):
        kept[places] = _unlike_earlier(directions[order[places]], similarity)
    return order[kept]


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
