"""ReLURegressor: the convention of alpha, weights, options, and agreement with the solver behind it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from cvxnn import HuberLoss, Problem, ReLURegressor, Status, patterns, solve
from cvxnn.progress import Progress


def wave(n: int = 16, d: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.sin(2.0 * X[:, 0]) + 0.2 * rng.normal(size=n)


def mean_objective(est: ReLURegressor, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    residual = est.predict(X) - y
    weights = np.sum(est.network_.W**2) + np.sum(est.network_.a**2)
    return float(np.average(0.5 * residual**2, weights=weight) + 0.5 * est.alpha * weights)


def test_objective_is_mean_loss_plus_half_alpha_times_squared_weights():
    X, y = wave()
    weight = np.random.default_rng(1).uniform(0.2, 3.0, size=len(y))
    est = ReLURegressor(alpha=0.02).fit(X, y, sample_weight=weight)
    assert est.objective_ == pytest.approx(mean_objective(est, X, y, weight), rel=1e-12)
    assert est.lower_bound_ <= est.objective_
    assert est.dual_gap_ <= est.tol
    assert est.status_ is Status.GLOBAL_OPTIMUM


def test_agrees_with_solve_on_the_augmented_data():
    X, y = wave(d=2)
    est = ReLURegressor(alpha=0.02, tol=1e-6).fit(X, y)
    direct = solve(Problem(np.column_stack([X, np.ones(len(y))]), y, beta=0.02 * len(y)), tol=1e-6)
    assert est.objective_ * len(y) == pytest.approx(direct.objective, rel=2e-6)


def test_without_intercept_the_network_takes_the_plain_features():
    X, y = wave(d=2)
    est = ReLURegressor(alpha=0.02, fit_intercept=False).fit(X, y)
    assert est.network_.n_features == 2
    np.testing.assert_array_equal(est.predict(X), est.network_(X))
    assert est.predict(np.zeros((1, 2)))[0] == 0.0


def test_prediction_follows_the_fitted_network_after_a_change_of_options():
    X, y = wave()
    est = ReLURegressor(alpha=0.02).fit(X, y)
    before = est.predict(X)
    est.set_params(fit_intercept=False)
    np.testing.assert_array_equal(est.predict(X), before)


@pytest.mark.parametrize("seed", [0, 1])
def test_integer_weights_equal_repeated_rows(seed):
    X, y = wave(n=12, d=2, seed=seed)
    weight = np.random.default_rng(seed).integers(0, 4, size=len(y))
    weighted = ReLURegressor(alpha=0.02, tol=1e-6).fit(X, y, sample_weight=weight)
    repeated = ReLURegressor(alpha=0.02, tol=1e-6).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))
    assert weighted.objective_ == repeated.objective_


def test_order_of_the_samples_does_not_matter():
    X, y = wave(n=14, d=2)
    order = np.random.default_rng(0).permutation(len(y))
    one, two = (ReLURegressor(alpha=0.02).fit(X[rows], y[rows]) for rows in (slice(None), order))
    np.testing.assert_array_equal(one.predict(X), two.predict(X))


def test_certificate_can_be_checked_against_problem():
    X, y = wave()
    X, y = np.concatenate([X, X[:3]]), np.concatenate([y, y[:3]])
    est = ReLURegressor(alpha=0.02).fit(X, y)
    problem = est.problem_
    assert isinstance(problem, Problem)
    assert problem.n_samples == 16
    assert est.network_.objective(problem) == pytest.approx(est.solution_.objective, rel=1e-12)
    assert est.certificate_.dual.shape == (16,)
    feasible = est.certificate_.scale * est.certificate_.dual
    assert problem.dual_value(feasible) / len(y) == pytest.approx(est.lower_bound_, rel=1e-6)


def test_same_input_same_output():
    X, y = wave(d=2)
    one, two = ReLURegressor(alpha=0.02).fit(X, y), ReLURegressor(alpha=0.02).fit(X, y)
    np.testing.assert_array_equal(one.network_.W, two.network_.W)
    np.testing.assert_array_equal(one.network_.a, two.network_.a)


@pytest.mark.parametrize("random_state", [None, 3, np.int64(3), np.random.RandomState(3)])
def test_random_state_in_every_form(random_state):
    X, y = wave(n=8)
    assert ReLURegressor(alpha=0.02, random_state=random_state).fit(X, y).dual_gap_ <= 1e-4


def test_huber_loss_by_name_and_by_object():
    X, y = wave()
    y[0] = 50.0
    named = ReLURegressor(alpha=0.02, loss="huber").fit(X, y)
    given = ReLURegressor(alpha=0.02, loss=HuberLoss(delta=1.0)).fit(X, y)
    np.testing.assert_array_equal(named.predict(X), given.predict(X))
    squared = ReLURegressor(alpha=0.02).fit(X, y)
    # The outlier drags the squared fit away from the other samples, the Huber fit hardly.
    errors = [np.max(np.abs(est.predict(X[1:]) - y[1:])) for est in (named, squared)]
    assert errors[0] < 1.0 < 10.0 < errors[1]
    narrow = ReLURegressor(alpha=0.02, loss=HuberLoss(delta=0.1))
    copy: Any = clone(narrow)
    assert copy.loss == HuberLoss(delta=0.1)


def test_listed_patterns_keep_the_rows_in_the_given_order():
    X, y = wave(n=10)
    data = np.column_stack([X, np.ones(len(y))])
    listed = patterns.enumerate_patterns(data)
    est = ReLURegressor(alpha=0.02, tol=1e-5, patterns=listed).fit(X, y)
    free = ReLURegressor(alpha=0.02, tol=1e-5).fit(X, y)
    np.testing.assert_array_equal(est.problem_.X, data)
    assert est.objective_ == pytest.approx(free.objective_, rel=2e-5)


def test_sampled_patterns_never_beat_all_of_them():
    X, y = wave(n=12, d=2)
    some = ReLURegressor(alpha=0.02, patterns=8).fit(X, y)
    free = ReLURegressor(alpha=0.02).fit(X, y)
    assert some.objective_ >= free.lower_bound_
    assert some.solution_.global_lower_bound <= free.solution_.objective


def test_warm_start_does_not_need_more_iterations():
    X, y = wave(d=2)
    est = ReLURegressor(alpha=0.02, warm_start=True).fit(X, y)
    cold_iterations, cold_objective = est.n_iter_, est.objective_
    est.fit(X, y)
    assert est.n_iter_ <= cold_iterations
    assert est.objective_ == pytest.approx(cold_objective, rel=2e-4)


def test_warm_start_from_other_shapes_starts_afresh():
    X, y = wave(d=2)
    est = ReLURegressor(alpha=0.02, warm_start=True).fit(X, y)
    est.fit(X[:, :1], y)
    assert est.network_.n_features == 2
    np.testing.assert_array_equal(est.predict(X[:, :1]), ReLURegressor(alpha=0.02).fit(X[:, :1], y).predict(X[:, :1]))


@pytest.mark.parametrize("limit", [{"max_iter": 1}, {"time_limit": 1e-9}])
def test_missed_tolerance_warns_and_keeps_a_valid_bound(limit):
    X, y = wave(n=20, d=2)
    est = ReLURegressor(alpha=1e-3, tol=1e-8, **limit)
    with pytest.warns(ConvergenceWarning, match="relative duality gap .*tol=1e-08") as caught:
        est.fit(X, y)
    message = str(caught[0].message)
    for word in ("max_iter", "time_limit"):
        assert (word in message) == (word in limit)
    assert "alpha" in message and "standardised" in message
    assert caught[0].filename == __file__
    best = ReLURegressor(alpha=1e-3, tol=1e-8).fit(X, y)
    assert est.solution_.global_lower_bound / len(y) <= best.objective_ <= est.objective_ * (1 + 1e-8)
    assert est.certificate_.global_gap > est.tol
    assert not est.status_.converged


def test_interrupt_keeps_the_best_network():
    X, y = wave(n=20, d=2)

    def interrupt(progress: Progress) -> None:
        if progress.phase == "columns":
            raise KeyboardInterrupt

    est = ReLURegressor(tol=1e-15, verbose=interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        est.fit(X, y)
    assert est.status_ is Status.INTERRUPTED
    assert np.all(np.isfinite(est.predict(X)))
    assert est.lower_bound_ <= est.objective_


def test_verbose_callable_receives_progress():
    X, y = wave()
    seen: list[Progress] = []
    ReLURegressor(alpha=0.02, verbose=seen.append).fit(X, y)
    assert seen and all(isinstance(state, Progress) for state in seen)


def test_one_sample():
    est = ReLURegressor(alpha=0.1).fit([[2.0]], [3.0])
    # One neuron along (2, 1) of mass t: loss (q - 3)^2 / 2 with q = sqrt(5) t, penalty alpha t.
    assert est.predict([[2.0]])[0] == pytest.approx(3.0 - 0.1 / np.sqrt(5.0), rel=1e-3)


def test_constant_target_is_met_by_the_biases():
    X, _ = wave(d=2)
    est = ReLURegressor(alpha=1e-4).fit(X, np.full(len(X), 5.0))
    np.testing.assert_allclose(est.predict(X), 5.0, rtol=1e-3)


def test_huge_alpha_gives_the_zero_network():
    X, y = wave(d=2)
    est = ReLURegressor(alpha=1e6).fit(X, y)
    assert est.network_.width == 0
    np.testing.assert_array_equal(est.predict(X), 0.0)
    assert est.objective_ == pytest.approx(0.5 * np.mean(y**2), rel=1e-12)


def test_float32_and_integer_input():
    X, y = wave(n=10, d=2)
    est = ReLURegressor(alpha=0.02).fit(X.astype(np.float32), y.astype(np.float32))
    assert est.predict(X.astype(np.float32)).shape == (10,)
    whole = ReLURegressor(alpha=0.02).fit(np.arange(6)[:, None], np.arange(6))
    np.testing.assert_allclose(whole.predict(np.arange(6)[:, None]), np.arange(6), atol=0.2)


def test_pickle_round_trip():
    X, y = wave()
    est = ReLURegressor(alpha=0.02).fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))
    assert again.certificate_.lower_bound == est.certificate_.lower_bound


def test_constructor_takes_options_by_keyword_and_stores_them():
    est = ReLURegressor(alpha=0.5, tol=1e-3)
    assert est.get_params()["alpha"] == 0.5
    copy: Any = clone(est.set_params(alpha=0.25))
    assert copy.alpha == 0.25
    with pytest.raises(TypeError):
        ReLURegressor(0.5)  # type: ignore[misc]
    with pytest.raises(NotFittedError):
        est.predict([[1.0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha must be a finite number > 0; got 0.0"),
        ({"alpha": -1.0}, "alpha must be"),
        ({"alpha": "big"}, "alpha must be"),
        ({"loss": "logistic"}, 'loss must be one of "squared", "huber"'),
        ({"loss": None}, "loss must be one of"),
        ({"tol": 0.0}, "tol must be"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"time_limit": -1.0}, "time_limit must be"),
        ({"patterns": "some"}, "patterns must be"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_bad_options_are_named(options, message):
    X, y = wave(n=6)
    with pytest.raises(ValueError, match=message):
        ReLURegressor(**options).fit(X, y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, 1.0], "sample_weight has 2 entries"),
        ([1.0, 1.0, -1.0], "sample_weight must be non-negative"),
        ([0.0, 0.0, 0.0], "sample_weight is zero for every sample"),
        ([1.0, np.nan, 1.0], "sample_weight contains 1 NaN"),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        ReLURegressor().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], sample_weight=weight)


def test_targets_of_text_are_one_sentence():
    X, _ = wave(n=20, d=2)
    with pytest.raises(ValueError, match=r"y holds values that are not numbers .*ReLUClassifier takes labels"):
        ReLURegressor().fit(X, np.array(["a", "b"] * 10))


def test_width_limit_is_kept_bounded_and_told_without_a_warning():
    X, y = wave(n=30, d=2)
    free = ReLURegressor(alpha=1e-3).fit(X, y)
    narrow = ReLURegressor(alpha=1e-3, max_width=2).fit(X, y)
    assert narrow.network_.width <= 2 < free.network_.width
    assert narrow.status_ is Status.WIDTH_LIMIT
    assert narrow.objective_ == pytest.approx(mean_objective(narrow, X, y, np.ones(30)), rel=1e-12)
    assert narrow.lower_bound_ <= free.objective_ < narrow.objective_
    wide = ReLURegressor(alpha=1e-3, max_width=free.network_.width).fit(X, y)
    assert wide.status_ is Status.GLOBAL_OPTIMUM
    assert wide.objective_ == pytest.approx(free.objective_, rel=1e-12)


def two_targets(n: int = 14) -> tuple[np.ndarray, np.ndarray]:
    X, y = wave(n)
    return X, np.column_stack([y, np.abs(X[:, 0])])


@pytest.mark.parametrize("one_vs_all", [False, True])
def test_several_targets(one_vs_all):
    X, Y = two_targets()
    est = ReLURegressor(alpha=0.02, one_vs_all=one_vs_all).fit(X, Y)
    assert est.network_.a.shape == (est.network_.width, 2)
    assert est.predict(X).shape == Y.shape
    assert est.certificate_.scope == "global"
    assert est.dual_gap_ <= est.tol
    weights = np.sum(est.network_.W**2) + np.sum(est.network_.a**2)
    loss = 0.5 * np.mean(np.sum((est.predict(X) - Y) ** 2, axis=1))
    assert est.objective_ == pytest.approx(loss + 0.5 * est.alpha * weights, rel=1e-12)
    singles = [ReLURegressor(alpha=0.02).fit(X, y) for y in Y.T]
    if one_vs_all:
        assert est.objective_ == pytest.approx(sum(single.objective_ for single in singles), rel=2e-4)
    else:
        assert est.objective_ <= sum(single.objective_ for single in singles)
    assert est.score(X, Y) > 0.8


def test_several_targets_with_weights_and_repeated_rows():
    X, Y = two_targets(n=10)
    weight = np.arange(10) % 3
    weighted = ReLURegressor(alpha=0.02).fit(X, Y, sample_weight=weight)
    repeated = ReLURegressor(alpha=0.02).fit(np.repeat(X, weight, axis=0), np.repeat(Y, weight, axis=0))
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_predictions_have_the_shape_of_the_targets():
    X, y = wave(n=10)
    column, flat = ReLURegressor(alpha=0.02).fit(X, y[:, None]), ReLURegressor(alpha=0.02).fit(X, y)
    assert column.predict(X).shape == (10, 1)
    np.testing.assert_array_equal(column.predict(X)[:, 0], flat.predict(X))
    with pytest.raises(ValueError, match="one_vs_all must be True or False"):
        ReLURegressor(one_vs_all="both").fit(X, y)
