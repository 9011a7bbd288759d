"""Reduction to the row space: exact products, preserved norms, ranks that ignore units."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.patterns import reduce_rank
from cvxnn.patterns._rank import equilibrate


def low_rank(n, d, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))


@pytest.mark.parametrize("n, d, rank", [(8, 5, 3), (5, 8, 4), (6, 6, 6), (30, 4, 4), (4, 30, 4), (7, 3, 1)])
def test_factors_reproduce_the_data(n, d, rank):
    X = low_rank(n, d, rank)
    Z, V = reduce_rank(X)
    assert Z.shape == (n, rank) and V.shape == (d, rank)
    assert np.allclose(Z @ V.T, X, rtol=0, atol=1e-12 * np.abs(X).max())
    assert np.allclose(V.T @ V, np.eye(rank), rtol=0, atol=1e-12)
    gram = Z.T @ Z
    assert np.allclose(gram, np.diag(np.diag(gram)), rtol=0, atol=1e-10 * gram.max())
    assert np.all(np.diff(np.diag(gram)) <= 1e-10 * gram.max())


def test_small_samples_keep_their_relative_accuracy():
    X = low_rank(10, 6, 3)
    scales = 10.0 ** np.linspace(-12, 6, 10)[:, None]
    Z, V = reduce_rank(X * scales)
    assert Z.shape[1] == 3
    assert np.allclose((Z @ V.T) / scales, X, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_rank_ignores_units_of_samples_and_features(seed):
    rng = np.random.default_rng(seed)
    X = low_rank(9, 6, 3, seed)
    X[:, 2] = X[:, 1]
    X[4] = 0.0
    scaled = X * 10.0 ** rng.uniform(-8, 8, (9, 1)) * 10.0 ** rng.uniform(-4, 4, 6)
    assert reduce_rank(scaled)[0].shape[1] == 3
    full = rng.standard_normal((9, 4)) * 10.0 ** rng.uniform(-8, 8, 4)
    assert reduce_rank(full)[0].shape[1] == 4


def test_zero_data_have_rank_zero():
    Z, V = reduce_rank(np.zeros((4, 3)))
    assert Z.shape == (4, 0) and V.shape == (3, 0)


def test_scaling_is_exact_and_undoes_units():
    rng = np.random.default_rng(0)
    X = rng.uniform(0.5, 1.0, (8, 5)) * rng.choice([-1.0, 0.0, 1.0], (8, 5), p=[0.4, 0.2, 0.4])
    X[2] = 0.0
    Y = X * 2.0 ** rng.integers(-40, 40, (8, 1)) * 2.0 ** rng.integers(-40, 40, 5)
    scaled, exponents = equilibrate(Y)
    factors = np.divide(scaled, Y * 2.0**exponents, where=Y != 0, out=np.full_like(Y, np.nan))
    for row in np.delete(factors, 2, axis=0):
        present = row[~np.isnan(row)]
        assert np.all(present == present[0]) and np.frexp(present[0])[0] == 0.5
    sizes = np.abs(scaled[scaled != 0])
    assert sizes.max() / sizes.min() < 64.0
