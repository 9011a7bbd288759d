"""Verdicts on gated, batch-norm and polynomial networks, against conic solvers and against descent."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import BatchNormReLU, GatedReLU, Polynomial, Problem, ReLUNetwork, landscape, solve
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork
from tests.oracles.descent import descend_batch_norm
from tests.oracles.group_lasso import group_lasso_optimum
from tests.oracles.polynomial import polynomial_optimum

CURVE = Polynomial(0.5, 1.0, -0.3)
GATES = np.random.default_rng(7).standard_normal((6, 2))


def make(loss: str = "squared", n: int = 9, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    y = rng.standard_normal(n) + X[:, 0] ** 2
    return Problem(X, np.sign(y - 0.5) if loss == "logistic" else y, 0.3, loss, sample_weight=rng.uniform(0.5, 2.0, n))


def random_network(architecture: object, problem: Problem, seed: int = 1):
    rng = np.random.default_rng(seed)
    W, a = rng.standard_normal((4, 2)), 0.5 * rng.standard_normal(4)
    if isinstance(architecture, GatedReLU):
        return GatedReLUNetwork(architecture.gates[[0, 2, 2, 5]], W, a)
    if isinstance(architecture, Polynomial):
        unit = W / np.linalg.norm(W, axis=1, keepdims=True)
        return PolynomialNetwork(unit, a, (architecture.a, architecture.b, architecture.c))
    return BatchNormReLUNetwork.from_data(problem.X, W, rng.standard_normal(4), rng.standard_normal(4), a)


ALL = [GatedReLU(GATES), CURVE, BatchNormReLU()]


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("architecture", ALL, ids=repr)
def test_best_networks_are_proved_and_others_beaten(architecture, loss):
    problem = make(loss)
    best = solve(problem, architecture=architecture, tol=1e-8)
    listed = architecture if isinstance(architecture, GatedReLU) else None
    judged = landscape.certify(problem, best.network, architecture=listed, tol=1e-7)
    assert judged.is_optimal is True and judged.gap <= 1e-7 and judged.better is None
    assert judged.scope == ("patterns" if listed else "global")
    assert judged.is_global is (None if listed else True)
    assert ("these gates" in judged.verdict) == (listed is not None) and "ptimal" in judged.verdict
    assert judged.scope in judged._repr_html_() and repr(judged).startswith("RelativeCertificate(is_optimal=True")
    assert judged.objective == best.network.objective(problem)
    np.testing.assert_array_equal(judged.certificate.objective, judged.objective)
    worse = landscape.certify(problem, random_network(architecture, problem), architecture=listed, tol=1e-7)
    assert worse.is_optimal is False and worse.is_global is False
    assert type(worse.better) is type(best.network)
    assert worse.best_objective == pytest.approx(best.objective, rel=1e-7)
    assert worse.lower_bound <= best.objective * (1 + 1e-12)
    assert worse.lower_bound == pytest.approx(best.objective, rel=1e-6)
    assert worse.verdict.startswith("Not optimal: a better network was found.")


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_below_the_conic_optimum(seed):
    problem = make(seed=seed)
    conic, _ = group_lasso_optimum(problem, GatedReLU(GATES).masks(problem.X))
    network = random_network(GatedReLU(GATES), problem, seed)
    judged = landscape.certify(problem, network, architecture=GatedReLU(GATES))
    assert judged.lower_bound <= conic * (1 + 1e-7)
    assert judged.lower_bound == pytest.approx(conic, rel=1e-6)
    conic = polynomial_optimum(problem, (CURVE.a, CURVE.b, CURVE.c))
    judged = landscape.certify(problem, random_network(CURVE, problem, seed))
    assert judged.lower_bound == pytest.approx(conic, rel=1e-6)


def test_descent_on_batch_norm_is_never_below_the_bound():
    problem = make()
    bound = landscape.certify(problem, random_network(BatchNormReLU(), problem)).lower_bound
    for seed in range(3):
        assert descend_batch_norm(problem, 6, seed) >= bound * (1 - 1e-12)


def test_gates_of_the_network_unless_more_are_given():
    problem = make()
    network = random_network(GatedReLU(GATES), problem)
    own, conic = (
        landscape.certify(problem, network),
        group_lasso_optimum(problem, GatedReLU(GATES[[0, 2, 5]]).masks(problem.X))[0],
    )
    assert own.lower_bound == pytest.approx(conic, rel=1e-6)
    assert landscape.certify(problem, network, architecture=GatedReLU(GATES)).lower_bound <= own.lower_bound
    with pytest.raises(ValueError, match="gates must list the gate of every neuron"):
        landscape.certify(problem, network, architecture=GatedReLU(GATES[1:]))
    zero = GatedReLUNetwork(np.zeros((0, 2)), np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="its gates are unknown; pass architecture=GatedReLU"):
        landscape.certify(problem, zero)
    assert landscape.certify(problem, zero, architecture=GatedReLU(GATES)).is_optimal is False
    strong = Problem(problem.X, problem.y, 1e3)
    assert landscape.certify(strong, zero, architecture=GatedReLU(GATES)).is_optimal is True


def test_batch_norm_takes_the_statistics_of_the_problem():
    problem = make()
    network = solve(problem, architecture=BatchNormReLU(), tol=1e-8).network
    elsewhere = network.on_batch(problem.X + 1.0)
    judged = landscape.certify(problem, elsewhere, tol=1e-7)
    assert judged.is_global is True
    assert judged.network is elsewhere
    assert landscape.certify(problem, network, method="dual", tol=1e-7).lower_bound <= judged.objective


def test_no_time_leaves_a_valid_bound():
    problem = make(n=30)
    for architecture in ALL:
        network = random_network(architecture, problem)
        judged = landscape.certify(problem, network, time_limit=0.0)
        best = solve(problem, architecture=architecture if architecture is not ALL[0] else GatedReLU(GATES[[0, 2, 5]]))
        assert 0.0 <= judged.lower_bound <= best.objective
        assert judged.is_optimal is not True


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (ReLUNetwork([[1.0, 0.0]], [1.0]), dict(architecture=BatchNormReLU()), r"must be ReLU\(\) for a ReLUNetwork"),
        (
            random_network(CURVE, make()),
            dict(architecture=Polynomial(1, 0, 0)),
            "must be that of the PolynomialNetwork",
        ),
        (random_network(CURVE, make()), dict(method="relaxation"), 'method must be "auto" for a PolynomialNetwork'),
        (random_network(BatchNormReLU(), make()), dict(architecture=CURVE), "must be that of the BatchNormReLUNetwork"),
        (random_network(CURVE, make()), dict(tol=0.0), "tol must be"),
        (PolynomialNetwork([[1.0]], [1.0], (1.0, 0.0, 0.0)), dict(), "takes 1 features but the problem has 2"),
    ],
)
def test_what_does_not_fit_is_told(network, options, message):
    with pytest.raises(ValueError, match=message):
        landscape.certify(make(), network, **options)


def test_problems_that_the_theorems_do_not_cover():
    problem = make()
    two = Problem(problem.X, np.column_stack([problem.y, problem.y]), 0.3)
    free = Problem(problem.X, problem.y, 0.0)
    biased = Problem(problem.X, problem.y, 0.3, output_bias_decay=0.0)
    for architecture in ALL:
        network = random_network(architecture, problem)
        with pytest.raises(ValueError, match="random_state must be a non-negative integer"):
            landscape.certify(problem, network, random_state=-1)
        with pytest.raises(ValueError, match="beta is 0"):
            landscape.certify(free, network)
        with pytest.raises(ValueError, match="one"):
            landscape.certify(two, network)
        with pytest.raises(ValueError, match="output"):
            landscape.certify(biased, network)
