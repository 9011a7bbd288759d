r"""Group lasso with the directions of its blocks fixed: the lengths that are best along them.

.. math:: \min_{t \ge 0}\ \ell\Big(\sum_i t_i b_i\Big) + \beta \sum_i t_i, \qquad b_i = D_i X v_i,\ \|v_i\| = 1

Minus the gradient at its optimum, :math:`\nu`, has :math:`v_i^T X^T D_i \nu \le \beta` for every block. Where the
directions are those of :math:`X^T D_i \nu_0` for a dual vector :math:`\nu_0` nearby, the norms
:math:`\|X^T D_i \nu\|` exceed :math:`\beta` by the square of its distance only, and so does the duality gap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.solvers._nonnegative_qp import pivot_nonnegative_quadratic
from cvxnn.solvers.group_lasso._eta_newton import Model

FloatArray = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

__all__ = ["CLOSE", "best_lengths", "unit_vectors", "weighted_sum"]

CLOSE = 0.05
"""Distance of a norm from the penalty, relative to it, within which a block that is zero takes part: the best lengths
move the norms, and one left out would be violated."""

# Newton steps, and the decrease that ends them, relative to the value. Where the curvature is constant the second step
# makes good the rounding of the first.
_MOST_STEPS, _CONSTANT_STEPS, _SMALL_DECREASE = 8, 2, 1e-10
# Slope along the lengths that counts as none, relative to the penalty and to the shift below.
_LEVEL = 4.0
# Part of the last decrease up to which the next one shows that the curvature serves on.
_FAST = 0.02
# Shift of the curvature, relative to its diagonal, as rows may depend on each other: so many roundings, at least this.
_ROUNDINGS, _LEAST_SHIFT = 16.0, 1e-10
# Runs of samples of a product, for several threads, and the least of their lengths.
_RUNS, _LEAST_RUN = 4, 2048


def best_lengths(model: Model, rows: Floats, start: FloatArray) -> FloatArray | None:
    """Lengths ``(k,)`` for ``b_i`` in the rows ``(k, n)``, by Newton's method from a start; None where that fails.

    Products are in the precision of the rows.

    Examples
    --------
    >>> from cvxnn.losses import SquaredLoss
    >>> model = Model(np.eye(2), np.array([2.0, -1.0]), np.ones(2), SquaredLoss(), 0.5, lambda: None)
    >>> best_lengths(model, np.eye(2), np.ones(2)).round(6)
    array([1.5, 0. ])
    """
    lengths, fit = start, weighted_sum(rows, start)
    value, gram = model.value(fit) + model.beta * float(np.sum(lengths)), None
    expected, decrease = 0.0, np.inf
    noise = max(_ROUNDINGS * float(np.finfo(rows.dtype).eps), _LEAST_SHIFT)
    for k in range(_CONSTANT_STEPS if model.constant_curvature else _MOST_STEPS):
        if gram is None or not (model.constant_curvature or decrease <= _FAST * expected):
            curvature = model.hessian(fit)
            largest = float(np.max(curvature))
            if largest == 0.0:
                return None
            # A copy of the rows is large: where all samples count the same there is none.
            even = float(np.min(curvature)) == largest
            root = rows if even else rows * np.sqrt(curvature / largest).astype(rows.dtype)
            gram = largest * _gram(root)
            gram.flat[:: len(gram) + 1] *= 1.0 + noise
        slope = weighted_sum(rows.T, model.gradient(fit)) + model.beta
        uneven = np.where(lengths > 0, np.abs(slope), -slope)
        if k > 0 and float(np.max(uneven)) <= _LEVEL * noise * model.beta:
            break
        target = pivot_nonnegative_quadratic(gram, gram @ lengths - slope, lengths > 0)
        if target is None:
            return None
        move = target - lengths
        expected, decrease = decrease, -float(slope @ move + 0.5 * move @ (gram @ move))
        lengths, fit = target, weighted_sum(rows, target)
        last, value = value, model.value(fit) + model.beta * float(np.sum(target))
        if not value <= last + noise * abs(last):
            return None
        if decrease <= _SMALL_DECREASE * abs(last):
            break
    return lengths


def _gram(rows: Floats) -> FloatArray:
    """Products of the rows ``(k, k)``, in their precision over runs of samples and summed up in double."""
    size = max(_LEAST_RUN, -(-rows.shape[1] // _RUNS))
    pieces = [rows[:, start : start + size] for start in range(0, rows.shape[1], size)]
    return np.sum(in_parallel(lambda piece: (piece @ piece.T).astype(np.float64), pieces), axis=0)


def weighted_sum(rows: Floats, weights: FloatArray) -> FloatArray:
    """Sum of the rows ``(k, n)`` with weights ``(k,)`` of any size, by products in the precision of the rows."""
    size = float(np.max(np.abs(weights), initial=0.0))
    if size == 0.0:
        return np.zeros(rows.shape[1])
    return size * ((weights / size).astype(rows.dtype) @ rows).astype(np.float64)


def unit_vectors(vectors: Floats) -> FloatArray:
    """Rows divided by their lengths, none of them zero, in double precision.

    Examples
    --------
    >>> unit_vectors(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    wide = vectors.astype(np.float64)
    return wide / np.sqrt(np.sum(wide * wide, axis=1))[:, None]
