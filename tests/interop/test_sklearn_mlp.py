"""scikit-learn: predictions are reproduced, everything else is refused in one sentence."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline

from cvxnn.interop import NetworkFormatError, from_sklearn, judge_sklearn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
Y = np.sin(X[:, 0]) + X[:, 1]
ONES = np.column_stack([X, np.ones(40)])
SMALL = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 10_000, "random_state": 0}


def fitted(mlp, X, y):
    """Where lbfgs stops does not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mlp.fit(X, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regressor(dtype):
    mlp = fitted(MLPRegressor(**SMALL), X.astype(dtype), Y)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    expected = mlp.predict(X.astype(dtype))
    np.testing.assert_allclose(from_sklearn(mlp)(ONES), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("labels", [("no", "yes"), (-1, 1), (False, True)])
def test_classifier_gives_the_logit(labels):
    y = np.array(labels)[(Y > 0).astype(int)]
    mlp = fitted(MLPClassifier(alpha=1.0, **SMALL), X, y)
    probability = mlp.predict_proba(X)[:, 1]
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-from_sklearn(mlp)(ONES))), probability, rtol=1e-9)


def test_several_outputs():
    few = SMALL | {"alpha": 1.0}
    mlp = fitted(MLPRegressor(**few), X, np.c_[Y, -Y])
    np.testing.assert_allclose(from_sklearn(mlp)(ONES), mlp.predict(X), rtol=1e-9, atol=1e-12)
    classes = fitted(MLPClassifier(**few), X, np.arange(len(X)) % 3)
    np.testing.assert_allclose(softmax(from_sklearn(classes)(ONES), axis=1), classes.predict_proba(X), rtol=1e-9)
    labels = fitted(MLPClassifier(**few), X, np.c_[Y > 0, Y < 1].astype(int))
    np.testing.assert_allclose(expit(from_sklearn(labels)(ONES)), labels.predict_proba(X), rtol=1e-9)
    with pytest.raises(NetworkFormatError, match="has 3 outputs with free biases; such networks are not judged"):
        judge_sklearn(classes, X, np.arange(len(X)) % 3)


def refused():
    few = SMALL | {"alpha": 1.0, "max_iter": 10_000}
    yield MLPRegressor(), "this MLPRegressor is not fitted"
    yield (
        fitted(MLPRegressor(**(few | {"activation": "tanh"})), X, Y),
        'has activation="tanh"; activation="relu" is accepted',
    )
    yield fitted(MLPRegressor(**(few | {"hidden_layer_sizes": (3, 3)})), X, Y), "has 2 hidden layers; one is accepted"
    yield Ridge().fit(X, Y), "MLPRegressor and MLPClassifier are accepted; got Ridge"
    yield fitted(make_pipeline(MLPRegressor(**few)), X, Y), "got Pipeline; pass its last step"


@pytest.mark.parametrize(("mlp", "message"), list(refused()))
def test_refused_in_one_sentence(mlp, message):
    with pytest.raises(NetworkFormatError, match=message) as error:
        from_sklearn(mlp)
    assert str(error.value).endswith(".")
