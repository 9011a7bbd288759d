"""Three layers against two, and the certified search against gradient descent from many starts.

Synthetic data that a sum of sub-networks with three layers fits better than one with two layers at the same penalty,
and two real tables. Run with ``python examples/parallel_networks.py``; it takes some minutes.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes

from cvxnn import ParallelReLU, ParallelReLUNetwork, Problem, ReLU, solve

STARTS, WIDTH = 8, 50


def bump(n: int = 7) -> Problem:
    """Targets that are one at a single angle in the middle of an arc, a bump."""
    angle = np.linspace(-0.35, 1.05, n)
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    return Problem(X, (np.arange(n) == n // 2).astype(float), beta=0.01)


def table(X: np.ndarray, y: np.ndarray, beta: float, loss: str) -> Problem:
    """Standardised columns and a column of ones."""
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return Problem(np.column_stack([X, np.ones(len(X))]), y, beta, loss)


def gradient_descent(problem: Problem, norm: str, seed: int) -> float:
    """Objective of L-BFGS on the weights (W, b, a) from one random start.

    The weights are those of the papers: sub-networks of unit first-layer neurons ("path") or of a unit first layer
    ("l21"), with weight decay on b and a.
    """
    rng = np.random.default_rng(seed)
    d = problem.n_features
    shapes = [(WIDTH, 2, d), (WIDTH, 2), (WIDTH,)]
    cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def evaluate(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W, b, a = (part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True))
        axes = -1 if norm == "path" else (-2, -1)
        size = np.sqrt(np.sum(W * W, axis=axes, keepdims=True))
        unit = W / size
        inner = np.einsum("nd,kjd->nkj", problem.X, unit)
        hidden = np.maximum(inner, 0.0)
        outer = np.einsum("nkj,kj->nk", hidden, b)
        fit = np.maximum(outer, 0.0) @ a
        value = problem.loss_value(fit) + 0.5 * problem.beta * float(np.sum(b * b) + np.sum(a * a))
        slope = problem.loss_gradient(fit)
        grad_a = np.maximum(outer, 0.0).T @ slope + problem.beta * a
        back = slope[:, None] * a * (outer > 0)
        grad_b = np.einsum("nk,nkj->kj", back, hidden) + problem.beta * b
        grad_unit = np.einsum("nkj,nd->kjd", back[:, :, None] * b * (inner > 0), problem.X)
        grad_W = (grad_unit - unit * np.sum(grad_unit * unit, axis=axes, keepdims=True)) / size
        return value, np.concatenate([grad_W.ravel(), grad_b.ravel(), grad_a.ravel()])

    start = np.concatenate([rng.standard_normal(int(np.prod(shape))) for shape in shapes])
    start[cuts[0] :] *= 0.5
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "maxfun": 4000})
    return float(found.fun)


def report(name: str, problem: Problem, limit: float) -> None:
    """Print one line for each norm."""
    two = solve(problem, architecture=ReLU(), time_limit=limit).objective
    for norm in ("path", "l21"):
        begin = time.perf_counter()
        best = solve(problem, architecture=ParallelReLU(width=2, penalty=norm), time_limit=limit)
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        descents = [gradient_descent(problem, norm, seed) for seed in range(STARTS)]
        network: ParallelReLUNetwork = best.network
        print(
            f"{name:<10} {norm:<5} objective {best.objective:.8g} ({best.scope} gap {best.gap:.1e}, "
            f"bound for every network {best.global_lower_bound:.6g}, {network.width} sub-networks, {seconds:.1f} s); "
            f"two layers {two:.8g}; descent from {STARTS} starts: best {min(descents):.8g}, "
            f"median {np.median(descents):.8g} ({time.perf_counter() - begin:.1f} s)"
        )


def main() -> None:
    """Run all comparisons."""
    report("bump", bump(), 30.0)
    X, y = map(np.asarray, load_diabetes(return_X_y=True))
    y = (y - y.mean()) / y.std()
    report("diabetes", table(X, y, 8.0, "squared"), 30.0)
    X, y = map(np.asarray, load_breast_cancer(return_X_y=True))
    report("cancer", table(X, 2.0 * y - 1.0, 4.0, "logistic"), 30.0)


if __name__ == "__main__":
    main()
