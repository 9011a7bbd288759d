"""Bounds of norms at the edges of the number range, and the gated certificate that stands on them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.certificates._rounding import norm_up
from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.certificates.gated_bound import GatedNorms, certify_gated, gated_dual_norm, largest_gated_block
from cvxnn.patterns import ActivationPatterns


@pytest.mark.parametrize("scale", [1e-270, 1e-200, 1e-160, 1.0, 1e160, 1e300])
def test_norms_do_not_fall_below_the_truth(scale):
    vectors = scale * np.random.default_rng(0).standard_normal((20, 5)) * 10.0 ** np.arange(-2, 3)
    upper = norm_up(vectors)
    for row, bound in zip(vectors, upper, strict=True):
        exact = sum(Fraction(float(x)) ** 2 for x in row)
        assert Fraction(float(bound)) ** 2 >= exact
        assert bound <= np.linalg.norm(row / scale) * scale * (1 + 1e-9)
    assert np.all(norm_up(vectors, axis=0) >= np.max(np.abs(vectors), axis=0))
    assert norm_up(vectors[0]).shape == ()


def underflowing():
    """Blocks of size 1e-170 although both factors have entries of order one."""
    patterns = ActivationPatterns.from_masks([[True, True], [False, True]], [[1.0], [1.0]])
    return np.array([[1.0], [1e-170]]), patterns, np.array([0.0, 1.0])


def test_squares_that_underflow_do_not_hide_a_block():
    X, patterns, nu = underflowing()
    upper, value = gated_dual_norm(X, patterns, nu)
    assert value == pytest.approx(1e-170, rel=1e-12) and 1e-170 <= upper <= 1e-170 * (1 + 1e-9)
    assert largest_gated_block(X, patterns, nu)[2] == pytest.approx([1.0])
    bounds, _ = cone_bounds(X, nu, np.array([[True, True]]), np.ones(1))
    assert bounds[0] >= 1e-170
    problem = Problem(X, [0.0, 1.0], beta=1e-171)
    # A block of length 0.9e170 fits the second target to a tenth: no bound may exceed its objective.
    objective = 0.5 * 0.1**2 + 1e-171 * 0.9e170
    assert certify_gated(problem, 0.5, patterns, nu).lower_bound <= objective


def test_values_beyond_the_range_give_an_infinite_bound():
    patterns = ActivationPatterns.from_masks([[True]], [[1.0]])
    assert gated_dual_norm(np.array([[1e200]]), patterns, np.array([1e200]))[0] == np.inf
    assert gated_dual_norm(np.array([[1e-200]]), patterns, np.array([1e-200]))[0] > 0.0


def test_samples_that_no_pattern_keeps_add_no_rounding():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    empty = ActivationPatterns.from_masks(np.zeros((3, 40), dtype=bool), np.ones((3, 2)))
    assert gated_dual_norm(X, empty, y) == (0.0, 0.0)
    # The zero network is all that there is, whatever beta is.
    problem = Problem(X, y, beta=1e-13)
    certificate = certify_gated(problem, problem.loss_value(np.zeros(40)), empty, y)
    assert certificate.gap < 1e-12


def test_block_that_attains_the_norm():
    rng = np.random.default_rng(1)
    X, nu, masks = rng.standard_normal((30, 4)), rng.standard_normal(30), rng.random((11, 30)) < 0.5
    blocks = np.array([X.T @ (mask * nu) for mask in masks])
    top = int(np.argmax(np.linalg.norm(blocks, axis=1)))
    _, value, unit = largest_gated_block(X, ActivationPatterns.from_masks(masks, np.ones((11, 4))), nu)
    np.testing.assert_allclose(value * unit, blocks[top], rtol=1e-12)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("power", [-100, -64, 0, 64, 65, 100])
def test_shared_norms_bound_the_exact_ones_of_each_vector(keep, power):
    rng = np.random.default_rng(2)
    X, masks = np.ldexp(rng.standard_normal((9, 3)), power), rng.random((5, 9)) < 0.5
    norms = GatedNorms(X, ActivationPatterns.from_masks(masks, np.ones((5, 3))), keep=keep)
    for scale in (1.0, 1e-100, 1e100, 0.0):
        nu = scale * rng.standard_normal(9)
        upper, value, unit = norms.largest(nu)
        exact = exact_square(X, masks, nu)
        assert Fraction(upper) ** 2 >= exact
        assert upper <= value * (1.0 + 1e-12)
        assert value * value == pytest.approx(float(exact), rel=1e-12)
        assert np.linalg.norm(unit) == pytest.approx(1.0 if scale else 0.0)


def exact_square(X, masks, nu):
    blocks = [[sum(Fraction(x) * Fraction(v) for x, v in zip(column[m], nu[m], strict=True)) for column in X.T]
              for m in masks]  # fmt: skip
    return max(sum((entry * entry for entry in block), Fraction(0)) for block in blocks)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("left", [None, 2.0**-60, 2.0**-95])
def test_norms_far_below_their_terms_are_bounded_tightly(keep, left):
    """Terms cancel up to the rounding of other factors, or exactly but for a small entry."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        half = rng.standard_normal((20, 2))
        factors = 1.0 + rng.random(20)
        nu = rng.standard_normal(20)
        if left is None:
            X, nu = np.vstack([half, half * factors[:, None]]), np.concatenate([nu, -nu / factors])
        else:
            X, nu = np.vstack([half, half, [[1.0, 0.0]]]), np.concatenate([nu, -nu, [left]])
        masks = np.ones((3, len(nu)), dtype=bool)
        order = rng.permutation(len(nu))
        norms = GatedNorms(X[order], ActivationPatterns.from_masks(masks, np.ones((3, 2))), keep=keep)
        upper, value, _ = norms.largest(nu[order])
        exact = exact_square(X[order], masks[:1], nu[order])
        assert Fraction(upper) ** 2 >= exact
        # Second-order rounding of the terms, which are of order one.
        assert upper <= math.sqrt(exact) * (1.0 + 1e-14) + 1e-25
        assert value == pytest.approx(math.sqrt(exact), rel=1e-14, abs=1e-27)


def test_certificates_with_shared_norms_are_those_without():
    rng = np.random.default_rng(3)
    problem = Problem(rng.standard_normal((50, 4)), rng.standard_normal(50), beta=1.0)
    patterns = ActivationPatterns.from_gates(problem.X, rng.standard_normal((30, 4)))
    norms = GatedNorms(problem.X, patterns, keep=True)
    for nu in (problem.y, rng.standard_normal(50)):
        shared = certify_gated(problem, problem.loss_value(np.zeros(50)), patterns, nu, norms=norms)
        alone = certify_gated(problem, problem.loss_value(np.zeros(50)), patterns, nu)
        assert shared.lower_bound == pytest.approx(alone.lower_bound, rel=1e-12)
        assert shared.dual_norm_bound == pytest.approx(alone.dual_norm_bound, rel=1e-12)
