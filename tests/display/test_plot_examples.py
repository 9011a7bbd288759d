"""The examples of the gallery run as they are, print what their text says, and their figures render."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "plot_arrangement": ["6 patterns of 8", "44 cells, 4 optimal directions"],
    "plot_certificate": ["global optimum with 7 neurons", "Not optimal", "in scope patterns"],
    "plot_dynamics_large_start": ["patterns 15 -> 15", "convex optimum of the patterns 0.01206"],
    "plot_dynamics_one_neuron": ["at the end 0.01", "proved optimum of all widths"],
    "plot_dynamics_optimum": ["proved optimum 0.00", "with 5 neurons"],
    "plot_dynamics_patterns": [
        "16 patterns; proved optimum 0.01206",
        "512 neurons: 15.0 patterns, optimum   1.00 times",
    ],
    "plot_dynamics_small_start": ["patterns 15 at the start, 5 at that step, 5 at last"],
    "plot_landscape": ["optimum 0.193750", "local minimum"],
    "plot_optimal_set": [
        "8 optimal directions of rank 5, a polytope of masses of dimension 3",
        "4           2        48",
        "first connected width = 6",
    ],
    "plot_paths": ["largest rise on the way", "objectives between 0.57"],
    "plot_spline": ["status='global optimum'", "farthest kink from a sample: 0.0"],
}


def test_no_example_is_left_out():
    assert {path.stem for path in EXAMPLES.glob("plot_*.py")} == set(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_example(name, monkeypatch, capsys):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setattr(plt, "show", lambda: None)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in PRINTED[name]:
        assert text in printed
    assert plt.get_fignums()
    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, format="png", dpi=40)
        assert picture.getvalue()[:4] == b"\x89PNG"


def test_films_and_pages_go_into_the_folder_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plot_dynamics_small_start", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "plot_dynamics_small_start.py"), run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == {"small_start.gif", "small_start.html"}
    assert set(map(str, tmp_path.iterdir())) <= set(capsys.readouterr().out.split())
