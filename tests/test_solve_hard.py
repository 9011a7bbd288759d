"""Small problems where optimality is hard to see in floating point: flat losses, tiny beta, nearly parallel rows."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import HuberLoss, Problem, Status, patterns, solve
from tests.oracles.full_program import all_strings, full_program_optimum

GRID = [[0, 1], [-2, 1], [-1, 1], [-2, 1], [-1, 1], [-1, 1], [0, 1], [-2, 1], [2, 1], [-2, 1]]
LINE = [[-0.15556203485527131], [-0.46297488902878015], [0.5210076900636622], [1.2620336018530656], [0.788190127516352]]
PAIR = [[0.2091529750334962, -0.35350121514007443, 1], [0.10765828125257172, 1.1029532581770447, 1]]


def nearly_parallel():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4, 4))
    X = np.vstack([X, X + 1e-10 * rng.standard_normal((4, 4))])
    return Problem(X, rng.choice([-1.0, 1.0], 8), 1e-3, "logistic")


PROBLEMS = {
    "huber on a line": Problem(LINE, [-3.0, -3.0, -6.0, 4.0, -3.0], 1.7443782285998236e-06, HuberLoss(0.0229506050896)),
    "huber on a grid": Problem(
        GRID, [1.0, -3, 4, 0, 0, -2, 0, 1, -4, 2], 1.2239574445484871e-06, HuberLoss(0.00112848851)
    ),
    "conflicting labels": Problem(PAIR * 2, [-1.0, -1.0, 1.0, -1.0], 0.002625252449296273, "squared_hinge"),
    "saturated, beta just below its largest": Problem([[1.0, 2.0, 2.0]], [5.0], 3 * (1 - 1e-7), "huber"),
    "nearly parallel rows": nearly_parallel(),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_optimum_is_proved(name):
    s = solve(PROBLEMS[name])
    assert s.status is Status.GLOBAL_OPTIMUM
    assert s.gap <= 1e-8


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("loss", ["huber", "squared_hinge"])
def test_flat_losses_at_small_beta(loss, seed):
    rng = np.random.default_rng(seed)
    X = np.c_[rng.integers(-2, 3, (6, 1)), np.ones(6)]
    y = rng.integers(-4, 5, 6).astype(float) if loss == "huber" else rng.choice([-1.0, 1.0], 6)
    beta = 10.0 ** rng.uniform(-4, -1)
    s = solve(Problem(X, y, beta, loss))
    assert s.scope == "global"
    truth = full_program_optimum(X, y, beta, loss, np.ones(6), all_strings(6))
    assert s.objective == pytest.approx(truth, rel=1e-5, abs=1e-7)


def test_listed_patterns_bind_samples_of_zero_weight():
    problem = Problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, -1.0, 5.0], 0.1, sample_weight=[1, 1, 0])
    listed = patterns.ActivationPatterns.from_gates(problem.X, [[1.0, -3.0]])
    s = solve(problem, patterns=listed)
    orientation = np.where(listed.masks[0], 1.0, -1.0)
    assert np.min(orientation * (s.network.W @ problem.X.T)) >= -1e-9
    assert s.lower_bound <= s.objective * (1 + 1e-12)


def test_listed_patterns_at_the_largest_beta():
    # The optimum over these patterns is zero; a closed gap is a proof, whatever the loop saw last.
    X = np.eye(3)
    s = solve(Problem(X, [1.0, 2.0, 2.0], 3.0), patterns=patterns.enumerate_patterns(X))
    assert s.status.converged
    assert s.objective == pytest.approx(4.5)
