"""Time to a global certificate, beside the conic program over all activation patterns and L-BFGS on the weights.

Run ``python -m benchmarks.exact``. For each problem: seconds and certified gap of ``cvxnn.solve``; seconds of Clarabel
on the program over all patterns (where these are few enough); and the best objective of L-BFGS restarts with 50 neurons
in ten times the seconds of ``cvxnn.solve``, relative to the certified optimum. All in one process, one after
the other, on the same data. ``--sizes 20000x3 100000x2`` takes other sizes, ``--times 0`` leaves out L-BFGS.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from scipy.optimize import minimize

from cvxnn import Problem, patterns, solve
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.neurons import Neurons

SIZES = ("20x2", "20x3", "60x2", "60x3", "300x2", "300x3", "300x4", "1000x3", "2000x2")
CONIC_ROWS = 60_000
WIDTH = 50


def make(n: int, d: int, loss: str, lam: float, seed: int = 0) -> Problem:
    """Noisy curve of the first feature, a kink in the second, and a column of ones."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[:, -1] = 1.0
    target = np.sin(2 * X[:, 0]) + 0.5 * np.maximum(X[:, 1 % d], 0) + 0.2 * rng.standard_normal(n)
    y = np.where(target > 0, 1.0, -1.0) if loss == "logistic" else target
    return Problem(X, y, lam * n, loss)


def conic(problem: Problem) -> tuple[float, float] | None:
    """Objective and seconds of the conic program over all patterns; None where it is too large."""
    n, d = problem.X.shape
    if 2 * n * patterns.count_patterns(n, d) > CONIC_ROWS:
        return None
    masks = patterns.enumerate_patterns(problem.X).masks
    begin = time.perf_counter()
    both, signs = np.concatenate([masks, masks]), np.repeat([1.0, -1.0], len(masks))
    vectors = solve_conic(problem, both, signs, tol=1e-8)
    seconds = time.perf_counter() - begin
    return None if vectors is None else (Neurons(vectors, signs).objective(problem), seconds)


def lbfgs(problem: Problem, budget: float) -> float:
    """Best objective of L-BFGS from random weights, restarted until the budget is spent; infinite without one."""
    rng = np.random.default_rng(0)
    d = problem.n_features
    best, begin = np.inf, time.perf_counter()

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        W, a = v[: WIDTH * d].reshape(WIDTH, d), v[WIDTH * d :]
        z = problem.X @ W.T
        h = np.maximum(z, 0.0)
        fit = h @ a
        g = problem.loss_gradient(fit)
        dW = ((z > 0) * np.outer(g, a)).T @ problem.X + problem.beta * W
        value = problem.loss_value(fit) + 0.5 * problem.beta * float(v @ v)
        return value, np.concatenate([dW.ravel(), h.T @ g + problem.beta * a])

    while time.perf_counter() - begin < budget:
        start = rng.standard_normal(WIDTH * (d + 1)) / np.sqrt(d)
        best = min(best, minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).fun)
    return best


def main() -> None:
    """Print one line per problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="samples x features, such as 1000x3")
    parser.add_argument("--times", type=float, default=10.0, help="time of L-BFGS, in multiples of that of cvxnn")
    options = parser.parse_args()
    print(
        f"{'n':>5} {'d':>2} {'loss':>9} {'beta/n':>7} | {'cvxnn s':>8} {'gap':>8} {'scope':>8} {'width':>5} | "
        f"{'Clarabel s':>10} {'ratio':>6} {'difference':>10} | {'L-BFGS above optimum':>20}"
    )
    solve(make(10, 2, "squared", 0.1))  # first calls of compiled code
    for n, d in (map(int, size.split("x")) for size in options.sizes):
        for loss in ("squared", "logistic"):
            for lam in (0.05, 0.005):
                problem = make(n, d, loss, lam)
                begin = time.perf_counter()
                s = solve(problem)
                seconds = time.perf_counter() - begin
                full = conic(problem)
                shown = f"{'-':>10} {'-':>6} {'-':>10}"
                if full is not None:
                    shown = f"{full[1]:10.2f} {full[1] / seconds:6.1f} {full[0] / s.objective - 1:10.1e}"
                best = lbfgs(problem, options.times * seconds)
                above = f"{best / s.objective - 1:20.1e}" if math.isfinite(best) else f"{'-':>20}"
                print(
                    f"{n:5d} {d:2d} {loss:>9} {lam:7g} | {seconds:8.2f} {s.gap:8.1e} {s.scope:>8} "
                    f"{s.network.width:5d} | {shown} | {above}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
