r"""Lower bounds of the norm of every generator that a discriminator cannot tell from the data.

They hold for all generators of the stated number of samples, linear or not: they use nothing but the constraint.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import UNIT_ROUNDOFF, gamma
from cvxnn.certificates.gram_spectrum import gram_spectrum

FloatArray = npt.NDArray[np.float64]

__all__ = ["quadratic_moment_bound", "relu_moment_bound"]


def quadratic_moment_bound(X: FloatArray, beta_d: float, costs: FloatArray | None = None) -> float:
    r"""Proved lower bound of :math:`\|G\|_F^2` over all G with :math:`\|X^\top X - G^\top G\|_2 \le \beta_d`.

    By Weyl's inequality the i-th eigenvalue of :math:`G^\top G` is at least :math:`\sigma_i^2 - \beta_d`. For
    :math:`G = ZW` the sum of squares of W is at least :math:`\sum_i \lambda_i(G^\top G) / \kappa_i` with the
    eigenvalues :math:`\kappa_1 \ge \kappa_2 \ge \dots` of :math:`Z^\top Z`, by von Neumann's trace inequality.

    Parameters
    ----------
    X : ndarray (n, d)
    beta_d : float
    costs : ndarray (k,), optional
        Lower bounds of :math:`1 / \kappa_i`, in increasing order; ones where the norm is that of G.

    Examples
    --------
    >>> bound = quadratic_moment_bound(np.diag([2.0, 1.0]), 0.5)
    >>> round(bound, 9), bound <= 4.0
    (4.0, True)
    """
    spectrum = gram_spectrum(X, np.ones(len(X)))
    least = np.maximum(spectrum.lower - beta_d - UNIT_ROUNDOFF * (np.abs(spectrum.lower) + beta_d), 0.0)
    if costs is not None:
        count = min(len(least), len(costs))
        least = least[:count] * costs[:count]
    return float(np.sum(least)) * (1.0 - gamma(len(least) + 4))


def relu_moment_bound(X: FloatArray, beta_d: float, n_samples: int, directions: FloatArray) -> float:
    r"""Proved lower bound of :math:`\|G\|_F^2` over all G of m rows that meet the ReLU discriminator's constraint.

    The constraint at :math:`\pm u` gives :math:`\|Gu\|_1 \ge b(u) + b(-u)`,
    :math:`b(u) = (1^\top (Xu)_+ - \beta_d \|u\|)_+`, hence :math:`\|Gu\|_2^2 \ge (b(u) + b(-u))^2 / m`. Over an
    orthonormal basis these add up to the squared Frobenius norm. The number of rows m is that of the generator: more
    rows share the same moments at a lower norm.

    Parameters
    ----------
    X : ndarray (n, d)
    beta_d : float
    n_samples : int
        Rows m of the generator.
    directions : ndarray (k, d)
        Nearly orthonormal rows u; the bound holds for any.

    Examples
    --------
    >>> relu_moment_bound(np.array([[1.0], [-1.0]]), 0.5, 1, np.ones((1, 1))) <= 1.0
    True
    """
    n, d = X.shape
    fit = X @ directions.T
    sizes = np.abs(X) @ np.abs(directions).T
    lengths = np.sqrt(np.sum(directions * directions, axis=1)) * (1.0 + gamma(d + 4))
    slack = gamma(n + d + 4) * np.sum(sizes, axis=0) * (1.0 + gamma(n + d)) + beta_d * lengths * (1.0 + gamma(2))
    both = sum(np.maximum(np.sum(np.maximum(sign * fit, 0.0), axis=0) - slack, 0.0) for sign in (1.0, -1.0))
    # sum_k ||G u_k||^2 <= ||G||^2 ||sum_k u_k u_k^T||.
    spread = gram_spectrum(directions, np.ones(len(directions))).norm_upper
    total = float(np.sum(np.square(both))) * (1.0 - gamma(len(directions) + 8))
    return total / (n_samples * spread) * (1.0 - gamma(4)) if spread > 0.0 else 0.0
