"""``cvxnn certify`` on networks of other programs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.interop import judge_torch, load_network, to_onnx, to_torch
from tests.cli.conftest import write_table

RNG = np.random.default_rng(4)
N, DECAY = 20, 0.05
X = RNG.standard_normal((N, 2)).round(6)
Y = (np.abs(X[:, 0]) - X[:, 1]).round(6)
KIND = ["cat" if value > 0.2 else "dog" for value in Y]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    columns = {"x1": X[:, 0].tolist(), "y": Y.tolist(), "x2": X[:, 1].tolist(), "kind": KIND}
    return write_table(tmp_path_factory.mktemp("foreign") / "t.csv", columns)


@pytest.fixture(scope="module")
def module():
    """A module after some training: not optimal."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=DECAY)
    for _ in range(200):
        optimizer.zero_grad()
        nn.MSELoss()(net(torch.tensor(X)), torch.tensor(Y)[:, None]).backward()
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def files(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    torch.save(module.state_dict(), folder / "net.pt")
    torch.save({"state_dict": module.state_dict()}, folder / "net.pth")
    save_file(module.state_dict(), folder / "net.safetensors")
    to_onnx(load_network(folder / "net.pt"), folder / "net.onnx", bias=True, dtype=np.float64)
    return folder


def certify(run, path, table, *options, code=1):
    result = run("certify", path, table, "--target", "y", "--drop", "kind", *options, "--json")
    assert (result.exit_code, result.stderr) == (code, "")
    return json.loads(result.stdout)


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors", "onnx"])
def test_every_format_gives_the_verdict_of_python(cvxnn_here, files, table, module, ending):
    record = certify(cvxnn_here, files / f"net.{ending}", table, "--weight-decay", DECAY)
    judged = judge_torch(module, X, Y, weight_decay=DECAY)
    assert record["objective"] == pytest.approx(judged.objective, rel=1e-12)
    assert (record["columns"], record["target"], record["n"]) == (["x1", "x2"], "y", N)
    assert record["beta"] == pytest.approx(DECAY * N / 2)
    assert record["is_global"] is record["certified_global"] is False
    assert record["interrupted"] is False
    assert record["lower_bound"] <= record["best_objective"] < record["objective"]
    assert record["gap"] == pytest.approx((record["objective"] - record["lower_bound"]) / record["objective"])
    assert record["exact"] is True
    assert record["training"] == {
        "loss": "mse",
        "reduction": "mean",
        "weight_decay": DECAY,
        "hidden_bias_decay": DECAY,
        "output_bias_decay": DECAY,
    }


def test_the_escape_lowers_the_objective_of_the_training(cvxnn_here, files, table, tmp_path):
    """Add the neuron in PyTorch and evaluate there."""
    zero = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    torch.save(zero.state_dict(), tmp_path / "zero.pt")
    record = certify(cvxnn_here, tmp_path / "zero.pt", table, "--weight-decay", DECAY)
    assert record["objective"] == pytest.approx(float(np.mean(Y**2)))
    escape = record["escape"]
    with torch.no_grad():
        zero[0].weight.copy_(torch.tensor([escape["w"]], dtype=torch.float64))
        zero[0].bias.fill_(escape["hidden_bias"])
        zero[2].weight.fill_(escape["a"])
        loss = nn.MSELoss()(zero(torch.tensor(X)), torch.tensor(Y)[:, None]).item()
    value = loss + 0.5 * DECAY * sum(float(p.detach().square().sum()) for p in zero.parameters())
    assert value == pytest.approx(escape["objective"], rel=1e-12)
    assert value < record["objective"]


def test_the_best_network_is_certified(cvxnn_here, table, tmp_path):
    """Trained by cvxnn, exported, judged again in the units of a sum of half squares."""
    problem = Problem(np.column_stack([X, np.ones(N)]), Y, 0.5)
    best = solve(problem, tol=1e-8)
    torch.save(to_torch(best.network, bias=True, dtype=torch.float64)[:2].state_dict(), tmp_path / "half.pt")
    to_onnx(best.network, tmp_path / "best.onnx", dtype=np.float64)
    columns = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "one": [1.0] * N, "y": Y.tolist()}
    data = write_table(tmp_path / "ones.csv", columns)
    result = cvxnn_here("certify", tmp_path / "best.onnx", data, "--target", "y", "--beta", 0.5, "--json")
    record = json.loads(result.stdout)
    assert (result.exit_code, record["is_global"], record["escape"]) == (0, True, None)
    assert record["objective"] == pytest.approx(best.objective, rel=1e-9)
    assert record["scale"] == 1.0
    text = cvxnn_here("certify", tmp_path / "best.onnx", data, "--target", "y", "--beta", 0.5)
    assert text.exit_code == 0
    assert "not standardised" in text.stdout
    assert re.search(r"Verdict +certified: no network of any width", text.stdout)
    wrong = cvxnn_here("certify", tmp_path / "half.pt", data, "--target", "y", "--beta", 0.5)
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def test_free_biases_and_classes(cvxnn_here, files, table):
    options = ["--target", "kind", "--drop", "y", "--loss", "bce_with_logits", "--label-positive", "cat"]
    result = cvxnn_here(
        "certify", files / "net.pt", table, *options, "--weight-decay", 0.1, "--no-decay-biases", "--json"
    )
    record = json.loads(result.stdout)
    assert result.exit_code == 1
    assert record["exact"] is False
    assert record["training"]["hidden_bias_decay"] == record["training"]["output_bias_decay"] == 0.0
    network = load_network(files / "net.pt")
    logit = network(np.column_stack([X, np.ones(N)]))
    labels = np.array([1.0 if kind == "cat" else 0.0 for kind in KIND])
    loss = nn.BCEWithLogitsLoss()(torch.tensor(logit), torch.tensor(labels)).item()
    decay = 0.05 * float(np.sum(network.W[:, :2] ** 2) + np.sum(network.a**2))
    assert record["objective"] == pytest.approx(loss + decay, rel=1e-12)
    assert record["lower_bound"] <= record["best_objective"] <= record["objective"]
    text = cvxnn_here("certify", files / "net.pt", table, *options, "--weight-decay", 0.1, "--no-decay-biases")
    assert "free, so there may be no best network" in text.stdout
    assert "that they are ReLU is not in the file" in text.stdout


def test_npz_and_sums(cvxnn_here, files, tmp_path):
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    options = ["--weight-decay", DECAY, "--reduction", "sum", "--loss", "huber", "--huber-delta", 0.5, "--tol", 0.5]
    record = json.loads(cvxnn_here("certify", files / "net.onnx", tmp_path / "t.npz", *options, "--json").stdout)
    assert (record["target"], record["scale"], record["tol"]) == ("y", 1.0, 0.5)
    network = load_network(files / "net.pt")
    fit = network(np.column_stack([X, np.ones(N)]))
    loss = nn.HuberLoss(reduction="sum", delta=0.5)(torch.tensor(fit), torch.tensor(Y)).item()
    square = float(np.sum(network.W**2) + np.sum(network.a**2) + network.output_bias**2)
    assert record["objective"] == pytest.approx(loss + 0.5 * DECAY * square, rel=1e-12)


NUMBERS = ["--target", "y", "--drop", "kind"]
CLASSES = ["--target", "kind", "--drop", "y", "--beta", 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weight-decay", 0.1], "--target COLUMN is needed; the columns of .* are 'x1', 'y', 'x2', 'kind'"),
        (["--target", "z", "--weight-decay", 0.1], "has no column 'z'"),
        (["--target", "y", "--weight-decay", 0.1], "column 'kind' of .* holds text; a network of another program"),
        ([*NUMBERS, "--drop", "x1", "--beta", 1], "takes 2 inputs but .* has 1 columns"),
        (["--target", "y", "--drop", "w", "--weight-decay", 0.1], "--drop names 'w', which"),
        (["--target", "y", "--drop", "y", "--weight-decay", 0.1], "--drop names the target 'y'"),
        (NUMBERS, "one of --weight-decay and --beta is needed"),
        ([*NUMBERS, "--beta", 1, "--weight-decay", 1], "--weight-decay and --beta say the same thing"),
        ([*NUMBERS, "--beta", 0], "--beta must be a positive number"),
        ([*NUMBERS, "--beta", 1, "--reduction", "mean"], "--reduction mean needs --weight-decay"),
        (CLASSES, "needs a target of numbers, but 'kind' holds text"),
        ([*NUMBERS, "--beta", 1, "--loss", "logistic"], "needs two classes, but the target 'y' has 20"),
        ([*CLASSES, "--loss", "logistic"], "--label-positive is needed: .*'cat', 'dog'"),
        (
            [*CLASSES, "--loss", "logistic", "--label-positive", "cow"],
            "--label-positive names 'cow', but the classes are 'cat', 'dog'",
        ),
        ([*NUMBERS, "--beta", 1, "--label-positive", "1"], "--label-positive is for losses of"),
    ],
)
def test_refusals(cvxnn_here, files, table, options, message):
    result = cvxnn_here("certify", files / "net.pt", table, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(f"Error: .*{message}.*\n", result.stderr)


def test_bad_files(cvxnn_here, table, tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "module.pt")
    (tmp_path / "x.onnx").write_bytes(b"x")
    save_file({"0.weight": torch.ones(4, 2), "1.weight": torch.ones(4)}, tmp_path / "bad.safetensors")
    for name, message in (
        ("module.pt", "holds more than tensors"),
        ("x.onnx", "is not an ONNX model"),
        ("bad.safetensors", "must hold the two weight matrices"),
        ("none.pt", "does not exist"),
        ("none.safetensors", "does not exist"),
    ):
        result = cvxnn_here("certify", tmp_path / name, table, "--target", "y", "--drop", "kind", "--beta", 1)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr


def test_a_model_of_cvxnn_stores_its_own_settings(cvxnn_here, fitted):
    out, data, _ = fitted["regression"]
    for option in (["--weight-decay", 1], ["--tol", 1], ["--drop", "bmi"], ["--loss", "mse"], ["--no-decay-biases"]):
        result = cvxnn_here("certify", out, data, *option)
        assert result.exit_code == 2
        assert "is for networks of other programs; this model file stores its own" in result.stderr
    assert isinstance(load_network(out), ReLUNetwork)


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass"])
def test_own_models_get_a_verdict_too(cvxnn_here, fitted, kind):
    out, data, _ = fitted[kind]
    record = json.loads(cvxnn_here("certify", out, data, "--json").stdout)
    assert record["is_global"] is True
    assert record["escape"] is None
    assert record["best_objective"] <= record["objective"]
    assert all(output["is_global"] in (True, None) for output in record["outputs"])
