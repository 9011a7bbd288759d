"""The commands with the relatives of the ReLU network: fit, predict, certify and info agree with Python."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cvxnn import Problem, landscape, solve
from cvxnn.interop import load_model
from cvxnn.interop.tables import read_table

CASES = {
    "gated": ["--gates", "15"],
    "batch-norm": [],
    "polynomial": ["--coefficients", "0.5", "1", "0"],
    "parallel": ["--depth", "3", "--sub-width", "1"],
}


@pytest.fixture(scope="module")
def trained(folder, diabetes, environment) -> dict:
    from typer.testing import CliRunner

    from cvxnn.cli import app

    made = {}
    for name, options in CASES.items():
        out = folder / f"{name}.safetensors"
        arguments = ["fit", diabetes, "--target", "progression", "--drop", "sex", "--architecture", name, *options]
        result = CliRunner().invoke(app, [*map(str, arguments), "--alpha", "0.02", "--out", str(out), "--json"])
        assert result.exit_code == 0, result.output
        made[name] = (out, json.loads(result.stdout))
    return made


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_what_python_trains(trained, diabetes, name):
    path, record = trained[name]
    model, table = load_model(path), read_table(diabetes)
    encoded = model.target.encode_table(table)
    X = model.preprocessing.transform(table)
    assert X.shape[1] == (1 if name == "batch-norm" else 2)
    certificate = landscape.certify(
        Problem(*_training_rows(model, table), beta=model.beta),
        model.network,
        architecture=model.architecture,
        tol=1e-3,
    )
    assert certificate.objective == pytest.approx(record["objective"], rel=1e-12)
    assert certificate.gap <= 1e-3
    problem = Problem(*_training_rows(model, table), beta=model.beta)
    assert solve(problem, architecture=model.architecture).objective == pytest.approx(record["objective"], rel=1e-3)
    assert record["scope"] == ("patterns" if name == "gated" else "global")
    assert record["certified_global"] is (name != "gated")
    assert record["converged"] is True
    assert len(encoded) == record["data"]["n_rows"]


def _training_rows(model, table):
    from cvxnn.interop.preprocessing import split_rows

    rows, _ = split_rows(table.n_rows, model.test_size, model.seed)
    return model.preprocessing.transform(table)[rows], model.target.encode_table(table)[rows]


@pytest.mark.parametrize("name", CASES)
def test_predict_certify_and_info(trained, diabetes, cvxnn_here, name):
    path, record = trained[name]
    model = load_model(path)
    lines = cvxnn_here("predict", path, diabetes).stdout.split()
    np.testing.assert_allclose([float(line) for line in lines[1:]], model.predict(read_table(diabetes)), rtol=1e-12)
    result = cvxnn_here("certify", path, diabetes, "--json")
    proof = json.loads(result.stdout)
    assert result.exit_code == 0
    assert proof["training_data"] is True and proof["certified"] is True
    assert proof["objective"] == pytest.approx(record["objective"], rel=1e-12)
    assert proof["scope"] == record["scope"]
    assert proof["certified_global"] is (name != "gated")
    assert proof["is_global"] is (None if name == "gated" else True)
    shown = cvxnn_here("info", path).stdout
    assert repr(model.architecture) in shown
    told = json.loads(cvxnn_here("info", path, "--json").stdout)["architecture"]
    assert told["kind"] == name.replace("-", "_")
    report = cvxnn_here("certify", path, diabetes).stdout
    assert ("certified among these gates" in report) == (name == "gated")


def test_two_classes(cvxnn_here, cancer, tmp_path):
    out = tmp_path / "m.safetensors"
    options = ["--architecture", "polynomial", "--alpha", "0.01", "--out", out]
    fit = cvxnn_here("fit", cancer, "--target", "diagnosis", *options)
    assert fit.exit_code == 0
    assert "Polynomial(a=0.09, b=0.5, c=0.47)" in fit.stdout
    lines = cvxnn_here("predict", out, cancer, "--proba").stdout.splitlines()
    assert lines[0] == "prediction,probability_benign,probability_malignant"
    assert sum(map(float, lines[1].split(",")[1:])) == pytest.approx(1.0)


def test_weights_that_were_changed_are_judged_as_they_are(trained, diabetes, cvxnn_here, tmp_path):
    from safetensors import safe_open

    path, _ = trained["polynomial"]
    with safe_open(str(path), framework="np") as stream:
        metadata = stream.metadata()
    tensors = load_file(path)
    tensors["alpha"] = 1.5 * tensors["alpha"]
    save_file(tensors, tmp_path / "worse.safetensors", metadata)
    result = cvxnn_here("certify", tmp_path / "worse.safetensors", diabetes, "--json")
    proof = json.loads(result.stdout)
    assert result.exit_code == 1
    assert proof["is_global"] is proof["certified"] is False
    assert proof["best_objective"] < proof["objective"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gates", "5"], "--gates is for --architecture gated."),
        (["--architecture", "gated", "--depth", "3"], "--depth is for --architecture parallel."),
        (["--architecture", "gated", "--certify"], "--certify is not for --architecture gated"),
        (["--architecture", "polynomial", "--max-width", "3"], "--max-width is for --architecture relu and batch-norm"),
        (["--architecture", "batch-norm", "--no-intercept"], "--no-intercept is not for --architecture batch-norm"),
        (["--architecture", "polynomial", "--coefficients", "0", "0", "0"], "one must not be 0"),
        (["--architecture", "parallel", "--depth", "4", "--penalty", "l21"], "is for at most three layers"),
        (["--architecture", "parallel", "--certify"], "certify"),
    ],
)
def test_what_does_not_fit_is_one_sentence(cvxnn_here, diabetes, tmp_path, options, message):
    out = tmp_path / "m.safetensors"
    result = cvxnn_here("fit", diabetes, "--target", "progression", "--out", out, *options, "--quiet")
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not out.exists()


def test_three_classes_need_the_relu_network(cvxnn_here, iris, tmp_path):
    out = tmp_path / "m.safetensors"
    result = cvxnn_here("fit", iris, "--target", "kind", "--architecture", "batch-norm", "--out", out)
    assert result.exit_code == 2
    assert "--architecture batch-norm has one output" in result.stderr and "needs 3" in result.stderr
