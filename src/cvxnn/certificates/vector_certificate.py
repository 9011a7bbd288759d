"""Certificates of networks with several outputs, over all networks or among those of listed patterns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, certify_confined, certify_norm
from cvxnn.certificates.vector_cone_bounds import vector_cone_bounds
from cvxnn.certificates.vector_pricing import VectorPricingBound, vector_pricing_bound
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["certify_outputs", "certify_outputs_patterns"]


def certify_outputs(
    problem: Problem,
    fit: FloatArray,
    objective: float,
    *,
    starts: FloatArray | None = None,
    time_limit: float | None = None,
    method: str = "auto",
) -> tuple[Certificate, VectorPricingBound]:
    """Certificate of scope "global" for a network with the given fit ``(n, c)`` and objective.

    Parameters
    ----------
    problem : Problem
    fit : ndarray (n, c)
        Outputs of the network on the data.
    objective : float
        Its objective.
    starts : ndarray (k, d), optional
        Directions that seed the search for the maximum, such as those of the neurons.
    time_limit : float, optional
        Seconds for bounding the pricing problem; the bound stays valid when they run out.
    method : str
        See :func:`cvxnn.certificates.vector_pricing.vector_pricing_bound`.

    Returns
    -------
    certificate : Certificate
    pricing : VectorPricingBound
        Bounds and violating directions of the pricing problem.
    """
    dual = problem.project_dual(problem.dual_vector(fit))
    pricing = vector_pricing_bound(problem.X, dual, starts=starts, time_limit=time_limit, method=method)
    certificate = certify_norm(problem, objective, dual, pricing.upper, pricing.lower, method=pricing.method)
    return certificate, pricing


def certify_outputs_patterns(
    problem: Problem,
    fit: FloatArray,
    objective: float,
    masks: npt.NDArray[np.bool_],
    directions: FloatArray,
    *,
    global_lower_bound: float = 0.0,
    dual_norm_attained: float = 0.0,
    time_limit: float | None = None,
) -> Certificate:
    """Certificate of scope "patterns": the bound holds for networks confined to the cones of ``masks (P, n)``.

    ``directions (k, d)`` are those of the neurons, whose multipliers sharpen the bound; ``global_lower_bound`` and
    ``dual_norm_attained`` are passed through to the certificate.
    """
    dual = problem.project_dual(problem.dual_vector(fit))
    upper = vector_cone_bounds(problem.X, dual, masks, directions, target=problem.beta, time_limit=time_limit)
    return certify_confined(
        problem,
        objective,
        dual,
        float(np.max(upper, initial=0.0)),
        dual_norm_attained,
        n_patterns=len(masks),
        method="copositive cone bounds",
        global_lower_bound=global_lower_bound,
    )
