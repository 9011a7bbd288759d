"""``cvxnn fit``: what is solved, printed and written, and what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cvxnn.cli._training as training
from cvxnn import Problem, Status, solve
from cvxnn.cli._common import shell_words
from cvxnn.interop.model_file import load_model, save_model
from cvxnn.interop.tables import read_table
from tests.cli.conftest import write_table

TOL = 1e-4


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass"])
def test_record_agrees_with_the_file(fitted, kind):
    out, table, record = fitted[kind]
    model = load_model(out)
    assert record["status"] == "global optimum"
    assert record["converged"] is record["certified_global"] is True
    assert 0.0 <= record["gap"] <= TOL
    assert record["lower_bound"] <= record["objective"]
    assert record["width"] == model.network.width
    assert record["beta"] == pytest.approx(0.02 * record["data"]["n_train"])
    data = record["data"]
    assert data["n_train"] + data["n_test"] == data["n_rows"] == read_table(table).n_rows
    for name in ("objective", "lower_bound", "gap", "scope", "global_lower_bound", "global_gap", "status", "n_iter"):
        assert getattr(model.certificate, name) == record[name]
    assert sum(part["objective"] for part in record["certificate"]) == pytest.approx(record["objective"], rel=1e-12)


def test_objective_is_that_of_a_hand_made_problem(fitted):
    """The whole way from the table redone by hand: split from the file, scaling, problem, solve."""
    out, path, record = fitted["regression"]
    table, n_train = read_table(path), record["data"]["n_train"]
    order = np.random.default_rng(0).permutation(table.n_rows)
    train = np.sort(order[table.n_rows - n_train :])
    bmi, y = table["bmi"].values[train], table["progression"].values[train]
    sex = np.where(table["sex"].text[train] == "m", 1.0, 0.0)
    X = np.column_stack([(bmi - bmi.mean()) / bmi.std(), sex, np.ones(n_train)])
    problem = Problem(X, (y - y.mean()) / y.std(), 0.02 * n_train)
    assert solve(problem, tol=1e-8).objective == pytest.approx(record["objective"], rel=TOL)
    assert load_model(out).network.objective(problem) == pytest.approx(record["objective"], rel=1e-10)


def test_report_for_people(cvxnn_here, cancer, tmp_path):
    out = tmp_path / "m.safetensors"
    result = cvxnn_here("fit", cancer, "--target", "diagnosis", "--alpha", 0.05, "--out", out)
    assert result.exit_code == 0
    for part in (
        "64 rows for training, 16 held out",
        "2 classes",
        "2 from 2 columns and a column of ones",
        "logistic, alpha 0.05",
        "Objective ",
        "Lower bound ",
        "tolerance 0.0001: met",
        "global: the bound holds for every network of every width",
        "Global gap ",
        " neurons",
        " s, ",
        "accuracy ",
        "on held-out rows",
        "global optimum: ",
        str(out),
    ):
        assert part in result.stdout
    assert result.stderr == ""


def test_quiet_prints_nothing(cvxnn_here, cancer, tmp_path):
    result = cvxnn_here("fit", cancer, "--target", "diagnosis", "--quiet", "--out", tmp_path / "m", "--alpha", 0.1)
    assert (result.exit_code, result.output) == (0, "")
    assert load_model(tmp_path / "m").target.name == "diagnosis"


def test_same_input_same_file(cvxnn_here, diabetes, fitted, tmp_path):
    cvxnn_here("fit", diabetes, "--target", "progression", "--alpha", "0.02", "--out", tmp_path / "m", "--quiet")
    assert (tmp_path / "m").read_bytes() == fitted["regression"][0].read_bytes()


@pytest.mark.parametrize(
    ("options", "loss", "kind"),
    [
        ([], "squared", "regression"),
        (["--loss", "huber", "--huber-delta", "0.5"], "huber", "regression"),
        (["--target", "sex", "--drop", "progression"], "logistic", "binary"),
        (["--target", "sex", "--drop", "progression", "--loss", "squared_hinge"], "squared_hinge", "binary"),
    ],
)
def test_losses(cvxnn_here, diabetes, tmp_path, options, loss, kind):
    options = options if "--target" in options else ["--target", "progression", *options]
    result = cvxnn_here("fit", diabetes, *options, "--alpha", 0.05, "--out", tmp_path / "m", "--json")
    assert result.exit_code == 0
    model = load_model(tmp_path / "m")
    assert (model.loss, model.target.kind) == (loss, kind)
    assert model.huber_delta == (0.5 if loss == "huber" else None)


@pytest.mark.parametrize(
    ("labels", "loss", "chosen", "kind"),
    [
        ([0, 1] * 10, "auto", "logistic", "binary"),
        ([0, 1] * 10, "squared", "squared", "regression"),
        ([0, 1, 2, 1] * 5, "auto", "squared", "regression"),
        ([0, 1, 2, 1] * 5, "logistic", "logistic", "multiclass"),
        (["a", "b"] * 10, "auto", "logistic", "binary"),
        (["a", "b", "c", "a"] * 5, "auto", "softmax", "multiclass"),
        ([0, 1, 2, 1] * 5, "softmax", "softmax", "multiclass"),
        (["a", "b", "c", "a"] * 5, "squared_hinge", "squared_hinge", "multiclass"),
    ],
)
def test_loss_follows_the_target(cvxnn_here, tmp_path, labels, loss, chosen, kind):
    data = write_table(tmp_path / "t.csv", {"x": [k / 7 for k in range(20)], "y": labels})
    result = cvxnn_here("fit", data, "--target", "y", "--loss", loss, "--alpha", 0.1, "--out", tmp_path / "m", "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["loss"], record["data"]["kind"]) == (chosen, kind)


def test_switches_reach_the_model(cvxnn_here, diabetes, tmp_path):
    cvxnn_here(
        "fit",
        diabetes,
        "--target",
        "progression",
        "--no-intercept",
        "--no-standardize",
        "--test-size",
        0,
        "--seed",
        3,
        "--alpha",
        50,
        "--tol",
        1e-3,
        "--out",
        tmp_path / "m",
    )
    model = load_model(tmp_path / "m")
    assert (model.preprocessing.intercept, model.preprocessing.standardized) == (False, False)
    assert (model.n_train, model.n_rows, model.test_size, model.seed, model.tol) == (60, 60, 0.0, 3, 1e-3)
    assert (model.target.mean, model.target.scale) == (0.0, 1.0)


def test_npz_parquet_and_tsv_give_the_same_network(cvxnn_here, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    columns = {"x0": X[:, 0].tolist(), "x1": X[:, 1].tolist(), "y": y.tolist()}
    np.savez(tmp_path / "t.npz", X=X, y=y)
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    write_table(tmp_path / "t.tsv", columns, "\t")
    write_table(tmp_path / "t.csv", columns, ";")
    files = []
    for ending in ("npz", "parquet", "tsv", "csv"):
        target = [] if ending == "npz" else ["--target", "y"]
        options = ("--alpha", 0.05, "--out", tmp_path / ending, "--quiet")
        result = cvxnn_here("fit", tmp_path / f"t.{ending}", *target, *options)
        assert result.exit_code == 0
        files.append((tmp_path / ending).read_bytes())
    assert len(set(files)) == 1


def test_not_converged_is_exit_1_with_the_model_written(cvxnn_here, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", X=rng.normal(size=(40, 6)), y=rng.normal(size=40))
    result = cvxnn_here("fit", tmp_path / "t.npz", "--max-iter", 1, "--tol", 1e-9, "--out", tmp_path / "m", "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == 1
    assert record["converged"] is False
    assert record["status"] == Status.MAX_ITER.value
    assert load_model(tmp_path / "m").certificate.objective == record["objective"]


def test_certify_demands_the_global_scope(cvxnn_here, diabetes, tmp_path, monkeypatch):
    """Networks confined to ten patterns: optimal among them, which is enough unless --certify asks for all networks."""
    monkeypatch.setattr(training, "solve", lambda problem, **options: solve(problem, patterns=10, **options))
    arguments = ("fit", diabetes, "--target", "progression", "--alpha", 0.02, "--out", tmp_path / "m", "--json")
    plain, certified = cvxnn_here(*arguments), cvxnn_here(*arguments, "--certify")
    for result in (plain, certified):
        record = json.loads(result.stdout)
        assert (record["scope"], record["converged"], record["certified_global"]) == ("patterns", True, False)
        assert record["gap"] <= TOL < record["global_gap"]
        assert record["global_lower_bound"] <= record["lower_bound"]
    assert (plain.exit_code, certified.exit_code) == (0, 1)
    text = cvxnn_here(*arguments[:-1]).stdout
    assert "Scope        patterns: the bound holds among networks confined to the activation patterns in use" in text
    assert "global optimum" not in text


def test_constant_columns_are_dropped_with_a_note(cvxnn_here, tmp_path):
    data = write_table(tmp_path / "t.csv", {"x": range(20), "one": [1] * 20, "y": [k % 5 for k in range(20)]})
    result = cvxnn_here("fit", data, "--target", "y", "--alpha", 0.1, "--out", tmp_path / "m")
    assert result.exit_code == 0
    assert "Column 'one' is constant in the training rows and was left out." in result.stdout


def test_text_columns_and_whole_number_targets_are_noted(cvxnn_here, tmp_path):
    columns = {"x": [k / 7 for k in range(20)], "ocean": ["a", "b", "c", "b"] * 5, "class": [0, 1, 2, 1] * 5}
    data = write_table(tmp_path / "t.csv", columns)
    arguments = ("fit", data, "--target", "class", "--alpha", 0.1, "--out", tmp_path / "m")
    note = "Target 'class' has 3 distinct whole numbers and is taken as numbers; --loss logistic takes them as classes."
    plain = cvxnn_here(*arguments).stdout
    assert f"Note         {note}\n" in plain
    assert "Note         Column 'ocean' is text: 3 categories, one input each.\n" in plain
    for loss in ("squared", "logistic"):
        assert note not in cvxnn_here(*arguments, "--loss", loss).stdout
    assert load_model(tmp_path / "m").target.classes == ("0", "1", "2")


def test_gap_met_before_the_search_ended(cvxnn_here, diabetes, tmp_path, monkeypatch):
    """Optimal among ten patterns, but stopped by the limit: the report and the exit code agree."""

    def stopped(problem, **options):
        return replace(solve(problem, patterns=10, **options), status=Status.MAX_ITER)

    monkeypatch.setattr(training, "solve", stopped)
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--alpha", 0.02, "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "(tolerance 0.0001: met among these patterns, but the search had not ended)" in result.stdout
    assert "max_iter reached: Raise --max-iter, loosen --tol or increase --alpha;" in result.stdout


def test_advice_in_the_words_of_the_command():
    for status in Status:
        assert not re.search(r"certify=|max_iter|time_limit|(?<!-)\btol\b|beta", shell_words(status.advice))
    assert "--certify" in shell_words(Status.PATTERNS_OPTIMUM.advice)
    assert "Raise --time-limit, " in shell_words(Status.TIME_LIMIT.advice)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is a notion of Linux")
def test_destination_that_takes_no_files_is_found_before_the_solve(cvxnn_here, diabetes, monkeypatch):
    monkeypatch.setattr(training, "solve", None)
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--out", "/proc/m")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: --out /proc/m cannot be written: ")
    assert result.stderr.count("\n") == 1


def test_zero_network_is_explained(cvxnn_here, diabetes, tmp_path):
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--alpha", 1e3, "--out", tmp_path / "m")
    assert result.exit_code == 0
    assert "0 neurons; the best network is zero, a smaller --alpha allows more" in result.stdout


def test_interrupt_before_any_network(cvxnn_here, diabetes, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "solve", interrupted)
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert result.stderr == "Interrupted: nothing was written.\n"
    assert list(tmp_path.iterdir()) == []


def test_interrupt_between_classes_keeps_the_first(cvxnn_here, iris, tmp_path, monkeypatch):
    calls = []

    def second_interrupted(problem, **options):
        calls.append(problem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(problem, **options)

    monkeypatch.setattr(training, "solve", second_interrupted)
    out = tmp_path / "m"
    arguments = ["--target", "kind", "--loss", "logistic", "--alpha", 0.02, "--out", out, "--json"]
    result = cvxnn_here("fit", iris, *arguments)
    record, model = json.loads(result.stdout), load_model(out)
    assert result.exit_code == 1
    assert record["status"] == "interrupted"
    assert len(calls) == 2
    zero = sum(problem.loss_value(np.zeros(problem.n_samples)) for problem in [calls[1]] * 2)
    assert record["objective"] == pytest.approx(record["certificate"][0]["objective"] + zero)
    assert record["lower_bound"] == pytest.approx(record["certificate"][0]["lower_bound"])
    assert [model.network_of(k).width > 0 for k in range(3)] == [True, False, False]


def test_interrupt_while_writing_loses_nothing(cvxnn_here, diabetes, tmp_path, monkeypatch):
    def struck(path, model):
        os.kill(os.getpid(), signal.SIGINT)
        save_model(path, model)

    monkeypatch.setattr("cvxnn.cli._fit.save_model", struck)
    handler = signal.getsignal(signal.SIGINT)
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--alpha", 0.05, "--out", tmp_path / "m")
    assert result.exit_code == 0
    assert load_model(tmp_path / "m").certificate.status == "global optimum"
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "0"], "--alpha must be a positive number; got 0"),
        (["--alpha", "nan"], "--alpha must be a positive number"),
        (["--tol", "-1"], "--tol must be a positive number"),
        (["--time-limit", "0"], "--time-limit must be a positive number"),
        (["--test-size", "1"], r"--test-size must lie in \[0, 1\); got 1"),
        (["--test-size", "nan"], "--test-size must lie in"),
        (["--test-size", "0.99"], "leave 1 for training"),
        (["--drop", "weight"], "--drop names 'weight', which"),
        (["--drop", "y"], "--drop names the target 'y'"),
        (["--drop", "x", "--drop", "z"], "has no column left besides the target"),
        (["--target", "weight"], "has no column 'weight'; its columns are 'x', 'z', 'y'"),
        (["--loss", "logistic"], "60 distinct numbers; use --loss squared"),
        (["--loss", "huber", "--target", "z"], "'z' holds text; use --loss logistic"),
        (["--max-iter", "0"], "max-iter"),
        (["--alpha", "big"], "alpha"),
        (["--loss", "cubic"], "loss"),
        (["--out", "."], "is a directory"),
        (["--out", "no/such/place/m"], "not an existing directory"),
        (["--out", "t.csv"], "is an input of this command"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(cvxnn_here, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.csv", {"x": range(60), "z": ["u", "v", "w"] * 20, "y": [k * k for k in range(60)]})
    before = (tmp_path / "t.csv").read_bytes()
    target = [] if "--target" in options else ["--target", "y"]
    result = cvxnn_here("fit", "t.csv", *target, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n,3\n4,\n,5\n", "column 'x' has 2 missing values, column 'y' has 1 missing value"),
        ("x,y\n1,2\n2,3\n3,n.a.\n", "column 'y' has 1 missing value"),
        ("x,y\n1,2\n2,3\n3x,4\n", "1 cell ('3x', line 4): correct it, or leave the column out with --drop x."),
        ("x,y\n1,2\n2,3\n3,4x\n", "column 'y' holds numbers except for 1 cell ('4x', line 4): correct it.\n"),
        ("x;y\n1;97\n2;97,5\n3;98\n", "column 'y' is written with decimal commas ('97,5')"),
        ("x,y\n1,2\n1,3\n1,4\n", "no column left to learn from"),
        ("x,y\n1,2\n2,2\n3,2\n4,2\n", "there is nothing to learn"),
        ("name,y\nann,1\nbob,2\ncyd,3\ndan,4\n", "as many as rows; leave it out with --drop name"),
        ("y\n1\n2\n", "no column left besides the target"),
        ("x,y\n1,2,3\n", "line 2 of"),
        ("", "is empty"),
    ],
)
def test_bad_tables_are_one_sentence_and_exit_2(cvxnn_here, tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    result = cvxnn_here("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_target_is_needed_except_for_npz(cvxnn_here, diabetes, tmp_path):
    result = cvxnn_here("fit", diabetes, "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert "--target COLUMN is needed; the columns of" in result.stderr
    np.savez(tmp_path / "t.npz", X=np.eye(3))
    assert "--target COLUMN is needed" in cvxnn_here("fit", tmp_path / "t.npz", "--out", tmp_path / "m").stderr


def test_max_width_limits_the_neurons_and_says_so(cvxnn_here, cancer, tmp_path):
    out = tmp_path / "m.safetensors"
    result = cvxnn_here("fit", cancer, "--target", "diagnosis", "--alpha", 0.001, "--max-width", 2, "--out", out)
    assert result.exit_code == 1
    assert load_model(out).network.width <= 2
    assert "width limit: --max-width binds" in result.stdout.replace("\n", " ")
