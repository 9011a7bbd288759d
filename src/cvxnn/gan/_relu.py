"""A generator of small norm against a ReLU discriminator, by convex programs."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.certificates._rounding import UNIT_ROUNDOFF
from cvxnn.certificates.gram_spectrum import gram_spectrum
from cvxnn.certificates.moment_bound import relu_moment_bound
from cvxnn.gan._discriminator import relu_gap
from cvxnn.gan._latent import as_latent
from cvxnn.gan._results import Generator, GeneratorStatus
from cvxnn.programs.wgan_relu import MomentProblem, fit_moments, split_samples
from cvxnn.progress import Progress, Recorder

FloatArray = npt.NDArray[np.float64]

__all__ = ["relu_generator"]

_ENDED = {
    "stationary": GeneratorStatus.STATIONARY,
    "infeasible": GeneratorStatus.INFEASIBLE,
    "max_iter": GeneratorStatus.MAX_ITER,
    "time_limit": GeneratorStatus.TIME_LIMIT,
    "interrupted": GeneratorStatus.INTERRUPTED,
    "stalled": GeneratorStatus.STALLED,
}
_MAX_CUTS = 500


def relu_generator(
    X: npt.ArrayLike,
    beta_d: float,
    n_samples: int | None = None,
    *,
    latent: npt.ArrayLike | None = None,
    reference: npt.ArrayLike | None = None,
    tol: float = 1e-4,
    max_iter: int = 30,
    time_limit: float | None = None,
    verbose: bool | Callable[[Progress], None] = False,
) -> Generator:
    r"""Generator of small norm that no ReLU discriminator of any width tells from the data.

    .. math:: \min_G \|G\|_F^2 \quad\text{subject to}\quad
              |1^\top (Xu)_+ - 1^\top (Gu)_+| \le \beta_d \ \text{ for all } \|u\| \le 1

    Convex for fixed activation patterns of G only. Each step solves the convex program of the patterns of the last
    generator to `tol`, so that the norm never rises; the end is stationary in this sense and *no proved optimum*. The
    constraint is proved by branch and bound where that closes, and `lower_bound` holds for every generator.

    Parameters
    ----------
    X : array-like (n, d)
        Data.
    beta_d : float
        Penalty of the discriminator, > 0, in units of X; see :func:`discriminator_gap` for means instead of sums.
    n_samples : int, optional
        Rows m of G; n by default, or those of the latent. With fewer than n rows the constraint may have no solution.
    latent : array-like (m, k), optional
        Inputs Z of a linear generator ``G = Z W``; the norm is then that of W.
    reference : array-like (m, d), or (k, d) with a latent, optional
        Generator to start from: G, or W with a latent. By default the data, split into equal parts or summed over
        neighbours to m rows (with a latent, the weights closest to it), or what gradient descent makes of it where
        that is better.
    tol : float, default 1e-4
        Relative excess over `beta_d`, and least relative decrease of a step.
    max_iter : int, default 30
        Most steps.
    time_limit : float, optional
        Seconds; the best generator so far is returned when they run out, and on a keyboard interrupt.
    verbose : bool or callable, default False
        As in :func:`cvxnn.solve`.

    Returns
    -------
    Generator

    Raises
    ------
    ValueError
        On bad input.

    References
    ----------
    Sahiner, Ergen, Ozturkler, Bartan, Pauly, Mardani and Pilanci (2022), "Hidden convexity of Wasserstein GANs:
    interpretable generative models with closed-form solutions".

    Examples
    --------
    >>> generator = relu_generator([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], beta_d=0.5)
    >>> generator.status.value, generator.discriminator.constraint_holds, generator.objective < 4.0
    ('stationary', True, True)
    """
    X = as_float_array(X, "X", ndim=2)
    beta_d = as_number(beta_d, "beta_d", minimum=0.0, inclusive=False)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    max_iter = as_count(max_iter, "max_iter")
    deadline = None if time_limit is None else monotonic() + as_number(time_limit, "time_limit", minimum=0.0)
    Z = as_latent(latent, n_samples)
    m = len(Z) if Z is not None else len(X) if n_samples is None else as_count(n_samples, "n_samples")
    start = _reference(X, Z, m, reference)
    bound = _relu_bound(X, Z, beta_d, m)
    recorder = Recorder(verbose)

    def report(step: int, objective: float, violation: float) -> None:
        recorder.record(
            "patterns",
            step,
            objective=objective,
            lower_bound=bound,
            estimate=bound,
            width=m,
            violation=max(0.0, violation / beta_d - 1.0),
        )

    problem = MomentProblem(X, beta_d, Z)
    fit = fit_moments(
        problem,
        start,
        tol=tol,
        max_iter=max_iter,
        max_cuts=_MAX_CUTS,
        deadline=deadline,
        report=report,
        descend=reference is None,
    )
    objective = float(np.sum(fit.weights**2))
    return Generator(
        samples=problem.samples(fit.weights),
        weights=None if Z is None else fit.weights,
        objective=objective,
        lower_bound=min(bound, objective) if fit.feasible else bound,
        discriminator=relu_gap(fit.gap, beta_d, tol * beta_d),
        status=_ENDED[fit.ended],
        history=recorder.history(),
    )


def _relu_bound(X: FloatArray, Z: FloatArray | None, beta_d: float, m: int) -> float:
    """Lower bound of the squared norm of G, or of W through ``||G|| <= ||Z||_2 ||W||``."""
    bound = relu_moment_bound(X, beta_d, m, np.linalg.svd(X, full_matrices=False)[2])
    if Z is None:
        return bound
    stretch = gram_spectrum(Z, np.ones(len(Z))).norm_upper
    return bound / stretch * (1.0 - 4.0 * UNIT_ROUNDOFF)


def _reference(X: FloatArray, Z: FloatArray | None, m: int, reference: npt.ArrayLike | None) -> FloatArray:
    """Weights to start from."""
    if reference is None:
        split = split_samples(X, m)
        return split if Z is None else np.asarray(np.linalg.lstsq(Z, split, rcond=None)[0], np.float64)
    start = as_float_array(reference, "reference", ndim=2)
    shape = (m if Z is None else Z.shape[1], X.shape[1])
    if start.shape != shape:
        raise ValueError(f"reference must have shape {shape}; got {start.shape}.")
    return start
