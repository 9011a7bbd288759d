"""The course of a solve as data and as a drawing."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

from cvxnn import Problem, ReLURegressor, solve
from cvxnn.display import COLOURS, GapDisplay


def problem() -> Problem:
    rng = np.random.default_rng(0)
    return Problem(np.c_[rng.normal(size=(12, 1)), np.ones(12)], rng.normal(size=12), beta=0.05)


def test_last_gap_is_that_of_the_certificate():
    solution = solve(problem())
    display = GapDisplay.from_solution(solution)
    assert display.gaps()[-1] == pytest.approx(max(solution.gap, 1e-16), rel=1e-9)
    # Weights and convex variables differ in the last digits.
    assert np.all(np.diff(display.objective) <= 1e-14) and np.all(np.diff(display.seconds) >= 0)
    assert display.scope == "global"


def test_estimator_and_drawing():
    rng = np.random.default_rng(1)
    estimator = ReLURegressor(alpha=0.1).fit(rng.normal(size=(15, 1)), rng.normal(size=15))
    display = GapDisplay.from_estimator(estimator).plot()
    assert display.ax_.get_yscale() == "log" and "every network" in display.ax_.get_ylabel()
    assert display.line_.get_color() == COLOURS["network"]
    np.testing.assert_array_equal(display.line_.get_ydata(), display.gaps())
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    assert picture.getvalue()[:4] == b"\x89PNG"
    again = display.plot(display.ax_)
    assert again.ax_ is display.ax_


def test_data_need_no_matplotlib_and_drawing_says_so():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from cvxnn import Problem, solve\n"
        "from cvxnn.display import GapDisplay\n"
        "d = GapDisplay.from_solution(solve(Problem([[1.0], [2.0]], [1.0, 2.0], beta=0.1)))\n"
        "try:\n    d.plot()\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == (
        "cvxnn.display draws with matplotlib, which is not installed: pip install 'cvxnn[plot]'."
    )


def test_wrong_axes_are_refused():
    import matplotlib.pyplot as plt

    axes = plt.figure().add_subplot(projection="3d")
    with pytest.raises(ValueError, match="ax must be two-dimensional axes; got three-dimensional ones"):
        GapDisplay.from_solution(solve(problem())).plot(axes)
