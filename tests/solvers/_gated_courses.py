"""Problems with fixed gates that the tests of solves at one penalty after another share."""

from __future__ import annotations

import numpy as np

from cvxnn import Problem
from cvxnn.architectures import GatedReLU, gate_patterns
from cvxnn.certificates.gated_bound import largest_gated_block
from cvxnn.patterns import ActivationPatterns

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def gated_problem(
    loss: str, *, n: int, d: int = 5, seed: int = 0, least_weight: int = 1
) -> tuple[Problem, ActivationPatterns]:
    """Noisy outputs of four neurons on normal data with a column of ones, integer weights up to 3, and 40 gates."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    y = np.maximum(X @ rng.standard_normal((d, 4)), 0.0) @ rng.standard_normal(4) + 0.1 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > np.median(y), 1.0, -1.0)
    weight = rng.integers(least_weight, 4, n).astype(float)
    problem = Problem(X, y, loss=loss, sample_weight=weight)
    return problem, gate_patterns(problem.X, GatedReLU(rng.standard_normal((40, d))).gates)


def largest_penalty(problem: Problem, patterns: ActivationPatterns) -> float:
    """Least penalty at which all blocks are zero."""
    return largest_gated_block(problem.X, patterns, problem.dual_vector(np.zeros(problem.n_samples)))[0]
