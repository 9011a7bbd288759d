"""Bounds of the dual norm that hold for data of any size and cost next to nothing."""

from __future__ import annotations

import math

import numpy as np

from cvxnn.certificates._boxls import solve_boxes
from cvxnn.certificates._reduction import ReducedPricing
from cvxnn.certificates._rounding import FloatArray, combination_norm_up, gamma, lambda_max_up, norm_up

# Above this size (rows times squared coordinates) the multipliers of the concave rows are not optimised.
_MAX_ROOT = 50_000_000


def cheap_bounds(problem: ReducedPricing) -> dict[str, float]:
    """Return upper bounds of the reduced pricing problem, by name.

    Each is the larger of the two signs. With ``w`` the signed weights, ``w_+`` their positive part and ``l`` the
    linear term (zero without opposite rows):

    - ``"rows"``: ``||l|| + sum_j w_j+ ||x_j||``;
    - ``"norm"``: ``||l|| + ||w_+|| ||X||_2``;
    - ``"spectral"``: ``1/2 ||2 l + X^T w|| + 1/2 (sum_j w_j+ lambda_max(X^T diag(w_+) X))^(1/2)``, using
      ``(t)_+ = (t + |t|) / 2`` and, for the concave rows, the multiplier 1/2;
    - ``"root"``: as ``"spectral"``, with the best multipliers of the concave rows.

    Returns
    -------
    dict
        In units of the reduced problem.
    """
    totals = {"rows": 0.0, "norm": 0.0, "spectral": 0.0, "root": 0.0}
    lengths = norm_up(problem.rows)
    top = math.sqrt(lambda_max_up(problem.rows, np.ones(len(problem.rows)))) * (1.0 + 1e-15)
    for sign in (1, -1):
        one = _one_sign(problem, sign, lengths, top)
        totals = {name: max(totals[name], one[name]) for name in totals}
    return totals


def kink_bound(rows: FloatArray, weights: FloatArray, lengths: FloatArray) -> float:
    """Return an upper bound of ``max sum_j w_j |x_j^T u| / 2`` on the unit ball, for ``w >= 0``.

    The smaller of ``1/2 sum_j w_j ||x_j||`` and, by Cauchy and Schwarz,
    ``1/2 (sum_j w_j lambda_max(X^T diag(w) X))^(1/2)``.
    """
    pad = 1.0 + 2.0 * gamma(len(weights) + 4)
    total = float(np.sum(weights)) * pad
    spread = math.sqrt(total * lambda_max_up(rows, weights)) * (1.0 + 1e-15)
    return 0.5 * min(spread, float(weights @ lengths) * pad)


def _one_sign(problem: ReducedPricing, sign: int, lengths: FloatArray, top: float) -> dict[str, float]:
    weights = sign * problem.weights
    convex = np.maximum(weights, 0.0)
    positive = weights > 0.0
    linear = sign * problem.linear
    pad = 1.0 + 2.0 * gamma(len(weights) + 4)
    shift = float(norm_up(linear))
    kinks = kink_bound(problem.rows[positive], weights[positive], lengths[positive]) if positive.any() else 0.0
    half = float(combination_norm_up(problem.rows, 0.5 * weights[None, :], linear)[0])
    bounds = {
        "rows": (shift + float(convex @ lengths) * pad) * (1.0 + 1e-15),
        "norm": (shift + float(norm_up(convex)) * top) * (1.0 + 1e-15),
        "spectral": (half + kinks) * (1.0 + 1e-15),
        "root": math.inf,
    }
    concave = weights < 0.0
    n, r = problem.rows.shape
    if concave.any() and n * r * r <= _MAX_ROOT:
        q = 0.5 * convex @ problem.rows + linear
        columns = (problem.rows[concave] * -weights[concave][:, None]).T
        solution = solve_boxes(
            q[None, :], columns[None, :, :], np.ones((1, columns.shape[1])), polish=columns.shape[1] <= 2000
        )
        coefficients = 0.5 * convex
        # Rounding to the interval keeps every multiplier in [0, 1], the only condition for validity.
        coefficients[concave] = np.clip(weights[concave] * solution.z[0], weights[concave], 0.0)
        bounds["root"] = (float(combination_norm_up(problem.rows, coefficients[None, :], linear)[0]) + kinks) * (
            1.0 + 1e-15
        )
    bounds["root"] = min(bounds["root"], bounds["spectral"])
    return bounds
