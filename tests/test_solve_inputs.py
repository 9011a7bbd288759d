"""Odd data that must work, and options that must be refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, SolveError, Status, patterns, solve


def certified(problem, **options):
    s = solve(problem, **options)
    assert s.scope == "global", s
    assert s.gap <= 1e-6
    assert s.lower_bound <= s.objective
    return s


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
@pytest.mark.parametrize("x_scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("y_scale", [1e-6, 1.0, 1e6])
def test_scales(loss, x_scale, y_scale):
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((12, 2)), rng.standard_normal(12)
    if loss in ("logistic", "squared_hinge"):
        t, y_scale = np.sign(t), 1.0
    # beta in proportion, so that the optimum is neither zero nor an interpolation
    tau = min(y_scale, 1.0) if loss == "huber" else y_scale
    s = certified(Problem(x_scale * X, y_scale * t, 0.3 * x_scale * tau, loss))
    assert s.network.width >= 1


@pytest.mark.parametrize(
    ("X", "y"),
    [
        ([[2.0]], [3.0]),
        ([[2.0, 1.0, 0.0]], [3.0]),
        ([[1.0], [2.0], [-1.0]], [1.0, 2.0, 0.5]),
        (np.ones((5, 3)), np.arange(5.0)),
        ([[0.0, 0.0], [1.0, 2.0]], [1.0, 1.0]),
        (np.zeros((3, 2)), [1.0, 2.0, 3.0]),
        (np.eye(4)[:, :2], [1, -1, 2, 0]),
        (np.arange(8).reshape(2, 4), [1, 2]),
        ([[1.0, 2.0]] * 6, [1.0, -1.0, 2.0, 0.0, 1.0, 5.0]),
        ([[1.0, 0.0], [1e-9, 1.0], [1.0, 1e-12]], [1.0, 2.0, 3.0]),
        (np.random.default_rng(0).standard_normal((5, 30)), np.arange(5.0)),
    ],
    ids=["n1d1", "n1d3", "d1", "constant", "zero-row", "all-zero", "zero-rows", "wide", "same-rows", "nearly", "n5d30"],
)
def test_odd_shapes(X, y):
    certified(Problem(X, y, 0.1))


def test_zero_target_and_large_beta_give_the_zero_network():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((8, 3))
    for problem in (Problem(X, np.zeros(8), 0.1), Problem(X, rng.standard_normal(8), 1e6), Problem(X, X[:, 0], 1e12)):
        s = certified(problem)
        assert s.network.width == 0
        assert s.gap == 0.0 or s.gap < 1e-12
    s = certified(Problem(rng.standard_normal((400, 20)), rng.standard_normal(400), 1e6))
    assert s.network.width == 0


def test_closed_form_in_one_dimension():
    # One positive sample: min 1/2 (c x - y)^2 + beta c has c = (x y - beta)_+ / x^2.
    s = certified(Problem([[2.0]], [3.0], 0.5))
    c = (2 * 3 - 0.5) / 4
    assert s.objective == pytest.approx(0.5 * (2 * c - 3) ** 2 + 0.5 * c, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tol=0.0), "tol must be a finite number > 0"),
        (dict(tol="small"), "tol must be"),
        (dict(time_limit=-1.0), "time_limit must be"),
        (dict(max_iter=0), "max_iter must be a positive integer"),
        (dict(max_iter=2.5), "max_iter must be a positive integer"),
        (dict(random_state=-1), "random_state must be a non-negative integer"),
        (dict(patterns="some"), 'patterns must be "auto"'),
        (dict(patterns=0), "patterns must be a positive integer"),
        (dict(architecture="deep"), "architecture must be"),
        (dict(warm_start=ReLUNetwork([[1.0]], [1.0])), "warm_start must be a ReLUNetwork with 2 features"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        solve(Problem(np.eye(2), [1.0, 2.0]), **options)


def test_patterns_of_other_data_are_refused():
    with pytest.raises(ValueError, match="patterns belong to data of shape"):
        solve(Problem(np.eye(2), [1.0, 2.0]), patterns=patterns.sample_patterns(np.ones((3, 2)), 2))


def test_beta_zero_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="solve needs beta > 0"):
        solve(Problem(np.eye(2), [1.0, 2.0], 0.0))


def test_throw():
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((80, 6)), rng.standard_normal(80), 0.5)
    with pytest.raises(SolveError, match="max_iter reached") as caught:
        solve(problem, max_iter=1, tol=1e-9, throw=True)
    assert caught.value.solution.network.width > 0
    assert caught.value.solution.status is Status.MAX_ITER


def test_warm_start_from_the_optimum_stays_there():
    rng = np.random.default_rng(2)
    problem = Problem(rng.standard_normal((30, 3)), rng.standard_normal(30), 0.4)
    first = certified(problem)
    again = certified(problem, warm_start=first.network)
    assert again.n_iter == 1
    assert again.objective <= first.objective * (1 + 1e-14)
