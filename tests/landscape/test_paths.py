"""Descent paths and constant paths, against problems whose optimum is proved."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.landscape._vertex_graph import vertex_components
from cvxnn.landscape.connect import connect
from cvxnn.landscape.descent_path import descent_path
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.network_path import PathError
from cvxnn.landscape.optimal_set import optimal_set
from cvxnn.landscape.prune import prune
from tests.landscape._path_checks import KINDS, LOSSES, check_path, make_problem, make_start, padded, polygon


@pytest.mark.parametrize(("kind", "loss"), list(itertools.product(KINDS, LOSSES)))
def test_descent_to_the_global_optimum_at_the_smallest_sufficient_width(kind, loss):
    for seed in range(3):
        problem = make_problem(kind, loss, seed)
        width = effective_dimension(problem.X) + 1
        start = make_start(problem, width, (3 * seed + len(kind) + len(loss)) % 6, seed)
        optimum = solve(problem, tol=1e-11)
        path = descent_path(problem, start, optimum=optimum if seed else None)
        check_path(path, start)
        assert path.max_rise(2000) <= 1e-13
        assert path(1.0).objective(problem) <= optimum.objective * (1 + 1e-12)
        assert path.target_is_global
        assert path.lower_bound <= path(1.0).objective(problem) * (1 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_descent_to_a_given_optimal_network(kind):
    rng = np.random.default_rng(7)
    problem = make_problem(kind, "squared", 5)
    optimum = prune(problem, solve(problem, tol=1e-11).network)
    width = max(effective_dimension(problem.X), optimum.width) + 1
    for mode in range(6):
        target = padded(optimum, width, rng, splits=mode % 3)
        start = make_start(problem, width, mode, mode)
        path = descent_path(problem, start, target)
        check_path(path, start, target)
        assert path.max_rise(3000) <= 1e-13
        assert path.target_is_global


def test_width_far_above_the_samples():
    problem = make_problem("random", "squared", 1)
    start = make_start(problem, 300, 0, 0)
    path = descent_path(problem, start)
    check_path(path, start)
    assert len(path.pieces) <= 4
    assert path.max_rise(2000) <= 1e-13
    assert path.objectives(2)[1] == pytest.approx(solve(problem, tol=1e-11).objective, rel=1e-12)


def test_start_at_the_optimum():
    problem = make_problem("random", "squared", 2)
    width = effective_dimension(problem.X) + 1
    optimum = padded(solve(problem, tol=1e-11).network, width, np.random.default_rng(0), splits=1)
    path = descent_path(problem, optimum)
    assert np.ptp(path.objectives(1000)) <= 1e-14 * path.objectives(2)[0]
    loop = descent_path(problem, optimum, optimum)
    check_path(loop, optimum, optimum)


def test_zero_network_as_optimum_and_as_start():
    problem = Problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.1, -0.1, 0.1], beta=10.0)
    start = make_start(problem, 4, 0, 0)
    path = descent_path(problem, start)
    assert path.max_rise() == 0.0
    assert not np.any(path(1.0).W)
    assert path.target_is_global
    lively = Problem(problem.X, 100.0 * problem.y, beta=0.1)
    path = descent_path(lively, ReLUNetwork(np.zeros((4, 2)), np.zeros(4)))
    assert path.max_rise() <= 1e-13
    assert path.target_is_global


def test_only_the_atoms_of_a_given_optimum_are_used():
    problem = make_problem("polygon", "squared", 0)
    optimum = solve(problem, tol=1e-11)
    start = make_start(problem, problem.n_samples + 1, 0, 3)
    for given in (optimum, optimum.network):
        path = descent_path(problem, start, optimum=given)
        assert path.max_rise() <= 1e-13
        assert path(1.0).objective(problem) <= optimum.objective * (1 + 1e-12)
        assert path.target_is_global


def test_a_poor_optimum_leads_no_higher_and_is_not_called_global():
    problem = make_problem("random", "squared", 3)
    poor = ReLUNetwork(np.zeros((1, problem.n_features)), np.zeros(1))
    start = make_start(problem, problem.n_samples + 1, 0, 3)
    path = descent_path(problem, start, optimum=poor)
    assert path.max_rise() <= 1e-13
    assert path(1.0).objective(problem) <= poor.objective(problem)
    assert not path.target_is_global


def test_sample_weights_and_scales():
    base = make_problem("random", "squared", 4)
    weight = np.arange(base.n_samples) % 3.0
    problem = Problem(1e6 * base.X, 1e-4 * base.y, beta=10.0 * base.beta, sample_weight=weight)
    start = make_start(problem, effective_dimension(problem.X) + 1, 0, 0)
    path = descent_path(problem, start)
    assert path.max_rise() <= 1e-12
    assert path(1.0).objective(problem) <= solve(problem, tol=1e-11).objective * (1 + 1e-10)


def test_below_the_sufficient_width_paths_are_found_or_refused_with_the_reason():
    found = 0
    for seed in range(8):
        problem = make_problem("integer", "squared", seed)
        optimum = solve(problem, tol=1e-11)
        least = prune(problem, optimum.network).width
        for width in range(1, effective_dimension(problem.X) + 1):
            start = make_start(problem, width, 0, seed)
            try:
                path = descent_path(problem, start, optimum=optimum)
            except PathError as error:
                stuck = error.network
                assert stuck.objective(problem) <= start.objective(problem)
                assert stuck.objective(problem) > optimum.objective
                assert f"width {effective_dimension(problem.X) + 1} suffices" in str(error)
                continue
            found += width >= least
            check_path(path, start)
            assert path.max_rise(2000) <= 1e-13
            assert path(1.0).objective(problem) <= optimum.objective * (1 + 1e-9)
    assert found >= 10


def test_a_strict_local_minimum_stops_every_descent_below_the_sufficient_width():
    """Width 2 = m* + M*, yet a strict local minimum lies above the optimum: r_eff + 1 = 7 is what suffices."""
    X = [[0.4, -0.1], [-2.3, 1.0], [-1.4, 0.7], [0.4, 0.6], [0.5, 0.7], [0.6, 0.7]]
    problem = Problem(X, [0.0, 1.4, 0.9, 0.2, 0.2, 0.1], beta=0.2)
    optimum = solve(problem, tol=1e-11)
    assert prune(problem, optimum.network).width == 1
    start = ReLUNetwork([[-0.67, 0.31], [0.17, 0.26]], [0.74, 0.31])
    with pytest.raises(PathError, match="width 7 suffices") as caught:
        descent_path(problem, start)
    stuck = caught.value.network
    value = stuck.objective(problem)
    assert value == pytest.approx(0.145387694, rel=1e-8)
    assert value > 1.1 * optimum.objective
    assert np.min(np.abs(problem.X @ stuck.W.T)) > 0.02

    def objective(flat):
        return ReLUNetwork(flat[:4].reshape(2, 2), flat[4:]).objective(problem)

    flat = np.concatenate([stuck.W.ravel(), stuck.a])
    steps = 1e-4 * np.eye(6)
    gradient = [(objective(flat + e) - objective(flat - e)) / 2e-4 for e in steps]
    slopes = [[objective(flat + e + f) - objective(flat + e - f) for f in steps] for e in (*steps, *-steps)]
    hessian = (np.array(slopes[:6]) - np.array(slopes[6:])) / 4e-8
    assert np.max(np.abs(gradient)) < 1e-6
    assert np.linalg.eigvalsh(hessian)[0] > 0.1
    free = ReLUNetwork(np.vstack([stuck.W, np.zeros((5, 2))]), np.append(stuck.a, np.zeros(5)))
    path = descent_path(problem, free)
    assert path.max_rise() <= 1e-13
    assert path(1.0).objective(problem) == pytest.approx(optimum.objective, rel=1e-12)


@pytest.mark.parametrize("corners", [4, 5, 6, 8, 12])
def test_constant_paths_between_rotated_optima(corners):
    problem = Problem(polygon(corners), np.ones(corners), beta=0.1)
    optimum = prune(problem, solve(problem, tol=1e-11).network)
    rng = np.random.default_rng(corners)
    columns = np.maximum(problem.X @ optimum.W.T, 0.0)
    assert np.linalg.matrix_rank(columns) == optimum.width
    width = effective_dimension(problem.X) + 1
    for _ in range(6):
        ends = []
        for k in rng.integers(corners, size=2):
            c, s = np.cos(2 * np.pi * k / corners), np.sin(2 * np.pi * k / corners)
            turned = ReLUNetwork(optimum.W @ np.array([[c, s], [-s, c]]), optimum.a)
            ends.append(padded(turned, width, rng, splits=int(rng.integers(3))))
        path = connect(problem, *ends)
        check_path(path, *ends)
        values = path.objectives(2000)
        assert np.ptp(values) <= 1e-13 * values[0]
        assert path.target_is_global


@pytest.mark.parametrize(("corners", "target"), [(4, 1.0), (5, 1.0), (8, 1.0), (12, 1.0)])
def test_paths_exist_exactly_within_the_components(corners, target):
    """Below the width that always suffices, against the components of the graph of all vertices."""
    problem = Problem(polygon(corners), np.full(corners, target), beta=0.1)
    optimal = optimal_set(problem)
    vertices = optimal.vertices()
    sizes = np.count_nonzero(vertices, axis=1)
    rng = np.random.default_rng(corners)
    outcomes = set()
    for width in range(int(sizes.min()), int(sizes.max()) + 2):
        labels = vertex_components(vertices, width)
        usable = np.flatnonzero(labels >= 0)
        for _ in range(3):
            first, second = rng.choice(usable, size=2)
            ends = [padded(optimal.network(vertices[k]), width, rng, splits=1) for k in (first, second)]
            same = labels[first] == labels[second]
            isolated = sizes[first] == width
            outcomes.add((bool(same), bool(isolated)))
            if not same or isolated:
                if np.array_equal(ends[0].W, ends[1].W):
                    continue
                with pytest.raises(PathError, match=r"isolated point|different components"):
                    connect(problem, *ends)
                continue
            path = connect(problem, *ends)
            check_path(path, *ends)
            values = path.objectives(500)
            assert np.ptp(values) <= 1e-12 * values[0]
    assert len(outcomes) >= 2


def test_a_route_through_neurons_of_neither_network():
    """At width 8 the ten corners are connected, some vertices only through others."""
    problem = Problem(polygon(10), np.ones(10), beta=0.1)
    optimal = optimal_set(problem)
    vertices = optimal.vertices()
    rng = np.random.default_rng(0)
    unions = set()
    for _ in range(10):
        first, second = vertices[rng.integers(len(vertices), size=2)]
        unions.add(int(np.count_nonzero(first + second)))
        ends = [padded(optimal.network(masses), 8, rng) for masses in (first, second)]
        path = connect(problem, *ends)
        check_path(path, *ends)
        assert np.ptp(path.objectives(500)) <= 1e-12
    assert max(unions) > 8


def test_many_corners_need_many_pivots():
    """Nearly dependent contributions of 40 corners, at the smallest width that always suffices."""
    problem = Problem(polygon(40), np.ones(40), beta=0.1)
    optimum = prune(problem, solve(problem, tol=1e-11).network)
    c, s = np.cos(np.pi / 20), np.sin(np.pi / 20)
    turned = ReLUNetwork(optimum.W @ np.array([[c, s], [-s, c]]), optimum.a)
    width = effective_dimension(problem.X) + 1
    ends = [padded(network, width, np.random.default_rng(k)) for k, network in enumerate((optimum, turned))]
    path = connect(problem, *ends)
    check_path(path, *ends)
    values = path.objectives(1000)
    assert np.ptp(values) <= 1e-11 * values[0]


def test_a_permutation_needs_a_free_slot():
    problem = Problem(polygon(5), np.ones(5), beta=0.1)
    optimum = prune(problem, solve(problem, tol=1e-11).network)
    swapped = optimum.permuted(np.roll(np.arange(optimum.width), 1))
    with pytest.raises(PathError, match="isolated point"):
        connect(problem, optimum, swapped)
    wider = [ReLUNetwork(np.vstack([n.W, [[0.0, 0.0]]]), np.append(n.a, 0.0)) for n in (optimum, swapped)]
    path = connect(problem, *wider)
    check_path(path, *wider)
    assert set(path.stages) == {"permute"}
    stay = connect(problem, optimum, optimum)
    assert np.ptp(stay.objectives(100)) <= 1e-14


def test_networks_that_are_not_optimal_are_refused():
    problem = make_problem("random", "squared", 0)
    width = problem.n_samples + 1
    optimum = padded(solve(problem, tol=1e-11).network, width, np.random.default_rng(0))
    other = make_start(problem, width, 0, 1)
    with pytest.raises(PathError, match=r"b is not optimal: its objective .* is .* \(relative\) above"):
        connect(problem, optimum, other)
    with pytest.raises(PathError, match="target is not optimal"):
        descent_path(problem, optimum, other)
    zero = ReLUNetwork(np.zeros((width, problem.n_features)), np.zeros(width))
    with pytest.raises(PathError, match="a is not optimal: a further neuron lowers"):
        connect(problem, zero, zero)


def test_bad_input_gets_one_sentence():
    problem = make_problem("random", "squared", 0)
    network = make_start(problem, 3, 0, 0)
    wide = make_start(problem, 4, 0, 0)
    for walk in (connect, descent_path):
        with pytest.raises(PathError, match=r"width 4 .* width 3|width 3 .* width 4"):
            walk(problem, network, wide)
        with pytest.raises(ValueError, match=r"must be a cvxnn\.ReLUNetwork"):
            walk(problem, 3, network)
        with pytest.raises(ValueError, match="features and one output"):
            walk(problem, ReLUNetwork(np.ones((3, problem.n_features)), np.ones((3, 2))), network)
        with pytest.raises(ValueError, match="beta is 0"):
            walk(Problem(problem.X, problem.y, beta=0.0), network, network)
        with pytest.raises(ValueError, match="output bias"):
            walk(Problem(problem.X, problem.y, output_bias_decay=0.0), network, network)
    with pytest.raises(ValueError, match="optimum must be"):
        descent_path(problem, network, optimum=3)


def test_unusable_arguments_are_one_sentence():
    problem = Problem(np.eye(2), [1.0, 2.0], beta=0.1)
    network = ReLUNetwork(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="problem must be"):
        descent_path(None, network)
    with pytest.raises(ValueError, match="problem must be"):
        connect(None, network, network)
    with pytest.raises(ValueError, match="not finite"):
        descent_path(problem, ReLUNetwork(np.full((3, 2), 1e200), np.full(3, 1e-200)))
    with pytest.raises(ValueError, match="time_limit"):
        descent_path(problem, network, time_limit=-1.0)
    with pytest.raises(ValueError, match="num must be"):
        descent_path(problem, network).objectives(-1)
