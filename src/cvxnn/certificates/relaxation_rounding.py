r"""Rigorous dual norm bounds from approximate multipliers of the doubly non-negative relaxation.

Write a unit vector z, ``s = (R z)_+`` and ``t = (-R z)_+``. The products of any two of the numbers 1, ``s_j`` and
``t_j`` are non-negative, ``s_j t_j = 0``, and ``||z s_j|| <= s_j``. So, for non-negative ``n``, a free diagonal of
``n_st`` and any ``g_j``, the quadratic form

.. math:: Q(a, z, s, t) = c_a a^2 + c_z \|z\|^2 - \sigma a (w_s^T s + w_t^T t) - a (n_{as}^T s + n_{at}^T t)
          - s^T n_{ss} s - t^T n_{tt} t - 2 s^T n_{st} t - \sum_j (\|g_j\| a + g_j^T z) s_j - \ldots

is at most ``c_a + c_z - sigma (w_s^T s + w_t^T t)`` at such points with ``a = 1``. If it is non-negative there, because
it is so for all ``(a, z, b = s + t)`` with ``s - t = R z``, then ``c_a + c_z`` bounds the maximum over the sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular
from scipy.optimize import minimize_scalar

from cvxnn.certificates._rounding import TINY, FloatArray, gamma, lambda_max_up, norm_up
from cvxnn.certificates.relaxation_rows import RelaxationRows

SignArray = npt.NDArray[np.int8]

__all__ = ["Multipliers", "round_multipliers", "zero_multipliers"]

# Shifts of the diagonal that are tried until a Cholesky factor exists, relative to the largest diagonal entry.
_SHIFTS = (1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4)


@dataclass(frozen=True)
class Multipliers:
    """Multipliers of one output sign, for the ``g`` rows and ``r`` coordinates of a `RelaxationRows`.

    Any values are admissible: those of the wrong sign count as zero.

    Attributes
    ----------
    n_as, n_at : ndarray (g,)
        Of ``a s_j >= 0`` and ``a t_j >= 0``.
    n_ss, n_tt : ndarray (g, g)
        Of ``s_j s_k >= 0`` and ``t_j t_k >= 0``, entering as ``s^T n s``: a pair counts twice.
    n_st : ndarray (g, g)
        Of ``s_j t_k >= 0``, entering as ``2 s^T n t``. Its diagonal, of ``s_j t_j = 0``, is free.
    g_s, g_t : ndarray (g, r)
        Of ``||z s_j|| <= a s_j`` and ``||z t_j|| <= a t_j``, entering as ``(||g_j|| a + g_j^T z) s_j``.
    """

    n_as: FloatArray
    n_at: FloatArray
    n_ss: FloatArray
    n_tt: FloatArray
    n_st: FloatArray
    g_s: FloatArray
    g_t: FloatArray


def zero_multipliers(rows: RelaxationRows) -> Multipliers:
    """Multipliers that are all zero."""
    g, r = rows.rows.shape
    vector, matrix, cone = np.zeros(g), np.zeros((g, g)), np.zeros((g, r))
    return Multipliers(vector, vector, matrix, matrix, matrix, cone, cone)


def round_multipliers(
    rows: RelaxationRows, nu: FloatArray, sign: int, multipliers: Multipliers, *, fixed: SignArray | None = None
) -> float:
    r"""Upper bound of :math:`\max_{\|u\|\le1} \sigma\, \nu^T (Xu)_+` that holds in exact arithmetic.

    Parameters
    ----------
    rows : RelaxationRows
        Reduced rows of ``X``.
    nu : ndarray (n,)
        Any vector, in the units of the loss gradient, one entry for each row of ``X``.
    sign : int
        ``sigma``, +1 or -1.
    multipliers : Multipliers
        Any multipliers, in the units of ``nu`` times those of ``X``. The diagonal of ``n_st`` is shifted by the
        constant that makes the bound smallest; ``c_a`` and ``c_z`` are the best ones.
    fixed : ndarray (g,), optional
        Restrict the maximum to ``t_j = 0`` (+1) or ``s_j = 0`` (-1) for the marked reduced rows. Multipliers of
        products with a vanishing number may have any sign, and ``g_j`` of it costs nothing.

    Returns
    -------
    float
        Bound, at least 0, and at most the sum of the absolute terms.

    Raises
    ------
    ValueError
        If the shapes do not agree or the sign is not +1 or -1.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, for the constraint of the dual;
    Burer (2009), "On the copositive representation of binary and continuous nonconvex quadratic programs", for the
    relaxation.

    Examples
    --------
    >>> from cvxnn.certificates.relaxation_rows import reduce_rows
    >>> rows = reduce_rows(np.array([[3.0, 0.0], [0.0, 4.0]]))
    >>> round(round_multipliers(rows, np.array([1.0, 1.0]), 1, zero_multipliers(rows)), 4)
    5.0
    """
    _check(rows, nu, sign, multipliers, fixed)
    weights = rows.weights(nu)
    form = _Form(rows.rows, sign * weights.s, sign * weights.t)
    clipped = _clipped(multipliers, rows.exponent + weights.power, fixed)
    if form.mass == 0.0 or clipped is None:
        return rows.upper(form.mass, weights)
    alpha_s, alpha_t = norm_up(clipped.g_s), norm_up(clipped.g_t)
    if fixed is not None:
        alpha_s, alpha_t = np.where(fixed < 0, 0.0, alpha_s), np.where(fixed > 0, 0.0, alpha_t)
    try:
        form.assemble(clipped, alpha_s, alpha_t)
        np.fill_diagonal(clipped.n_st, np.diag(clipped.n_st) - 2.0 * form.best_shift())
        form.assemble(clipped, alpha_s, alpha_t)
        value = form.certified()
    except (LinAlgError, FloatingPointError):  # multipliers so bad that nothing was found
        value = form.mass
    return rows.upper(min(form.mass, value), weights)


def _check(rows: RelaxationRows, nu: FloatArray, sign: int, multipliers: Multipliers, fixed: SignArray | None) -> None:
    g, r = rows.rows.shape
    if nu.shape != (rows.n_samples,):
        raise ValueError(f"nu must have shape ({rows.n_samples},), one entry a row of X; got {nu.shape}.")
    if sign not in (1, -1):
        raise ValueError(f"sign must be +1 or -1; got {sign!r}.")
    shapes = {"n_as": (g,), "n_at": (g,), "n_ss": (g, g), "n_tt": (g, g), "n_st": (g, g), "g_s": (g, r), "g_t": (g, r)}
    for name, shape in shapes.items():
        found = getattr(multipliers, name).shape
        if found != shape:
            raise ValueError(f"multipliers.{name} must have shape {shape}; got {found}.")
    if fixed is not None and fixed.shape != (g,):
        raise ValueError(f"fixed must have shape ({g},), one entry a reduced row; got {fixed.shape}.")


def _clipped(given: Multipliers, power: int, fixed: SignArray | None) -> Multipliers | None:
    """Admissible multipliers in units of ``2**power``, with symmetric ``n_ss`` and ``n_tt``; None if not finite."""
    g = len(given.n_as)
    free_s = np.zeros(g, dtype=bool) if fixed is None else fixed < 0
    free_t = np.zeros(g, dtype=bool) if fixed is None else fixed > 0

    def scaled(array: FloatArray) -> FloatArray:
        return np.ldexp(np.asarray(array, dtype=np.float64), -power)

    def symmetric(array: FloatArray, free: npt.NDArray[np.bool_]) -> FloatArray:
        keep = free[:, None] | free[None, :]
        array = scaled(array)
        return np.where(keep, 0.5 * (array + array.T), 0.5 * np.maximum(array, 0.0) + 0.5 * np.maximum(array.T, 0.0))

    cross = scaled(given.n_st)
    keep = free_s[:, None] | free_t[None, :]
    np.fill_diagonal(keep, True)
    with np.errstate(invalid="ignore", over="ignore"):
        out = Multipliers(
            np.where(free_s, scaled(given.n_as), np.maximum(scaled(given.n_as), 0.0)),
            np.where(free_t, scaled(given.n_at), np.maximum(scaled(given.n_at), 0.0)),
            symmetric(given.n_ss, free_s),
            symmetric(given.n_tt, free_t),
            np.where(keep, cross, np.maximum(cross, 0.0)),
            scaled(given.g_s),
            scaled(given.g_t),
        )
        size = sum(float(np.sum(getattr(out, name) ** 2)) for name in Multipliers.__dataclass_fields__)
    # Beyond this size squares of squares overflow; the trivial bound is smaller anyway.
    return out if size < 1e100 else None


class _Form:
    """The quadratic form in ``(a, z, b)``, less ``c_a`` and ``c_z``; ``s = (b + R z) / 2`` and ``t = (b - R z) / 2``.

    ``bb (g, g)``, ``bc (g, 1 + r)`` and ``cc (1 + r, 1 + r)`` are its blocks; c stands for ``(a, z)``.
    """

    bb: FloatArray
    bc: FloatArray
    cc: FloatArray
    error: float

    def __init__(self, rows: FloatArray, w_s: FloatArray, w_t: FloatArray) -> None:
        self.rows, self.w_s, self.w_t = rows, w_s, w_t
        self.reach = norm_up(rows)
        self.gram = rows.T @ rows
        pad = 1.0 + 2.0 * gamma(2 * len(rows) + 8)
        # (w_s s + w_t t) <= max(w_s, w_t, 0) |x z|, since one of s and t vanishes.
        self.mass = float(np.maximum(np.maximum(w_s, w_t), 0.0) @ self.reach) * pad

    def assemble(self, n: Multipliers, alpha_s: FloatArray, alpha_t: FloatArray) -> None:
        """Compute the blocks, and a bound of their rounding errors at the points that matter."""
        R, reach = self.rows, self.reach
        g, r = R.shape
        p_s, p_t = self.w_s + n.n_as + alpha_s, self.w_t + n.n_at + alpha_t
        cross = n.n_st + n.n_st.T
        same = n.n_ss + n.n_tt
        skew = n.n_ss - n.n_tt + (n.n_st.T - n.n_st)
        self.bb = -0.25 * (same + cross)
        self.bc = np.empty((g, r + 1))
        self.bc[:, 0] = -0.25 * (p_s + p_t)
        self.bc[:, 1:] = -0.25 * (skew @ R) - 0.25 * (n.g_s + n.g_t)
        self.cc = np.zeros((r + 1, r + 1))
        self.cc[0, 1:] = self.cc[1:, 0] = -0.25 * (R.T @ (p_s - p_t))
        half = R.T @ (0.125 * ((same - cross) @ R) + 0.25 * (n.g_s - n.g_t))
        self.cc[1:, 1:] = -(half + half.T)
        # At the points that matter a = 1, |b_j| = |r_j^T z| <= reach_j and sum_k |r_jk z_k| <= reach_j. Every entry is
        # a sum of products with at most 2 g + 12 roundings each, and these totals bound the sums of their absolute
        # values (the blocks bb, bz and zz take shares of 1/4, 2/4 and 1/4 of the second one).
        linear = np.abs(self.w_s) + np.abs(self.w_t) + np.abs(n.n_as) + np.abs(n.n_at) + alpha_s + alpha_t
        square = np.abs(n.n_ss) + np.abs(n.n_tt) + 2.0 * np.abs(n.n_st)
        cone = norm_up(n.g_s) + norm_up(n.g_t)
        total = float(linear @ reach + reach @ (square @ reach) + cone @ reach)
        self.error = gamma(2 * g + 24) * total * (1.0 + 1e-9) + TINY * g

    def best_shift(self) -> float:
        """Multiple e of ``sum_j b_j^2 - (r_j^T z)^2 = 0`` to add; found in floating point, any value is valid."""
        values, vectors = eigh(self.bb, check_finite=False, driver="evd")
        turned = vectors.T @ self.bc
        bottom = float(values[0])
        scale = max(float(values[-1] - bottom), float(np.max(np.abs(self.bc))), 1e-200)

        def bound(logarithm: float) -> float:
            shift = math.exp(logarithm) * scale - bottom
            corner = self.cc - turned.T @ (turned / (values + shift)[:, None])
            corner[1:, 1:] -= shift * self.gram
            return sum(_best_constants(corner))

        low, high = math.log(1e-11), math.log(1e3)
        result: Any = minimize_scalar(bound, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
        return math.exp(min((low, float(result.x)), key=bound)) * scale - bottom

    def certified(self) -> float:
        """Proved ``c_a + c_z``, with all rounding errors added; infinite where no factor was found.

        For any matrix L, ``A + shift I = L L^T + E`` gives ``lambda_min(A) >= -shift - ||E||_F``, and
        ``||v||^2 <= 2 + ||R||^2`` at the points that matter. The computed product is off by no more than
        ``gamma_N || |L| |L|^T ||_F <= gamma_N ||L||_F^2``, so that only a matrix product is trusted.
        """
        g, r = self.rows.shape
        size = g + r + 1
        largest = max(float(np.max(np.diag(self.bb))), 1e-200)
        for relative in _SHIFTS:
            shift = relative * largest
            try:
                root = cholesky(self.bb + shift * np.eye(g), lower=True, check_finite=False)
            except LinAlgError:
                continue
            tail = solve_triangular(root, self.bc, lower=True, check_finite=False)
            corner = self.cc - tail.T @ tail
            c_a, c_z = _best_constants(corner)
            slack = np.full(r + 1, c_z)
            slack[0] = c_a
            values, vectors = np.linalg.eigh(corner + np.diag(slack))
            L = np.zeros((size, size))
            L[:g, :g], L[g:, :g] = root, tail.T
            L[g:, g:] = vectors * np.sqrt(np.maximum(values, 0.0))
            A = np.empty((size, size))
            A[:g, :g], A[:g, g:], A[g:, :g] = self.bb, self.bc, self.bc.T
            A[g:, g:] = self.cc + np.diag(slack)
            # One rounding for each of these sums, at most half a unit of its result.
            slips = 2.0**-53 * float(np.max(np.abs(np.diag(A)[g:])))
            A[np.arange(g), np.arange(g)] += shift
            pad = 1.0 + gamma(size * size + 8)
            norms = float(np.sum(L * L)) + 2.0 * float(np.linalg.norm(A))
            excess = shift + (float(np.linalg.norm(A - L @ L.T)) + gamma(size + 6) * norms) * pad
            spread = min(float(np.sum(self.reach**2)) * pad, lambda_max_up(self.rows, np.ones(g)))
            total = c_a + c_z + 4.0 * 2.0**-53 * (abs(c_a) + abs(c_z))
            return (total + self.error + slips + excess * (2.0 + spread)) * (1.0 + 1e-15)
        return math.inf


def _best_constants(corner: FloatArray) -> tuple[float, float]:
    """Smallest ``c_a + c_z`` for which ``corner + diag(c_a, c_z, ..., c_z)`` is positive semidefinite."""
    values, vectors = np.linalg.eigh(corner[1:, 1:])
    load = (vectors.T @ corner[1:, 0]) ** 2
    # With d = values + c_z: c_a = -corner_aa + sum load / d, and the sum of both is smallest where sum load / d^2 = 1.
    low = float(np.max(np.sqrt(load) - values))
    high = math.sqrt(float(np.sum(load))) - float(values[0])
    floor = 1e-15 * max(float(np.max(np.abs(values))), high, 1e-200)
    for _ in range(60):
        c_z = 0.5 * (low + high)
        room = np.maximum(values + c_z, floor)
        if np.sum(load / room**2) < 1.0:
            high = c_z
        else:
            low = c_z
    return float(np.sum(load / np.maximum(values + high, floor)) - corner[0, 0]), high
