"""scikit-learn's own battery: every check passes, none is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from cvxnn.estimators import ReLUClassifier, ReLURegressor


@parametrize_with_checks(
    [
        ReLURegressor(),
        ReLURegressor(loss="huber", fit_intercept=False),
        ReLUClassifier(),
        ReLUClassifier(loss="squared_hinge"),
        ReLUClassifier(loss="squared", warm_start=True),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)
