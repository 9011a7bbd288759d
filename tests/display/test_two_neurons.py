"""The surface of two neurons: convex optima, critical points and the proof, against brute force."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.display import COLOURS, TwoNeuronDisplay


def two_points(beta: float = 0.1) -> Problem:
    return Problem([[-1.0], [2.0]], [1.0, 2.0], beta=beta)


def random_problems():
    rng = np.random.default_rng(5)
    for loss, signs in product(("squared", "logistic", "huber", "squared_hinge"), ((1, 1), (1, -1), (-1, -1))):
        X = rng.normal(size=(7, 1))
        y = rng.choice([-1.0, 1.0], size=7) if loss in ("logistic", "squared_hinge") else 2.0 * rng.normal(size=7)
        yield Problem(X, y, beta=0.3, loss=loss, sample_weight=rng.uniform(0.5, 2.0, size=7)), np.array(signs)


def objective(problem: Problem, signs: np.ndarray, z: np.ndarray) -> float:
    """From the weights of the balanced network."""
    root = np.sqrt(np.abs(z))
    return ReLUNetwork((np.sign(z) * root)[:, None], signs * root).objective(problem)


def test_two_points_in_closed_form():
    display = TwoNeuronDisplay.from_problem(two_points())
    # One neuron a point: z = (y -+ beta / x) / x; both on the point x = 2: their slopes sum to the same.
    right, left = (2.0 - 0.1 / 2.0) / 2.0, -(1.0 - 0.1)
    ends = {tuple(region.cells): region.ends for region in display.regions}
    np.testing.assert_allclose(ends[1.0, -1.0], [[right, left]] * 2, rtol=1e-12)
    np.testing.assert_allclose(ends[1.0, 1.0], [[right, 0.0], [0.0, right]], rtol=1e-12)
    np.testing.assert_allclose(ends[-1.0, -1.0], [[left, 0.0], [0.0, left]], rtol=1e-12)
    masks = {tuple(region.cells): region.masks.tolist() for region in display.regions}
    assert masks[1.0, -1.0] == [[False, True], [True, False]]
    # The six corners of the picture: origin, four ends of the valleys, two optima.
    assert len(display.critical) == 7 and sum(point.is_minimum for point in display.critical) == 2
    assert display.is_global and len(display.best) == 2
    assert display.optimum == pytest.approx(0.5 * 0.05**2 + 0.5 * 0.1**2 + 0.1 * (right - left), rel=1e-12)


@pytest.mark.parametrize(("problem", "signs"), list(random_problems()))
def test_regions_and_critical_points_against_brute_force(problem, signs):
    display = TwoNeuronDisplay.from_problem(problem, signs, resolution=41)
    for region in display.regions:
        bounds = [(0.0, None) if cell > 0 else (None, 0.0) for cell in region.cells]
        starts = (0.1 * region.cells, 2.0 * region.cells)
        found = [
            minimize(lambda z: objective(problem, signs, z), z, bounds=bounds, method="L-BFGS-B").fun for z in starts
        ]
        assert region.objective == pytest.approx(min(found), rel=1e-5)
        assert region.objective <= min(found) * (1 + 1e-10)
        for share in (0.0, 0.3, 1.0):
            z = (1 - share) * region.ends[0] + share * region.ends[1]
            assert np.all(z * region.cells >= 0)
            assert objective(problem, signs, z) == pytest.approx(region.objective, rel=1e-12)
    assert display.optimum <= display.values.min() * (1 + 1e-12)
    check_verdicts(problem, signs, display)
    assert display.lower_bound <= solve(problem, tol=1e-9).objective
    assert display.is_global == (display.optimum <= display.lower_bound * (1 + 1e-6))


def check_verdicts(problem: Problem, signs: np.ndarray, display: TwoNeuronDisplay) -> None:
    """Local minima by small steps to all sides, critical points by the hull of the gradients around."""
    angles = np.linspace(0.0, 2.0 * np.pi, 49)[:-1]
    ring = np.c_[np.cos(angles), np.sin(angles)]
    assert display.critical
    middles = [(region.ends.mean(axis=0), region.is_minimum) for region in display.regions]
    for z, is_minimum in [*middles, *((point.position, point.is_minimum) for point in display.critical)]:
        value = objective(problem, signs, z)
        lowest = min(objective(problem, signs, z + r * step) for r in (1e-3, 1e-2) for step in ring)
        assert is_minimum == (lowest >= value - 1e-10)
    for point in display.critical:
        gradients = []
        for corner in product((-1.0, 1.0), repeat=2):
            z = point.position + 1e-7 * np.array(corner)
            steps = 1e-8 * np.eye(2)
            slopes = [objective(problem, signs, z + e) - objective(problem, signs, z - e) for e in steps]
            gradients.append(np.array(slopes) / 2e-8)
        # Smallest size of a convex combination of the gradients, in the maximum norm.
        A = np.array(gradients).T
        result = linprog(
            [0, 0, 0, 0, 1],
            A_ub=np.r_[np.c_[A, -np.ones(2)], np.c_[-A, -np.ones(2)]],
            b_ub=np.zeros(4),
            A_eq=[[1, 1, 1, 1, 0]],
            b_eq=[1],
        )
        assert result.fun <= 1e-5


def test_points_of_one_valley_of_global_optima_are_one_best():
    display = TwoNeuronDisplay.from_problem(Problem([[1.0], [2.0]], [1.0, 3.0], beta=0.1)).plot()
    slope = (1.0 + 6.0 - 0.1) / 5.0
    np.testing.assert_allclose(display.best, [[0.5 * slope, 0.5 * slope]])
    assert display.is_global
    # Also where the segment comes after points on it.
    turned = TwoNeuronDisplay.from_problem(Problem([[-1.0], [-2.0], [0.5]], [1.0, 3.0, -1.0], beta=0.1))
    assert turned.best.shape == (1, 2) and np.all(turned.best < 0)
    green = [line for line in display.ax_.lines if line.get_color() == COLOURS["optimum"]]
    assert len(green) == 2
    np.testing.assert_allclose(green[0].get_xydata(), [[slope, 0.0], [0.0, slope]])


def test_the_zero_network_is_the_only_critical_point_from_beta_max_on():
    display = TwoNeuronDisplay.from_problem(two_points(100.0))
    assert [point.position.tolist() for point in display.critical] == [[0.0, 0.0]]
    assert display.critical[0].is_minimum and display.is_global
    np.testing.assert_array_equal(display.best, [[0.0, 0.0]])


def test_verdicts_agree_with_stationarity_inside_the_regions():
    problem = two_points()
    display = TwoNeuronDisplay.from_problem(problem)
    for region in display.regions:
        result = landscape.stationarity(problem, display.network(region.ends.mean(axis=0)))
        assert result.is_directional and region.is_minimum


def test_values_are_those_of_the_networks_and_paths_are_projected():
    problem = two_points()
    nets = [ReLUNetwork([[2.0], [-0.5]], [0.5, 1.0]), ReLUNetwork([[1.0], [-1.0]], [1.0, 0.5])]
    display = TwoNeuronDisplay.from_problem(problem, paths={"course": nets}, resolution=9)
    np.testing.assert_allclose(display.paths["course"], [[1.0, -0.5], [1.0, -0.5]])
    for i, j in ((0, 0), (3, 5), (8, 2)):
        point = [display.z[j], display.z[i]]
        assert display.values[i, j] == pytest.approx(display.network(point).objective(problem), rel=1e-12)


def test_no_proof_is_claimed_where_the_signs_do_not_suffice():
    problem = Problem([[-1.0], [2.0]], [1.0, -2.0], beta=0.1)
    display = TwoNeuronDisplay.from_problem(problem).plot()
    assert not display.is_global
    labels = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert any("not of all networks" in label for label in labels) and not any(
        "proved for" in label for label in labels
    )
    assert TwoNeuronDisplay.from_problem(problem, (1, -1)).is_global


@pytest.mark.parametrize("three", [False, True])
def test_drawing(three):
    start = [ReLUNetwork([[0.9], [1.2]], [1.0, 1.0])]
    display = TwoNeuronDisplay.from_problem(two_points(), paths={"descent": start}, resolution=31).plot(three=three)
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    assert picture.getvalue()[:4] == b"\x89PNG"
    stars = [line for line in display.ax_.lines if line.get_marker() == "*"]
    assert len(stars) == 2 and {line.get_color() for line in stars} == {COLOURS["optimum"]}
    if not three:
        np.testing.assert_allclose([line.get_xydata()[0] for line in stars], display.best)
        assert len(display.ax_.texts) == 4 and "diag(0, 1)" in display.ax_.texts[0].get_text()


def test_fits_are_those_of_the_networks():
    display = TwoNeuronDisplay.from_problem(two_points(), resolution=11).plot_fits()
    *fits, data = display.ax_.lines
    np.testing.assert_array_equal(data.get_xydata(), [[-1.0, 1.0], [2.0, 2.0]])
    # Both global optima are one function; each valley is another.
    assert [line.get_color() for line in fits] == [COLOURS["optimum"], COLOURS["network"], COLOURS["network"]]
    for line, left, right in zip(fits, (0.9, 0.0, 0.9), (0.975, 0.975, 0.0), strict=True):
        x = np.asarray(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), np.where(x > 0, right * x, -left * x), atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "options", "message"),
    [
        (Problem([[1.0, 2.0]], [1.0]), {}, "one feature; X has 2 columns"),
        (two_points(0.0), {}, "beta > 0"),
        (two_points(), {"signs": (1, 0)}, r"signs must be two numbers \+1 or -1"),
        (two_points(), {"paths": {"p": [ReLUNetwork([[1.0]], [1.0])]}}, "width 2"),
        (two_points(), {"paths": {"p": [ReLUNetwork([[1.0], [1.0]], [1.0, -1.0])]}}, "output weights"),
        (two_points(), {"paths": {"p": []}}, "holds no network"),
        (two_points(), {"resolution": 1}, "resolution must be an integer of at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(problem, options, message):
    with pytest.raises(ValueError, match=message):
        TwoNeuronDisplay.from_problem(problem, **options)
