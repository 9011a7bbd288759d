"""Gated ReLU networks: the class, and the certified optimum against slow truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import HuberLoss, Problem
from cvxnn.architectures import GatedReLU, gate_masks, gate_patterns
from cvxnn.certificates.gated_bound import GatedNorms, certify_gated, gated_dual_norm
from cvxnn.patterns import ActivationPatterns
from cvxnn.programs.gated import GatedReLUNetwork, solve_gated
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from tests.oracles.group_lasso import group_lasso_optimum

LOSSES = ["squared", "logistic", "huber", "squared_hinge", HuberLoss(delta=0.2)]
BY_NAME = {"ids": lambda loss: loss if isinstance(loss, str) else repr(loss)}


def make(loss, n=30, d=4, P=40, beta=0.5, seed=0, **options):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), 2.0 * rng.standard_normal(n)
    if loss in ("logistic", "squared_hinge"):
        y = np.where(y > 0, 1.0, -1.0)
    return Problem(X, y, beta=beta, loss=loss, **options), GatedReLU(rng.standard_normal((P, d)))


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
@pytest.mark.parametrize("beta", [0.02, 0.5, 4.0])
def test_optimum_is_that_of_a_conic_solver(loss, beta):
    problem, architecture = make(loss, beta=beta, seed=3)
    s = solve_gated(problem, architecture)
    truth, _ = group_lasso_optimum(problem, architecture.masks(problem.X))
    assert s.status is Status.PATTERNS_OPTIMUM
    assert s.gap <= 1e-6
    assert s.objective == pytest.approx(truth, rel=1e-6)
    assert s.lower_bound <= truth * (1 + 1e-7)
    assert truth <= s.objective * (1 + 1e-7)


@pytest.mark.parametrize("shape", [(8, 12, 10), (1, 3, 5), (25, 1, 6), (15, 15, 5)])
def test_shapes_with_few_samples_or_features(shape):
    n, d, P = shape
    problem, architecture = make("squared", n=n, d=d, P=P, beta=0.05, seed=1)
    s = solve_gated(problem, architecture)
    truth, _ = group_lasso_optimum(problem, architecture.masks(problem.X))
    assert s.gap <= 1e-6
    assert s.objective == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
def test_network_blocks_and_certificate_agree(loss):
    problem, architecture = make(loss)
    s = solve_gated(problem, architecture)
    masks = architecture.masks(problem.X)
    fit = np.sum(masks.T * (problem.X @ s.blocks.u.T), axis=1)
    np.testing.assert_allclose(s.network(problem.X), fit, atol=1e-12 * np.abs(fit).max())
    norms = np.linalg.norm(s.blocks.u, axis=1)
    assert s.objective == pytest.approx(problem.loss_value(fit) + problem.beta * norms.sum(), rel=1e-12)
    assert s.objective == s.network.objective(problem)
    assert not s.blocks.v.any()
    assert s.network.width == np.count_nonzero(norms)
    assert (s.scope, s.global_lower_bound, s.certificate.n_patterns) == ("patterns", 0.0, len(architecture))
    nu = s.certificate.scale * s.dual
    assert max(np.linalg.norm(problem.X.T @ (m * nu)) for m in masks) <= problem.beta
    assert s.lower_bound == pytest.approx(problem.dual_value(nu), rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
def test_integer_weights_are_repeated_rows(loss):
    problem, architecture = make(loss, seed=2)
    times = np.random.default_rng(5).integers(0, 4, problem.n_samples)
    weighted = Problem(problem.X, problem.y, beta=0.5, loss=loss, sample_weight=times)
    rows = np.repeat(np.arange(problem.n_samples), times)
    repeated = Problem(problem.X[rows], problem.y[rows], beta=0.5, loss=loss)
    a, b = solve_gated(weighted, architecture, tol=1e-9), solve_gated(repeated, architecture, tol=1e-9)
    assert a.objective == pytest.approx(b.objective, rel=1e-8)
    assert a.lower_bound <= b.objective and b.lower_bound <= a.objective


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_local_training_never_goes_below_the_bound(loss):
    problem, architecture = make(loss, beta=0.3, seed=4)
    s = solve_gated(problem, architecture)
    masks = architecture.masks(problem.X).T.astype(float)
    X, rng = problem.X, np.random.default_rng(0)
    W, a = 0.5 * rng.standard_normal((len(architecture), 4)), 0.5 * rng.standard_normal(len(architecture))
    k = a.size

    def objective(theta):
        W, a = theta[k:].reshape(k, -1), theta[:k]
        hidden = masks * (X @ W.T)
        g = problem.loss_gradient(hidden @ a)
        slope_W = (masks * g[:, None] * a).T @ X + problem.beta * W
        slope = np.concatenate([hidden.T @ g + problem.beta * a, slope_W.ravel()])
        value = GatedReLUNetwork(architecture.gates, W, a).objective(problem)
        seen.append(value)
        return value, slope

    seen = []
    minimize(objective, np.concatenate([a, W.ravel()]), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    assert min(seen) >= s.lower_bound
    assert min(seen) == pytest.approx(s.objective, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES, **BY_NAME)
def test_zero_network_exactly_from_the_critical_beta_on(loss):
    problem, architecture = make(loss)
    nu = problem.dual_vector(np.zeros(problem.n_samples))
    critical = max(np.linalg.norm(problem.X.T @ (m * nu)) for m in architecture.masks(problem.X))
    above, below = (
        solve_gated(Problem(problem.X, problem.y, beta=critical * factor, loss=loss), architecture, tol=1e-12)
        for factor in (1.0 + 1e-6, 0.98)
    )
    assert above.network.width == 0 and above.status is Status.PATTERNS_OPTIMUM
    assert below.network.width > 0
    assert above.objective == pytest.approx(problem.loss_value(np.zeros(problem.n_samples)))


def test_order_and_repetition_of_gates_do_not_matter():
    problem, architecture = make("squared")
    order = np.random.default_rng(1).permutation(len(architecture))
    a = solve_gated(problem, architecture, tol=1e-10)
    b = solve_gated(problem, GatedReLU(architecture.gates[order]), tol=1e-10)
    c = solve_gated(problem, GatedReLU(np.vstack([architecture.gates, 3.0 * architecture.gates])), tol=1e-10)
    assert a.objective == pytest.approx(b.objective, rel=1e-9)
    assert a.objective == pytest.approx(c.objective, rel=1e-9)
    np.testing.assert_allclose(a.network(problem.X), b.network(problem.X), atol=1e-4)
    np.testing.assert_allclose(a.network(problem.X), c.network(problem.X), atol=1e-4)


@pytest.mark.parametrize("size_x", [1e-8, 1e8, 1e60])
@pytest.mark.parametrize("size_y", [1e-8, 1e8])
def test_scales_of_data_and_targets(size_x, size_y):
    problem, architecture = make("squared")
    scaled = Problem(size_x * problem.X, size_y * problem.y, beta=size_x * size_y * problem.beta)
    a, b = solve_gated(problem, architecture), solve_gated(scaled, GatedReLU(architecture.gates / size_x))
    assert b.gap <= 1e-6
    assert b.objective / size_y**2 == pytest.approx(a.objective, rel=1e-6)


def test_columns_of_different_scale():
    problem, architecture = make("squared", n=60)
    size = np.array([1e-3, 1.0, 30.0, 1e3])
    s = solve_gated(Problem(problem.X * size, problem.y, beta=0.5), GatedReLU(architecture.gates / size))
    assert s.gap <= 1e-6


@pytest.mark.parametrize(
    "X, y",
    [
        (np.zeros((5, 2)), np.arange(5.0)),
        (np.ones((5, 2)), np.zeros(5)),
        (np.repeat(np.eye(3), 4, axis=0), np.ones(12)),
        (np.array([[2.0, -1.0]]), np.array([3.0])),
        (np.random.default_rng(0).standard_normal((12, 2))[:, [0, 0, 1, 1]], np.linspace(-1, 1, 12)),
    ],
    ids=["zero data", "zero targets", "repeated rows", "one sample", "repeated columns"],
)
def test_degenerate_data(X, y):
    gates = np.random.default_rng(1).standard_normal((20, X.shape[1]))
    problem = Problem(X, y, beta=0.1)
    s = solve_gated(problem, GatedReLU(gates))
    truth, _ = group_lasso_optimum(problem, gate_masks(X, gates))
    assert s.gap <= 1e-6
    assert s.objective == pytest.approx(truth, rel=1e-6, abs=1e-9)


def test_time_limit_iterations_and_interruption_leave_a_valid_certificate():
    problem, architecture = make("squared", n=80, d=6, P=200, beta=0.01)
    best = solve_gated(problem, architecture)

    def interrupt(progress):
        if progress.iteration == 2:
            raise KeyboardInterrupt

    cut = {
        Status.TIME_LIMIT: solve_gated(problem, architecture, time_limit=0.0),
        Status.MAX_ITER: solve_gated(problem, architecture, max_iter=2),
        Status.INTERRUPTED: solve_gated(problem, architecture, recorder=Recorder(interrupt)),
    }
    for status, s in cut.items():
        assert s.status is status
        assert s.lower_bound <= best.objective and best.lower_bound <= s.objective
        assert s.objective == s.network.objective(problem)


def test_warm_start_from_the_optimum_and_history():
    problem, architecture = make("logistic")
    cold = solve_gated(problem, architecture, tol=1e-8)
    warm = solve_gated(problem, architecture, tol=1e-6, warm_start=cold.network)
    assert warm.gap <= 1e-6 and warm.n_iter < cold.n_iter
    assert warm.objective == pytest.approx(cold.objective, rel=1e-7)
    h = cold.history
    assert len(h) == cold.n_iter + 1
    assert np.all(np.diff(h.objective) <= 0) and np.all(np.diff(h.lower_bound) >= 0)
    assert np.all(np.diff(h.seconds) >= 0)


def test_same_input_gives_the_same_output():
    problem, architecture = make("huber")
    a, b = solve_gated(problem, architecture), solve_gated(problem, architecture)
    np.testing.assert_array_equal(a.network.W, b.network.W)
    assert a.lower_bound == b.lower_bound


def test_network_class():
    rng = np.random.default_rng(0)
    gates, W, a = rng.standard_normal((5, 3)), rng.standard_normal((5, 3)), rng.standard_normal(5)
    net = GatedReLUNetwork(gates, W, a)
    X = rng.standard_normal((20, 3))
    expected = sum((X @ g >= 0) * (X @ w) * s for g, w, s in zip(gates, W, a, strict=True))
    np.testing.assert_allclose(net(X), expected, atol=1e-13)
    balanced = net.balanced()
    np.testing.assert_allclose(np.linalg.norm(balanced.W, axis=1), np.abs(balanced.a))
    np.testing.assert_allclose(balanced(X), net(X), atol=1e-13)
    assert balanced.penalty() <= net.penalty()
    back = GatedReLUNetwork.from_vectors(gates, net.vectors(gates))
    np.testing.assert_allclose(back(X), net(X), atol=1e-13)
    assert GatedReLUNetwork(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))(X).tolist() == [0.0] * 20


def test_own_gates_make_a_relu_network():
    X = np.random.default_rng(0).standard_normal((15, 3))
    W = np.random.default_rng(1).standard_normal((4, 3))
    np.testing.assert_allclose(GatedReLUNetwork(W, W, np.ones(4))(X), np.maximum(X @ W.T, 0).sum(axis=1))


def test_masks_do_not_depend_on_the_company():
    rng = np.random.default_rng(0)
    X = rng.integers(-3, 4, (200, 7)) / 3.0
    gates = rng.integers(-3, 4, (150, 7)) / 7.0
    gates[~gates.any(axis=1)] = 1.0
    masks = gate_masks(X, gates)
    alone = np.array([gate_masks(X, g[None])[0] for g in gates])
    np.testing.assert_array_equal(masks, alone)
    np.testing.assert_array_equal(masks[:, 17:18], gate_masks(X[17:18], gates))
    np.testing.assert_array_equal(masks, gate_masks(2.0**-700 * X, 2.0**300 * gates))


@pytest.mark.parametrize("d", [3, 129])
def test_signs_near_the_hyperplanes_are_those_of_exact_arithmetic(d):
    from fractions import Fraction

    rng = np.random.default_rng(d)
    gates = rng.standard_normal((4, d)) * 10.0 ** rng.integers(-150, 90, (4, 1))
    X = rng.standard_normal((60, d))
    # Samples as near to the hyperplanes as 1e-12 to 1e-3 of their lengths, on either side.
    for j in range(60):
        g = gates[j % 4] / np.linalg.norm(gates[j % 4])
        X[j] += (rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-12, -3) - g @ X[j]) * g
    X *= 10.0 ** rng.integers(-150, 90, (60, 1))
    exact = [[sum(Fraction(a) * Fraction(b) for a, b in zip(g, x, strict=True)) >= 0 for x in X] for g in gates]
    np.testing.assert_array_equal(gate_masks(X, gates), exact)


def test_objective_of_known_patterns():
    problem, architecture = make("squared", n=83, d=6, P=20, beta=0.01)
    rng = np.random.default_rng(0)
    net = GatedReLUNetwork(architecture.gates, rng.standard_normal((20, 6)), rng.standard_normal(20))
    known = net.objective_on(problem, gate_patterns(problem.X, architecture.gates))
    assert known == net.objective(problem)
    nothing = GatedReLUNetwork(np.zeros((0, 6)), np.zeros((0, 6)), np.zeros(0))
    assert nothing.objective_on(problem, gate_patterns(problem.X, architecture.gates).subset([])) == problem.loss_value(
        np.zeros(83)
    )


def test_dual_norm_is_an_upper_bound_in_exact_arithmetic():
    from fractions import Fraction

    rng = np.random.default_rng(2)
    X, nu = rng.standard_normal((12, 3)) * 10.0 ** rng.integers(-6, 7, (12, 1)), rng.standard_normal(12)
    masks = rng.random((9, 12)) < 0.5
    upper, value = gated_dual_norm(X, ActivationPatterns.from_masks(masks, np.ones((9, 3))), nu)
    exact = max(
        sum(sum((Fraction(X[j, k]) * Fraction(nu[j]) for j in np.flatnonzero(m)), Fraction(0)) ** 2 for k in range(3))
        for m in masks
    )
    assert Fraction(upper) ** 2 >= exact
    assert value == pytest.approx(float(exact) ** 0.5, rel=1e-9)
    assert upper <= value * (1 + 1e-9)


def test_certificate_of_an_outside_network_holds():
    problem, architecture = make("squared")
    s = solve_gated(problem, architecture)
    patterns = ActivationPatterns.from_masks(architecture.masks(problem.X), architecture.gates)
    net = GatedReLUNetwork.from_vectors(architecture.gates, 0.05 * np.ones((40, 4)))
    c = certify_gated(problem, net.objective(problem), patterns, problem.dual_vector(net(problem.X)))
    assert 0.0 < c.lower_bound <= s.objective <= c.objective


@pytest.mark.parametrize(
    "change, words",
    [
        ({"tol": 0.0}, "tol"),
        ({"time_limit": -1.0}, "time_limit"),
        ({"max_iter": 0}, "max_iter"),
        ({"warm_start": GatedReLUNetwork([[1.0, 2.0]], [[1.0, 2.0]], [1.0])}, "warm_start"),
        ({"warm_start": GatedReLUNetwork(np.ones((1, 4)), np.ones((1, 4)), [1.0])}, "gates"),
    ],
)
def test_options_out_of_range_are_refused(change, words):
    problem, architecture = make("squared")
    with pytest.raises(ValueError, match=words):
        solve_gated(problem, architecture, **change)


def test_arguments_that_do_not_fit_are_refused():
    problem, architecture = make("squared")
    with pytest.raises(ValueError, match="beta"):
        solve_gated(Problem(problem.X, problem.y, beta=0.0), architecture)
    with pytest.raises(ValueError, match="columns"):
        solve_gated(problem, GatedReLU(np.ones((2, 3))))
    with pytest.raises(ValueError, match="gates"):
        GatedReLU([[1.0, np.nan]])
    with pytest.raises(ValueError, match="gates"):
        GatedReLUNetwork(np.ones((1, 2)), np.ones((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match="a must"):
        GatedReLUNetwork(np.ones((2, 2)), np.ones((2, 2)), np.ones(3))
    with pytest.raises(ValueError, match="features"):
        GatedReLUNetwork(np.ones((2, 2)), np.ones((2, 2)), np.ones(2))(np.ones((3, 5)))


def test_slabs_of_samples_do_not_change_the_outputs(monkeypatch):
    from cvxnn import architectures
    from cvxnn.solvers import row_slabs

    rng = np.random.default_rng(0)
    X, gates = rng.integers(-1, 2, (300, 5)).astype(float), rng.integers(-1, 2, (7, 5)).astype(float)
    net = GatedReLUNetwork(gates, rng.standard_normal((7, 5)), rng.standard_normal(7))
    whole, masks = net(X), gate_masks(X, gates)
    monkeypatch.setattr(row_slabs, "_SLAB_ENTRIES", 1)
    monkeypatch.setattr(architectures, "_SLAB", 20)
    np.testing.assert_allclose(net(X), whole, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(gate_masks(X, gates), masks)
    np.testing.assert_array_equal(masks, gates @ X.T >= 0)


def test_the_clock_starts_before_the_patterns_are_made(monkeypatch):
    import time

    from cvxnn.programs import gated

    problem, architecture = make("squared", n=80, d=6, P=200, beta=0.01)
    made = gated.gate_patterns

    def slow(*args):
        time.sleep(0.05)
        return made(*args)

    monkeypatch.setattr(gated, "gate_patterns", slow)
    s = solve_gated(problem, architecture, tol=1e-12, time_limit=0.04)
    assert s.status is Status.TIME_LIMIT and s.n_iter == 0


@pytest.mark.parametrize("n", [60, 5500])
@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e8])
def test_a_warm_start_at_a_wrong_scale_is_a_start_all_the_same(n, scale):
    problem, architecture = make("squared", n=n, d=5, P=30, beta=0.02 * n, seed=5)
    cold = solve_gated(problem, architecture)
    network = cold.network
    far = GatedReLUNetwork(network.gates, scale * network.W, network.a)
    warm = solve_gated(problem, architecture, warm_start=far)
    assert warm.status is Status.PATTERNS_OPTIMUM
    assert warm.objective == pytest.approx(cold.objective, rel=2e-6)
    stopped = solve_gated(problem, architecture, warm_start=network, time_limit=0.0)
    assert stopped.objective <= cold.objective * (1 + 1e-9)


@pytest.mark.parametrize("power", [0, 70, -300])
@pytest.mark.parametrize("keep", [False, True])
def test_norms_far_below_their_terms_are_bounded_closely(power, keep):
    from fractions import Fraction

    rng = np.random.default_rng(4)
    n, d, P = 300, 3, 8
    masks = rng.random((P, n)) < 0.5
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-5, 4, (n, d))
    # Nearly orthogonal to all blocks: their norms are rounding of nu only.
    columns = np.concatenate([mask[:, None] * X for mask in masks], axis=1)
    nu = rng.standard_normal(n)
    for _ in range(3):
        nu -= columns @ np.linalg.lstsq(columns, nu, rcond=None)[0]
    X = np.ldexp(X, power)
    exact = max(
        sum(sum((Fraction(X[j, k]) * Fraction(nu[j]) for j in np.flatnonzero(m)), Fraction(0)) ** 2 for k in range(d))
        for m in masks
    )
    patterns = ActivationPatterns.from_masks(masks, np.ones((P, d)))
    upper, value, _ = GatedNorms(X, patterns, keep=keep).largest(nu)
    scale = Fraction(2) ** power
    root = float(exact / scale**2) ** 0.5
    assert Fraction(upper) ** 2 >= exact
    assert np.ldexp(value, -power) == pytest.approx(root, rel=1e-10)
    assert np.ldexp(upper, -power) <= root * (1 + 1e-8)
    assert root < 1e-9 * float(np.max(np.abs(np.ldexp(X, -power)).T @ np.abs(nu)))
