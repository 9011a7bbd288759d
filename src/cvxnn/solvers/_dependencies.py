"""Linear dependencies between columns, and masses moved along them until the rest are independent."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr, solve_triangular

FloatArray = npt.NDArray[np.float64]

__all__ = ["dependencies", "emptied_along"]

_TIE = 1e-13


def dependencies(columns: npt.NDArray[np.floating], *, tol: float) -> FloatArray:
    """Basis ``(k, q)`` of the linear dependencies between columns ``(n, k)``.

    Unit columns are dependent where pivoted elimination leaves less than ``tol``; a zero column depends on nothing.

    Examples
    --------
    >>> columns = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    >>> null = dependencies(columns, tol=1e-12)
    >>> null.shape, bool(np.allclose(columns @ null, 0.0))
    ((3, 1), True)
    """
    k = columns.shape[1]
    norms = np.linalg.norm(columns, axis=0)
    live = np.flatnonzero(norms > 0.0)
    null = np.eye(k)[:, norms == 0.0]
    if live.size == 0:
        return null
    factored: Any = qr((columns[:, live] / norms[live]).astype(np.float64), mode="r", pivoting=True)
    triangle, pivots = factored
    rank = int(np.count_nonzero(np.abs(np.diagonal(triangle)) > tol))
    if rank == live.size:
        return null
    dependent = np.zeros((live.size, live.size - rank))
    dependent[pivots[:rank]] = -solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])
    dependent[pivots[rank:]] = np.eye(live.size - rank)
    full = np.zeros((k, live.size - rank))
    full[live] = dependent / norms[live, None]
    return np.hstack([null, full])


def emptied_along(masses: FloatArray, null: FloatArray) -> FloatArray:
    """Move along each dependency, in the sense that does not raise the sum of the masses, until one is zero.

    Examples
    --------
    >>> emptied_along(np.array([1.0, 1.0, 0.5]), np.array([[-2.0], [-2.0], [1.0]]))
    array([0., 0., 1.])
    """
    masses = masses.copy()
    while null.shape[1]:
        move = -null[:, 0] if null[:, 0].sum() > 0.0 else null[:, 0]
        size = float(np.max(np.abs(move), initial=0.0))
        falling = np.flatnonzero(move < -1e-13 * size)
        if falling.size == 0:
            null = null[:, 1:]
            continue
        hit = int(falling[np.argmin(masses[falling] / -move[falling])])
        moved = masses + (masses[hit] / -move[hit]) * move
        # Several may be emptied at once; what rounding leaves of the others is no mass.
        masses = np.where(moved > _TIE * masses, moved, 0.0)
        masses[hit] = 0.0
        null = null[:, 1:] - move[:, None] * (null[hit, 1:] / move[hit])
        null[hit] = 0.0
    return masses
