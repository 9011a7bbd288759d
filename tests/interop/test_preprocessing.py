"""Encoding of columns and targets against scikit-learn and against hand-made answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cvxnn.interop.preprocessing import Feature, Preprocessing, content_hash, split_rows
from cvxnn.interop.tables import Column, Table, TableError
from cvxnn.interop.targets import Target


def table(**columns: list) -> Table:
    made = (Column.from_text(name, [str(cell) for cell in cells]) for name, cells in columns.items())
    return Table("t.csv", tuple(made))


def everything(source: Table, **options: bool) -> Preprocessing:
    return Preprocessing.fit(source, source.names, np.arange(source.n_rows), **options)[0]


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    numbers = rng.normal(3.0, 50.0, (40, 2))
    colours, flags = rng.choice(["red", "green", "blue"], 40), rng.choice(["yes", "no"], 40)
    source = table(
        a=[repr(float(v)) for v in numbers[:, 0]],
        colour=list(colours),
        b=[repr(float(v)) for v in numbers[:, 1]],
        flag=list(flags),
    )
    rows = np.arange(25)
    preprocessing, notes = Preprocessing.fit(source, source.names, rows)
    scaled = StandardScaler().fit(numbers[rows]).transform(numbers)
    hot = OneHotEncoder(drop="if_binary", sparse_output=False).fit_transform(np.column_stack([colours, flags]))
    expected = np.column_stack([scaled[:, 0], hot[:, :3], scaled[:, 1], hot[:, 3], np.ones(40)])
    np.testing.assert_allclose(preprocessing.transform(source), expected, rtol=1e-12, atol=1e-12)
    assert [note.split(":")[0] for note in notes] == ["Column 'colour' is text", "Column 'flag' is text"]
    assert preprocessing.inputs == ("a", "colour=blue", "colour=green", "colour=red", "b", "flag=yes")


def test_switches():
    source = table(a=[1, 2, 6])
    bare = everything(source, intercept=False, standardize=False)
    np.testing.assert_array_equal(bare.transform(source), [[1], [2], [6]])
    assert everything(source, standardize=False).transform(source).shape == (3, 2)


def test_columns_are_found_by_name():
    source = table(a=[1, 2, 3], b=["u", "v", "u"])
    preprocessing = everything(source)
    shuffled = table(extra=["?", "x", "y"], b=["u", "v", "u"], a=[1, 2, 3])
    np.testing.assert_array_equal(preprocessing.transform(shuffled), preprocessing.transform(source))


def test_constants_are_dropped_with_a_note():
    source = table(a=[1, 2, 3], zero=[0, 0, 0], word=["x", "x", "x"], late=[5, 5, 6], rare=["p", "q", "r"])
    source = Table("t.csv", tuple(c for c in source.columns if c.name != "rare"))
    preprocessing, notes = Preprocessing.fit(source, source.names, np.array([0, 1]))
    assert preprocessing.names == ("a",)
    assert [note.split("'")[1] for note in notes] == ["zero", "word", "late"]
    with pytest.raises(TableError, match="no column left to learn from"):
        everything(table(a=[1, 1], b=["x", "x"]))


def test_category_of_held_out_rows_only():
    source = table(c=["p", "q", "p", "q", "r", "p"])
    preprocessing, notes = Preprocessing.fit(source, ["c"], np.array([0, 1, 2, 3]), intercept=False)
    assert preprocessing.inputs == ("c=p", "c=q")
    np.testing.assert_array_equal(preprocessing.transform(source)[4], [0, 0])
    assert "'r' in held-out rows only" in notes[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (table(c=[f"w{k % 60}" for k in range(200)]), "60 distinct values, more than 50; leave it out with --drop c"),
        (table(c=["p", "q", "r"]), "3 distinct values, as many as rows"),
        (
            Table("t.csv", (Column.from_text("first day", ["2024-05-03", "2024-05-04", "2024-06-01"]),)),
            r"'first day' holds dates \('2024-05-03'\); leave it out with --drop 'first day' or write numbers",
        ),
        (table(c=["1,5", "2,25", "1,5"]), r"decimal commas \('1,5'\)"),
        (table(c=["15", "2,25", "15"]), r"decimal commas \('2,25'\)"),
        (table(c=["1", "1e5x", "2"]), r"except for 1 cell \('1e5x', row 2\): correct it, or .* --drop c\."),
        (table(c=["1", "", "2"]), "column 'c' has 1 missing value.*--drop COLUMN"),
        (table(c=["1e150", "1", "2"]), "entry of size 1.0e.150"),
    ],
)
def test_refusals(source, message):
    with pytest.raises(TableError, match=message):
        everything(source)


def test_refusals_after_training():
    source = table(n=[1, 2, 3], c=["u", "v", "u"])
    preprocessing = everything(source)
    with pytest.raises(TableError, match=r"column 'c' of t\.csv holds 'w', which did not .*known values are 'u', 'v'"):
        preprocessing.transform(table(n=[1], c=["w"]))
    with pytest.raises(TableError, match=r"column 'n' of t\.csv must hold numbers; it holds 'many'"):
        preprocessing.transform(table(n=["1", "many"], c=["u", "v"]))
    with pytest.raises(TableError, match="lacks the column 'c'"):
        preprocessing.transform(table(n=[1]))


def test_categories_that_look_like_numbers_stay_text():
    source = table(c=["1", "2", "x", "x", "x"])
    np.testing.assert_array_equal(
        everything(source, intercept=False).transform(table(c=["2", "1"])), [[0, 1, 0], [1, 0, 0]]
    )


@pytest.mark.parametrize(
    ("values", "noted"),
    [
        (np.arange(30), True),
        (np.random.default_rng(0).permutation(40)[:30] + 1, True),  # shuffled, and some rows removed
        (np.arange(30) + 1990, False),
        (np.arange(30) - 1, False),
        (np.arange(30) + 0.5, False),
        (np.r_[0, np.arange(29)], False),
        (np.arange(20), False),
    ],
)
def test_a_column_that_numbers_the_rows_has_a_note(values, noted):
    source = table(number=values.tolist())
    preprocessing, notes = Preprocessing.fit(source, source.names, np.arange(len(values)))
    assert preprocessing.names == ("number",)
    assert notes == (
        (
            "Column 'number' holds a whole number of its own in each row: is it the number of the row? "
            "--drop number leaves it out.",
        )
        if noted
        else ()
    )


def test_each_column_of_text_has_a_note():
    source = table(n=[1, 2, 3, 4], two=["a", "b", "a", "b"], ocean=["NEAR", "INLAND", "BAY", "BAY"])
    preprocessing, notes = Preprocessing.fit(source, source.names, np.arange(4))
    assert notes == (
        "Column 'two' is text: 2 categories, one input.",
        "Column 'ocean' is text: 3 categories, one input each.",
    )
    assert len(preprocessing.inputs) == 5


@pytest.mark.parametrize("scale", [1e-160, 1e-8, 1.0, 1e8, 1e90])
def test_standardisation_at_every_scale(scale):
    source = table(a=[repr(scale * v) for v in (1.0, 2.0, 4.0)])
    X = everything(source, intercept=False).transform(source)
    np.testing.assert_allclose([X.mean(), X.std()], [0.0, 1.0], atol=1e-9)


def test_to_dict_is_json():
    source = table(n=[1, 2, 3], c=["u", "ü", "u"])
    record = json.loads(json.dumps(everything(source).to_dict()))
    assert record["features"] == [{"name": "n"}, {"name": "c", "categories": ["u", "ü"], "encoded": ["ü"]}]


def test_regression_target_round_trip():
    column = Column.from_text("y", ["10", "20", "60"])
    target = Target.regression(column, np.arange(3), "t.csv", standardize=True)
    encoded = target.encode(column, "t.csv")
    np.testing.assert_allclose([encoded.mean(), encoded.std()], [0, 1], atol=1e-15)
    np.testing.assert_allclose(target.decode(encoded), [10, 20, 60])
    with pytest.raises(TableError, match=r"the target 'y' is constant in the training rows \(10\)"):
        Target.regression(column, np.array([0]), "t.csv", standardize=True)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "10"], ("9", "10")),
        (["1", "0.0", "0", "1.0"], ("0.0", "1")),
        (["-1", "+1"], ("-1", "+1")),
        (["c", "a", "b"], ("a", "b", "c")),
        (["x", "1", "2"], ("1", "2", "x")),
    ],
)
def test_labels_are_kept_as_written(cells, classes):
    column = Column.from_text("y", cells)
    target = Target.classification(column)
    assert target.classes == classes
    codes = target.encode(column, "t.csv")
    one_hot = np.eye(len(classes))[codes.astype(int)]
    decoded = target.decode(one_hot if len(classes) > 2 else one_hot[:, 1] - 0.5)
    same = [a == b or float(a) == float(b) for a, b in zip(decoded, cells, strict=True)]
    assert all(same)
    for output in range(target.n_outputs):
        positive = 1 if len(classes) == 2 else output
        np.testing.assert_array_equal(target.targets(codes, output), np.where(codes == positive, 1.0, -1.0))


def test_unknown_label():
    target = Target.classification(Column.from_text("y", ["a", "b"]))
    with pytest.raises(TableError, match="holds 'c'; this model knows 'a', 'b'"):
        target.encode(Column.from_text("y", ["a", "c"]), "t.csv")
    with pytest.raises(TableError, match="one value only"):
        Target.classification(Column.from_text("y", ["a", "a"]))
    with pytest.raises(TableError, match="60 distinct values"):
        Target.classification(Column.from_text("y", [f"w{k}" for k in range(60)]))


@given(
    n=st.integers(4, 60),
    test_size=st.floats(0, 0.5),
    seed=st.integers(0, 5),
    k=st.integers(1, 4),
    labelled=st.booleans(),
)
def test_split_is_a_partition_and_stratified(n, test_size, seed, k, labelled):
    labels = (np.arange(n) % k).astype(float)
    train, test = split_rows(n, test_size, seed, labels if labelled else None)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(n))
    again = split_rows(n, test_size, seed, labels if labelled else None)
    np.testing.assert_array_equal(train, again[0])
    if labelled:
        for label in range(min(k, n)):
            size, held = np.sum(labels == label), np.sum(labels[test] == label)
            assert held < size
            assert abs(held - test_size * size) <= 1.0
    else:
        assert abs(len(test) - test_size * n) <= 0.5 + 1e-9


def test_split_without_test_rows_and_too_few_rows():
    train, test = split_rows(5, 0.0, 0)
    np.testing.assert_array_equal(train, np.arange(5))
    assert len(test) == 0
    with pytest.raises(TableError, match="leave 1 for training"):
        split_rows(2, 0.5, 0)


def test_content_hash_knows_content_only():
    source = table(a=["1", "2.50"], c=["u", "v"], y=["3", "4"])
    features = (Feature("a"), Feature("c", ("u", "v"), ("v",)))
    reference = content_hash(source, features, source["y"])
    same = table(y=["3.0", "4"], other=["?", "?"], c=["u", "v"], a=["1.0", "2.5"])
    assert content_hash(same, features, same["y"]) == reference
    for change in ({"a": ["1", "2.6"]}, {"c": ["v", "u"]}, {"y": ["3", "5"]}):
        other = table(**{"a": ["1", "2.50"], "c": ["u", "v"], "y": ["3", "4"], **change})
        assert content_hash(other, features, other["y"]) != reference
    joined, apart = (content_hash(table(c=cells), features[1:]) for cells in (["uv", ""], ["u", "v"]))
    assert joined != apart
