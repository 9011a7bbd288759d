"""Parallel networks: brute-force optima, closed relations with two layers, gradient descent, and plain refusals."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement, product
from pathlib import Path

import numpy as np
import pytest

from cvxnn import ParallelReLU, ParallelReLUNetwork, Problem, ReLU, ReLUNetwork, patterns, solve
from cvxnn.programs.parallel_groups import linear_group
from cvxnn.programs.parallel_relu import ParallelOptions, _Run
from cvxnn.progress import Recorder
from cvxnn.solvers.conic_groups import solve_groups
from cvxnn.solvers.trees import Trees, ascend, descend_jointly, random_trees, tree_norms

FIXTURE = json.loads((Path(__file__).parent.parent / "data/16_vector_and_three_layer.json").read_text())["three_layer"]
NORMS = ("path", "l21")


def fixture() -> Problem:
    return Problem(FIXTURE["X"], FIXTURE["y"], FIXTURE["beta"])


def random_problem(seed: int, n: int = 6, d: int = 2, beta: float = 0.3, loss: str = "squared") -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n)
    return Problem(X, np.sign(y) if loss in ("logistic", "squared_hinge") else y, beta, loss)


def full_program(problem: Problem, norm: str) -> float:
    """Optimum over every pair of patterns and signs and all 2^n outer patterns, realisable or not."""
    d = problem.n_features
    masks = patterns.enumerate_patterns(problem.X).masks
    groups = []
    for pair in combinations_with_replacement(product(range(len(masks)), (1.0, -1.0)), 2):
        inner, signs = masks[[pair[0][0], pair[1][0]]], np.array([pair[0][1], pair[1][1]])
        fixed = np.asarray(inner[signs > 0].any(axis=0))
        mixed = fixed & inner[signs < 0].any(axis=0)
        if not fixed.any():
            continue
        for bits in product((True, False), repeat=int(mixed.sum())):
            outer = fixed.copy()
            outer[mixed] = bits
            groups += [linear_group(problem.X, [inner, outer], [signs], s) for s in (1.0, -1.0)]
    vectors = solve_groups(problem, groups, 2 if norm == "l21" else 1)
    assert vectors is not None
    fit = np.sum([group.fit @ z for group, z in zip(groups, vectors, strict=True)], axis=0)
    return problem.loss_value(fit) + problem.beta * float(tree_norms(vectors.reshape(-1, 2, d), norm).sum())


@pytest.mark.parametrize(("norm", "key"), [("path", "p_three_layer_path_fro"), ("l21", "p_three_layer_l21")])
def test_brute_force_optimum_of_the_fixture(norm, key):
    s = solve(fixture(), architecture=ParallelReLU(penalty=norm))
    assert s.scope == "global"
    assert s.status.converged
    assert s.gap <= 1e-6
    assert s.objective == pytest.approx(FIXTURE[key], abs=1e-8)
    assert s.lower_bound <= FIXTURE[key] + 1e-9
    assert s.network.objective(fixture()) == s.objective


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_full_enumeration(norm, loss):
    problem = random_problem(3, n=4, loss=loss, beta=0.2)
    s = solve(problem, architecture=ParallelReLU(penalty=norm))
    truth = full_program(problem, norm)
    assert s.scope == "global"
    assert s.objective == pytest.approx(truth, abs=1e-6 * truth)
    assert s.lower_bound <= truth + 1e-8


@pytest.mark.parametrize("seed", range(3))
def test_relations_with_two_layers(seed):
    problem = random_problem(seed)
    two = solve(problem, architecture=ReLU())
    l21 = solve(problem, architecture=ParallelReLU(penalty="l21"))
    path = solve(problem, architecture=ParallelReLU(penalty="path"))
    lighter = Problem(problem.X, problem.y, problem.beta / np.sqrt(2.0))
    assert l21.objective <= two.objective * (1 + 1e-6)
    assert path.objective <= solve(lighter).objective * (1 + 1e-6)
    assert l21.scope == path.scope == "global"


def test_strictly_better_than_two_layers():
    assert solve(fixture(), architecture=ParallelReLU(penalty="l21")).objective < FIXTURE["p_two_layer"] - 0.01
    path = solve(fixture(), architecture=ParallelReLU()).objective
    assert path < FIXTURE["p_two_layer_beta_over_sqrt2"] - 0.01


@pytest.mark.parametrize("architecture", [ParallelReLU(depth=2), ParallelReLU(width=1), ParallelReLU(5, 1)], ids=repr)
def test_one_neuron_in_each_layer_is_the_two_layer_problem(architecture):
    problem = random_problem(5)
    two, s = solve(problem), solve(problem, architecture=architecture)
    assert s.objective == pytest.approx(two.objective, rel=1e-8)
    assert s.network.depth == architecture.depth
    assert s.network.objective(problem) == s.objective
    assert s.scope == "global"


def test_the_search_itself_agrees_with_two_layers_for_one_neuron():
    problem = random_problem(5)
    run = _Run(problem, ParallelReLU(width=1), ParallelOptions(), Recorder(False))
    assert run.solve().objective == pytest.approx(solve(problem).objective, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_descent_from_many_starts_is_never_below_the_bound(norm):
    problem = random_problem(7, n=7)
    s = solve(problem, architecture=ParallelReLU(penalty=norm))
    rng = np.random.default_rng(0)
    for _ in range(15):
        start = random_trees(problem.X, 8, (2, 2), np.array([1.0, -1.0]), rng)
        trees = descend_jointly(problem, start, norm, steps=1000)
        network = ParallelReLUNetwork.from_vectors(trees.vectors, trees.signs, trees.outputs, norm)
        assert network.objective(problem) >= s.lower_bound
        assert network.objective(problem) >= s.objective * (1 - 1e-6)


@pytest.mark.parametrize("depth", [4, 5])
def test_deeper_networks(depth):
    problem = random_problem(1, n=8)
    s = solve(problem, architecture=ParallelReLU(depth=depth), time_limit=10.0)
    three = solve(problem, architecture=ParallelReLU())
    # Chains of single neurons above a tree cost nothing, so depth helps.
    assert s.objective <= three.objective * (1 + 1e-4)
    assert s.scope == "patterns"
    assert s.global_lower_bound <= s.lower_bound <= s.objective * (1 + 1e-12)
    assert s.network.depth == depth
    assert s.network.objective(problem) == s.objective


def test_large_beta_gives_the_zero_network():
    problem = random_problem(2)
    s = solve(Problem(problem.X, problem.y, 100.0), architecture=ParallelReLU())
    assert s.network.width == 0
    assert s.scope == "global"
    assert s.objective == pytest.approx(0.5 * np.sum(problem.y**2))


def test_zero_weights_rank_deficiency_and_scales():
    base = random_problem(4, n=5)
    s = solve(base, architecture=ParallelReLU())
    basis = [[1 / np.sqrt(5), 2 / np.sqrt(5), 0.0], [0.0, 0.0, 1.0]]
    rotated = np.vstack([1e4 * base.X @ basis, np.ones((1, 3))])
    problem = Problem(rotated, [*base.y, 9.0], 1e4 * base.beta, sample_weight=[1.0] * 5 + [0.0])
    scaled = solve(problem, architecture=ParallelReLU())
    assert scaled.objective == pytest.approx(s.objective, rel=1e-6)
    assert scaled.scope == "global"


def test_time_limit_interrupt_and_repetition():
    problem = random_problem(0, n=60, d=5)
    s = solve(problem, architecture=ParallelReLU(), time_limit=0.0)
    assert s.lower_bound <= s.objective
    assert not s.status.converged

    def interrupt(_):
        raise KeyboardInterrupt

    s = solve(problem, architecture=ParallelReLU(), verbose=interrupt)
    assert s.status.name == "INTERRUPTED"
    assert 0 <= s.lower_bound <= s.objective
    a, b = (solve(random_problem(1), architecture=ParallelReLU()) for _ in range(2))
    assert np.array_equal(a.network.W, b.network.W)
    assert a.lower_bound == b.lower_bound


def test_warm_start_keeps_its_objective():
    problem = random_problem(1)
    s = solve(problem, architecture=ParallelReLU())
    again = solve(problem, architecture=ParallelReLU(), warm_start=s.network, max_iter=1)
    assert again.objective <= s.objective * (1 + 1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "depth must be at least 2"),
        ({"width": 0}, "width must be a positive integer"),
        ({"penalty": "l2"}, 'penalty must be "path" or "l21"'),
        ({"depth": 4, "penalty": "l21"}, "at most three layers"),
    ],
)
def test_architecture_options(options, message):
    with pytest.raises(ValueError, match=message):
        ParallelReLU(**options)


def test_refusals():
    problem = random_problem(0, n=40, d=6)
    with pytest.raises(ValueError, match=r"combinations of first-layer patterns.*Leave it False"):
        solve(problem, architecture=ParallelReLU(), certify=True)
    with pytest.raises(ValueError, match="depth 2 and 3 only"):
        solve(problem, architecture=ParallelReLU(depth=4), certify=True)
    with pytest.raises(ValueError, match='patterns="auto" only'):
        solve(problem, architecture=ParallelReLU(), patterns=20)
    with pytest.raises(ValueError, match="warm_start must be a ParallelReLUNetwork"):
        solve(problem, architecture=ParallelReLU(), warm_start=ReLUNetwork.zero(6))
    with pytest.raises(ValueError, match="output bias"):
        solve(Problem(problem.X, problem.y, output_bias_decay=0.0), architecture=ParallelReLU())


@pytest.mark.parametrize("norm", NORMS)
def test_map_to_weights_and_back(norm):
    rng = np.random.default_rng(0)
    V, signs, outputs = rng.standard_normal((4, 3, 2)), np.sign(rng.standard_normal((4, 3))), np.array([1.0, -1, 1, -1])
    X = rng.standard_normal((20, 2))
    net = ParallelReLUNetwork.from_vectors(V, [signs], outputs, norm)
    assert np.allclose(net(X), Trees(V, (signs,), outputs).fit(X))
    assert np.isclose(net.penalty(), tree_norms(V, norm).sum())
    assert np.allclose(net.vectors()[0], V)
    # The weights are those of the regularisers in the papers.
    assert np.allclose(0.5 * (np.sum(net.b[0] ** 2) + np.sum(net.a**2)), net.penalty())
    sizes = np.sum(net.W**2, axis=-1)
    assert np.allclose(sizes if norm == "path" else sizes.sum(axis=1), 1.0)


def test_deep_map_and_gradient():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((9, 3))
    trees = random_trees(X, 5, (2, 2, 2, 3), np.array([1.0, -1.0]), rng)
    net = ParallelReLUNetwork.from_vectors(trees.vectors, trees.signs, trees.outputs)
    assert np.allclose(net(X), trees.fit(X))
    assert np.isclose(net.penalty(), tree_norms(trees.vectors, "path").sum())
    weights = rng.standard_normal((5, 9))
    _, slope = trees.gradient(X, weights)
    move = 1e-6 * rng.standard_normal(trees.vectors.shape)
    ahead = Trees(trees.vectors + move, trees.signs, trees.outputs).values(X)
    behind = Trees(trees.vectors - move, trees.signs, trees.outputs).values(X)
    assert np.isclose(np.sum(weights * (ahead - behind)) / 2, np.sum(slope * move), rtol=1e-5)


def test_ascent_stays_on_the_sphere():
    problem = random_problem(0, n=10, d=3)
    rng = np.random.default_rng(0)
    for norm in NORMS:
        starts = random_trees(problem.X, 12, (2, 3), np.array([1.0, -1.0]), rng)
        found, values = ascend(problem.X, problem.y, starts, norm)
        assert np.allclose(tree_norms(found.vectors, norm), 1.0)
        assert np.allclose(found.outputs * (found.values(problem.X) @ problem.y), values)


@pytest.mark.parametrize("seed", range(6))
def test_an_ascent_that_ends_in_the_zero_tree_warns_of_nothing(seed):
    rng = np.random.default_rng(seed)
    problem = Problem(rng.standard_normal((4, 1)), rng.standard_normal(4), 0.1)
    with np.errstate(divide="raise", invalid="raise"):
        assert solve(problem, architecture=ParallelReLU(penalty="l21")).gap <= 1e-6
