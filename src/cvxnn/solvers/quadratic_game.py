r"""Saddle point of the Wasserstein game with a quadratic discriminator, as a semidefinite program for Clarabel.

.. math:: \min_{H \succeq 0}\ \max_{M = M^\top}\ \mathrm{tr} H + \langle M, A - H \rangle - \beta_d \|M\|_*

H is the second moment of the generator, M the discriminator: its eigenvectors are the neurons, its eigenvalues their
output weights. The multipliers of the two sides of :math:`-\beta_d I \preceq A - H \preceq \beta_d I` are the two parts
of M.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_quadratic_game"]


def solve_quadratic_game(
    A: FloatArray, beta_d: float, *, tol: float = 1e-10, time_limit: float | None = None
) -> tuple[FloatArray, FloatArray] | None:
    """Saddle point ``(H, M)`` of the game for the symmetric matrix ``A (d, d)``.

    Parameters
    ----------
    A : ndarray (d, d)
        Second moments of the data, best of order one.
    beta_d : float
    tol : float
        Relative and absolute tolerance asked of Clarabel.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    (ndarray (d, d), ndarray (d, d)) or None
        None when Clarabel returns no usable point.

    Examples
    --------
    >>> saddle = solve_quadratic_game(np.diag([2.0, 0.5]), 1.0)
    >>> [(part.round(4) + 0.0).tolist() for part in saddle]
    [[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]
    """
    d = len(A)
    size = d * (d + 1) // 2
    eye = sp.csc_array(sp.eye_array(size))
    rows = sp.csc_matrix(sp.vstack([-eye, eye, -eye]))
    rhs = np.concatenate([_packed(beta_d * np.eye(d) - A), _packed(beta_d * np.eye(d) + A), np.zeros(size)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    if time_limit is not None:
        settings.time_limit = max(time_limit, 1e-3)
    cones = [clarabel.PSDTriangleConeT(d) for _ in range(3)]
    quadratic = sp.csc_matrix((size, size))
    solution = clarabel.DefaultSolver(quadratic, _packed(np.eye(d)), rows, rhs, cones, settings).solve()
    x, z = np.asarray(solution.x), np.asarray(solution.z)
    if x.size != size or z.size != 3 * size or not (np.all(np.isfinite(x)) and np.all(np.isfinite(z))):
        return None
    return _unpacked(x, d), _unpacked(z[:size] - z[size : 2 * size], d)


def _packed(matrix: FloatArray) -> FloatArray:
    """Upper triangle column by column, entries off the diagonal times the root of two."""
    columns, rows = np.tril_indices(len(matrix))
    return matrix[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def _unpacked(vector: FloatArray, d: int) -> FloatArray:
    columns, rows = np.tril_indices(d)
    out = np.zeros((d, d))
    out[rows, columns] = vector * np.where(rows == columns, 1.0, np.sqrt(0.5))
    out[columns, rows] = out[rows, columns]
    return out
