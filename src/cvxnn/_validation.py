"""Checks of arrays that come from users; each failure is one plain sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

LARGEST_ENTRY = 1e100
"""Larger entries overflow once they are squared and summed."""


def as_float_array(value: Any, name: str, *, ndim: int, copy: bool = True) -> npt.NDArray[np.float64]:
    """Return a finite float64 array with ``ndim`` dimensions, or raise ValueError naming ``name``.

    It is a new array unless ``copy`` is False.
    """
    if scipy.sparse.issparse(value):
        raise ValueError(f"{name} is a sparse matrix; a dense array is accepted (use {name}.toarray()).")
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as a rectangular array of numbers ({error}).") from error
    if raw.dtype.kind == "c":
        raise ValueError(f"{name} holds complex numbers; real numbers are accepted.")
    try:
        array = np.array(raw, dtype=np.float64) if copy else np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        hint = "; ReLUClassifier takes labels of any type" if name == "y" else ""
        raise ValueError(f"{name} holds values that are not numbers ({error}){hint}.") from error
    if array.ndim != ndim:
        hint = " (reshape one feature to (-1, 1))" if ndim == 2 and array.ndim == 1 else ""
        raise ValueError(f"{name} must have {ndim} dimension(s){hint}; got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}); at least one entry is needed.")
    check_finite(array, name)
    return array


def check_finite(array: npt.NDArray[np.float64], name: str) -> None:
    """Raise ValueError when NaN, infinity or an entry too large to be squared occurs."""
    # NaN passes neither comparison.
    if float(np.min(array)) >= -LARGEST_ENTRY and float(np.max(array)) <= LARGEST_ENTRY:
        return
    n_nan = int(np.count_nonzero(np.isnan(array)))
    if n_nan:
        raise ValueError(f"{name} contains {n_nan} NaN value(s); remove or impute them first.")
    n_inf = int(np.count_nonzero(np.isinf(array)))
    if n_inf:
        raise ValueError(f"{name} contains {n_inf} infinite value(s); all values must be finite.")
    largest = float(np.max(np.abs(array)))
    raise ValueError(f"{name} has an entry of size {largest:.1e}; entries up to {LARGEST_ENTRY:.0e} are accepted.")


def as_features(X: Any, n_features: int) -> npt.NDArray[np.float64]:
    """Return the data ``X (n, d)`` of a network that takes ``n_features`` of them."""
    data = as_float_array(X, "X", ndim=2)
    if data.shape[1] != n_features:
        raise ValueError(f"X has {data.shape[1]} features; this network takes {n_features}.")
    return data


def frozen_weights(array: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """Return the weights, made read-only, or raise ValueError where one is not finite."""
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} contains NaN or infinite values; all weights must be finite.")
    array.flags.writeable = False
    return array


def as_number(value: Any, name: str, *, minimum: float = -math.inf, inclusive: bool = True) -> float:
    """Return a finite float that is not below ``minimum`` (strictly above it unless ``inclusive``)."""
    range_ = "" if minimum == -math.inf else f" {'>=' if inclusive else '>'} {minimum:g}"
    accepted = f"a finite number{range_}"
    if isinstance(value, (str, bytes, bool, np.bool_)):
        raise ValueError(f"{name} must be {accepted}; got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be {accepted}; got {value!r}.") from error
    if not np.isfinite(number) or number < minimum or (number == minimum and not inclusive):
        raise ValueError(f"{name} must be {accepted}; got {value!r}.")
    return number


def as_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return an integer that is positive, or not negative where ``minimum`` is 0."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < minimum:
        kind = "positive" if minimum == 1 else "non-negative"
        raise ValueError(f"{name} must be a {kind} integer; got {value!r}.")
    return int(value)


def as_seed(value: Any, name: str) -> int:
    """Return a non-negative integer; None stands for 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
        raise ValueError(f"{name} must be a non-negative integer or None; got {value!r}.")
    return int(value)


def checked_weights(sample_weight: Any, n: int) -> npt.NDArray[np.float64]:
    """Non-negative weights ``(n,)``, ones by default."""
    if sample_weight is None:
        return np.ones(n)
    weight = as_float_array(sample_weight, "sample_weight", ndim=1)
    if weight.shape[0] != n:
        raise ValueError(f"X has {n} rows but sample_weight has {weight.shape[0]} entries; they must match.")
    if np.any(weight < 0):
        raise ValueError(f"sample_weight must be non-negative; got a smallest value of {weight.min():g}.")
    if not np.any(weight > 0):
        raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
    return weight
