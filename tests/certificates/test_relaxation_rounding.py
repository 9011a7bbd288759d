"""Bounds from multipliers of the relaxation: never below the truth, whatever the multipliers."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvxnn.certificates.relaxation_rounding import Multipliers, round_multipliers, zero_multipliers
from cvxnn.certificates.relaxation_rows import reduce_rows
from tests.oracles.pricing import cone_maximum, dual_norm_on_plane

SHAPES = {"n_as": "g", "n_at": "g", "n_ss": "gg", "n_tt": "gg", "n_st": "gg", "g_s": "gr", "g_t": "gr"}


def maximum(X, nu):
    """Maximum of ``nu^T (X u)_+`` over the unit ball, from all bit strings."""
    return max(cone_maximum(X, nu, np.array(bits)) for bits in itertools.product((False, True), repeat=len(X)))


def draw(rng, rows, scale):
    sizes = {"g": rows.rows.shape[0], "r": rows.rows.shape[1]}
    return Multipliers(
        **{name: scale * rng.standard_normal([sizes[c] for c in shape]) for name, shape in SHAPES.items()}
    )


def make_data(rng, kind):
    n, d = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    X = rng.standard_normal((n, d))
    if kind == "integer":
        X = np.round(1.5 * X)
    elif kind == "bias":
        X[:, -1] = 1.0
    elif kind == "parallel":
        X[1:] = np.outer(rng.choice([-2.0, -1.0, 0.0, 1.0, 3.0], n - 1), X[0])
    elif kind == "wide":
        X = rng.standard_normal((n, n + 3))
    elif kind == "scales":
        X *= 10.0 ** rng.integers(-150, 150) * 10.0 ** rng.integers(-8, 9, size=(n, 1)).astype(float)
    return X


@pytest.mark.parametrize("kind", ["normal", "integer", "bias", "parallel", "wide", "scales"])
def test_never_below_the_maximum(kind):
    rng = np.random.default_rng(0)
    for _ in range(40):
        X = make_data(rng, kind)
        nu = rng.standard_normal(len(X)) * 10.0 ** rng.integers(-9, 10)
        top = np.max(np.abs(X))
        if top == 0.0:
            continue
        rows = reduce_rows(X)
        scale = np.max(np.abs(nu)) * top * 10.0 ** rng.integers(-6, 2)
        for sign in (1, -1):
            truth = maximum(X / top, sign * nu) * top
            for multipliers in (draw(rng, rows, scale), zero_multipliers(rows)):
                bound = round_multipliers(rows, nu, sign, multipliers)
                # The oracle itself is off by some units in the last places.
                assert bound >= truth * (1 - 1e-12)
                lengths = np.linalg.norm(X / top, axis=1)
                assert bound / top <= np.maximum(sign * nu, 0) @ lengths + 1e-12 * np.abs(nu) @ lengths


def test_many_rows_on_the_plane():
    rng = np.random.default_rng(1)
    for n in (30, 80):
        X, nu = rng.standard_normal((n, 2)), rng.standard_normal(n)
        rows = reduce_rows(X)
        truth = dual_norm_on_plane(X, nu)
        for scale in (0.0, 1e-3, 1.0, 1e6):
            multipliers = draw(rng, rows, scale)
            bound = max(round_multipliers(rows, nu, sign, multipliers) for sign in (1, -1))
            assert bound >= truth * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_one_row_is_exact(seed, exponent):
    rng = np.random.default_rng(seed)
    X, nu = rng.standard_normal((1, 3)) * 10.0**exponent, np.array([1.0])
    rows = reduce_rows(X)
    length = np.linalg.norm(X)
    assert length <= round_multipliers(rows, nu, 1, zero_multipliers(rows)) <= length * (1 + 1e-12)
    # Where no term is positive the bound vanishes but for rounding.
    assert 0.0 <= round_multipliers(rows, nu, -1, zero_multipliers(rows)) <= 1e-12 * length


def test_wrong_signs_count_as_zero():
    rng = np.random.default_rng(2)
    X, nu = rng.standard_normal((5, 3)), rng.standard_normal(5)
    rows = reduce_rows(X)
    given = draw(rng, rows, 0.1)
    clipped = {name: np.maximum(getattr(given, name), 0.0) for name in ("n_as", "n_at", "n_ss", "n_tt", "n_st")}
    np.fill_diagonal(clipped["n_st"], np.diag(given.n_st))
    same = dataclasses.replace(given, **clipped)
    assert round_multipliers(rows, nu, 1, given) == round_multipliers(rows, nu, 1, same)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200, -1e300])
def test_spoiled_multipliers_still_bound(value):
    rng = np.random.default_rng(3)
    X, nu = rng.standard_normal((4, 2)), rng.standard_normal(4)
    rows = reduce_rows(X)
    for name in SHAPES:
        spoiled = np.full_like(getattr(zero_multipliers(rows), name), value)
        multipliers = dataclasses.replace(draw(rng, rows, 0.1), **{name: spoiled})
        bound = round_multipliers(rows, nu, 1, multipliers)
        assert maximum(X, nu) * (1 - 1e-12) <= bound <= np.maximum(nu, 0) @ np.linalg.norm(X, axis=1) * (1 + 1e-11)


def test_fixed_rows_bound_their_piece():
    rng = np.random.default_rng(4)
    for _ in range(60):
        n = 5
        X, nu = rng.standard_normal((n, 3)), rng.standard_normal(n)
        rows = reduce_rows(X)
        fixed = rng.integers(-1, 2, n).astype(np.int8)
        # A line keeps the direction of its first sample, so that its s is that of the sample.
        assert np.array_equal(rows.group, np.arange(n)) and np.all(rows.side == 1)
        strings = [
            mask
            for bits in itertools.product((False, True), repeat=n)
            if np.all((fixed == 0) | ((mask := np.array(bits)) == (fixed > 0)))
        ]
        truth = max(cone_maximum(X, nu, mask) for mask in strings)
        multipliers = draw(rng, rows, 10.0 ** rng.integers(-3, 2))
        assert round_multipliers(rows, nu, 1, multipliers, fixed=fixed) >= truth * (1 - 1e-12)


def test_zero_data_and_zero_vector():
    rows = reduce_rows(np.zeros((3, 2)))
    assert round_multipliers(rows, np.ones(3), 1, zero_multipliers(rows)) == 0.0
    rows = reduce_rows(np.eye(3))
    assert round_multipliers(rows, np.zeros(3), -1, zero_multipliers(rows)) == 0.0


def test_reduced_rows_share_lines():
    X = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-3.0, -6.0, 0.0], [0.0, 1.0, 0.0], [1e-9, 2e-9, 0.0]])
    rows = reduce_rows(X)
    assert rows.rows.shape == (2, 2)
    assert rows.samples.tolist() == [0, 2, 3, 4]
    assert rows.group.tolist() == [0, 0, 1, 0] and rows.side.tolist() == [1, -1, 1, 1]
    assert rows.basis is not None
    back = np.ldexp((rows.side * rows.length)[:, None] * (rows.rows[rows.group] @ rows.basis.T), rows.exponent)
    assert np.allclose(back, X[rows.samples], rtol=1e-14, atol=1e-15)
    nu = np.array([1.0, 5.0, 2.0, 3.0, 1e9])
    u = np.array([0.3, -0.5, 0.2])
    z = rows.rows @ (rows.basis.T @ u)
    weights = rows.weights(nu)
    value = np.ldexp(weights.s @ np.maximum(z, 0) + weights.t @ np.maximum(-z, 0), rows.exponent + weights.power)
    assert value == pytest.approx(nu @ np.maximum(X @ u, 0), rel=1e-14)


def test_refusals():
    rows = reduce_rows(np.eye(2))
    zero = zero_multipliers(rows)
    with pytest.raises(ValueError, match="nu must have shape"):
        round_multipliers(rows, np.zeros(3), 1, zero)
    with pytest.raises(ValueError, match="sign must be"):
        round_multipliers(rows, np.zeros(2), 2, zero)
    with pytest.raises(ValueError, match="n_ss must have shape"):
        round_multipliers(rows, np.zeros(2), 1, dataclasses.replace(zero, n_ss=np.zeros(2)))
    with pytest.raises(ValueError, match="fixed must have shape"):
        round_multipliers(rows, np.zeros(2), 1, zero, fixed=np.zeros(3, np.int8))
