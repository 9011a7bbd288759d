"""Conventions: our objective is theirs times a factor; theirs is evaluated by PyTorch and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

from cvxnn import ReLUNetwork, landscape
from cvxnn.interop import TrainingObjective, TwoLayerWeights, judge, judge_sklearn, judge_torch, torch_objective
from cvxnn.losses import SquaredLoss

N = 25
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, 2))
Y = X[:, 0] ** 2 - X[:, 1] + 0.1 * RNG.standard_normal(N)
LABELS = (Y > 0).astype(float)


def module(bias=True, out_bias=True, seed=0, m=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, m, bias=bias), nn.ReLU(), nn.Linear(m, 1, bias=out_bias)).double()


def fitted(mlp, X, y, **options):
    """Where lbfgs stops does not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mlp.fit(X, y, **options)


def theirs(net, criterion, y, weight_decay, decay_biases):
    """What a PyTorch training loop minimises."""
    with torch.no_grad():
        value = criterion(net(torch.tensor(X)), torch.tensor(y)[:, None]).item()
    decayed = [p for p in net.parameters() if decay_biases or p.ndim == 2]
    return value + 0.5 * weight_decay * sum(float(p.detach().square().sum()) for p in decayed)


CRITERIA = [
    (nn.MSELoss, {}, Y, N / 2, 0.5),
    (nn.HuberLoss, {"delta": 0.4}, Y, N, 1.0),
    (nn.SmoothL1Loss, {"beta": 0.4}, Y, 0.4 * N, 0.4),
    (nn.BCEWithLogitsLoss, {}, LABELS, N, 1.0),
    (nn.SoftMarginLoss, {}, 2 * LABELS - 1, N, 1.0),
]


@pytest.mark.parametrize(("kind", "options", "y", "mean_scale", "sum_scale"), CRITERIA)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("bias", "out_bias"), [(True, True), (False, False), (True, False), (False, True)])
def test_torch_criteria(kind, options, y, mean_scale, sum_scale, reduction, bias, out_bias):
    net, criterion = module(bias, out_bias), kind(reduction=reduction, **options)
    expected = theirs(net, criterion, y, 0.03, True)
    judged = judge_torch(net, X, y, weight_decay=0.03, loss=criterion)
    assert judged.exact
    assert judged.scale == pytest.approx(mean_scale if reduction == "mean" else sum_scale)
    assert judged.objective == pytest.approx(expected, rel=1e-12)
    assert judged.network.objective(judged.problem) == pytest.approx(judged.scale * expected, rel=1e-12)
    assert judged.training_objective(judged.network) == pytest.approx(expected, rel=1e-12)
    assert abs(judged.difference) < 1e-10
    word = {"MSELoss": "mse", "HuberLoss": "huber", "SmoothL1Loss": "smooth_l1"}.get(kind.__name__)
    word = word or ("bce_with_logits" if kind is nn.BCEWithLogitsLoss else "soft_margin")
    delta = next(iter(options.values()), None)
    again = judge_torch(net, X, y, weight_decay=0.03, loss=word, reduction=reduction, delta=delta)
    assert again.objective == judged.objective


def test_gradients_are_proportional_where_torch_stands_still():
    """weight_decay of the optimiser is the gradient of weight_decay/2 * theta^2, biases included."""
    net = module()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=0.03)
    before = [p.detach().clone() for p in net.parameters()]
    nn.MSELoss()(net(torch.tensor(X)), torch.tensor(Y)[:, None]).backward()
    optimizer.step()
    steps = [b - p.detach() for b, p in zip(before, net.parameters(), strict=True)]
    objective = torch_objective(N, weight_decay=0.03)

    def value(parameters):
        W, b, a, c = (p.numpy() for p in parameters)
        return objective.value(TwoLayerWeights(W, a, b, c), X, Y)

    for k, step in enumerate(steps):
        direction = torch.randn(step.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        moved = [[p + s * 1e-6 * direction if i == k else p for i, p in enumerate(before)] for s in (1, -1)]
        slope = (value(moved[0]) - value(moved[1])) / 2e-6
        assert slope == pytest.approx(float((step * direction).sum()), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("hidden", [0.3, 0.01])
@pytest.mark.parametrize("output", [0.0, 0.2])
def test_separate_bias_decay(hidden, output):
    """Biases with a decay of their own: a column of another value than one."""
    net = module()
    judged = judge_torch(
        net, X, Y, weight_decay=0.03, hidden_bias_decay=hidden, output_bias_decay=output, loss=nn.MSELoss()
    )
    assert judged.column == pytest.approx(np.sqrt(0.03 / hidden))
    first, second = net[0], net[2]
    expected = theirs(net, nn.MSELoss(), Y, 0.03, False) + 0.5 * (
        hidden * float(first.bias.detach().square().sum()) + output * second.bias.item() ** 2
    )
    assert judged.network.objective(judged.problem) == pytest.approx(judged.scale * expected, rel=1e-12)
    back = judged.with_ones(judged.network)
    np.testing.assert_allclose(back(np.column_stack([X, np.ones(N)])), judged.network(judged.problem.X), rtol=1e-12)
    np.testing.assert_allclose(back.W[:, -1], first.bias.detach().numpy(), rtol=1e-14)


weight = st.floats(-3, 3, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(weight, weight, st.floats(-50, 50), weight), min_size=1, max_size=4),
    weight,
    st.sampled_from([1e-2, 1e-5]),
)
def test_free_biases_only_lower_the_problem(neurons, offset, slack):
    """For every network with free biases some network of the problem costs no more: bounds carry over."""
    array = np.array(neurons)
    weights = TwoLayerWeights(array[:, :2], array[:, 3], array[:, 2], offset)
    judged = judge(weights, X, Y, torch_objective(N, weight_decay=0.1, decay_biases=False), slack=slack)
    radius = np.max(np.linalg.norm(X, axis=1))
    limit = radius * np.linalg.norm(weights.W, axis=1)
    clipped = np.clip(weights.hidden_bias, -limit, limit)
    # A bias beyond the limit leaves a linear neuron: what is cut off is a constant.
    rest = float(weights.a @ np.maximum(weights.hidden_bias - limit, 0.0))
    cheap = ReLUNetwork(np.column_stack([weights.W, clipped / judged.column]), weights.a, output_bias=offset + rest)
    np.testing.assert_allclose(cheap(judged.problem.X), judged.network(judged.problem.X), atol=1e-9)
    ours = cheap.objective(judged.problem)
    assert ours <= judged.scale * judged.objective * (1 + 1e-12)
    assert judged.scale * judged.training_objective(cheap) <= ours * (1 + slack) * (1 + 1e-12)
    assert judged.problem.output_bias_decay == 0.0
    assert not judged.exact


@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_sklearn_objective_is_what_lbfgs_minimises(kind):
    y = Y if kind is MLPRegressor else np.where(LABELS > 0, "b", "a")
    mlp = fitted(kind(hidden_layer_sizes=(4,), solver="lbfgs", alpha=0.7, max_iter=10_000, random_state=0), X, y)
    judged = judge_sklearn(mlp, X, y)
    assert judged.objective == pytest.approx(mlp.loss_, rel=1e-9)
    assert judged.scale == pytest.approx(N)
    assert judged.training.beta == pytest.approx(0.7)
    square = sum(float(np.sum(c**2)) for c in mlp.coefs_)
    assert mlp.loss_ == pytest.approx(
        judged.problem.loss_value(judged.network(judged.problem.X)) / N + 0.35 * square / N
    )


def test_sklearn_sample_weight():
    weight = RNG.uniform(0.5, 2.0, N)
    mlp = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", alpha=0.7, max_iter=10_000, random_state=0)
    fitted(mlp, X, Y, sample_weight=weight)
    assert judge_sklearn(mlp, X, Y, sample_weight=weight).objective == pytest.approx(mlp.loss_, rel=1e-9)


@pytest.mark.parametrize(("batch", "expected"), [("auto", 0.7), (5, 0.7 * N / 5)])
def test_sklearn_batches_raise_the_decay(batch, expected):
    """The decay is divided by the size of the batch, not of the data."""
    mlp = MLPRegressor(hidden_layer_sizes=(4,), solver="sgd", alpha=0.7, max_iter=1, batch_size=batch, random_state=0)
    fitted(mlp, X, Y)
    judged = judge_sklearn(mlp, X, Y)
    assert judged.training.beta == pytest.approx(expected)
    # One epoch of one batch is one step: loss_curve_ holds the objective before it.
    if batch == "auto":
        start = MLPRegressor(hidden_layer_sizes=(4,), solver="sgd", alpha=0.7, max_iter=1, random_state=0)
        fitted(start.set_params(learning_rate_init=1e-300), X, Y)
        assert judge_sklearn(start, X, Y).objective == pytest.approx(start.loss_curve_[0], rel=1e-12)


def test_the_verdict_carries_over_for_decayed_biases():
    """The best network of the problem beats every torch run, in the units of torch, and is proved best."""
    net = module(m=8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=0.05)
    x, y = torch.tensor(X), torch.tensor(Y)[:, None]
    for _ in range(400):
        optimizer.zero_grad()
        nn.MSELoss()(net(x), y).backward()
        optimizer.step()
    judged = judge_torch(net, x, y, weight_decay=0.05)
    proof = landscape.certify(judged.problem, judged.network, tol=1e-6)
    reached = theirs(net, nn.MSELoss(), Y, 0.05, True)
    assert judged.training_bound(proof.lower_bound) <= reached
    best = proof.better or judged.network
    assert judged.training_objective(best) <= reached
    assert judged.training_objective(best) == pytest.approx(judged.training_bound(proof.lower_bound), rel=1e-5)
    assert judged.gap(proof.lower_bound) == pytest.approx(proof.gap, abs=1e-12)


def test_the_bound_holds_for_free_biases():
    """scikit-learn does not decay biases: no run of it falls below the bound, and the best network met is close."""
    runs = [
        fitted(
            MLPRegressor(hidden_layer_sizes=(10,), solver="lbfgs", alpha=0.5, max_iter=10_000, random_state=k),
            X[:15],
            Y[:15],
        )
        for k in range(6)
    ]
    judged = judge_sklearn(runs[0], X[:15], Y[:15], slack=1e-4)
    proof = landscape.certify(judged.problem, judged.network, tol=1e-6)
    bound = judged.training_bound(proof.lower_bound)
    assert min(run.loss_ for run in runs) >= bound
    assert judged.training_objective(proof.better or judged.network) <= bound * (1 + 2e-4)


def words():
    yield {"loss": "l1"}, "loss must be one of mse, squared"
    yield {"loss": nn.L1Loss()}, "loss must be one of MSELoss, .*; got L1Loss"
    yield {"loss": nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))}, "has pos_weight; criteria without class weights"
    yield {"loss": nn.MSELoss(), "reduction": "sum"}, "reduction='sum' contradicts the criterion, which has 'mean'"
    yield {"loss": nn.MSELoss(reduction="none")}, "reduction must be"
    yield {"reduction": "median"}, "reduction must be"
    yield {"weight_decay": 0.0}, "weight_decay must be a finite number > 0"
    yield {"weight_decay": -1.0}, "weight_decay must be a finite number > 0"
    yield {"hidden_bias_decay": -1.0}, "hidden_bias_decay must be"
    yield {"loss": "bce_with_logits"}, 'y must hold the labels 0 and 1 for loss="bce_with_logits"'
    yield {"loss": "soft_margin"}, "y must hold the labels -1 and \\+1"
    yield {"delta": 0.0, "loss": "huber"}, "delta must be a finite number > 0"
    yield {"slack": 0.0, "decay_biases": False}, "slack must be a finite number > 0"


@pytest.mark.parametrize(("options", "message"), list(words()))
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        judge_torch(module(), X, Y, **({"weight_decay": 0.1} | options))


def test_refused_data():
    with pytest.raises(ValueError, match="X has 3 columns; this network takes 2"):
        judge_torch(module(), np.column_stack([X, np.ones(N)]), Y, weight_decay=0.1)
    with pytest.raises(ValueError, match="25 rows but y has 24"):
        judge_torch(module(), X, Y[1:], weight_decay=0.1)
    mlp = MLPClassifier(hidden_layer_sizes=(2,), solver="lbfgs", alpha=1.0, max_iter=10_000, random_state=0)
    fitted(mlp, X, LABELS)
    with pytest.raises(ValueError, match=r"holds the label 7.0; this classifier knows \[0.0, 1.0\]"):
        judge_sklearn(mlp, X, np.full(N, 7.0))
    with pytest.raises(ValueError, match="loss_factor must be"):
        TrainingObjective(SquaredLoss(), 0.0, 1.0)
