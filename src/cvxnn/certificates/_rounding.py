"""Upper bounds of floating-point expressions, in the standard model of rounding.

In that model a sum of `k` products evaluated in any order differs from the exact one by at most
``gamma_k * sum |a_i b_i|`` with ``gamma_k = k u / (1 - k u)`` and ``u = 2**-53`` (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1). Every function here rounds to the safe side, that is up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-53
# Absolute pad for products that underflow; operands are scaled to order one before it is used.
TINY = 1e-280


def gamma(k: int) -> float:
    """Return ``gamma_k``, itself rounded up."""
    ku = k * UNIT_ROUNDOFF
    return ku / (1.0 - ku) * (1.0 + 1e-12)


def norm_up(vectors: FloatArray, axis: int = -1) -> FloatArray:
    """Return upper bounds of the Euclidean norms of `vectors` along `axis`."""
    length = vectors.shape[axis]
    # A power of two brings the largest entry to order one, so that no square that counts over- or underflows.
    largest = np.max(np.abs(vectors), axis=axis, keepdims=True, initial=0.0)
    exponent = np.frexp(largest)[1]
    scaled = np.ldexp(vectors, -exponent)
    # k squares, k - 1 additions and a square root: relative error below gamma_{k+3}.
    norms = np.sqrt(np.sum(scaled * scaled, axis=axis)) * (1.0 + gamma(length + 4))
    return np.ldexp(norms, np.squeeze(exponent, axis=axis)) + TINY


def basis_norm_up(basis: FloatArray) -> float:
    """Return an upper bound of the spectral norm of ``basis (d, r)``, whose columns are orthonormal up to rounding."""
    d, r = basis.shape
    # ||V||_2^2 <= 1 + ||V^T V - I||_F; the columns have norm below 2, which bounds the rounding of V^T V.
    return 1.0 + (float(norm_up((basis.T @ basis - np.eye(r)).ravel())) + 4.0 * r * gamma(d + 2))


def combination_norm_up(rows: FloatArray, coefficients: FloatArray, offset: FloatArray | None = None) -> FloatArray:
    """Return upper bounds of ``|| offset + rows^T c ||`` for every row `c` of `coefficients`.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    coefficients : ndarray of shape (k, n)
    offset : ndarray of shape (k, d) or (d,), optional

    Returns
    -------
    ndarray of shape (k,)
    """
    value = coefficients @ rows
    magnitude = np.abs(coefficients) @ np.abs(rows)
    if offset is not None:
        value = value + offset
        magnitude = magnitude + np.abs(offset)
    # The magnitude is itself a rounded sum of non-negative terms: low by a factor of at most 1 - gamma_n.
    k = rows.shape[0] + 3
    error = gamma(k) * (1.0 + 2.0 * gamma(k)) * magnitude
    return norm_up(np.abs(value) + error)


def lambda_max_up(rows: FloatArray, weights: FloatArray) -> float:
    """Return an upper bound of the largest eigenvalue of ``rows^T diag(weights) rows`` with ``weights >= 0``.

    The computed eigenvectors ``Q`` need not be exact: with ``T = Q^T G Q`` one has
    ``lambda_max(G) <= max(lambda_max(T), 0) / (1 - ||Q^T Q - I||)``, and Gershgorin's discs bound ``lambda_max(T)``.
    """
    n, d = rows.shape
    if n == 0 or d == 0:
        return 0.0
    if n < d:  # the non-zero eigenvalues of the Gram matrix on the other side are the same
        root = np.sqrt(weights)
        # Rounding of the roots and products moves entries by 3u relatively, so the norm by 3u sqrt(n) relatively.
        scaled = root[:, None] * rows
        inflate = 1.0 + gamma(8 * n + 8)
        return _lambda_max_gram_up(scaled.T, np.ones(d)) * inflate
    return _lambda_max_gram_up(rows, weights)


def _lambda_max_gram_up(rows: FloatArray, weights: FloatArray) -> float:
    n, d = rows.shape
    weighted = weights[:, None] * rows
    gram = rows.T @ weighted
    gram = 0.5 * (gram + gram.T)
    # || |X|^T diag(w) |X| ||_F <= sum_j w_j ||x_j||^2, the trace.
    trace = float(np.sum(weights * np.sum(rows * rows, axis=1))) * (1.0 + gamma(n + d + 4))
    vectors = np.linalg.eigh(gram)[1]
    rotated = vectors.T @ gram @ vectors
    # || |Q| ||_2 <= ||Q||_F <= 2 sqrt(d) and || |G| ||_F <= trace * (1 + ...): entrywise errors of the two products.
    error = 4.0 * d * gamma(2 * d + 2) * trace + 1.01 * gamma(n + 3) * trace
    identity_gap = np.abs(vectors.T @ vectors - np.eye(d))
    departure = float(np.linalg.norm(identity_gap)) * (1.0 + 1e-8) + d * gamma(d + 2) * 4.0
    if departure >= 0.5:
        return trace
    # Gershgorin bounds lambda_max(T) by the largest absolute row sum.
    discs = float(np.max(np.sum(np.abs(rotated), axis=1))) * (1.0 + gamma(d + 2))
    return min(trace, (discs * (1.0 + 1e-15) + d * error) / (1.0 - departure) * (1.0 + gamma(8)))
