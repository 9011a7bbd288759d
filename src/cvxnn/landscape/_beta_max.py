"""Weight decay from which on the zero network is optimal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import GatedReLU, ReLU, gate_patterns
from cvxnn.certificates.gated_bound import gated_dual_norm
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.problem import Problem, require_no_output_bias

FloatArray = npt.NDArray[np.float64]

__all__ = ["BetaMax", "beta_max"]

# Floats of a slab of masks.
_SLAB = 1 << 20


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
    """

    upper: float
    lower: float
    direction: FloatArray
    sign: int
    exact: bool

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
        Seconds for the branch and bound; the bounds hold when they run out.

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
    nu = problem.dual_vector(np.zeros(problem.n_samples))
    if isinstance(architecture, GatedReLU):
        return _gated_beta_max(problem, architecture, nu)
    bound = pricing_bound(problem.X, nu, time_limit=time_limit)
    exact = bound.upper - bound.lower <= 1e-8 * bound.upper
    return BetaMax(bound.upper, bound.lower, bound.direction, bound.sign, exact)


def _gated_beta_max(problem: Problem, architecture: GatedReLU, nu: FloatArray) -> BetaMax:
    patterns = gate_patterns(problem.X, architecture.gates)
    upper, value = gated_dual_norm(problem.X, patterns, nu)
    best, direction = -1.0, np.zeros(problem.n_features)
    for _, masks in patterns.chunks(max(1, _SLAB // problem.n_samples)):
        blocks = masks.astype(np.float64) @ (problem.X * nu[:, None])
        norms = np.linalg.norm(blocks, axis=1)
        first = int(np.argmax(norms))
        if norms[first] > best:
            best, direction = float(norms[first]), blocks[first]
    exact = upper - value <= 1e-8 * upper
    return BetaMax(upper, value, direction / best if best > 0.0 else direction, 1, exact)
