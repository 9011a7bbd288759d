"""Training rows of an estimator: checked weights, equal rows merged, column of ones of the hidden bias."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from cvxnn._validation import as_float_array

FloatArray = npt.NDArray[np.float64]


class TrainingRows(NamedTuple):
    """Rows ``X (k, d)`` with their targets ``y (k,)`` or ``(k, c)`` and weights ``weight (k,)``."""

    X: FloatArray
    y: FloatArray
    weight: FloatArray


def validated(estimator: BaseEstimator, X: Any, *y: Any, **checks: Any) -> Any:
    """``validate_data`` of scikit-learn for numbers, and what to do about text."""
    try:
        return validate_data(estimator, X, *y, dtype=np.float64, **checks)
    except ValueError as error:
        word = re.fullmatch(r"could not convert string to float: (?:np\.str_\()?('.*?'|\".*?\")\)?", str(error))
        if word is None:
            raise
        if checks.get("y_numeric") and word[1][1:-1] in {str(label) for label in np.ravel(y[0])}:
            as_float_array(y[0], "y", ndim=np.ndim(y[0]))
        raise ValueError(
            f"{type(estimator).__name__} takes numbers, but X holds the text {word[1]}; encode columns of text before, "
            "for example by OneHotEncoder of scikit-learn in a pipeline."
        ) from error


def merged_rows(X: FloatArray, y: FloatArray, weight: FloatArray) -> TrainingRows:
    """Drop rows of weight zero, merge equal rows ``(x, y)`` by adding their weights, and sort.

    The objective is the same function of the network. One order of the rows for every order of the samples
    makes the answer independent of that order, and integer weights the same to the last digit as repeated
    rows.
    """
    used = weight > 0
    # Adding 0.0 turns -0.0 into 0.0, which compare equal but would sort apart bit by bit.
    rows = np.column_stack([X[used], y[used]]) + 0.0
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    total = np.bincount(inverse.ravel(), weights=weight[used], minlength=len(unique)).astype(np.float64)
    targets = unique[:, X.shape[1] :]
    return TrainingRows(np.ascontiguousarray(unique[:, : X.shape[1]]), targets.reshape(-1, *y.shape[1:]).copy(), total)


def sorted_rows(rows: TrainingRows) -> TrainingRows:
    """Sort the rows ``(x, y)`` without merging any; rows of weight zero stay."""
    keys = np.column_stack([rows.X, rows.y, rows.weight]) + 0.0
    order = np.lexsort(keys.T[::-1])
    return TrainingRows(rows.X[order], rows.y[order], rows.weight[order])


def with_ones(X: FloatArray) -> FloatArray:
    """Append the column of ones that gives each neuron its bias."""
    return np.column_stack([X, np.ones(len(X))])
