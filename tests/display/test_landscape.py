"""Planes of networks: objectives, projections and distances against the networks themselves."""

from __future__ import annotations

import io
from itertools import permutations

import numpy as np
import pytest
from matplotlib.text import Text

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.display import COLOURS, LandscapeDisplay


def problems() -> list[Problem]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 3))
    return [
        Problem(X, rng.normal(size=8), beta=0.2),
        Problem(X, rng.normal(size=(8, 2)), beta=0.2, sample_weight=rng.uniform(size=8)),
        Problem(X, rng.integers(0, 3, size=8), beta=0.2, loss="softmax"),
        Problem(X, rng.choice([-1.0, 1.0], size=8), beta=0.2, loss="logistic", output_bias_decay=0.5),
    ]


def random_network(problem: Problem, seed: int, width: int = 4) -> ReLUNetwork:
    rng = np.random.default_rng(seed)
    shape = (width,) if problem.n_outputs == 1 else (width, problem.n_outputs)
    bias = 0.0 if problem.output_bias_decay is None else float(rng.normal())
    return ReLUNetwork(rng.normal(size=(width, problem.n_features)), rng.normal(size=shape), output_bias=bias)


def flat(network: ReLUNetwork) -> np.ndarray:
    return np.concatenate([network.W.ravel(), network.a.ravel(), [network.output_bias]])


@pytest.mark.parametrize("problem", problems(), ids=lambda p: f"{p.loss.name}{p.n_outputs}")
def test_grid_and_points_are_those_of_the_networks(problem):
    nets = [random_network(problem, seed) for seed in range(3)]
    display = LandscapeDisplay.from_networks(problem, *nets, resolution=7)
    for i, j in ((0, 0), (2, 5), (6, 3)):
        network = display.plane.network([display.s[j], display.t[i]])
        assert display.values[i, j] == pytest.approx(network.objective(problem), rel=1e-12)
    for network, point in zip(nets, display.points, strict=True):
        assert point.residual <= 1e-12 and point.objective == network.objective(problem)
        np.testing.assert_allclose(flat(display.plane.network(point.position)), flat(network), atol=1e-12)
    # Distances in the picture are distances of weights.
    for i, j in ((0, 1), (0, 2), (1, 2)):
        seen = np.linalg.norm(display.points[i].position - display.points[j].position)
        assert seen == pytest.approx(np.linalg.norm(flat(nets[i]) - flat(nets[j])), rel=1e-12)
    np.testing.assert_allclose(display.plane.basis @ display.plane.basis.T, np.eye(2), atol=1e-14)


def test_sequences_of_networks_are_projected_orthogonally():
    problem = problems()[0]
    nets = [random_network(problem, seed) for seed in range(5)]
    display = LandscapeDisplay.from_networks(problem, *nets[:3], paths={"course": nets}, resolution=5)
    (course,) = display.paths
    basis = np.array([flat(nets[1]) - flat(nets[0]), flat(nets[2]) - flat(nets[0])]).T
    for network, position, residual, value in zip(
        nets, course.positions, course.residuals, course.objectives, strict=True
    ):
        moved = flat(network) - flat(nets[0])
        best = basis @ np.linalg.lstsq(basis, moved, rcond=None)[0]
        assert residual == pytest.approx(np.linalg.norm(moved - best), abs=1e-12)
        np.testing.assert_allclose(flat(display.plane.network(position)) - flat(nets[0]), best, atol=1e-12)
        assert value == network.objective(problem)
    # The grid covers all that is seen.
    assert display.s[0] < course.positions[:, 0].min() and display.t[-1] > course.positions[:, 1].max()


def test_descent_path_on_the_plane_and_the_proved_optimum():
    x = np.linspace(-1.0, 1.0, 5)
    problem = Problem(np.c_[x, np.ones(5)], np.abs(x), beta=0.1)
    best = solve(problem, tol=1e-11)
    start = random_network(problem, 1, width=landscape.effective_dimension(problem.X) + 1)
    path = landscape.descent_path(problem, start, optimum=best)
    middle = path(0.5)
    display = LandscapeDisplay.from_networks(
        problem, start, path.end, middle, paths={"path": path}, lower_bound=path.lower_bound, resolution=21
    )
    assert [point.kind for point in display.points] == ["network", "optimum", "network"]
    (curve,) = display.paths
    assert curve.kind == "path" and np.all(np.diff(curve.objectives) <= 1e-12)
    assert curve.residuals[0] <= 1e-12 and curve.residuals[-1] <= 1e-12
    assert np.all(display.values >= display.floor) and display.floor == path.lower_bound
    with pytest.raises(ValueError, match="it is no bound"):
        LandscapeDisplay.from_networks(problem, start, path.end, middle, lower_bound=2.0 * best.objective)


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_drawing(three, bounded):
    problem = problems()[0]
    nets = [random_network(problem, seed) for seed in range(3)]
    bound = 0.0 if bounded else None
    display = LandscapeDisplay.from_networks(problem, *nets, paths={"line": nets}, lower_bound=bound, resolution=15)
    display.plot(three=three)
    picture = io.BytesIO()
    display.figure_.savefig(picture, format="png")
    assert picture.getvalue()[:4] == b"\x89PNG"
    line, *points = display.ax_.lines
    assert line.get_color() == COLOURS["descent"] and {p.get_color() for p in points} == {COLOURS["network"]}
    if not three:
        np.testing.assert_array_equal(line.get_xydata(), display.paths[0].positions)
    word = "proved lower bound" if bounded else "lowest objective seen"
    shown = [text.get_text() for text in display.figure_.findobj(Text)]
    assert any(word in text.replace("\n", " ") for text in shown)


def test_directions_are_orthonormalised_and_directions_of_descent_fit():
    problem = Problem([[0.0, 1.0], [1.0, -1.0]], [2.0, 2.0], beta=1.0)
    network = ReLUNetwork([[1.0, 0.0]], [1.0])
    verdict = landscape.stationarity(problem, network)
    assert verdict.descent_direction is not None
    display = LandscapeDisplay.from_directions(
        problem, network, verdict.descent_direction, ([[3.0, 1.0]], [2.0]), extent=0.5, margin=0.0, resolution=5
    )
    d = np.concatenate([verdict.descent_direction.dW.ravel(), verdict.descent_direction.da, [0.0]])
    np.testing.assert_allclose(display.plane.basis[0], d / np.linalg.norm(d), atol=1e-15)
    np.testing.assert_allclose(display.s, np.linspace(-0.5, 0.5, 5))
    assert display.values[2, 2] == pytest.approx(3.5)
    # Clarke stationary at a concave kink: it falls along the first axis.
    assert display.values[2, 3] < 3.5
    assert LandscapeDisplay.from_directions(
        problem, network, ([[1.0, 0.0]], [0.0]), ([[0.0, 1.0]], [0.0]), margin=0.0, resolution=3
    ).s[-1] == pytest.approx(np.sqrt(2.0))


def test_what_spans_no_plane_is_refused():
    problem = problems()[0]
    one, two, three = (random_network(problem, seed) for seed in range(3))
    wide = random_network(problem, 3, width=5)
    with pytest.raises(ValueError, match="c has width 5, 3 features and 1 output"):
        LandscapeDisplay.from_networks(problem, one, two, wide)
    half = ReLUNetwork(0.5 * (one.W + two.W), 0.5 * (one.a + two.a))
    with pytest.raises(ValueError, match="collinear"):
        LandscapeDisplay.from_networks(problem, one, two, half)
    with pytest.raises(ValueError, match="not zero"):
        LandscapeDisplay.from_networks(problem, one, one, two)
    with pytest.raises(ValueError, match="three names"):
        LandscapeDisplay.from_networks(problem, one, two, three, names=("a", "b"))
    with pytest.raises(ValueError, match="d2 must have the shapes"):
        LandscapeDisplay.from_directions(problem, one, (two.W, two.a), (wide.W, wide.a))
    with pytest.raises(ValueError, match="d1 must be a pair"):
        LandscapeDisplay.from_directions(problem, one, 3, (two.W, two.a))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds no network"):
        LandscapeDisplay.from_networks(problem, one, two, three, paths={"nothing": []})


@pytest.mark.parametrize("size", [1e60, 1e100, 1e154, 1e300])
def test_weights_whose_squares_overflow_are_refused(size):
    """In one sentence, and without a warning of NumPy, wherever they come from."""
    problem = problems()[0]
    one, two, three = (random_network(problem, seed) for seed in range(3))
    large = ReLUNetwork(size * one.W, size * one.a)
    with pytest.raises(ValueError, match=r"^a has weights up to .* and objectives up to"):
        LandscapeDisplay.from_networks(problem, large, two, three)
    with pytest.raises(ValueError, match=r"^c has weights up to"):
        LandscapeDisplay.from_networks(problem, two, three, large, match=True)
    ways = (two.W, two.a), (three.W, three.a)
    with pytest.raises(ValueError, match=r"^network has weights up to"):
        LandscapeDisplay.from_directions(problem, large, *ways)
    with pytest.raises(ValueError, match=r"^The path 'descent' has weights up to"):
        LandscapeDisplay.from_directions(problem, one, *ways, paths={"descent": [two, large]})
    with pytest.raises(ValueError, match=r"^The grid has weights up to"):
        LandscapeDisplay.from_directions(problem, one, *ways, extent=size)
    with pytest.raises(ValueError, match=r"^The grid has weights up to"):
        LandscapeDisplay.from_networks(problem, one, two, three, margin=size)
    # Without weight decay the layers of a dead neuron may be large and the objective small.
    dead = ReLUNetwork(np.vstack([one.W[:3], np.full(3, 1e160)]), np.append(one.a[:3], 0.0))
    with pytest.raises(ValueError, match=r"^b has weights up to 1\.0e\+160"):
        LandscapeDisplay.from_networks(Problem(problem.X, problem.y, beta=0.0), one, dead, three)


@pytest.mark.parametrize("problem", problems(), ids=lambda p: f"{p.loss.name}{p.n_outputs}")
def test_matching_is_the_closest_of_all_orders(problem):
    a, b, c = (random_network(problem, seed) for seed in range(3))
    display = LandscapeDisplay.from_networks(problem, a, b, c, match=True, resolution=3)
    for point, other in zip(display.points[1:], (b, c), strict=True):
        closest = min(np.linalg.norm(flat(a) - flat(other.permuted(order))) for order in permutations(range(4)))
        assert np.linalg.norm(point.position) == pytest.approx(closest, rel=1e-12)
        assert point.residual <= 1e-12 and point.objective == pytest.approx(other.objective(problem), rel=1e-12)


def test_matching_sees_reordered_networks_and_their_paths_where_they_are():
    problem = problems()[0]
    a, b, c = (random_network(problem, seed) for seed in range(3))
    b = ReLUNetwork(a.W + 0.1 * b.W, a.a + 0.1 * b.a)
    c = ReLUNetwork(a.W + 0.1 * c.W, a.a + 0.1 * c.a)
    parts = np.linspace(0.0, 1.0, 5)
    course = [ReLUNetwork((1 - t) * a.W + t * b.W, (1 - t) * a.a + t * b.a) for t in parts]
    whole = LandscapeDisplay.from_networks(problem, a, b, c, paths={"course": course}, resolution=3)
    order = [2, 0, 3, 1]
    shuffled = [net.permuted(order) for net in course]
    same = LandscapeDisplay.from_networks(
        problem, a, b.permuted(order), c.permuted([1, 2, 3, 0]), match=True, paths={"course": shuffled}, resolution=3
    )
    for one, other in zip(same.points, whole.points, strict=True):
        np.testing.assert_allclose(one.position, other.position, atol=1e-12)
    np.testing.assert_allclose(same.values, whole.values, rtol=1e-12)
    np.testing.assert_allclose(same.paths[0].positions, whole.paths[0].positions, atol=1e-12)
    assert np.all(same.paths[0].residuals <= 1e-12)
    # Networks that differ in the order alone are one point, and no plane goes through it and another.
    with pytest.raises(ValueError, match="equal networks"):
        LandscapeDisplay.from_networks(problem, a, a.permuted(order), c, match=True)
