"""What the two methods of the group lasso share: the result, the deadline, and the bound at a penalty."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, get_lapack_funcs

from cvxnn.losses import Loss
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import packed_width
from cvxnn.problem import Problem, problem_of
from cvxnn.solution import History, Status

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
# The wrappers of this take longer than the routine on small matrices.
_POSV: Any = get_lapack_funcs("posv", dtype=np.float64)
# Shifts of a matrix with unit diagonal that single precision has made indefinite.
_SHIFTS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0)
# Rows of a slab of the data, entries of a slab of masks.
_SLAB, _MASK_SLAB = 1 << 13, 1 << 18


SINGLE_TOL = 1e-5
"""Tolerance that single precision can serve."""


class OutOfTime(Exception):
    """Raised between two products or factorisations when the deadline has passed."""


class Deadline:
    """Time on the clock of ``time.perf_counter`` at which work ends, for a run and all that works for it.

    An object of its own: parts that referred to their run would close a cycle, and the arrays of both would stay until
    the collector comes by.

    Examples
    --------
    >>> Deadline(math.inf).check()
    >>> Deadline(0.0).check()
    Traceback (most recent call last):
        ...
    cvxnn.solvers.group_lasso._common.OutOfTime
    """

    def __init__(self, at: float) -> None:
        self.at = at

    def check(self) -> None:
        """Raise :class:`OutOfTime` once it has passed."""
        if time.perf_counter() > self.at:
            raise OutOfTime


class Laborious(Exception):
    """Raised where a solve has taken so many factorisations that another method is the faster one."""


def concluded(work: Callable[[], Status]) -> Status:
    """Status that some work ends with: its own, or that of what cuts it short.

    Examples
    --------
    >>> def late():
    ...     raise OutOfTime
    >>> concluded(late)
    <Status.TIME_LIMIT: 'time_limit reached'>
    """
    try:
        return work()
    except OutOfTime:
        return Status.TIME_LIMIT
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except (LinAlgError, Laborious):
        return Status.STALLED


@dataclass(frozen=True)
class GroupLassoResult:
    """Blocks found, dual vector and course of the solve.

    Attributes
    ----------
    index : ndarray (k,)
        Patterns with a nonzero block, increasing.
    vectors : ndarray (k, d)
        Their blocks ``u_i``.
    dual : ndarray (n,)
        Dual vector with the best bound.
    objective : float
        Objective of the blocks, evaluated in double precision.
    lower_bound : float
        Bound that ``dual`` gives.
    status : Status
    history : History
    n_iter : int
        Iterations: working sets, or Newton steps on all rows.
    """

    index: IntArray
    vectors: FloatArray
    dual: FloatArray
    objective: float
    lower_bound: float
    status: Status
    history: History
    n_iter: int


def restricted(
    problem: Problem, patterns: ActivationPatterns, rows: IntArray, weight: FloatArray
) -> tuple[Problem, ActivationPatterns]:
    """Problem and patterns on some samples, with the weights ``(k,)`` of these.

    Examples
    --------
    >>> problem = Problem([[1.0], [1e9]], [2.0, 1.0], sample_weight=[1.0, 0.0])
    >>> patterns = ActivationPatterns.from_masks([[True, True]], [[1.0]])
    >>> part, few = restricted(problem, patterns, np.array([0]), np.ones(1))
    >>> part.X, few.masks
    (array([[1.]]), array([[ True]]))
    """
    part = problem_of(problem.X[rows], problem.y[rows], problem.beta, problem.loss, sample_weight=weight)
    return part, ActivationPatterns(chosen_bits(patterns.packed, rows), patterns.gates, len(rows))


def chosen_bits(packed: npt.NDArray[np.uint8], index: IntArray) -> npt.NDArray[np.uint8]:
    """Packed masks of some samples, from those of all, a few patterns at a time.

    Examples
    --------
    >>> chosen_bits(np.array([[0b101]], dtype=np.uint8), np.array([2, 1, 0]))
    array([[5]], dtype=uint8)
    """
    out = np.empty((len(packed), packed_width(len(index))), dtype=np.uint8)
    byte, bit = index >> 3, (index & 7).astype(np.uint8)
    step = max(1, _MASK_SLAB // max(1, len(index)))
    for start in range(0, len(packed), step):
        bits = (packed[start : start + step, byte] >> bit) & 1
        out[start : start + step] = np.packbits(bits, axis=1, bitorder="little")
    return out


def fitting_scale(value: Callable[[FloatArray], float], fit: FloatArray, cost: float) -> float:
    """Power of a half by which blocks are to be multiplied, to a factor of two the one with the least objective.

    ``value(t fit) + t cost`` is convex in t: it is halved for as long as that helps. Blocks at a wrong scale are a poor
    start, although their directions may be right.

    Examples
    --------
    >>> fitting_scale(lambda fit: 0.5 * float(np.sum((fit - 1.0) ** 2)), np.array([8.0]), 0.0)
    0.125
    """
    scale, best = 1.0, value(fit) + cost
    while True:
        half = 0.5 * scale
        halved = value(half * fit) + half * cost
        if not halved < best:
            return scale
        scale, best = half, halved


def dual_bound(loss: Loss, y: FloatArray, weight: FloatArray, nu: FloatArray, excess: float) -> float:
    """Dual value less its rounding, for a vector in the domain whose largest norm is ``excess`` penalties."""
    scale = min(1.0, loss.dual_scale_limit(nu, y, weight), 1.0 / excess if excess > 0.0 else 1.0) * (1.0 - 4.0 * _EPS)
    point = loss.project_dual(scale * nu, y, weight)
    return loss.dual_value(point, y, weight) - (len(nu) + 16) * _EPS * loss.dual_magnitude(point, y, weight)


def norm_slack(X: FloatArray, nu: FloatArray) -> float:
    """Twice the rounding that a certificate adds to the norms ``||X^T D_i nu||``, so that it will agree."""
    magnitude = np.zeros(X.shape[1])
    for start in range(0, len(nu), _SLAB):
        magnitude += np.abs(nu[start : start + _SLAB]) @ np.abs(X[start : start + _SLAB])
    return 4.0 * (len(nu) + 8) * _EPS * float(np.linalg.norm(magnitude))


def solve_unit_diagonal(system: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve a system with unit diagonal that is positive definite up to rounding.

    Raises
    ------
    LinAlgError
        Where no shift makes it positive definite.

    Examples
    --------
    >>> solve_unit_diagonal(np.eye(2), np.array([1.0, 2.0]))
    array([1., 2.])
    """
    for shift in _SHIFTS:
        shifted = system + shift * np.eye(len(system)) if shift > 0.0 else system
        # The transpose of a symmetric matrix is in the order of Fortran already.
        _, solution, info = _POSV(shifted.T, rhs, lower=1)
        if info == 0:
            return solution
    raise LinAlgError("the curvature in the weights is not positive definite to rounding.")


def exponent_of(values: npt.NDArray[np.floating]) -> int:
    """Power of two that brings the largest entry to order one.

    Examples
    --------
    >>> exponent_of(np.array([[3.0, -5.0]]))
    3
    """
    largest = max(float(np.max(values, initial=0.0)), -float(np.min(values, initial=0.0)))
    return math.frexp(largest)[1]


def in_row_space(X: FloatArray) -> tuple[FloatArray, int, FloatArray | None]:
    """Data of order one in coordinates of their row space, with the power of two and the basis that bring them back.

    The power is exact: blocks and beta change by its inverse. With more columns than rows :math:`X^T = Q R` leaves as
    many coordinates as there are rows, and the basis is Q; elsewhere it is None.

    Examples
    --------
    >>> data, exponent, basis = in_row_space(np.array([[3.0, 4.0]]))
    >>> abs(data).round(6), exponent, abs(basis).round(6).ravel()
    (array([[0.625]]), 3, array([0.6, 0.8]))
    """
    exponent = exponent_of(X)
    data = np.ldexp(X, -exponent)
    if data.shape[0] >= data.shape[1]:
        return data, exponent, None
    basis, triangle = np.linalg.qr(data.T)
    return np.ascontiguousarray(triangle.T), exponent, basis
