"""The parts of the solver for several outputs: group lasso of the outputs, face Newton, ascent, narrowing."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.solvers._layer_hessian import LayerHessian
from cvxnn.solvers.output_lasso import solve_outputs
from cvxnn.solvers.vector_ascent import ascend_outputs
from cvxnn.solvers.vector_faces import refine_on_faces
from cvxnn.solvers.vector_lbfgs import _Layers, descend_smoothed, start_outputs
from cvxnn.solvers.vector_narrowing import narrow_outputs
from cvxnn.solvers.vector_neurons import VectorNeurons


def example(n=30, d=4, c=3, loss="squared", seed=0, beta=0.5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    Y = np.maximum(X @ rng.standard_normal((d, 3)), 0.0) @ rng.standard_normal((3, c))
    y = np.argmax(Y, axis=1) if loss == "softmax" else Y
    return Problem(X, y, beta, loss, sample_weight=rng.uniform(0.5, 2.0, n))


def neurons_of(problem, k, seed=0):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((k, problem.n_features))
    return VectorNeurons(U / np.linalg.norm(U, axis=1, keepdims=True), rng.standard_normal((k, problem.n_outputs)))


@pytest.mark.parametrize("loss", ["squared", "softmax", "huber"])
@pytest.mark.parametrize("dense", [True, False])
def test_outputs_satisfy_the_optimality_conditions(loss, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr("cvxnn.solvers.output_lasso._DENSE", 0)
    problem = example(loss=loss)
    hidden = np.maximum(problem.X @ neurons_of(problem, 12).directions.T, 0.0)
    hidden[:, 3] = 0.0
    G = solve_outputs(problem, hidden, np.zeros((12, problem.n_outputs)), tol=1e-8)
    slopes = hidden.T @ problem.dual_vector(hidden @ G)
    sizes = np.linalg.norm(G, axis=1)
    assert 0 < np.count_nonzero(sizes) < 12
    assert np.all(np.linalg.norm(slopes, axis=1) <= problem.beta * (1 + 1e-7))
    active = sizes > 0
    np.testing.assert_allclose(slopes[active], problem.beta * G[active] / sizes[active, None], atol=1e-7)


def test_outputs_agree_with_a_conic_solver():
    problem = example()
    hidden = np.maximum(problem.X @ neurons_of(problem, 8).directions.T, 0.0)
    G = solve_outputs(problem, hidden, np.zeros((8, 3)))
    rows = cp.Variable((8, 3))
    residual = cp.multiply(np.sqrt(problem.sample_weight)[:, None], hidden @ rows - problem.y)
    truth = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(residual) + problem.beta * cp.sum(cp.norm(rows, axis=1))))
    truth.solve(solver="CLARABEL")
    value = problem.loss_value(hidden @ G) + problem.beta * np.sum(np.linalg.norm(G, axis=1))
    assert value == pytest.approx(truth.value, rel=1e-7)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_hessian_is_that_of_finite_differences(loss):
    problem = example(loss=loss, n=12)
    W, A = neurons_of(problem, 3).layers()
    live = (problem.X @ W.T > 0).astype(float)

    def gradient(W, A):
        hidden = (problem.X @ W.T) * live
        N = problem.dual_vector(hidden @ A)
        first = problem.beta * W - (live * (N @ A.T)).T @ problem.X
        return np.concatenate([first.ravel(), (problem.beta * A - hidden.T @ N).ravel()])

    hidden = (problem.X @ W.T) * live
    fit = hidden @ A
    whole = np.tile(np.eye(4), (3, 1, 1))
    hessian = LayerHessian(problem, live, A, hidden, fit, problem.dual_vector(fit), whole)
    matrix = hessian.matrix()
    rng = np.random.default_rng(0)
    for _ in range(3):
        dW, dA = rng.standard_normal(W.shape), rng.standard_normal(A.shape)
        step = 1e-6
        slope = (gradient(W + step * dW, A + step * dA) - gradient(W - step * dW, A - step * dA)) / (2 * step)
        flat = np.concatenate([dW.ravel(), dA.ravel()])
        np.testing.assert_allclose(matrix @ flat, slope, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(hessian._product(dW, dA), slope, rtol=1e-6, atol=1e-6)
    # Within a face the matrix projects on both sides.
    normal = problem.X[0] / np.linalg.norm(problem.X[0])
    projectors = whole.copy()
    projectors[1] -= np.outer(normal, normal)
    confined = LayerHessian(problem, live, A, hidden, fit, problem.dual_vector(fit), projectors)
    inside = np.concatenate([confined.project(dW).ravel(), dA.ravel()])
    expected = confined._product(confined.project(dW), dA)
    np.testing.assert_allclose(confined.matrix() @ inside, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_layers_have_the_gradient_of_finite_differences(loss):
    problem = example(loss=loss, n=10)
    for kinks in (None, np.full(5, 0.1)):
        layers = _Layers(problem, 5, kinks)
        point = layers.random_point(np.random.default_rng(0)).astype(np.float64)
        value, slope = layers(point)
        assert np.isfinite(value)
        direction = np.random.default_rng(1).standard_normal(point.shape)
        difference = (layers(point + 1e-6 * direction)[0] - layers(point - 1e-6 * direction)[0]) / 2e-6
        assert float(slope @ direction) == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_faces_end_at_a_stationary_point(loss):
    problem = example(loss=loss, n=40)
    start = start_outputs(problem, width=30, rng=np.random.default_rng(0))
    smooth = descend_smoothed(problem, start, smoothing=1e-3, max_iter=300)
    refined = refine_on_faces(problem, smooth, snap=1e-3, max_iter=200)
    assert refined.objective(problem) <= smooth.objective(problem)
    N = problem.dual_vector(refined.fit(problem.X))
    # Neurons on their way to zero are not stationary by themselves, and do not matter.
    heavy = refined.masses > 1e-2 * np.max(refined.masses)
    units = refined.outputs / refined.masses[:, None]
    pulls = np.maximum(refined.directions @ problem.X.T, 0.0) @ N
    np.testing.assert_allclose(pulls[heavy], problem.beta * units[heavy], atol=1e-5 * problem.beta)
    # No small move of a neuron lowers the objective at first order.
    rng = np.random.default_rng(0)
    for k in np.flatnonzero(heavy):
        for _ in range(20):
            moved = refined.directions.copy()
            moved[k] += 1e-5 * rng.standard_normal(problem.n_features)
            moved[k] /= np.linalg.norm(moved[k])
            trial = VectorNeurons(moved, refined.outputs).objective(problem)
            assert trial >= refined.objective(problem) - 1e-8


def test_confined_neurons_stay_in_their_cones():
    problem = example(n=15, d=3)
    start = neurons_of(problem, 4)
    masks = problem.X @ start.directions.T >= 0
    refined = refine_on_faces(problem, start, masks=masks, max_iter=200)
    assert len(refined) == 4
    sides = np.where(masks, 1.0, -1.0) * (problem.X @ refined.directions.T)
    assert np.min(sides) >= -1e-9
    assert refined.objective(problem) < start.objective(problem)


def test_ascent_finds_what_it_claims():
    problem = example(n=60)
    N = problem.dual_vector(np.zeros_like(problem.y))
    directions, values = ascend_outputs(
        problem, N, np.zeros((0, 4)), threshold=0.0, n_starts=50, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(np.linalg.norm(np.maximum(directions @ problem.X.T, 0) @ N, axis=1), values, rtol=1e-6)
    drawn = np.random.default_rng(1).standard_normal((2000, 4))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    assert values[0] >= np.max(np.linalg.norm(np.maximum(drawn @ problem.X.T, 0) @ N, axis=1)) * (1 - 1e-3)
    late, _ = ascend_outputs(
        problem, N, np.zeros((0, 4)), threshold=np.inf, n_starts=5, rng=np.random.default_rng(0), deadline=-np.inf
    )
    assert len(late) == 0


@pytest.mark.parametrize("powers", [(-90, -90), (-300, 300), (200, 200)])
def test_ascent_is_the_same_in_all_units(powers):
    problem = example(n=60)
    N = problem.dual_vector(np.zeros_like(problem.y))
    factors = np.ldexp(1.0, powers)
    scaled = Problem(problem.X * factors[0], problem.y)
    found = [
        ascend_outputs(one, dual, np.zeros((0, 4)), threshold=0.0, n_starts=20, rng=np.random.default_rng(0))
        for one, dual in ((problem, N), (scaled, N * factors[1]))
    ]
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1] * factors[0] * factors[1], rtol=1e-6)


def test_narrowing_keeps_the_width():
    problem = example(n=40, beta=0.1)
    wide = start_outputs(problem, width=20, rng=np.random.default_rng(0))
    for width in (1, 3):
        narrow = narrow_outputs(problem, wide, width)
        assert 1 <= len(narrow) <= width
        assert narrow.objective(problem) <= problem.loss_value(np.zeros_like(problem.y))
    assert len(narrow_outputs(problem, wide, 2, deadline=-np.inf)) <= 2
