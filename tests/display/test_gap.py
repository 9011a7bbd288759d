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


def test_bounds_are_the_course_that_was_proved():
    solution = solve(problem())
    display = GapDisplay.from_solution(solution).plot(values="objective")
    assert np.all(display.bounds <= solution.lower_bound) and np.all(np.diff(display.bounds) >= 0.0)
    assert display.bounds[-1] == solution.lower_bound
    assert np.all(display.bounds[:-1] <= solution.history.lower_bound)
    # No bound ever lies above the best objective of all.
    assert np.all(display.bounds <= np.min(display.objective))
    np.testing.assert_array_equal(display.line_.get_ydata(), display.objective)
    shown = display.bound_line_.get_ydata()
    np.testing.assert_array_equal(shown[display.bounds > 0.0], display.bounds[display.bounds > 0.0])
    assert np.all(np.isnan(shown[display.bounds == 0.0]))
    assert display.bound_line_.get_color() == COLOURS["bound"]
    low, high = display.ax_.get_ylim()
    assert low < display.lower_bound and high > display.objective[0]


@pytest.mark.parametrize("values", ["gap", "objective"])
def test_solves_on_one_picture_are_told_apart(values):
    import matplotlib.pyplot as plt

    solution = solve(problem())
    first = GapDisplay.from_solution(solution, name="one").plot(values=values)
    second = GapDisplay.from_solution(solution, name="two").plot(first.ax_, values=values)
    assert second.figure_ is first.figure_
    assert first.line_.get_linestyle() != second.line_.get_linestyle()
    assert first.line_.get_marker() != second.line_.get_marker()
    # The axes reach to the end of each, and one legend holds all.
    longer = GapDisplay(
        seconds=9.0 * second.seconds, objective=second.objective, lower_bound=0.1, scope="global", name="3"
    )
    assert longer.plot(first.ax_, values=values).ax_.get_xlim()[1] > longer.seconds[-1]
    (legend,) = first.figure_.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == (3 if values == "gap" else 6)
    assert all(any(name in text for text in texts) for name in ("one", "two", "3"))
    # Legends of others stay.
    _, axes = plt.subplots(1, 2)
    theirs = axes[0].figure.legend([], [])
    GapDisplay.from_solution(solution, name="one").plot(axes[1], values=values)
    assert axes[0].figure.legends == [theirs] and axes[1].get_legend() is not None
    with pytest.raises(ValueError, match='values must be "gap" or "objective"; got \'bound\''):
        first.plot(values="bound")  # type: ignore[arg-type]
