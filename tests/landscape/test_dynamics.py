"""Gradient descent against finite differences, plain loops and closed forms; what is recorded against recounting."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork
from cvxnn.landscape import dynamics, initial_network, trajectory_optima
from cvxnn.landscape._gradient_descent import Descent, Weights, curvature_estimate, evaluate
from cvxnn.landscape.dynamics import line_columns
from cvxnn.losses import SquaredLoss

LOSSES = ["squared", "logistic", "huber", "squared_hinge"]


def make_problem(loss: str = "squared", outputs: int = 1, bias: float | None = None, n: int = 9) -> Problem:
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.standard_normal((n, 2)), np.ones(n)])
    if loss == "softmax":
        y = rng.integers(0, outputs, n)
        y[:outputs] = np.arange(outputs)
    else:
        y = rng.standard_normal((n, outputs))
        y = np.sign(y) if loss in ("logistic", "squared_hinge") else 2.0 * y
    return Problem(X, y, beta=0.07, loss=loss, sample_weight=rng.uniform(0.5, 2.0, n), output_bias_decay=bias)


def line_problem(n: int = 10, beta: float = 1e-3) -> Problem:
    y = np.array([0.3, -0.2, 0.5, 0.1, -0.6, -0.4, 0.2, 0.7, 0.1, -0.3])[:n]
    return Problem(np.column_stack([np.linspace(-1.0, 1.0, n), np.ones(n)]), y, beta=beta)


@pytest.mark.parametrize(
    "problem",
    [make_problem(loss) for loss in LOSSES]
    + [make_problem("squared", 3), make_problem("softmax", 3), make_problem("huber", 1, 0.4)],
    ids=[*LOSSES, "three outputs", "softmax", "output bias"],
)
def test_gradient_against_central_differences(problem):
    rng = np.random.default_rng(0)
    shape = (6, *problem.y.shape[1:])
    bias = 0.0 if problem.output_bias_decay is None else 0.3
    at = Weights(rng.standard_normal((6, 3)), rng.standard_normal(shape), bias)
    found = evaluate(problem, at)
    assert found.objective == pytest.approx(at.network().objective(problem), rel=1e-14)
    assert found.loss == pytest.approx(problem.loss_value(at.network()(problem.X)), rel=1e-14)
    direction = Weights(rng.standard_normal((6, 3)), rng.standard_normal(shape), 1.0 if bias else 0.0)
    step = 1e-6
    ahead, behind = (evaluate(problem, at.moved(sign * step, direction)).objective for sign in (1.0, -1.0))
    gradient = found.gradient
    slope = np.sum(gradient.W * direction.W) + np.sum(gradient.a * direction.a) + gradient.b * direction.b
    assert slope == pytest.approx((ahead - behind) / (2.0 * step), rel=1e-6)


@pytest.mark.parametrize("bias", [None, 0.4])
def test_curvature_against_the_hessian_of_differences(bias):
    problem = make_problem("squared", 1, bias)
    rng = np.random.default_rng(1)
    W, a = rng.standard_normal((3, 3)), rng.standard_normal(3)

    def gradient(flat: np.ndarray) -> np.ndarray:
        found = evaluate(problem, Weights(flat[:9].reshape(3, 3), flat[9:12], float(flat[12]))).gradient
        return np.concatenate([found.W.ravel(), found.a, [found.b]])

    flat, step = np.concatenate([W.ravel(), a, [0.0]]), 1e-6
    sides = np.eye(13)
    hessian = np.array([(gradient(flat + step * e) - gradient(flat - step * e)) / (2 * step) for e in sides])
    truth = np.max(np.abs(np.linalg.eigvalsh(0.5 * (hessian + hessian.T))))
    assert truth <= curvature_estimate(problem, Weights(W, a, 0.0)) <= 1.1 * truth * (1 + 1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_constant_steps_against_a_plain_loop(loss):
    problem = make_problem(loss)
    start = initial_network(problem, width=5, scale=0.4, random_state=3)
    run = dynamics(problem, start, steps=30, step_size=0.01, record=7)
    W, a = start.W.copy(), start.a.copy()
    for step in range(31):
        network = ReLUNetwork(W, a)
        if step in run.steps:
            record = int(np.flatnonzero(run.steps == step)[0])
            assert run.objective[record] == pytest.approx(network.objective(problem), rel=1e-12)
            np.testing.assert_allclose(run.network(record).W, W, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(run.norms[record], np.linalg.norm(W, axis=1), rtol=1e-10)
            np.testing.assert_allclose(run.fits[record], network(problem.X), atol=1e-12)
        nu = problem.dual_vector(network(problem.X))
        W_new, a_new = (1 - 0.01 * problem.beta) * W, (1 - 0.01 * problem.beta) * a
        for j, x in enumerate(problem.X):
            for i in range(5):
                if W[i] @ x > 0:
                    W_new[i] += 0.01 * nu[j] * a[i] * x
                    a_new[i] += 0.01 * nu[j] * (W[i] @ x)
        W, a = W_new, a_new
    assert run.steps.tolist() == [0, 7, 14, 21, 28, 30]
    assert run.stopped == "steps" and np.all(run.step_size == 0.01)
    np.testing.assert_array_equal(run.final.W, run.network(-1).W)


def test_patterns_changes_and_optima_are_recounted():
    problem = make_problem()
    run = dynamics(problem, width=12, scale=0.5, steps=60, step_size=0.01, record=[0, 5, 20, 45], optima_every=2)
    networks = [run.network(k) for k in range(len(run))]
    first = problem.X @ networks[0].W.T >= 0
    for k, network in enumerate(networks):
        active = problem.X @ network.W.T >= 0
        rows = {tuple(row) for row in active.T.tolist() if any(row)}
        assert run.n_patterns[k] == len(rows)
        assert run.changed[k] == np.mean(active != first)
    assert run.optimum_records.tolist() == [0, 2, 4]
    truth = trajectory_optima(problem, [networks[k] for k in (0, 2, 4)])
    np.testing.assert_array_equal(run.trajectory.optima, truth.optima)
    assert np.all(run.trajectory.optima <= run.objective[run.optimum_records])
    assert run.trajectory.global_lower_bound == truth.global_lower_bound


def test_integer_weights_are_repeated_rows():
    problem = make_problem()
    weights = np.array([1, 2, 3, 1, 1, 2, 1, 1, 4])
    weighted = Problem(problem.X, problem.y, beta=0.1, sample_weight=weights)
    repeated = Problem(problem.X.repeat(weights, axis=0), problem.y.repeat(weights), beta=0.1)
    runs = [dynamics(p, width=8, steps=50, step_size=0.005) for p in (weighted, repeated)]
    np.testing.assert_allclose(runs[0].objective, runs[1].objective, rtol=1e-11)
    np.testing.assert_array_equal(runs[0].n_patterns, runs[1].n_patterns)


def test_one_neuron_on_one_sample_in_closed_form():
    """Gradient descent on (w a - y)^2 / 2 with w = a = r: r follows a recurrence and tends to sqrt(y)."""
    problem = Problem([[1.0]], [4.0], beta=0.0)
    run = dynamics(problem, ReLUNetwork([[0.1]], [0.1]), steps=400, step_size=0.05, record=1)
    r, radii = 0.1, []
    for _ in range(401):
        radii.append(r)
        r += 0.05 * (4.0 - r * r) * r
    np.testing.assert_allclose(run.outputs[:, 0], radii, rtol=1e-10)
    assert run.norms[-1, 0] == pytest.approx(2.0, rel=1e-12)


def test_activation_points_are_where_neurons_switch():
    for order in ([0, 1], [1, 0]):
        base = line_problem()
        problem = Problem((base.X * [1.0, 2.0])[:, order], base.y, beta=base.beta)
        run = dynamics(problem, width=6, steps=20, step_size=0.01, record=10)
        for record, points in enumerate(run.activation_points):
            for neuron, x in enumerate(points):
                row = np.array([x, 2.0])[order]
                assert run.weights[record, neuron] @ row == pytest.approx(0.0, abs=1e-12)
    assert dynamics(make_problem(), steps=1).activation_points is None
    flat = dynamics(problem, ReLUNetwork(np.array([[0.0, 1.0]])[:, order], [0.0]), steps=0)
    assert np.isnan(flat.activation_points).all() and flat.steps.tolist() == [0]


def test_columns_of_data_on_a_line():
    X = line_problem().X
    assert line_columns(X) == (0, 1) and line_columns(X[:, ::-1]) == (1, 0)
    assert line_columns(np.ones((3, 2))) is None and line_columns(np.ones((3, 1))) is None
    assert line_columns(X * [1.0, 0.0]) is None


@pytest.mark.parametrize("loss", LOSSES)
def test_backtracking_descends_and_default_steps_do_not_blow_up(loss):
    problem = make_problem(loss)
    run = dynamics(problem, width=10, steps=200, step_size="backtracking", record=1)
    assert np.all(np.diff(run.objective) < 0) and run.stopped in ("steps", "no descent")
    for scale in (1e-3, 1.0, 30.0):
        default = dynamics(problem, width=10, scale=scale, steps=300, record=1)
        assert default.stopped == "steps" and np.all(np.diff(default.step_size) <= 0)
        assert default.objective[-1] < 0.99 * default.objective[0]


def test_scale_decides_between_lazy_and_aligned():
    """Large start: activations stay; small start: neurons turn before they grow, and few patterns are left."""
    problem = line_problem()
    lazy = dynamics(problem, width=400, scale=1.0, paired=True, steps=3000)
    small = dynamics(problem, width=400, scale=1e-3, steps=4000, step_size=0.02, record=10)
    assert lazy.n_patterns[0] == small.n_patterns[0] == 19
    assert lazy.loss[-1] < 1e-4 * lazy.loss[0] and small.loss[-1] < 0.4 * small.loss[0]
    assert lazy.n_patterns[-1] == 19 and lazy.changed[-1] < 0.01
    assert small.n_patterns[-1] <= 10 and small.changed[-1] > 0.1
    # Most activations have changed when the loss has hardly begun to fall: the network is still small.
    early = int(np.flatnonzero(small.loss < 0.99 * small.loss[0])[0])
    assert small.changed[early] > 0.7 * small.changed.max()


def test_same_seed_same_run_and_pairs_start_at_zero():
    problem = make_problem("softmax", 3)
    runs = [dynamics(problem, width=6, paired=True, steps=20, random_state=4) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].weights, runs[1].weights)
    np.testing.assert_array_equal(runs[0].outputs, runs[1].outputs)
    assert np.max(np.abs(runs[0].fits[0])) < 1e-14 < np.max(np.abs(runs[0].fits[-1]))
    np.testing.assert_allclose(np.linalg.norm(runs[0].outputs[0], axis=1), runs[0].norms[0])
    assert runs[0].outputs.shape == (21, 6, 3) and "stopped='steps'" in repr(runs[0])


class Interrupting(SquaredLoss):
    """Squared loss whose thirtieth gradient meets a Ctrl-C."""

    calls = 0

    def gradient(self, fit, y, weight):
        type(self).calls += 1
        if self.calls == 30:
            raise KeyboardInterrupt
        return super().gradient(fit, y, weight)


def test_interrupt_time_limit_and_divergence_keep_the_record():
    plain = make_problem()
    Interrupting.calls = 0
    problem = Problem(plain.X, plain.y, beta=0.1, loss=Interrupting())
    run = dynamics(problem, width=4, steps=100, step_size=0.01, record=10)
    assert run.stopped == "interrupted" and run.steps.tolist() == [0, 10, 20, 28]
    assert run.objective[-1] == run.final.objective(problem)
    none = dynamics(plain, width=4, steps=100, time_limit=0.0)
    assert none.stopped == "time limit" and none.steps.tolist() == [0]
    wild = dynamics(plain, width=4, steps=1000, step_size=1e6)
    assert wild.stopped == "diverged" and np.all(np.isfinite(wild.objective))
    still = dynamics(Problem([[1.0]], [0.0], beta=0.0), ReLUNetwork([[1.0]], [0.0]), steps=5)
    assert still.stopped == "stationary" and still.steps.tolist() == [0]


def test_weights_need_not_be_kept():
    run = dynamics(make_problem(), width=4, steps=10, keep_weights=False)
    assert run.weights is None and run.norms.shape == (11, 4)
    with pytest.raises(ValueError, match="weights were not kept"):
        run.network(0)
    with pytest.raises(ValueError, match="one of the 11 records; got 11"):
        dynamics(make_problem(), width=4, steps=10).network(11)


def test_wrong_options_are_refused():
    problem = make_problem()
    for options, message in [
        ({"width": 0}, "width must be a positive integer"),
        ({"width": 3, "paired": True}, "width must be even"),
        ({"scale": 0.0}, "scale must be a finite number > 0"),
        ({"steps": -1}, "steps must be a non-negative integer"),
        ({"step_size": "armijo"}, 'positive number, "backtracking" or None'),
        ({"step_size": -1.0}, "step_size must be a finite number > 0"),
        ({"record": 0}, "record must be a positive integer"),
        ({"record": [0.5]}, "record must be a non-negative integer"),
        ({"optima_every": 0}, "optima_every must be a positive integer"),
        ({"time_limit": -1.0}, "time_limit must be"),
        ({"start": ReLUNetwork([[1.0]], [1.0])}, "start must be a ReLUNetwork with at least one neuron, 3 features"),
        ({"start": ReLUNetwork(np.ones((1, 3)), [1.0], output_bias=1.0)}, "output bias"),
    ]:
        with pytest.raises(ValueError, match=message):
            dynamics(problem, **options)
    with pytest.raises(ValueError, match="one output"):
        dynamics(make_problem("squared", 2), optima_every=1)
    with pytest.raises(ValueError, match="output bias"):
        dynamics(make_problem("squared", 1, 0.0), optima_every=1)
    with pytest.raises(ValueError, match="beta is 0"):
        dynamics(Problem(problem.X, problem.y, beta=0.0), optima_every=1)
    with pytest.raises(ValueError, match=r"must be a cvxnn\.Problem"):
        initial_network(None)


def test_default_step_is_one_over_the_curvature_at_the_start():
    problem = make_problem()
    start = initial_network(problem, width=7)
    run = dynamics(problem, start, steps=1)
    at = Weights(start.W, start.a, 0.0)
    assert run.step_size[0] == 1.0 / curvature_estimate(problem, at) == Descent(problem, at, None).step_size
