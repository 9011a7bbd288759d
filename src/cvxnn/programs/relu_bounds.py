"""Bounds over all networks of any width that end a solve of the ReLU program."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, certify_global, certify_norm, certify_relaxation
from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.certificates.output_bias import admissible_dual
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.blocks import attained_norm

FloatArray = npt.NDArray[np.float64]

__all__ = ["close_zero", "global_bound", "quick_bound"]

_ZERO_SAMPLES, _ZERO_SECONDS = 1500, 5.0
"""Up to this number of samples, and for at most so many seconds, the relaxation bounds a zero network unasked."""


def global_bound(
    problem: Problem, network: ReLUNetwork, *, by_branching: bool, tol: float, time_limit: float | None
) -> Certificate:
    """Bound for as long as there is time: by branch and bound where it may end, else relaxed.

    Raises
    ------
    KeyboardInterrupt
        Where the user ended it.
    """
    if not by_branching:
        certificate, relaxed = certify_relaxation(problem, network, tol=tol, time_limit=time_limit)
        if relaxed.interrupted:
            raise KeyboardInterrupt
        return certificate
    certificate, pricing = certify_global(
        problem,
        network(problem.X),
        network.objective(problem),
        tol=tol,
        time_limit=time_limit,
        starts=network.W if network.width else None,
    )
    if pricing.interrupted:
        raise KeyboardInterrupt
    return certificate


def quick_bound(
    problem: Problem, network: ReLUNetwork, fit: FloatArray, objective: float, n_patterns: int | None
) -> Certificate:
    """Bound without branching; reported in scope "patterns" where a number of patterns is given."""
    nu = admissible_dual(problem, fit)
    upper, method = norm_bound(problem.X, nu)
    # The value met is rounded, the bound is not below the exact one.
    attained = min(attained_norm(problem.X, nu, network), upper)
    return certify_norm(problem, objective, nu, upper, attained, method=method, n_patterns=n_patterns)


def close_zero(
    problem: Problem, certificate: Certificate, network: ReLUNetwork, *, tol: float, deadline: float = math.inf
) -> Certificate:
    """The better of a bound and that of the relaxation, for a zero network: no patterns could close its gap.

    Just above the least beta at which the zero network is optimal a bound of the dual norm that is a few per cent too
    large leaves a gap twice as wide; the relaxation closes nearly all of it.
    """
    now = time.perf_counter()
    if certificate.gap <= tol or now >= deadline or problem.n_samples > _ZERO_SAMPLES:
        return certificate
    limit = min(deadline - now, _ZERO_SECONDS)
    closer = global_bound(problem, network, by_branching=False, tol=tol, time_limit=limit)
    return max(certificate, closer, key=lambda bound: bound.lower_bound)
