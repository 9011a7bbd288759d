"""Cone decomposition: the same outputs from ReLU neurons in the cones, at the least norm."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from cvxnn import GatedReLU, Problem, ReLUNetwork, solve
from cvxnn.patterns import enumerate_patterns
from cvxnn.programs.cone_decomposition import decompose_cones
from cvxnn.programs.gated import GatedReLUNetwork


def least_norm(X, mask, u):
    z, w = cp.Variable(len(u)), cp.Variable(len(u))
    rows = np.where(mask[:, None], X, -X)
    program = cp.Problem(cp.Minimize(cp.norm(z) + cp.norm(w)), [z - w == u, rows @ z >= 0, rows @ w >= 0])
    return float(program.solve(solver=cp.CLARABEL))


@pytest.mark.parametrize("shape", [(8, 2), (12, 3), (30, 4), (4, 9)])
def test_same_outputs_and_least_norm(shape):
    rng = np.random.default_rng(shape[0])
    X, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    problem = Problem(X, y, beta=0.3)
    architecture = GatedReLU(rng.standard_normal((10, shape[1])))
    gated = solve(problem, architecture=architecture).network
    parts = decompose_cones(gated, X)
    np.testing.assert_allclose(parts.network(X), gated(X), atol=1e-9 * parts.growth)
    assert parts.growth >= 1.0
    assert parts.network.width <= 2 * gated.width
    # The norms of the blocks are the difference of the objectives.
    rise = problem.beta * (parts.relu_norm - parts.gated_norm)
    assert parts.network.objective(problem) == pytest.approx(gated.objective(problem) + rise, rel=1e-9)
    truth = 0.0
    for gate, w, a in zip(gated.gates, gated.W, gated.a, strict=True):
        truth += least_norm(X, architecture.masks(X)[np.all(architecture.gates == gate, axis=1)][0], a * w)
    assert parts.relu_norm == pytest.approx(truth, rel=1e-5)


def test_the_optimum_of_relu_networks_lies_between():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((7, 2))
    problem = Problem(X, rng.standard_normal(7), beta=0.2)
    architecture = GatedReLU(enumerate_patterns(X).gates)
    gated = solve(problem, architecture=architecture)
    relu = solve(problem)
    assert gated.objective <= relu.objective * (1 + 1e-6)
    assert relu.objective <= decompose_cones(gated.network, X).network.objective(problem)


def test_blocks_in_their_cones_stay_as_they_are():
    X = np.array([[1.0, 0.2], [0.5, -1.0], [-1.0, 0.3]])
    relu = ReLUNetwork([[1.0, 0.1], [0.3, 1.0]], [1.0, -2.0])
    parts = decompose_cones(GatedReLUNetwork(relu.W, relu.W, relu.a), X)
    assert parts.growth == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(parts.network(X), relu(X), atol=1e-12)
    nothing = decompose_cones(GatedReLUNetwork(np.zeros((0, 2)), np.zeros((0, 2)), []), X)
    assert (nothing.network.width, nothing.growth) == (0, 1.0)


def test_neurons_of_one_gate_and_dead_directions():
    gated = GatedReLUNetwork([[1.0, 0.0, 0.0]] * 2, [[1.0, 2.0, 5.0], [0.0, -1.0, 0.0]], [1.0, 1.0])
    X = np.array([[1.0, 1.0, 0.0], [2.0, -1.0, 0.0]])
    parts = decompose_cones(gated, X)
    np.testing.assert_allclose(parts.network(X), gated(X), atol=1e-12)
    zero = decompose_cones(gated, np.zeros((2, 3)))
    assert zero.network.width == 0


def test_a_cone_without_interior_is_refused():
    # Opposite samples on the hyperplane of the gate: both count as active, so that the cone is that hyperplane.
    X = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0]])
    gated = GatedReLUNetwork([[1.0, 0.0]], [[0.0, 1.0]], [1.0])
    with pytest.raises(ValueError, match="has no interior on these data"):
        decompose_cones(gated, X)
    with pytest.raises(ValueError, match="this network takes 2"):
        decompose_cones(gated, np.ones((2, 3)))
