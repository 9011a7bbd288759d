"""Bounds against the same quantities in exact rational arithmetic: rounding never goes to the wrong side.

Sums that cancel, and norms and losses that only take sums and squares, leave a bound without its margins below the
truth in about every second trial.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.certificates import cone_branch_and_bound as cone
from cvxnn.certificates._boxls import finish_box, solve_boxes
from cvxnn.certificates._local_search import DirectionPool
from cvxnn.certificates._reduction import ReducedPricing, reduce_pricing
from cvxnn.certificates._rounding import basis_norm_up, combination_norm_up, lambda_max_up
from cvxnn.certificates._vector_reduction import reduce_vector_pricing
from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.certificates.cone_branch_and_bound import cone_branch_and_bound
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.gated_bound import gated_dual_norm
from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.certificates.output_bias import bias_penalty
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.certificates.sign_branch_and_bound import sign_branch_and_bound
from cvxnn.certificates.vector_pricing import vector_pricing_bound
from cvxnn.patterns import ActivationPatterns

TRIALS = 150


def exactly(values):
    return [Fraction(float(value)) for value in values]


def cancelling(rng, n):
    """Data of one column and dual vector whose positive part of the sum nearly cancels, as at an optimum."""
    X, nu = rng.standard_normal((n, 1)), rng.standard_normal(n)
    up = np.flatnonzero(X[:, 0] > 0.0)
    if up.size:
        nu[up[0]] -= float(X[up, 0] @ nu[up]) / X[up[0], 0] * (1.0 - 1e-13)
    return X, nu


def side_sums(X, columns):
    """Sums ``sum_j N_j (s x_j)_+`` for both directions s, one list of entries for each."""
    rows = [exactly(row) for row in columns]
    x = exactly(X[:, 0])
    return [
        [
            sum((row[k] * max(s * t, 0) for row, t in zip(rows, x, strict=True)), Fraction(0))
            for k in range(len(rows[0]))
        ]
        for s in (1, -1)
    ]


def exact_dual_norm(X, nu):
    return max(abs(side[0]) for side in side_sums(X, nu[:, None]))


def rounded_up(value):
    upper = float(value)
    return upper if Fraction(upper) >= value else math.nextafter(upper, math.inf)


@pytest.mark.parametrize("decay", [None, 0.3, 1e-3])
def test_lower_bound_is_that_of_a_feasible_point(decay):
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        n = int(rng.integers(1, 30))
        X, nu = rng.standard_normal((n, 1)), rng.standard_normal(n)
        y, weight = nu * rng.uniform(0.5, 3.0), rng.choice([0.5, 1.0, 2.0], n)
        norm = exact_dual_norm(X, nu)
        problem = Problem(X, y, beta=float(norm) * rng.uniform(0.2, 2.0), sample_weight=weight, output_bias_decay=decay)
        bound, scale = scaled_dual_bound(problem, nu, rounded_up(norm))
        t, point = Fraction(scale), exactly(nu)
        assert t * norm <= Fraction(problem.beta)
        value = sum(
            t * a * b - (t * a) ** 2 / (2 * w) for a, b, w in zip(point, exactly(y), exactly(weight), strict=True)
        )
        if decay is not None:
            value -= (t * sum(point)) ** 2 / (2 * Fraction(decay))
        assert Fraction(bound) <= max(value, 0)
        assert bound >= float(value) - 1e-12 * float(np.sum(np.abs(nu * y)))


def test_point_of_a_coupled_loss_is_feasible_where_its_projection_leaves_it():
    rng = np.random.default_rng(6)
    for _ in range(TRIALS):
        n = int(rng.integers(2, 12))
        problem = Problem(rng.standard_normal((n, 1)), np.eye(3)[rng.integers(0, 3, n)], beta=1.0, loss="softmax")
        nu = problem.project_dual(problem.dual_vector(3.0 * rng.standard_normal((n, 3))))
        square = max(sum(entry**2 for entry in side) for side in side_sums(problem.X, nu))
        norm = math.nextafter(math.sqrt(square) * (1.0 + 4e-16), math.inf)
        problem = Problem(problem.X, problem.y, beta=norm * rng.uniform(0.2, 1.0), loss="softmax")
        bound, scale = scaled_dual_bound(problem, nu, norm)
        point = problem.project_dual(scale * nu)
        assert bound > 0.0
        assert all(
            sum(entry**2 for entry in side) <= Fraction(problem.beta) ** 2 for side in side_sums(problem.X, point)
        )


def test_no_bound_comes_from_a_norm_that_is_no_number():
    problem = Problem([[1.0], [-1.0]], [1.0, 2.0], beta=0.1)
    assert scaled_dual_bound(problem, problem.y, math.nan) == (0.0, 0.0)


def test_a_free_bias_forbids_a_sum_that_only_rounds_to_zero():
    problem = Problem(np.eye(3), np.ones(3), output_bias_decay=0.0)
    nu = np.array([1e16, 1.0, -1e16])
    assert float(np.sum(nu)) == 0.0
    assert bias_penalty(problem, nu) == math.inf
    assert scaled_dual_bound(problem, nu, 1.0) == (0.0, 0.0)
    assert bias_penalty(problem, np.array([1e16, 0.0, -1e16])) == 0.0


def test_dual_norm_of_one_column():
    rng = np.random.default_rng(1)
    for _ in range(40):
        X, nu = cancelling(rng, int(rng.integers(2, 30)))
        exact, upper = exact_dual_norm(X, nu), pricing_bound(X, nu).upper
        assert Fraction(upper) >= exact and Fraction(norm_bound(X, nu)[0]) >= exact
        assert upper <= float(exact) + 1e-12 * float(np.abs(nu) @ np.abs(X[:, 0]))


@pytest.mark.parametrize("search", [cone_branch_and_bound, sign_branch_and_bound])
def test_branch_and_bound_on_one_coordinate(search):
    rng = np.random.default_rng(8)
    for _ in range(40):
        X, nu = cancelling(rng, int(rng.integers(2, 9)))
        # Rows on one line would be merged: here each keeps its own rounding.
        problem = ReducedPricing(X, nu, np.zeros(1), 1.0, 0.0, 0, None)
        found = search(problem, DirectionPool(problem))
        assert Fraction(found.upper) >= exact_dual_norm(X, nu)


def test_multipliers_outside_of_their_boxes_give_valid_bounds(monkeypatch):
    """The certificate rests on what is checked behind the least-squares solver, not on that solver."""
    rng = np.random.default_rng(9)

    def boundless(q, A, upper, **options):
        return solve_boxes(q, A, 3.0 * upper, **options)

    monkeypatch.setattr(cone, "solve_boxes", boundless)
    monkeypatch.setattr(cone, "finish_box", lambda q, A, upper: finish_box(q, A, 3.0 * upper))
    angles = np.linspace(0.0, 2.0 * np.pi, 20_000)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(10):
        X, nu = rng.standard_normal((8, 2)), rng.standard_normal(8)
        problem = reduce_pricing(X, nu)
        assert problem is not None
        largest = np.max(np.abs(np.maximum(circle @ X.T, 0.0) @ nu))
        found = cone_branch_and_bound(problem, DirectionPool(problem), max_nodes=300)
        assert problem.upper(found.upper) >= largest * (1.0 - 1e-12)


def test_dual_norm_of_one_column_with_several_outputs():
    rng = np.random.default_rng(2)
    for _ in range(TRIALS):
        X, first = cancelling(rng, int(rng.integers(2, 20)))
        N = np.column_stack([first, rng.standard_normal(len(X)) * 1e-14])
        exact = max(sum(entry**2 for entry in side) for side in side_sums(X, N))
        assert Fraction(float(vector_pricing_bound(X, N).upper)) ** 2 >= exact


def test_bounds_of_single_patterns():
    rng = np.random.default_rng(3)
    for _ in range(TRIALS):
        X, nu = cancelling(rng, int(rng.integers(2, 40)))
        masks = np.stack([X[:, 0] >= 0.0, X[:, 0] <= 0.0])
        ups, downs = (abs(side[0]) for side in side_sums(X, nu[:, None]))
        patterns = ActivationPatterns.from_masks(masks, [[1.0], [-1.0]])
        assert Fraction(gated_dual_norm(X, patterns, nu)[0]) >= max(ups, downs)
        upper, _ = cone_bounds(X, nu, np.repeat(masks, 2, axis=0), [1, -1, 1, -1])
        assert Fraction(float(max(upper[:2]))) >= ups and Fraction(float(max(upper[2:]))) >= downs


def test_norms_of_combinations():
    rng = np.random.default_rng(4)
    for _ in range(TRIALS):
        n, d = int(rng.integers(2, 20)), int(rng.integers(1, 4))
        rows, c = rng.standard_normal((n, d)), rng.standard_normal(n)
        rows[-1] = -(c[:-1] @ rows[:-1]) / c[-1]
        exact = [sum(a * b for a, b in zip(exactly(c), exactly(column), strict=True)) for column in rows.T]
        assert Fraction(float(combination_norm_up(rows, c[None])[0])) ** 2 >= sum(entry**2 for entry in exact)


def test_norms_of_single_columns():
    rng = np.random.default_rng(5)
    for _ in range(TRIALS):
        v, weight = rng.standard_normal(int(rng.integers(2, 20))), rng.uniform(size=1)
        v /= np.linalg.norm(v)
        square = sum(entry**2 for entry in exactly(v))
        assert Fraction(basis_norm_up(v[:, None])) ** 2 >= square
        weights = np.repeat(weight, len(v))
        assert Fraction(lambda_max_up(v[:, None], weights)) >= Fraction(float(weight[0])) * square


def exact_entries(X, columns, u):
    """Entries of ``N^T (X u)_+`` without rounding."""
    outputs = [max(sum(a * b for a, b in zip(exactly(row), u, strict=True)), Fraction(0)) for row in X]
    return [sum(a * b for a, b in zip(outputs, exactly(column), strict=True)) for column in columns.T]


def parallel_rows(rng):
    """Rows on three lines, but for 1e-13, and a dual vector that cancels on two of them."""
    n = int(rng.integers(2, 20))
    axis, t, nu = rng.integers(0, 3, n), rng.standard_normal(n), rng.standard_normal(n)
    for k in (0, 1):
        on = np.flatnonzero((axis == k) & (t > 0.0))
        if on.size > 1:
            nu[on[0]] -= float(t[on] @ nu[on]) / t[on[0]]
    return t[:, None] * rng.standard_normal((3, 3))[axis] * (1.0 + 1e-13 * rng.standard_normal((n, 3))), nu


def dependent_columns(rng):
    """Rows that have rank 2 but for rounding."""
    n = int(rng.integers(3, 20))
    return rng.standard_normal((n, 2)) @ rng.standard_normal((2, 4)), rng.standard_normal(n)


def lines_of_hardly_any_weight(rng):
    """Ten lines close to each other, each of two equal rows whose weights nearly cancel: all of them may be dropped."""
    angles = np.repeat(np.sort(rng.uniform(0.0, 0.1, 10)), 2)
    weights = np.tile([1.0, -(1.0 - 0.9e-15 * 20)], 10)
    return np.column_stack([np.cos(angles), np.sin(angles)]), weights


def equal_rows(rng):
    """Rows whose weights add up with a rounding error that grows with their number."""
    n = int(rng.integers(900, 1000))
    return np.ones((n, 1)), np.full(n, 0.1)


@pytest.mark.parametrize("reduce", [reduce_pricing, reduce_vector_pricing])
@pytest.mark.parametrize(
    ("draw", "trials"),
    [(parallel_rows, 50), (dependent_columns, 50), (lines_of_hardly_any_weight, 50), (equal_rows, 2)],
)
def test_what_a_reduction_leaves_out_is_in_its_slack(draw, trials, reduce):
    rng = np.random.default_rng(7)
    for _ in range(trials):
        X, nu = draw(rng)
        reduced = reduce(X, nu if reduce is reduce_pricing else nu[:, None])
        basis = np.eye(X.shape[1]) if reduced.basis is None else reduced.basis
        for direction in [*np.eye(X.shape[1]), *rng.standard_normal((3, X.shape[1]))]:
            u = exactly(direction / np.linalg.norm(direction) * (1.0 - 1e-15))
            z = [sum(a * b for a, b in zip(exactly(column), u, strict=True)) for column in basis.T]
            value = exact_entries(reduced.rows, reduced.weights.reshape(-1, 1), z)[0]
            value += sum(a * b for a, b in zip(exactly(reduced.linear.ravel()), z, strict=True))
            away = abs(exact_entries(X, nu[:, None], u)[0] - value * Fraction(2) ** reduced.exponent)
            assert away <= Fraction(reduced.slack) * Fraction(2) ** reduced.exponent
