"""Losses against finite differences, scipy and a numeric conjugate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize_scalar

from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss, get_loss

LOSSES = [SquaredLoss(), HuberLoss(), HuberLoss(0.3), LogisticLoss(), SquaredHingeLoss()]
ids = [f"{loss.name}-{i}" for i, loss in enumerate(LOSSES)]


def sample(loss, rng, n=7):
    y = rng.choice([-1.0, 1.0], n) if loss.labels else rng.standard_normal(n)
    weight = rng.uniform(0.1, 3.0, n)
    return 2.0 * rng.standard_normal(n), y, weight


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_gradient_and_hessian_match_finite_differences(loss):
    rng = np.random.default_rng(0)
    fit, y, weight = sample(loss, rng)
    assert check_grad(lambda f: loss.value(f, y, weight), lambda f: loss.gradient(f, y, weight), fit) < 1e-6
    step = 1e-6
    numeric = (loss.gradient(fit + step, y, weight) - loss.gradient(fit - step, y, weight)) / (2 * step)
    np.testing.assert_allclose(loss.hessian(fit, y, weight), numeric, atol=1e-6)
    assert np.all(loss.hessian(fit, y, weight) <= loss.curvature * weight + 1e-15)


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_conjugate_matches_its_definition(loss):
    rng = np.random.default_rng(1)
    _, y, weight = sample(loss, rng, n=1)
    for _ in range(20):
        target = 2.0 * rng.standard_normal(1)
        slope = loss.gradient(target, y, weight)

        def negative(f, slope=slope):
            return loss.value(np.array([f]), y, weight) - slope[0] * f

        best = minimize_scalar(negative, bounds=(-60, 60), method="bounded", options={"xatol": 1e-10})
        assert loss.conjugate(slope, y, weight) == pytest.approx(-best.fun, abs=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_fenchel_equality_holds_at_the_gradient_only(loss):
    rng = np.random.default_rng(2)
    fit, y, weight = sample(loss, rng)
    nu = -loss.gradient(fit, y, weight)
    assert loss.value(fit, y, weight) + nu @ fit == pytest.approx(loss.dual_value(nu, y, weight), rel=1e-12)
    other = fit + rng.standard_normal(fit.size)
    assert loss.value(other, y, weight) + nu @ other >= loss.dual_value(nu, y, weight) - 1e-12


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_weights_equal_repeated_samples(loss):
    rng = np.random.default_rng(3)
    fit, y, _ = sample(loss, rng)
    counts = rng.integers(1, 4, fit.size)
    repeat = np.repeat(np.arange(fit.size), counts)
    ones = np.ones(repeat.size)
    assert loss.value(fit, y, counts.astype(float)) == pytest.approx(loss.value(fit[repeat], y[repeat], ones))
    nu = -loss.gradient(fit[repeat], y[repeat], ones)
    assert loss.dual_value(nu, y[repeat], ones) == pytest.approx(
        loss.dual_value(nu[np.searchsorted(repeat, np.arange(fit.size))] * counts, y, counts.astype(float))
    )


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_dual_domain_is_respected(loss):
    rng = np.random.default_rng(4)
    fit, y, weight = sample(loss, rng)
    nu = -loss.gradient(fit, y, weight)
    limit = loss.dual_scale_limit(nu, y, weight)
    assert limit >= 1.0 - 1e-12
    if np.isfinite(limit):
        assert np.isfinite(loss.dual_value(0.999 * limit * nu, y, weight))
        assert loss.dual_value(1.001 * limit * nu, y, weight) == -np.inf
    outside = -nu if loss.labels else None
    if outside is not None:
        assert loss.dual_value(outside, y, weight) == -np.inf
        assert loss.dual_scale_limit(outside, y, weight) == 0.0


@pytest.mark.parametrize("loss", LOSSES, ids=ids)
def test_zero_weight_sample_costs_nothing_and_pins_its_dual(loss):
    rng = np.random.default_rng(5)
    fit, y, weight = sample(loss, rng)
    nu = -loss.gradient(fit, y, weight)
    weight[2], nu[2] = 0.0, 0.0
    rest = np.arange(fit.size) != 2
    assert loss.dual_value(nu, y, weight) == pytest.approx(loss.dual_value(nu[rest], y[rest], weight[rest]))
    nu[2] = 0.5 * y[2]
    assert loss.dual_value(nu, y, weight) == -np.inf


def test_logistic_is_stable_far_out():
    loss, one = LogisticLoss(), np.ones(1)
    assert loss.value(np.array([-1e4]), one, one) == pytest.approx(1e4)
    assert loss.value(np.array([1e4]), one, one) == 0.0
    assert np.isfinite(loss.gradient(np.array([-1e4]), one, one)).all()


def test_names():
    assert get_loss("Squared hinge") == SquaredHingeLoss()
    with pytest.raises(ValueError, match=r"loss must be one of .*; got 'absolute'"):
        get_loss("absolute")
    with pytest.raises(ValueError, match="delta must be a positive finite number"):
        HuberLoss(0.0)
