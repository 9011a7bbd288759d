"""Training rows of an estimator: checked weights, equal rows merged, column of ones of the hidden bias."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from cvxnn._tall_tables import row_order
from cvxnn._validation import as_float_array

FloatArray = npt.NDArray[np.float64]

# Rows that are copied at a time.
_SLAB = 4096


class TrainingRows(NamedTuple):
    """Rows ``X (k, d)`` with their targets ``y (k,)`` or ``(k, c)`` and weights ``weight (k,)``; ``X`` is their own."""

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


def merged_rows(X: FloatArray, y: FloatArray, weight: FloatArray, *, ones: bool) -> TrainingRows:
    """Drop rows of weight zero, merge equal rows ``(x, y)`` by adding their weights, and sort.

    The objective is the same function of the network. One order of the rows for every order of the samples
    makes the answer independent of that order, and integer weights the same to the last digit as repeated
    rows. With ``ones`` a column of them is appended.
    """
    targets = y.reshape(len(y), -1)
    order, first = row_order([*X.T, *targets.T], np.flatnonzero(weight > 0))
    total = np.bincount(np.cumsum(first) - 1, weights=weight[order]).astype(np.float64)
    heads = order[first]
    return TrainingRows(_taken(X, heads, ones=ones), y[heads] + 0.0, total)


def _taken(X: FloatArray, index: npt.NDArray[np.intp], *, ones: bool) -> FloatArray:
    """Rows of the data, with a column of ones behind them if wanted: the only array of their size."""
    rows = np.ones((len(index), X.shape[1] + ones))
    for start in range(0, len(index), _SLAB):
        slab = slice(start, start + _SLAB)
        # Adding 0.0 turns -0.0 into 0.0, which are equal but not bit by bit.
        rows[slab, : X.shape[1]] = X[index[slab]] + 0.0
    return rows


def sorted_rows(rows: TrainingRows) -> TrainingRows:
    """Sort the rows ``(x, y)`` without merging any; rows of weight zero stay."""
    keys = np.column_stack([rows.X, rows.y, rows.weight]) + 0.0
    order = np.lexsort(keys.T[::-1])
    return TrainingRows(rows.X[order], rows.y[order], rows.weight[order])


def with_ones(X: FloatArray) -> FloatArray:
    """Append the column of ones that gives each neuron its bias."""
    return np.column_stack([X, np.ones(len(X))])
