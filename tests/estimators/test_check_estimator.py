"""scikit-learn's own battery: every check passes, none is expected to fail."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from cvxnn import ReLUClassifier, ReLURegressor


@parametrize_with_checks([ReLURegressor(alpha=0.1, tol=1e-2), ReLUClassifier(alpha=0.1, tol=1e-2)])
def test_scikit_learn_check(estimator, check):
    check(estimator)
