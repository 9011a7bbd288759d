"""Optimal sets of parallel networks against every combination of patterns and signs, and against two layers."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from cvxnn import GatedReLU, ParallelReLU, ParallelReLUNetwork, Problem, ReLUNetwork, landscape, patterns, solve
from cvxnn.landscape import OptimalSetError, ParallelOptimalSet
from cvxnn.programs.parallel_groups import linear_group
from cvxnn.solvers.trees import ascend, random_trees
from tests.landscape._instances import polygon, random_problem, triple
from tests.oracles.mass_polytope import vertices_by_supports

FIXTURE = json.loads((Path(__file__).parents[1] / "data/16_vector_and_three_layer.json").read_text())["three_layer"]
PATH = ParallelReLU(penalty="path")


def fixture() -> Problem:
    return Problem(FIXTURE["X"], FIXTURE["y"], FIXTURE["beta"])


def every_maximiser(problem: Problem, nu: np.ndarray) -> set[tuple]:
    """Maximisers that attain beta over all patterns and signs of both layers, realisable or not, without any bound."""
    masks = patterns.enumerate_patterns(problem.X).masks
    found = set()
    for (i, a), (j, b) in itertools.combinations_with_replacement(itertools.product(range(len(masks)), (1.0, -1.0)), 2):
        inner, signs = masks[[i, j]], np.array([a, b])
        on = np.asarray(inner[signs > 0].any(axis=0))
        mixed = on & inner[signs < 0].any(axis=0)
        for bits in itertools.product((True, False), repeat=int(mixed.sum())):
            outer = on.copy()
            outer[mixed] = bits
            for s in (1.0, -1.0):
                group = linear_group(problem.X, [inner, outer], [signs], s)
                gradient = group.fit.T @ nu
                residual = gradient + group.cone.T @ nnls(group.cone.T, -gradient)[0]
                size = np.linalg.norm(residual)
                if size >= problem.beta * (1.0 - 1e-7):
                    neurons = zip((residual / size).reshape(2, -1), signs, strict=True)
                    found.add((s, *sorted((sign, *(np.round(v, 5) + 0.0)) for v, sign in neurons)))
    return found


def as_keys(o: ParallelOptimalSet) -> set[tuple]:
    return {
        (s, *sorted((sign, *(np.round(v, 5) + 0.0)) for v, sign in zip(V, signs, strict=True)))
        for V, signs, s in zip(o.directions, o.inner_signs[0], o.signs, strict=True)
    }


INSTANCES = {
    "bump": fixture,
    "random 4x2": lambda: random_problem(4, 2, 3, beta=0.2),
    "random 5x2": lambda: random_problem(5, 2, 8, beta=0.05),
    "logistic": lambda: random_problem(5, 2, 2, beta=0.05, loss="logistic"),
    "triple": triple,
    "square": lambda: polygon(4),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_the_sub_networks_are_all_that_attain_beta(name):
    problem = INSTANCES[name]()
    o = landscape.optimal_set(problem, architecture=PATH)
    assert isinstance(o, ParallelOptimalSet)
    assert as_keys(o) == every_maximiser(problem, o.dual)
    assert o.gap <= 1e-9 and o.error <= 1e-9 and o.is_clear
    assert np.allclose(np.linalg.norm(o.directions, axis=(1, 2)), 1.0)
    assert o.objective == pytest.approx(solve(problem, architecture=PATH).objective, rel=1e-6)


@pytest.mark.parametrize("name", ["bump", "triple", "square", "random 5x2"])
def test_vertices_are_those_of_all_supports_and_members_are_optimal(name):
    problem = INSTANCES[name]()
    o = landscape.optimal_set(problem, architecture=PATH)
    truth = vertices_by_supports(o.columns, o.fit)
    assert {tuple(v) for v in np.round(o.vertices(), 6) + 0.0} == {tuple(v) for v in np.round(truth, 6) + 0.0}
    assert o.min_width == np.min(np.sum(truth > 0, axis=1))
    for seed in range(4):
        net = o.sample(seed, width=o.max_irreducible_width + seed)
        assert net.width == o.max_irreducible_width + seed
        assert net.objective(problem) == pytest.approx(o.objective, rel=1e-9)
        assert o.contains(net)
    masses = o.vertices()[0]
    wide = o.network(masses, width=7, split=True)
    assert wide.width == 7 and np.allclose(o.masses_of(wide), masses)
    assert landscape.certify(problem, wide, tol=1e-8).is_global is True


@pytest.mark.parametrize("seed", range(3))
def test_ascents_that_attain_beta_end_in_the_list(seed):
    problem = random_problem(7, 2, seed, beta=0.05)
    o = landscape.optimal_set(problem, architecture=PATH)
    starts = random_trees(problem.X, 200, (2, 2), np.array([1.0, -1.0]), np.random.default_rng(seed))
    found, values = ascend(problem.X, o.dual, starts, "path")
    assert np.max(values) <= problem.beta * (1.0 + 1e-9)
    reached = found.take(values >= problem.beta * (1.0 - 1e-10))
    for V, signs, s in zip(reached.vectors, reached.signs[0], reached.outputs, strict=True):
        away = o._distances(V, [signs], float(s))
        assert np.min(away) <= 1e-4


@pytest.mark.parametrize("architecture", [ParallelReLU(3, 1), ParallelReLU(2, 4), ParallelReLU(4, 1)], ids=repr)
@pytest.mark.parametrize("make", [triple, lambda: polygon(4), lambda: random_problem(12, 2, 4, beta=0.02)])
def test_chains_have_the_sets_of_two_layers(architecture, make):
    problem = make()
    two, o = landscape.optimal_set(problem), landscape.optimal_set(problem, architecture=architecture)
    assert np.array_equal(o.directions.reshape(two.directions.shape), two.directions)
    assert np.array_equal(o.signs, two.signs) and np.array_equal(o.columns, two.columns)
    assert o.directions.ndim == architecture.depth
    a, b = landscape.staircase(two), landscape.staircase(problem, architecture=architecture)
    assert a.rows == b.rows
    assert not any(t.name == "r_eff + 1" for t in b.transitions)
    net = o.sample(3)
    assert net.depth == architecture.depth and o.contains(net)
    assert net.objective(problem) == pytest.approx(two.objective, rel=1e-9)


def test_the_staircase_counts_the_orders_of_the_neurons():
    problem = triple()
    o = landscape.optimal_set(problem, architecture=PATH)
    steps, vertices = landscape.staircase(o), o.vertices()
    for width in range(1, 4):
        row = steps.at(width)
        isolated = [
            v
            for i, v in enumerate(vertices)
            if np.sum(v > 0) == width
            and not any(np.sum((v > 0) | (u > 0)) <= width for j, u in enumerate(vertices) if j != i)
        ]
        # All weights of these networks, written out.
        networks = set()
        for vertex in isolated:
            support = np.flatnonzero(vertex)
            for order in itertools.permutations(support):
                per_place = [
                    {tuple(map(tuple, np.round(o.directions[k][list(p)], 6))) for p in itertools.permutations(range(2))}
                    for k in order
                ]
                networks |= set(itertools.product(*per_place))
        continua = row.components - len(isolated)
        assert row.labelled_components == len(networks) + continua
    assert steps[-1].components == steps[-1].labelled_components == 1
    assert all(count in (1, 2) for count in o.arrangements)
    assert math.prod(o.arrangements) > 1


def test_samples_of_no_weight_and_the_zero_network():
    base = random_problem(5, 2, 8, beta=0.05)
    X, y = np.vstack([base.X, [[3.0, 1.0]]]), np.append(base.y, 5.0)
    o = landscape.optimal_set(Problem(X, y, 0.05, sample_weight=[1.0] * 5 + [0.0]), architecture=PATH)
    plain = landscape.optimal_set(base, architecture=PATH)
    assert np.isnan(o.fit[5]) and np.allclose(o.fit[:5], plain.fit, atol=1e-9)
    assert as_keys(o) == as_keys(plain)
    zero = landscape.optimal_set(Problem(base.X, base.y, 100.0), architecture=PATH)
    assert zero.polytope.is_trivial and zero.sample(0, width=2).width == 2
    assert zero.contains(zero.sample(0, width=2))


def test_networks_that_are_not_optimal():
    problem = fixture()
    o = landscape.optimal_set(problem, architecture=PATH)
    net = o.network(o.sparsest())
    assert not o.contains(ParallelReLUNetwork(net.W, net.b, 1.1 * net.a))
    with pytest.raises(OptimalSetError, match="Sub-network 0 is one that no optimal network uses"):
        o.masses_of(ParallelReLUNetwork(np.ones((1, 2, 2)), [np.ones((1, 2))], [1.0]))
    with pytest.raises(ValueError, match="net must be a ParallelReLUNetwork"):
        o.masses_of(ReLUNetwork.zero(2))
    with pytest.raises(OptimalSetError, match="two-layer networks only"):
        _ = o.spurious_free_width
    again = landscape.optimal_set(problem, architecture=PATH, solution=o.solution)
    assert as_keys(again) == as_keys(o)


def test_refusals():
    problem = fixture()
    with pytest.raises(OptimalSetError, match='penalty="path" for sub-networks of several neurons'):
        landscape.optimal_set(problem, architecture=ParallelReLU(penalty="l21"))
    with pytest.raises(OptimalSetError, match="up to three layers; got depth=4"):
        landscape.staircase(problem, architecture=ParallelReLU(4))
    with pytest.raises(OptimalSetError, match="combinations of first-layer patterns; optimal_set searches"):
        landscape.optimal_set(random_problem(30, 5, 0), architecture=PATH)
    with pytest.raises(ValueError, match=r"architecture must be ReLU\(\) or ParallelReLU\(\)"):
        landscape.optimal_set(problem, architecture=GatedReLU(np.eye(2)))
    with pytest.raises(ValueError, match="solution must hold a ParallelReLUNetwork"):
        landscape.optimal_set(problem, architecture=PATH, solution=solve(problem))
    with pytest.raises(OptimalSetError, match="beta > 0"):
        landscape.optimal_set(Problem(problem.X, problem.y, 0.0), architecture=PATH)
