"""``cvxnn predict``, ``certify`` and ``info`` on the models of small fits."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

import cvxnn
from cvxnn import ReLUNetwork
from cvxnn.interop.model_file import load_model, save_model
from cvxnn.interop.tables import read_table
from tests.cli.conftest import write_table

KINDS = ["regression", "binary", "multiclass"]


def as_columns(path) -> dict[str, list[str]]:
    return {column.name: column.text.tolist() for column in read_table(path).columns}


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_equal_those_in_memory_to_the_last_digit(fitted, cvxnn_here, kind, tmp_path):
    out, table, _ = fitted[kind]
    expected = load_model(out).predict(read_table(table)).tolist()
    result = cvxnn_here("predict", out, table)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "prediction"
    assert [float(line) if kind == "regression" else line for line in lines[1:]] == expected
    cvxnn_here("predict", out, table, "--out", tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == result.stdout


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_probabilities(fitted, cvxnn_here, kind):
    out, table, _ = fitted[kind]
    model = load_model(out)
    rows = list(csv.reader(io.StringIO(cvxnn_here("predict", out, table, "--proba").stdout)))
    assert rows[0] == ["prediction", *(f"probability_{name}" for name in model.target.classes)]
    np.testing.assert_array_equal(np.array(rows[1:])[:, 1:].astype(float), model.predict_proba(read_table(table)))


@pytest.mark.parametrize("kind", KINDS)
def test_score_of_the_training_table(fitted, cvxnn_here, kind):
    out, table, record = fitted[kind]
    result = cvxnn_here("predict", out, table, "--score")
    name, value, *rest = result.stderr.split()
    n, n_train = record["data"]["n_rows"], record["data"]["n_train"]
    assert (name, rest) == (record["score"], ["on", str(n), "rows"])
    if kind != "regression":
        mixed = (record["train_score"] * n_train + record["test_score"] * (n - n_train)) / n
        assert float(value) == pytest.approx(mixed, abs=6e-5)
    assert result.stdout.splitlines()[0] == "prediction"


def test_columns_by_name(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["regression"]
    columns = as_columns(table)
    n = len(columns["bmi"])
    shuffled = {"note": [""] * n, "sex": columns["sex"], "bmi": columns["bmi"]}
    other = write_table(tmp_path / "t.tsv", shuffled, "\t")
    assert cvxnn_here("predict", out, other).stdout == cvxnn_here("predict", out, table).stdout


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"bmi": None}, [], "lacks the column 'bmi'"),
        ({"bmi": None, "sex": None}, [], "lacks the columns 'bmi', 'sex'"),
        ({"sex": "x"}, [], "column 'sex' of .* holds 'x', which did not occur in the training data"),
        ({"bmi": "heavy"}, [], "column 'bmi' of .* must hold numbers; it holds 'heavy'"),
        ({"bmi": ""}, [], "column 'bmi' has 60 missing values"),
        ({"progression": None}, ["--score"], "lacks the column 'progression'"),
        ({"progression": "?"}, ["--score"], "column 'progression' has 60 missing values"),
        ({}, ["--proba"], "probabilities need a model with the loss"),
    ],
)
def test_predict_refusals(fitted, cvxnn_here, tmp_path, change, options, message):
    out, table, _ = fitted["regression"]
    columns = as_columns(table)
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = [value] * 60
    columns = columns or {"other": list(range(60))}
    result = cvxnn_here("predict", out, write_table(tmp_path / "t.csv", columns), *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(f"Error: .*{message}.*\n", result.stderr)


def test_predict_refuses_to_overwrite_its_inputs(fitted, cvxnn_here):
    out, table, _ = fitted["regression"]
    for path in (out, table):
        before = path.read_bytes()
        assert cvxnn_here("predict", out, table, "--out", path).exit_code == 2
        assert path.read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_certify_reproduces_the_training_rows_and_proves_again(fitted, cvxnn_here, kind):
    out, table, record = fitted[kind]
    result = cvxnn_here("certify", out, table, "--json")
    proof = json.loads(result.stdout)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert proof["training_data"] is proof["certified_global"] is True
    assert proof["n"] == record["data"]["n_train"]
    assert proof["objective"] == pytest.approx(record["objective"], rel=1e-9)
    assert proof["scope"] == "global"
    assert proof["gap"] <= proof["tol"] == 1e-4
    assert proof["lower_bound"] <= record["objective"]
    assert proof["dual_norm_attained_over_beta"] <= proof["dual_norm_bound_over_beta"]
    text = cvxnn_here("certify", out, table)
    assert (text.exit_code, "Verdict      certified: no network of any width" in text.stdout) == (0, True)


def test_certify_ignores_format_order_and_other_columns(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["regression"]
    columns = as_columns(table)
    renamed = {"z": [""] * 60, "outcome": columns["progression"], "sex": columns["sex"], "bmi": columns["bmi"]}
    other = write_table(tmp_path / "t.tsv", renamed, "\t")
    proof = json.loads(cvxnn_here("certify", out, other, "--target", "outcome", "--json").stdout)
    assert proof["training_data"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_certify_on_other_data_warns_and_judges_all_rows(fitted, cvxnn_here, kind, tmp_path):
    out, table, record = fitted[kind]
    columns = {name: cells[1:] for name, cells in as_columns(table).items()}
    other = write_table(tmp_path / "t.csv", columns)
    result = cvxnn_here("certify", out, other, "--json")
    proof = json.loads(result.stdout)
    n = record["data"]["n_rows"] - 1
    assert result.exit_code == 1
    assert result.stderr.startswith("Warning: these are not the data that the network was trained on")
    assert (proof["training_data"], proof["n"], proof["stored_objective"]) == (False, n, None)
    assert proof["beta"] == pytest.approx(0.02 * n)
    assert proof["lower_bound"] < proof["objective"]


def test_certify_believes_weights_not_claims(fitted, cvxnn_here, tmp_path):
    """A worse network under a certificate that claims the optimum is found out."""
    out, table, record = fitted["regression"]
    model = load_model(out)
    worse = replace(model, network=ReLUNetwork(0.9 * model.network.W, model.network.a))
    save_model(tmp_path / "m", worse)
    result = cvxnn_here("certify", tmp_path / "m", table)
    assert result.exit_code == 1
    assert f"(the file claims {record['objective']:.9g})" in result.stdout
    assert "Verdict      not certified: adding a neuron lowers the objective" in result.stdout
    proof = json.loads(cvxnn_here("certify", tmp_path / "m", table, "--json").stdout)
    assert proof["lower_bound"] <= record["objective"] * (1 + 1e-9)
    assert proof["objective"] > record["objective"] * (1 + 1e-4)
    assert proof["gap"] > 1e-4


def test_certify_of_the_zero_network(cvxnn_here, diabetes, tmp_path):
    out = tmp_path / "m"
    assert cvxnn_here("fit", diabetes, "--target", "progression", "--alpha", 1e3, "--out", out).exit_code == 0
    result = cvxnn_here("certify", out, diabetes, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["dual_norm_attained_over_beta"] < 1.0


def test_certify_refusals(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["binary"]
    columns = as_columns(table)
    columns["diagnosis"][0] = "unclear"
    other = write_table(tmp_path / "t.csv", columns)
    assert "holds 'unclear'; this model knows 'benign', 'malignant'" in cvxnn_here("certify", out, other).stderr
    assert cvxnn_here("certify", out, other).exit_code == 2
    del columns["diagnosis"]
    assert "lacks the column 'diagnosis'" in cvxnn_here("certify", out, write_table(other, columns)).stderr
    assert "--time-limit must be a positive number" in cvxnn_here("certify", out, table, "--time-limit", -1).stderr


def test_certify_refuses_scales_without_a_bound(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["regression"]
    columns = as_columns(table)
    columns["progression"][0] = "1e100"
    other = write_table(tmp_path / "t.csv", columns)
    for command in (["certify", out, other], ["report", out, other, "-o", tmp_path / "r.html", "--certify", 1]):
        result = cvxnn_here(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.search("Error: beta is .*, too small beside data, targets and weights of this scale", result.stderr)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_info(fitted, cvxnn_here, kind):
    out, _, record = fitted[kind]
    shown = json.loads(cvxnn_here("info", out, "--json").stdout)
    assert shown["certificate"]["objective"] == record["objective"]
    assert shown["width"] == record["width"]
    assert shown["target"]["classes"] == record["data"]["classes"]
    text = cvxnn_here("info", out)
    assert text.exit_code == 0
    assert shown["table_hash"] in text.stdout


@pytest.mark.parametrize("command", [["predict"], ["certify"], ["info"]])
def test_bad_model_files(fitted, cvxnn_here, tmp_path, command):
    out, table, _ = fitted["regression"]
    (tmp_path / "m").write_bytes(out.read_bytes()[:100])
    data = [] if command == ["info"] else [table]
    cases = ((tmp_path / "m", "or is truncated"), (table, "not a model file"), (tmp_path / "0", "does not exist"))
    for path, message in cases:
        result = cvxnn_here(*command, path, *data)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr


def test_version(cvxnn_here):
    assert cvxnn_here("--version").stdout == f"cvxnn {cvxnn.__version__}\n"
