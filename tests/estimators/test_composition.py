"""The estimators inside scikit-learn's pipelines, searches, scorers and metadata routing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import cvxnn
from cvxnn import ReLUClassifier, ReLURegressor


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(18, 2)) * [1.0, 20.0] + [0.0, 5.0]
    return X, np.maximum(X[:, 0], 0.0) + 0.05 * X[:, 1] + 0.1 * rng.normal(size=18)


def test_pipeline(table):
    X, y = table
    model = make_pipeline(StandardScaler(), ReLURegressor(alpha=0.01)).fit(X, y)
    assert model.score(X, y) > 0.9
    direct = ReLURegressor(alpha=0.01).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_array_equal(model.predict(X), direct.predict(StandardScaler().fit_transform(X)))


def test_grid_search_over_alpha(table):
    X, y = table
    model = make_pipeline(StandardScaler(), ReLURegressor(tol=1e-3))
    search = GridSearchCV(model, {"reluregressor__alpha": [1e-2, 1e3]}, cv=2).fit(X, y)
    assert search.best_params_ == {"reluregressor__alpha": 1e-2}


def test_cross_validation_of_a_classifier(table):
    X, y = table
    model = make_pipeline(StandardScaler(), ReLUClassifier(alpha=0.01, tol=1e-3))
    scores = cross_val_score(model, X, y > np.median(y), cv=3, scoring="neg_log_loss")
    assert scores.shape == (3,)
    assert np.all(np.isfinite(scores))


def test_target_offset_by_transformed_target_regressor(table):
    X, y = table
    model = TransformedTargetRegressor(ReLURegressor(alpha=1e6), transformer=StandardScaler()).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y.mean(), rtol=1e-12)


def test_data_frames_keep_their_names(table):
    X, y = table
    frame = pd.DataFrame(X, columns=["width", "height"])
    est = ReLURegressor(alpha=0.05).fit(frame, pd.Series(y, name="price"), sample_weight=pd.Series(np.ones(len(y))))
    assert est.feature_names_in_.tolist() == ["width", "height"]
    assert est.n_features_in_ == 2
    np.testing.assert_array_equal(est.predict(frame), ReLURegressor(alpha=0.05).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(frame[["height", "width"]])


def test_sample_weight_is_routed_through_pipeline_and_search(table):
    X, y = table
    weight = np.where(np.arange(len(y)) < 9, 1.0, 3.0)
    with config_context(enable_metadata_routing=True):
        est: Any = ReLURegressor(alpha=0.01, tol=1e-3)
        est.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        model = Pipeline([("scale", StandardScaler().set_fit_request(sample_weight=False)), ("net", est)])
        search = GridSearchCV(model, {"net__alpha": [1e-2, 1.0]}, cv=2).fit(X, y, sample_weight=weight)
    fitted = search.best_estimator_
    scaled = fitted[:-1].transform(X)
    alone = ReLURegressor(alpha=search.best_params_["net__alpha"], tol=1e-3)
    np.testing.assert_array_equal(fitted.predict(X), alone.fit(scaled, y, sample_weight=weight).predict(scaled))
    assert np.max(np.abs(fitted.predict(X) - alone.fit(scaled, y).predict(scaled))) > 1e-6


@pytest.mark.parametrize("estimator", [ReLURegressor(), ReLUClassifier()])
def test_columns_of_text_are_one_sentence(estimator):
    X = np.array([[1.0, "red"], [2.0, "white"], [3.0, "red"]], dtype=object)
    with pytest.raises(ValueError, match=r"takes numbers, but X holds the text 'red'; encode columns of text"):
        estimator.fit(X, [0, 1, 0])
    fitted = estimator.fit([[1.0], [2.0], [3.0]], [0, 1, 0])
    with pytest.raises(ValueError, match="X holds the text 'red'"):
        fitted.predict([["red"]])
    if isinstance(estimator, ReLURegressor):
        with pytest.raises(ValueError, match="y holds values that are not numbers"):
            estimator.fit([[1.0], [2.0]], np.array(["low", "high"], dtype=object))


def test_sparse_input_is_refused(table):
    X, y = table
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        ReLURegressor().fit(csr_array(X), y)


def test_tags():
    regressor: Any = get_tags(ReLURegressor())
    classifier: Any = get_tags(ReLUClassifier())
    assert regressor.estimator_type == "regressor"
    assert classifier.estimator_type == "classifier"
    assert classifier.classifier_tags.multi_class
    for tags in (regressor, classifier):
        assert not tags.input_tags.sparse
        assert not tags.non_deterministic
        assert tags.target_tags.required
        assert tags.target_tags.multi_output == (tags is regressor)


def test_representations():
    est = ReLUClassifier(alpha=0.5)
    assert repr(est) == "ReLUClassifier(alpha=0.5)"
    assert "ReLUClassifier" in est._repr_html_()
    assert cvxnn.ReLUClassifier is ReLUClassifier
