"""Profiles of paths against the networks on them."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, landscape
from cvxnn.display import COLOURS, PathDisplay
from cvxnn.landscape.network_path import NetworkPath


def descent() -> NetworkPath:
    problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1)
    rng = np.random.default_rng(2)
    return landscape.descent_path(problem, ReLUNetwork(rng.normal(size=(5, 2)), rng.normal(size=5)))


def test_profile_is_that_of_the_networks_and_falls_to_the_bound():
    path = descent()
    display = PathDisplay.from_path(path, num=50)
    assert set(path.breakpoints) <= set(display.times) and len(display.times) >= 50
    values = [path(t).objective(path.problem) for t in display.times]
    np.testing.assert_allclose(display.objective, values, rtol=1e-12)
    assert np.all(np.diff(display.objective) <= 1e-12)
    assert display.lower_bound <= display.objective[-1] <= display.lower_bound * (1 + 1e-9)
    steps = display.steps()
    assert steps[0][1] == 0.0 and steps[-1][2] == 1.0
    assert all(one[2] == two[1] and one[0] != two[0] for one, two in pairwise(steps))


def test_neighbouring_pieces_of_one_stage_are_one_step():
    display = PathDisplay(
        times=np.linspace(0.0, 1.0, 4),
        objective=np.array([3.0, 2.0, 1.0, 1.0]),
        breakpoints=np.array([0.0, 0.25, 0.5, 1.0]),
        stages=("balance", "insert", "insert"),
        lower_bound=-np.inf,
        target_is_global=False,
        width=2,
    )
    assert display.steps() == [("balance", 0.0, 0.25), ("insert", 0.25, 1.0)]
    with pytest.raises(ValueError, match="lower bound; this path has none"):
        display.plot(log=True)


@pytest.mark.parametrize("log", [False, True])
def test_drawing(log):
    display = PathDisplay.from_path(descent()).plot(log=log)
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    assert picture.getvalue()[:4] == b"\x89PNG"
    assert display.line_.get_color() == COLOURS["path"]
    assert display.ax_.get_yscale() == ("log" if log else "linear")
    shown = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "end: global optimum, proved" in shown and {step[0] for step in display.steps()} <= set(shown)
    heights = np.asarray(display.line_.get_ydata())
    if log:
        top = display.objective[0] - display.lower_bound
        np.testing.assert_allclose(heights, np.maximum(display.objective - display.lower_bound, 1e-6 * top))
    else:
        np.testing.assert_array_equal(heights, display.objective)


def test_only_paths_are_taken():
    with pytest.raises(ValueError, match="path must be a NetworkPath; got int"):
        PathDisplay.from_path(3)  # type: ignore[arg-type]
