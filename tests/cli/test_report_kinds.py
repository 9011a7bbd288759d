"""Reports on networks of all architectures and of other programs: their figures against those of other routes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from cvxnn import Problem
from cvxnn.architectures import gate_masks
from cvxnn.cli import _certify
from cvxnn.cli._foreign import ForeignOptions, read_case
from cvxnn.display.report import Facts, Part
from cvxnn.interop.model_file import load_model
from cvxnn.interop.tables import read_table
from tests.cli.conftest import write_table
from tests.cli.test_report import check_page

ARCHITECTURES = {
    "gated": ["--architecture", "gated", "--gates", 60],
    "batch-norm": ["--architecture", "batch-norm"],
    "polynomial": ["--architecture", "polynomial", "--coefficients", 1, -0.5, 0.25],
    "parallel": ["--architecture", "parallel"],
    "l21": ["--architecture", "parallel", "--penalty", "l21"],
    "deep": ["--architecture", "parallel", "--depth", 4],
}
NASTY = "</style><svg onload=hacked=1>\u202e'\""
RNG = np.random.default_rng(4)
N, DECAY = 30, 0.03
X = RNG.standard_normal((N, 2)).round(6)
Y = (np.abs(X[:, 0]) - X[:, 1]).round(6)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Folder for model files, and a table with a hostile name of a column."""
    folder = tmp_path_factory.mktemp("kinds")
    columns = {f"a{NASTY}": X[:, 0].tolist(), "b": X[:, 1].tolist(), "y": Y.tolist()}
    table = write_table(folder / "t.csv", columns)
    return folder, table


def fitted(run, kinds, kind):
    folder, table = kinds
    out = folder / f"{kind}.safetensors"
    options = [*ARCHITECTURES[kind], "--target", "y", "--alpha", 0.05, "--time-limit", 10]
    result = run("fit", table, *options, "--out", out, "--json")
    return out, table, json.loads(result.stdout)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_figures_of_an_architecture(cvxnn_here, kinds, kind, tmp_path):
    out, table, record = fitted(cvxnn_here, kinds, kind)
    result = cvxnn_here("report", out, table, "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    page = check_page(tmp_path / "r.html")
    assert f"{record['objective']:.9g}" in page.text
    for score in (record["train_score"], record["test_score"]):
        assert f"{score:.4f}" in page.text
    model = load_model(out)
    rows = _certify.rows_of(model, read_table(table), ())
    facts = Facts(model, (Part.of("training rows", model, rows.X, rows.encoded),), True, rows.beta)
    assert facts.objective == pytest.approx(record["objective"], rel=1e-12)
    problem = Problem(rows.X, rows.encoded, rows.beta)
    assert facts.misfit == pytest.approx(0.5 * float(np.sum((model.network(rows.X) - rows.encoded) ** 2)), rel=1e-9)
    # Networks are balanced at the optimum: the sizes add up to the price.
    assert facts.beta * sum(neuron.mass for neuron in facts.neurons) == pytest.approx(facts.decay, rel=1e-6)
    assert [neuron.mass for neuron in facts.neurons] == sorted((n.mass for n in facts.neurons), reverse=True)
    _, way = facts.way_down()
    assert (way[0], way[-1]) == pytest.approx((problem.loss_value(0.0 * problem.y), facts.objective), rel=1e-9)
    assert np.all(np.diff(way, 2) >= -1e-9 * way[0])
    assert facts.input_shares().sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["gated", "batch-norm", "polynomial", "parallel"])
def test_a_proof_is_that_of_certify(cvxnn_here, kinds, kind, tmp_path):
    out, table, _ = fitted(cvxnn_here, kinds, kind)
    proof = json.loads(cvxnn_here("certify", out, table, "--json", "--time-limit", 2).stdout)
    result = cvxnn_here("report", out, table, "-o", tmp_path / "r.html", "--certify", 2)
    assert result.exit_code == (0 if proof["certified"] else 1)
    page = check_page(tmp_path / "r.html")
    label = "Bound for these gates" if kind == "gated" else "Bound for every network"
    shown = re.search(rf"{label} (\S+) \(proved for this report\)", page.text)
    assert shown
    if kind != "parallel":
        assert float(shown[1]) == pytest.approx(proof["lower_bound"], rel=1e-6)
        assert "Longer training or more" in page.text
    if kind == "gated":
        assert "Networks with other gates may have a lower objective: nothing is known of those." in page.text
        assert "best possible network" not in page.text and "every network" not in page.text


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_empty_network_of_an_architecture(cvxnn_here, kinds, kind, tmp_path):
    _, table = kinds
    options = [*ARCHITECTURES[kind], "--target", "y", "--alpha", 1e3, "--out", tmp_path / "m"]
    assert cvxnn_here("fit", table, *options).exit_code == 0
    assert load_model(tmp_path / "m").network.width == 0
    result = cvxnn_here("report", tmp_path / "m", table, "-o", tmp_path / "r.html", "--certify", 5)
    page = check_page(tmp_path / "r.html")
    assert result.exit_code == 0
    assert "it predicts 0 (in its own units) for every row" in page.text
    assert "The network is empty; a smaller weight decay ( --alpha ) allows more." in page.text


@pytest.mark.parametrize("kind", ["gated", "batch-norm"])
def test_other_rows_have_their_own_objective(cvxnn_here, kinds, kind, tmp_path):
    """Batch norm is judged with the statistics of the rows at hand; the file's certificate and course are not used."""
    out, table, record = fitted(cvxnn_here, kinds, kind)
    columns = {column.name: column.text.tolist()[3:] for column in read_table(table).columns}
    other = write_table(tmp_path / "t.csv", columns)
    proof = json.loads(cvxnn_here("certify", out, other, "--json", "--time-limit", 5).stdout)
    result = cvxnn_here("report", out, other, "-o", tmp_path / "r.html")
    assert "these are not the data that the network was trained on" in result.stderr
    page = check_page(tmp_path / "r.html")
    assert f"{proof['objective']:.9g}" in page.text and f"{record['objective']:.9g}" not in page.text
    assert "The course in the model file is that of other rows or other weights" in page.text


@pytest.mark.parametrize("kind", ["gated", "batch-norm", "polynomial", "deep"])
def test_units_of_an_architecture(cvxnn_here, kinds, kind):
    """Neurons rebuilt from what the table of the page says give the outputs of the network."""
    out, table, _ = fitted(cvxnn_here, kinds, kind)
    model = load_model(out)
    rows = _certify.rows_of(model, read_table(table), ())
    facts = Facts(model, (Part.of("training rows", model, rows.X, rows.encoded),), True, rows.beta)
    net, ones = model.network, np.ones((len(rows.X), 1))
    if kind == "deep":
        single = [
            net.__class__(net.W[k : k + 1], tuple(b[k : k + 1] for b in net.b), net.a[k : k + 1])
            for k in range(net.width)
        ]
        on = sorted(float(np.mean(one(rows.X) != 0.0)) for one in single)
        assert sorted(neuron.active for neuron in facts.neurons) == pytest.approx(on)
        for neuron in facts.neurons:
            assert np.linalg.norm(neuron.w) * abs(neuron.a[0]) == pytest.approx(neuron.mass)
        return
    outputs = np.zeros(len(rows.X))
    for neuron in facts.neurons:
        data = np.hstack([rows.X, ones]) if kind == "batch-norm" else rows.X
        value = data @ neuron.w
        if kind == "polynomial":
            value = value**2 - 0.5 * value + 0.25
            assert neuron.active is None
        elif kind == "batch-norm":
            assert neuron.active == pytest.approx(np.mean(value > 0.0))
            value = np.maximum(value, 0.0)
        else:
            k = int(np.flatnonzero(np.all(neuron.w == net.W, axis=1))[0])
            mask = gate_masks(rows.X, net.gates[k : k + 1])[0]
            assert neuron.active == pytest.approx(np.mean(mask))
            value = value * mask
        outputs += neuron.a[0] * value
    np.testing.assert_allclose(outputs, net(rows.X), atol=1e-9)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Networks of PyTorch after some training, and a table with numbers, two classes and three."""
    folder = tmp_path_factory.mktemp("foreign")
    three = np.digitize(Y, [-0.5, 0.6])
    columns = {f"x1{NASTY}": X[:, 0].tolist(), "x2": X[:, 1].tolist(), "y": Y.tolist()}
    columns |= {"pet": [f"cat{NASTY}" if value > 0 else "dog" for value in Y], "class": three.tolist()}
    table = write_table(folder / "t.csv", columns)
    torch.manual_seed(0)
    jobs = {
        "numbers": (1, nn.MSELoss(), torch.tensor(Y)[:, None]),
        "two": (1, nn.BCEWithLogitsLoss(), torch.tensor(Y > 0).double()[:, None]),
        "three": (3, nn.CrossEntropyLoss(), torch.tensor(three)),
    }
    for name, (outputs, loss, goal) in jobs.items():
        net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, outputs)).double()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.03, weight_decay=DECAY)
        for _ in range(100):
            optimizer.zero_grad()
            loss(net(torch.tensor(X)), goal).backward()
            optimizer.step()
        torch.save(net.state_dict(), folder / f"{name}.pt")
    return folder, table


FOREIGN = {
    "numbers": ["--target", "y", "--drop", "pet", "--drop", "class"],
    "two": [
        "--target",
        "pet",
        "--drop",
        "y",
        "--drop",
        "class",
        "--loss",
        "bce_with_logits",
        "--label-positive",
        f"cat{NASTY}",
    ],
    "three": ["--target", "class", "--drop", "y", "--drop", "pet", "--loss", "cross_entropy"],
}


@pytest.mark.parametrize(
    ("kind", "free"), [("numbers", False), ("numbers", True), ("two", False), ("two", True), ("three", False)]
)
def test_a_network_of_another_program(cvxnn_here, foreign, kind, free, tmp_path):
    folder, table = foreign
    options = [*FOREIGN[kind], "--weight-decay", DECAY, *(["--no-decay-biases"] if free else [])]
    path = folder / f"{kind}.pt"
    proof = json.loads(cvxnn_here("certify", path, table, *options, "--json", "--time-limit", 20).stdout)
    result = cvxnn_here("report", path, table, *options, "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    page = check_page(tmp_path / "r.html")
    assert "It was trained by another program, whose files hold no certificate." in page.text
    assert f"{proof['objective']:.9g}" in page.text
    result = cvxnn_here("report", path, table, *options, "-o", tmp_path / "r.html", "--certify", 20)
    assert result.exit_code == (0 if proof["certified_global"] else 1)
    page = check_page(tmp_path / "r.html")
    shown = re.search(r"Bound for every network (\S+) \(proved for this report\)", page.text)
    assert shown and float(shown[1]) == pytest.approx(proof["lower_bound"], rel=1e-6)
    if proof["is_global"] is False:
        assert f"{proof['best_objective']:.9g}" in page.text
    # A neuron to add is a better network, too.
    found = proof["is_global"] is False or (proof["escape"] or {"objective": np.inf})["objective"] < proof["objective"]
    assert ("A better network exists" in page.text, "2: a better one" in page.text) == (found, found)
    if free:
        assert "free, so there may be no best network; the bound holds all the same" in page.text


def options_of(**given: object) -> ForeignOptions:
    names = ("weight_decay", "beta", "loss", "huber_delta", "reduction", "decay_biases", "label_positive", "tol")
    return ForeignOptions(**{name: None for name in names} | {"drop": ("pet", "class")} | given)  # type: ignore[arg-type]


def test_facts_in_the_units_of_the_training(foreign):
    """The objective of PyTorch, and the way down in it from nothing at all."""
    folder, table = foreign
    case = read_case(folder / "numbers.pt", table, targets=("y",), options=options_of(weight_decay=DECAY))
    model = case.model()
    facts = Facts(model, (Part.of("rows", model, model.inputs(), case.encoded(model.target)),), False, 1.0)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    net.load_state_dict(torch.load(folder / "numbers.pt", weights_only=True))

    def value() -> float:
        with torch.no_grad():
            misfit = nn.MSELoss()(net(torch.tensor(X)), torch.tensor(Y)[:, None]).item()
            return misfit + 0.5 * DECAY * sum(float(p.square().sum()) for p in net.parameters())

    assert facts.objective == pytest.approx(value(), rel=1e-12)
    np.testing.assert_allclose(facts.parts[0].outputs, net(torch.tensor(X)).detach().numpy()[:, 0], atol=1e-12)
    _, way = facts.way_down(count=4)
    assert (way[0], way[-1]) == pytest.approx((float(np.mean(Y**2)), facts.objective), rel=1e-12)
    # A quarter of the way: neurons of a quarter of their mass, and a quarter of the bias of the output.
    with torch.no_grad():
        for parameter in net[0].parameters():
            parameter.mul_(0.5)
        net[2].weight.mul_(0.5)
        net[2].bias.mul_(0.25)
    assert way[1] == pytest.approx(value(), rel=1e-12)


def test_several_targets_of_classes_are_refused(cvxnn_here, tmp_path):
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    columns = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "u": (Y > 0).astype(int).tolist()}
    table = write_table(tmp_path / "t.csv", columns | {"v": (Y > 1).astype(int).tolist()})
    options = ["--target", "u", "--target", "v", "--weight-decay", DECAY, "--loss", "bce_with_logits"]
    result = cvxnn_here("report", tmp_path / "net.pt", table, *options, "-o", tmp_path / "r.html")
    assert result.exit_code == 2
    assert "cvxnn report takes one" in result.stderr
