r"""Problems whose output bias follows the neurons, so that solvers move these alone.

.. math:: L(f) = \min_b\ \ell(f + b) + \tfrac{\kappa}{2} b^2

is convex like :math:`\ell`. Its gradient is that of :math:`\ell` at the best bias (envelope theorem), its Hessian is
:math:`D - c c^\top` with the diagonal D of :math:`\ell` there and :math:`c = D 1 / \sqrt{1^\top D 1 + \kappa}`:
variable projection (Golub and Pereyra, 1973, "The differentiation of pseudo-inverses and
nonlinear least squares problems").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.certificates.output_bias import best_shift
from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem
from cvxnn.solvers.row_slabs import row_pieces

FloatArray = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating]

__all__ = ["BestBias", "as_sum", "bias_slopes", "coupling", "fixed_bias", "replaced"]


class BestBias(Problem):
    """Problem without an output bias whose loss is that of ``biased`` at the best output bias for a fit.

    It has no output bias and no separable loss: ``loss`` is the loss of ``biased``, which sums over samples once the
    bias is known (:func:`as_sum`), and the Hessian has a part of rank one (:func:`coupling`).

    Parameters
    ----------
    biased : Problem
        With an ``output_bias_decay``.

    Examples
    --------
    >>> problem = BestBias(Problem([[1.0], [2.0]], [1.0, 3.0], output_bias_decay=0.0))
    >>> problem.loss_value(np.zeros(2)), problem.dual_vector(np.zeros(2))
    (1.0, array([-1.,  1.]))
    """

    biased: Problem

    def __init__(self, biased: Problem) -> None:
        self.__dict__.update(biased.__dict__, output_bias_decay=None, biased=biased)

    def loss_value(self, fit: FloatArray) -> float:
        """Loss at the best bias, with what the bias costs."""
        bias = best_shift(self.biased, fit)
        return super().loss_value(fit + bias) + _cost(self.biased, bias)

    def loss_gradient(self, fit: FloatArray) -> FloatArray:
        """Gradient of the loss at the best bias."""
        return super().loss_gradient(fit + best_shift(self.biased, fit))

    def loss_hessian(self, fit: FloatArray) -> FloatArray:
        """Diagonal D of the Hessian of the loss at the best bias."""
        return super().loss_hessian(fit + best_shift(self.biased, fit))

    def hessian_product(self, fit: FloatArray, direction: FloatArray) -> FloatArray:
        """Product of ``D - c c^T`` with a direction."""
        diagonal = self.loss_hessian(fit)
        along = _coupling(diagonal, self.biased)
        return diagonal * direction - along * float(along @ direction)


def coupling(problem: Problem, diagonal: AnyFloats) -> AnyFloats | None:
    """Vector c ``(n,)`` of the Hessian ``D - c c^T`` of the loss with the given diagonal D; None where it is D.

    Examples
    --------
    >>> problem = BestBias(Problem([[1.0], [2.0]], [1.0, 3.0], output_bias_decay=0.0))
    >>> coupling(problem, problem.loss_hessian(np.zeros(2))).round(3)
    array([0.707, 0.707])
    """
    return _coupling(diagonal, problem.biased) if isinstance(problem, BestBias) else None


def as_sum(problem: Problem, fit: Callable[[], FloatArray]) -> tuple[Problem, float]:
    """Problem whose loss is a sum over samples, and a constant: at a fit the same value and gradient.

    Parameters
    ----------
    problem : Problem
    fit : callable
        Computes the fit ``(n,)``, where it is needed.

    Examples
    --------
    >>> problem = BestBias(Problem([[1.0], [2.0]], [1.0, 3.0], output_bias_decay=0.5))
    >>> plain, constant = as_sum(problem, lambda: np.zeros(2))
    >>> bool(np.isclose(plain.loss_value(np.zeros(2)) + constant, problem.loss_value(np.zeros(2))))
    True
    """
    if not isinstance(problem, BestBias):
        return problem, 0.0
    bias = best_shift(problem.biased, fit())
    return fixed_bias(problem.biased, bias), _cost(problem.biased, bias)


def fixed_bias(problem: Problem, bias: float) -> Problem:
    """Problem without an output bias whose networks, with the given one added, have the same loss."""
    loss, y = problem.loss, problem.y
    if isinstance(loss, SquaredLoss | HuberLoss):
        y = y - bias
        y.flags.writeable = False
    elif isinstance(loss, LogisticLoss | SquaredHingeLoss):
        loss = replace(loss, offset=loss.offset + bias)
    else:
        raise ValueError(f"loss {loss.name!r} cannot be trained with an output bias; solve without output_bias_decay.")
    return replaced(problem, y=y, loss=loss, output_bias_decay=None)


def replaced(problem: Problem, **attributes: Any) -> Problem:
    """Return the problem with other attributes, which are neither checked nor copied.

    A :class:`BestBias` remains one.

    Examples
    --------
    >>> replaced(Problem([[1.0], [2.0]], [1.0, 3.0]), X=np.eye(2)).n_features
    2
    """
    if isinstance(problem, BestBias):
        return BestBias(replaced(problem.biased, **attributes))
    here = copy.copy(problem)
    here.__dict__.update(attributes)
    return here


def bias_slopes(problem: Problem, diagonal: AnyFloats, slopes: AnyFloats, X: AnyFloats) -> AnyFloats | None:
    r"""Vectors :math:`g_i = \sum_j c_j \sigma_{ji} x_j` ``(k, d)`` for the slopes :math:`\sigma` ``(n, k)`` of neurons.

    With c of :func:`coupling`, the matrix :math:`g g^\top` is what an output bias that follows takes from the Hessian
    in the vectors of the neurons. None where there is no such bias.
    """
    along = coupling(problem, diagonal)
    if along is None:
        return None

    def sweep(slabs: Sequence[slice]) -> AnyFloats:
        total = np.zeros((slopes.shape[1], X.shape[1]), X.dtype)
        for rows in slabs:
            total += (slopes[rows] * along[rows, None].astype(X.dtype)).T @ X[rows]
        return total

    return np.sum(in_parallel(sweep, row_pieces(*slopes.shape)), axis=0)


def _cost(biased: Problem, bias: float) -> float:
    return 0.5 * (biased.output_bias_decay or 0.0) * bias * bias


def _coupling(diagonal: AnyFloats, biased: Problem) -> AnyFloats:
    total = float(np.sum(diagonal)) + (biased.output_bias_decay or 0.0)
    return diagonal / math.sqrt(total) if total > 0.0 else np.zeros_like(diagonal)
