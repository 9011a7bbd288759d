r"""Dual of the doubly non-negative relaxation as a conic program for Clarabel.

.. math:: \max_\nu\ -\ell^*(-\nu) \quad\text{such that for every piece}\quad
          \mathrm{diag}(\tfrac\beta2 + \mu, (\tfrac\beta2 - \mu) I, 0) - \sigma\,\mathrm{sym}(e_1 f_\nu^T)
          - \sum_{p<q} N_{pq}\,\mathrm{sym}(\phi_p \phi_q^T)
          - \sum_p \mathrm{sym}((\alpha_p, g_p, 0)\,\phi_p^T) \succeq 0

with the non-negative forms ``phi`` of the piece, ``N >= 0`` (of any sign where the product vanishes) and
``||g_p|| <= alpha_p``. The answer is a hint: what it proves is found by :mod:`cvxnn.certificates._relaxation_pieces`.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from cvxnn.certificates._relaxation_model import Piece, PieceMultipliers
from cvxnn.certificates._rounding import FloatArray
from cvxnn.certificates.relaxation_rows import RelaxationRows
from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem

Sparse = Any
"""SciPy sparse array; its stubs do not tell the formats apart."""

__all__ = ["ConicAnswer", "solve_pieces"]


@dataclass(frozen=True, eq=False)
class ConicAnswer:
    """What Clarabel found.

    Attributes
    ----------
    nu : ndarray (n,)
        Dual vector in the units of the loss gradient; feasible and in the domain of the conjugate up to its tolerance.
    multipliers : list of PieceMultipliers
        In units of beta, one entry a piece.
    matrices : list of ndarray (m, m)
        Primal variables Z of the pieces, up to a common factor.
    value : float
        Value of the relaxation, up to the tolerance; not a bound.
    solved : bool
        Whether the tolerance was met.
    """

    nu: FloatArray
    multipliers: list[PieceMultipliers]
    matrices: list[FloatArray]
    value: float
    solved: bool


def solve_pieces(
    problem: Problem,
    rows: RelaxationRows,
    pieces: Sequence[Piece],
    *,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> ConicAnswer | None:
    """Solve the joint dual over pieces that cover the sphere once for each sign of the output weight.

    Parameters
    ----------
    problem : Problem
        With positive beta and positive sample weights.
    rows : RelaxationRows
        Its data in normal form; at least one row.
    pieces : sequence of Piece
    tol : float
        Tolerance asked of Clarabel.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    ConicAnswer or None
        None where Clarabel returns no finite point.

    Raises
    ------
    ValueError
        If the loss has no conic form.
    """
    # The data are divided by 2**exponent; the dual vector is unit * k with k of order one.
    beta = math.ldexp(problem.beta, -rows.exponent)
    slope = float(np.max(np.abs(problem.loss_gradient(np.zeros(problem.n_samples)))))
    unit = min(beta, slope) if slope > 0.0 else beta
    loss = _dual_loss(problem, unit)
    blocks = [_piece_block(rows, piece, unit / beta) for piece in pieces]
    A, b, cones, starts = _assemble(problem.n_samples, loss, blocks)
    n, middle = problem.n_samples, A.shape[1] - problem.n_samples - loss.extra_cost.size
    P = sp.diags_array(np.concatenate([loss.quadratic, np.zeros(A.shape[1] - n)]), format="csc") / loss.scale
    q = np.concatenate([loss.linear, np.zeros(middle), loss.extra_cost]) / loss.scale
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    # Shorter steps save iterations where a piece has no interior.
    settings.max_step_fraction = 0.95
    # One thread and one factorisation method: the same answer in every run.
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"
    if time_limit is not None:
        settings.time_limit = max(time_limit, 1e-3)
    solution = _run(clarabel.DefaultSolver(sp.csc_matrix(P), q, A, b, cones, settings))
    if solution is None:
        return None
    x, z = np.asarray(solution.x), np.asarray(solution.z)
    if x.size != A.shape[1] or not (np.all(np.isfinite(x)) and np.all(np.isfinite(z))):
        return None
    multipliers, matrices, place = [], [], loss.rhs.size
    for block, start, piece in zip(blocks, starts, pieces, strict=True):
        multipliers.append(block.read(x[start : start + block.n_columns]))
        matrices.append(_unpack(z[place : place + block.inequality.shape[0]], piece.size))
        place += block.n_rows
    solved = solution.status in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved)
    return ConicAnswer(x[:n] * unit, multipliers, matrices, -float(solution.obj_val) * loss.scale, solved)


def _run(solver: Any) -> Any | None:
    """Solution of a Clarabel solver; None where it panics, as it does when an eigenvalue routine fails."""
    try:
        return solver.solve()
    except BaseException as error:
        # A panic in Rust arrives as a class of its own that no module exports.
        if type(error).__name__ == "PanicException":
            return None
        raise


def _assemble(n: int, loss: _DualLoss, blocks: Sequence[_Block]) -> tuple[Sparse, FloatArray, list, list[int]]:
    """Rows of the loss, then those of each piece; columns of nu, of each piece and of the loss."""
    widths = [block.n_columns for block in blocks]
    starts = [n + sum(widths[:i]) for i in range(len(widths))]
    total = n + sum(widths) + loss.extra_cost.size
    parts = [sp.hstack([loss.fit, sp.csc_array((loss.rhs.size, sum(widths))), loss.more], format="csc")]
    rhs, cones = [loss.rhs], list(loss.cones)
    for block, start in zip(blocks, starts, strict=True):
        for own, of_nu, constant, kinds in block.rows():
            before = sp.csc_array((own.shape[0], start - n))
            after = sp.csc_array((own.shape[0], total - start - own.shape[1]))
            parts.append(sp.hstack([of_nu, before, own, after], format="csc"))
            rhs.append(constant)
            cones.extend(kinds)
    return sp.csc_matrix(sp.vstack(parts)), np.concatenate(rhs), cones, starts


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows of one piece: its matrix inequality, the signs of the products, the second-order cones.

    The columns are those of the products, of the cones and, last, of the multiplier ``mu`` of ``Z_aa = tr Z_zz``.
    """

    inequality: Sparse
    of_nu: Sparse
    constant: FloatArray
    free: npt.NDArray[np.bool_]
    size: int
    n_forms: int
    width: int

    @property
    def n_columns(self) -> int:
        return self.inequality.shape[1]

    @property
    def n_rows(self) -> int:
        return self.inequality.shape[0] + int(np.count_nonzero(~self.free)) + self.n_forms * self.width

    def rows(self) -> list[tuple[Sparse, Sparse, FloatArray, list]]:
        """Groups of rows: own columns, columns of nu, right-hand side and cones."""
        n, signed, count = self.of_nu.shape[1], np.flatnonzero(~self.free), self.n_forms * self.width
        products = _minus_identity(signed, self.n_columns)
        cones = _minus_identity(self.free.size + np.arange(count), self.n_columns)
        orthant = [clarabel.NonnegativeConeT(signed.size)] if signed.size else []
        second_order = [clarabel.SecondOrderConeT(self.width) for _ in range(self.n_forms)]
        return [
            (self.inequality, self.of_nu, self.constant, [clarabel.PSDTriangleConeT(self.size)]),
            (products, sp.csc_array((signed.size, n)), np.zeros(signed.size), orthant),
            (cones, sp.csc_array((count, n)), np.zeros(count), second_order),
        ]

    def read(self, x: FloatArray) -> PieceMultipliers:
        """Multipliers from the values of the columns."""
        q = self.free.size
        cones = x[q : q + self.n_forms * self.width].reshape(self.n_forms, self.width)
        return PieceMultipliers(x[:q].copy(), cones.copy(), float(x[q + cones.size]))


def _minus_identity(columns: npt.NDArray[np.intp], width: int) -> Sparse:
    return sp.csc_array((-np.ones(columns.size), (np.arange(columns.size), columns)), shape=(columns.size, width))


def _piece_block(rows: RelaxationRows, piece: Piece, unit: float) -> _Block:
    """Rows in units of beta: ``A x + s = b`` with s the packed matrix of the piece; nu is in units of `unit`."""
    F, m, r = piece.forms, piece.size, rows.rank
    axes = np.eye(m)[: 1 + r]
    products = _symmetric(F[piece.pairs[:, 0]], F[piece.pairs[:, 1]])
    cones = _symmetric(np.tile(axes, (len(F), 1)), np.repeat(F, 1 + r, axis=0))
    diagonal = np.zeros((1, m))
    diagonal[0, : 1 + r] = 1.0
    half = 0.5 * _pack(np.diag(diagonal[0]))
    diagonal[0, 0] = -1.0
    balance = _pack(np.diag(diagonal[0]))
    inequality = sp.csc_array(np.vstack([products, cones, balance]).T)
    fit = np.zeros((rows.n_samples, m))
    form = np.where(rows.side > 0, piece.s[rows.group], piece.t[rows.group])
    fit[rows.samples] = np.where((form >= 0)[:, None], rows.length[:, None] * F[form], 0.0)
    of_nu = sp.csc_array(piece.sign * unit * _symmetric(np.broadcast_to(axes[0], fit.shape), fit).T)
    return _Block(inequality, of_nu, half, piece.complementary, m, len(F), 1 + r)


def _symmetric(left: FloatArray, right: FloatArray) -> FloatArray:
    """Packed ``(x y^T + y x^T) / 2``, row by row."""
    i, j = _triangle(left.shape[1])
    scale = np.where(i == j, 0.5, math.sqrt(0.5))
    return scale * (left[:, i] * right[:, j] + left[:, j] * right[:, i])


def _triangle(m: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and column of the entries of the upper triangle, column by column."""
    j, i = np.tril_indices(m)
    return i, j


def _pack(matrix: FloatArray) -> FloatArray:
    """Upper triangle with the off-diagonal entries times sqrt(2), so that inner products stay the same."""
    i, j = _triangle(len(matrix))
    return np.where(i == j, 1.0, math.sqrt(2.0)) * matrix[i, j]


def _unpack(packed: FloatArray, m: int) -> FloatArray:
    i, j = _triangle(m)
    out = np.zeros((m, m))
    out[i, j] = out[j, i] = packed * np.where(i == j, 1.0, math.sqrt(0.5))
    return out


@dataclass(frozen=True, eq=False)
class _DualLoss:
    """``l*(-nu)`` for ``nu = unit * k`` as ``1/2 k' diag(quadratic) k + linear' k + extra_cost' h`` with cone rows."""

    quadratic: FloatArray
    linear: FloatArray
    extra_cost: FloatArray
    fit: Sparse
    more: Sparse
    rhs: FloatArray
    cones: list
    scale: float


def _dual_loss(problem: Problem, unit: float) -> _DualLoss:
    n, y, weight = problem.n_samples, problem.y, problem.sample_weight
    loss = problem.loss
    # Size of the objective: no more than the loss of the zero network, and less where beta confines nu.
    scale = max(min(problem.loss_value(np.zeros(n)), unit * float(np.sum(np.abs(y)))), 1e-300)
    eye: Sparse = sp.eye_array(n, format="csc")
    quadratic, nothing = unit * unit / weight, np.zeros(0)
    none = sp.csc_array((0, n)), sp.csc_array((0, 0)), nothing, []
    if isinstance(loss, SquaredLoss):
        return _DualLoss(quadratic, -unit * y, nothing, *none, scale)
    if isinstance(loss, HuberLoss):
        box = np.tile(loss.delta * weight / unit, 2)
        rows = sp.vstack([eye, -eye], format="csc")
        cones = [clarabel.NonnegativeConeT(2 * n)]
        return _DualLoss(quadratic, -unit * y, nothing, rows, sp.csc_array((2 * n, 0)), box, cones, scale)
    if isinstance(loss, SquaredHingeLoss):
        rows = sp.diags_array(-y, format="csc")
        cones = [clarabel.NonnegativeConeT(n)]
        return _DualLoss(quadratic, -unit * y, nothing, rows, sp.csc_array((n, 0)), np.zeros(n), cones, scale)
    if isinstance(loss, LogisticLoss):
        return _logistic(y, weight, unit, scale)
    raise ValueError(f"loss {loss.name!r} has no conic form; accepted are squared, huber, squared_hinge and logistic.")


def _logistic(y: FloatArray, weight: FloatArray, unit: float, scale: float) -> _DualLoss:
    """``h1 >= q log q`` and ``h2 >= (1 - q) log (1 - q)`` as ``(-h1, q, 1)``, ``(-h2, 1 - q, 1)`` in the cone."""
    n = len(y)
    j = np.arange(n)
    slope = unit * y / weight
    places = np.concatenate([6 * j + 1, 6 * j + 4]), np.tile(j, 2)
    fit = sp.csc_array((np.concatenate([-slope, slope]), places), shape=(6 * n, n))
    more = sp.csc_array((np.ones(2 * n), (np.concatenate([6 * j, 6 * j + 3]), np.arange(2 * n))), shape=(6 * n, 2 * n))
    rhs = np.tile([0.0, 0.0, 1.0, 0.0, 1.0, 1.0], n)
    cones = [clarabel.ExponentialConeT() for _ in range(2 * n)]
    return _DualLoss(np.zeros(n), np.zeros(n), np.tile(weight, 2), fit, more, rhs, cones, scale)
