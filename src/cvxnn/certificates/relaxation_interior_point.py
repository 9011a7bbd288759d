r"""Global lower bounds for few samples: the doubly non-negative relaxation on a tree of pieces, by an interior point.

With ``v = (|a|, w, (Rw)_+)`` the neurons of one output sign make a matrix ``Z = sum_i v_i v_i^T``, and the training
problem is linear in it but for the loss. The relaxation keeps of Z that it is positive semidefinite and what is known
of products of the forms ``a, s_j, t_j``. It is often exact, and always once the sphere is cut along all rows: on such
a piece every neuron is linear, and Z does no better than the one neuron ``Z_aw``. A few cuts, chosen where the solution
is not that of a network, are usually enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cvxnn._validation import as_count
from cvxnn.certificates._relaxation_conic import ConicAnswer, solve_pieces
from cvxnn.certificates._relaxation_model import Piece, make_piece
from cvxnn.certificates._relaxation_pieces import piece_bound
from cvxnn.certificates._relaxation_result import BestBound, RelaxationBound
from cvxnn.certificates._rounding import FloatArray
from cvxnn.certificates.relaxation_rows import RelaxationRows, reduce_rows
from cvxnn.problem import Problem, require_no_output_bias, require_one_output

__all__ = ["interior_point_bound"]

# Lines beyond which the packed matrices alone take hundreds of megabytes.
_MOST_LINES = 60
# Pieces whose worst row is at least this fraction as bad as the worst of all are cut in one round.
_CUT_FRACTION = 0.2
# Products below this fraction of the largest trace count as zero.
_NO_PRODUCT = 1e-9
# Axes with less than this fraction of the largest trace are no candidates.
_NO_AXIS = 1e-3
# Tolerance of the conic solver relative to the gap that is asked for, and its range.
_TOLERANCE = 1e-2
_FINEST, _COARSEST = 1e-10, 1e-8
_METHOD = "interior point"
# Rounds in a row that may pass without progress.
_PATIENCE = 3


def interior_point_bound(
    problem: Problem,
    *,
    time_limit: float | None = None,
    target_gap: float = 1e-6,
    upper: float | None = None,
    max_rows: int = 8,
    on_improvement: Callable[[RelaxationBound], None] | None = None,
) -> RelaxationBound:
    r"""Lower bound of the objective over all networks of every width, for some tens of samples at most.

    The relaxation is solved, its dual is rounded to a proof, and the pieces in which its solution is not that of a
    network are cut in two by the sign of ``x_j^T w`` for the worst row j; and so on. Every round yields a bound, the
    best one is returned.

    Parameters
    ----------
    problem : Problem
        With ``beta > 0``, no output bias, and rows on at most 60 lines through the origin.
    time_limit : float, optional
        Seconds; None works until the target is met or nothing is left to cut.
    target_gap : float, default 1e-6
        Stop once ``(upper - bound) <= target_gap * upper``.
    upper : float, optional
        Objective of a network. Without one, the search ends when three rounds of cuts in a row bring no progress.
    max_rows : int, default 8
        Largest number of rows whose sign is fixed in a piece; 0 is the relaxation without cuts.
    on_improvement : callable, optional
        Called with each better bound.

    Returns
    -------
    RelaxationBound
        Bound, rounding included, with the dual vector that proves it.

    Raises
    ------
    ValueError
        If beta is 0, the problem has an output bias, the rows lie on more than 60 lines, `max_rows` is negative, or the
        loss has no conic form.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, for the dual; Sahiner, Ergen, Pauly
    and Pilanci (2021), "Vector-output ReLU neural network problems are copositive programs", Theorem 1, for the
    copositive form whose relaxation this is.

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, -1.0, 2.0], beta=0.1)
    >>> bound = interior_point_bound(problem)
    >>> round(bound.lower_bound, 6), bound.method
    (0.385734, 'interior point')
    """
    rows = _validated(problem, max_rows)
    search = _Search(problem, rows, target_gap)
    deadline = None if time_limit is None else search.start + time_limit
    try:
        if len(rows.rows) == 0:
            return search.without_rows()
        while deadline is None or time.monotonic() < deadline:
            before = search.bound
            answer = search.solve(deadline)
            if on_improvement is not None and search.bound > before:
                on_improvement(search.result())
            # Without a known optimum, cuts that bring nothing are taken for a sign that the relaxation is exact.
            done = search.stalled() if upper is None else search.bound >= upper - target_gap * abs(upper)
            if answer is None or done or not search.cut(answer, max_rows):
                break
    except KeyboardInterrupt:
        search.interrupted = True
    return search.result()


def _validated(problem: Problem, max_rows: int) -> RelaxationRows:
    require_no_output_bias(problem, "interior_point_bound")
    require_one_output(problem, "interior_point_bound")
    if problem.beta == 0.0:
        raise ValueError("beta is 0; interior_point_bound needs beta > 0.")
    as_count(max_rows, "max_rows", minimum=0)
    # A sample of weight zero has no part in loss or dual.
    rows = reduce_rows(problem.X[problem.sample_weight > 0.0])
    if len(rows.rows) > _MOST_LINES:
        raise ValueError(
            f"X has {len(rows.rows)} rows on different lines; interior_point_bound accepts at most {_MOST_LINES} "
            "(relaxation_bound works for more)."
        )
    return rows


class _Search(BestBound):
    """Best bound so far, and the pieces of the current relaxation."""

    def __init__(self, problem: Problem, rows: RelaxationRows, target_gap: float) -> None:
        super().__init__(problem, _METHOD)
        self.tol, self.least_gain = min(max(_TOLERANCE * target_gap, _FINEST), _COARSEST), 0.1 * target_gap
        self.rows = rows
        self.live = problem.sample_weight > 0.0
        X, y, weight = (array[self.live] for array in (problem.X, problem.y, problem.sample_weight))
        self.part = Problem(X, y, problem.beta, problem.loss, sample_weight=weight)
        free = np.zeros(len(rows.rows), dtype=np.int8)
        self.pieces = [make_piece(rows.rows, sign, free) for sign in (1, -1)]
        self.course: list[float] = []

    def without_rows(self) -> RelaxationBound:
        """Bound where every row is zero: every network computes zero."""
        fit = np.zeros(self.problem.n_samples)
        nu = self.problem.dual_vector(fit)
        self.offer(self.problem.project_dual(nu), 0.0, _METHOD)
        return self.result()

    def solve(self, deadline: float | None) -> ConicAnswer | None:
        """Solve the relaxation on the current pieces and keep the bound if it is the best."""
        limit = None if deadline is None else deadline - time.monotonic()
        answer = solve_pieces(self.part, self.rows, self.pieces, tol=self.tol, time_limit=limit)
        self.iterations += 1
        if answer is None:
            return None
        nu = self.part.loss.project_dual(answer.nu, self.part.y, self.part.sample_weight)
        tau = 0.0
        for piece, multipliers in zip(self.pieces, answer.multipliers, strict=True):
            # The pieces of a sign cover the sphere, so that the largest of their bounds holds on all of it.
            tau = max(tau, piece_bound(self.rows, piece, nu, multipliers, self.problem.beta))
        whole = np.zeros(self.problem.n_samples)
        whole[self.live] = nu
        self.offer(whole, tau, _METHOD)
        self._candidates(answer.matrices)
        self.course.append(self.bound)
        return answer

    def stalled(self) -> bool:
        """Whether the last rounds together gained less than a tenth of the gap that is asked for."""
        if len(self.course) <= _PATIENCE:
            return False
        return self.course[-1] - self.course[-1 - _PATIENCE] <= self.least_gain * self.course[-1]

    def _candidates(self, matrices: Sequence[FloatArray]) -> None:
        """First axes of the matrices: directions of neurons where the relaxation is exact."""
        r = self.rows.rank
        largest = max(float(np.trace(Z)) for Z in matrices)
        directions, signs = [], []
        for piece, Z in zip(self.pieces, matrices, strict=True):
            values, vectors = np.linalg.eigh(Z)
            for k in np.flatnonzero(values > _NO_AXIS * largest)[::-1]:
                axis = vectors[1 : 1 + r, k] * (1.0 if vectors[0, k] >= 0.0 else -1.0)
                if np.any(axis):
                    directions.append(axis)
                    signs.append(piece.sign)
        if directions:
            self.directions = self.rows.lift(np.array(directions))
            self.signs = np.array(signs, dtype=np.int64)

    def cut(self, answer: ConicAnswer, max_rows: int) -> bool:
        """Cut the pieces whose matrices are furthest from those of a network; False where none is to be cut."""
        worst = [_worst_row(piece, Z, max_rows) for piece, Z in zip(self.pieces, answer.matrices, strict=True)]
        largest = max(float(np.trace(Z)) for Z in answer.matrices)
        top = max(row.product for row in worst)
        if top <= _NO_PRODUCT * largest:
            return False
        pieces = []
        for piece, row in zip(self.pieces, worst, strict=True):
            if row.product < _CUT_FRACTION * top:
                pieces.append(piece)
                continue
            for side in (1, -1):
                fixed = piece.fixed.copy()
                fixed[row.index] = side
                pieces.append(make_piece(self.rows.rows, piece.sign, fixed))
        self.pieces = pieces
        return True


@dataclass(frozen=True)
class _Row:
    index: int
    product: float


def _worst_row(piece: Piece, Z: FloatArray, max_rows: int) -> _Row:
    """Free row with the largest ``(Z_ss Z_tt)^(1/2)``, which is 0 where all mass is on one side of the row."""
    free = piece.free
    if free.size == 0 or piece.depth >= max_rows:
        return _Row(-1, 0.0)
    sides = [piece.forms[index[free]] for index in (piece.s, piece.t)]
    s, t = (np.maximum(np.einsum("ij,jk,ik->i", side, Z, side), 0.0) for side in sides)
    product = np.sqrt(s * t)
    best = int(np.argmax(product))
    return _Row(int(free[best]), float(product[best]))
