"""The ReLU program: rounds of joint moves before a proof, and what the status says when time runs out."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork, Status, solve
from cvxnn.certificates.certificate import certify_norm
from cvxnn.patterns.search import search
from cvxnn.programs import relu, relu_bounds
from cvxnn.programs.reduction import reduce_problem
from cvxnn.solvers.column_state import ColumnState
from cvxnn.solvers.neurons import Neurons


def small(n=30):
    rng = np.random.default_rng(0)
    X = np.c_[rng.standard_normal((n, 2)), np.ones(n)]
    return Problem(X, np.sin(2 * X[:, 0]) + 0.2 * rng.standard_normal(n), 0.02 * n)


def test_rounds_before_the_proof_lead_to_the_same_optimum(monkeypatch):
    plain = solve(small())
    monkeypatch.setattr("cvxnn.solvers.column_generation._ROUNDS_SAMPLES", 0)
    after = solve(small())
    limited = solve(small(), time_limit=60.0)
    for s in (plain, after, limited):
        assert s.status is Status.GLOBAL_OPTIMUM and s.scope == "global"
        assert s.objective == pytest.approx(plain.objective, rel=2e-6)


@pytest.mark.parametrize(("beta", "decay"), [(40.0, None), (10.0, 0.3)])
def test_neurons_that_no_direction_violates_are_settled_before_a_gap_is_left(beta, decay, monkeypatch):
    """Masses that are too large lower the dual norm below beta: nothing violates, and nothing is proved."""
    x = np.random.default_rng(0).uniform(1.0, 2.0, 60)
    problem = Problem(x[:, None], 3.0 * x + np.sin(20.0 * x), beta, output_bias_decay=decay)
    whole, handed = solve(problem), []
    generate = relu.generate_columns

    def disturbed(reduced, state, options, report, found=None):
        generate(reduced, state, options, report, found)
        if not handed:
            state.neurons = Neurons(1.02 * state.neurons.vectors, state.neurons.signs)
            state.objective = state.neurons.objective(reduced)
        handed.append(found)

    monkeypatch.setattr(relu, "generate_columns", disturbed)
    s = solve(problem)
    assert s.status is Status.GLOBAL_OPTIMUM and s.objective == pytest.approx(whole.objective, rel=1e-9)
    assert len(handed) == 2 and len(handed[1]) == 0


@pytest.mark.parametrize("width", [None, 1])
def test_no_time_is_told(monkeypatch, width):
    monkeypatch.setattr("cvxnn.solvers.column_generation._ROUNDS_SAMPLES", 0)
    s = solve(small(200), time_limit=0.0, max_width=width)
    assert s.status is Status.TIME_LIMIT and s.lower_bound <= s.objective


def test_zero_network_is_optimal_above_the_largest_useful_beta():
    problem = small(200)
    X = np.c_[problem.X, np.random.default_rng(1).standard_normal((200, 4))]
    s = solve(Problem(X, problem.y, 1e4))
    assert s.network.width == 0 and s.status is Status.GLOBAL_OPTIMUM


def test_reduction_survives_scales_whose_squares_are_not_normal_numbers():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    usual, tiny = reduce_problem(Problem(X, y, 0.1)), reduce_problem(Problem(X * 1e-200, y, 1e-201))
    np.testing.assert_allclose(np.linalg.norm(tiny.problem.X), np.linalg.norm(usual.problem.X), rtol=1e-12)
    assert tiny.problem.beta == pytest.approx(usual.problem.beta, rel=1e-12)
    small = reduce_problem(Problem(X, y * 1e-310, 1e-310, "huber"))
    assert np.isfinite(small.problem.loss.delta)


def test_a_beta_below_rounding_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"beta is 1e-300, too small beside .* accepted\.$"):
        reduce_problem(Problem([[1.0], [2.0]], [1.0, 2.0], 1e-300))


@pytest.mark.parametrize(
    ("n_patterns", "objective", "outcome", "interrupted", "listed", "status"),
    [
        (None, 0.875, "running", False, False, Status.GLOBAL_OPTIMUM),
        (None, 0.875, "time_limit", True, False, Status.GLOBAL_OPTIMUM),
        (3, 0.875, "search", False, False, Status.PATTERNS_OPTIMUM),
        (3, 0.875, "stalled", False, True, Status.PATTERNS_OPTIMUM),
        # A closed gap among patterns that the search chose is no proof before the search has ended.
        (3, 0.875, "stalled", False, False, Status.STALLED),
        (3, 0.875, "time_limit", False, False, Status.TIME_LIMIT),
        (3, 0.875, "max_iter", False, False, Status.MAX_ITER),
        (3, 0.875, "search", True, False, Status.INTERRUPTED),
        (None, 0.876, "search", False, True, Status.STALLED),
        (3, 0.876, "search", False, True, Status.STALLED),
    ],
)
def test_status_says_no_more_than_what_is_proved(n_patterns, objective, outcome, interrupted, listed, status):
    problem = Problem([[1.0]], [2.0], beta=0.5)
    certificate = certify_norm(problem, objective, np.array([0.5]), 0.5, 0.5, method="by hand", n_patterns=n_patterns)
    state = ColumnState(Neurons.empty(1), objective, np.zeros((0, 1)), outcome=outcome)
    assert relu._status(certificate, state, 1e-6, interrupted=interrupted, listed=listed) is status


def test_a_zero_network_just_above_the_largest_beta_has_its_gap_closed(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    X = np.column_stack([rng.standard_normal((120, 8)), np.ones(120)])
    y = np.abs(X[:, 0]) + rng.standard_normal(120)
    nu = Problem(X, y, beta=1.0).dual_vector(np.zeros(120))
    largest = float(search(X, nu, n_starts=200, random_state=0).values[0])
    problem = Problem(X, y, beta=1.02 * largest)
    s = solve(problem)
    assert s.network.width == 0 and s.objective == pytest.approx(0.5 * float(y @ y), rel=1e-14)
    assert s.scope == "global" and s.gap < 1e-4 and s.lower_bound <= s.objective
    monkeypatch.setattr("cvxnn.programs.relu_bounds._ZERO_SAMPLES", 0)
    open_end = solve(problem)
    assert open_end.gap > 1e-3 and open_end.status is Status.UNPROVED


def test_a_bound_among_patterns_is_reported_where_it_closes_the_gap_and_the_global_one_does_not():
    rng = np.random.default_rng(3)
    problem = Problem(rng.standard_normal((80, 9)), rng.standard_normal(80), 4.0)
    s = solve(problem)
    assert (s.scope, s.status) == ("patterns", Status.PATTERNS_OPTIMUM)
    assert s.gap <= 1e-6 and 0.0 < s.global_lower_bound < s.lower_bound * (1.0 - 1e-5)


def test_a_width_limit_that_time_cut_short_is_a_time_limit(monkeypatch):
    rng = np.random.default_rng(0)
    start = ReLUNetwork(rng.standard_normal((3, 3)), rng.standard_normal(3))
    monkeypatch.setattr(relu, "_status", lambda *arguments, **options: Status.STALLED)
    assert solve(small(), warm_start=start, max_width=1, time_limit=0.0).status is Status.TIME_LIMIT
    assert solve(small(), warm_start=start, max_width=1).status is Status.WIDTH_LIMIT


def test_a_norm_that_was_met_is_not_above_its_bound(monkeypatch):
    problem = small()
    network = ReLUNetwork(np.zeros((0, 3)), np.zeros(0))
    monkeypatch.setattr(relu_bounds, "attained_norm", lambda *arguments: np.inf)
    certificate = relu_bounds.quick_bound(problem, network, np.zeros(30), 1.0, None)
    assert certificate.dual_norm_attained == certificate.dual_norm_bound < np.inf
