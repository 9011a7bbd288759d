"""What every path must satisfy, and problems and starts to try it on."""

from __future__ import annotations

import numpy as np

from cvxnn import Problem, ReLUNetwork
from cvxnn.landscape.network_path import NetworkPath

KINDS = ("random", "integer", "duplicated", "line", "polygon")
LOSSES = ("squared", "logistic", "huber", "squared_hinge")


def make_problem(kind: str, loss: str, seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(4, 8)), int(rng.integers(1, 4))
    if kind == "random":
        X = rng.standard_normal((n, d))
    elif kind == "integer":
        X = rng.integers(-2, 3, (n, d)).astype(float)
    elif kind == "duplicated":
        X = np.vstack([rng.standard_normal((n // 2, d))] * 2 + [np.zeros((1, d))])
    elif kind == "line":
        X = np.column_stack([np.linspace(-1.0, 1.0, n), np.ones(n)])
    else:
        X = polygon(n)
    if loss in ("logistic", "squared_hinge"):
        y = rng.choice([-1.0, 1.0], len(X))
    else:
        y = np.ones(len(X)) if kind in ("line", "polygon") else rng.standard_normal(len(X))
    return Problem(X, y, beta=10.0 ** rng.uniform(-2.5, 0.0), loss=loss)


def polygon(n: int) -> np.ndarray:
    angles = 2.0 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angles), np.sin(angles)])


def make_start(problem: Problem, width: int, mode: int, seed: int) -> ReLUNetwork:
    """Random weights, some of them degenerate in the way that ``mode`` names."""
    rng = np.random.default_rng(seed)
    W, a = rng.standard_normal((width, problem.n_features)), rng.standard_normal(width)
    if mode == 1:
        W, a = 1e6 * W, 1e-6 * a
    elif mode == 2:
        W[::2] = 0.0
    elif mode == 3:
        a[::2] = 0.0
    elif mode == 4:
        W = np.repeat(W[:1], width, axis=0)
    elif mode == 5:
        # Exactly on kinks: orthogonal to the first sample.
        x = problem.X[0]
        W = W - np.outer(W @ x, x) / max(float(x @ x), 1e-300)
    return ReLUNetwork(W, a)


def padded(network: ReLUNetwork, width: int, rng: np.random.Generator, splits: int = 0) -> ReLUNetwork:
    """Split random neurons, add zero neurons up to the width, and permute."""
    for _ in range(splits):
        if 0 < network.width < width:
            network = network.split(int(rng.integers(network.width)), float(rng.uniform(0.1, 0.9)))
    extra = width - network.width
    W = np.vstack([network.W, np.zeros((extra, network.n_features))])
    return ReLUNetwork(W, np.concatenate([network.a, np.zeros(extra)])).permuted(rng.permutation(width))


def largest_step(path: NetworkPath, num: int) -> float:
    W, a = path.weights(np.linspace(0.0, 1.0, num))
    steps = np.sum(np.diff(W, axis=0) ** 2, axis=(1, 2)) + np.sum(np.diff(a, axis=0) ** 2, axis=1)
    return float(np.sqrt(np.max(steps)))


def check_path(path: NetworkPath, start: ReLUNetwork, end: ReLUNetwork | None = None) -> None:
    """Ends to the last bit, constant width, and steps that halve when the sampling is refined (continuity)."""
    assert np.array_equal(path(0.0).W, start.W)
    assert np.array_equal(path(0.0).a, start.a)
    if end is not None:
        assert np.array_equal(path(1.0).W, end.W)
        assert np.array_equal(path(1.0).a, end.a)
    assert path.width == start.width == path(0.37).width == path(1.0).width
    assert np.all(np.diff(path.breakpoints) > 0)
    coarse, fine, finest = (largest_step(path, num) for num in (1001, 2001, 4001))
    assert fine <= 0.55 * coarse
    assert finest <= 0.55 * fine
