r"""Lifted model of one neuron on a piece of its domain: linear forms in ``v = (1, z, s)`` and what is known of them.

A unit vector z enters the network through ``s = (R z)_+`` and ``t = s - R z``. Both are non-negative, ``s_j t_j = 0``,
and all of it is linear in the lifted vector ``v = (1, z, s)``; the matrices ``v v^T`` span a convex cone. A *piece*
fixes the sign of ``r_j^T z`` for some rows. There ``s_j`` or ``t_j`` vanishes and the other one is linear in z: a fixed
row needs no coordinate of its own, without which the relaxation on the piece would have no interior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray

IntArray = npt.NDArray[np.intp]
SignArray = npt.NDArray[np.int8]

__all__ = ["Piece", "PieceMultipliers", "make_piece"]


@dataclass(frozen=True, eq=False)
class Piece:
    """Part of the unit sphere for one sign of the output weight, with its forms.

    Attributes
    ----------
    sign : int
        Sign of the output weight.
    fixed : ndarray (g,)
        The piece is where ``r_j^T z`` is >= 0 (+1), <= 0 (-1) or of any sign (0).
    forms : ndarray (p, m)
        Forms in v that are non-negative on the piece, one a row; those of free rows come in pairs ``s_j, t_j``.
    pairs : ndarray (q, 2) of int
        Pairs of different forms.
    complementary : ndarray (q,) of bool
        Whether the product of the pair vanishes on the piece.
    s, t : ndarray (g,) of int
        Form that equals ``(r_j^T z)_+`` and ``(-r_j^T z)_+``, -1 where that is zero on the piece.
    """

    sign: int
    fixed: SignArray
    forms: FloatArray
    pairs: IntArray
    complementary: npt.NDArray[np.bool_]
    s: IntArray
    t: IntArray

    @property
    def size(self) -> int:
        """Number m of coordinates of v."""
        return self.forms.shape[1]

    @property
    def free(self) -> IntArray:
        """Rows whose sign is not fixed."""
        return np.flatnonzero(self.fixed == 0)

    @property
    def depth(self) -> int:
        """Number of fixed rows."""
        return int(np.count_nonzero(self.fixed))


@dataclass(frozen=True, eq=False)
class PieceMultipliers:
    """Multipliers on a piece.

    Attributes
    ----------
    products : ndarray (q,)
        Of ``phi_p phi_q >= 0``, pair by pair.
    cones : ndarray (p, 1 + r)
        ``(alpha, g)`` of ``(alpha a + g^T z) phi_p >= 0``.
    balance : float
        Of ``a^2 = ||z||^2``.
    """

    products: FloatArray
    cones: FloatArray
    balance: float


def make_piece(rows: FloatArray, sign: int, fixed: SignArray) -> Piece:
    """Piece of the unit sphere of the coordinates of ``rows (g, r)``."""
    g, r = rows.shape
    free = np.flatnonzero(fixed == 0)
    count = free.size + g
    forms = np.zeros((count, 1 + r + free.size))
    s, t = np.full(g, -1, dtype=np.intp), np.full(g, -1, dtype=np.intp)
    place, coordinate = 0, 1 + r
    for j in range(g):
        if fixed[j] == 0:
            forms[place, coordinate] = forms[place + 1, coordinate] = 1.0
            forms[place + 1, 1 : 1 + r] = -rows[j]
            s[j], t[j] = place, place + 1
            place, coordinate = place + 2, coordinate + 1
        else:
            forms[place, 1 : 1 + r] = fixed[j] * rows[j]
            (s if fixed[j] > 0 else t)[j] = place
            place += 1
    pairs = np.column_stack(np.triu_indices(count, 1)).astype(np.intp)
    partner = np.full(count, -1, dtype=np.intp)
    partner[s[free]] = t[free]
    return Piece(sign, fixed, forms, pairs, partner[pairs[:, 0]] == pairs[:, 1], s, t)
