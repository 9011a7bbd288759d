"""A cheap test of whether the zero network is optimal."""

from __future__ import annotations

import numpy as np

from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.problem import Problem

__all__ = ["zero_is_optimal"]


def zero_is_optimal(problem: Problem) -> bool:
    """Whether a cheap bound proves the zero network optimal; the bound is spared where one direction refutes it.

    Examples
    --------
    >>> problem = Problem([[1.0], [2.0]], [1.0, 2.0], beta=10.0)
    >>> zero_is_optimal(problem)
    True
    """
    nu = problem.dual_vector(np.zeros(problem.n_samples))
    for sign in (1.0, -1.0):
        gradient = np.maximum(sign * nu, 0.0) @ problem.X
        if sign * float(nu @ np.maximum(problem.X @ gradient, 0.0)) > problem.beta * float(np.linalg.norm(gradient)):
            return False
    return norm_bound(problem.X, nu)[0] <= problem.beta
