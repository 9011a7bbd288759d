"""Weight decay from which on the zero network is optimal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import GatedReLU, ReLU, gate_patterns
from cvxnn.certificates.gated_bound import largest_gated_block
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_no_output_bias, require_one_output

FloatArray = npt.NDArray[np.float64]

__all__ = ["BetaMax", "beta_max", "gated_beta_max", "unknown_beta_max"]


@dataclass(frozen=True, eq=False)
class BetaMax:
    r"""Smallest weight decay at which the zero network is optimal, bracketed.

    Attributes
    ----------
    upper : float
        Proved upper bound, rounding included: for ``beta >= upper`` the zero network is optimal.
    lower : float
        Value attained at ``direction``, evaluated in floating point: for ``beta`` below it the zero network is not.
    direction : ndarray (d,)
        Unit vector of the neuron that enters first.
    sign : int
        Its output sign; 1 for gated networks.
    exact : bool
        Whether the two agree to 1e-8 relative.
    interrupted : bool
        Whether a keyboard interrupt ended the search; the bounds hold.
    """

    upper: float
    lower: float
    direction: FloatArray
    sign: int
    exact: bool
    interrupted: bool = False

    def __float__(self) -> float:
        """Return the upper bound."""
        return self.upper


def beta_max(
    problem: Problem, *, architecture: ReLU | GatedReLU | None = None, time_limit: float | None = None
) -> BetaMax:
    r"""Weight decay from which on the zero network is optimal: globally, or among the networks with given gates.

    .. math:: \beta_{\max} = \max_{\|u\| \le 1} |\nu_0^\top (Xu)_+|,\qquad \nu_0 = -\nabla\ell(0)

    With gates it is :math:`\max_i \|X^\top D_i \nu_0\|`, which needs no search.

    Parameters
    ----------
    problem : Problem
        Its ``beta`` plays no part.
    architecture : ReLU or GatedReLU, optional
        ``ReLU()`` by default.
    time_limit : float, optional
        Seconds for the branch and bound; the bounds hold when they run out, and after a keyboard interrupt.

    Returns
    -------
    BetaMax

    Raises
    ------
    ValueError
        For a problem with an output bias.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1: the zero network is optimal exactly
    when its dual vector is feasible.

    Examples
    --------
    >>> from cvxnn import Problem
    >>> found = beta_max(Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, -4.0]))
    >>> round(found.upper, 6), found.sign, found.exact
    (4.0, -1, True)
    """
    require_no_output_bias(problem, "beta_max")
    require_one_output(problem, "beta_max")
    try:
        if isinstance(architecture, GatedReLU):
            return gated_beta_max(problem, gate_patterns(problem.X, architecture.gates))
        nu = problem.dual_vector(np.zeros(problem.n_samples))
        bound = pricing_bound(problem.X, nu, time_limit=time_limit)
    except KeyboardInterrupt:
        return unknown_beta_max(problem)
    exact = bound.upper - bound.lower <= 1e-8 * bound.upper
    return BetaMax(bound.upper, bound.lower, bound.direction, bound.sign, exact, bound.interrupted)


def gated_beta_max(problem: Problem, patterns: ActivationPatterns) -> BetaMax:
    """:func:`beta_max` for gates with the given patterns on the data."""
    nu = problem.dual_vector(np.zeros(problem.n_samples))
    upper, value, direction = largest_gated_block(problem.X, patterns, nu)
    return BetaMax(upper, value, direction, 1, upper - value <= 1e-8 * upper)


def unknown_beta_max(problem: Problem) -> BetaMax:
    """Bracket that says nothing, for a search that was interrupted before it began."""
    return BetaMax(math.inf, 0.0, np.zeros(problem.n_features), 1, exact=False, interrupted=True)
