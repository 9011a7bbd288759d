"""How much the best discriminator sees between two sets of samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates._rounding import norm_up
from cvxnn.certificates.gram_spectrum import gram_spectrum
from cvxnn.certificates.pricing import PricingBound
from cvxnn.gan._results import DiscriminatorGap
from cvxnn.programs.wgan_relu import moment_gap

FloatArray = npt.NDArray[np.float64]

__all__ = ["discriminator_gap", "quadratic_gap", "relu_gap"]

_ACTIVATIONS = ("relu", "quadratic")


def discriminator_gap(
    X: npt.ArrayLike,
    G: npt.ArrayLike,
    beta_d: float,
    activation: str = "relu",
    *,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> DiscriminatorGap:
    r"""How much the best discriminator neuron sees between data and generated samples, bounded from both sides.

    .. math:: \max_{\|u\| \le 1} |1^\top \sigma(Xu) - 1^\top \sigma(Gu)|

    A two-layer discriminator of any width with the penalty :math:`\beta_d \sum_j |v_j|` gains nothing where this is at
    most `beta_d`, and without limit elsewhere. Moments are sums over samples; scale a ReLU network's rows by ``1 / n``
    and ``1 / m``, a quadratic one's by the roots, to compare means.

    Parameters
    ----------
    X, G : array-like (n, d) and (m, d)
        Data and generated samples.
    beta_d : float
        Penalty of the discriminator, >= 0.
    activation : {"relu", "quadratic"}
        The upper bound is tight for "quadratic" at any size, for "relu" as far as branch and bound closes (rank up to
        about four, or few samples); beyond it is valid, but may leave ``constraint_holds`` open.
    tol : float
        Excess over `beta_d` that counts as rounding, relative to the larger of `beta_d` and the size of the moments:
        the sum of the samples' norms, or of their squares.
    time_limit : float, optional
        Seconds for branch and bound.

    Returns
    -------
    DiscriminatorGap

    Raises
    ------
    ValueError
        On arrays that are not finite or do not match, ``beta_d < 0``, or another activation.

    Examples
    --------
    >>> gap = discriminator_gap([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]], beta_d=1.0)
    >>> round(gap.lower, 6), gap.sign, gap.constraint_holds
    (1.0, 1, True)
    """
    X = as_float_array(X, "X", ndim=2)
    G = as_float_array(G, "G", ndim=2)
    if G.shape[1] != X.shape[1]:
        raise ValueError(f"G must have {X.shape[1]} columns as X has; got shape {G.shape}.")
    beta_d = as_number(beta_d, "beta_d", minimum=0.0)
    tol = as_number(tol, "tol", minimum=0.0)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}; got {activation!r}.")
    if activation == "quadratic":
        return quadratic_gap(X, G, beta_d, tol)
    size = float(np.sum(norm_up(X)) + np.sum(norm_up(G)))
    return relu_gap(moment_gap(X, G, time_limit=limit), beta_d, tol * max(beta_d, size))


def quadratic_gap(X: FloatArray, G: FloatArray, beta_d: float, tol: float) -> DiscriminatorGap:
    """Spectral norm of the difference of second moments, enclosed."""
    spectrum = gram_spectrum(np.vstack([X, G]), np.concatenate([np.ones(len(X)), -np.ones(len(G))]))
    k = int(np.argmax(np.abs(spectrum.values)))
    direction = spectrum.vectors[:, k]
    difference = float(np.sum((X @ direction) ** 2) - np.sum((G @ direction) ** 2))
    return DiscriminatorGap(
        beta_d=beta_d,
        upper=max(spectrum.norm_upper, abs(difference)),
        lower=abs(difference),
        direction=direction,
        sign=1 if difference >= 0 else -1,
        activation="quadratic",
        slack=tol * max(beta_d, float(norm_up(X.ravel())) ** 2 + float(norm_up(G.ravel())) ** 2),
    )


def relu_gap(bound: PricingBound, beta_d: float, slack: float) -> DiscriminatorGap:
    """Discriminator's view of a pricing bound on stacked samples."""
    return DiscriminatorGap(beta_d, bound.upper, bound.lower, bound.direction, bound.sign, "relu", slack)
