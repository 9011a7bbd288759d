"""Decomposition of a semidefinite matrix into rank-one terms that meet one quadratic condition each."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["rank_one_terms"]


def rank_one_terms(root: FloatArray) -> FloatArray:
    r"""Vectors p with :math:`\sum p p^\top = R R^\top` and :math:`\|p_{1:d}\| = |p_{d+1}|`, one a row.

    A vector with a positive :math:`p^\top J p`, J = diag(1, ..., 1, -1), and one with a negative are turned in their
    plane until the first meets the condition; the other one goes on. The last one meets it where
    :math:`\langle J, R R^\top \rangle = 0` (Sturm and Zhang, 2003, "On cones of nonnegative quadratic functions",
    Proposition 3).

    Parameters
    ----------
    root : ndarray (d + 1, k)
        Factor R.

    Examples
    --------
    >>> p = rank_one_terms(np.diag([1.0, 1.0, np.sqrt(2.0)]))
    >>> bool(np.allclose(p.T @ p, np.diag([1.0, 1.0, 2.0]))), bool(np.allclose(np.sum(p**2 * [1, 1, -1], axis=1), 0))
    (True, True)
    """
    pending = [column for column in root.T if np.any(column)]
    done: list[FloatArray] = []

    def form(p: FloatArray, q: FloatArray) -> float:
        return float(p[:-1] @ q[:-1] - p[-1] * q[-1])

    # Large vectors first: what rounding leaves at the end is that of the small ones.
    pending.sort(key=lambda p: -float(p @ p))
    values = [form(p, p) for p in pending]
    while len(pending) > 1:
        p, value = pending.pop(0), values.pop(0)
        opposite = [k for k, other in enumerate(values) if other * value < 0.0]
        if not opposite:
            done.append(p)
            continue
        k = max(opposite, key=lambda index: abs(values[index]))
        q, other, mixed = pending[k], values[k], form(p, pending[k])
        # Root of value + 2 r mixed + r^2 other: the signs differ, so both roots are real; this one does not cancel.
        discriminant = math.sqrt(mixed * mixed - value * other)
        r = -value / (mixed + math.copysign(discriminant, mixed))
        length = math.sqrt(1.0 + r * r)
        done.append((p + r * q) / length)
        pending[k] = (q - r * p) / length
        values[k] = value + other
    return np.array(done + pending).reshape(-1, root.shape[0])
