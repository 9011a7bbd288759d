r"""Wasserstein GAN with a quadratic discriminator and a linear generator: soft-thresholded singular values.

The discriminator :math:`\sum_j v_j (x^\top u_j)^2`, :math:`\|u_j\| = 1`, with the penalty
:math:`\beta_d \sum_j |v_j|` sees only second moments: its best value is 0 where
:math:`\|X^\top X - G^\top G\|_2 \le \beta_d` and infinite elsewhere. With :math:`X = U \Sigma V^\top` the generator of
least norm is :math:`G = L (\Sigma^2 - \beta_d I)_+^{1/2} V^\top` for any L with orthonormal columns (Sahiner, Ergen,
Ozturkler, Bartan, Pauly, Mardani and Pilanci, 2022, "Hidden convexity of Wasserstein GANs").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import UNIT_ROUNDOFF
from cvxnn.certificates.gram_spectrum import gram_spectrum
from cvxnn.certificates.moment_bound import quadratic_moment_bound

FloatArray = npt.NDArray[np.float64]

__all__ = ["QuadraticOptimum", "fit_latent", "fit_samples", "thresholded"]


@dataclass(frozen=True, eq=False)
class QuadraticOptimum:
    """Generator of least norm: samples ``(m, d)``, weights ``(k, d)`` or None, squared norm and its lower bound."""

    samples: FloatArray
    weights: FloatArray | None
    objective: float
    lower_bound: float


def thresholded(X: FloatArray, beta_d: float) -> FloatArray:
    r"""Rows :math:`(\sigma_i^2 - \beta_d)_+^{1/2} v_i^\top` with a positive factor, by falling size, ``(r, d)``.

    Examples
    --------
    >>> np.abs(thresholded(np.diag([2.0, 1.0]), 3.0))
    array([[1., 0.]])
    """
    _, values, vectors = np.linalg.svd(X, full_matrices=False)
    # sigma^2 - beta in a form that neither overflows nor cancels more than it must.
    root = np.sqrt(beta_d)
    # Singular values at the rounding level of the largest are zeros.
    least = max(root, max(X.shape) * 2.0 * UNIT_ROUNDOFF * float(values[0]))
    kept = values > least
    return np.sqrt((values[kept] - root) * (values[kept] + root))[:, None] * vectors[kept]


def fit_samples(X: FloatArray, beta_d: float, basis: FloatArray) -> QuadraticOptimum:
    """Least ``||G||_F^2``: ``basis (m, k)`` has orthonormal columns, at least as many as thresholded values."""
    moments = thresholded(X, beta_d)
    samples = basis[:, : len(moments)] @ moments
    objective = float(np.sum(moments * moments))
    return QuadraticOptimum(samples, None, objective, min(quadratic_moment_bound(X, beta_d), objective))


def fit_latent(X: FloatArray, beta_d: float, latent: FloatArray) -> QuadraticOptimum:
    r"""Least ``||W||_F^2`` with ``G = Z W``: the largest moments take the directions of the latent that cost least.

    With :math:`Z^\top Z = E\, \mathrm{diag}(\kappa) E^\top` the weights
    :math:`W = \sum_i ((\sigma_i^2 - \beta_d)_+ / \kappa_i)^{1/2} e_i v_i^\top` are optimal. The problem in
    :math:`G^\top G` is not convex (its objective is concave in the eigenvalues of a fixed order), but each eigenvalue
    has its own least value by Weyl's inequality, and they are attained together.
    """
    moments = thresholded(X, beta_d)
    _, roots, axes = np.linalg.svd(latent, full_matrices=False)
    count = len(moments)
    weights = (axes[:count] / roots[:count, None]).T @ moments
    objective = float(np.sum(weights * weights))
    upper = gram_spectrum(latent, np.ones(len(latent))).upper
    costs = (1.0 / upper) * (1.0 - 4.0 * UNIT_ROUNDOFF)
    bound = quadratic_moment_bound(X, beta_d, costs)
    return QuadraticOptimum(latent @ weights, weights, objective, min(bound, objective))
