"""Tightness of the global lower bound of the relaxation, beside that of the network's own dual vector.

Run ``python -m benchmarks.bounds [seconds]``, or ``python -m benchmarks.bounds goals`` for the seconds to given gaps.
For each problem: the objective of ``cvxnn.solve``; the gap to it of ``relaxation_bound`` within the given seconds (15
by default), started from that network and cold; and the gap of the dual vector of the network, scaled by the norm bound
of ``pricing_bound(method="auto")`` with as many seconds. beta is a share of ``beta_max``, the largest value of
``|nu^T (X u)_+|`` found by ``patterns.search`` at the zero network. One after the other in one process. Every gap is an
upper bound of the distance to the optimum.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from cvxnn import Problem, ReLUNetwork, patterns, solve
from cvxnn.certificates.certificate import certify_global
from cvxnn.certificates.relaxation import relaxation_bound

Table = tuple[np.ndarray, np.ndarray]


def table(name: str, n: int | None = None) -> Table:
    """Standardised features with a column of ones; numeric target standardised, classes as -1 and +1."""
    load = {
        "diabetes": load_diabetes,
        "cancer": load_breast_cancer,
        "wine": load_wine,
        "iris": load_iris,
        "digits": load_digits,
    }[name]
    X, y = load(return_X_y=True)
    y = (
        (y - y.mean()) / y.std()
        if name == "diabetes"
        else np.where(y == (1 if name != "digits" else y // 2 * 2), 1, -1)
    )
    X = X[:, X.std(axis=0) > 0]
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    order = np.arange(len(X)) if name in ("diabetes", "cancer") else np.random.default_rng(0).permutation(len(X))
    return X[order[:n]], y[order[:n]].astype(float)


def synthetic(kind: str, n: int, d: int) -> Table:
    """Gaussian data with targets that are noise, or those of four neurons with little noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    if kind == "noise":
        return X, rng.standard_normal(n)
    fit = np.maximum(X @ rng.standard_normal((d, 4)) / np.sqrt(d), 0) @ np.array([1.0, -1.0, 1.0, -1.0])
    return X, fit + 0.1 * rng.standard_normal(n)


def problems() -> Iterator[tuple[str, float, Problem, float]]:
    """Name, share of beta_max, problem and beta_max."""
    cases = [
        ("diabetes", table("diabetes", 50), "squared", (0.1, 0.03)),
        ("diabetes", table("diabetes", 100), "squared", (0.5, 0.1, 0.03)),
        ("diabetes", table("diabetes", 200), "squared", (0.1,)),
        ("diabetes", table("diabetes"), "squared", (0.5, 0.1, 0.03)),
        ("cancer", table("cancer", 100), "squared", (0.1, 0.01)),
        ("cancer", table("cancer", 100), "logistic", (0.1, 0.01)),
        ("cancer", table("cancer"), "logistic", (0.1,)),
        ("iris", table("iris"), "logistic", (0.1,)),
        ("wine", table("wine"), "logistic", (0.1,)),
        ("digits", table("digits", 300), "logistic", (0.1,)),
        ("noise", synthetic("noise", 50, 5), "squared", (0.1,)),
        ("noise", synthetic("noise", 100, 30), "squared", (0.1,)),
        ("planted", synthetic("planted", 100, 10), "squared", (0.1, 0.01)),
        ("planted", synthetic("planted", 200, 20), "squared", (0.1,)),
    ]
    for name, (X, y), loss, shares in cases:
        nu = Problem(X, y, 1.0, loss).dual_vector(np.zeros(len(y)))
        largest = float(patterns.search(X, nu).values[0])
        for share in shares:
            yield name, share, Problem(X, y, share * largest, loss), largest


def bound(problem: Problem, network: ReLUNetwork | None, upper: float, seconds: float) -> tuple[float, float, int]:
    """Gap in per cent, seconds and iterations of the relaxation."""
    found = relaxation_bound(problem, time_limit=seconds, upper=upper, target_gap=1e-4, warm_start=network)
    return 100 * (1 - found.lower_bound / upper), found.seconds, found.iterations


def goals() -> None:
    """Print the seconds to given gaps."""
    for name, n, loss, share, goal in [
        ("diabetes", None, "squared", 0.1, 0.05),
        ("diabetes", None, "squared", 0.1, 0.03),
        ("diabetes", None, "squared", 0.5, 0.01),
        ("diabetes", None, "squared", 0.5, 0.001),
        ("cancer", 100, "squared", 0.1, 0.005),
        ("cancer", 100, "logistic", 0.1, 0.005),
    ]:
        X, y = table(name, n)
        nu = Problem(X, y, 1.0, loss).dual_vector(np.zeros(len(y)))
        problem = Problem(X, y, share * float(patterns.search(X, nu).values[0]), loss)
        network = solve(problem, time_limit=10.0).network
        upper = network.objective(problem)
        line = f"{name:>8} {len(y):4d} {loss:>8} {share:4g} gap {goal:5g}"
        for word, start in (("warm", network), ("cold", None)):
            begin = time.process_time()
            found = relaxation_bound(problem, time_limit=60.0, upper=upper, target_gap=goal, warm_start=start)
            line += f" | {word} {1 - found.lower_bound / upper:.5f} {found.seconds:5.1f} s, "
            line += f"cpu {time.process_time() - begin:5.1f} s, {found.iterations} iterations"
        print(line, flush=True)


def main() -> None:
    """Print one line per problem."""
    if sys.argv[1:] == ["goals"]:
        goals()
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    print(
        f"{'data':>8} {'n':>4} {'rank':>4} {'loss':>8} {'beta':>5} {'objective':>10} | "
        f"{'warm %':>7} {'s':>5} {'its':>5} | {'cold %':>7} {'s':>5} {'its':>5} | {'own dual %':>10} {'s':>5}"
    )
    for name, share, problem, _ in problems():
        network = solve(problem, time_limit=8.0).network
        upper = network.objective(problem)
        warm = bound(problem, network, upper, seconds)
        cold = bound(problem, None, upper, seconds)
        begin = time.perf_counter()
        own = certify_global(problem, network(problem.X), upper, time_limit=seconds)[0]
        rank = np.linalg.matrix_rank(problem.X)
        print(
            f"{name:>8} {problem.n_samples:4d} {rank:4d} {problem.loss.name:>8} {share:5g} "
            f"{upper:10.5f} | {warm[0]:7.3f} {warm[1]:5.1f} {warm[2]:5d} | "
            f"{cold[0]:7.3f} {cold[1]:5.1f} {cold[2]:5d} | "
            f"{100 * own.gap:10.2f} {time.perf_counter() - begin:5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
