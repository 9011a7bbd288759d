"""Results as tables for notebooks: true figures, valid markup, nothing that texts can inject."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, Status, landscape, patterns, solve
from cvxnn._html import card, curve

X = np.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
PROBLEM = Problem(X, [1.0, 0.0, 1.0], beta=0.1)


class Page(HTMLParser):
    """Open tags, cells and texts; fails where tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def cells(result: object) -> dict[str, str]:
    """Figures of the table by their names."""
    texts = Page(result._repr_html_()).texts[1:]  # type: ignore[attr-defined]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def test_solution_and_certificate():
    solution = solve(PROBLEM)
    table = cells(solution)
    assert table["status"] == "global optimum" and table["width"] == str(solution.network.width)
    assert float(table["objective"]) == pytest.approx(solution.objective, rel=1e-8)
    assert Status.GLOBAL_OPTIMUM.advice in solution._repr_html_()
    assert "no network of any width has an objective below" in solution.certificate._repr_html_()


def test_a_bound_among_patterns_is_never_called_global():
    P = patterns.sample_patterns(X, 2, random_state=0)
    page = solve(PROBLEM, patterns=P).certificate._repr_html_()
    assert "among networks confined to 2 activation patterns" in page and "no network of any width" not in page
    assert cells(solve(PROBLEM, patterns=P).certificate)["scope"] == "patterns"


def test_verdict_optimal_set_and_path():
    poor = ReLUNetwork([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 0.1]], [0.5, 0.1, 0.3, 0.1])
    judged = landscape.certify(PROBLEM, poor)
    assert cells(judged)["globally optimal"] == "no" and judged.verdict in Page(judged._repr_html_()).texts
    best = landscape.optimal_set(PROBLEM)
    assert cells(best)["optimal directions"] == str(len(best.signs))
    path = landscape.descent_path(PROBLEM, poor)
    page = Page(path._repr_html_())
    assert page.tags.count("polyline") == 1 and "objective along the path" in page.texts
    assert float(cells(path)["objective at the start"]) == pytest.approx(poor.objective(PROBLEM), rel=1e-8)


def test_texts_cannot_inject_markup():
    page = Page(card("<script>", [("<b>", "a & b<img>")], note='"<i>"'))
    assert set(page.tags) == {"div", "table", "caption", "strong", "tbody", "tr", "th", "td", "p"}
    assert page.texts == ["<script>", "<b>", "a & b<img>", '"<i>"']
    assert '"<' not in curve([0.0, 1.0], 'a"<b>')


def test_curve_runs_from_the_highest_to_the_lowest_value():
    points = curve([4.0, 2.0, 3.0], "x").split('points="')[1].split('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == [4.0, 60.0, 32.0]
    assert (
        len({p.split(",")[1] for p in curve([1.0, 1.0 + 1e-15], "x").split('points="')[1].split('"')[0].split()}) == 1
    )
    assert curve([1.0, np.inf], "x") == ""
