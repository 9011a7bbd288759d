r"""Dual norm of one-dimensional data whose hidden biases cost nothing: the largest correlation with a hinge.

For a dual vector with :math:`\sum_j \nu_j = 0` the correlations :math:`\nu^\top (x - t)_+` and
:math:`\nu^\top (t - x)_+` are continuous, piecewise linear in the knot t with breaks at the samples, and constant
outside of them. Their largest sizes are therefore those at the samples, of which there are finitely many: the dual norm
over *all* hinges is a maximum over 2n numbers, and two cumulative sums give them all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import TINY, gamma

FloatArray = npt.NDArray[np.float64]

__all__ = ["hinge_correlations", "hinge_norm"]


def hinge_correlations(knots: FloatArray, nu: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Correlations :math:`\nu^\top (x - t)_+` and :math:`\nu^\top (t - x)_+` at all samples.

    Parameters
    ----------
    knots : ndarray (n,)
        Samples in increasing order.
    nu : ndarray (n,)
        Entries of the dual vector, in the same order.

    Returns
    -------
    right, left : ndarray (n,)

    Examples
    --------
    >>> right, left = hinge_correlations(np.array([0.0, 1.0, 3.0]), np.array([1.0, -2.0, 1.0]))
    >>> right.tolist(), left.tolist()
    ([1.0, 2.0, 0.0], [0.0, 1.0, -1.0])
    """
    gaps = np.diff(knots)
    # Derivative in the knot on each gap: the entries to its right, or to its left.
    beyond = np.cumsum(nu[::-1])[::-1][1:]
    before = np.cumsum(nu)[:-1]
    right = np.append(np.cumsum((beyond * gaps)[::-1])[::-1], 0.0)
    left = np.insert(np.cumsum(before * gaps), 0, 0.0)
    return right, left


def hinge_norm(knots: FloatArray, nu: FloatArray) -> tuple[float, float]:
    r"""Proved upper bound, and computed value, of the largest correlation with a hinge of slope one.

    .. math:: \max_{t \in \mathbb R}\ \max\{|\nu^\top (x - t)_+|,\ |\nu^\top (t - x)_+|\},
              \qquad \textstyle\sum_j \nu_j = 0

    The bound holds for entries that sum to zero exactly; otherwise no finite one exists, since hinges with far knots
    are arbitrarily large constants.

    Parameters
    ----------
    knots : ndarray (n,)
        Samples in increasing order.
    nu : ndarray (n,)

    Returns
    -------
    upper, attained : float

    Examples
    --------
    >>> upper, attained = hinge_norm(np.array([0.0, 1.0, 3.0]), np.array([1.0, -2.0, 1.0]))
    >>> attained, 2.0 <= upper < 2.0 + 1e-13
    (2.0, True)
    """
    right, left = hinge_correlations(knots, nu)
    attained = max(float(np.max(np.abs(right))), float(np.max(np.abs(left))))
    # A correlation is a sum of at most n products of a gap and a sum of at most n entries; the sums of sizes below are
    # at least those of the exact terms.
    gaps = np.diff(knots)
    sizes = np.abs(nu)
    from_right = float(np.sum(np.cumsum(sizes[::-1])[::-1][1:] * gaps))
    from_left = float(np.sum(np.cumsum(sizes)[:-1] * gaps))
    # Either sum of sizes may be far larger than the other; a correlation can be had from both ends, since the entries
    # sum to zero, but each was summed from its own.
    error = 2.0 * gamma(2 * len(nu) + 8) * max(from_right, from_left)
    return (attained + error) * (1.0 + gamma(4)) + TINY, attained
