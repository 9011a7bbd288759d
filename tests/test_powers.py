"""Exact scaling by powers of two."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn._powers import times_power


@pytest.mark.parametrize("exponent", [0, 7, -1000, 1000, -1400, 1500, np.array([3, -1074, 0, 1023, -60])])
def test_the_product_is_that_of_ldexp(exponent):
    array = np.array([0.0, -1.5, 3e-310, 7.25, 1.0 + 2.0**-52]) * np.array([[1.0], [2.0**-40], [-(2.0**-900)]])
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(times_power(array, exponent), np.ldexp(array, exponent))
