"""Pricing search on real residuals: value found and seconds for plain ascent and for the two-stage search.

Run with ``OMP_NUM_THREADS=1 python -m benchmarks.search``.  Each residual is that of a network trained by L-BFGS
on standardised data with a bias column; the figures are ``max |nu^T (X u)_+| / beta`` over what a method finds,
so 1 is dual feasible.  Seconds are processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes

from cvxnn.patterns.search import search

Float = npt.NDArray[np.float64]


def standardise(columns: Float) -> Float:
    """Centre and scale, and append a column of ones to a matrix."""
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    return np.column_stack([scaled, np.ones(len(scaled))]) if scaled.ndim == 2 else scaled


def train(X: Float, y: Float, beta: float, width: int, seed: int) -> tuple[Float, Float]:
    """First-layer weights and residual of a network trained by L-BFGS on squared loss with weight decay."""
    d = X.shape[1]
    rng = np.random.default_rng(seed)

    def objective(theta: Float) -> tuple[float, Float]:
        W, a = theta[: width * d].reshape(width, d), theta[width * d :]
        hidden = np.maximum(X @ W.T, 0.0)
        r = hidden @ a - y
        grad = ((r[:, None] * (hidden > 0)) * a).T @ X + beta * W
        value = 0.5 * r @ r + 0.5 * beta * theta @ theta
        return float(value), np.concatenate([grad.ravel(), hidden.T @ r + beta * a])

    start = np.concatenate([rng.standard_normal(width * d) / np.sqrt(d), rng.standard_normal(width) / np.sqrt(width)])
    options = {"maxiter": 3000, "maxfun": 6000, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-8}
    theta = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    W, a = theta[: width * d].reshape(width, d), theta[width * d :]
    return W, y - np.maximum(X @ W.T, 0.0) @ a


def ascend(X: Float, nu: Float, starts: Float, steps: Float) -> float:
    """Best value of either sign after projected ascent with the given steps, the first being infinite."""
    rows, best = X.astype(np.float32), 0.0
    for sign in (1.0, -1.0):
        weights = (sign * nu).astype(np.float32)
        u = starts.astype(np.float32)
        for k, step in enumerate(steps):
            g = ((u @ rows.T > 0) * weights) @ rows
            g /= np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-30)
            moved = g if k == 0 else u + np.float32(step) * g
            length = np.linalg.norm(moved, axis=1, keepdims=True)
            u = np.where(length > 0, moved / np.maximum(length, 1e-30), u)
        exact = u.astype(np.float64)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        best = max(best, float((np.maximum(exact @ X.T, 0.0) @ (sign * nu)).max()))
    return best


def methods(X: Float, nu: Float, W: Float, seed: int) -> dict[str, Callable[[], float]]:
    """Return the rows of the table: a name and a call that returns the best value."""
    rng = np.random.default_rng(seed)
    few, many = rng.standard_normal((200, X.shape[1])), rng.standard_normal((10_000, X.shape[1]))
    fading = np.geomspace(1.0, 1e-3, 40)

    def two_stage(count: int, starts: Float | None = None) -> float:
        values = search(X, nu, starts=starts, n_starts=count, random_state=seed).values
        return float(values.max(initial=0.0))

    return {
        "constant step, 200 starts, 150 steps": lambda: ascend(X, nu, few, np.full(150, 0.1)),
        "diminishing step, 200 starts": lambda: ascend(X, nu, few, fading),
        "two-stage search, 200 starts": lambda: two_stage(200),
        "two-stage search, 200 starts + neurons": lambda: two_stage(200, W),
        "diminishing step, 10000 starts": lambda: ascend(X, nu, many, fading),
        "two-stage search, 10000 starts": lambda: two_stage(10_000),
    }


def main() -> None:
    """Print one table row for each residual and method: worst and best of the seeds, median seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="random seeds of each search")
    parser.add_argument("--width", type=int, default=100, help="neurons of the trained network")
    options = parser.parse_args()
    print(f"{'residual':<16}{'method':<42}{'worst':>10}{'best':>10}{'cpu s':>10}")
    for name, load in (("diabetes", load_diabetes), ("breast cancer", load_breast_cancer)):
        bunch: Any = load()
        X, y = standardise(bunch.data), standardise(bunch.target.astype(np.float64))
        beta_max = search(X, y, n_starts=1000).values[0]
        for fraction in (0.1, 0.01):
            W, nu = train(X, y, fraction * beta_max, options.width, seed=0)
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(options.seeds):
                for method, call in methods(X, nu, W, seed).items():
                    begin = time.process_time()
                    value = call() / (fraction * beta_max)
                    found.setdefault(method, []).append((value, time.process_time() - begin))
            for method, pairs in found.items():
                values, seconds = zip(*pairs, strict=True)
                label = f"{name[:8]} {fraction:g}"
                print(f"{label:<16}{method:<42}{min(values):>10.6f}{max(values):>10.6f}{np.median(seconds):>10.3f}")


if __name__ == "__main__":
    main()
