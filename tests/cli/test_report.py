"""``cvxnn report``: the page is well formed, says what certify proves, and takes no orders from the data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cvxnn import ReLUNetwork, landscape
from cvxnn.cli import _certify
from cvxnn.display.report import Facts, Part
from cvxnn.interop.model_file import load_model, save_model
from cvxnn.interop.tables import read_table
from tests.cli.conftest import write_table

KINDS = ["regression", "binary", "multiclass"]
VOID = {"meta", "circle", "rect", "line", "path", "polyline"}
OURS = """html head title style body header nav main section footer div p ul li a h1 h2 h3 bdi code span table caption
thead tbody tr th td dl dt dd figure figcaption svg g desc text"""
ALLOWED = VOID | set(OURS.split())
HOSTILE = [
    '</script><img src=x onerror="parent.hacked=1">',
    "</style><script>hacked=1</script>",
    "'\" onload='hacked=1' x=\"",
    "</title></svg><svg onload=hacked=1>",
    "bell\x07escape\x1b[31m",
    "\u202egnp.exe\u2066",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "<!--",
    "&lt;b&gt;&amp;",
    "W" * 10_000,
    "javascript:hacked=1//<a href='javascript:hacked=1'>x</a>",
    "<svg/onload=hacked=1><style>*{display:none}</style>",
    "a\u2028\u200f\u200e\ufeff\u061c\u180e<iframe srcdoc='<script>parent.hacked=1</script>'>",
    "}</style><link rel=stylesheet href=//x.example/a.css>",
]


class Page(HTMLParser):
    """Elements of a page, with a check that they are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def attributes(self, element: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == element]


def check_page(path: Path) -> Page:
    """What holds for every page."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert set(tags) <= ALLOWED
    attributes = {key for _, pairs in page.elements for key in pairs}
    assert not [key for key in attributes if key.startswith("on") or key in ("src", "style", "srcset")]
    assert all((link["href"] or "").startswith("#") for link in page.attributes("a"))
    # Nothing in the style sheet fetches anything either.
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    assert page.attributes("html") == [{"lang": "en"}]
    assert [tags.count(landmark) for landmark in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    ids = [pairs["id"] for _, pairs in page.elements if "id" in pairs]
    assert len(set(ids)) == len(ids)
    referred = [pairs["aria-labelledby"] or "" for _, pairs in page.elements if "aria-labelledby" in pairs]
    referred += [(link["href"] or "")[1:] for link in page.attributes("a")]
    assert set(" ".join(referred).split()) <= set(ids)
    for picture in page.attributes("svg"):
        assert picture.get("aria-hidden") == "true" or (picture["role"] == "img" and picture["aria-labelledby"])
    assert tags.count("table") == tags.count("caption")
    assert all(pairs.get("scope") in ("row", "col") for pairs in page.attributes("th"))
    return page


def report(run, model, table, out, *options, code=0):
    result = run("report", model, table, "-o", out, *options)
    assert result.exit_code == code, result.output
    return check_page(out), result


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_certify(fitted, cvxnn_here, kind, tmp_path):
    model, table, record = fitted[kind]
    proof = json.loads(cvxnn_here("certify", model, table, "--json").stdout)
    page, result = report(cvxnn_here, model, table, tmp_path / "r.html", "--certify", 60)
    assert f"{proof['objective']:.9g}" in page.text
    assert result.stdout.startswith("Verdict  Proved: the best possible network")
    shown = re.search(r"Bound for every network (\S+) \(proved for this report\)", page.text)
    assert shown
    assert float(shown[1]) <= proof["lower_bound"]
    assert float(shown[1]) == pytest.approx(proof["lower_bound"], rel=1e-8)
    assert "Proved: the best possible network, to within" in page.text
    assert "Longer training or more neurons cannot help" in page.text
    for score in (record["train_score"], record["test_score"]):
        assert f"{score:.4f}" in page.text
    for name in record["data"]["columns"] + record["data"]["classes"] + record["data"]["targets"]:
        assert name in page.text


@pytest.mark.parametrize("kind", KINDS)
def test_facts_against_the_model(fitted, kind):
    out, table, record = fitted[kind]
    model = load_model(out)
    rows = _certify.rows_of(model, read_table(table), ())
    assert rows.held_out is not None
    facts = Facts(
        model,
        (Part.of("training rows", model, rows.X, rows.encoded), Part.of("x", model, *rows.held_out)),
        True,
        rows.beta,
    )
    problems, networks = model.problems(rows.X, rows.encoded), model.networks()
    assert facts.objective == pytest.approx(record["objective"], rel=1e-12)
    losses = sum(problem.loss_value(net(problem.X)) for problem, net in zip(problems, networks, strict=True))
    assert facts.misfit == pytest.approx(losses, rel=1e-9)
    assert facts.scores() == [record["train_score"], record["test_score"]]
    assert facts.fits_file and facts.bound is not None
    assert facts.bound.gap == pytest.approx(record["gap"], abs=1e-15)
    masses = np.array([neuron.mass for neuron in facts.neurons])
    W, a = model.network.W, model.network.a.reshape(len(model.network.W), -1)
    np.testing.assert_allclose(masses, np.sort(np.linalg.norm(W, axis=1) * np.linalg.norm(a, axis=1))[::-1])
    for neuron in facts.neurons:
        # Neurons lie on kinks, where the sign of a pre-activation is rounding.
        products, noise = rows.X @ neuron.w, 1e-14 * np.linalg.norm(rows.X, axis=1) * np.linalg.norm(neuron.w)
        assert np.mean(products > noise) - 1e-12 <= neuron.active <= np.mean(products > -noise) + 1e-12
    assert facts.input_shares().sum() == pytest.approx(1.0)
    x, way = facts.way_down()
    zero = sum(problem.loss_value(np.zeros_like(problem.y)) for problem in problems)
    assert (x[0], x[-1]) == (0.0, 1.0)
    assert (way[0], way[-1]) == pytest.approx((zero, record["objective"]), rel=1e-12)
    # The objective is convex on the way and its end is the optimum: it never rises.
    assert np.all(np.diff(way) <= 1e-9 * zero) and np.all(np.diff(way, 2) >= -1e-9 * zero)
    # Half of the masses of a balanced network: weights by the root of one half.
    half = [ReLUNetwork(np.sqrt(0.5) * net.W, np.sqrt(0.5) * net.a) for net in networks]
    middle = sum(net.objective(problem) for net, problem in zip(half, problems, strict=True))
    assert way[len(way) // 2] == pytest.approx(middle, rel=1e-12)


def test_a_worse_network_is_found_out(fitted, cvxnn_here, tmp_path):
    out, table, record = fitted["regression"]
    model = load_model(out)
    save_model(tmp_path / "m", replace(model, network=ReLUNetwork(0.7 * model.network.W, model.network.a)))
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert "Nothing is proved about this network" in page.text
    assert "do not give the objective that it claims" in page.text
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html", "--certify", 30, code=1)
    assert "A better network exists" in page.text
    found = re.search(r"Adding one neuron lowers the objective from (\S+) to (\S+):", page.text)
    assert found and float(found[2]) < float(found[1])
    assert float(found[2]) >= record["lower_bound"] * (1 - 1e-8)
    assert "2: a better one" in page.text


@pytest.mark.parametrize(("first", "second"), [(1e300, 1.0), (1.0, 1e300), (1e200, 1e-200), (1e300, 1e300)])
def test_weights_that_overflow_are_refused(fitted, cvxnn_here, first, second, tmp_path):
    path, table, _ = fitted["regression"]
    model = load_model(path)
    network = ReLUNetwork(np.full_like(model.network.W, first), np.full_like(model.network.a, second))
    save_model(tmp_path / "m", replace(model, network=network))
    result = cvxnn_here("report", tmp_path / "m", table, "-o", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: the network has" in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_other_data_have_no_certificate(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["binary"]
    columns = {column.name: column.text.tolist()[1:] for column in read_table(table).columns}
    other = write_table(tmp_path / "t.csv", columns)
    page, result = report(cvxnn_here, out, other, tmp_path / "r.html")
    assert "these are not the data that the network was trained on" in result.stderr
    assert "the certificate in the file does not apply" in page.text
    assert "all 79 rows of other data" in page.text
    assert "Bound for every network" not in page.text


def test_scope_patterns_is_never_called_global(cvxnn_here, fitted, tmp_path):
    out, table, _ = fitted["regression"]
    model = load_model(out)
    weaker = replace(model.certificate, scope="patterns", global_lower_bound=0.5 * model.certificate.lower_bound)
    save_model(tmp_path / "m", replace(model, certificate=weaker))
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert "not proved for all networks" in page.text
    assert re.search(r"All that is known of others: none is lower by more than (50|51)\s%", page.text)
    assert "The best possible network" not in page.text and "cannot help" not in page.text
    save_model(tmp_path / "m", replace(model, certificate=replace(weaker, status="time_limit reached")))
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert re.search(r"Best of the networks considered so far, .*; the search had not ended", page.text)


def test_several_targets_and_the_zero_network(cvxnn_here, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    targets = {f"target {k}": (np.abs(X[:, k % 2]) + k * X[:, 0]).tolist() for k in range(6)}
    table = write_table(tmp_path / "t.csv", {"u": X[:, 0].tolist(), "v": X[:, 1].tolist()} | targets)
    wanted = [part for name in targets for part in ("--target", name)]
    fit = cvxnn_here("fit", table, *wanted, "--alpha", 0.1, "--out", tmp_path / "m", "--time-limit", 10, "--json")
    record = json.loads(fit.stdout)
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert all(name in page.text for name in targets)
    assert "Pictures are shown for the first 4 targets only." in page.text
    assert f"{record['train_score']:.4f}" in page.text
    cvxnn_here("fit", table, *wanted, "--alpha", 1e4, "--out", tmp_path / "m")
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert "The network has no neurons" in page.text


def test_points_are_sampled_from_large_tables(cvxnn_here, tmp_path):
    x = np.linspace(-1.0, 1.0, 1500)
    table = write_table(tmp_path / "t.csv", {"x": x.tolist(), "y": (np.abs(x) + 0.1 * np.sin(50 * x)).tolist()})
    cvxnn_here("fit", table, "--target", "y", "--alpha", 0.05, "--out", tmp_path / "m")
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert "1,000 of 1,500 rows are drawn, chosen at random." in page.text
    # One disc more in the legend, as squares for the held-out rows.
    assert len(page.attributes("circle")) == 801
    first = (tmp_path / "r.html").read_bytes()
    report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_bytes() == first


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_no_markup(cvxnn_here, hostile, tmp_path):
    """Names of columns, targets, categories and classes; check_page allows no element or attribute of theirs."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(30)
    kinds = [hostile if value > 0 else "other" for value in x]
    columns = {hostile: x.tolist(), f"{hostile}2": rng.permutation(kinds).tolist(), f"{hostile}y": kinds}
    table = write_table(tmp_path / "t.tsv", columns, "\t")
    fit = cvxnn_here("fit", table, "--target", f"{hostile}y", "--alpha", 0.05, "--out", tmp_path / "m")
    assert fit.exit_code == 0, fit.output
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html", "--certify", 5)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page.text)
    assert len(page.text) < 20_000
    seen = [attributes for tag, attributes in page.elements if tag == "bdi"]
    assert len(seen) >= 6
    if len(hostile) < 40 and hostile.isprintable():
        assert hostile in page.text


def test_interrupted_proof_is_written(fitted, cvxnn_here, tmp_path, monkeypatch):
    out, table, record = fitted["regression"]

    def interrupted(problem, network, **options):
        proof = landscape.certify(problem, network, method="dual", tol=1e-15, time_limit=1e-3)
        return replace(proof, interrupted=True, lower_bound=0.5 * proof.objective, is_global=None)

    monkeypatch.setattr(_certify, "certify_network", interrupted)
    page, _ = report(cvxnn_here, out, table, tmp_path / "r.html", "--certify", 5, code=1)
    assert "Interrupted yes; the bounds hold all the same" in page.text
    assert re.search(r"Not decided: at most (50|51)\s% could be gained", page.text)
    assert f"{record['objective']:.9g}" in page.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--certify", 0], "--certify must be a positive number; got 0."),
        (["-o", "nowhere/r.html"], "which is not an existing directory"),
        (["--target", "sex", "--target", "bmi"], "--target names 2 columns; this model predicts 1."),
    ],
)
def test_refusals(fitted, cvxnn_here, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, table, _ = fitted["regression"]
    result = cvxnn_here("report", out, table, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_refuses_inputs_and_misplaced_options(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["regression"]
    before = out.read_bytes()
    assert cvxnn_here("report", out, table, "-o", out).exit_code == 2
    assert out.read_bytes() == before
    result = cvxnn_here("report", out, table, "--weight-decay", 0.1, "-o", tmp_path / "r.html")
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--weight-decay is for networks of other programs" in result.stderr


def test_the_course_is_kept_and_shown(fitted, cvxnn_here, tmp_path):
    out, table, record = fitted["multiclass"]
    model = load_model(out)
    assert model.course is not None
    assert model.course.objective[-1] == record["objective"]
    assert model.course.lower_bound[-1] == record["lower_bound"]
    assert np.all(np.diff(model.course.objective) <= 1e-9 * record["objective"])
    known = [bound for bound in model.course.lower_bound if bound is not None]
    assert np.all(np.diff(known) >= 0.0) and np.all(np.diff(model.course.iterations) >= 0)
    page, _ = report(cvxnn_here, out, table, tmp_path / "r.html")
    assert "Objective and bound over the iterations" in page.text and "Gap over the iterations" in page.text
    save_model(tmp_path / "old", replace(model, course=None))
    page, _ = report(cvxnn_here, tmp_path / "old", table, tmp_path / "r.html")
    assert "The model file holds no course of the training" in page.text


def test_the_course_of_a_search_is_no_proof_for_all(fitted, cvxnn_here, tmp_path):
    out, table, _ = fitted["regression"]
    model = load_model(out)
    weaker = replace(model.certificate, scope="patterns", global_lower_bound=0.5 * model.certificate.lower_bound)
    save_model(tmp_path / "m", replace(model, certificate=weaker))
    page, _ = report(cvxnn_here, tmp_path / "m", table, tmp_path / "r.html")
    assert page.text.count("This bound is about the networks that the search considered, not about all.") >= 2
    page, _ = report(cvxnn_here, out, table, tmp_path / "r.html")
    assert "not about all" not in page.text
