"""Rows whose multiplier in a box least-squares problem is known before it is solved.

In ``min 1/2 ||g - rows^T lam||^2`` over ``0 <= lam <= 1`` the residual ``u`` minimises the strongly convex
function ``1/2 ||u||^2 - g^T u + sum_j (y_j^T u)_+``.  The duality gap of any multipliers bounds the distance
of their residual to it, and hyperplanes of rows farther away than that do not separate the two: the
multipliers of these rows are 0 on the negative side and 1 on the positive one (gap safe screening).

References
----------
E. Ndiaye, O. Fercoq, A. Gramfort and J. Salmon, "Gap safe screening rules for sparsity enforcing penalties", Journal of
Machine Learning Research 18(128), 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._box_rows import BoxRows

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_SMOOTHINGS = (3e-2, 1e-2, 3e-3, 1e-3, 1e-3)  # of the kinks in the Newton steps, relative to the lengths of u and row
_MARGIN = 1e-9  # relative, of the length of the residual: rounding of its products
_TINY = float(np.finfo(np.float64).tiny)


def undecided_rows(rows: BoxRows, targets: Float, starts: Float) -> tuple[Bool, Float]:
    """Rows that may touch the residual of each target, and the targets less the multiples of all other rows.

    A few Newton steps on a smoothed problem give the multipliers; the best ones met decide.

    Parameters
    ----------
    rows : BoxRows
        Those of shape (q, d).
    targets : (S, d) array
    starts : (S, d) array
        Unit vectors.

    Returns
    -------
    undecided : (S, q) array of bool
    left : (S, d) array
    """
    products, gap = np.zeros((len(targets), rows.count)), np.full(len(targets), np.inf)

    def offer(lam: Float) -> Float:
        residual = targets - rows.sums(lam)
        t = rows.dots(residual)
        current = ((1.0 - lam) * np.maximum(t, 0.0) + lam * np.maximum(-t, 0.0)).sum(axis=1)
        better = current < gap
        gap[better], products[better] = current[better], t[better]
        return residual

    t = rows.dots(starts)
    offer((t > 0.0).astype(np.float64))
    # The best length of a start.
    length = np.maximum((targets * starts).sum(axis=1) - np.maximum(t, 0.0).sum(axis=1), 0.0)[:, None]
    u, t = length * starts, length * t
    diagonal = np.arange(targets.shape[1])
    for eps in _SMOOTHINGS:
        smooth = eps * np.linalg.norm(u, axis=1)[:, None] * rows.norms
        root = np.sqrt(t * t + smooth * smooth) + _TINY
        residual = offer(0.5 * (1.0 + t / root))
        system = rows.gram(0.5 * (smooth / root) ** 2 / root)
        system[:, diagonal, diagonal] += 1.0
        u = u - np.linalg.solve(system, (u - residual)[:, :, None])[:, :, 0]
        t = rows.dots(u)
    radius = np.sqrt(2.0 * gap) + _MARGIN * np.linalg.norm(targets, axis=1)
    undecided = np.abs(products) <= radius[:, None] * rows.norms
    return undecided, targets - rows.sums(((products > 0.0) & ~undecided).astype(np.float64))
