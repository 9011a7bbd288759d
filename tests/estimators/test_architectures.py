"""Estimators of the relatives of the ReLU network: scikit-learn's battery, agreement with solve, plain refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import (
    BatchNormReLU,
    GatedReLU,
    ParallelReLU,
    Polynomial,
    Problem,
    ReLU,
    ReLUClassifier,
    ReLURegressor,
    SampledGatedReLU,
    solve,
)

CURVE = Polynomial(0.09, 0.5, 0.47)
GATES = np.random.default_rng(5).standard_normal((12, 3))
BATTERY = [
    ReLURegressor(architecture=CURVE, alpha=0.1, tol=1e-2),
    ReLUClassifier(architecture=CURVE, alpha=0.1, tol=1e-2),
    ReLURegressor(architecture=SampledGatedReLU(20), alpha=0.1, tol=1e-2),
    ReLUClassifier(architecture=SampledGatedReLU(20), multi_class="one_vs_all", alpha=0.1, tol=1e-2),
    ReLURegressor(architecture=BatchNormReLU(), alpha=0.3, tol=1e-2),
]


def expected_failures(estimator) -> dict[str, str]:
    if not isinstance(estimator.architecture, BatchNormReLU):
        return {}
    name = "check_sample_weight_equivalence_on_dense_data"
    return {name: "weights enter the loss, and rows the batch statistics: a weight is no repeated row"}


@parametrize_with_checks(BATTERY, expected_failed_checks=expected_failures)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def wave(n: int = 18, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    return X, np.sin(2 * X[:, 0]) - X[:, 1] ** 2 + 0.1 * rng.standard_normal(n)


ARCHITECTURES = [
    GatedReLU(GATES),
    SampledGatedReLU(20),
    BatchNormReLU(),
    CURVE,
    ParallelReLU(),
    ParallelReLU(depth=2),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
def test_regressor_is_solve_on_the_augmented_data(architecture):
    X, y = wave(6 if isinstance(architecture, ParallelReLU) else 12)
    est = ReLURegressor(architecture=architecture, alpha=0.05).fit(X, y)
    batch_norm = isinstance(architecture, BatchNormReLU)
    data = X if batch_norm else np.column_stack([X, np.ones(len(X))])
    problem = Problem(data, y, beta=0.05 * len(X))
    truth = solve(problem, architecture=architecture, tol=1e-6)
    # The rows are in another order, so that sampled gates are others.
    if isinstance(architecture, SampledGatedReLU):
        truth = solve(est.problem_, architecture=architecture, tol=1e-6)
    assert est.objective_ * len(X) == pytest.approx(truth.objective, rel=2e-4)
    assert est.objective_ * len(X) == pytest.approx(est.network_.objective(problem), rel=1e-12)
    assert est.lower_bound_ * len(X) <= truth.objective * (1 + 1e-12)
    assert est.dual_gap_ <= est.tol
    assert est.certificate_.scope == truth.scope
    np.testing.assert_allclose(est.predict(X), est.network_(data), rtol=1e-12)
    assert type(est.network_) is type(truth.network)
    again = pickle.loads(pickle.dumps(clone(est).fit(X, y)))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))


@pytest.mark.parametrize("architecture", [ReLU(), None])
def test_relu_is_the_default(architecture):
    X, y = wave(8)
    X = X[:, :1]
    plain = ReLURegressor(alpha=0.05).fit(X, y)
    named = ReLURegressor(architecture=architecture, alpha=0.05).fit(X, y)
    np.testing.assert_array_equal(named.network_.W, plain.network_.W)
    Y = np.column_stack([y, -y])
    separate = ReLURegressor(alpha=0.05, one_vs_all=True).fit(X, Y)
    asked = ReLURegressor(architecture=ReLU(one_vs_all=True), alpha=0.05).fit(X, Y)
    np.testing.assert_array_equal(asked.network_.W, separate.network_.W)


def test_batch_norm_keeps_all_rows_for_its_statistics():
    X, y = wave()
    X, y = np.vstack([X, X[:5]]), np.append(y, y[:5])
    weight = np.ones(len(X))
    weight[[0, 7]] = 0.0, 3.0
    est = ReLURegressor(architecture=BatchNormReLU(), alpha=0.05, tol=1e-8).fit(X, y, weight)
    problem = Problem(X, y, beta=0.05 * weight.sum(), sample_weight=weight)
    assert est.objective_ * weight.sum() == pytest.approx(
        solve(problem, architecture=BatchNormReLU(), tol=1e-8).objective, rel=1e-7
    )
    np.testing.assert_allclose(est.network_.mean, X.mean(axis=0), rtol=1e-12)
    order = np.random.default_rng(0).permutation(len(X))
    moved = clone(est).fit(X[order], y[order], weight[order])
    np.testing.assert_array_equal(moved.network_.W, est.network_.W)


@pytest.mark.parametrize("architecture", [CURVE, SampledGatedReLU(20), BatchNormReLU()], ids=repr)
def test_classes(architecture):
    X, y = wave(24)
    labels = np.where(y > 0.3, "high", np.where(y > -1, "mid", "low"))
    pair = ReLUClassifier(architecture=architecture, alpha=0.01).fit(X, labels == "high")
    np.testing.assert_allclose(pair.predict_proba(X)[:, 1], 1 / (1 + np.exp(-pair.decision_function(X))))
    assert pair.score(X, labels == "high") > 0.7
    assert pair.decision_function(X).shape == (24,)
    with pytest.raises(ValueError, match=r'With 3 classes .* needs multi_class="one_vs_all"'):
        ReLUClassifier(architecture=architecture).fit(X, labels)
    est = ReLUClassifier(architecture=architecture, alpha=0.01, multi_class="one_vs_all").fit(X, labels)
    assert len(est.network_) == len(est.certificate_) == 3
    scores = est.decision_function(X)
    assert scores.shape == (24, 3)
    np.testing.assert_array_equal(est.predict(X), est.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(est.predict_proba(X).sum(axis=1), 1.0)
    one = ReLUClassifier(architecture=architecture, alpha=0.01).fit(X, labels == "high")
    np.testing.assert_allclose(scores[:, 0], one.decision_function(X), atol=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES[:4], ids=repr)
def test_warm_start(architecture):
    X, y = wave(7)
    est = ReLURegressor(architecture=architecture, alpha=0.05, warm_start=True).fit(X, y)
    first = est.objective_
    assert est.fit(X, y).objective_ <= first * (1 + 1e-12)
    for other in (GatedReLU(GATES[:4]), GatedReLU(GATES[6:]), CURVE, Polynomial(1, 0, 0), architecture):
        est.set_params(architecture=other).fit(X, y)
        assert est.dual_gap_ <= est.tol
    assert est.objective_ == pytest.approx(first, rel=2e-4)
    if not isinstance(architecture, GatedReLU):
        assert est.fit(X[:, :1], y).dual_gap_ <= est.tol


def test_sampled_gates_keep_those_of_the_warm_start():
    X, y = wave()
    first = ReLURegressor(architecture=SampledGatedReLU(8), alpha=0.01, warm_start=True, tol=1e-8).fit(X, y)
    before, gates = first.objective_, {tuple(gate) for gate in first.network_.gates}
    first.set_params(random_state=1).fit(X, y)
    assert first.objective_ <= before * (1 + 1e-10)
    assert gates <= {tuple(gate) for gate in first.solution_.patterns.gates}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(architecture="gated"), "architecture must be None, ReLU"),
        (dict(architecture=GatedReLU), "architecture must be None, ReLU"),
        (dict(architecture=GatedReLU([[1.0, 0.0]])), "gates has 2 columns but must have 3.*column of ones"),
        (dict(architecture=GatedReLU(GATES), fit_intercept=False), "gates has 3 columns but must have 2, for the 2 fe"),
        (dict(architecture=BatchNormReLU(), fit_intercept=False), "fit_intercept must be True with BatchNormReLU"),
        (dict(architecture=CURVE, max_width=3), "max_width needs architecture=ReLU"),
        (dict(architecture=CURVE, patterns=5), "a polynomial activation has none"),
        (dict(architecture=GatedReLU(GATES), patterns=5), "those of its gates"),
        (dict(architecture=ParallelReLU(), patterns=5), 'takes patterns="auto" only'),
    ],
)
def test_what_the_theorems_do_not_cover_is_told(options, message):
    X, y = wave()
    for estimator, target in ((ReLURegressor, y), (ReLUClassifier, y > 0)):
        with pytest.raises(ValueError, match=message):
            estimator(**options).fit(X, target)


def test_several_targets_and_how_to_train_them():
    X, y = wave()
    Y = np.column_stack([y, y**2])
    with pytest.raises(ValueError, match="Polynomial takes one target; y has 2 columns"):
        ReLURegressor(architecture=CURVE).fit(X, Y)
    est = MultiOutputRegressor(ReLURegressor(architecture=CURVE, alpha=0.05)).fit(X, Y)
    assert est.predict(X).shape == Y.shape
    with pytest.warns(DataConversionWarning):
        column = ReLURegressor(architecture=CURVE, alpha=0.05).fit(X, y[:, None])
    np.testing.assert_array_equal(column.predict(X), est.predict(X)[:, 0])


def test_grid_over_architectures():
    X, y = wave(30)
    grid = {"reluregressor__architecture": [None, CURVE, SampledGatedReLU(15), BatchNormReLU()]}
    pipe = make_pipeline(StandardScaler(), ReLURegressor(alpha=0.05, tol=1e-2))
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))


def test_gates_by_number():
    X, y = wave()
    data = np.column_stack([X, np.ones(len(X))])
    problem = Problem(data, y, beta=0.9)
    drawn = SampledGatedReLU(15).drawn(data, random_state=3)
    s = solve(problem, architecture=SampledGatedReLU(15), random_state=3)
    np.testing.assert_array_equal(s.patterns.gates, drawn.gates)
    assert s.objective == solve(problem, architecture=drawn).objective
    assert len(np.unique(drawn.masks(data), axis=0)) == 15
    with pytest.raises(ValueError, match="n_gates must be"):
        SampledGatedReLU(0)
    with pytest.raises(ValueError, match="random_state must be a non-negative integer"):
        SampledGatedReLU(3).drawn([[1.0]], random_state=1.5)
