"""Attack on the claim that no neuron violates the dual: many ascents, written without the library's search.

For the dual vector nu of a solution, every unit vector u must satisfy ``|nu^T (X u)_+| <= beta`` at an optimum.
Projected subgradient ascent with diminishing steps runs from random vectors, rows and their differences, and perturbed
neurons, for both signs, and reports the largest value met, divided by beta. Usage::

    python -m benchmarks.attack diabetes 1e-2 --starts 10000 --seconds 60 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import cvxnn
from benchmarks.data import load

STEPS = 150
BATCH = 256


def attack(
    X: np.ndarray, nu: np.ndarray, neurons: np.ndarray, starts: int, seed: int = 0, steps: int = STEPS
) -> tuple[float, np.ndarray]:
    """Largest ``|nu^T (X u)_+|`` that ascents from ``starts`` vectors meet, and its unit vector.

    A third of the starts are neurons with noise from 1e-3 to 1, a third differences of rows and rows, a third random.
    """
    rng = np.random.default_rng(seed)
    n, d = X.shape
    random = rng.standard_normal((starts, d))
    kind = np.arange(starts) % 3
    rows = X[rng.integers(n, size=starts)] - rng.integers(0, 2, size=(starts, 1)) * X[rng.integers(n, size=starts)]
    rows *= np.where(rng.random((starts, 1)) < 0.5, -1.0, 1.0)
    U = np.where((kind == 1)[:, None], rows, random)
    if len(neurons):
        base = neurons[rng.integers(len(neurons), size=starts)]
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        noise = 10.0 ** rng.uniform(-3.0, 0.0, size=(starts, 1)) * random / np.sqrt(d)
        U = np.where((kind == 0)[:, None], base + noise, U)
    size = np.linalg.norm(U, axis=1, keepdims=True)
    U = np.where(size > 0, U, random)
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    best, where = 0.0, U[0]
    for sign in (1.0, -1.0):
        for low in range(0, starts, BATCH):
            value, u = _ascend(X, sign * nu, U[low : low + BATCH], steps)
            if value > best:
                best, where = value, u
    return best, where


def _ascend(X: np.ndarray, nu: np.ndarray, U: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    best, where = 0.0, U[0]
    single, weights, u = X.astype(np.float32), nu.astype(np.float32), U.astype(np.float32)
    for k in range(steps + 1):
        z = u @ single.T
        values = np.nan_to_num(np.maximum(z, 0.0) @ weights, nan=0.0)
        top = int(np.argmax(values))
        if values[top] > best * (1.0 - 1e-5):
            point = u[top].astype(np.float64)
            point /= np.linalg.norm(point)
            value = float(np.maximum(X @ point, 0.0) @ nu)
            if value > best:
                best, where = value, point
        gradient = ((z > 0.0) * weights) @ single
        size = np.linalg.norm(gradient, axis=1, keepdims=True)
        step = np.float32(10.0 ** (-4.0 * k / steps))
        moved = u + step * gradient / np.maximum(size, np.float32(1e-30))
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        u = np.where(length > 1e-6, moved / np.maximum(length, np.float32(1e-30)), u)
    return best, where


def main() -> None:
    """Solve, attack, print one line a seed."""
    parser = argparse.ArgumentParser(description="Attack the dual feasibility of a solution")
    parser.add_argument("table")
    parser.add_argument("lam", type=float, help="beta divided by the number of samples")
    parser.add_argument("--loss", default="squared")
    parser.add_argument("--starts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of the solve; 0 for none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    table = load(options.table)
    X, y = table.X, table.y
    problem = cvxnn.Problem(X, y, options.lam * len(y), options.loss)
    for seed in options.seeds:
        begin = time.perf_counter()
        solution = cvxnn.solve(problem, time_limit=options.seconds or None, random_state=seed)
        seconds = time.perf_counter() - begin
        nu = problem.dual_vector(solution.network(X))
        value, _ = attack(X, nu, solution.network.W, options.starts, seed + 1)
        print(
            f"{options.table} {X.shape} lam={options.lam:g} seed={seed} objective/n={solution.objective / len(y):.9f} "
            f"width={solution.network.width} {solution.status.value} gap={solution.gap:.1e} ({solution.scope}) "
            f"{seconds:.1f} s; attack {value / problem.beta:.5f} beta ({options.starts} starts, "
            f"{time.perf_counter() - begin - seconds:.1f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
