"""Reduction of a pricing problem with several outputs to few coordinates and distinct lines, every rounding counted."""

from __future__ import annotations

import numpy as np

from cvxnn.certificates._reduced_norm import ReducedNorm, merged_lines
from cvxnn.certificates._rounding import FloatArray, basis_norm_up, gamma, norm_up
from cvxnn.certificates._row_scaling import scaled_rows

RANK_CUT = 1e-12
"""Singular values below this fraction of the largest one are cut; what that changes is added to the bound."""

_MAX_REDUCED = 1500


class ReducedVectorPricing(ReducedNorm):
    """Function ``g(z) = linear^T z + sum_j weights_j (rows_j^T z)_+`` with values in ``R^c``.

    ``max ||N^T (X u)_+||`` over the unit ball is at most ``upper(max ||g||)``.
    """

    @property
    def lipschitz(self) -> float:
        """Upper bound of ``||linear|| + sum_j ||weights_j|| ||rows_j||``, a Lipschitz constant of g."""
        mass = float(norm_up(self.weights) @ norm_up(self.rows)) * (1.0 + gamma(len(self.rows) + 4))
        return mass + float(norm_up(self.linear.ravel()))

    def values(self, directions: FloatArray) -> FloatArray:
        """Evaluate ``||g||`` at ``(k, r)`` points."""
        outputs = self.outputs(directions)
        return np.sqrt(np.sum(outputs * outputs, axis=1))


def reduce_vector_pricing(X: FloatArray, N: FloatArray) -> ReducedVectorPricing | None:
    """Return the reduced problem, or None where the function vanishes identically."""
    scaled = scaled_rows(X, N)
    if scaled is None:
        return None
    X, N, slack, exponent = scaled
    rows, weights, linear, merge_slack = _merge_lines(X, N)
    rows, linear, basis, factor, cut_slack = _rotate(rows, weights, linear)
    return ReducedVectorPricing(rows, weights, linear, factor, slack + merge_slack + cut_slack, exponent, basis)


def _rotate(
    rows: FloatArray, weights: FloatArray, linear: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray | None, float, float]:
    """Change to coordinates of the row space: ``rows ~ Z V^T``. The linear term lies in that space, too."""
    n, d = rows.shape
    if d == 1 or min(n, d) > _MAX_REDUCED:
        return rows, linear, None, 1.0, 0.0
    _, sigma, Vt = np.linalg.svd(rows, full_matrices=False)
    rank = max(1, int(np.sum(sigma > RANK_CUT * sigma[0])))
    if rank == d:
        return rows, linear, None, 1.0, 0.0
    V = np.ascontiguousarray(Vt[:rank].T)
    Z = rows @ V
    reduced = V.T @ linear
    # ||g(u) - g~(V^T u)|| <= sum_j ||N_j|| ||x_j - V z_j|| + ||L - V L~||_F for ||u|| <= 1, and ||V^T u|| <= ||V||_2.
    error = gamma(rank + 3) * (np.abs(Z) @ np.abs(V).T + np.abs(rows))
    defect = norm_up(np.abs(rows - Z @ V.T) + 2.0 * error)
    linear_error = gamma(rank + 3) * (np.abs(V) @ np.abs(reduced) + np.abs(linear))
    linear_defect = float(norm_up((np.abs(linear - V @ reduced) + 2.0 * linear_error).ravel()))
    slack = (float(norm_up(weights) @ defect) + linear_defect) * (1.0 + 2.0 * gamma(n + 2))
    return Z, reduced, V, basis_norm_up(V), slack


def _merge_lines(X: FloatArray, N: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Merge rows on the same line: ``(-t)_+ = (t)_+ - t`` turns opposite rows into one and a linear term."""
    n, d = X.shape
    c = N.shape[1]
    linear = np.zeros((d, c))
    lines = merged_lines(X)
    if lines is None:
        return X, N, linear, 0.0
    heads, reference, ratio = lines.heads, lines.reference, lines.ratio
    mass = np.abs(ratio)[:, None] * N
    weights = np.zeros((len(heads), c))
    np.add.at(weights, lines.group, mass)
    negative = ratio < 0.0
    if negative.any():
        linear = -(reference[negative].T @ mass[negative])
    # Rounding of the merged weights and of the linear term: sums of at most n products of entries.
    size = norm_up(mass) * norm_up(reference)
    rounding = 2.0 * gamma(n + 4) * float(np.sum(size[~lines.alone])) * (1.0 + 1e-8)
    slack = float(norm_up(N) @ norm_up(lines.defect)) * (1.0 + 2.0 * gamma(n + 2)) + rounding
    return X[heads], weights, linear, slack
