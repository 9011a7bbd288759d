"""The conic form of each loss against the same program written in cvxpy."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.neurons import Neurons
from tests.oracles.full_program import full_program_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


@pytest.mark.parametrize("loss", LOSSES)
def test_optimum_equals_cvxpy(loss):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 3))
    y = rng.choice([-1.0, 1.0], 10) if loss in ("logistic", "squared_hinge") else 2.0 * rng.standard_normal(10)
    weight = rng.uniform(0.2, 2.0, 10)
    masks = rng.standard_normal((4, 3)) @ X.T >= 0
    problem = Problem(X, y, 0.2, loss, sample_weight=weight)
    both, signs = np.concatenate([masks, masks]), np.repeat([1.0, -1.0], 4)
    vectors = solve_conic(problem, both, signs)
    assert vectors is not None
    assert np.min(np.where(both, 1.0, -1.0) * (vectors @ X.T)) >= -1e-8
    truth = full_program_optimum(X, y, 0.2, loss, weight, masks)
    assert Neurons(vectors, signs).objective(problem) == pytest.approx(truth, rel=1e-6)


def test_no_time_gives_none_or_a_point():
    rng = np.random.default_rng(1)
    problem = Problem(rng.standard_normal((30, 4)), rng.standard_normal(30), 0.1)
    masks = rng.standard_normal((6, 4)) @ problem.X.T >= 0
    vectors = solve_conic(problem, masks, np.ones(6), time_limit=0.0)
    assert vectors is None or np.all(np.isfinite(vectors))
