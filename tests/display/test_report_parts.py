"""Parts of the report: text that is made safe, numbers rounded to the safe side, and pictures that show their data."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cvxnn.display.report import _markup as markup
from cvxnn.display.report import _svg as svg
from cvxnn.display.report import _words as words

SIZES = st.floats(1e-12, 1e12)


class Texts(HTMLParser):
    """What a reader of the page gets: tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data):
        self.text += data


@given(st.text(max_size=80))
def test_texts_stay_texts(text):
    read = Texts(markup.tag("p", text, title=text) + markup.name(text) + markup.table(text, [text], [[text, text]]))
    assert set(read.tags) <= {"p", "bdi", "table", "caption", "thead", "tbody", "tr", "th", "td", "div"}
    seen = markup.shown(text, None)
    # Line ends were written as letters, so that the parser changes nothing.
    assert read.text.startswith(seen)
    assert read.values[0] == seen
    assert not [c for c in seen if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    seen.encode()


@given(st.text(alphabet="ab\ud800\u202e\x00\ufffe", max_size=200), st.integers(8, 60))
def test_shown_is_short_and_plain(text, longest):
    kept = markup.shown(text, longest)
    assert re.fullmatch(r"(?:[ab…]|\\ud800|\\u202e|\\x00|\\ufffe)*", kept)
    if len(text) <= longest:
        assert "…" not in kept
    else:
        head, tail = kept.split("…")
        assert markup.shown(text, None).startswith(head) and markup.shown(text, None).endswith(tail)


@given(st.floats(1e-15, 1.0))
def test_shares_are_rounded_to_the_safe_side(value):
    def read(text: str) -> Fraction:
        if text.startswith("one part in "):
            return Fraction(1, int(text.removeprefix("one part in ").replace(",", "")))
        return Fraction(Decimal(text.removesuffix("\u00a0%"))) / 100

    exact = Fraction(value)
    limit = read(words.share(value))
    assert exact <= limit <= exact * (Fraction(11, 10) if value >= 1e-6 else 11)
    assert exact * Fraction(9, 10) <= read(words.share(value, up=False)) <= exact
    assert exact <= Fraction(Decimal(words.gap_figure(value))) <= exact * Fraction(111, 100)


@given(st.floats(1e-30, 1e30), st.booleans())
def test_bounds_are_rounded_down(size, negative):
    value = -size if negative else size
    shown = float(words.bound_figure(value))
    assert shown <= value
    assert shown == pytest.approx(value, rel=1e-8)


@given(st.floats(-1e12, 1e12), SIZES, st.booleans(), st.booleans(), st.booleans())
@example(0.0, 1e-12, True, False, False)
@example(0.2, 0.2, True, False, True)
def test_axes(start, size, whole, zero, tight):
    values = np.array([start, start + size])
    axis = svg.Axis.around(values, "x", whole=whole, zero=zero, tight=tight)
    tolerance = 1e-9 * (abs(axis.low) + abs(axis.high))
    assert axis.low - tolerance <= values.min() and values.max() <= axis.high + tolerance
    if zero:
        assert axis.low <= tolerance and axis.high >= -tolerance
    assert len(axis.ticks) == len(axis.labels) <= 8
    assert len(set(axis.labels)) == len(axis.labels)
    # All marks at the same, round distance.
    steps = np.diff(axis.ticks)
    if len(steps):
        assert np.allclose(steps, steps[0], rtol=1e-3)
        assert f"{steps[0]:.2e}"[:4] in ("1.00", "2.00", "5.00")


def numbers(page: str, element: str, *names: str) -> np.ndarray:
    found = []
    for attributes in re.findall(rf"<{element} ([^>]*)/>", page):
        found.append(
            [float(m[1]) if (m := re.search(rf'\b{name}="([^"]*)"', attributes)) else np.nan for name in names]
        )
    return np.array(found)


def test_points_columns_and_curves_are_where_the_data_are():
    """Up to the tenth of a unit to which places are rounded, the map from data to places is affine."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(2.0, 9.0, 30), rng.uniform(-4.0, 4.0, 30)
    axes = svg.Axis.around(x, "x"), svg.Axis.around(y, "y")
    page = svg.points("k", "t", "d", *axes, [svg.Series("s", "network", x, y)])
    places = numbers(page, "circle", "cx", "cy")
    for values, found, sign in ((x, places[:, 0], 1), (y, places[:, 1], -1)):
        slope, shift = np.polyfit(values, found, 1)
        assert np.sign(slope) == sign
        np.testing.assert_allclose(slope * values + shift, found, atol=0.06)
    edges, heights = np.arange(4.0), np.array([1.0, 3.0, 0.0])
    axes = svg.Axis.around(edges, "x"), svg.Axis.around(heights, "y", zero=True)
    boxes = numbers(
        svg.columns("k", "t", "d", *axes, edges=edges, heights=heights, styles=["a", "b", "c"]), "rect", "height"
    )
    assert boxes[1, 0] == pytest.approx(3 * boxes[0, 0], abs=0.2)
    assert boxes[2, 0] == 0.0
    line = svg.curves("k", "t", "d", *axes, [svg.Series("s", "network", edges[:3], heights)])
    drawn = re.search(r'points="([^"]*)"', line)
    assert drawn
    corners = np.array([[float(part) for part in pair.split(",")] for pair in drawn[1].split()])
    assert np.diff(corners[:, 0]) == pytest.approx([corners[1, 0] - corners[0, 0]] * 2, abs=0.2)
    assert corners[1, 1] < corners[0, 1] < corners[2, 1]


def contrast(first: str, second: str) -> float:
    """Ratio of the luminances of two colours, as the accessibility guidelines of the web define it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_can_be_told_from_the_page():
    style = (Path(svg.__file__).parent / "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*)\}", style)]
    assert len(schemes) == 3
    for scheme in schemes:
        for text in ("text", "quiet"):
            assert min(contrast(scheme[text], scheme[ground]) for ground in ("page", "box")) >= 4.5
        # Columns of the negative colour have an outline.
        for drawn in ("network", "optimum", "descent", "bound", "positive", "data"):
            assert contrast(scheme[drawn], scheme["page"]) >= 3.0


def test_pictures_are_described():
    axis = svg.Axis.around([0.0, 1.0], "x")
    page = svg.curves("key", "A <title>", "What & how", axis, axis, [])
    assert 'role="img" aria-labelledby="key-title key-text"' in page
    assert '<title id="key-title">A &lt;title&gt;</title><desc id="key-text">What &amp; how</desc>' in page
