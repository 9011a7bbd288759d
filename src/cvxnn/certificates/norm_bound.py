"""Upper bound of the dual norm from closed forms and small relaxations, without a branch and bound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._reduction import ReducedPricing, reduce_pricing
from cvxnn.certificates._row_scaling import scaled_rows
from cvxnn.certificates.cheap_bounds import cheap_bounds

__all__ = ["norm_bound"]

_MOST_REDUCED = 200_000_000
"""Up to this n d^2 the rows are first merged and rotated; beyond, that takes longer than the bounds themselves."""


def norm_bound(X: npt.NDArray[np.float64], nu: npt.NDArray[np.float64]) -> tuple[float, str]:
    """Bound ``max_{||u|| <= 1} |nu^T (X u)_+|`` from above; rounding is added.

    The least of the bounds of :func:`cvxnn.certificates.cheap_bounds.cheap_bounds`, one of which descends on a box.

    Parameters
    ----------
    X : ndarray (n, d)
    nu : ndarray (n,)

    Returns
    -------
    upper : float
    method : str
        Name of the bound.

    Examples
    --------
    >>> upper, _ = norm_bound(np.eye(2), np.array([3.0, 4.0]))
    >>> 5.0 <= upper <= 6.0
    True
    """
    reduced = reduce_pricing(X, nu) if X.size * X.shape[1] <= _MOST_REDUCED else _scaled(X, nu)
    if reduced is None:
        return 0.0, "zero"
    bounds = cheap_bounds(reduced)
    name = min(bounds, key=lambda key: bounds[key])
    return reduced.upper(bounds[name]), name


def _scaled(X: npt.NDArray[np.float64], nu: npt.NDArray[np.float64]) -> ReducedPricing | None:
    """Return the same problem in the same coordinates, with data and dual vector of order one."""
    scaled = scaled_rows(X, nu[:, None])
    if scaled is None:
        return None
    rows, column, slack, exponent = scaled
    return ReducedPricing(rows, column[:, 0], np.zeros(X.shape[1]), 1.0, slack, exponent, None)
