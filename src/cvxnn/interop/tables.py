"""Tables from files: CSV, TSV, Parquet and NPZ, with typed columns and one plain sentence for each kind of bad file."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
TextArray = npt.NDArray[np.object_]

__all__ = ["MISSING", "Column", "Table", "TableError", "read_table"]

MISSING = frozenset({"", "na", "n/a", "n.a.", "<na>", "#n/a", "nan", "nat", "null", "none", "?", "-", "."})
"""Cells of a text file that count as missing, in small letters; capitals make no difference."""

_READABLE = ".csv, .tsv, .txt, .parquet and .npz"
_LISTED = 5


class TableError(ValueError):
    """A table that cannot be used; the message is one plain sentence."""


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    text : ndarray of object (n,)
        The cells as written in the file, without surrounding blanks; numbers of a binary file in their shortest form.
    values : ndarray (n,) or None
        The cells as numbers; None unless every cell is one.
    n_missing : int
        Cells without a value.
    n_infinite : int
        Cells that are infinite as a number.
    unusable : str or None
        Why the column cannot be used at all, such as its type in a Parquet file.
    lines : sequence of int
        Line of the file in which each cell of a column of text begins; empty where the file has no lines.
    """

    name: str
    text: TextArray
    values: FloatArray | None
    n_missing: int = 0
    n_infinite: int = 0
    unusable: str | None = None
    lines: Sequence[int] = ()

    @classmethod
    def from_text(cls, name: str, cells: Sequence[str], lines: Sequence[int] = ()) -> Column:
        """Column of written cells: numeric if every cell that is not missing is a number."""
        text = np.array(cells, dtype=object)
        distinct = set(cells)
        missing = {cell for cell in distinct if cell.lower() in MISSING}
        n_missing = int(np.count_nonzero(np.isin(text, list(missing)))) if missing else 0
        values = None if missing else _as_floats(cells, distinct)
        if values is None:
            return cls(name, text, None, n_missing, lines=lines)
        return cls._finite_or_not(name, text, values)

    @classmethod
    def from_numbers(cls, name: str, numbers: npt.NDArray[Any], n_missing: int = 0) -> Column:
        """Column of numbers; NaN counts as missing."""
        text = np.array([_shortest(number) for number in numbers.tolist()], dtype=object)
        return cls._finite_or_not(name, text, numbers.astype(np.float64), n_missing)

    @classmethod
    def _finite_or_not(cls, name: str, text: TextArray, values: FloatArray, n_missing: int = 0) -> Column:
        n_missing = max(n_missing, int(np.count_nonzero(np.isnan(values))))
        n_infinite = int(np.count_nonzero(np.isinf(values)))
        return cls(name, text, None if n_missing or n_infinite else values, n_missing, n_infinite)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length, by name and in the order of the file.

    Examples
    --------
    >>> table = Table("demo.csv", (Column.from_text("age", ["31", "47"]), Column.from_text("city", ["Bern", "Graz"])))
    >>> table.names, table.n_rows, table["age"].values
    (('age', 'city'), 2, array([31., 47.]))
    """

    source: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0].text) if self.columns else 0

    def __contains__(self, name: str) -> bool:
        """Whether a column has this name."""
        return any(column.name == name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        """Column of the given name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise TableError(f"{self.source} has no column {name!r}; its columns are {listing(self.names)}.")

    def require(self, names: Sequence[str], *, advice: str = "") -> None:
        """Raise TableError unless all these columns exist and have a usable value in every row."""
        absent = [name for name in names if name not in self]
        if absent:
            word = "column" if len(absent) == 1 else "columns"
            raise TableError(
                f"{self.source} lacks the {word} {listing(absent)}; its columns are {listing(self.names)}."
            )
        used = [self[name] for name in names]
        for column in used:
            if column.unusable:
                raise TableError(f"column {column.name!r} of {self.source} {column.unusable}{advice}.")
        for kind, counts in (
            ("missing", [(c.name, c.n_missing, _written(c.text)) for c in used if c.n_missing]),
            ("infinite", [(c.name, c.n_infinite, "") for c in used if c.n_infinite]),
        ):
            if counts:
                parts = [
                    f"column {name!r} has {k} {kind} value{'s' if k > 1 else ''}{written}"
                    for name, k, written in counts[:_LISTED]
                ]
                more = f", and {len(counts) - _LISTED} more columns" if len(counts) > _LISTED else ""
                raise TableError(f"{', '.join(parts)}{more}: fill or remove them first{advice}.")

    def refuse_spoiled_numbers(self, names: Sequence[str], *, droppable: bool = True) -> None:
        """Raise TableError if one of these columns is text only because some of its numbers are badly written.

        These are numbers with a decimal comma, and cells that are no numbers in a column where at least half are.
        """
        for column in (self[name] for name in names):
            if column.values is not None or column.unusable:
                continue
            if (comma := _decimal_comma(column.text)) is not None:
                raise TableError(
                    f"column {column.name!r} is written with decimal commas ({comma!r}); write decimal points instead."
                )
            spoiled = [k for k, cell in enumerate(column.text) if not _is_number(cell)]
            if not spoiled or 2 * len(spoiled) > self.n_rows:
                continue
            first = spoiled[0]
            place = f"line {column.lines[first]}" if column.lines else f"row {first + 1}"
            count = "1 cell" if len(spoiled) == 1 else f"{len(spoiled)} cells"
            drop = f", or leave the column out with --drop {shlex.quote(column.name)}" if droppable else ""
            raise TableError(
                f"column {column.name!r} holds numbers except for {count} ({column.text[first]!r}, {place}): "
                f"correct {'it' if len(spoiled) == 1 else 'them'}{drop}."
            )


def read_table(path: str | Path) -> Table:
    """Read a table from a CSV, TSV, Parquet or NPZ file; the ending of the name decides.

    A text file needs a header line. In ``.csv`` and ``.txt`` the delimiter (comma, semicolon or tab) is read from that
    line. An NPZ file holds ``X`` (n, d), whose columns are called x0, x1, ..., and optionally ``y`` (n,).

    Raises
    ------
    TableError
        If the file is missing, unreadable, empty, ragged, without a header, or has two columns of one name.
    """
    file = Path(path)
    source = str(path)
    if not file.exists():
        raise TableError(f"{source} does not exist.")
    if not file.is_file():
        raise TableError(f"{source} is not a file.")
    readers = {
        ".csv": _read_text,
        ".txt": _read_text,
        ".tsv": _read_text,
        ".tab": _read_text,
        ".parquet": _read_parquet,
        ".pq": _read_parquet,
        ".npz": _read_npz,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise TableError(f"{source} has the ending {file.suffix!r}; tables are read from {_READABLE} files.")
    try:
        columns = reader(file, source)
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror or error}.") from error
    _check_names([column.name for column in columns], source)
    table = Table(source, tuple(columns))
    if table.n_rows == 0:
        raise TableError(f"{source} has a header but no rows.")
    return table


def listing(names: Iterable[str], most: int = 12) -> str:
    """Quoted names, shortened after ``most`` of them."""
    every = list(names)
    shown = ", ".join(repr(name) for name in every[:most])
    return f"{shown}, ... ({len(every)} in all)" if len(every) > most else shown


def _written(text: TextArray) -> str:
    """How missing values are written where that is a word, which might be meant as a category."""
    words = sorted({cell for cell in set(text.tolist()) if cell.isalpha() and cell.lower() in MISSING - {"nan", "nat"}})
    return f" (written {listing(words, 3)})" if words else ""


def _decimal_comma(text: TextArray) -> str | None:
    """First cell with a decimal comma, if all cells look like numbers written that way."""
    if not all(re.fullmatch(r"[+-]?\d+(,\d+)?", cell) for cell in text):
        return None
    return next((cell for cell in text if "," in cell), None)


def _is_number(cell: str) -> bool:
    return _as_floats([cell], {cell}) is not None


def _as_floats(cells: Sequence[str], distinct: set[str]) -> FloatArray | None:
    # Python and NumPy read "1_000" as a number; in a table it is an identifier.
    if any("_" in cell for cell in distinct):
        return None
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return None


def _shortest(number: Any) -> str:
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return str(number)


def _check_names(names: Sequence[str], source: str) -> None:
    for position, name in enumerate(names, start=1):
        if not name:
            raise TableError(
                f"column {position} of {source} has no name in the header; name it, or leave out the row index when "
                "exporting (pandas: to_csv(index=False))."
            )
    seen: set[str] = set()
    repeated = {name for name in names if name in seen or seen.add(name)}
    if repeated:
        raise TableError(f"{source} has more than one column named {listing(sorted(repeated))}; names must differ.")


def _read_text(file: Path, source: str) -> list[Column]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else _sniff(first)
            header, rows, lines = _read_rows(csv.reader(stream, delimiter=delimiter, strict=True), source)
    except UnicodeDecodeError as error:
        raise TableError(f"{source} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise TableError(f"{source} is not a readable CSV file: {error}.") from error
    if not rows:
        return [Column.from_text(name, []) for name in header]
    return [
        Column.from_text(name, [cell.strip() for cell in cells], lines)
        for name, cells in zip(header, zip(*rows, strict=True), strict=True)
    ]


def _sniff(line: str) -> Literal[",", ";", "\t"]:
    bare = re.sub(r'"[^"]*"', "", line)
    candidates: tuple[Literal[",", ";", "\t"], ...] = (",", ";", "\t")
    return max(candidates, key=bare.count)


def _read_rows(reader: Any, source: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line in which each row begins."""
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    blank: list[int] = []
    end = 0
    for row in reader:
        line, end = end + 1, reader.line_num
        if header is None:
            if any(cell.strip() for cell in row):
                header = [cell.strip() for cell in row]
                _check_header(header, source)
            continue
        if not row:
            blank.append(line)
            continue
        if len(header) == 1 and blank:
            # In a file of one column an empty line is an empty cell, unless only empty lines follow.
            rows.extend([[""]] * len(blank))
            lines.extend(blank)
        blank = []
        if len(row) != len(header):
            raise TableError(f"line {reader.line_num} of {source} has {len(row)} cells; the header has {len(header)}.")
        rows.append(row)
        lines.append(line)
    if header is None:
        raise TableError(f"{source} is empty.")
    return header, rows, lines


def _check_header(header: Sequence[str], source: str) -> None:
    try:
        numbers = [float(name) for name in header]
    except ValueError:
        return
    example = ",".join(f"x{k}" for k in range(1, min(len(numbers), 4) + 1))
    raise TableError(
        f"the first line of {source} holds only numbers; a header line with column names is needed (such as {example})."
    )


def _read_npz(file: Path, source: str) -> list[Column]:
    from zipfile import BadZipFile

    try:
        # Opened here, for np.load leaves a file of its own open when it is damaged.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("X", "y") if name in archive.files}
    except (ValueError, BadZipFile, EOFError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{source} is not a readable NPZ file of plain arrays.") from error
    if "X" not in arrays:
        raise TableError(f"{source} has no array named 'X'; an NPZ table holds X (n, d) and optionally y.")
    X = arrays["X"]
    if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "fiub":
        raise TableError(f"X in {source} must be a table of numbers (n, d); found {X.dtype} of shape {X.shape}.")
    columns = [Column.from_numbers(f"x{k}", _plain(X[:, k])) for k in range(X.shape[1])]
    if "y" not in arrays:
        return columns
    y = arrays["y"]
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim == 2 and y.shape[1] > 1 and len(y) == len(X) and y.dtype.kind in "fiub":
        return [*columns, *(Column.from_numbers(f"y{k}", _plain(y[:, k])) for k in range(y.shape[1]))]
    if y.shape != (X.shape[0],) or y.dtype.kind not in "fiubU":
        raise TableError(
            f"y in {source} must hold a number, text or row of numbers for each of the {X.shape[0]} rows of X; "
            f"found {y.dtype} of shape {y.shape}."
        )
    if y.dtype.kind == "U":
        return [*columns, Column.from_text("y", [str(cell).strip() for cell in y])]
    return [*columns, Column.from_numbers("y", _plain(y))]


def _plain(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return numbers.astype(np.int64) if numbers.dtype.kind == "b" else numbers


def _read_parquet(file: Path, source: str) -> list[Column]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise TableError(f'{source}: reading Parquet files needs pyarrow; pip install "cvxnn[parquet]".') from error
    try:
        table = parquet.ParquetFile(file).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise TableError(f"{source} is not a readable Parquet file.") from error
    names, arrays = table.column_names, table.columns
    return [_arrow_column(name, array) for name, array in zip(names, arrays, strict=True)]


def _arrow_column(name: str, array: Any) -> Column:
    import pyarrow
    from pyarrow import types

    kind = array.type
    if types.is_dictionary(kind):
        array = array.cast(kind.value_type)
        kind = array.type
    cells = array.to_pylist()
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        numbers = np.array([np.nan if cell is None else float(cell) for cell in cells], dtype=np.float64)
        if types.is_integer(kind) and array.null_count == 0:
            # Large integers keep their digits as labels.
            text = np.array([str(cell) for cell in cells], dtype=object)
            return Column(name, text, numbers)
        return Column.from_numbers(name, numbers)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or kind == pyarrow.string_view():
        return Column.from_text(name, ["" if cell is None else str(cell).strip() for cell in cells])
    empty = np.full(len(cells), "", dtype=object)
    return Column(name, empty, None, unusable=f"is of type {kind}; numbers, text and booleans are accepted")
