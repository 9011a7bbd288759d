"""Several columns to predict, and classes that share one network: fit, predict, certify, info."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cvxnn import Problem, Status, solve
from cvxnn.cli import _training as training
from cvxnn.interop import from_torch, judge_torch, load_model, to_onnx
from tests.cli.conftest import write_table

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 2)).round(6)
Y = np.column_stack([np.abs(X[:, 0]), 3.0 * X[:, 1] + 1.0]).round(6)
COLUMNS = {"x0": X[:, 0].tolist(), "up": Y[:, 0].tolist(), "x1": X[:, 1].tolist(), "down": Y[:, 1].tolist()}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("several") / "t.csv", COLUMNS)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    kind = np.array(["red", "green", "blue"])[np.argmax(X @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]), axis=1)]
    columns = {"x0": X[:, 0].tolist(), "x1": X[:, 1].tolist(), "kind": kind.tolist()}
    return write_table(tmp_path_factory.mktemp("classes") / "t.csv", columns)


def fit(run, data, out, *options, code=0):
    result = run("fit", data, *options, "--alpha", 0.05, "--out", out, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def test_several_targets_make_one_network(cvxnn_here, table, tmp_path):
    out = tmp_path / "m"
    record = fit(cvxnn_here, table, out, "--target", "up", "--target", "down", "--test-size", 0.25)
    model = load_model(out)
    assert record["data"]["targets"] == ["up", "down"]
    assert (record["loss"], record["data"]["kind"], model.network.n_outputs) == ("squared", "regression", 2)
    assert len(record["certificate"]) == 1
    assert (record["scope"], record["certified_global"]) == ("global", True)
    result = cvxnn_here("predict", out, table, "--score")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[0] == ["prediction_up", "prediction_down"]
    predicted = np.array(rows[1:], dtype=float)
    assert predicted.shape == Y.shape
    assert np.corrcoef(predicted[:, 1], Y[:, 1])[0, 1] > 0.95
    share = 1.0 - np.sum((predicted - Y) ** 2, axis=0) / np.sum((Y - Y.mean(axis=0)) ** 2, axis=0)
    assert result.stderr.startswith(f"R2 {np.mean(share):.4f} on 24 rows")
    proof = json.loads(cvxnn_here("certify", out, table, "--json").stdout)
    assert proof["training_data"] is True
    assert proof["certified_global"] is True
    assert proof["objective"] == pytest.approx(record["objective"], rel=1e-9)
    assert "Target       'up', 'down', numbers" in cvxnn_here("info", out).stdout


def test_npz_with_several_targets(cvxnn_here, table, tmp_path):
    data = tmp_path / "t.npz"
    np.savez(data, X=X, y=Y)
    record = fit(cvxnn_here, data, tmp_path / "m")
    assert record["data"]["targets"] == ["y0", "y1"]
    same = fit(cvxnn_here, table, tmp_path / "n", "--target", "up", "--target", "down")
    assert record["objective"] == pytest.approx(same["objective"], rel=1e-3)


def test_classes_share_one_network(cvxnn_here, classes, tmp_path):
    out = tmp_path / "m"
    record = fit(cvxnn_here, classes, out, "--target", "kind")
    model = load_model(out)
    assert (model.loss, model.is_joint, model.network.n_outputs) == ("softmax", True, 3)
    assert record["certified_global"] is True
    result = cvxnn_here("predict", out, classes, "--proba")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    shares = np.array([[float(row[f"probability_{name}"]) for name in ("blue", "green", "red")] for row in rows])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert [row["prediction"] for row in rows] == [("blue", "green", "red")[k] for k in shares.argmax(axis=1)]
    proof = cvxnn_here("certify", out, classes, "--json")
    assert proof.exit_code == 0
    assert [output["class"] for output in json.loads(proof.stdout)["outputs"]] == [None]
    text = cvxnn_here("fit", classes, "--target", "kind", "--alpha", 0.05, "--out", out).stdout
    assert "3 classes, one network for all" in text


def test_without_a_tight_bound_the_end_of_the_search_is_enough(cvxnn_here, classes, tmp_path, monkeypatch):
    def loose(problem, **options):
        found = solve(problem, **options)
        proof = replace(found.certificate, lower_bound=0.5 * found.objective, global_lower_bound=0.1, scope="patterns")
        return replace(found, certificate=proof, status=Status.UNPROVED)

    monkeypatch.setattr(training, "solve", loose)
    record = fit(cvxnn_here, classes, tmp_path / "m", "--target", "kind")
    assert record["status"] == "optimality not proved"
    assert (record["converged"], record["certified_global"]) == (False, False)
    assert record["gap"] == pytest.approx(0.5)
    fit(cvxnn_here, classes, tmp_path / "m", "--target", "kind", "--certify", code=1)
    text = cvxnn_here("fit", classes, "--target", "kind", "--alpha", 0.05, "--out", tmp_path / "m").stdout
    assert "optimality not proved: The search ended without a neuron" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "up", "--target", "up"], "--target names a column twice"),
        (["--target", "up", "--target", "down", "--loss", "logistic"], "--loss logistic takes one target"),
        (["--target", "up", "--target", "down", "--drop", "down"], "--drop names the target 'down'"),
        (["--target", "up", "--target", "nothing"], "nothing"),
    ],
)
def test_bad_targets(cvxnn_here, table, tmp_path, options, message):
    result = cvxnn_here("fit", table, *options, "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_bad_classes(cvxnn_here, classes, table, tmp_path):
    result = cvxnn_here("fit", classes, "--target", "kind", "--target", "x0", "--out", tmp_path / "m")
    assert "several targets must be numbers, but 'kind' holds text" in result.stderr
    two = write_table(tmp_path / "t.csv", {"x": [1.0, 2.0, 3.0, 4.0], "y": ["a", "b", "a", "b"]})
    result = cvxnn_here("fit", two, "--target", "y", "--loss", "softmax", "--out", tmp_path / "m")
    assert "--loss softmax is for three classes and more" in result.stderr
    result = cvxnn_here("landscape", classes, "--target", "kind", "--beta", 0.1, "--loss", "logistic")
    assert (result.exit_code, "one network for all needs --loss softmax" in result.stderr) == (2, True)
    fit(cvxnn_here, table, tmp_path / "m", "--target", "up", "--target", "down")
    result = cvxnn_here("certify", tmp_path / "m", table, "--target", "up")
    assert "--target names 1 columns; this model predicts 2" in result.stderr


def test_landscape_of_three_classes(cvxnn_here, tmp_path):
    rows = {"x": [-2.0, -1.5, -0.2, 0.3, 1.4, 2.2], "kind": ["low", "low", "mid", "mid", "top", "top"]}
    table = write_table(tmp_path / "three.csv", rows)
    result = cvxnn_here("landscape", table, "--target", "kind", "--beta", 0.2, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["loss"], record["unique"], "signs" in record) == ("softmax", True, False)
    assert np.sum(record["outputs"], axis=1) == pytest.approx(0.0, abs=1e-9)
    assert np.linalg.norm(record["outputs"], axis=1) == pytest.approx(1.0)
    assert len(record["outputs"]) == record["min_width"]
    shown = cvxnn_here("landscape", table, "--target", "kind", "--beta", 0.2)
    assert "softmax loss, beta 0.2" in shown.stdout and "m* = " in shown.stdout


BIASED = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()


def trained(criterion, target, outputs):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, outputs, bias=False)).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        criterion(net(torch.tensor(X)), target).backward()
        optimizer.step()
    square = sum(float((p.detach() ** 2).sum()) for p in net.parameters())
    with torch.no_grad():
        return net, float(criterion(net(torch.tensor(X)), target)) + 0.025 * square


def test_foreign_network_with_several_outputs(cvxnn_here, table, tmp_path):
    net, value = trained(nn.MSELoss(), torch.tensor(Y), 2)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    judged = judge_torch(net, X, Y, weight_decay=0.05, loss=nn.MSELoss())
    assert judged.exact
    assert judged.objective == pytest.approx(value, rel=1e-12)
    assert judged.network.objective(judged.problem) == pytest.approx(judged.scale * value, rel=1e-12)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        arguments = ["--target", "up", "--target", "down", "--weight-decay", 0.05, "--json"]
        result = cvxnn_here("certify", tmp_path / name, table, *arguments)
        record = json.loads(result.stdout)
        assert record["objective"] == pytest.approx(value, rel=1e-12)
        assert 0.0 < record["lower_bound"] <= record["best_objective"] <= value
        assert record["is_global"] is False


def test_foreign_network_with_cross_entropy(cvxnn_here, tmp_path):
    numbers = np.argmax(X @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]), axis=1)
    net, value = trained(nn.CrossEntropyLoss(), torch.tensor(numbers), 3)
    judged = judge_torch(net, X, numbers, weight_decay=0.05, loss=nn.CrossEntropyLoss())
    assert isinstance(judged.problem, Problem)
    assert (judged.problem.loss.name, judged.problem.n_outputs) == ("softmax", 3)
    assert judged.objective == pytest.approx(value, rel=1e-12)
    table = write_table(tmp_path / "t.csv", {"x0": X[:, 0].tolist(), "x1": X[:, 1].tolist(), "kind": numbers.tolist()})
    to_onnx(judged.with_ones(judged.network), tmp_path / "net.onnx", bias=True, dtype=np.float64)
    arguments = ["--target", "kind", "--loss", "cross_entropy", "--weight-decay", 0.05, "--json"]
    record = json.loads(cvxnn_here("certify", tmp_path / "net.onnx", table, *arguments).stdout)
    # The output biases of this file are zero, but networks with other ones are among those that it is compared with.
    assert (record["exact"], record["objective"]) == (False, pytest.approx(value, rel=1e-12))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    arguments = ["--target", "kind", "--loss", "cross_entropy", "--weight-decay", 0.05, "--json"]
    record = json.loads(cvxnn_here("certify", tmp_path / "net.pt", table, *arguments).stdout)
    assert record["objective"] == pytest.approx(value, rel=1e-12)
    assert 0.0 < record["lower_bound"] <= value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: judge_torch(net, X, Y[:, 0], weight_decay=0.1), "y has 1 columns but the network has 2 outputs"),
        (lambda net: judge_torch(net, X, Y, weight_decay=0.1, decay_biases=False), "free hidden biases"),
        (
            lambda net: judge_torch(net, X, np.full(24, 2), weight_decay=0.1, loss="cross_entropy"),
            "class numbers from 0 to 1, one for each output; got 2",
        ),
        (
            lambda net: judge_torch(net, X, Y, weight_decay=0.1, loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
            "has label_smoothing",
        ),
        (
            lambda net: judge_torch(
                nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
                X,
                Y[:, 0],
                weight_decay=0.1,
                loss="cross_entropy",
            ),
            "needs a network with several outputs",
        ),
        (
            lambda net: judge_torch(BIASED, X, Y, weight_decay=0.1, output_bias_decay=0.0),
            "has 2 outputs with biases; to judge it they must be decayed",
        ),
        (
            lambda net: judge_torch(
                nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)), X, Y, weight_decay=0.1
            ),
            "has 2 outputs with biases but no hidden biases",
        ),
    ],
)
def test_foreign_refusals(call, message):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
    with pytest.raises(ValueError, match=message):
        call(net)


def test_biases_of_several_outputs_are_one_more_neuron():
    net = from_torch(BIASED)
    assert net.width == 4
    with torch.no_grad():
        np.testing.assert_allclose(net(np.c_[X, np.ones(24)]), BIASED(torch.tensor(X)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("decays", [dict(), dict(hidden_bias_decay=0.4, output_bias_decay=0.3)])
def test_the_bound_holds_with_biases_of_several_outputs(decays):
    """Descent on their objective, output biases included, from many starts never goes below the bound."""
    target = torch.tensor(Y[:8])
    judged = judge_torch(BIASED, X[:8], Y[:8], weight_decay=0.1, **decays)
    assert (judged.exact, judged.excess > 0.0) == (False, True)
    solution = solve(judged.problem)
    assert solution.scope == "global"
    bound = judged.training_bound(solution.lower_bound)
    decay = [0.1, decays.get("hidden_bias_decay", 0.1), 0.1, decays.get("output_bias_decay", 0.1)]

    def value(net):
        square = sum(0.5 * rate * (p**2).sum() for rate, p in zip(decay, net.parameters(), strict=True))
        return nn.MSELoss()(net(torch.tensor(X[:8])), target) + square

    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)).double()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(800):
            optimizer.zero_grad()
            value(net).backward()
            optimizer.step()
        found.append(value(net).item())
        same = judge_torch(net, X[:8], Y[:8], weight_decay=0.1, **decays)
        assert same.objective == pytest.approx(found[-1], rel=1e-12)
        # Whatever the network is, the problem costs at most the excess more.
        assert same.network.objective(same.problem) <= same.scale * same.objective + same.excess
    assert 0.0 < bound <= min(found)
    assert judged.training_objective(solution.network) >= bound
