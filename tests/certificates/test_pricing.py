"""The pricing bounds against brute force, closed forms and the invariances of the problem."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cvxnn.certificates
from cvxnn.certificates import cone_branch_and_bound, sign_branch_and_bound
from cvxnn.certificates.pricing import PricingBound, pricing_bound
from tests.oracles.pricing import (
    activation_value,
    dual_norm_by_strings,
    dual_norm_on_line,
    dual_norm_on_plane,
)

DATA = Path(__file__).parent.parent / "data"
FIXTURES = (
    "01_sqrt3_staircase",
    "03_polygon6",
    "04_polygon8",
    "06_random_sq_n6_d3",
    "07_random_logistic_n6_d2",
    "08_grid3x3_bias_degenerate",
)


def gaussian(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def residual_like(n, d, seed, width=4, steps=1500, beta=0.1):
    """Residual of a small network after crude gradient descent: positive and negative parts nearly cancel."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    W, a = 0.3 * rng.standard_normal((width, d)), 0.3 * rng.standard_normal(width)
    for _ in range(steps):
        H = np.maximum(X @ W.T, 0.0)
        error = y - H @ a
        W, a = (
            W + 0.2 / n * (((H > 0) * error[:, None] * a).T @ X - beta * W),
            a + 0.2 / n * (H.T @ error - beta * a),
        )
    return X, y - np.maximum(X @ W.T, 0.0) @ a


def assert_sound(X, nu, bound: PricingBound, samples=4000, seed=0):
    """No sampled direction beats the upper bound, and the lower one is attained."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((samples, X.shape[1]))
    points = np.vstack([points, X[np.any(X != 0, axis=1)], -X[np.any(X != 0, axis=1)]])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert np.max(np.abs(activation_value(X, nu, points)), initial=0.0) <= bound.upper
    assert bound.lower <= bound.upper
    assert np.linalg.norm(bound.direction) == pytest.approx(1.0, abs=1e-12)
    attained = max(bound.sign * activation_value(X, nu, bound.direction)[0], 0.0)
    assert attained == pytest.approx(bound.lower, rel=1e-9, abs=1e-300)
    assert np.all(np.diff(bound.values) <= 0)
    np.testing.assert_allclose(
        bound.values, bound.signs * activation_value(X, nu, bound.directions), rtol=1e-9, atol=1e-13 * bound.upper
    )


@pytest.mark.parametrize("method", ["cone", "sign"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "d"), [(3, 2), (7, 2), (8, 3), (7, 4), (9, 3)])
def test_equals_enumeration_of_all_strings(n, d, seed, method):
    X, nu = gaussian(n, d, seed) if seed % 2 else residual_like(n, d, seed, width=2)
    bound = pricing_bound(X, nu, method=method)
    truth = dual_norm_by_strings(X, nu)
    assert bound.closed
    assert bound.upper >= truth * (1 - 1e-14)
    assert bound.upper == pytest.approx(truth, rel=1e-8)
    assert bound.lower == pytest.approx(truth, rel=1e-8)
    assert_sound(X, nu, bound, samples=500)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [1, 2, 40, 500])
def test_equals_the_sweep_on_the_plane(n, seed):
    X, nu = gaussian(n, 2, seed) if seed % 2 else residual_like(n, 2, seed, steps=400)
    bound = pricing_bound(X, nu)
    truth = dual_norm_on_plane(X, nu)
    assert bound.closed
    assert bound.upper >= truth * (1 - 1e-14)
    assert bound.upper == pytest.approx(truth, rel=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_rank_one_closed_form(seed):
    X, nu = gaussian(50, 1, seed)
    bound = pricing_bound(X, nu)
    assert bound.closed
    assert bound.upper == pytest.approx(dual_norm_on_line(X, nu), rel=1e-10)
    # The same data in a space of five dimensions has the same dual norm.
    line = np.random.default_rng(seed).standard_normal(5)
    line /= np.linalg.norm(line)
    lifted = pricing_bound(X * line, nu)
    assert lifted.closed
    assert lifted.upper == pytest.approx(bound.upper, rel=1e-10)


@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_close_to_beta(name):
    data = json.loads((DATA / f"{name}.json").read_text())
    X, nu, beta = np.array(data["X"]), np.array(data["dual_nu"]), data["beta"]
    for method in ("auto", "sign"):
        bound = pricing_bound(X, nu, method=method)
        assert bound.closed
        assert bound.upper <= beta * (1 + 1e-8)
        assert bound.lower == pytest.approx(beta, rel=1e-8)
        assert bound.upper >= beta * data["dual_norm_over_beta"] * (1 - 1e-13)
        assert_sound(X, nu, bound)
    stopped = pricing_bound(X, nu, target=beta * (1 + 1e-8))
    assert stopped.closed
    assert stopped.upper <= beta * (1 + 1e-8)


@pytest.mark.parametrize("kind", [gaussian, residual_like])
@pytest.mark.parametrize("d", [2, 3])
def test_closes_at_sixty_rows(kind, d):
    X, nu = kind(60, d, 3)
    bound = pricing_bound(X, nu)
    assert bound.closed
    assert bound.upper - bound.lower <= 1e-8 * bound.upper
    assert_sound(X, nu, bound)


@pytest.mark.parametrize("kind", [gaussian, residual_like])
@pytest.mark.parametrize(("n", "d"), [(12, 6), (16, 9), (10, 25)])
def test_sign_method_closes(kind, n, d):
    X, nu = kind(n, d, 1)
    bound = pricing_bound(X, nu)
    assert bound.method == "sign branch and bound"
    assert bound.closed
    assert_sound(X, nu, bound)


@pytest.mark.parametrize("seed", range(3))
def test_methods_agree(seed):
    X, nu = residual_like(18, 4, seed)
    cone, sign = pricing_bound(X, nu, method="cone"), pricing_bound(X, nu, method="sign")
    assert cone.closed
    assert sign.closed
    assert cone.upper == pytest.approx(sign.upper, rel=2e-9)


GRID = np.array([[i, j, 1.0] for i in range(3) for j in range(3)])
DEGENERATE = {
    "grid": GRID,
    "duplicates": np.vstack([GRID[:4], GRID[:4]]),
    "opposite": np.vstack([GRID[1:5], -2.0 * GRID[1:5]]),
    "zero rows": np.vstack([GRID[:5], np.zeros((3, 3))]),
    "signs": np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)]),
    "thirds": np.vstack([GRID[:4] / 3.0, GRID[:4] * 7.0, -GRID[:1] / 5.0]),
    "axes": np.vstack([np.eye(4), -np.eye(4)]),
}


@pytest.mark.parametrize("method", ["cone", "sign"])
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("seed", range(3))
def test_degenerate_data(name, seed, method):
    X = DEGENERATE[name]
    nu = np.random.default_rng(seed).integers(-3, 4, len(X)).astype(float)
    bound = pricing_bound(X, nu, method=method)
    truth = dual_norm_by_strings(X, nu)
    assert bound.upper >= truth * (1 - 1e-13)
    assert bound.closed
    assert bound.upper == pytest.approx(truth, rel=1e-8)
    assert_sound(X, nu, bound, samples=500)


@pytest.mark.parametrize("scale_x", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("scale_nu", [1e-8, 1e8])
def test_scales(scale_x, scale_nu):
    X, nu = gaussian(25, 3, 5)
    bound, scaled = pricing_bound(X, nu), pricing_bound(scale_x * X, scale_nu * nu)
    assert scaled.closed
    assert scaled.upper == pytest.approx(scale_x * scale_nu * bound.upper, rel=1e-8)


@pytest.mark.parametrize("power", [-500, 510, 540, 1010])
@pytest.mark.parametrize("method", ["auto", "cheap"])
def test_data_whose_squares_leave_the_range_of_floats(power, method):
    """Powers of two change no digit, and a bound that is not tight is not called closed."""
    X, nu = gaussian(25, 3, 5)
    bound, scaled = pricing_bound(X, nu, method=method), pricing_bound(np.ldexp(X, power), nu, method=method)
    assert scaled.closed == bound.closed == (method == "auto")
    assert scaled.upper == pytest.approx(np.ldexp(bound.upper, power), rel=1e-12)
    assert scaled.lower == np.ldexp(bound.lower, power)


@pytest.mark.parametrize("spread", [1e-8, 1e8])
def test_columns_of_very_different_scale(spread):
    X, nu = residual_like(25, 2, 5)
    X = X * np.array([1.0, spread])
    bound = pricing_bound(X, nu)
    assert bound.closed
    assert bound.upper == pytest.approx(dual_norm_on_plane(X, nu), rel=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_data_in_high_dimension(rank):
    rng = np.random.default_rng(rank)
    Z, nu = rng.standard_normal((30, rank)), rng.standard_normal(30)
    Q = np.linalg.qr(rng.standard_normal((12, rank)))[0]
    bound, lifted = pricing_bound(Z, nu), pricing_bound(Z @ Q.T, nu)
    assert lifted.method == "cone branch and bound"
    assert lifted.closed
    assert lifted.upper == pytest.approx(bound.upper, rel=1e-8)
    assert_sound(Z @ Q.T, nu, lifted)


def test_zero_problems():
    for X, nu in ((np.zeros((3, 2)), np.ones(3)), (np.ones((3, 2)), np.zeros(3)), (np.zeros((0, 2)), np.zeros(0))):
        bound = pricing_bound(X, nu)
        assert bound.upper == bound.lower == 0.0
        assert bound.closed
        assert np.linalg.norm(bound.direction) == 1.0


@pytest.mark.parametrize("kind", [gaussian, residual_like])
@pytest.mark.parametrize(("n", "d"), [(40, 12), (15, 40), (60, 5)])
def test_cheap_bounds_hold(kind, n, d):
    X, nu = kind(n, d, 2)
    bound = pricing_bound(X, nu, method="cheap")
    assert bound.nodes == 0
    assert_sound(X, nu, bound)


@pytest.mark.parametrize(("method", "n", "d"), [("cone", 80, 4), ("sign", 40, 8)])
def test_bounds_hold_whenever_the_search_stops(method, n, d):
    X, nu = residual_like(n, d, 8)
    uppers = [pricing_bound(X, nu, method=method, max_nodes=limit).upper for limit in (0, 50, 200)]
    assert uppers[0] >= uppers[1] >= uppers[2]
    assert_sound(X, nu, pricing_bound(X, nu, method=method, max_nodes=50))
    assert_sound(X, nu, pricing_bound(X, nu, method=method, time_limit=0.0))


def test_stops_at_a_violation_with_several_directions():
    X, nu = gaussian(60, 4, 0)
    truth = pricing_bound(X, nu)
    bound = pricing_bound(X, nu, target=0.5 * truth.upper, stop_at_violation=True)
    assert bound.nodes < truth.nodes
    assert bound.values[0] > 0.5 * truth.upper
    assert len(bound.values) > 1
    assert_sound(X, nu, bound)


def test_starts_are_used():
    X, nu = gaussian(30, 8, 4)
    best = pricing_bound(X, nu, max_nodes=500)
    again = pricing_bound(X, nu, method="cheap", starts=best.direction)
    assert again.lower >= best.lower * (1 - 1e-12)


def test_is_deterministic():
    X, nu = residual_like(30, 3, 1)
    first, second = pricing_bound(X, nu), pricing_bound(X, nu)
    assert first.upper == second.upper
    assert np.array_equal(first.directions, second.directions)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), d=st.integers(1, 3), power=st.floats(-6, 6))
def test_invariances(seed, n, d, power):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((n, d)), rng.standard_normal(n)
    bound = pricing_bound(X, nu)
    order = rng.permutation(n)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    for other, factor in (
        (pricing_bound(X[order], nu[order]), 1.0),
        (pricing_bound(X @ Q, nu), 1.0),
        (pricing_bound(X, 10.0**power * nu), 10.0**power),
        (pricing_bound(X, -nu), 1.0),
    ):
        assert other.closed
        assert other.upper == pytest.approx(factor * bound.upper, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_small_integer_data(data):
    n, d = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    entries = st.integers(-2, 2)
    X = np.array(data.draw(st.lists(entries, min_size=n * d, max_size=n * d)), dtype=float).reshape(n, d)
    nu = np.array(data.draw(st.lists(entries, min_size=n, max_size=n)), dtype=float)
    bound = pricing_bound(X, nu)
    truth = dual_norm_by_strings(X, nu)
    assert bound.upper >= truth * (1 - 1e-13)
    assert bound.closed
    assert bound.upper == pytest.approx(truth, rel=1e-8, abs=1e-12)


def test_messages():
    X, nu = np.ones((3, 2)), np.ones(3)
    with pytest.raises(ValueError, match="nu must have shape"):
        pricing_bound(X, np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        pricing_bound(X * np.nan, nu)
    with pytest.raises(ValueError, match="method must be one of"):
        pricing_bound(X, nu, method="magic")
    with pytest.raises(ValueError, match="starts must have 2 columns"):
        pricing_bound(X, nu, starts=np.ones((1, 3)))
    with pytest.raises(ValueError, match="works up to rank"):
        pricing_bound(np.eye(9), np.ones(9), method="cone")
    for size_x, size_nu in ((1e308, 1.0), (1e308, 1e-300), (1e200, 1e110)):
        with pytest.raises(ValueError, match="products overflow, scale them down"):
            pricing_bound(size_x * X, size_nu * nu)


@pytest.mark.parametrize(
    ("module", "bounder", "method"),
    [(cone_branch_and_bound, "_ConeBounder", "cone"), (sign_branch_and_bound, "_SignBounder", "sign")],
)
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_an_interrupt_leaves_a_valid_bound(monkeypatch, module, bounder, method, calls):
    X, nu = residual_like(30, 4, 2)
    truth = pricing_bound(X, nu)
    original = getattr(module, bounder).bound
    count = 0

    def interrupting(*args):
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(getattr(module, bounder), "bound", interrupting)
    bound = pricing_bound(X, nu, method=method)
    assert bound.interrupted
    assert not bound.closed
    assert bound.upper >= truth.lower
    assert_sound(X, nu, bound, samples=500)


@pytest.mark.parametrize("method", ["cone", "sign"])
@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-9, 1e-13])
@pytest.mark.parametrize("seed", [138, 232, 5])
def test_nearly_repeated_rows(seed, distance, method):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((6, 3)), rng.standard_normal(6)
    X = X[rng.integers(0, 6, 6)] * rng.choice([-1.0, 1.0], 6)[:, None] + distance * X
    bound = pricing_bound(X, nu, method=method)
    truth = dual_norm_by_strings(X, nu)
    assert bound.upper >= truth * (1 - 1e-13)
    assert bound.closed
    assert bound.upper == pytest.approx(truth, rel=1e-8)


def test_rows_that_cancel():
    X = np.array([[1.0, 2.0], [1.0, 2.0], [-3.0, 1.0], [-3.0, 1.0]])
    bound = pricing_bound(X, np.array([1.0, -1.0, 0.3, -0.3]))
    assert bound.closed
    assert 0.0 <= bound.lower <= bound.upper <= 1e-13


@pytest.mark.parametrize("limit", [1e-9, 0.05])
def test_bound_of_a_search_that_is_cut_short_holds(limit, monkeypatch):
    monkeypatch.setattr(cone_branch_and_bound, "_BATCH_ENTRIES", 1)
    monkeypatch.setattr(cone_branch_and_bound, "_MOST_ENTRIES", 1)
    rng = np.random.default_rng(3)
    X, nu = rng.standard_normal((60, 3)), rng.standard_normal(60)
    whole = pricing_bound(X, nu)
    bound = pricing_bound(X, nu, method="cone", time_limit=limit)
    assert whole.closed
    assert 0.0 < bound.lower <= whole.upper and bound.upper >= whole.lower
    assert pricing_bound(X, nu, method="cone").upper == pytest.approx(whole.upper, rel=1e-6)


def test_certificates_import_no_solver():
    folder = Path(cvxnn.certificates.__path__[0])
    for name in ("pricing", "cone_bounds", "cheap_bounds", "cone_branch_and_bound", "sign_branch_and_bound"):
        for path in (folder / f"{name}.py", *folder.glob("_[a-z]*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                if module.startswith("cvxnn"):
                    allowed = ("cvxnn.certificates.", "cvxnn.problem", "cvxnn.losses", "cvxnn._tall_tables")
                    assert module.startswith(allowed)
