"""The cheap bound of the dual norm: valid with the reduction of the rows and without it."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.certificates.pricing import pricing_bound


def data(seed, n=30, d=3, scale=1.0):
    rng = np.random.default_rng(seed)
    X = scale * np.c_[rng.standard_normal((n, d - 1)), np.ones(n)]
    X[3], X[4] = -2.0 * X[5], 0.0
    return X, rng.standard_normal(n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_not_below_the_maximum_and_not_far_above(monkeypatch, seed, scale):
    X, nu = data(seed, scale=scale)
    exact = pricing_bound(X, nu, tol=1e-6)
    reduced, _ = norm_bound(X, nu)
    monkeypatch.setattr("cvxnn.certificates.norm_bound._MOST_REDUCED", 0)
    plain, _ = norm_bound(X, nu)
    for upper in (reduced, plain):
        assert exact.lower <= upper <= 3.0 * exact.lower


def test_zero_without_reduction(monkeypatch):
    monkeypatch.setattr("cvxnn.certificates.norm_bound._MOST_REDUCED", 0)
    assert norm_bound(np.zeros((3, 2)), np.ones(3)) == (0.0, "zero")
    assert norm_bound(np.ones((3, 2)), np.zeros(3)) == (0.0, "zero")
