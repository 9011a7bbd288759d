"""Gated ReLU networks with fixed random gates: seconds to a certified relative gap, next to a conic solver where asked.

Run with ``OMP_NUM_THREADS=1 python benchmarks/gated.py``, adding ``--quick`` for the small cases only. Data are
standardised with a bias column, ``beta = lambda * n`` and gates are Gaussian with seed 0. Seconds are the median of the
repetitions: wall clock and processor time, making of the patterns and final certificate included. With ``--conic`` the
same program is given to CLARABEL through cvxpy in the same run (first 50 gates only, both solvers).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from cvxnn import HuberLoss, Problem
from cvxnn.architectures import GatedReLU, gate_masks
from cvxnn.programs.gated import solve_gated
from cvxnn.solution import Solution

Float = npt.NDArray[np.float64]

QUICK = [
    ("diabetes", 500, 1e-1, "squared"),
    ("diabetes", 500, 1e-2, "squared"),
    ("diabetes", 5000, 1e-2, "squared"),
    ("diabetes", 500, 1e-2, "huber"),
    ("cancer", 500, 1e-2, "squared"),
    ("cancer", 500, 1e-2, "logistic"),
    ("cancer", 500, 1e-2, "squared_hinge"),
]
FULL = [
    *QUICK,
    ("diabetes", 500, 1e-4, "squared"),
    ("diabetes", 5000, 1e-4, "squared"),
    ("cancer", 5000, 1e-4, "squared"),
    ("digits", 500, 1e-1, "squared"),
    ("digits", 500, 1e-2, "squared"),
    ("digits", 500, 1e-3, "squared"),
    ("digits", 500, 1e-2, "logistic"),
]


def load(name: str) -> tuple[Float, Float]:
    """Return standardised data with a bias column, and standardised targets or labels -1 and +1."""
    loader = {"diabetes": load_diabetes, "cancer": load_breast_cancer, "digits": load_digits}[name]
    X, y = loader(return_X_y=True)
    X = X[:, X.std(axis=0) > 0]
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    if name == "diabetes":
        return X, (y - y.mean()) / y.std()
    return X, np.where(y % 2 == 0, 1.0, -1.0)


def timed(work: Callable[[], Solution], repeats: int) -> tuple[float, float, Solution]:
    """Median wall and processor seconds, and the last result."""
    wall, cpu = [], []
    for _ in range(repeats):
        begin_wall, begin_cpu = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - begin_wall)
        cpu.append(time.process_time() - begin_cpu)
    return statistics.median(wall), statistics.median(cpu), result


def conic(problem: Problem, gates: Float) -> tuple[float, float]:
    """Seconds and optimal value of CLARABEL for the squared loss."""
    import cvxpy as cp

    masks = gate_masks(problem.X, gates)
    columns = np.concatenate([mask[:, None] * problem.X for mask in masks], axis=1)
    u, fit = cp.Variable(columns.shape[1]), cp.Variable(len(problem.y))
    rows = cp.reshape(u, gates.shape, order="C")
    objective = 0.5 * cp.sum_squares(fit - problem.y) + problem.beta * cp.sum(cp.norm(rows, axis=1))
    program = cp.Problem(cp.Minimize(objective), [fit == columns @ u])
    begin = time.perf_counter()
    program.solve(solver=cp.CLARABEL)
    return time.perf_counter() - begin, float(program.value)  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Print one row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small cases only")
    parser.add_argument("--conic", action="store_true", help="compare with CLARABEL on the first 50 gates")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-6)
    options = parser.parse_args()
    print(f"{'data':<10}{'n x d':>10}{'P':>6}{'lambda':>8} {'loss':<14}{'wall s':>8}{'cpu s':>8}{'gap':>9}  width mean")
    for name, P, strength, loss in QUICK if options.quick else FULL:
        X, y = load(name)
        gates = np.random.default_rng(0).standard_normal((P, X.shape[1]))
        # A width of 0.3 leaves a good part of the residuals in the linear range.
        problem = Problem(X, y, beta=strength * len(X), loss=HuberLoss(delta=0.3) if loss == "huber" else loss)
        wall, cpu, s = timed(lambda p=problem, g=gates: solve_gated(p, GatedReLU(g), tol=options.tol), options.repeats)
        print(
            f"{name:<10}{f'{X.shape[0]}x{X.shape[1]}':>10}{P:>6}{strength:>8.0e} {loss:<14}{wall:>8.3f}{cpu:>8.3f}"
            f"{s.gap:>9.1e}{s.network.width:>7}  {s.objective / len(X):.9f}"
        )
        if options.conic and loss == "squared":
            few = gates[:50]
            wall, _, s = timed(lambda p=problem, g=few: solve_gated(p, GatedReLU(g), tol=options.tol), options.repeats)
            seconds, value = conic(problem, few)
            print(
                f"{'':<10}first 50 gates: {wall:.3f} s, {s.objective / len(X):.9f};"
                f"  CLARABEL (once) {seconds:.3f} s, {value / len(X):.9f}"
            )


if __name__ == "__main__":
    main()
