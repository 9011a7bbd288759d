"""scikit-learn faces: estimators that train a certified two-layer ReLU network."""

from __future__ import annotations

from cvxnn.estimators._classifier import ReLUClassifier as ReLUClassifier
from cvxnn.estimators._regressor import ReLURegressor as ReLURegressor

__all__ = ["ReLUClassifier", "ReLURegressor"]
