"""Networks with an output bias: the optimum equals that of one conic program with a constant."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import GatedReLU, HuberLoss, Problem, ReLUNetwork, Status, solve
from cvxnn.landscape.certify import certify
from cvxnn.losses import LogisticLoss, SquaredHingeLoss
from cvxnn.solvers.best_bias import fixed_bias
from cvxnn.solvers.neurons import Neurons
from tests.certificates.test_output_bias import optimum_with_bias, random_problem


@pytest.mark.parametrize("decay", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_optimum(loss, decay):
    problem = random_problem(5, loss, decay)
    _, value = optimum_with_bias(problem)
    s = solve(problem, tol=1e-9)
    assert s.scope == "global" and s.status is Status.GLOBAL_OPTIMUM and s.gap <= 1e-9
    assert s.objective == pytest.approx(value, rel=1e-8)
    assert s.objective == s.network.objective(problem)
    judged = certify(problem, s.network)
    assert judged.is_global is True
    worse = ReLUNetwork(s.network.W, s.network.a, s.network.output_bias + 0.1)
    assert certify(problem, worse).is_global is False


@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge", HuberLoss(0.7)])
def test_a_fixed_bias_is_the_same_loss(loss):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 2)), rng.choice([-1.0, 1.0], 9)
    problem = Problem(X, y, beta=0.3, loss=loss, sample_weight=rng.random(9), output_bias_decay=0.0)
    fixed = fixed_bias(problem, 0.8)
    fit, nu = rng.standard_normal(9), rng.standard_normal(9)
    assert fixed.loss_value(fit) == pytest.approx(problem.loss_value(fit + 0.8), rel=1e-14)
    np.testing.assert_allclose(fixed.loss_gradient(fit), problem.loss_gradient(fit + 0.8), atol=1e-14)
    np.testing.assert_allclose(fixed.loss_hessian(fit), problem.loss_hessian(fit + 0.8), atol=1e-14)
    nu = problem.loss.project_dual(nu, y, problem.sample_weight)
    assert fixed.dual_value(nu) == pytest.approx(problem.dual_value(nu) - 0.8 * float(np.sum(nu)), rel=1e-12)


@pytest.mark.parametrize("loss", [LogisticLoss(offset=1.3), SquaredHingeLoss(offset=-0.6)])
@pytest.mark.parametrize("n", [6, 120])
def test_solvers_know_the_offset(loss, n):
    # 6 samples go to the conic solver, 120 to the structured interior point.
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((n, 2)), rng.choice([-1.0, 1.0], n)
    s = solve(Problem(X, y, beta=0.1, loss=loss), tol=1e-9)
    assert s.scope == "global" and s.gap <= 1e-9


def test_real_size_without_enumeration():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((80, 8))
    y = np.maximum(X @ rng.standard_normal(8), 0.0) + 5.0 + 0.1 * rng.standard_normal(80)
    problem = Problem(X, y, beta=8.0, output_bias_decay=0.0)
    s = solve(problem)
    assert s.status is Status.PATTERNS_OPTIMUM and s.gap <= 1e-6
    assert abs(float(np.sum(y - s.network(X)))) <= 1e-9
    assert s.objective < solve(Problem(X, y, beta=8.0)).objective
    assert 0.0 < s.global_lower_bound < s.objective


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["squared", "logistic", "squared_hinge", HuberLoss(0.7)])
def test_neurons_and_bias_move_together(loss, decay):
    """The optimum is that of the best fixed bias, and no bias beside it is better."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((60, 3))
    y = np.abs(X[:, 0]) + 0.5 * X[:, 1] + 1.0 + 0.3 * rng.standard_normal(60)
    y = np.where(y > 1.5, 1.0, -1.0) if loss in ("logistic", "squared_hinge") else y
    problem = Problem(X, y, beta=1.5, loss=loss, output_bias_decay=decay)
    s = solve(problem, tol=1e-9)
    assert s.status is Status.GLOBAL_OPTIMUM
    bias = s.network.output_bias
    assert abs(bias) > 0.05
    for other in (bias, bias - 0.1, bias + 0.1):
        fixed = solve(fixed_bias(problem, other), tol=1e-9)
        whole = fixed.objective + 0.5 * decay * other**2
        assert fixed.status is Status.GLOBAL_OPTIMUM
        assert s.objective <= whole * (1.0 + 1e-9)
        if other == bias:
            assert s.objective == pytest.approx(whole, rel=1e-8)
        else:
            assert s.lower_bound < whole * (1.0 - 1e-6)


def test_copies_of_rows_are_weights():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((90, 8)), rng.standard_normal(90) + 2.0
    times = rng.integers(1, 4, 90)
    once = Problem(X, y, beta=6.0, sample_weight=times.astype(float), output_bias_decay=0.7)
    copied = Problem(np.repeat(X, times, axis=0), np.repeat(y, times), beta=6.0, output_bias_decay=0.7)
    one, other = solve(once), solve(copied)
    assert one.status is other.status is Status.PATTERNS_OPTIMUM
    assert one.objective == pytest.approx(other.objective, rel=1e-6)
    assert one.network.objective(copied) == pytest.approx(one.objective, rel=1e-10)


def test_what_the_joint_rounds_miss_the_proof_finds(monkeypatch):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((50, 2))
    y = np.abs(X[:, 0]) + X[:, 1] + 2.0 + 0.2 * rng.standard_normal(50)
    problem = Problem(X, y, beta=0.8, output_bias_decay=0.3)
    whole = solve(problem, tol=1e-9)

    def finds_nothing(self, state, effort):
        state.violation, state.outcome = 0.0, "search"

    monkeypatch.setattr("cvxnn.solvers.local_search._Search.start", lambda self, *_: Neurons(np.eye(2), np.ones(2)))
    monkeypatch.setattr("cvxnn.solvers.local_search._Pricer.grow", lambda self, neurons, **_: neurons)
    monkeypatch.setattr("cvxnn.solvers.column_rounds.ColumnRounds._find", finds_nothing)
    found = solve(problem, tol=1e-7)
    assert found.status is Status.GLOBAL_OPTIMUM and found.n_iter > 1
    assert found.objective == pytest.approx(whole.objective, rel=1e-7)


def test_limits_and_refusals():
    problem = random_problem(0, "squared", 0.0)
    s = solve(problem, time_limit=0.0)
    assert s.status is Status.TIME_LIMIT and s.lower_bound <= s.objective
    with pytest.raises(ValueError, match="output_bias_decay"):
        solve(problem, architecture=GatedReLU(np.eye(2)))
    one_class = Problem(np.eye(3), np.ones(3), beta=0.1, loss="logistic", output_bias_decay=0.0)
    assert solve(one_class).lower_bound <= 1e-6


def test_a_slope_of_either_sign_at_the_ends_is_no_crash():
    # Rounding gave the slope at an end of the bracket another sign when it was computed a second time.
    X = [
        [1.3597475403099617, 429.9899270195395],
        [1.2247210785859324, 429.9899270195395],
        [-0.5103070767876675, 429.9899270195395],
    ]
    problem = Problem(X, [-1.0, 1.0, 1.0], 0.0016265124261770378, "logistic", output_bias_decay=0.0)
    start = ReLUNetwork(
        [[4.8e-06, -4.06e-4], [7.97e-05, -4.189374555978658e-3], [-8.079268771253291, 0.02564558409581016]],
        [1.5e-05, 4.43e-05, 8.07927537154485],
        output_bias=-4.742814712548745,
    )
    s = solve(problem, warm_start=start)
    assert s.objective <= start.objective(problem)
    assert 0.0 < s.lower_bound <= s.objective and s.gap <= 1e-4


def test_free_biases_are_judged_with_the_bound_of_the_best_network():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((7, 1)), rng.standard_normal(7)
    column = float(np.max(np.abs(x))) / np.sqrt(1e-5)
    problem = Problem(np.c_[x, np.full(7, column)], y, beta=0.0149999, output_bias_decay=0.0)
    network = ReLUNetwork(rng.standard_normal((3, 2)) * [1.0, 1e-3], rng.standard_normal(3))
    judged = certify(problem, network)
    best = judged.better.objective(problem)
    assert judged.is_global is False
    assert best * (1.0 - 1e-6) <= judged.lower_bound <= best


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12])
def test_targets_of_any_size(size):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 2)), rng.standard_normal(5)
    one = solve(Problem(X, y, 0.1, output_bias_decay=0.0), tol=1e-9)
    other = solve(Problem(X, size * y, 0.1 * size, output_bias_decay=0.0), tol=1e-9)
    assert other.network.output_bias == pytest.approx(size * one.network.output_bias, rel=1e-4)
    assert other.objective == pytest.approx(size**2 * one.objective, rel=1e-9)
    assert other.scope == "global" and other.gap <= 1e-9
