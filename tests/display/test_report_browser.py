"""The report in a real browser: nothing overlaps, nothing is cut off, no errors, no requests, and it prints."""

from __future__ import annotations

import re
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from cvxnn.cli import app
from tests.cli.conftest import write_table
from tests.display import _browser as browser

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs a Chromium on the path")

WIDTHS = [320, 360, 1100]
PICTURES = {
    "numbers": 6,
    "classes": 4,
    "targets": 10,
    "gated": 6,
    "batch-norm": 4,
    "polynomial": 6,
    "parallel": 6,
    "foreign": 4,
    "foreign classes": 2,
}
ARCHITECTURES = ("gated", "batch-norm", "polynomial", "parallel")
NASTY = '</script></style><img src=x onerror="hacked=1"><script>hacked=1</script>'


def cvxnn(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), result.output


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Reports on numbers, on classes with hostile and long names, and on several targets of awkward sizes.

    Then one on each other architecture, and on networks of another program.
    """
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3))
    y = np.abs(X[:, 0]) - X[:, 1] + 0.3 * rng.standard_normal(120)
    columns = {f"input number {k}": X[:, k].tolist() for k in range(3)}
    kinds = [NASTY if v > 1 else "W" * 300 if v > 0 else "\u05e9\u05dc\u05d5\u05dd \u202e" for v in y]
    names = {"x" * 10_000: X[:, 0].tolist(), NASTY: X[:, 1].tolist(), "日本語の列の名前がここに続く": X[:, 2].tolist()}
    tables = {
        "numbers": columns | {"price": (1e6 + 1e5 * y).tolist()},
        "classes": names | {NASTY + "2": kinds},
        "targets": columns | {"a": (1e9 + y).tolist(), "b": (1e-7 * y).tolist(), "c" * 60: (1e12 * y).tolist()},
    }
    made = {}
    for kind, table in tables.items():
        data = write_table(folder / f"{kind}.tsv", table, "\t")
        targets = [name for name in table if name not in columns and name not in names]
        options = [part for target in targets for part in ("--target", target)]
        model, out = folder / f"{kind}.safetensors", folder / f"{kind}.html"
        cvxnn("fit", data, *options, "--alpha", 0.03, "--time-limit", 8, "--out", model)
        cvxnn("report", model, data, "-o", out, *(["--certify", 3] if kind == "classes" else []))
        made[kind] = out
    for kind in ARCHITECTURES:
        # Batch norm has classes, whose table is as wide as that of any.
        data, target = (folder / "numbers.tsv", "price") if kind != "batch-norm" else (folder / "classes.tsv", None)
        options = ["--target", target or NASTY + "2", "--architecture", kind, "--alpha", 0.03, "--time-limit", 8]
        if target is None:
            options += ["--loss", "logistic"]
            data = write_table(
                folder / "two.tsv", names | {NASTY + "2": [NASTY if v > 0 else "W" * 300 for v in y]}, "\t"
            )
        model, out = folder / f"{kind}.safetensors", folder / f"{kind}.html"
        cvxnn("fit", data, *options, "--out", model)
        cvxnn("report", model, data, "-o", out, *(["--certify", 2] if kind == "parallel" else []))
        made[kind] = out
    return made | foreign_pages(folder, names | {NASTY + "2": [float(v) for v in y]}, X, y)


def foreign_pages(folder: Path, columns: dict[str, list], X: np.ndarray, y: np.ndarray) -> dict[str, Path]:
    """Reports on plain weights as another program stores them: not trained, and judged for numbers and for classes."""
    weights = np.random.default_rng(1).standard_normal((4, 5))
    numbers = {
        "0.weight": weights[:, :3].copy(),
        "0.bias": weights[:, 3].copy(),
        "2.weight": weights[None, :, 4].copy(),
    }
    classes = {**numbers, "2.weight": weights[:, :3].T.copy()}
    made = {}
    for kind, tensors, goal, loss in (
        ("foreign", numbers, y.tolist(), "mse"),
        ("foreign classes", classes, np.digitize(y, [-0.5, 0.5]).tolist(), "cross_entropy"),
    ):
        model, out = folder / f"{kind} {NASTY.replace('/', '|')[:40]}.safetensors", folder / f"{kind}.html"
        save_file(tensors, model)
        data = write_table(folder / f"{kind}.tsv", columns | {NASTY + "2": goal}, "\t")
        options = ["--target", NASTY + "2", "--weight-decay", 0.05, "--loss", loss]
        cvxnn("report", model, data, "-o", out, *options, *(["--certify", 2] if kind == "foreign" else []))
        made[kind] = out
    return made


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether boxes (left, top, right, bottom) share more than a line."""
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5


@pytest.mark.parametrize(
    ("kind", "width"),
    [*product(["numbers", "classes", "targets"], WIDTHS), *((kind, 360) for kind in list(PICTURES)[3:])],
)
def test_layout_and_silence(pages, kind, width, tmp_path):
    visit = browser.visit(pages[kind], tmp_path, width)
    found = visit.found
    assert visit.console == []
    # The browser asks for the icon of the page around ours by itself.
    assert set(visit.requests) <= {"/around.html", "/page.html", "/favicon.ico"}
    assert visit.requests.count("/page.html") == 1
    assert found["styled"] != "none", "the style sheet was refused"
    assert (found["hacked"], found["handlers"]) == (None, [])
    assert not {"script", "img", "iframe", "object", "link"} & set(found["tags"])
    assert found["scroll"] <= found["width"]
    assert (found["outside"], found["cut"]) == ([], [])
    blocks = [block for block in found["blocks"] if block["box"][2] > block["box"][0]]
    assert len(blocks) > 40
    for first, second in combinations(blocks, 2):
        assert not overlap(first["box"], second["box"]), (first, second)
    assert len(found["pictures"]) == PICTURES[kind]
    check_pictures(found["pictures"])
    # What a screen reader and weak eyes need.
    assert (found["faint"], found["unnamed"], found["loose"], found["small"]) == ([], [], [], [])
    assert found["headings"][0] == 1 and all(b <= a + 1 for a, b in pairwise(found["headings"]))


def test_the_checks_see_faults(tmp_path):
    """A page with one fault of each kind."""
    faults = """<!DOCTYPE html><html><body style="background:#fff"><h1>One</h1><h3>Three</h3>
    <p style="color:#888">faint</p><a href="#x" style="font-size:8px">small</a><section>no name</section>
    <table><caption>Named</caption><tr><th>loose</th></tr></table><svg class="picture"><title>t</title></svg>
    <div style="width:2000px">wide</div></body></html>"""
    (tmp_path / "faults.html").write_text(faults, encoding="utf-8")
    found = browser.visit(tmp_path / "faults.html", tmp_path, 360).found
    assert [fault.split()[0] for fault in found["faint"]] == ["P"]
    assert (found["headings"], found["small"]) == ([1, 3], ["small"])
    assert set(found["unnamed"]) == {"SECTION", "svg"}
    assert set(found["loose"]) == {"HTML", "TH", "svg"}
    assert found["outside"] == ["DIV wide"] and found["scroll"] > found["width"]


def check_pictures(pictures: list[dict[str, Any]]) -> None:
    """Texts lie in their picture, apart from each other, and can be read."""
    for picture in pictures:
        left, top, right, bottom = picture["box"]
        assert right - left > 250 and bottom - top > 150
        texts = [text for text in picture["texts"] if text["text"]]
        for text in texts:
            a, b, c, d = text["box"]
            assert left - 0.5 <= a and c <= right + 0.5 and top - 0.5 <= b and d <= bottom + 0.5, (
                picture["name"],
                text,
            )
            assert d - b > 8.0, "too small to be read"
        for first, second in combinations(texts, 2):
            assert not overlap(first["box"], second["box"]), (picture["name"], first, second)


def test_policy_of_the_page_stops_a_script(pages, tmp_path):
    """Were a script to get in, the browser would not run it, nor fetch a picture; without the policy it would."""
    text = pages["numbers"].read_text(encoding="utf-8")
    spoiled = text.replace("</main>", '<script>hacked=1</script><img src="/x.png" onerror="hacked=2"></main>')
    (tmp_path / "r.html").write_text(spoiled, encoding="utf-8")
    visit = browser.visit(tmp_path / "r.html", tmp_path, 390)
    assert visit.found["hacked"] is None
    assert "/x.png" not in visit.requests
    assert any("Content Security Policy" in line for line in visit.console)
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*/>', "", spoiled)
    (tmp_path / "r.html").write_text(open_page, encoding="utf-8")
    assert browser.visit(tmp_path / "r.html", tmp_path, 391).found["hacked"] in ("1", "2")


def test_screenshot_and_print(pages, tmp_path):
    page = pages["numbers"].as_uri()
    picture, paper = tmp_path / "page.png", tmp_path / "page.pdf"
    browser.run(tmp_path / "a", f"--screenshot={picture}", "--window-size=1100,900", page)
    browser.run(tmp_path / "b", f"--print-to-pdf={paper}", "--no-pdf-header-footer", page)
    pixels = _pixels(picture)
    # Neither blank nor one colour, and text nearly black on white at the top.
    assert pixels.shape[:2] == (900, 1100)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 30
    assert pixels[:120].min() < 0.2 and np.median(pixels[:120]) == 1.0
    printed = paper.read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8


def _pixels(path: Path) -> np.ndarray:
    image = pytest.importorskip("matplotlib.image")
    return image.imread(path)[..., :3]
