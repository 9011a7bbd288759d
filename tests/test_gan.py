"""Generators against semidefinite programs, dense directions, gradient descent and closed forms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import minimize

from cvxnn import gan
from cvxnn.certificates.gram_spectrum import gram_spectrum
from cvxnn.certificates.moment_bound import quadratic_moment_bound, relu_moment_bound
from cvxnn.gan import GeneratorStatus
from cvxnn.programs.wgan_relu import split_samples
from cvxnn.solvers.least_distance import least_distance
from tests.oracles.wgan import circle, descend, moment_difference, quadratic_norm, step_norm

STATIONARY = GeneratorStatus.STATIONARY


def cloud(seed, n=20, d=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ np.diag(np.linspace(2.0, 0.5, d)) + 0.5


# Quadratic discriminator


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(20, 4), (3, 5), (6, 1)])
def test_closed_form_equals_the_semidefinite_program(shape, share):
    X = cloud(1, *shape)
    beta_d = share * np.linalg.norm(X, 2) ** 2
    found = gan.quadratic_generator(X, beta_d)
    assert found.status is GeneratorStatus.OPTIMUM
    assert found.objective == pytest.approx(quadratic_norm(X, beta_d), rel=1e-6)
    assert found.gap <= 1e-12
    # The constraint binds and holds.
    assert found.discriminator.constraint_holds
    assert found.discriminator.lower == pytest.approx(beta_d, rel=1e-9)
    assert np.sum(found.samples**2) == pytest.approx(found.objective, rel=1e-12)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_game_agrees_and_its_discriminator_certifies_it(share):
    X = cloud(2, 15, 5)
    beta_d = share * np.linalg.norm(X, 2) ** 2
    game, closed = gan.quadratic_game(X, beta_d), gan.quadratic_generator(X, beta_d)
    assert game.objective == pytest.approx(closed.objective, rel=1e-7)
    assert game.payoff == pytest.approx(closed.objective, rel=1e-7)
    assert game.payoff <= closed.objective * (1.0 + 1e-12)
    assert game.lower_bound == closed.lower_bound
    assert np.allclose(np.linalg.norm(game.directions, axis=1), 1.0)
    # Against the discriminator of the saddle point no generator does better.
    M = (game.directions.T * game.output_weights) @ game.directions
    assert np.linalg.eigvalsh(M)[-1] <= 1.0 + 1e-9


def test_generator_is_free_up_to_orthogonal_maps():
    X = cloud(3, 12, 3)
    one, same = (gan.quadratic_generator(X, 2.0, 30, random_state=4) for _ in range(2))
    other = gan.quadratic_generator(X, 2.0, 30, random_state=5)
    assert np.array_equal(one.samples, same.samples)
    assert not np.allclose(one.samples, other.samples)
    assert np.allclose(one.samples.T @ one.samples, other.samples.T @ other.samples)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    assert gan.quadratic_generator(turn @ X, 2.0).objective == pytest.approx(one.objective, rel=1e-12)


def test_ends_of_the_range_of_beta():
    X = cloud(4, 10, 3)
    exact = gan.quadratic_generator(X, 0.0)
    assert np.allclose(exact.samples.T @ exact.samples, X.T @ X, atol=1e-12)
    assert exact.discriminator.constraint_holds
    nothing = gan.quadratic_generator(X, np.linalg.norm(X, 2) ** 2 * 1.001)
    assert nothing.objective == 0.0 == nothing.lower_bound
    assert not nothing.samples.any()
    assert gan.quadratic_generator(np.zeros((3, 2)), 0.0).objective == 0.0


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_scales(size):
    X = cloud(5)
    one, scaled = gan.quadratic_generator(X, 3.0), gan.quadratic_generator(X * size, 3.0 * size**2)
    assert scaled.objective == pytest.approx(one.objective * size**2, rel=1e-10)
    assert scaled.gap <= 1e-10
    assert scaled.discriminator.constraint_holds


def test_latent_with_the_norm_of_the_samples():
    X, Z = cloud(6, 15, 3), np.random.default_rng(0).standard_normal((15, 5))
    found = gan.quadratic_generator(X, 1.5, latent=Z, penalty="samples")
    assert np.allclose(Z @ found.weights, found.samples)
    assert found.objective == pytest.approx(gan.quadratic_generator(X, 1.5).objective, rel=1e-12)
    assert found.discriminator.constraint_holds


def test_latent_with_the_norm_of_the_weights():
    X = cloud(7, 15, 3)
    Z = np.random.default_rng(1).standard_normal((15, 4)) * [3.0, 1.0, 0.5, 2.0]
    beta_d = 1.5
    found = gan.quadratic_generator(X, beta_d, latent=Z)
    assert np.allclose(Z @ found.weights, found.samples)
    assert found.discriminator.constraint_holds
    assert found.gap <= 1e-10
    whitened = gan.quadratic_generator(X, beta_d, latent=np.linalg.qr(Z)[0])
    assert whitened.objective == pytest.approx(gan.quadratic_generator(X, beta_d).objective, rel=1e-10)

    def penalised(flat, weight):
        W = flat.reshape(4, 3)
        G = Z @ W
        values, vectors = np.linalg.eigh(X.T @ X - G.T @ G)
        excess = np.sign(values) * np.maximum(np.abs(values) - beta_d, 0.0)
        gradient = 2.0 * W - 4.0 * weight * Z.T @ G @ (vectors * excess) @ vectors.T
        return np.sum(W**2) + weight * np.sum(excess**2), gradient.ravel()

    # Penalties allow more than the constraint, so their minimum is below; it comes close and never beats the bound
    # by more than the penalty's own excess.
    best = np.inf
    for seed in range(6):
        point = np.random.default_rng(seed).standard_normal(12)
        for weight in 10.0 ** np.arange(-1.0, 6.0):
            point = minimize(penalised, point, args=(weight,), jac=True, options={"maxiter": 500}).x
        best = min(best, float(np.sum(point**2)))
    assert best == pytest.approx(found.objective, rel=1e-4)


def test_too_few_samples_are_refused_with_the_count():
    X = cloud(8, 10, 4)
    with pytest.raises(ValueError, match=r"n_samples must be at least 4, .* got 3"):
        gan.quadratic_generator(X, 0.0, 3)
    with pytest.raises(ValueError, match=r"columns of latent must be at least 4, .* got 2"):
        gan.quadratic_generator(X, 0.0, latent=np.eye(10)[:, :2])
    second = np.linalg.svd(X, compute_uv=False)[1]
    assert len(gan.quadratic_generator(X, 1.001 * second**2, 1).samples) == 1


# Certificates


def test_spectrum_encloses_the_exact_eigenvalues():
    # For rows of integers the Gram matrix is exact, and rationals decide how many eigenvalues lie above a number.
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.integers(-(2**12), 2**12, (8, 2))
        weights = rng.choice([-1, 1], 8)
        a, b, c = (int(np.sum(weights * rows[:, i] * rows[:, j])) for i, j in [(0, 0), (0, 1), (1, 1)])
        found = gram_spectrum(rows.astype(float), weights.astype(float))

        def above(t, a=a, b=b, c=c):
            """Number of eigenvalues above t, by the signs of the leading minors of A - t I."""
            t = Fraction(t)
            determinant = (a - t) * (c - t) - b * b
            return 1 if determinant < 0 else (2 if a > t else 0)

        assert above(found.lower[0]) >= 1
        assert above(found.lower[1]) == 2
        assert above(found.upper[0]) == 0
        assert above(found.upper[1]) <= 1
        assert np.all(found.upper - found.lower <= 1e-12 * found.norm_upper + 1e-12 * np.sum(rows**2))


def test_lower_bounds_hold_for_generators_that_satisfy_the_constraint():
    rng = np.random.default_rng(1)
    X = cloud(9, 12, 2)
    U, axes = circle(), np.linalg.svd(X, full_matrices=False)[2]
    for _ in range(30):
        G = X[rng.integers(0, 12, 12)] * rng.uniform(0.3, 1.5) + 0.3 * rng.standard_normal((12, 2))
        norm = float(np.sum(G**2))
        assert quadratic_moment_bound(X, np.linalg.norm(X.T @ X - G.T @ G, 2)) <= norm * (1.0 + 1e-12)
        seen = float(np.max(np.abs(moment_difference(X, G, U)))) * (1.0 + 1e-6)
        assert relu_moment_bound(X, seen, 12, axes) <= norm


def test_discriminator_gap_against_dense_directions():
    X, G = cloud(10, 15), cloud(11, 9)
    seen = np.abs(moment_difference(X, G, circle()))
    found = gan.discriminator_gap(X, G, 1.0)
    assert seen.max() <= found.upper
    assert found.lower == pytest.approx(seen.max(), rel=1e-6)
    assert found.upper == pytest.approx(found.lower, rel=1e-6)
    assert found.constraint_holds is False
    assert found.sign * moment_difference(X, G, found.direction[None])[0] == pytest.approx(found.lower)
    assert gan.discriminator_gap(X, G, seen.max() * 1.001).constraint_holds is True
    assert gan.discriminator_gap(X, X[::-1], 0.0).constraint_holds is True
    quadratic = gan.discriminator_gap(X, G, 1.0, "quadratic")
    assert quadratic.lower == pytest.approx(np.linalg.norm(X.T @ X - G.T @ G, 2))
    assert quadratic.lower <= quadratic.upper <= quadratic.lower * (1.0 + 1e-10)


def test_gap_is_left_open_where_it_cannot_be_decided():
    rng = np.random.default_rng(2)
    X, G = rng.standard_normal((60, 12)), rng.standard_normal((60, 12))
    found = gan.discriminator_gap(X, G, gan.discriminator_gap(X, G, 1.0).lower * 1.01)
    assert found.constraint_holds is None


# ReLU discriminator


@pytest.mark.parametrize(("beta_d", "m"), [(0.5, 20), (3.0, 20), (1.0, 31), (3.0, 12)])
def test_relu_constraint_holds_at_all_directions(beta_d, m):
    X = cloud(12)
    found = gan.relu_generator(X, beta_d, m)
    seen = np.abs(moment_difference(X, found.samples, circle()))
    assert found.status is STATIONARY
    assert found.discriminator.constraint_holds
    assert seen.max() <= beta_d * (1.0 + 1e-4)
    # It binds: a smaller norm would break it.
    assert seen.max() >= beta_d * (1.0 - 1e-2)
    assert found.lower_bound <= found.objective == pytest.approx(np.sum(found.samples**2))
    assert found.lower_bound >= 0.5 * found.objective
    assert np.all(np.diff(found.history.objective) <= 1e-9) or m < 20


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_relu_generator_against_the_full_program_and_gradients(seed):
    X, beta_d = cloud(seed, 10), 1.0
    found = gan.relu_generator(X, beta_d, tol=1e-5)
    U = circle(2000)
    # The convex program of the generator's own patterns, with a constraint at every direction of a fine grid.
    assert step_norm(X, found.samples, beta_d, circle(3000)) >= found.objective * (1.0 - 1e-3)
    # Gradient methods, from the same patterns and from the data.
    for start in (found.samples, X):
        # Its penalty leaves an excess: asked for a little less than the radius, it satisfies the constraint.
        other = descend(X, start, 0.995 * beta_d, U)
        assert np.max(np.abs(moment_difference(X, other, U))) <= beta_d
        # Both are local: descent may end a little lower, which the status does not deny.
        assert np.sum(other**2) >= found.objective * (1.0 - 1e-3)


def test_relu_with_a_latent():
    X = cloud(13)
    Z = np.random.default_rng(0).standard_normal((20, 20))
    found = gan.relu_generator(X, 3.0, latent=Z, tol=1e-3)
    assert found.discriminator.constraint_holds
    assert np.allclose(Z @ found.weights, found.samples)
    assert found.objective == pytest.approx(np.sum(found.weights**2))
    assert found.lower_bound <= found.objective
    again = gan.relu_generator(X, 3.0, latent=Z, reference=found.weights, tol=1e-3)
    assert again.objective <= found.objective * (1.0 + 1e-9)


def test_relu_in_other_dimensions():
    line = gan.relu_generator([[3.0], [-1.0], [0.5]], 0.5)
    # On a line there are two moments, 3.5 and 1: the least norm splits samples over them in proportion.
    assert line.status is STATIONARY
    assert line.objective == pytest.approx(3.0**2 / 2 + 0.5**2 / 1, rel=1e-3)
    space = gan.relu_generator(cloud(14, 8, 3), 1.0, tol=1e-3)
    assert space.status is STATIONARY
    assert space.discriminator.constraint_holds
    one = gan.relu_generator([[1.0, 0.0]], 0.25)
    assert one.objective == pytest.approx(0.5625)
    assert one.gap <= 1e-9
    assert gan.relu_generator([[1.0, 0.0]], 2.0).objective == 0.0
    assert gan.relu_generator(np.zeros((2, 2)), 1.0).objective == 0.0


def test_relu_says_when_it_finds_nothing():
    found = gan.relu_generator(cloud(15), 0.1, 2)
    assert found.status is GeneratorStatus.INFEASIBLE
    assert found.discriminator.constraint_holds is False
    assert "does not prove" in found.status.advice


def test_relu_limits_keep_the_best_generator():
    X = cloud(16)
    stopped = gan.relu_generator(X, 1.0, time_limit=0.0)
    assert stopped.status is GeneratorStatus.TIME_LIMIT
    assert np.array_equal(stopped.samples, X)
    calls = []

    def interrupt(progress):
        calls.append(progress.objective)
        if len(calls) == 2:
            raise KeyboardInterrupt

    found = gan.relu_generator(X, 1.0, verbose=interrupt)
    assert found.status is GeneratorStatus.INTERRUPTED
    assert found.discriminator.constraint_holds
    assert found.objective == calls[1] < calls[0]
    assert gan.relu_generator(X, 1.0, max_iter=1).status is GeneratorStatus.MAX_ITER
    one, same = (gan.relu_generator(X, 1.0, max_iter=2).samples for _ in range(2))
    assert np.array_equal(one, same)


def test_split_samples_keep_every_moment():
    X = cloud(17, 7)
    for m in (7, 9, 21):
        G = split_samples(X, m)
        assert len(G) == m
        assert np.allclose(moment_difference(X, G, circle(50)), 0.0)
    assert np.allclose(split_samples(X, 3).sum(axis=0), X.sum(axis=0))


def test_least_distance_satisfies_its_conditions():
    rng = np.random.default_rng(3)
    for _ in range(30):
        A, b = rng.standard_normal((6, 4)) * 10.0 ** rng.uniform(-4, 4, (6, 1)), rng.standard_normal(6)
        solved = least_distance(A, b)
        if solved is None:
            continue
        x, multipliers = solved
        assert np.all(A @ x >= b - 1e-9 * np.linalg.norm(A, axis=1) * (1 + np.linalg.norm(x)))
        assert np.all(multipliers >= 0)
        assert np.allclose(A.T @ multipliers, x)
        assert float(b @ multipliers) == pytest.approx(float(x @ x), rel=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gan.quadratic_generator([[1.0, np.nan]], 1.0), "X contains 1 NaN"),
        (lambda: gan.quadratic_generator([[1.0]], -1.0), "beta_d must be a finite number >= 0; got -1.0"),
        (lambda: gan.quadratic_generator([[1.0]], 1.0, penalty="both"), "penalty must be one of weights, samples"),
        (lambda: gan.quadratic_generator([[1.0]], 0.1, 0), "n_samples must be a positive integer; got 0"),
        (lambda: gan.quadratic_generator([[1.0]], 0.1, 2, latent=[[1.0]]), "n_samples must be 1, the rows of latent"),
        (lambda: gan.quadratic_generator([[1.0]], 0.1, latent=np.ones((3, 2))), "full column rank 2; its rank is 1"),
        (lambda: gan.quadratic_game(np.ones((3, 41)), 1.0), "at most 40 features.*861 variables; got 41"),
        (lambda: gan.quadratic_game([[1.0]], 0.0), "beta_d must be a finite number > 0"),
        (lambda: gan.discriminator_gap([[1.0]], [[1.0, 2.0]], 1.0), "G must have 1 columns as X has"),
        (lambda: gan.discriminator_gap([[1.0]], [[1.0]], 1.0, "tanh"), "activation must be one of relu, quadratic"),
        (lambda: gan.relu_generator([[1.0]], 0.0), "beta_d must be a finite number > 0"),
        (lambda: gan.relu_generator([[1.0]], 1.0, reference=[[1.0, 2.0]]), r"reference must have shape \(1, 1\)"),
        (lambda: gan.relu_generator([[1.0]], 1.0, max_iter=0), "max_iter must be a positive integer"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
