from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.losses import HuberLoss
from cvxnn.problem import Problem
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

LOSSES = ["squared", "huber", "logistic", "squared_hinge"]


def make(loss: str, *, n: int = 30, d: int = 4, k: int = 12, seed: int = 0, beta: float = 0.5, weighted: bool = True):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n) * 2
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    weight = rng.integers(0, 4, n).astype(float) if weighted else None
    problem = Problem(X, y, beta=beta, loss=loss, sample_weight=weight)
    return problem, Neurons(rng.standard_normal((k, d)), rng.choice([-1.0, 1.0], k))


def oracle(problem: Problem, neurons: Neurons) -> float:
    """Optimal value of the mass program by a conic solver."""
    outputs = np.maximum(problem.X @ (neurons.vectors / neurons.masses[:, None]).T, 0.0) * neurons.signs
    c = cp.Variable(len(neurons), nonneg=True)
    fit = outputs @ c
    w, y = problem.sample_weight, problem.y
    terms = {
        "squared": lambda: 0.5 * cp.square(fit - y),
        "huber": lambda: 0.5 * cp.huber(fit - y, 1.0),
        "logistic": lambda: cp.logistic(cp.multiply(-y, fit)),
        "squared_hinge": lambda: 0.5 * cp.square(cp.pos(1 - cp.multiply(y, fit))),
    }[problem.loss.name]()
    program = cp.Problem(cp.Minimize(w @ terms + problem.beta * cp.sum(c)))
    program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(program.value)


def kkt_violation(problem: Problem, neurons: Neurons, among: Neurons) -> float:
    """Largest violation of dual feasibility over ``among`` and of equality on the support, relative to beta."""
    nu = problem.dual_vector(neurons.fit(problem.X))

    def prices(z: Neurons) -> np.ndarray:
        return z.signs * (nu @ np.maximum(problem.X @ (z.vectors / z.masses[:, None]).T, 0.0)) / problem.beta

    support = np.max(np.abs(prices(neurons) - 1.0), initial=0.0)
    return max(float(np.max(prices(among), initial=0.0)) - 1.0, float(support))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_a_conic_solver(loss, weighted, seed):
    problem, neurons = make(loss, weighted=weighted, seed=seed)
    result = solve_masses(problem, neurons)
    assert result.objective(problem) == pytest.approx(oracle(problem, neurons), rel=2e-8)
    assert np.all(result.masses > 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_is_stationary_to_high_accuracy(loss):
    problem, neurons = make(loss, n=60, d=5, k=40, seed=3)
    result = solve_masses(problem, neurons)
    assert 0 < len(result) < 40
    assert kkt_violation(problem, result, neurons) < 1e-7


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    loss=st.sampled_from(LOSSES),
    n=st.integers(1, 12),
    d=st.integers(1, 4),
    k=st.integers(1, 30),
    beta=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 100.0]),
)
def test_never_raises_the_objective(seed, loss, n, d, k, beta):
    problem, neurons = make(loss, n=n, d=d, k=k, seed=seed, beta=beta, weighted=False)
    result = solve_masses(problem, neurons)
    assert result.objective(problem) <= neurons.objective(problem)
    assert len(result) <= k
    again = solve_masses(problem, result)
    assert again.objective(problem) <= result.objective(problem)
    if beta > 0.0:
        # Without a penalty the infimum of the logistic loss may not be attained, and every call comes closer to it.
        assert again.objective(problem) == pytest.approx(result.objective(problem), rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 8), k=st.integers(9, 40))
def test_keeps_no_more_neurons_than_samples(seed, n, k):
    problem, neurons = make("squared", n=n, d=3, k=k, seed=seed, beta=1e-3, weighted=False)
    assert len(solve_masses(problem, neurons)) <= n


def test_equal_directions_are_reduced_to_one():
    problem, neurons = make("squared", k=6, seed=5)
    doubled = neurons.joined(neurons)
    alone, both = solve_masses(problem, neurons), solve_masses(problem, doubled)
    assert len(both) == len(alone)
    assert both.objective(problem) == pytest.approx(alone.objective(problem), rel=1e-13)


def test_weights_equal_repeated_rows():
    problem, neurons = make("huber", seed=7)
    counts = problem.sample_weight.astype(int)
    repeated = Problem(np.repeat(problem.X, counts, axis=0), np.repeat(problem.y, counts), beta=0.5, loss="huber")
    a, b = solve_masses(problem, neurons), solve_masses(repeated, neurons)
    assert a.objective(problem) == pytest.approx(b.objective(repeated), rel=1e-11)
    np.testing.assert_allclose(a.vectors, b.vectors, rtol=1e-6, atol=1e-9)


def test_one_neuron_has_the_soft_threshold_mass():
    problem = Problem([[2.0]], [3.0], beta=1.0)
    result = solve_masses(problem, Neurons(np.array([[0.1], [-5.0]]), np.ones(2)))
    np.testing.assert_allclose(result.vectors, [[(3.0 * 2.0 - 1.0) / 4.0]], rtol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_huge_beta_leaves_nothing(loss):
    problem, neurons = make(loss, beta=1e6)
    assert len(solve_masses(problem, neurons)) == 0


def test_no_neurons_and_dead_neurons():
    problem = Problem([[1.0, 0.0]], [1.0], beta=0.1)
    assert len(solve_masses(problem, Neurons.empty(2))) == 0
    dead = Neurons(np.array([[-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.ones(3))
    assert len(solve_masses(problem, dead)) == 0


def test_huber_with_a_narrow_width_has_a_flat_hessian_at_the_start():
    problem, neurons = make("squared", n=50, seed=9)
    problem = Problem(problem.X, 100.0 * problem.y, beta=0.5, loss=HuberLoss(delta=0.1))
    result = solve_masses(problem, neurons)
    assert kkt_violation(problem, result, neurons) < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), k=st.integers(1, 25), rank=st.integers(1, 25), scale=st.sampled_from([1e-6, 1.0, 1e6])
)
def test_quadratic_program_meets_its_optimality_conditions(seed, k, rank, scale):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rank, k)) * 10.0 ** rng.uniform(-2, 2, k)
    gram, linear = A.T @ A, A.T @ rng.standard_normal(rank) * scale
    c = minimize_nonnegative_quadratic(gram, linear)
    unit = np.sqrt(np.diagonal(gram))
    gradient = (gram @ c - linear) / unit
    size = np.max(np.abs(linear / unit))
    assert np.all(c >= 0)
    assert np.min(gradient) >= -1e-7 * size
    assert np.sum(gradient * unit * c) <= 1e-9 * size**2
