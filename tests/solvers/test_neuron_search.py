"""The search for neurons: values are attained, known maxima are found, and limits hold."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.patterns import enumerate_patterns
from cvxnn.solvers._directions import STEPS, climb
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.neuron_search import Ascents, NeuronSearch
from cvxnn.solvers.neurons import Neurons
from tests.oracles.pricing import cone_maximum


def instance(n, d, seed):
    rng = np.random.default_rng(seed)
    return Problem(rng.standard_normal((n, d)), rng.standard_normal(n), 0.3), rng.standard_normal(n)


def values_of(problem, nu, neurons):
    return neurons.signs * (np.maximum(neurons.vectors @ problem.X.T, 0.0) @ nu) / problem.beta


@pytest.mark.parametrize("ascents", Ascents)
@pytest.mark.parametrize("seed", range(6))
def test_finds_the_maximum_that_enumeration_proves(seed, ascents):
    problem, nu = instance(14, 3, seed)
    found, values = NeuronSearch(problem).find(
        nu, Neurons.empty(3), n_starts=200, threshold=0.0, random_state=seed, ascents=ascents
    )
    masks = enumerate_patterns(problem.X).masks
    truth = max(cone_maximum(problem.X, sign * nu, mask) for mask in masks for sign in (1.0, -1.0))
    assert values[0] * problem.beta <= truth * (1 + 1e-9)
    assert values[0] * problem.beta >= truth * (1 - 1e-4)
    np.testing.assert_allclose(values, values_of(problem, nu, found), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0)


@pytest.mark.parametrize("d", [5, 200])
def test_values_are_attained_distinct_and_sorted(d):
    problem, nu = instance(60, d, 1)
    known = Neurons(np.random.default_rng(2).standard_normal((4, d)), np.array([1.0, -1.0, 1.0, -1.0]))
    found, values = NeuronSearch(problem).find(nu, known, n_starts=40, threshold=1.0)
    assert len(found) > 0 and np.all(np.diff(values) <= 0) and np.all(values > 1.0)
    np.testing.assert_allclose(values, values_of(problem, nu, found), rtol=1e-10)
    cosines = found.vectors @ found.vectors.T * (found.signs[:, None] == found.signs)
    assert np.max(cosines - 2 * np.eye(len(found))) <= 0.9981


def test_goes_beyond_plain_ascent_on_kinks():
    rng = np.random.default_rng(0)
    X, nu = rng.standard_normal((400, 20)), rng.standard_normal(400)
    problem = Problem(X, rng.standard_normal(400), 1.0)
    _, values = NeuronSearch(problem).find(nu, Neurons.empty(20), n_starts=400, threshold=0.0)
    best = 0.0
    for sign in (1.0, -1.0):
        U = np.random.default_rng(1).standard_normal((200, 20))
        for step in np.geomspace(1.0, 1e-3, 80):
            U /= np.linalg.norm(U, axis=1, keepdims=True)
            gradient = ((U @ X.T > 0) * (sign * nu)) @ X
            U = U + step * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        best = max(best, float(np.max(np.maximum(U @ X.T, 0.0) @ (sign * nu))))
    assert values[0] >= best * (1 - 1e-4)


def test_refinement_lifts_every_climbed_point_to_its_kinks():
    rng = np.random.default_rng(0)
    X, nu = rng.standard_normal((300, 15)), rng.standard_normal(300).astype(np.float32)
    search = NeuronSearch(Problem(X, rng.standard_normal(300), 1.0))
    points = rng.standard_normal((50, 15)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    signs = np.ones(50, dtype=np.float32)
    climb(search.single, nu, points, signs, STEPS, np.inf)
    before = np.maximum(points @ X.T, 0.0) @ nu
    after = np.maximum(search._refine(points, signs, nu, np.inf) @ X.T, 0.0) @ nu
    assert np.all(after >= before * (1 - 1e-3))
    assert np.mean(after / before) > 1.003


def test_same_seed_same_answer_and_none_above_an_unreachable_threshold():
    problem, nu = instance(50, 6, 3)
    search = NeuronSearch(problem)
    a = search.find(nu, Neurons.empty(6), n_starts=30, random_state=7)
    b = search.find(nu, Neurons.empty(6), n_starts=30, random_state=7)
    np.testing.assert_array_equal(a[0].vectors, b[0].vectors)
    bound = np.abs(nu) @ np.linalg.norm(problem.X, axis=1) / problem.beta
    found, values = search.find(nu, Neurons.empty(6), n_starts=30, threshold=bound)
    assert len(found) == 0 and len(values) == 0


def test_a_deadline_in_the_past_returns_at_once_with_attained_values():
    problem, nu = instance(3000, 20, 4)
    found, values = NeuronSearch(problem).find(
        nu, Neurons.empty(20), n_starts=200, threshold=0.0, deadline=time.perf_counter() - 1.0
    )
    np.testing.assert_allclose(values, values_of(problem, nu, found), rtol=1e-10)


def test_equal_and_zero_rows_do_no_harm():
    X = np.vstack([np.ones((6, 3)), np.zeros((3, 3))])
    problem = Problem(X, np.ones(9), 0.5)
    found, values = NeuronSearch(problem).find(np.ones(9), Neurons.empty(3), n_starts=50, threshold=0.0)
    assert np.all(np.isfinite(found.vectors))
    assert values[0] == pytest.approx(6 * np.sqrt(3) / 0.5, rel=1e-5)


def test_pair_products_by_slabs_equal_those_of_the_table(monkeypatch):
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((300, 7)).astype(np.float32), rng.random((5, 300)).astype(np.float32)
    whole = PairProducts(rows).sums(weights)
    module = sys.modules[PairProducts.__module__]
    monkeypatch.setattr(module, "_CACHED_ENTRIES", 0)
    monkeypatch.setattr(module, "_SLAB_ENTRIES", 1000)
    np.testing.assert_allclose(PairProducts(rows).sums(weights), whole, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(whole, np.einsum("qn,nd,ne->qde", weights, rows, rows), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_pool_leads_to_the_maximum_of_a_nearby_dual_vector_without_random_starts(seed):
    problem, nu = instance(14, 3, seed)
    search, pool, none = NeuronSearch(problem), DirectionPool(), Neurons.empty(3)
    options = {"threshold": 0.0, "pool": pool, "n_pooled": 60}
    search.find(nu, none, n_starts=200, **options)
    assert 0 < len(pool) <= 300
    near = nu + 0.05 * np.random.default_rng(seed + 100).standard_normal(14)
    found, values = search.find(near, none, n_starts=0, **options)
    masks = enumerate_patterns(problem.X).masks
    truth = max(cone_maximum(problem.X, sign * near, mask) for mask in masks for sign in (1.0, -1.0))
    assert truth * (1 - 1e-4) <= values[0] * problem.beta <= truth * (1 + 1e-9)
    np.testing.assert_allclose(values, values_of(problem, near, found), rtol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_pooled_ascents_leave_out_the_neurons(seed):
    problem, nu = instance(40, 8, seed)
    search, pool = NeuronSearch(problem), DirectionPool()
    neuron = search.find(nu, Neurons.empty(8), n_starts=200, threshold=0.0)[0].take(np.arange(1))
    directions = np.random.default_rng(seed).standard_normal((200, 8))
    others = Neurons(directions / np.linalg.norm(directions, axis=1)[:, None], np.full(200, -neuron.signs[0]))
    values = values_of(problem, nu, others)
    both = neuron.joined(others.take(np.array([np.argmax(values)])))
    pool.replace(both.vectors.astype(np.float32), both.signs.astype(np.float32))
    # With room for one ascent, the direction of other sign climbs only if the best, a neuron by now, does not.
    found, reached = search.find(nu, neuron, n_starts=0, threshold=0.0, pool=pool, n_pooled=1)
    assert np.all(found.signs == -neuron.signs[0]) and reached[0] > np.max(values)


def test_without_starts_and_with_an_empty_pool_nothing_is_found():
    problem, nu = instance(20, 4, 0)
    pool = DirectionPool()
    found, values = NeuronSearch(problem).find(nu, Neurons.empty(4), n_starts=0, pool=pool, n_pooled=10)
    assert len(found) == len(values) == len(pool) == 0
    # What a search finds joins the pool, whether or not it exceeds the threshold.
    NeuronSearch(problem).find(nu, Neurons.empty(4), n_starts=50, threshold=1e6, pool=pool, n_pooled=10)
    assert 0 < len(pool) <= 50 and pool.points.shape == (len(pool), 4)
