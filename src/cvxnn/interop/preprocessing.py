"""From typed columns to the numbers that a network sees, and from its outputs back to the target."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.interop.tables import Column, Table, TableError, listing
from cvxnn.interop.targets import MAX_CATEGORIES, column_numbers, moments

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["Feature", "Preprocessing", "content_hash", "split_rows"]

_ADVICE = " (or leave a column out with --drop COLUMN)"
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ]|$)|\d{4}/\d\d?/\d\d?([T ]|$)|\d\d?[./]\d\d?[./]\d{2,4}([T ]|$)")
_FEW_ROWS = 20
"""In tables of so few rows a column that counts them may well be a quantity."""


@dataclass(frozen=True)
class Feature:
    """A column of the table and how it is encoded.

    Attributes
    ----------
    name : str
    categories : tuple of str or None
        Sorted distinct values of a column of text; None for a column of numbers.
    encoded : tuple of str
        Categories that have an input of their own, 1 where the cell equals it and 0 elsewhere. Of two categories only
        the second has one.
    """

    name: str
    categories: tuple[str, ...] | None = None
    encoded: tuple[str, ...] = ()

    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the column becomes."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.encoded)

    def encode(self, column: Column, source: str) -> FloatArray:
        """Return the inputs of the column, ``(n, k)``; TableError if a cell does not fit."""
        if self.categories is None:
            return column_numbers(column, source)[:, None]
        known = {category: position for position, category in enumerate(self.categories)}
        codes = np.array([known.get(cell, -1) for cell in column.text], dtype=np.int64)
        if np.any(codes < 0):
            cell = column.text[int(np.argmax(codes < 0))]
            raise TableError(
                f"column {self.name!r} of {source} holds {cell!r}, which did not occur in the training data; "
                f"known values are {listing(self.categories)}."
            )
        positions = np.array([known[category] for category in self.encoded], dtype=np.int64)
        return (codes[:, None] == positions[None, :]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Preprocessing:
    r"""Encoding of a table as the matrix X of a problem: ``(inputs - mean) / scale``, then a column of ones.

    Numbers are standardised with the mean and the standard deviation of the training rows, indicators of categories
    stay 0 and 1.

    Attributes
    ----------
    features : tuple of Feature
    mean, scale : ndarray (k,)
        One entry an input; 0 and 1 where nothing is standardised.
    intercept : bool
        Whether a column of ones is appended; its weights are the biases of the neurons, under weight decay like all.
    standardized : bool

    Examples
    --------
    >>> table = Table("t.csv", (Column.from_text("x", ["1", "3"]), Column.from_text("s", ["b", "a"])))
    >>> preprocessing, notes = Preprocessing.fit(table, ["x", "s"], np.arange(2))
    >>> preprocessing.inputs
    ('x', 's=b')
    >>> preprocessing.transform(table)
    array([[-1.,  1.,  1.],
           [ 1.,  0.,  1.]])
    """

    features: tuple[Feature, ...]
    mean: FloatArray
    scale: FloatArray
    intercept: bool
    standardized: bool

    @classmethod
    def fit(
        cls, table: Table, names: Sequence[str], rows: IntArray, *, intercept: bool = True, standardize: bool = True
    ) -> tuple[Preprocessing, tuple[str, ...]]:
        """Learn the encoding of the named columns from the training rows.

        Returns
        -------
        preprocessing : Preprocessing
        notes : tuple of str
            One sentence for each column of text, and for each column or category that was left out.

        Raises
        ------
        TableError
            If a column has missing values, badly written numbers or too many distinct texts, or if none is left.
        """
        table.require(names, advice=_ADVICE)
        table.refuse_spoiled_numbers(names)
        features: list[Feature] = []
        notes: list[str] = []
        scaling: list[tuple[float, float]] = []
        for name in names:
            column = table[name]
            if column.values is None:
                feature, dropped = _categorical(column, rows)
                shift = [(0.0, 1.0)] * len(feature.encoded)
            else:
                numbers = column_numbers(column, table.source)[rows]
                feature, dropped = Feature(name), _constant_note(name, numbers)
                notes.extend(_row_number_note(column))
                shift = [moments(numbers) if standardize else (0.0, 1.0)]
            notes.extend(dropped)
            if feature.inputs() and not (feature.categories is None and dropped):
                features.append(feature)
                scaling.extend(shift)
        if not features:
            raise TableError(f"{table.source} has no column left to learn from: all are constant in the training rows.")
        mean, scale = np.array(scaling).T.copy()
        return cls(tuple(features), mean, scale, intercept, standardize), tuple(notes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that a table must have."""
        return tuple(feature.name for feature in self.features)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, without the column of ones."""
        return tuple(name for feature in self.features for name in feature.inputs())

    @property
    def n_features(self) -> int:
        """Number d of columns of X."""
        return len(self.mean) + int(self.intercept)

    def transform(self, table: Table) -> FloatArray:
        """Matrix X ``(n, d)`` of a table; columns are found by name, others are ignored."""
        table.require(self.names)
        blocks = [feature.encode(table[feature.name], table.source) for feature in self.features]
        X = (np.hstack(blocks) - self.mean) / self.scale
        return np.hstack([X, np.ones((len(X), 1))]) if self.intercept else X

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the arrays ``mean`` and ``scale``."""
        features = [
            {"name": f.name}
            if f.categories is None
            else {"name": f.name, "categories": list(f.categories), "encoded": list(f.encoded)}
            for f in self.features
        ]
        return {"features": features, "intercept": self.intercept, "standardized": self.standardized}


def split_rows(n: int, test_size: float, seed: int, labels: FloatArray | None = None) -> tuple[IntArray, IntArray]:
    """Rows for training and held-out rows, both in rising order, by a seeded shuffle.

    Parameters
    ----------
    n : int
    test_size : float
        Fraction of the rows to hold out, in [0, 1); the number is rounded.
    seed : int
    labels : ndarray (n,), optional
        Classes: each gives its share of the held-out rows, and keeps at least one row for training.

    Raises
    ------
    TableError
        If fewer than two rows would be left for training.

    Examples
    --------
    >>> split_rows(5, 0.4, 0)
    (array([0, 1, 3]), array([2, 4]))
    """
    order = np.random.default_rng(seed).permutation(n)
    groups = [order] if labels is None else [order[labels[order] == label] for label in np.unique(labels)]
    shares = np.array([test_size * len(group) for group in groups])
    counts = np.floor(shares).astype(np.int64)
    # What is lacking to the total goes to the classes that lost most by rounding down.
    lacking = round(test_size * n) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[: max(lacking, 0)]] += 1
    limits = np.array([len(group) - 1 for group in groups])
    counts = np.minimum(counts, limits)
    test = np.sort(np.concatenate([group[:count] for group, count in zip(groups, counts, strict=True)]))
    train = np.setdiff1d(np.arange(n), test)
    if len(train) < 2:
        if test_size == 0.0:
            raise TableError(f"the table has {n} row{'' if n == 1 else 's'}; 2 are needed.")
        raise TableError(f"{n} rows with a test size of {test_size:g} leave {len(train)} for training; 2 are needed.")
    return train, test


def content_hash(table: Table, features: Sequence[Feature], *targets: Column) -> str:
    """SHA-256 of the used columns of a table; file format and order of the columns do not matter."""
    digest = hashlib.sha256()
    ordered = sorted(features, key=lambda feature: feature.name)
    for name, numeric in [(f.name, f.categories is None) for f in ordered]:
        _hash_column(digest, name, table[name], numeric)
    for target in targets:
        _hash_column(digest, "target", target, target.values is not None)
    return digest.hexdigest()


def _hash_column(digest: Any, name: str, column: Column, numeric: bool) -> None:
    digest.update(f"{len(name.encode())}:{name}:{len(column.text)}:".encode())
    if numeric and column.values is not None:
        digest.update((column.values + 0.0).astype("<f8").tobytes())
        return
    for cell in column.text:
        raw = cell.encode()
        digest.update(f"{len(raw)}:".encode() + raw)


def _constant_note(name: str, numbers: FloatArray) -> list[str]:
    if np.all(numbers == numbers[0]):
        return [f"Column {name!r} is constant in the training rows and was left out."]
    return []


def _row_number_note(column: Column) -> list[str]:
    """Warn of a column that looks like the number of the row, of which some may have been removed."""
    n = len(column.text)
    if column.values is None or n <= _FEW_ROWS:
        return []
    distinct = np.unique(column.values)
    if len(distinct) < n or distinct[0] < 0.0 or distinct[-1] >= 2 * n or np.any(distinct != np.round(distinct)):
        return []
    return [
        f"Column {column.name!r} holds a whole number of its own in each row: is it the number of the row? "
        f"--drop {shlex.quote(column.name)} leaves it out."
    ]


def _categorical(column: Column, rows: IntArray) -> tuple[Feature, list[str]]:
    categories = tuple(sorted(set(column.text.tolist())))
    n = len(column.text)
    if len(categories) > MAX_CATEGORIES or (len(categories) == n and n > 2):
        reason = "as many as rows" if len(categories) == n else f"more than {MAX_CATEGORIES}"
        kind, mend = f"is text with {len(categories)} distinct values, {reason}", "or group its values"
        if all(_DATE.match(cell) for cell in categories):
            kind, mend = f"holds dates ({column.text[0]!r})", "or write numbers in its place, such as days or the month"
        raise TableError(f"column {column.name!r} {kind}; leave it out with --drop {shlex.quote(column.name)} {mend}.")
    trained = set(column.text[rows].tolist())
    if len(trained) == 1:
        return Feature(column.name, categories), [
            f"Column {column.name!r} is constant in the training rows and was left out."
        ]
    encoded = categories[1:] if len(categories) == 2 else tuple(c for c in categories if c in trained)
    each = "one input" if len(categories) == 2 else "one input each"
    notes = [f"Column {column.name!r} is text: {len(categories)} categories, {each}."]
    if absent := [c for c in categories if c not in trained]:
        notes = [
            f"Column {column.name!r} is text: {len(categories)} categories, "
            f"of which {listing(absent)} in held-out rows only; no input was made for it."
        ]
    return Feature(column.name, categories, encoded), notes
