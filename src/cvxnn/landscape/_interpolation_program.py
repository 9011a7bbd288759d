r"""Minimum-norm interpolation on listed cells: a conic program for Clarabel, and Newton's method for its last digits.

.. math:: \min_z\ \sum_i \|z_i\| \quad \text{subject to}\quad \sum_i s_i D_i X z_i = y,\qquad (2D_i - I) X z_i \ge 0
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

from itertools import pairwise
from typing import Any

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Sparse = Any
"""SciPy sparse array; its stubs do not tell the formats apart."""

__all__ = ["face_basis", "refine_interpolation", "solve_interpolation"]

_NEWTON_STEPS = 30
_ZERO = 1e-6
_VANISHED = 1e-12
_RANK_CUTS = (1e-12, 1e-9, 1e-7, 1e-5)


def solve_interpolation(
    X: FloatArray, y: FloatArray, masks: BoolArray, signs: FloatArray, price: float, *, time_limit: float | None = None
) -> tuple[FloatArray, FloatArray, float] | None:
    """Solve with a slack e in the equations that costs ``price * sum |e|``, so that any cells will do.

    Parameters
    ----------
    X : ndarray (n, r)
        Full column rank, of order one.
    y : ndarray (n,)
    masks : ndarray (K, n) of bool
    signs : ndarray (K,)
    price : float
    time_limit : float, optional
        Seconds.

    Returns
    -------
    vectors : ndarray (K, r)
    dual : ndarray (n,)
        Multipliers of the equations, at most ``price`` in size.
    slack : float
        Sum of ``|e|``.

    None in place of the three when Clarabel returns no usable point.
    """
    n, r = X.shape
    K = len(masks)
    fit = np.hstack([s * m[:, None] * X for s, m in zip(signs, masks, strict=True)])
    walls: Sparse = sp.block_diag([np.where(m, -1.0, 1.0)[:, None] * X for m in masks])
    eye: Sparse = sp.eye_array(n)
    A = sp.vstack(
        [
            sp.hstack([sp.csc_array(fit), sp.csc_array((n, K)), eye, -eye]),
            sp.hstack([walls, sp.csc_array((K * n, K + 2 * n))]),
            sp.hstack([sp.csc_array((2 * n, K * r + K)), -sp.eye_array(2 * n)]),
            sp.hstack([_norm_rows(K, r), sp.csc_array((K * (r + 1), 2 * n))]),
        ],
        format="csc",
    )
    b = np.concatenate([y, np.zeros(K * n + 2 * n + K * (r + 1))])
    q = np.concatenate([np.zeros(K * r), np.ones(K), np.full(2 * n, price)])
    cones = [
        clarabel.ZeroConeT(n),
        clarabel.NonnegativeConeT(K * n + 2 * n),
        *(clarabel.SecondOrderConeT(r + 1) for _ in range(K)),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    settings.max_iter = 200
    if time_limit is not None:
        settings.time_limit = max(time_limit, 1e-3)
    nothing = sp.csc_matrix((len(q), len(q)))
    solution = clarabel.DefaultSolver(nothing, q, sp.csc_matrix(A), b, cones, settings).solve()
    x, multipliers = np.asarray(solution.x), np.asarray(solution.z)
    if x.size != len(q) or not (np.all(np.isfinite(x)) and np.all(np.isfinite(multipliers))):
        return None
    return x[: K * r].reshape(K, r), -multipliers[:n], float(np.sum(x[K * r + K :]))


def _norm_rows(K: int, r: int) -> Sparse:
    """Rows ``-(t_i, z_i) + s = 0`` with s in the second-order cone."""
    i, k = np.arange(K), np.arange(r)
    rows = np.concatenate([i * (r + 1), (i[:, None] * (r + 1) + 1 + k).ravel()])
    columns = np.concatenate([K * r + i, (i[:, None] * r + k).ravel()])
    return sp.csc_array((-np.ones(len(rows)), (rows, columns)), shape=(K * (r + 1), K * r + K))


def face_basis(X: FloatArray, u: FloatArray, zero_tol: float = _ZERO) -> tuple[FloatArray, BoolArray]:
    """Orthonormal basis ``(r, q)`` of the face of the arrangement that holds ``u``, and its active samples."""
    norms = np.linalg.norm(X, axis=1)
    ahead = X @ u / (np.where(norms > 0, norms, 1.0) * np.linalg.norm(u))
    on = (np.abs(ahead) <= zero_tol) & (norms > 0)
    if not np.any(on):
        return np.eye(X.shape[1]), ahead > zero_tol
    _, values, right = np.linalg.svd(X[on] / norms[on, None])
    rank = int(np.count_nonzero(values > 1e-8 * values[0]))
    return right[rank:].T, ahead > zero_tol


def refine_interpolation(
    X: FloatArray, y: FloatArray, vectors: FloatArray, signs: FloatArray, dual: FloatArray
) -> tuple[FloatArray, float]:
    r"""Newton's method for :math:`v_i / \|v_i\| = N_i^\top X^\top D_i s_i \nu,\ \sum_i s_i D_i X N_i v_i = y`.

    Each vector stays on its face, ``z_i = N_i v_i``. Where masses or the dual vector are not unique, the shortest step
    is taken.

    Returns
    -------
    dual : ndarray (n,)
    error : float
        Largest violation of the equations; infinite where a vector leaves its face for the origin.
    """
    faces = [face_basis(X, z) for z in vectors]
    blocks = [s * active[:, None] * (X @ basis) for s, (basis, active) in zip(signs, faces, strict=True)]
    v = [basis.T @ z for z, (basis, _) in zip(vectors, faces, strict=True)]
    if not v or any(not np.any(part) for part in v):
        return dual, np.inf
    A = np.hstack(blocks)
    edges = np.cumsum([0, *(len(part) for part in v)])
    point = np.concatenate([*v, dual])
    best = float(np.max(np.abs(_kkt_residual(A, y, edges, point))))
    for _ in range(_NEWTON_STEPS):
        steps = _newton_steps(A, y, edges, point)
        trials = [(float(np.max(np.abs(_kkt_residual(A, y, edges, point + step)))), point + step) for step in steps]
        error, trial = min(trials, key=lambda item: item[0])
        if not error < best:
            break
        best, point = error, trial
    return point[edges[-1] :], best


def _kkt_residual(A: FloatArray, y: FloatArray, edges: npt.NDArray[np.int64], point: FloatArray) -> FloatArray:
    """Violation of the two sets of equations; infinite where a vector vanishes."""
    v, nu = point[: edges[-1]], point[edges[-1] :]
    sizes = np.sqrt(np.add.reduceat(v * v, edges[:-1]))
    if np.min(sizes) <= _VANISHED:
        return np.full(1, np.inf)
    return np.concatenate([v / np.repeat(sizes, np.diff(edges)) - A.T @ nu, A @ v - y])


def _newton_steps(A: FloatArray, y: FloatArray, edges: npt.NDArray[np.int64], point: FloatArray) -> list[FloatArray]:
    """Shortest Newton steps for several readings of the rank: redundant equations leave singular values near zero."""
    v = point[: edges[-1]]
    H = np.zeros((len(v), len(v)))
    for start, stop in pairwise(edges):
        part = v[start:stop]
        size = float(np.linalg.norm(part))
        unit = part / size
        H[start:stop, start:stop] = (np.eye(len(part)) - np.outer(unit, unit)) / size
    system = np.block([[H, -A.T], [A, np.zeros((len(y), len(y)))]])
    left, values, right = np.linalg.svd(system)
    image = left.T @ -_kkt_residual(A, y, edges, point)
    steps = []
    for cut in _RANK_CUTS:
        rank = int(np.count_nonzero(values > cut * values[0]))
        steps.append(right[:rank].T @ (image[:rank] / values[:rank]))
    return steps
