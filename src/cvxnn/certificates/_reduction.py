"""Reduction of a pricing problem to few coordinates and distinct lines, with every rounding accounted for."""

from __future__ import annotations

import math

import numpy as np

from cvxnn._tall_tables import tall_slabs, triangle
from cvxnn.certificates._reduced_norm import ReducedNorm, merged_lines
from cvxnn.certificates._rounding import FloatArray, basis_norm_up, gamma, norm_up
from cvxnn.certificates._row_scaling import scaled_rows

# Beyond this many coordinates on the smaller side the singular value decomposition is not worth its cost.
_MAX_REDUCED = 1500


class ReducedPricing(ReducedNorm):
    """Piecewise linear function ``h(z) = linear^T z + sum_j weights_j (rows_j^T z)_+`` with real values.

    For each sign, ``max sign * h_nu`` over the unit ball of the original space is at most ``upper(max sign * h)``.
    """

    def threshold(self, target: float) -> float:
        """Return the largest reduced value whose `upper` is certainly at most `target`."""
        try:
            scaled = math.ldexp(target, -self.exponent)
        except OverflowError:
            return math.inf
        return (scaled - self.slack) / self.factor * (1.0 - 2e-15)

    def values(self, directions: FloatArray) -> FloatArray:
        """Evaluate ``h`` at ``(k, r)`` points."""
        return self.outputs(directions)


def reduce_pricing(X: FloatArray, nu: FloatArray) -> ReducedPricing | None:
    """Return the reduced problem, or None where ``h`` vanishes identically."""
    scaled = scaled_rows(X, nu[:, None])
    if scaled is None:
        return None
    X, column, slack, exponent = scaled
    rows, weights, linear, merge_slack = _merge_lines(X, column[:, 0])
    slack += merge_slack
    rows, linear, basis, factor, cut_slack = _rotate(rows, weights, linear)
    return ReducedPricing(rows, weights, linear, factor, slack + cut_slack, exponent, basis)


def _rotate(
    rows: FloatArray, weights: FloatArray, linear: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray | None, float, float]:
    """Change to coordinates of the row space: ``rows ~ Z V^T``."""
    n, d = rows.shape
    stacked = rows if not linear.any() else np.vstack([rows, linear])
    if d == 1 or min(n, d) > _MAX_REDUCED:
        return rows, linear, None, 1.0, 0.0
    # Of many rows a triangular factor says the same; what its rounding leaves out is bounded below like the rest.
    small = triangle(stacked) if len(tall_slabs(stacked)) > 1 else stacked
    _, sigma, Vt = np.linalg.svd(small, full_matrices=False)
    rank = max(1, int(np.sum(sigma > max(n, d) * 2.0**-52 * sigma[0])))
    if rank == d:
        return rows, linear, None, 1.0, 0.0
    V = np.ascontiguousarray(Vt[:rank].T)
    Z = rows @ V
    reduced_linear = linear @ V
    # |nu^T (X u)_+ - nu^T (Z V^T u)_+| <= sum_j |nu_j| ||x_j - V z_j|| for ||u|| <= 1, and ||V^T u|| <= ||V||_2.
    defect = np.empty(n)
    for piece in tall_slabs(rows):
        error = gamma(rank + 3) * (np.abs(Z[piece]) @ np.abs(V).T + np.abs(rows[piece]))
        defect[piece] = norm_up(np.abs(rows[piece] - Z[piece] @ V.T) + 2.0 * error)
    linear_error = gamma(rank + 3) * (np.abs(reduced_linear) @ np.abs(V).T + np.abs(linear))
    linear_defect = float(norm_up(np.abs(linear - reduced_linear @ V.T) + 2.0 * linear_error))
    slack = (float(np.abs(weights) @ defect) + linear_defect) * (1.0 + 2.0 * gamma(n + 2))
    return Z, reduced_linear, V, basis_norm_up(V), slack


def _merge_lines(X: FloatArray, nu: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Merge rows on the same line: ``(-t)_+ = (t)_+ - t`` turns opposite rows into one and a linear term."""
    n, d = X.shape
    linear = np.zeros(d)
    lines = merged_lines(X)
    if lines is None:
        return X, nu, linear, 0.0
    heads, reference, ratio = lines.heads, lines.reference, lines.ratio
    mass = np.abs(ratio) * nu
    weights = np.asarray(np.bincount(lines.group, weights=mass), dtype=np.float64)
    negative = ratio < 0.0
    linear = -(mass[negative] @ reference[negative]) if negative.any() else linear
    # Rounding of the merged weights and of the linear term: sums of at most n products of entries.
    size = np.abs(mass) * np.sqrt(np.sum(reference * reference, axis=1))
    rounding = 2.0 * gamma(n + 4) * float(np.sum(size[~lines.alone])) * (1.0 + 1e-8)
    slack = float(np.abs(nu) @ norm_up(lines.defect)) * (1.0 + 2.0 * gamma(n + 2)) + rounding
    scale = float(np.sum(size))
    live = np.abs(weights) * lines.lengths[heads] > 1e-15 * scale
    slack += float(np.abs(weights[~live]) @ norm_up(X[heads[~live]])) * (1.0 + 2.0 * gamma(n + 2))
    if not live.any():
        live[:1] = True
    rows: FloatArray = X[heads[live]]
    return rows, weights[live], linear, slack
