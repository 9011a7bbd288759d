r"""From a dual vector to a lower bound of the optimum.

The dual of the training problem is :math:`\max_\nu -\ell^*(-\nu)` subject to
:math:`\max_{\|u\|\le1} |\nu^T (X u)_+| \le \beta` (Pilanci and Ergen, 2020, Theorem 1 and its proof), a norm of the
vector :math:`\nu^T (X u)_+` where there are several outputs. Any vector is feasible once it is scaled by
``beta / tau`` for an upper bound ``tau`` of its dual norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from cvxnn.certificates._rounding import gamma, norm_up
from cvxnn.certificates.output_bias import bias_penalty
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["scaled_dual_bound"]

_EPS = float(np.finfo(np.float64).eps)
_LARGEST_SCALE = 1e8
_STEPS_BACK = (1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10)
_NEAR_END = 1e-8


def scaled_dual_bound(problem: Problem, nu: FloatArray, dual_norm_bound: float) -> tuple[float, float]:
    r"""Best lower bound among the feasible multiples of a dual vector.

    .. math:: \mathrm{lb} = \max_{0 \le t \le \beta/\bar\tau} -\ell^*(-t\nu)

    less what an output bias takes from it (:func:`cvxnn.certificates.output_bias.bias_penalty`).

    Parameters
    ----------
    problem : Problem
    nu : ndarray (n,) or (n, c)
        Dual vector, in the units of the loss gradient, in the domain of the conjugate; outside it the bound is 0.
    dual_norm_bound : float
        Upper bound of :math:`\max_{\|u\|\le1}\|\nu^T(Xu)_+\|` over the set of networks that the bound is to hold for;
        infinity where none is known.

    Returns
    -------
    bound : float
        Lower bound with the rounding of its own evaluation subtracted; at least 0, since every loss is non-negative.
    scale : float
        Multiple of ``nu`` that attains it.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import Problem
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> bound, scale = scaled_dual_bound(problem, np.array([0.5]), 0.5)
    >>> round(bound, 12), round(scale, 12)
    (0.875, 1.0)
    """
    if math.isnan(dual_norm_bound):
        return 0.0, 0.0
    inside = problem.loss.project_dual(nu, problem.y, problem.entry_weight)
    if np.any(np.abs(inside - nu) > 4.0 * _EPS * np.abs(nu)):
        # The norm bound is that of nu: it says nothing of a vector that had to be moved by more than rounding.
        return 0.0, 0.0
    nu = inside
    penalty = bias_penalty(problem, nu)
    limit = _largest_scale(problem, nu, dual_norm_bound)
    if limit <= 0.0 or not math.isfinite(penalty):
        return 0.0, 0.0

    def evaluate(scale: float) -> float:
        point = problem.loss.project_dual(scale * nu, problem.y, problem.entry_weight)
        value = problem.dual_value(point)
        if not math.isfinite(value):
            return -math.inf
        if not problem.loss.entrywise and scale * dual_norm_bound + _growth(problem, point, scale * nu) > problem.beta:
            return -math.inf
        # Each term is correct to a few units; numpy adds them pairwise. A unit for each covers any order of addition.
        slack = (nu.size + 16) * _EPS
        value -= slack * problem.loss.dual_magnitude(point, problem.y, problem.entry_weight)
        return value - scale * scale * penalty * (1.0 + 4.0 * _EPS)

    bound, scale = _maximise_concave(evaluate, limit)
    return (bound, scale) if bound > 0.0 else (0.0, 0.0)


def _largest_scale(problem: Problem, nu: FloatArray, dual_norm_bound: float) -> float:
    """Largest multiple of ``nu`` that is feasible and in the domain of the conjugate, rounded towards zero."""
    if not np.any(nu):
        return 0.0
    domain = problem.loss.dual_scale_limit(nu, problem.y, problem.entry_weight)
    norm = math.inf if dual_norm_bound == 0.0 else problem.beta / dual_norm_bound
    if not problem.loss.entrywise and math.isfinite(norm):
        point = norm * nu
        growth = _growth(problem, problem.project_dual(point), point)
        norm = max(problem.beta - 4.0 * growth, 0.0) / dual_norm_bound
    # Beyond the cap the dual value overflows; a multiple so far from the residual is never useful.
    return min(domain, norm, _LARGEST_SCALE) * (1.0 - 4.0 * _EPS)


def _growth(problem: Problem, point: FloatArray, scaled: FloatArray) -> float:
    """Upper bound of the dual norm of what a projection moved; a coupled loss moves more than the last digit."""
    moved = norm_up(np.abs(point - scaled) + 2.0 * _EPS * np.abs(scaled))
    return float(moved @ norm_up(problem.X)) * (1.0 + 2.0 * gamma(problem.n_samples + 4))


def _maximise_concave(evaluate: Callable[[float], float], limit: float) -> tuple[float, float]:
    """Largest value met of a concave function on ``[0, limit]``, and where.

    Any point is a valid choice, so tolerance costs no safety. Near an optimum the end of the interval is the maximiser,
    which two evaluations tell: a concave function that is 0 at 0 rises by at most 1e-8 of its value behind the second.
    """
    values = {limit: evaluate(limit)}
    if values[limit] == -math.inf:
        # A coupled loss moves each multiple by some units of its own: one a little below may be feasible.
        for back in _STEPS_BACK:
            values[limit * (1.0 - back)] = value = evaluate(limit * (1.0 - back))
            if value > -math.inf:
                limit *= 1.0 - back
                break
    inside = limit * (1.0 - _NEAR_END)
    values[inside] = evaluate(inside)
    if not values[limit] >= values[inside] or values[limit] == -math.inf:
        values[min(1.0, limit)] = evaluate(min(1.0, limit))

        def descent(scale: float) -> float:
            values[scale] = value = evaluate(scale)
            return -value if math.isfinite(value) else 1e300

        minimize_scalar(descent, bounds=(0.0, limit), method="bounded", options={"xatol": 1e-12 * limit})
    scale = max(values, key=lambda key: values[key])
    return values[scale], scale
