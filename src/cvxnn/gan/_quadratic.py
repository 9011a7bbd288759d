"""The generator of least norm against a quadratic discriminator, in closed form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.gan._discriminator import quadratic_gap
from cvxnn.gan._latent import as_latent
from cvxnn.gan._results import Generator, GeneratorStatus
from cvxnn.programs.wgan_quadratic import fit_latent, fit_samples, thresholded

__all__ = ["quadratic_generator"]

_PENALTIES = ("weights", "samples")
_CLOSED_FORM_TOL = 1e-12


def quadratic_generator(
    X: npt.ArrayLike,
    beta_d: float,
    n_samples: int | None = None,
    *,
    latent: npt.ArrayLike | None = None,
    penalty: str = "weights",
    random_state: int | np.random.Generator | None = 0,
) -> Generator:
    r"""Generator of least norm that no quadratic discriminator tells from the data, in closed form.

    .. math:: \min_G \|G\|_F^2 \quad\text{subject to}\quad \|X^\top X - G^\top G\|_2 \le \beta_d

    is solved by :math:`G = L (\Sigma^2 - \beta_d I)_+^{1/2} V^\top` with :math:`X = U \Sigma V^\top` and any L with
    orthonormal columns. With a latent Z and ``penalty="weights"`` the norm is that of W in :math:`G = ZW`.

    Parameters
    ----------
    X : array-like (n, d)
        Data.
    beta_d : float
        Penalty of the discriminator, >= 0, in squared units of X; 0 matches the second moments.
    n_samples : int, optional
        Rows m of G; n by default, or those of the latent.
    latent : array-like (m, k), optional
        Inputs Z of the linear generator, of full column rank.
    penalty : {"weights", "samples"}
        Whose norm is least where a latent is given.
    random_state : int, Generator or None, default 0
        Chooses L where there is freedom.

    Returns
    -------
    Generator

    Raises
    ------
    ValueError
        On bad input, or where m, or the columns of the latent, are fewer than the singular values above the threshold:
        then no such generator exists.

    References
    ----------
    Sahiner, Ergen, Ozturkler, Bartan, Pauly, Mardani and Pilanci (2022), "Hidden convexity of Wasserstein GANs:
    interpretable generative models with closed-form solutions".

    Examples
    --------
    >>> generator = quadratic_generator([[2.0, 0.0], [0.0, 1.0]], beta_d=3.0)
    >>> round(generator.objective, 9), round(generator.lower_bound, 9), generator.discriminator.constraint_holds
    (1.0, 1.0, True)
    """
    X = as_float_array(X, "X", ndim=2)
    beta_d = as_number(beta_d, "beta_d", minimum=0.0)
    if penalty not in _PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(_PENALTIES)}; got {penalty!r}.")
    Z = as_latent(latent, n_samples)
    m = len(Z) if Z is not None else len(X) if n_samples is None else as_count(n_samples, "n_samples")
    needed, width = len(thresholded(X, beta_d)), m if Z is None else Z.shape[1]
    if width < needed:
        name = "n_samples" if Z is None else "the number of columns of latent"
        raise ValueError(
            f"{name} must be at least {needed}, the singular values of X above the root of beta_d; got {width} "
            "(raise beta_d to need fewer)."
        )
    rng = np.random.default_rng(random_state)
    if Z is not None and penalty == "weights":
        found = fit_latent(X, beta_d, Z)
        weights = found.weights
    else:
        turn = np.linalg.qr(rng.standard_normal((width, max(needed, 1))))[0]
        basis = turn if Z is None else np.linalg.qr(Z)[0] @ turn
        found = fit_samples(X, beta_d, basis)
        weights = None if Z is None else np.asarray(np.linalg.lstsq(Z, found.samples, rcond=None)[0], np.float64)
    return Generator(
        samples=found.samples,
        weights=weights,
        objective=found.objective,
        lower_bound=found.lower_bound,
        discriminator=quadratic_gap(X, found.samples, beta_d, _CLOSED_FORM_TOL),
        status=GeneratorStatus.OPTIMUM,
        history=None,
    )
