"""Objective against CPU seconds: the local search beside SciPy's L-BFGS on both layers of a network.

Run ``OMP_NUM_THREADS=1 python benchmarks/local_search.py --budget 4``. Both run in one process, one after the other,
and are charged CPU seconds. L-BFGS minimises the usual objective in (W, a) from the same scale of random weights and
with the same width; its networks are balanced before they are scored. Each row gives objective / n.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn import datasets

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solvers.local_search import default_width, local_search
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
CASES = [
    ("diabetes", 1e-2, "squared"),
    ("diabetes", 1e-3, "squared"),
    ("cancer", 1e-2, "squared"),
    ("cancer", 1e-3, "squared"),
    ("cancer", 1e-2, "logistic"),
    ("cancer", 1e-3, "logistic"),
    ("digits", 1e-2, "squared"),
    ("digits", 1e-3, "squared"),
]


class _TimeUpError(Exception):
    """Raised inside a callback when the budget is spent."""


def load(name: str, lam: float, loss: str) -> Problem:
    """Standardised table with a column of ones; regression targets standardised, labels -1 and +1 (digits: parity)."""
    if name == "diabetes":
        X, y = datasets.load_diabetes(return_X_y=True)
        y = (y - y.mean()) / y.std()
    elif name == "cancer":
        X, y = datasets.load_breast_cancer(return_X_y=True)
        y = 2.0 * y - 1.0
    else:
        X, y = datasets.load_digits(return_X_y=True)
        y = np.where(y % 2 == 0, 1.0, -1.0)
    spread = X.std(axis=0)
    X = (X - X.mean(axis=0))[:, spread > 1e-8] / spread[spread > 1e-8]
    return Problem(np.column_stack([X, np.ones(len(X))]), y, beta=lam * len(y), loss=loss)


def record_local_search(problem: Problem, budget: float, seed: int) -> list[tuple[float, float]]:
    """Pairs of CPU seconds and best objective of the local search."""
    history: list[tuple[float, float]] = []
    begin = time.process_time()

    def callback(neurons: Neurons, value: float) -> None:
        history.append((time.process_time() - begin, value))
        if history[-1][0] > budget:
            raise _TimeUpError

    try:
        best = local_search(problem, random_state=seed, callback=callback, tol=1e-7)
        history.append((time.process_time() - begin, best.objective(problem)))
    except _TimeUpError:
        pass
    return history


def record_lbfgs(problem: Problem, budget: float, seed: int) -> list[tuple[float, float]]:
    """Pairs of CPU seconds and best balanced objective of SciPy's L-BFGS-B, double precision, history 20."""
    X, beta = problem.X, problem.beta
    m, d = default_width(problem.n_samples), problem.n_features
    rng = np.random.default_rng(seed)
    W, a = rng.standard_normal((m, d)) / np.sqrt(d), rng.standard_normal(m) / np.sqrt(m)
    history: list[tuple[float, float]] = []

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        W, a = point[: m * d].reshape(m, d), point[m * d :]
        hidden = np.maximum(X @ W.T, 0.0)
        fit = hidden @ a
        slope = problem.loss_gradient(fit)
        grad_W = a[:, None] * (((hidden > 0.0) * slope[:, None]).T @ X)
        gradient = np.concatenate([grad_W.ravel(), hidden.T @ slope]) + beta * point
        return problem.loss_value(fit) + 0.5 * beta * float(point @ point), gradient

    begin, scoring = time.process_time(), 0.0

    def callback(point: FloatArray) -> None:
        nonlocal scoring
        now = time.process_time()
        if history and now - begin - scoring - history[-1][0] < 0.02 * budget:
            return
        network = ReLUNetwork(point[: m * d].reshape(m, d), point[m * d :])
        history.append((now - begin - scoring, network.balanced().objective(problem)))
        scoring += time.process_time() - now
        if history[-1][0] > budget:
            raise _TimeUpError

    start = np.concatenate([W.ravel(), a])
    try:
        options = {"maxcor": 20, "maxiter": 10**6, "maxfun": 10**7, "ftol": 0.0, "gtol": 0.0}
        minimize(objective, start, jac=True, method="L-BFGS-B", callback=callback, options=options)
    except _TimeUpError:
        pass
    return history


def main() -> None:
    """Print one table row for each case, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=4.0, help="CPU seconds for each run")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds")
    parser.add_argument("--cases", nargs="*", help="substrings that select cases, such as diabetes or logistic")
    options = parser.parse_args()
    times = [options.budget * share for share in (0.0625, 0.125, 0.25, 0.5, 1.0)]
    methods: dict[str, Callable[[Problem, float, int], list[tuple[float, float]]]] = {
        "local_search": record_local_search,
        "L-BFGS-B": record_lbfgs,
    }
    print("| case | method | seed | " + " | ".join(f"{t:.2f} s" for t in times) + " |")
    print("|---|---|---|" + "---|" * len(times))
    for name, lam, loss in CASES:
        case = f"{name} {loss} {lam:g}"
        if options.cases and not any(word in case for word in options.cases):
            continue
        problem = load(name, lam, loss)
        for method, record in methods.items():
            for seed in range(options.seeds):
                history = record(problem, options.budget, seed)
                best = [min((v for t, v in history if t <= limit), default=np.nan) for limit in times]
                row = " | ".join(f"{value / problem.n_samples:.7f}" for value in best)
                print(f"| {case} | {method} | {seed} | {row} |", flush=True)


if __name__ == "__main__":
    main()
