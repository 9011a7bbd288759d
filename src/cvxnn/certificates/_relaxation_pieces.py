r"""Rigorous bound of the dual norm on a piece of the sphere from any multipliers of the relaxation.

With the forms ``phi`` of the piece (see :mod:`cvxnn.certificates._relaxation_model`) and any number ``b`` put

.. math:: S = \mathrm{diag}(\tfrac b2 + \mu, (\tfrac b2 - \mu) I, 0) - \sigma\,\mathrm{sym}(e_1 f_\nu^T)
              - \sum_{p<q} N_{pq}\,\mathrm{sym}(\phi_p \phi_q^T) - \sum_p \mathrm{sym}((\alpha_p, g_p, 0)\,\phi_p^T),

where ``f_nu`` is the form that equals ``nu^T (X u)_+``, ``N >= 0`` but for products that vanish, and
``||g_p|| <= alpha_p``. At ``v = (1, z, s)`` of a unit vector z of the piece no subtracted bracket but that of f is
negative, so that ``sigma h_nu(z) <= b - v^T S v``. Any matrix G gives ``S = G G^T + E`` and
``v^T S v >= -||E|| ||v||^2``: no eigenvalue is trusted, the residual E is measured.
"""

from __future__ import annotations

import math

import numpy as np

from cvxnn.certificates._relaxation_model import Piece, PieceMultipliers
from cvxnn.certificates._rounding import TINY, FloatArray, gamma, norm_up
from cvxnn.certificates.relaxation_rows import RelaxationRows

__all__ = ["piece_bound"]


def piece_bound(
    rows: RelaxationRows, piece: Piece, nu: FloatArray, multipliers: PieceMultipliers, unit: float
) -> float:
    r"""Upper bound of :math:`\max \sigma\,\nu^T (Xu)_+` over unit vectors u that the piece contains, and of 0.

    Parameters
    ----------
    rows : RelaxationRows
    piece : Piece
    nu : ndarray (n,)
        Any vector.
    multipliers : PieceMultipliers
        Any multipliers, in units of `unit`; those of the wrong sign count as zero, ``alpha`` is raised to ``||g||``.
    unit : float
        The number b that the multipliers aim at, for instance beta.

    Returns
    -------
    float
        Bound that holds in exact arithmetic, never above the sum of the absolute terms.
    """
    weights = rows.weights(nu)
    # Scaled by a power of two, b is some number close to the one asked for: any is admissible.
    b = math.ldexp(unit, -(rows.exponent + weights.power))
    products = b * np.where(piece.complementary, multipliers.products, np.maximum(multipliers.products, 0.0))
    g = b * multipliers.cones[:, 1:]
    alpha = np.maximum(b * multipliers.cones[:, 0], norm_up(g))
    of_forms = np.zeros(len(piece.forms))
    for index, weight in ((piece.s, weights.s), (piece.t, weights.t)):
        of_forms[index[index >= 0]] = weight[index >= 0]
    reach = norm_up(rows.rows)
    mass = float((np.abs(weights.s) + np.abs(weights.t)) @ reach) * (1.0 + 2.0 * gamma(2 * len(reach) + 4))
    finite = np.all(np.isfinite(products)) and np.all(np.isfinite(alpha)) and 0.0 < b < 1e100
    if not finite:
        return rows.upper(mass, weights)
    mu = b * multipliers.balance
    excess = _excess(piece, piece.sign * of_forms, products, alpha, g, (0.5 * b + mu, 0.5 * b - mu))
    # ||v||^2 = 1 + ||z||^2 + sum_j (r_j^T z)_+^2; the diagonal adds up to b up to two roundings.
    size = 2.0 + float(np.sum(reach[piece.free] ** 2)) * (1.0 + gamma(len(reach) + 4))
    bound = b + 8.0 * 2.0**-53 * (b + abs(mu)) + excess * size * (1.0 + 1e-14)
    return rows.upper(min(mass, bound * (1.0 + 1e-15)) if math.isfinite(bound) else mass, weights)


def _excess(
    piece: Piece,
    weights: FloatArray,
    products: FloatArray,
    alpha: FloatArray,
    g: FloatArray,
    diagonal: tuple[float, float],
) -> float:
    """Upper bound of the spectral norm of the part of S that is not positive semidefinite, rounding included."""
    F, (p, m), r = piece.forms, piece.forms.shape, g.shape[1]
    N = np.zeros((p, p))
    N[piece.pairs[:, 0], piece.pairs[:, 1]] = 0.5 * products
    N += N.T
    left = np.zeros((p, m))
    left[:, 0], left[:, 1 : 1 + r] = weights + alpha, g
    corner = np.zeros(m)
    corner[0], corner[1 : 1 + r] = diagonal
    mixed = left.T @ F
    S = np.diag(corner) - 0.5 * (mixed + mixed.T) - F.T @ N @ F
    S = 0.5 * (S + S.T)
    # Every entry is a sum of products of three factors with at most 2 p + 12 roundings each; `absolute` sums their
    # absolute values, itself low by the same relative error at most, which 1.01 covers.
    left[:, 0] = np.abs(weights) + alpha
    mixed = np.abs(left).T @ np.abs(F)
    absolute = np.diag(np.abs(corner)) + 0.5 * (mixed + mixed.T) + np.abs(F).T @ np.abs(N) @ np.abs(F)
    values, vectors = np.linalg.eigh(S)
    G = vectors * np.sqrt(np.maximum(values, 0.0))
    rounding = gamma(2 * p + 12) * absolute + gamma(m + 4) * (np.abs(G) @ np.abs(G).T + np.abs(S))
    return float(norm_up((np.abs(S - G @ G.T) + 1.01 * rounding + TINY).ravel()))
