"""Training dynamics as data, pictures, films and a page: figures against the networks of the run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork
from cvxnn.display import COLOURS, DynamicsDisplay
from cvxnn.landscape import dynamics

X = np.column_stack([np.linspace(-1.0, 1.0, 6), np.ones(6)])
LINE = Problem(X, [0.0, 0.5, 0.1, 0.7, 0.2, 1.0], beta=0.01)
BROWSERS = [name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)][:1]


def line_display(**options) -> tuple:
    run = dynamics(LINE, width=6, scale=0.5, steps=40, step_size=0.02, record=10, optima_every=2, **options)
    return run, DynamicsDisplay.from_dynamics(run)


def several() -> Problem:
    rng = np.random.default_rng(0)
    return Problem(rng.standard_normal((12, 4)), rng.integers(0, 3, 12), beta=0.1, loss="softmax")


def test_data_on_a_line_are_those_of_the_networks():
    run, display = line_display()
    assert display.on_line and display.fit_labels[0] == "input"
    for record in range(len(run)):
        network = run.network(record)
        x, fit = display.curves[record].T
        np.testing.assert_allclose(network(np.column_stack([x, np.ones(len(x))])), fit, rtol=1e-12)
        for neuron, (place, mass) in enumerate(display.neurons[record]):
            assert network.W[neuron] @ [place, 1.0] == pytest.approx(0.0, abs=1e-12)
            assert mass == pytest.approx(network.a[neuron] * np.linalg.norm(network.W[neuron]))
        np.testing.assert_array_equal(display.positive[record], network.a > 0)
        places, heights = display.kinks[record].T
        np.testing.assert_array_equal(places, run.activation_points[record])
        np.testing.assert_allclose(network(np.column_stack([places, np.ones(6)])), heights, rtol=1e-12)
    np.testing.assert_array_equal(display.samples, np.column_stack([X[:, 0], LINE.y]))
    np.testing.assert_array_equal(display.optima, run.trajectory.optima)
    assert display.optimum_steps.tolist() == [0, 20, 40]
    assert 0 < display.lower_bound == run.trajectory.global_lower_bound


def test_neurons_of_other_data():
    rng = np.random.default_rng(1)
    plane = dynamics(Problem(rng.standard_normal((8, 2)), rng.standard_normal(8), beta=0.1), width=5, steps=10)
    display = DynamicsDisplay.from_dynamics(plane)
    final = plane.final
    np.testing.assert_allclose(display.neurons[-1], np.abs(final.a)[:, None] * final.W, rtol=1e-12)
    assert not display.on_line and not display.has_labels and display.kinks is None
    np.testing.assert_allclose(display.curves[-1], np.column_stack([plane.problem.y, plane.fits[-1]]))
    run = dynamics(several(), width=5, steps=50)
    display = DynamicsDisplay.from_dynamics(run)
    assert display.has_labels and display.lower_bound == 0.0 and len(display.optima) == 0
    start, end = run.network(0).W, run.network(-1).W
    for i in range(5):
        cosine = start[i] @ end[i] / np.linalg.norm(start[i]) / np.linalg.norm(end[i])
        assert display.neurons[-1, i, 0] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-6)
        assert display.neurons[-1, i, 1] == pytest.approx(run.norms[-1, i] * np.linalg.norm(run.outputs[-1, i]))
    assert np.all(display.neurons[0, :, 0] < 1e-5)


def test_plot_shows_the_record():
    run, display = line_display()
    assert display.plot(record=2) is display and len(display.axes_) == 4
    fit, objective, neurons, patterns = display.axes_
    assert display.ax_ is fit and display.figure_ is fit.figure
    lines = {line.get_label(): line for axes in display.axes_ for line in axes.get_lines()}
    np.testing.assert_array_equal(np.column_stack(lines["network"].get_data()), display.curves[2])
    up = np.column_stack(lines["output weight > 0"].get_data())
    np.testing.assert_array_equal(up, display.neurons[2][run.outputs[2] > 0])
    assert lines["output weight > 0"].get_color() == COLOURS["positive"]
    assert lines["convex optimum of its patterns"].get_color() == COLOURS["optimum"]
    assert objective.get_yscale() == "log" and "step" in patterns.get_xlabel() and neurons.get_xlabel()
    again = display.plot(display.axes_)
    assert again.axes_[0] is fit
    for problem in (several(), Problem(X, [1, -1, 1, 1, -1, 1], beta=0.0, loss="logistic")):
        DynamicsDisplay.from_dynamics(dynamics(problem, width=3, steps=5)).plot().figure_.canvas.draw()


def test_heights_that_hardly_differ_have_a_linear_axis():
    start = dynamics(LINE, width=6, scale=0.5, steps=2000, step_size=0.02).final
    display = DynamicsDisplay.from_dynamics(dynamics(LINE, start, steps=5, step_size=1e-3))
    assert not display.is_logarithmic and display.plot().axes_[1].get_yscale() == "linear"
    _, display = line_display()
    heights = np.concatenate([display.objective, display.optima, [display.lower_bound]])
    assert display.is_logarithmic == (heights.max() >= 2.5 * heights.min()) and display.is_logarithmic
    display.objective = display.objective - 1.0
    assert not display.is_logarithmic


def test_film(tmp_path):
    from PIL import Image

    run, display = line_display()
    path = display.save(tmp_path / "film.GIF", fps=5.0, dpi=40.0)
    with Image.open(path) as film:
        assert film.n_frames == len(run) and film.format == "GIF"
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        display.save(tmp_path / "film.webm")
    with pytest.raises(ValueError, match="fps must be"):
        display.save(tmp_path / "film.gif", fps=0.0)


def test_animation_has_a_frame_for_each_record():
    run, display = line_display()
    film = display.animate(fps=10.0)
    assert film._interval == 100.0
    film._init_draw()
    for record in range(len(run)):
        film._draw_next_frame(record, blit=False)
        assert display.axes_[0].get_title(loc="right") == f"step {run.steps[record]}"


class Outline(HTMLParser):
    """Elements of a page, and its texts outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


HOSTILE = "</script><img src=x onerror=alert(1)> & \"quotes\" '{{data}}' {{rows}}"


def test_page_is_whole_escaped_and_needs_no_network(tmp_path):
    run, display = line_display()
    display.neuron_labels = (HOSTILE, "b")
    text = display.to_html(tmp_path / "page.html", title=HOSTILE).read_text(encoding="utf-8")
    page = Outline()
    page.feed(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1 and "img" not in tags and "link" not in tags
    assert not any("src" in attributes or "href" in attributes for _, attributes in page.elements)
    assert page.texts.count(HOSTILE) == 2
    names = {attributes.get("id") for _, attributes in page.elements}
    assert all(attributes["for"] in names for tag, attributes in page.elements if tag == "label")
    assert dict(page.elements)["html"] == {"lang": "en"}
    data = json.loads(re.search(r"const D = (\{.*\});", text).group(1))
    assert data["steps"] == run.steps.tolist() and data["neuronLabels"][0] == HOSTILE
    np.testing.assert_allclose(data["objective"], run.objective, rtol=1e-4)
    np.testing.assert_allclose(data["curves"], display.curves[:, :, 1], rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(data["neurons"], display.neurons, rtol=1e-4)
    assert f"<td>{run.objective[-1]:.5g}</td>" in text


def test_neurons_without_a_place_become_null(tmp_path):
    run = dynamics(LINE, ReLUNetwork([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0]), steps=2, step_size=0.001)
    assert np.isnan(run.activation_points[0, 0])
    kinks = DynamicsDisplay.from_dynamics(run).kinks
    assert np.isnan(kinks[0, 0]).all() and np.isfinite(kinks[0, 1]).all()
    text = DynamicsDisplay.from_dynamics(run).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "NaN" not in text and '"neurons":[[[null,' in text


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("width", [390, 1100])
def test_page_runs_in_a_browser(tmp_path, browser, width):
    """The script fills the state and the pictures, without an error, and nothing is wider than the window."""
    run, display = line_display()
    path = display.to_html(tmp_path / "page.html", title=HOSTILE)
    probe = (
        "<script>window.onerror = (m) => { document.documentElement.dataset.fault = m; };"
        "window.addEventListener('load', () => {"
        "const s = document.getElementById('record'); s.value = s.max; s.dispatchEvent(new Event('input'));"
        "const r = document.documentElement; r.dataset.over = r.scrollWidth - r.clientWidth;"
        "r.dataset.ink = [...document.querySelectorAll('canvas')].map((c) => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some((v) => v > 0)).join();});</script>"
    )
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<style>", probe + "<style>", 1), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [browser, *options, f"--window-size={width},800", "--virtual-time-budget=2000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    root = re.search(r"<html[^>]*>", done.stdout).group()
    assert "data-fault" not in root and 'data-over="0"' in root and 'data-ink="true,true,true,true"' in root
    assert f"step {run.steps[-1]} of {run.steps[-1]}: objective" in done.stdout


def test_wrong_use_is_refused():
    run, display = line_display(keep_weights=True)
    with pytest.raises(ValueError, match=f"one of the {len(run)} records; got 5"):
        display.plot(record=5)
    with pytest.raises(ValueError, match=r"ax must be four axes .*; got 1"):
        import matplotlib.pyplot as plt

        display.plot(plt.figure().add_subplot())
    with pytest.raises(ValueError, match="weights of the run were not kept"):
        DynamicsDisplay.from_dynamics(dynamics(LINE, width=2, steps=1, keep_weights=False))


def test_page_needs_no_matplotlib(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from cvxnn import Problem, landscape\n"
        "from cvxnn.display import DynamicsDisplay\n"
        "run = landscape.dynamics(Problem([[1.0], [2.0]], [1.0, 2.0]), width=2, steps=2)\n"
        "d = DynamicsDisplay.from_dynamics(run)\n"
        f"d.to_html({str(tmp_path / 'page.html')!r})\n"
        "try:\n    d.plot()\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install 'cvxnn[plot]'" in done.stdout and (tmp_path / "page.html").exists()
