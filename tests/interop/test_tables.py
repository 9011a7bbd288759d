"""Tables from files: what is read, and the one sentence for each kind of bad file."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest

from cvxnn.interop.tables import Column, Table, TableError, read_table


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def contents(table: Table) -> dict[str, list]:
    return {c.name: (c.text if c.values is None else c.values).tolist() for c in table.columns}


EXPECTED = {"age": [31.0, 47.5], "city": ["Bern", "Graz, old town"], "y": [1.0, -2e3]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comma.csv", 'age,city,y\n31,Bern,1\n47.5,"Graz, old town",-2e3\n'),
        ("semicolon.csv", "age;city;y\n31;Bern;1\n47.5;Graz, old town;-2e3\n"),
        ("tab.csv", "age\tcity\ty\n31\tBern\t1\n47.5\tGraz, old town\t-2e3\n"),
        ("tab.tsv", "age\tcity\ty\n31\tBern\t1\n47.5\tGraz, old town\t-2e3"),
        ("crlf.csv", 'age,city,y\r\n31,Bern,1\r\n47.5,"Graz, old town",-2e3\r\n'),
        ("bom.csv", codecs.BOM_UTF8.decode() + 'age,city,y\n31,Bern,1\n47.5,"Graz, old town",-2e3\n'),
        ("blank.csv", '\nage,city,y\n\n31,Bern,1\n47.5,"Graz, old town",-2e3\n\n\n'),
        ("spaces.csv", 'age , city,y \n 31, Bern ,1\n47.5,"Graz, old town", -2e3 \n'),
        ("UPPER.CSV", 'age,city,y\n31,Bern,1\n47.5,"Graz, old town",-2e3\n'),
    ],
)
def test_text_tables_agree(tmp_path, name, text):
    assert contents(read_table(write(tmp_path / name, text))) == EXPECTED


def test_quoted_header_does_not_mislead_the_delimiter(tmp_path):
    table = read_table(write(tmp_path / "t.csv", '"a;b;c;d",y\n1,2\n'))
    assert table.names == ("a;b;c;d", "y")


def test_quoted_line_breaks_and_quotes(tmp_path):
    table = read_table(write(tmp_path / "t.csv", 'a,b\n"two\nlines",1\n"say ""hi""",2\n'))
    assert table["a"].text.tolist() == ["two\nlines", 'say "hi"']


def test_one_column_keeps_empty_cells_inside_and_drops_them_at_the_end(tmp_path):
    column = read_table(write(tmp_path / "t.csv", "x\n1\n\n3\n\n")).columns[0]
    assert column.text.tolist() == ["1", "", "3"]
    assert column.n_missing == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has a header but no rows"),
        ("a,b\n1,2\n3\n", "line 3 of .* has 1 cells; the header has 2"),
        ("a,b\n1,2,3\n", "line 2 of .* has 3 cells; the header has 2"),
        ("1,2.5\n3,4\n", "first line of .* holds only numbers; a header"),
        ("a,b,a\n1,2,3\n", "more than one column named 'a'"),
        (",a,b\n0,1,2\n", "column 1 of .* has no name .*index=False"),
        ('a,b\n1,"2\n', "not a readable CSV file"),
        ("a,b\n1," + "9" * 200_000 + "\n", "not a readable CSV file"),
    ],
)
def test_bad_text(tmp_path, text, message):
    with pytest.raises(TableError, match=message):
        read_table(write(tmp_path / "t.csv", text))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_refused(tmp_path, encoding):
    with pytest.raises(TableError, match="is not UTF-8 text"):
        read_table(write(tmp_path / "t.csv", "größe,b\n1,2\n", encoding))


def test_paths(tmp_path):
    with pytest.raises(TableError, match=r"nothere\.csv does not exist"):
        read_table(tmp_path / "nothere.csv")
    with pytest.raises(TableError, match="is not a file"):
        read_table(tmp_path)
    with pytest.raises(TableError, match=r"has the ending '\.xlsx'; tables are read from"):
        read_table(write(tmp_path / "t.xlsx", "a,b\n"))


MISSING_CELLS = ["", "NA", "N/A", "n/a", "n.a.", "#N/A", "<NA>", "nan", "NaN", "NaT", "NULL", "null", "None", "?", "-"]


@pytest.mark.parametrize("cell", [*MISSING_CELLS, "none", ".", "  ", "-nan"])
def test_missing_cells_are_counted_not_read_as_text(tmp_path, cell):
    table = read_table(write(tmp_path / "t.csv", f"age,city,y\n1,a,1\n{cell},b,2\n{cell},{cell},3\n"))
    assert [column.n_missing for column in table.columns] == [2, 0 if cell == "-nan" else 1, 0]
    with pytest.raises(TableError, match="column 'age' has 2 missing values"):
        table.require(["age", "city"])
    table.require(["y"])


@pytest.mark.parametrize("cell", ["missing", "#DIV/0!", "1e5x", "1_0"])
def test_numbers_spoiled_by_a_few_cells_are_refused(tmp_path, cell):
    """The line is that of the file: blank lines and quoted line breaks before it count."""
    table = read_table(write(tmp_path / "t.csv", f'my age,c,y\n\n1,"two\nlines",1\n2,b,2\n{cell},c,3\n4,d,4\n'))
    table.refuse_spoiled_numbers(["c", "y"])
    sentence = f"column 'my age' holds numbers except for 1 cell ({cell!r}, line 6): correct it"
    with pytest.raises(TableError) as error:
        table.refuse_spoiled_numbers(["my age"])
    assert str(error.value) == f"{sentence}, or leave the column out with --drop 'my age'."
    with pytest.raises(TableError) as error:
        table.refuse_spoiled_numbers(["my age"], droppable=False)
    assert str(error.value) == f"{sentence}."


def test_text_with_some_numbers_is_text_and_half_is_the_limit():
    Table("t.csv", (Column.from_text("c", ["1", "a", "b"]),)).refuse_spoiled_numbers(["c"])
    with pytest.raises(TableError, match=r"except for 2 cells \('a', row 2\): correct them, or"):
        Table("t.csv", (Column.from_text("c", ["1", "a", "2", "b"]),)).refuse_spoiled_numbers(["c"])


def test_lines_of_empty_cells_in_one_column(tmp_path):
    assert list(read_table(write(tmp_path / "t.csv", "x\na\n\n\nb\n\n")).columns[0].lines) == [2, 3, 4, 5]


def test_words_that_stand_for_missing_values_are_shown():
    """A category may well be called "none"."""
    columns = (Column.from_text("heating", ["gas", "none", "None", ""]), Column.from_text("age", ["", "?", "nan", "1"]))
    with pytest.raises(TableError) as error:
        Table("t.csv", columns).require(["heating", "age"])
    assert str(error.value).startswith(
        "column 'heating' has 3 missing values (written 'None', 'none'), column 'age' has 3 missing values: fill"
    )


def test_every_column_with_missing_cells_is_named():
    table = Table("t.csv", tuple(Column.from_text(f"c{k}", ["1", "?"]) for k in range(7)))
    with pytest.raises(TableError, match=r"column 'c0' has 1 missing value, .*'c4'.*, and 2 more columns: fill"):
        table.require(table.names)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400"])
def test_infinite_cells_are_refused(tmp_path, cell):
    table = read_table(write(tmp_path / "t.csv", f"x,y\n1,2\n{cell},3\n"))
    with pytest.raises(TableError, match="column 'x' has 1 infinite value"):
        table.require(["x"])


def test_underscores_are_text():
    assert Column.from_text("id", ["1_000", "2_000"]).values is None


def test_lacking_columns_are_named():
    table = Table("t.csv", (Column.from_text("a", ["1"]),))
    with pytest.raises(TableError, match=r"t\.csv lacks the columns 'b', 'c'; its columns are 'a'"):
        table.require(["a", "b", "c"])
    with pytest.raises(TableError, match="has no column 'z'"):
        table["z"]


def test_npz(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.arange(6, dtype=np.float32).reshape(3, 2), y=np.array([[0], [1], [1]]))
    assert contents(read_table(tmp_path / "t.npz")) == {"x0": [0, 2, 4], "x1": [1, 3, 5], "y": [0, 1, 1]}
    np.savez(tmp_path / "labels.npz", X=np.eye(2, dtype=bool), y=np.array(["no", "yes"]))
    assert contents(read_table(tmp_path / "labels.npz")) == {"x0": [1, 0], "x1": [0, 1], "y": ["no", "yes"]}
    np.savez(tmp_path / "nan.npz", X=np.array([[1.0, np.nan]]))
    assert [c.n_missing for c in read_table(tmp_path / "nan.npz").columns] == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Z": np.eye(2)}, "has no array named 'X'"),
        ({"X": np.ones(3)}, "must be a table of numbers"),
        ({"X": np.array([["a"]])}, "must be a table of numbers"),
        ({"X": np.ones((2, 0))}, "must be a table of numbers"),
        ({"X": np.eye(2), "y": np.ones(3)}, "each of the 2 rows"),
        ({"X": np.eye(2), "y": np.array([1j, 2])}, "each of the 2 rows"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t.npz")


def test_npz_with_pickled_objects_or_garbage_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", X=np.array([[object()]], dtype=object), allow_pickle=True)
    (tmp_path / "garbage.npz").write_bytes(b"\x80\x04garbage")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "whole.npz", X=np.ones((50, 50)))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:900])
    for name in ("object", "garbage", "empty", "half"):
        with pytest.raises(TableError, match="not a readable NPZ file"):
            read_table(tmp_path / f"{name}.npz")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "i": pyarrow.array([1, 2]),
        "f": pyarrow.array([0.5, None]),
        "s": pyarrow.array(["a", "b"]),
        "d": pyarrow.array(["u", "v"]).dictionary_encode(),
        "b": pyarrow.array([True, False]),
        "big": pyarrow.array([2**60 + 1, 2**60 + 2]),
        "when": pyarrow.array([0, 1], type=pyarrow.timestamp("s")),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    read = contents(table)
    assert (read["i"], read["s"], read["d"], read["b"]) == ([1, 2], ["a", "b"], ["u", "v"], ["True", "False"])
    assert table["f"].n_missing == 1
    assert table["big"].text.tolist() == [str(2**60 + 1), str(2**60 + 2)]
    with pytest.raises(TableError, match=r"column 'when' of .* is of type timestamp"):
        table.require(["when"])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(TableError, match="not a readable Parquet file"):
        read_table(tmp_path / "bad.parquet")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r'pip install "cvxnn\[parquet\]"'):
        read_table(write(tmp_path / "t.parquet", "PAR1"))
