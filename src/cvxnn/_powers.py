"""Exact scaling by powers of two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["times_power"]

_LARGEST = 1000


def times_power(array: FloatArray, exponent: int | npt.NDArray[np.integer]) -> FloatArray:
    """Product with ``2**exponent``, as ``numpy.ldexp`` rounds it; the exponents broadcast.

    A product is several times as fast as ``ldexp``, but takes only powers that are floating-point numbers themselves.

    Examples
    --------
    >>> times_power(np.array([3.0, 5.0]), np.array([1, -1]))
    array([6. , 2.5])
    """
    if np.all(np.abs(exponent) <= _LARGEST):
        return array * np.ldexp(1.0, exponent)
    return np.ldexp(array, exponent)
