"""The doubly non-negative relaxation: below the optimum always, and equal to it where the relaxation is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.relaxation import relaxation_bound
from cvxnn.certificates.relaxation_admm import RelaxationADMM
from cvxnn.certificates.relaxation_rows import reduce_rows
from tests.oracles.pricing import activation_value

DATA = Path(__file__).parents[1] / "data"
METHOD = "alternating directions"


def fixture(name):
    data = json.loads((DATA / f"{name}.json").read_text())
    loss = "logistic" if "log" in data["kind"] else "squared"
    return Problem(data["X"], data["y"], data["beta"], loss), data["p_star"]


def make(n, d, seed, loss="squared", share=0.1, weights=False):
    """Random problem with beta a share of the least one at which the zero network is optimal (or nearly so)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[:, -1] = 1.0
    y = np.abs(X[:, 0]) - 1.0 + 0.3 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    weight = rng.integers(0, 4, n).astype(float) if weights else None
    start = Problem(X, y, 1.0, loss, sample_weight=weight).dual_vector(np.zeros(n))
    largest = float(np.max(np.abs(activation_value(X, start, rng.standard_normal((2000, d))))))
    largest /= np.sqrt(d)
    return Problem(X, y, share * largest, loss, sample_weight=weight)


def check(problem, bound):
    """The dual vector is in the domain, its norm within the bound at sampled directions, and the value follows."""
    value, scale = scaled_dual_bound(problem, bound.dual, bound.dual_norm_bound)
    assert value == bound.lower_bound and scale == bound.scale
    if problem.beta:
        assert scale * bound.dual_norm_bound <= problem.beta * (1 + 1e-12)
    points = np.random.default_rng(0).standard_normal((2000, problem.n_features))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.max(np.abs(activation_value(problem.X, bound.dual, points))) <= bound.dual_norm_bound


@pytest.mark.parametrize("name", ["06_random_sq_n6_d3", "08_grid3x3_bias_degenerate", "03_polygon6", "04_polygon8"])
def test_fixtures(name):
    problem, optimum = fixture(name)
    bound = relaxation_bound(problem, method=METHOD, upper=optimum, target_gap=1e-5, max_iter=8000)
    check(problem, bound)
    assert bound.lower_bound <= optimum * (1 + 1e-9)
    least = {"06_random_sq_n6_d3": 1 - 1e-5, "03_polygon6": 0.94, "04_polygon8": 0.92}.get(name, 0.7)
    assert bound.lower_bound >= least * optimum


def test_zero_optimum_needs_no_iteration():
    problem, optimum = fixture("10_zero_optimum")
    bound = relaxation_bound(problem, upper=optimum, target_gap=1e-9, method=METHOD)
    check(problem, bound)
    assert bound.lower_bound == pytest.approx(optimum, rel=1e-6)


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
@pytest.mark.parametrize("weights", [False, True])
def test_below_the_optimum_and_close(loss, weights):
    problem = make(14, 3, 3, loss, 0.2, weights)
    optimum = solve(problem).objective
    bound = relaxation_bound(problem, method=METHOD, upper=optimum, target_gap=1e-5, max_iter=2000)
    check(problem, bound)
    assert 0.9 * optimum <= bound.lower_bound <= optimum * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_never_above_the_optimum_at_any_time(seed):
    problem = make(int(5 + 2 * seed), 2 + seed % 2, seed, share=(0.02, 0.1, 0.5)[seed % 3])
    optimum = solve(problem, tol=1e-9).objective
    seen = []
    bound = relaxation_bound(problem, method=METHOD, max_iter=800, on_improvement=seen.append)
    values = [one.lower_bound for one in seen]
    assert values == sorted(values) and values[-1] == bound.lower_bound
    assert bound.lower_bound <= optimum * (1 + 1e-9)
    for one in seen:
        check(problem, one)


def test_exact_where_the_data_separate():
    # Orthogonal rows: every sample has a neuron of its own, and the relaxation is that of n scalar problems.
    problem = Problem(np.eye(5), [2.0, -1.0, 0.5, 3.0, 0.01], beta=0.1)
    optimum = solve(problem).objective
    bound = relaxation_bound(problem, method=METHOD, upper=optimum, target_gap=5e-6, max_iter=8000)
    assert optimum * (1 - 5e-6) <= bound.lower_bound <= optimum * (1 + 1e-12)


def test_duplicates_share_a_line():
    base = make(6, 3, 1)
    X, y = np.repeat(base.X, 3, axis=0), np.repeat(base.y, 3)
    doubled = Problem(X, y, base.beta)
    weighted = Problem(base.X, base.y, base.beta, sample_weight=np.full(6, 3.0))
    assert len(reduce_rows(X).rows) == 6
    one = relaxation_bound(doubled, method=METHOD, max_iter=1500)
    two = relaxation_bound(weighted, method=METHOD, max_iter=1500)
    optimum = solve(doubled).objective
    assert max(one.lower_bound, two.lower_bound) <= optimum * (1 + 1e-9)
    assert one.lower_bound == pytest.approx(two.lower_bound, rel=2e-3)


def opposite():
    X = np.array([[1.0, 2.0], [-1.0, -2.0], [2.0, 1.0], [-4.0, -2.0], [0.0, 0.0]])
    return Problem(X, [1.0, 2.0, -1.0, 3.0, 5.0], beta=0.3)


def deep():
    rng = np.random.default_rng(5)
    return Problem(rng.standard_normal((7, 30)), rng.standard_normal(7), beta=0.5)


def scaled(x, y):
    base = make(8, 3, 2)
    return Problem(base.X * x, base.y * y, base.beta * x * y)


@pytest.mark.parametrize(
    "problem",
    [
        opposite(),
        deep(),
        scaled(1e8, 1.0),
        scaled(1e-8, 1e8),
        scaled(1.0, 1e-8),
        Problem([[3.0]], [2.0], beta=0.1),
        Problem([[1.0, 0.0], [1.0, 0.0]], [1.0, -1.0], beta=0.1),
        Problem([[1.0, 1.0], [1.0, 1.0 + 1e-13]], [1.0, 1.0], beta=0.1),
    ],
    ids=["opposite", "d > n", "large X", "small X, large y", "small y", "one", "conflict", "nearly equal"],
)
def test_degenerate_data(problem):
    optimum = solve(problem).objective
    bound = relaxation_bound(problem, method=METHOD, upper=optimum, target_gap=1e-4, max_iter=2000)
    check(problem, bound)
    assert 0.9 * optimum <= bound.lower_bound <= optimum * (1 + 1e-9)


def test_nothing_to_learn():
    for problem in (
        Problem(np.zeros((3, 2)), [1.0, 2.0, 3.0], beta=0.1),
        Problem(np.eye(2), [0.0, 0.0], beta=0.1),
        Problem(np.eye(2), [1.0, 0.0], beta=0.0),
    ):
        bound = relaxation_bound(problem)
        expected = 7.0 if problem.n_samples == 3 else 0.0
        assert bound.lower_bound == pytest.approx(expected, abs=1e-12)


def test_same_input_same_output():
    problem = make(40, 4, 0)
    rows = reduce_rows(problem.X)
    first, second = (next(RelaxationADMM(problem, rows).run(60)) for _ in range(2))
    assert np.array_equal(first.nu, second.nu) and np.array_equal(first.plus.n_st, second.plus.n_st)


def test_time_limit_and_goal():
    problem = make(60, 6, 0)
    assert relaxation_bound(problem, time_limit=0.0).iterations == 0
    timed = relaxation_bound(problem, time_limit=0.3, max_iter=10**6)
    assert timed.lower_bound > 0.0 and timed.iterations < 10**6
    short = relaxation_bound(problem, max_iter=120)
    # Whole checks only: at most one interval late.
    assert 120 <= short.iterations < 170
    loose = relaxation_bound(problem, upper=short.lower_bound, target_gap=0.5)
    assert loose.lower_bound >= 0.5 * short.lower_bound and loose.iterations <= short.iterations + 50


def test_interrupt_keeps_the_bound():
    problem = make(40, 4, 1)
    seen = []

    def stop(bound):
        seen.append(bound.lower_bound)
        if len(seen) == 3:
            raise KeyboardInterrupt

    bound = relaxation_bound(problem, on_improvement=stop)
    assert bound.interrupted and bound.lower_bound == seen[-1] and len(seen) == 3
    check(problem, bound)


def test_network_warm_start_and_candidates():
    problem = make(60, 4, 2)
    best = solve(problem)
    cold = relaxation_bound(problem, upper=best.objective, target_gap=0.03, max_iter=3000)
    warm = relaxation_bound(problem, warm_start=best.network, target_gap=0.03, max_iter=3000)
    for bound in (cold, warm):
        check(problem, bound)
        assert 0.97 * best.objective <= bound.lower_bound <= best.objective * (1 + 1e-9)
        assert np.allclose(np.linalg.norm(bound.directions, axis=1), 1.0)
        assert bound.signs.shape == (len(bound.directions),) and set(bound.signs) <= {-1, 1}


def test_candidates_are_the_neurons_where_exact():
    problem, _ = fixture("06_random_sq_n6_d3")
    bound = relaxation_bound(problem, method=METHOD, max_iter=2000)
    network = solve(problem).network
    for w, a in zip(network.W, network.a, strict=True):
        same = bound.directions[bound.signs == np.sign(a)]
        assert np.max(same @ w / np.linalg.norm(w)) > 0.9


def test_few_rows_go_to_the_interior_point():
    problem, optimum = fixture("06_random_sq_n6_d3")
    bound = relaxation_bound(problem, upper=optimum)
    assert bound.method == "interior point" and optimum * (1 - 1e-6) <= bound.lower_bound <= optimum * (1 + 1e-9)


def test_refusals():
    problem = Problem(np.eye(2), [1.0, 2.0], beta=0.1)
    with pytest.raises(ValueError, match="method must be"):
        relaxation_bound(problem, method="exact")
    with pytest.raises(ValueError, match="warm_start takes 3 features"):
        relaxation_bound(problem, warm_start=ReLUNetwork(np.ones((1, 3)), [1.0]))
    with pytest.raises(ValueError, match="output bias"):
        relaxation_bound(Problem(np.eye(2), [1.0, 2.0], beta=0.1, output_bias_decay=0.0), method="interior point")
    with pytest.raises(ValueError, match="max_iter"):
        relaxation_bound(problem, max_iter=-1)
    with pytest.raises(ValueError, match="time_limit"):
        relaxation_bound(problem, time_limit=-1.0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_output_bias(loss, decay):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((30, 3)), rng.standard_normal(30) + 1.0
    X[4] = 0.0
    y = np.sign(y) if loss == "logistic" else y
    problem = Problem(X, y, 3.0, loss, output_bias_decay=decay)
    best = solve(problem, tol=1e-9)
    assert best.scope == "global"
    bounds = []
    relaxation_bound(problem, max_iter=600, warm_start=best.network, on_improvement=bounds.append)
    assert all(bound.lower_bound <= best.objective * (1 + 1e-12) for bound in bounds)
    assert bounds[-1].lower_bound >= 0.9 * best.objective
