"""The column or columns to predict: numbers and labels as the targets of a network, and its outputs back to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cvxnn.interop.tables import Column, Table, TableError, listing

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TextArray = npt.NDArray[np.object_]
TargetKind = Literal["regression", "binary", "multiclass"]

__all__ = ["MAX_CATEGORIES", "Target", "column_numbers", "moments"]

MAX_CATEGORIES = 50
"""A column of text with more distinct values is refused: it would become as many inputs."""

_LARGEST = 1e100


@dataclass(frozen=True)
class Target:
    """The column to predict, or several columns of numbers, and how they are encoded.

    Attributes
    ----------
    name : str
    kind : {"regression", "binary", "multiclass"}
    classes : tuple of str
        Labels as written in the training data, sorted; empty for regression.
    mean, scale : float
        A regression target is ``mean + scale * output``.
    more : tuple of Target
        Further columns of numbers, each an output of its own; "regression" only.
    """

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    more: tuple[Target, ...] = ()

    @classmethod
    def regression(
        cls, column: Column, rows: IntArray, source: str, *, standardize: bool, constant: bool = False
    ) -> Target:
        """Learn the encoding of a target of numbers, standardised with the training rows.

        A target of one value only is refused unless ``constant`` is set; it cannot be standardised.
        """
        numbers = column_numbers(column, source)[rows]
        if np.all(numbers == numbers[0]) and not (constant and not standardize):
            raise TableError(
                f"the target {column.name!r} is constant in the training rows ({numbers[0]:g}); "
                + ("it cannot be standardised, use --no-standardize." if constant else "there is nothing to learn.")
            )
        mean, scale = moments(numbers) if standardize else (0.0, 1.0)
        return cls(column.name, "regression", (), mean, scale)

    @classmethod
    def classification(cls, column: Column) -> Target:
        """Learn the encoding of a target of labels, all of which are kept as written."""
        classes = _labels(column)
        if len(classes) < 2:
            raise TableError(f"the target {column.name!r} has one value only; there is nothing to learn.")
        if len(classes) > MAX_CATEGORIES:
            raise TableError(
                f"the target {column.name!r} has {len(classes)} distinct values; "
                f"up to {MAX_CATEGORIES} classes are accepted."
            )
        return cls(column.name, "binary" if len(classes) == 2 else "multiclass", classes)

    @property
    def parts(self) -> tuple[Target, ...]:
        """The target of each column."""
        return (replace(self, more=()), *self.more)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(part.name for part in self.parts)

    @property
    def shown(self) -> str:
        """Names of the columns in quotes, for a report."""
        return ", ".join(repr(name) for name in self.names)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network: one a column, or one a class from three classes on."""
        return len(self.classes) if self.kind == "multiclass" else len(self.parts)

    def encode_table(self, table: Table) -> FloatArray:
        """Encode the columns of a table, ``(n,)``, or ``(n, t)`` for several columns."""
        columns = [part.encode(table[part.name], table.source) for part in self.parts]
        return np.column_stack(columns) if self.more else columns[0]

    def encode(self, column: Column, source: str) -> FloatArray:
        """Standardised numbers ``(n,)``, or the positions of the classes ``(n,)``."""
        if self.kind == "regression":
            return (column_numbers(column, source) - self.mean) / self.scale
        known: dict[str | float, float] = {label: float(k) for k, label in enumerate(self.classes)}
        if column.values is not None and (numbers := _all_floats(self.classes)) is not None:
            known = {number: float(k) for k, number in enumerate(numbers)}
            codes = np.array([known.get(number, -1.0) for number in column.values.tolist()])
        else:
            codes = np.array([known.get(cell, -1.0) for cell in column.text])
        if np.any(codes < 0):
            cell = column.text[int(np.argmax(codes < 0))]
            raise TableError(
                f"the target {column.name!r} of {source} holds {cell!r}; this model knows {listing(self.classes)}."
            )
        return codes

    def targets(self, encoded: FloatArray, output: int = 0) -> FloatArray:
        """Targets ``(n,)`` of the problem of one output: numbers, or the labels -1 and +1."""
        if self.kind == "regression":
            return encoded[:, output] if self.more else encoded
        positive = 1 if self.kind == "binary" else output
        return np.where(encoded == positive, 1.0, -1.0)

    def joint_targets(self, encoded: FloatArray) -> FloatArray:
        """Targets ``(n, c)`` of the problem of all outputs: numbers, or rows of the unit matrix for classes."""
        if self.kind == "multiclass":
            return np.eye(len(self.classes))[encoded.astype(np.int64)]
        return encoded

    def decode(self, outputs: FloatArray) -> FloatArray | TextArray:
        """Predictions from the outputs of the network: numbers in the units of the target, or labels as written."""
        if self.more:
            return np.column_stack(
                [self.parts[k].mean + self.parts[k].scale * outputs[:, k] for k in range(self.n_outputs)]
            )
        if self.kind == "regression":
            return self.mean + self.scale * outputs
        return np.array(self.classes, dtype=object)[self.decode_positions(outputs)]

    def decode_positions(self, outputs: FloatArray) -> IntArray:
        """Position of the predicted class, ``(n,)``; ties go to the first class."""
        if self.kind == "binary":
            return (outputs > 0).astype(np.int64)
        return np.argmax(outputs, axis=1)

    def score(self, outputs: FloatArray, encoded: FloatArray) -> float | None:
        """R² for regression or accuracy for classes; None where R² is not defined (fewer than two distinct values).

        For several columns it is the mean of theirs.
        """
        if len(encoded) == 0:
            return None
        if self.kind != "regression":
            return float(np.mean(self.decode_positions(outputs) == encoded))
        total = np.sum((encoded - encoded.mean(axis=0)) ** 2, axis=0)
        return None if np.any(total == 0.0) else float(np.mean(1.0 - np.sum((encoded - outputs) ** 2, axis=0) / total))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        record = {
            "name": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "mean": self.mean,
            "scale": self.scale,
        }
        return record | ({"more": [part.to_dict() for part in self.more]} if self.more else {})


def column_numbers(column: Column, source: str) -> FloatArray:
    """Numbers of a column; TableError if it holds text, or numbers too large to be squared."""
    if column.values is None:
        wrong = next((cell for cell in column.text if Column.from_text("", [cell]).values is None), "")
        raise TableError(f"column {column.name!r} of {source} must hold numbers; it holds {wrong!r}.")
    largest = float(np.max(np.abs(column.values)))
    if largest > _LARGEST:
        raise TableError(
            f"column {column.name!r} of {source} has an entry of size {largest:.1e}; "
            f"entries up to {_LARGEST:.0e} are accepted."
        )
    return column.values


def moments(numbers: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation, without underflow of the squares."""
    mean = float(np.mean(numbers))
    centred = numbers - mean
    largest = float(np.max(np.abs(centred)))
    if largest == 0.0:
        return mean, 1.0
    return mean, largest * float(np.sqrt(np.mean((centred / largest) ** 2)))


def _all_floats(labels: Sequence[str]) -> list[float] | None:
    numbers = Column.from_text("", list(labels)).values
    return None if numbers is None else numbers.tolist()


def _labels(column: Column) -> tuple[str, ...]:
    """Distinct labels, numbers in the order of their value and each as it was first written."""
    if column.values is None:
        return tuple(sorted(set(column.text.tolist())))
    written: dict[float, str] = {}
    for number, cell in zip(column.values.tolist(), column.text.tolist(), strict=True):
        written.setdefault(number, cell)
    return tuple(written[number] for number in sorted(written))
