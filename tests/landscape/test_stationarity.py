"""Stationarity against one-sided differences, linear programs over all cells, and the convex program it belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape.stationarity import stationarity
from cvxnn.patterns import enumerate_patterns
from tests.oracles.conic import conic_optimum

DATA = Path(__file__).parents[1] / "data"
LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def random_directions(rng: np.random.Generator, X: np.ndarray, count: int) -> np.ndarray:
    """Unit vectors, many of them orthogonal to some samples: kinks have their extremes there."""
    d = X.shape[1]
    found = [rng.standard_normal((count, d))]
    for _ in range(count // 2):
        rows = X[rng.choice(len(X), rng.integers(1, max(d, 2)), replace=True)]
        _, values, right = np.linalg.svd(rows)
        rank = int(np.count_nonzero(values > 1e-9 * max(values[0], 1e-300)))
        if rank < d:
            found.append(rng.standard_normal((1, d - rank)) @ right[rank:])
    every = np.vstack([*found, X[np.any(X != 0, axis=1)], -X[np.any(X != 0, axis=1)]])
    return every / np.linalg.norm(every, axis=1, keepdims=True)


def directional_oracle(problem: Problem, network: ReLUNetwork, index: int, rng: np.random.Generator) -> float:
    """Steepest descent found over thousands of directions by one-sided differences in one hidden weight vector."""
    w = network.W[index]
    size = np.linalg.norm(w)
    directions = random_directions(rng, problem.X, 3000) * size
    step = 1e-7
    rest = np.delete(np.arange(network.width), index)
    fit = ReLUNetwork(network.W[rest], network.a[rest], network.output_bias)(problem.X)

    def values(weights: np.ndarray) -> np.ndarray:
        fits = fit[:, None] + np.maximum(problem.X @ weights.T, 0.0) * network.a[index]
        losses = np.array([problem.loss_value(column) for column in fits.T])
        return losses + 0.5 * problem.beta * np.sum(weights**2, axis=1)

    slopes = (values(w + step * directions) - values(w[None])) / step
    return float(max(0.0, -slopes.min() / size)) / (problem.beta * size)


def all_cell_gradients(problem: Problem, network: ReLUNetwork, index: int) -> np.ndarray:
    """Gradients in w on all open cells of the data whose closure holds it."""
    w, a = network.W[index], network.a[index]
    nu = problem.dual_vector(network(problem.X))
    masks = enumerate_patterns(problem.X).masks
    ahead = problem.X @ w
    limit = 1e-9 * np.linalg.norm(problem.X, axis=1) * np.linalg.norm(w)
    touching = masks[np.all(np.where(masks, 1.0, -1.0) * ahead >= -limit, axis=1)]
    return problem.beta * w - a * (touching * nu) @ problem.X


def in_hull(points: np.ndarray) -> bool:
    """Whether 0 lies in the hull, by a linear program on the largest deviation."""
    count, d = points.shape
    scale = np.abs(points).max()
    if scale == 0.0:
        return True
    A = np.block([[points.T / scale, -np.ones((d, 1))], [-points.T / scale, -np.ones((d, 1))]])
    cost = np.r_[np.zeros(count), 1.0]
    equal = np.r_[np.ones(count), 0.0][None]
    result = linprog(cost, A, np.zeros(2 * d), equal, [1.0], bounds=[(0, None)] * (count + 1))
    return bool(result.fun < 1e-8)


def instance(seed: int) -> tuple[Problem, ReLUNetwork]:
    """Small instances: general, integer, duplicated or opposite samples; neurons on kinks in half of them."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    X = rng.standard_normal((n, d))
    if seed % 4 == 1:
        X = rng.integers(-1, 2, (n, d)).astype(float)
    elif seed % 4 == 2:
        X = np.vstack([X[: n - n // 2], X[: n // 2] * rng.choice([1.0, -1.0, 2.0], (n // 2, 1))])
    elif seed % 4 == 3:
        X = np.column_stack([rng.integers(-1, 2, (n, d)), np.ones(n)]).astype(float)
    loss = LOSSES[(seed // 4) % 4]
    y = rng.standard_normal(n) if loss in ("squared", "huber") else rng.choice([-1.0, 1.0], n)
    problem = Problem(X, y, beta=float(rng.uniform(0.05, 0.6)), loss=loss)
    width = int(rng.integers(1, 4))
    W = rng.standard_normal((width, X.shape[1]))
    for i in range(width):
        if rng.random() < 0.7:
            rows = X[rng.choice(n, int(rng.integers(1, X.shape[1] + 1)))]
            _, values, right = np.linalg.svd(rows)
            rank = int(np.count_nonzero(values > 1e-9 * max(values[0], 1e-300)))
            if rank < X.shape[1]:
                W[i] = rng.standard_normal(X.shape[1] - rank) @ right[rank:]
    return problem, ReLUNetwork(W, rng.standard_normal(width))


def descended(problem: Problem, network: ReLUNetwork, *, rounds: int = 3) -> ReLUNetwork:
    """Networks at a minimum, up to the accuracy of L-BFGS."""
    shape = network.W.shape

    def unpack(theta: np.ndarray) -> ReLUNetwork:
        return ReLUNetwork(theta[: network.W.size].reshape(shape), theta[network.W.size :])

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        now = unpack(theta)
        ahead = problem.X @ now.W.T
        nu = problem.dual_vector(now(problem.X))
        gW = problem.beta * now.W - now.a[:, None] * (((ahead > 0) * nu[:, None]).T @ problem.X)
        ga = problem.beta * now.a - np.maximum(ahead, 0.0).T @ nu
        return now.objective(problem), np.r_[gW.ravel(), ga]

    theta = np.r_[network.W.ravel(), network.a]
    for _ in range(rounds):
        options = {"maxiter": 3000, "ftol": 0, "gtol": 1e-13}
        theta = minimize(cost, theta, jac=True, method="L-BFGS-B", options=options).x
    return unpack(theta)


# ---------------------------------------------------------------------------------------------------------------------
# The examples with answers known by hand
# ---------------------------------------------------------------------------------------------------------------------


def test_clarke_stationary_but_not_directionally():
    case = json.loads((DATA / "12_clarke_not_Bstationary.json").read_text())
    problem = Problem(case["X"], case["y"], beta=case["beta"])
    result = stationarity(problem, ReLUNetwork(case["W"], case["a"]))
    assert result.is_clarke is True
    assert result.is_directional is False
    assert result.clarke_residual < 1e-14
    assert result.directional_residual == pytest.approx(1.0, abs=1e-14)
    assert result.objective == pytest.approx(case["network_objective"], abs=1e-14)
    assert result.subsampled_optimum == pytest.approx(case["subsampled"]["both,+"], abs=1e-9)
    assert result.distance == pytest.approx(3.5 - case["subsampled"]["both,+"], abs=1e-9)
    assert {tuple(mask) for mask in result.patterns.masks} == {(True, True), (False, True)}
    assert result.descent_rate == pytest.approx(-1.0)
    assert abs(result.descent_direction.dW[0, 1]) == pytest.approx(1.0)


def test_concave_kink_compensated_by_dependent_samples():
    eye = np.eye(3)
    problem = Problem([eye[0], eye[1], eye[0] + eye[1], eye[2]], [-1.0, -1.0, 0.5, 2.0], beta=1.0)
    result = stationarity(problem, ReLUNetwork([[0.0, 0.0, 1.0]], [1.0]))
    assert result.is_directional is True and result.is_clarke is True
    assert result.neurons[0].concave.tolist() == [False, False, True]
    assert result.distance == pytest.approx(0.0, abs=1e-12)
    assert len(result.patterns) == 6


def test_hull_and_box_differ_for_dependent_samples():
    problem = Problem([[0.0, 1.0], [0.0, -1.0], [1.0, -1.0]], [0.75, -0.5, 2.0], beta=1.0)
    result = stationarity(problem, ReLUNetwork([[1.0, 0.0]], [1.0]))
    assert result.clarke_residual == pytest.approx(0.25, abs=1e-14)
    assert result.directional_residual == pytest.approx(0.5, abs=1e-14)
    assert result.is_clarke is False


@pytest.mark.parametrize(
    ("W", "a", "kind", "stationary"),
    [
        ([[0.0, 0.0]], [0.0], "zero", True),
        ([[1.0, 0.0]], [0.0], "(w, 0)", False),
        ([[0.0, 0.0]], [1.0], "(0, a)", False),
        ([[-1.0, -1.0]], [1.0], "dead", False),
    ],
)
def test_neurons_without_contribution(W, a, kind, stationary):
    problem = Problem(np.eye(2), [1.0, 2.0], beta=0.3)
    result = stationarity(problem, ReLUNetwork(W, a))
    assert result.neurons[0].kind == kind
    assert result.is_clarke is stationary and result.is_directional is stationary
    assert (result.descent_direction is None) is stationary
    if not stationary:
        assert result.directional_residual >= 1.0
        assert_lowers(result)


def assert_lowers(result) -> None:
    """The direction of descent lowers the objective at its step and, at its rate, for small steps."""
    problem, network, (dW, da) = result.problem, result.network, result.descent_direction
    start = network.objective(problem)

    def moved(t: float) -> float:
        bias = network.output_bias + t * result.descent_output_bias
        return ReLUNetwork(network.W + t * dW, network.a + t * da, bias).objective(problem)

    assert moved(result.descent_step) < start
    assert result.descent_rate < 0.0
    t = 1e-6 / max(1.0, np.abs(dW).max(initial=0.0), np.abs(da).max(initial=0.0))
    assert (moved(t) - start) / t == pytest.approx(result.descent_rate, rel=1e-3, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Independent truths
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(32))
def test_residuals_against_differences_and_linear_programs(seed):
    problem, network = instance(seed)
    result = stationarity(problem, network)
    rng = np.random.default_rng(seed)
    for neuron in result.neurons:
        if neuron.kind != "active":
            continue
        steepest = directional_oracle(problem, result.network, neuron.index, rng)
        # Sampled directions come close to the steepest one from below; the output weight enters beside them.
        assert steepest <= neuron.directional_residual * (1 + 1e-5) + 1e-5
        if neuron.output_residual < neuron.directional_residual:
            assert steepest >= 0.93 * neuron.directional_residual - 1e-5
        points = all_cell_gradients(problem, result.network, neuron.index)
        if neuron.output_residual < 1e-7 or not in_hull(points):
            assert (neuron.clarke_residual < 1e-7) == (in_hull(points) and neuron.output_residual < 1e-7)
        assert neuron.clarke_residual <= neuron.directional_residual
    if result.descent_direction is not None:
        assert_lowers(result)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_directional_stationarity_is_optimality_of_the_subsampled_program(seed):
    problem, network = instance(seed)
    candidates = [network, solve(problem, patterns=2, random_state=seed).network]
    if problem.loss.name == "squared":
        candidates.append(descended(problem, network, rounds=1))
    for candidate in candidates:
        result = stationarity(problem, candidate)
        assert result.is_directional is not None
        distance = result.distance / abs(result.objective)
        assert distance >= -1e-9
        if result.directional_residual < 1e-10:
            assert distance < 1e-9
        if distance > 1e-6:
            assert result.is_directional is False
        if result.directional_residual > 1e-2 and all(neuron.kind == "active" for neuron in result.neurons):
            assert distance > 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_subsampled_optimum_against_a_conic_solver(seed):
    problem, network = instance(seed)
    result = stationarity(problem, network)
    assert len(result.patterns) == len(result.pattern_signs)
    truth = conic_optimum(problem, result.patterns.masks, result.pattern_signs)
    assert result.subsampled_optimum == pytest.approx(truth, rel=1e-7, abs=1e-9)
    assert result.subsampled.lower_bound <= truth * (1 + 1e-8) + 1e-10
    assert result.subsampled.lower_bound == pytest.approx(truth, rel=1e-6, abs=1e-8)
    gates = result.patterns.gates
    used = np.any(problem.X != 0, axis=1)
    assert np.array_equal((gates @ problem.X.T > 0)[:, used], result.patterns.masks[:, used])


@pytest.mark.parametrize("name", ["01_sqrt3_staircase", "03_polygon6", "08_grid3x3_bias_degenerate"])
def test_vertices_of_optimal_sets_are_stationary(name):
    case = json.loads((DATA / f"{name}.json").read_text())
    problem = Problem(case["X"], case["y"], beta=case["beta"])
    U, s = np.array(case["atoms_directions"]), np.array(case["atoms_signs"], dtype=float)
    for masses in case["vertices_masses"]:
        network = ReLUNetwork.from_vectors(np.array(masses)[:, None] * U, s)
        result = stationarity(problem, network)
        assert result.is_clarke is True and result.is_directional is True
        assert result.directional_residual < 1e-9
        assert result.subsampled_optimum == pytest.approx(case["p_star"], rel=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_solutions_are_stationary(loss):
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.standard_normal((12, 2)), np.ones(12)])
    y = rng.standard_normal(12) if loss in ("squared", "huber") else rng.choice([-1.0, 1.0], 12)
    problem = Problem(X, y, beta=0.1, loss=loss)
    network = solve(problem, tol=1e-10).network
    result = stationarity(problem, network)
    assert result.is_directional is True and result.is_clarke is True
    assert result.descent_direction is None
    assert abs(result.distance) < 1e-9 * result.objective


# ---------------------------------------------------------------------------------------------------------------------
# Snapping, limits, output bias, input
# ---------------------------------------------------------------------------------------------------------------------


def test_a_network_near_its_kinks_is_snapped_onto_them():
    case = json.loads((DATA / "08_grid3x3_bias_degenerate.json").read_text())
    problem = Problem(case["X"], case["y"], beta=case["beta"])
    U, s, c = np.array(case["atoms_directions"]), np.array(case["atoms_signs"], float), case["vertices_masses"][0]
    exact = ReLUNetwork.from_vectors(np.array(c)[:, None] * U, s)
    rng = np.random.default_rng(0)
    near = ReLUNetwork(exact.W + 1e-5 * rng.standard_normal(exact.W.shape), exact.a)
    strict = stationarity(problem, near)
    assert strict.is_clarke is False
    assert strict.snapped.size == 0
    loose = stationarity(problem, near, kink_tol=1e-3, tol=1e-2)
    assert loose.is_directional is True
    assert loose.snapped.size > 0 and 1e-7 < loose.largest_snapped < 1e-3
    for one, other in zip(loose.neurons, stationarity(problem, exact).neurons, strict=True):
        assert np.array_equal(one.kinks, other.kinks)
    assert np.abs(loose.network.W - near.W).max() < 1e-4
    unmoved = stationarity(problem, near, kink_tol=1e-3, snap=False)
    assert np.array_equal(unmoved.network.W, near.W) and unmoved.snapped.size == 0


def test_networks_trained_by_gradients():
    """Minima away from kinks are found stationary, also in the wrong cells; runs stuck at kinks go on downhill."""
    smooth = stuck = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        problem = Problem(rng.standard_normal((7, 2)), rng.standard_normal(7), beta=0.2)
        start = ReLUNetwork(rng.standard_normal((3, 2)), rng.standard_normal(3))
        network = descended(problem, start)
        result = stationarity(problem, network, kink_tol=1e-5, tol=1e-4)
        if result.is_directional:
            smooth += 1
            assert abs(result.distance) < 1e-7 * result.objective
            assert result.objective >= solve(problem).lower_bound
        else:
            stuck += 1
            assert result.distance > 0.0
            assert_lowers(result)
    assert smooth >= 2 and stuck >= 1


def test_tiny_neurons_are_read_as_zero():
    problem = Problem([[1.0]], [2.0], beta=0.5)
    network = ReLUNetwork([[np.sqrt(1.5)], [1e-12]], [np.sqrt(1.5), -1e-12])
    result = stationarity(problem, network)
    assert result.zeroed.tolist() == [1] and result.is_directional is True
    assert stationarity(problem, network, snap=False).is_directional is False


def test_duplicated_and_opposite_samples_do_not_multiply_cells():
    rows = np.eye(3)[:2]
    X = np.vstack([np.repeat(rows, 30, axis=0), -np.repeat(rows, 30, axis=0), [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    y = np.r_[-np.ones(120) / 60, 2.0, 1.0]
    result = stationarity(Problem(X, y, beta=1.0), ReLUNetwork([[0.0, 0.0, 1.0]], [1.0]))
    assert result.is_directional is True
    assert len(result.patterns) == 4
    assert result.patterns.masks[:, -1].all()


def test_too_many_cells_are_told():
    rng = np.random.default_rng(0)
    line = np.column_stack([rng.standard_normal((12, 3)), np.zeros(12)])
    X = np.vstack([line, [[0.0, 0.0, 0.0, 1.0]]])
    problem = Problem(X, np.r_[1e-9 * rng.standard_normal(12), 2.0], beta=1.0)
    network = ReLUNetwork([[0.0, 0.0, 0.0, 1.0]], [1.0])
    limited = stationarity(problem, network, max_cells=4)
    assert limited.is_directional is None and "max_cells=4" in limited.reason
    with pytest.raises(ValueError, match="max_patterns"):
        _ = limited.subsampled_optimum
    full = stationarity(problem, network)
    assert full.is_directional is True and full.reason == ""
    # A descent that is found among the cells looked at decides, whatever their number.
    steep = Problem(X, np.r_[rng.standard_normal(12), 2.0], beta=1.0)
    assert stationarity(steep, network, max_cells=4).is_directional is False


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_output_bias(decay):
    X, y = np.array([[1.0], [-1.0], [2.0]]), np.array([1.0, 2.0, 4.0])
    problem = Problem(X, y, beta=0.5, output_bias_decay=decay)
    best = minimize(
        lambda t: ReLUNetwork([[t[0]], [-t[2]]], [t[1], t[3]], t[4]).objective(problem),
        [1.0, 1.0, 0.5, 0.5, 0.5],
        options={"gtol": 1e-11},
    ).x
    network = ReLUNetwork([[best[0]], [-best[2]]], [best[1], best[3]], best[4])
    result = stationarity(problem, network, tol=1e-4, kink_tol=1e-3)
    assert result.is_directional is True and result.output_bias_residual < 1e-4
    shifted = stationarity(problem, ReLUNetwork(network.W, network.a, best[4] + 0.1))
    assert shifted.output_bias_residual > 1e-3 and shifted.is_clarke is False
    assert shifted.descent_output_bias < 0.0
    assert_lowers(shifted)
    nothing = stationarity(problem, ReLUNetwork(np.zeros((0, 1)), np.zeros(0)))
    assert nothing.is_clarke is False
    assert_lowers(nothing)


def test_empty_network():
    problem = Problem(np.eye(2), [1.0, 2.0], beta=0.5)
    result = stationarity(problem, ReLUNetwork.zero(2))
    assert result.is_clarke is True and result.is_directional is True
    assert len(result.patterns) == 0 and result.distance == 0.0


@given(seed=st.integers(0, 10_000), power=st.sampled_from([-8, -3, 4, 8]))
@settings(max_examples=20, deadline=None)
def test_units_do_not_matter(seed, power):
    """Scaling the data by t and the weights along leaves both residuals unchanged."""
    problem, network = instance(seed - seed % 16)
    t = 10.0**power
    scaled = Problem(t * problem.X, problem.y, beta=t * problem.beta)
    other = ReLUNetwork(network.W / np.sqrt(t), network.a / np.sqrt(t))
    one, two = stationarity(problem, network), stationarity(scaled, other)
    assert two.clarke_residual == pytest.approx(one.clarke_residual, rel=1e-6, abs=1e-9)
    assert two.directional_residual == pytest.approx(one.directional_residual, rel=1e-6, abs=1e-9)


def test_bad_input():
    problem = Problem(np.eye(2), [1.0, 2.0], beta=0.5)
    network = ReLUNetwork(np.eye(2), [1.0, 1.0])
    with pytest.raises(ValueError, match="beta is 0"):
        stationarity(Problem(np.eye(2), [1.0, 2.0], beta=0.0), network)
    with pytest.raises(ValueError, match="2 features"):
        stationarity(problem, ReLUNetwork(np.eye(3), [1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="one output"):
        stationarity(problem, ReLUNetwork(np.eye(2), np.eye(2)))
    with pytest.raises(ValueError, match="kink_tol"):
        stationarity(problem, network, kink_tol=-1.0)
    with pytest.raises(ValueError, match="max_cells"):
        stationarity(problem, network, max_cells=0)
