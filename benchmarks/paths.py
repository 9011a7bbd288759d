"""Descent paths, constant paths and pruning on a real table, at a width that suffices for every start.

Run ``OMP_NUM_THREADS=1 python -m benchmarks.paths``. The table is the diabetes data (442 samples, 10 features and a
column of ones), where a width of 443 suffices. The starts are random weights and weights after a few L-BFGS steps.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn import datasets

from cvxnn import Problem, ReLUNetwork, Solution, solve
from cvxnn.landscape.connect import connect
from cvxnn.landscape.descent_path import descent_path
from cvxnn.landscape.network_path import NetworkPath
from cvxnn.landscape.prune import prune

FloatArray = npt.NDArray[np.float64]


def load(share: float) -> Problem:
    """Standardised diabetes table with a column of ones; beta is ``share`` times the samples."""
    X, y = (np.asarray(part) for part in datasets.load_diabetes(return_X_y=True))
    y = (y - y.mean()) / y.std()
    X = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0), np.ones(len(X))])
    return Problem(X, y, beta=share * len(y))


def random_start(problem: Problem, width: int, steps: int) -> ReLUNetwork:
    """Random weights, after the given number of L-BFGS steps on both layers."""
    d = problem.n_features
    rng = np.random.default_rng(0)
    flat = np.concatenate([rng.standard_normal(width * d) / np.sqrt(d), rng.standard_normal(width) / np.sqrt(width)])

    def value_and_gradient(flat: FloatArray) -> tuple[float, FloatArray]:
        W, a = flat[: width * d].reshape(width, d), flat[width * d :]
        hidden = np.maximum(problem.X @ W.T, 0.0)
        fit = hidden @ a
        slope = problem.loss_gradient(fit)
        back = (slope[:, None] * (hidden > 0)) * a
        gradient = np.concatenate([(back.T @ problem.X).ravel(), hidden.T @ slope]) + problem.beta * flat
        return problem.loss_value(fit) + 0.5 * problem.beta * float(flat @ flat), gradient

    if steps:
        flat = minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    return ReLUNetwork(flat[: width * d].reshape(width, d), flat[width * d :])


def padded_and_split(network: ReLUNetwork, width: int, seed: int) -> ReLUNetwork:
    """Split random neurons, pad with zeros and permute: another network of the same function and objective."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        if network.width:
            network = network.split(int(rng.integers(network.width)), float(rng.uniform(0.2, 0.8)))
    extra = width - network.width
    W = np.vstack([network.W, np.zeros((extra, network.n_features))])
    return ReLUNetwork(W, np.concatenate([network.a, np.zeros(extra)])).permuted(rng.permutation(width))


def report(name: str, seconds: float, path: NetworkPath, num: int) -> None:
    begin = time.process_time()
    values = path.objectives(num)
    sampling = time.process_time() - begin
    lowest = np.minimum.accumulate(values)
    rise = float(np.max((values - lowest) / lowest))
    print(
        f"{name:34s} {seconds:7.2f} s  {len(path.pieces):4d} pieces  objective {values[0]:.6g} -> {values[-1]:.10g}  "
        f"largest rise {rise:.1e} over {num} samples ({sampling:.1f} s)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=450)
    parser.add_argument("--share", type=float, default=0.03, help="beta / number of samples")
    parser.add_argument("--num", type=int, default=10_000, help="samples on each path")
    options = parser.parse_args()
    problem = load(options.share)
    begin = time.process_time()
    solution: Solution = solve(problem, tol=1e-10)
    print(f"{solution}  {time.process_time() - begin:.1f} s")
    for name, steps in (("random start", 0), ("20 steps of L-BFGS", 20), ("300 steps of L-BFGS", 300)):
        network = random_start(problem, options.width, steps)
        begin = time.process_time()
        path = descent_path(problem, network, optimum=solution)
        report(f"descent path, {name}", time.process_time() - begin, path, options.num)
        begin = time.process_time()
        pruned = prune(problem, network)
        print(
            f"{'prune, ' + name:34s} {time.process_time() - begin:7.2f} s  width {network.width} -> {pruned.width}  "
            f"objective {network.objective(problem):.6g} -> {pruned.objective(problem):.6g}",
            flush=True,
        )
    first, second = (padded_and_split(solution.network, options.width, seed) for seed in (1, 2))
    begin = time.process_time()
    path = connect(problem, first, second)
    report("constant path", time.process_time() - begin, path, options.num)


if __name__ == "__main__":
    main()
