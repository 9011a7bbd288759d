"""Parts of the alternating direction method: projections, isometry, proximal step, and its limit."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.certificates._psd_projection import LowRankProjection
from cvxnn.certificates._relaxation_block import Image, SignBlock
from cvxnn.certificates._relaxation_loss import ConePoints, SlotLoss
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.relaxation_admm import RelaxationADMM
from cvxnn.certificates.relaxation_rounding import round_multipliers
from cvxnn.certificates.relaxation_rows import reduce_rows


def positive_part(A):
    values, vectors = np.linalg.eigh(A)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def test_projection_follows_a_moving_matrix():
    rng = np.random.default_rng(0)
    size = 240
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    spectrum = np.concatenate([np.geomspace(1e-2, 5.0, 12), -np.geomspace(1e-3, 1.0, size - 12)])
    drift = rng.standard_normal((size, size)) / size**1.5
    project = LowRankProjection(0)
    for step in range(120):
        A = (basis * spectrum) @ basis.T + 1e-3 * step * (drift + drift.T)
        A = 0.5 * (A + A.T)
        F = project(A)
        assert np.linalg.norm(F @ F.T - positive_part(A)) <= 2e-2
        assert F.shape[1] < 60


@pytest.mark.parametrize("size", [3, 40, 200])
def test_first_projection_is_exact(size):
    A = np.random.default_rng(size).standard_normal((size, size))
    A = A + A.T
    F = LowRankProjection(0)(A)
    assert np.allclose(F @ F.T, positive_part(A), atol=1e-10 * size)
    assert LowRankProjection(0)(-np.eye(size)).shape == (size, 0)


def test_image_is_an_isometry_and_matrix_its_adjoint():
    rng = np.random.default_rng(1)
    R = rng.standard_normal((9, 3))
    R /= np.linalg.norm(R, axis=1, keepdims=True)
    left, sigma, right = np.linalg.svd(R, full_matrices=False)
    block = SignBlock(left, sigma, 0.7, 0)
    F = rng.standard_normal((13, 4))
    block.load(F)
    assert block.image(products=True).square() == pytest.approx(np.sum((F @ F.T) ** 2))
    # A neuron w with a = ||w|| has the image of its own products.
    w = rng.standard_normal(3)
    z = R @ w
    y = (right @ w) * np.sqrt(0.5 * sigma**2 + 0.49)
    block.load(np.concatenate([[np.linalg.norm(w)], y, np.abs(z) / np.sqrt(2)])[:, None])
    image = block.image(products=True)
    s, t = np.maximum(z, 0), np.maximum(-z, 0)
    assert np.allclose(image.st, np.outer(s, t)) and np.allclose(image.ss, np.outer(s, s))
    assert np.allclose(image.cone[9:], 0.7 * np.outer(t, right @ w))
    assert np.allclose(block.neurons() @ right, w)
    assert block.value() == pytest.approx(w @ w)
    # From copies that are an image of V, without multipliers, the matrix to project is V less the cost.
    block.begin(block.factor)
    expected = block.factor @ block.factor.T
    expected[np.arange(4), np.arange(4)] -= block.cost / 2.0
    assert np.allclose(block.matrix(2.0), expected)


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber", "squared_hinge"])
def test_proximal_step_of_the_loss(loss):
    rng = np.random.default_rng(2)
    X = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [1.0, 3.0], [0.0, 0.0]])
    problem = Problem(X, [1.0, -1.0, 1.0, 1.0, -1.0], 0.3, loss, sample_weight=[1.0, 2.0, 0.5, 0.0, 1.0])
    rows = reduce_rows(X)
    slots = SlotLoss(problem, rows)
    aspect, rho = 0.8, 0.4
    heads = [2.0 * rng.standard_normal(4), 2.0 * rng.standard_normal(4)]
    tails = [rng.standard_normal((4, 2)), rng.standard_normal((4, 2))]
    points = [ConePoints(p, np.linalg.norm(x, axis=1), aspect) for p, x in zip(heads, tails, strict=True)]
    found = slots.prox(points[0], points[1], rho)
    p = [cp.Variable(4), cp.Variable(4)]
    x = [cp.Variable((4, 2)), cp.Variable((4, 2))]
    slot = rows.group + np.where(rows.side > 0, 0, 2)
    fit = cp.multiply(np.ldexp(rows.length, rows.exponent), (p[0] - p[1])[slot])
    y, weight = problem.y[rows.samples], problem.sample_weight[rows.samples]
    pieces = {
        "squared": lambda: 0.5 * cp.square(fit - y),
        "logistic": lambda: cp.logistic(cp.multiply(-y, fit)),
        "huber": lambda: 0.5 * cp.huber(fit - y, 1.0),
        "squared_hinge": lambda: 0.5 * cp.square(cp.pos(1 - cp.multiply(y, fit))),
    }
    cost = cp.sum(cp.multiply(weight, pieces[loss]())) / problem.beta
    cost += rho * sum(
        cp.sum_squares(a - b) + cp.sum_squares(c - d) for a, b, c, d in zip(p, heads, x, tails, strict=True)
    )
    cones = [cp.norm(tail, axis=1) <= aspect * head for head, tail in zip(p, x, strict=True)]
    cp.Problem(cp.Minimize(cost), cones).solve(solver=cp.CLARABEL)
    for variable, value in zip(p, found, strict=True):
        assert np.allclose(variable.value, value, atol=2e-5)


def oracle(problem):
    """Value of the relaxation from a conic solver, written down again."""
    rows = reduce_rows(problem.X)
    R, r = rows.rows, rows.rank
    g = len(R)
    length = np.ldexp(rows.length, rows.exponent)
    constraints, heads, decay = [], [], 0
    for _ in range(2):
        Z = cp.Variable((1 + r + g, 1 + r + g), PSD=True)
        s = np.hstack([np.zeros((g, 1 + r)), np.eye(g)])
        t = s - np.hstack([np.zeros((g, 1)), R, np.zeros((g, g))])
        a, w = np.eye(1 + r + g)[:1], np.eye(1 + r + g)[1 : 1 + r]
        for form in (s, t):
            constraints += [form @ Z @ a.T >= 0, form @ Z @ form.T >= 0]
            constraints += [cp.norm(form @ Z @ w.T, axis=1) <= (form @ Z @ a.T)[:, 0]]
        constraints += [s @ Z @ t.T >= 0, cp.diag(s @ Z @ t.T) == 0, Z[0, 0] == cp.trace(w @ Z @ w.T)]
        heads.append(cp.hstack([(s @ Z @ a.T)[:, 0], (t @ Z @ a.T)[:, 0]]))
        decay += 0.5 * problem.beta * (Z[0, 0] + cp.trace(w @ Z @ w.T))
    slot = rows.group + np.where(rows.side > 0, 0, g)
    fit = cp.multiply(length, (heads[0] - heads[1])[slot])
    cost = 0.5 * cp.sum_squares(fit - problem.y[rows.samples]) + decay
    return cp.Problem(cp.Minimize(cost), constraints).solve(
        solver=cp.CLARABEL, tol_gap_rel=1e-7, tol_gap_abs=1e-7, tol_feas=1e-7
    )


@pytest.mark.parametrize("seed", range(3))
def test_limit_is_the_value_of_the_relaxation(seed):
    rng = np.random.default_rng(seed)
    problem = Problem(rng.standard_normal((8, 2)), rng.standard_normal(8), beta=0.3)
    rows = reduce_rows(problem.X)
    value = oracle(problem)
    point = next(RelaxationADMM(problem, rows).run(2000))
    tau = max(round_multipliers(rows, point.nu, s, m) for s, m in ((1, point.plus), (-1, point.minus)))
    bound, _ = scaled_dual_bound(problem, point.nu, tau)
    assert point.value == pytest.approx(value, rel=2e-3)
    # No multipliers prove more than the relaxation; these prove nearly as much.
    assert 0.995 * value <= bound <= value * (1 + 1e-6)


def test_square_counts_pairs_twice():
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    image = Image(2.0, np.ones(2), np.ones((2, 1)), np.ones(1), one, one, zero, one)
    assert image.square() == 4 + 1 + 1 + 2 * (2 + 2 + 1 + 1)
