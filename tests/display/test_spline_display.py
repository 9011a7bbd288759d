"""Splines of one input: kinks and slopes against finite differences of the network."""

from __future__ import annotations

import io

import numpy as np
import pytest

from cvxnn import Problem, ReLUClassifier, ReLUNetwork, ReLURegressor, solve
from cvxnn.display import SplineDisplay
from cvxnn.splines import LinearSpline, fit_spline


def wavy(n: int = 30, beta: float = 0.05) -> Problem:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3, 3, n))
    return Problem(np.c_[x, np.ones(n)], np.sin(1.5 * x) + 0.1 * rng.standard_normal(n), beta=beta)


def test_slopes_are_those_of_the_network_between_its_kinks():
    problem = wavy()
    solution = solve(problem)
    display = SplineDisplay.from_solution(problem, solution)
    ends = np.concatenate([[display.knots[0] - 1], display.knots, [display.knots[-1] + 1]])
    assert len(display.slopes) == len(display.knots) + 1
    for left, right, slope in zip(ends[:-1], ends[1:], display.slopes, strict=True):
        inner = left + (right - left) * np.array([0.1, 0.35, 0.7, 0.9])
        values = solution.network(np.c_[inner, np.ones(4)])
        np.testing.assert_allclose(np.diff(values) / np.diff(inner), slope, rtol=1e-5, atol=1e-5)


def test_kinks_are_those_of_the_neurons_that_bend():
    problem = wavy()
    network = ReLUNetwork([[1.0, -1.0], [2.0, 1.0], [0.0, 1.0], [-1.0, 2.0], [1.0, -2.0]], [1.0, 1.0, 3.0, 1.0, 1.0])
    display = SplineDisplay.from_network(problem, network)
    # (2 - x)_+ bends by +1 at 2, (x - 2)_+ too; the constant neuron nowhere.
    np.testing.assert_allclose(display.knots, [-0.5, 1.0, 2.0])
    np.testing.assert_allclose(display.slopes, [-1.0, 1.0, 2.0, 4.0])


def test_hinges_that_cancel_or_meet_up_to_rounding_make_no_kink_of_their_own():
    x = np.array([0.0, 4.0])
    cancelled = SplineDisplay.from_spline(LinearSpline(0.0, [1.0, 2.0], [1.0, 1.0], [-1.0, 0.0]), x, x)
    np.testing.assert_allclose(cancelled.knots, [2.0])
    np.testing.assert_allclose(cancelled.slopes, [1.0, 2.0])
    met = SplineDisplay.from_spline(LinearSpline(0.0, [1.0, 1.0 + 1e-12], [1.0, 0.0], [0.0, 3.0]), x, x)
    np.testing.assert_allclose(met.knots, [1.0])
    np.testing.assert_allclose(met.slopes, [-3.0, 1.0])
    constant = SplineDisplay.from_spline(LinearSpline(2.0, [], [], []), x, x)
    assert len(constant.knots) == 0 and constant.slopes.tolist() == [0.0]
    assert constant.plot().ax_.get_title() == "0 kinks"


def test_estimators_and_splines_give_the_same_picture_as_their_data():
    problem = wavy()
    x, y = problem.X[:, 0], problem.y
    fit = fit_spline(x, y, beta=0.3)
    display = SplineDisplay.from_spline(fit, x, y).plot()
    np.testing.assert_allclose(display.knots, fit.spline.knots)
    assert all(np.min(np.abs(x - knot)) == 0.0 for knot in display.knots)
    drawn = display.ax_.lines[1]
    np.testing.assert_allclose(drawn.get_ydata(), fit.spline(drawn.get_xdata()))
    regressor = ReLURegressor(alpha=0.01).fit(x[:, None], y)
    fitted = SplineDisplay.from_estimator(regressor)
    np.testing.assert_allclose(fitted.spline(x), regressor.predict(x[:, None]), atol=1e-9)
    classifier = ReLUClassifier(alpha=0.01).fit(x[:, None], y > 0)
    np.testing.assert_allclose(
        SplineDisplay.from_estimator(classifier).spline(x), classifier.decision_function(x[:, None]), atol=1e-9
    )


def test_picture_renders_with_kinks_outside_of_it():
    problem = wavy()
    network = ReLUNetwork([[1.0, -100.0], [1.0, 0.0]], [1.0, 1.0])
    display = SplineDisplay.from_network(problem, network).plot()
    assert display.ax_.get_title() == "2 kinks, 1 of them outside of the picture"
    texts = [text.get_text() for text in display.ax_.texts]
    assert texts == ["+0", "+1"]
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    assert picture.getvalue()[:4] == b"\x89PNG"


def test_refusals():
    problem = Problem([[1.0, 2.0], [0.0, 1.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match="X must be one column, or one column and a column of ones"):
        SplineDisplay.from_network(problem, ReLUNetwork([[1.0, 0.0]], [1.0]))
    with pytest.raises(ValueError, match="network must take the 2 columns of X; it takes 1"):
        SplineDisplay.from_network(wavy(), ReLUNetwork([[1.0]], [1.0]))
    with pytest.raises(ValueError, match="x has 1 entries but y has 2"):
        SplineDisplay.from_spline(LinearSpline(0.0, [], [], []), [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="spline must be a LinearSpline or a SplineSolution; got float"):
        SplineDisplay.from_spline(1.0, [1.0], [1.0])
