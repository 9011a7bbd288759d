r"""Eigenvalues of a signed Gram matrix :math:`\sum_i w_i x_i x_i^\top`, enclosed rounding included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import TINY, UNIT_ROUNDOFF, gamma

FloatArray = npt.NDArray[np.float64]

__all__ = ["GramSpectrum", "gram_spectrum"]


@dataclass(frozen=True, eq=False)
class GramSpectrum:
    """Enclosed eigenvalues of a symmetric matrix, in decreasing order.

    Attributes
    ----------
    values : ndarray (d,)
        Computed eigenvalues.
    lower, upper : ndarray (d,)
        Proved bounds of the exact eigenvalues of the given floating-point data.
    vectors : ndarray (d, d)
        Computed unit eigenvectors, one a column.
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    vectors: FloatArray

    @property
    def norm_upper(self) -> float:
        """Proved upper bound of the spectral norm."""
        return max(float(self.upper[0]), -float(self.lower[-1]), 0.0)


def gram_spectrum(rows: FloatArray, weights: FloatArray) -> GramSpectrum:
    r"""Enclose the eigenvalues of :math:`A = \sum_i w_i x_i x_i^\top` for weights of any sign.

    With a computed decomposition :math:`A = Q M Q^\top + R` and :math:`\delta = \|Q^\top Q - I\|`, the i-th eigenvalue
    is within :math:`\delta |\mu_i| + \|R\|` of :math:`\mu_i`: Ostrowski's theorem for the congruence, Weyl's for the
    rest (Horn and Johnson, "Matrix Analysis", theorems 4.5.9 and 4.3.1). Nothing rests on the accuracy of Q.

    Parameters
    ----------
    rows : ndarray (n, d)
    weights : ndarray (n,)

    Returns
    -------
    GramSpectrum

    Examples
    --------
    >>> found = gram_spectrum(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, -3.0]))
    >>> found.values.tolist(), bool(np.all(found.lower <= [4.0, -3.0])), bool(found.norm_upper < 4.0 + 1e-12)
    ([4.0, -3.0], True, True)
    """
    n, d = rows.shape
    # Powers of two bring rows and weights to order one, so that no product that counts over- or underflows.
    shift = int(np.frexp(np.max(np.abs(rows), initial=0.0))[1])
    weight_shift = int(np.frexp(np.max(np.abs(weights), initial=0.0))[1])
    x, w = np.ldexp(rows, -shift), np.ldexp(weights, -weight_shift)
    gram = x.T @ (w[:, None] * x)
    gram = 0.5 * (gram + gram.T)
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
    # || |X|^T diag|w| |X| ||_F <= sum_i |w_i| ||x_i||^2: entrywise errors of the Gram matrix.
    mass = float(np.abs(w) @ np.sum(x * x, axis=1)) * (1.0 + gamma(n + d + 4))
    error = gamma(n + 4) * mass
    # The residual, and what rounding may hide in it: || |Q| |M| |Q|^T ||_F <= sum |mu_i| ||q_i||^2.
    squares = np.sum(vectors * vectors, axis=0)
    hidden = gamma(d + 4) * float(np.abs(values) @ squares) + 4.0 * UNIT_ROUNDOFF * mass
    residual = float(np.linalg.norm(gram - (vectors * values) @ vectors.T))
    rest = (residual + hidden) * (1.0 + gamma(d * d + 8)) + error * (1.0 + gamma(4))
    departure = float(np.linalg.norm(vectors.T @ vectors - np.eye(d))) + gamma(d + 4) * float(np.sum(squares))
    departure *= 1.0 + gamma(d * d + 8)
    radius = (departure * np.abs(values) + rest) * (1.0 + gamma(8)) + TINY
    low = np.ldexp(values - radius * (1.0 + gamma(2)), 2 * shift + weight_shift)
    high = np.ldexp(values + radius * (1.0 + gamma(2)), 2 * shift + weight_shift)
    pad = 2.0 * UNIT_ROUNDOFF
    return GramSpectrum(
        values=np.ldexp(values, 2 * shift + weight_shift),
        lower=low - pad * np.abs(low) - TINY,
        upper=high + pad * np.abs(high) + TINY,
        vectors=vectors,
    )
