"""Number of activation patterns of data in general position."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def count_patterns(n: SupportsIndex, rank: SupportsIndex) -> int:
    r"""Cover's number of activation patterns of ``n`` samples in general position in ``rank`` dimensions.

    .. math:: 2 \sum_{k=0}^{r-1} \binom{n-1}{k}

    No data of ``n`` samples and this rank have more; data with repeated, collinear or otherwise dependent
    samples have fewer.  Samples that lie on one line through the origin (repeated, scaled or negated) count
    once.  Data of rank 0 (all samples zero) have the single pattern in which every sample is active.

    Parameters
    ----------
    n : int
        Number of samples, at least 1.
    rank : int
        Rank of the data matrix, at least 0; above ``n`` the number stays at ``2**n``.

    Returns
    -------
    int
        The exact number, of any size.

    Raises
    ------
    ValueError
        When ``n`` or ``rank`` is not an integer in its range.

    References
    ----------
    Cover (1965), "Geometrical and Statistical Properties of Systems of Linear Inequalities", Theorem 1.

    Examples
    --------
    >>> count_patterns(300, 3)
    89702
    >>> count_patterns(40, 5)
    184342
    """
    n_samples, dimension = as_count(n, "n", 1), as_count(rank, "rank", 0)
    if dimension == 0:
        return 1
    if dimension >= n_samples:
        return 2**n_samples
    total, term = 0, 1
    for k in range(dimension):
        total += term
        term = term * (n_samples - 1 - k) // (k + 1)
    return 2 * total


def as_count(value: SupportsIndex, name: str, minimum: int) -> int:
    """Return an integer that is at least ``minimum``, or raise ValueError naming ``name``."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be an integer >= {minimum}; got {value!r}.") from error
    if isinstance(value, bool) or number < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}; got {value!r}.")
    return number
