r"""Bounds of batch-norm networks from bounds of the whitened problem: the rounding of the whitening is subtracted.

Every neuron :math:`(\gamma\,\tilde X w/\|\tilde X w\| + \alpha \mathbf 1/\sqrt n)_+` of the centred data is, up to
:math:`\kappa\varepsilon\gamma`, a neuron of :math:`U' = [U, \mathbf 1/\sqrt n]` with weights
:math:`(\gamma q, \alpha)` and :math:`\|q\| \le \kappa`. A dual vector that is feasible for the whitened problem is
therefore feasible for the batch-norm network once it is divided by :math:`\kappa + \kappa\varepsilon \|\nu\|/\beta`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import gamma
from cvxnn.certificates.certificate import Certificate
from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["certify_batch_norm", "dual_size", "whitening_error"]

_EPS = float(np.finfo(np.float64).eps)
_UP = 1.0 + 1e-12


def whitening_error(scaled: FloatArray, shift: FloatArray, V: FloatArray, s: FloatArray, U: FloatArray) -> tuple:
    r"""How far the computed basis is from the exact one: ``(epsilon, kappa)``, infinite where nothing can be said.

    Parameters
    ----------
    scaled : ndarray (n, k)
        Centred columns in units of their norm, as computed.
    shift : ndarray (k,)
        Bounds of the errors of their entries.
    V, s : ndarray (k, r), (r,)
        Directions and positive numbers with ``U = scaled V / s`` as computed; networks have their weights in the span
        of the columns of V.
    U : ndarray (n, r)

    Returns
    -------
    epsilon : float
        Bound of :math:`\|\tilde X w - U q\| / \|q\|` for :math:`w = V c,\ q = s c`.
    kappa : float
        Bound of :math:`\|q\|` where :math:`\|\tilde X w\| = 1`.

    Examples
    --------
    >>> one = np.array([[1.0], [-1.0]]) / np.sqrt(2.0)
    >>> epsilon, kappa = whitening_error(one, np.zeros(1), np.eye(1), np.ones(1), one)
    >>> epsilon < 1e-14, kappa - 1.0 < 1e-11
    (True, True)
    """
    n, k = scaled.shape
    r = len(s)
    if r == 0:
        return 0.0, 1.0
    size, turn = float(np.linalg.norm(scaled)), float(np.linalg.norm(V))
    # Norms are rounded themselves; the factor covers them.
    products = gamma(k + 4) * size * turn
    centring = math.sqrt(n) * float(np.linalg.norm(shift)) * turn
    epsilon = (products + centring) / float(np.min(s)) * (1.0 + gamma(n * k + 8)) * _UP
    departure = float(np.linalg.norm(U.T @ U - np.eye(r))) + gamma(n + 4) * float(np.linalg.norm(U)) ** 2 * _UP
    least = math.sqrt(max(1.0 - departure * _UP, 0.0)) - epsilon
    return (epsilon, _UP / least) if least > 0.5 else (math.inf, math.inf)


def dual_size(problem: Problem) -> float:
    """Bound of the norm of every vector whose dual value is not negative.

    Raises
    ------
    ValueError
        For losses other than squared, huber, logistic and squared_hinge.

    Examples
    --------
    >>> dual_size(Problem([[1.0]], [2.0])) >= 4.0
    True
    """
    weight, loss = problem.sample_weight, problem.loss
    root, largest = float(np.sqrt(np.sum(weight))), float(np.sqrt(np.max(weight)))
    if isinstance(loss, SquaredLoss):
        size = 2.0 * largest * float(np.sqrt(np.sum(weight * problem.y**2)))
    elif isinstance(loss, HuberLoss):
        size = loss.delta * float(np.linalg.norm(weight))
    elif isinstance(loss, LogisticLoss):
        size = float(np.linalg.norm(weight))
    elif isinstance(loss, SquaredHingeLoss):
        size = 2.0 * (1.0 + abs(loss.offset)) * root * largest
    else:
        raise ValueError(
            f"loss {loss.name!r} is not covered with batch norm; squared, huber, logistic and squared_hinge are."
        )
    return size * (1.0 + gamma(problem.n_samples + 8)) * _UP


def certify_batch_norm(
    problem: Problem, objective: float, whitened: Certificate, epsilon: float, kappa: float
) -> Certificate:
    """Certificate of a batch-norm network from the one of the problem on the whitened data.

    The dual value is concave and 0 at 0, so that dividing a feasible vector divides its value by no more.

    Parameters
    ----------
    problem : Problem
        Loss, targets and weight decay; the data are not used.
    objective : float
        Objective of the batch-norm network, from its weights.
    whitened : Certificate
        Certificate of the same networks on the whitened data.
    epsilon, kappa : float
        Result of :func:`whitening_error`.
    """
    share = 0.0
    if math.isfinite(kappa):
        # The column 1/sqrt(n) is rounded, too.
        share = 1.0 / (kappa + (kappa * epsilon + 4.0 * _EPS) * dual_size(problem) / problem.beta) / _UP
    return replace(
        whitened,
        objective=objective,
        lower_bound=share * whitened.lower_bound,
        global_lower_bound=share * whitened.global_lower_bound,
        scale=share * whitened.scale,
        dual_norm_bound=whitened.dual_norm_bound / share if share > 0.0 else math.inf,
        method=f"{whitened.method}, whitened data",
    )
