"""ReLU program on fixed patterns: the structured interior-point solver beside CLARABEL on the full conic program.

Run ``OMP_NUM_THREADS=1 python benchmarks/cone_interior_point.py``, adding ``--quick`` for diabetes only and
``--no-clarabel`` to time the structured solver alone. Data are standardised with a bias column, ``beta = 1e-2 n``.
Patterns come from Gaussian gates (signs alternate) or from the largest neurons of a short local search (with their
signs). Both solvers get the same patterns in the same process and a tolerance of 1e-8; CLARABEL is called directly
(no modelling layer, time for building its matrices included) and gives up after ``--limit`` seconds. Seconds are CPU
seconds of one run; ``difference`` is relative, positive where the structured solver has the smaller objective once the
vectors of CLARABEL are scored as they are (``violation`` says how far outside the cones they lie).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from cvxnn.problem import Problem
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.local_search import local_search

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CASES = [
    ("diabetes", "squared", 25),
    ("diabetes", "squared", 50),
    ("diabetes", "squared", 100),
    ("cancer", "squared", 25),
    ("cancer", "squared", 50),
    ("cancer", "logistic", 25),
    ("digits", "squared", 25),
]


def load(name: str) -> tuple[FloatArray, FloatArray]:
    """Return standardised columns with a bias, and standardised targets or labels -1 and +1 (odd digits)."""
    loaders = {"diabetes": "load_diabetes", "cancer": "load_breast_cancer", "digits": "load_digits"}
    X, y = getattr(datasets, loaders[name])(return_X_y=True)
    X = X[:, X.std(0) > 0]
    X = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(len(X))])
    if name == "diabetes":
        return X, (y - y.mean()) / y.std()
    return X, np.where(y % 2 == 1, 1.0, -1.0)


def patterns(problem: Problem, count: int, source: str) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Masks, signs and the vectors they come from."""
    if source == "gates":
        gates = np.random.default_rng(0).standard_normal((count, problem.n_features))
        return gates @ problem.X.T >= 0, np.where(np.arange(count) % 2, 1.0, -1.0), gates
    neurons = local_search(problem, time_limit=2.0, max_rounds=3)
    largest = np.sort(np.argsort(-neurons.masses, kind="stable")[:count])
    vectors = neurons.vectors[largest]
    return vectors @ problem.X.T >= 0, neurons.signs[largest], vectors


def score(problem: Problem, masks: BoolArray, signs: FloatArray, vectors: FloatArray) -> tuple[float, float]:
    """Objective of the block vectors and their largest violation relative to rows and vectors."""
    inner = vectors @ problem.X.T
    fit = np.sum(signs[:, None] * masks * inner, axis=0)
    sizes = np.linalg.norm(vectors, axis=1)
    scale = np.outer(np.maximum(sizes, 1e-6 * sizes.max()), np.linalg.norm(problem.X, axis=1))
    violation = float(np.max(-np.where(masks, inner, -inner) / scale))
    return problem.loss_value(fit) + problem.beta * float(sizes.sum()), max(violation, 0.0)


def run(name: str, loss: str, count: int, source: str, limit: float | None) -> str:
    """One line of the table."""
    X, y = load(name)
    problem = Problem(X, y, 1e-2 * len(y), loss)
    masks, signs, vectors = patterns(problem, count, source)
    begin = time.process_time()
    ours = solve_cone_blocks(problem, masks, signs, start=vectors, tol=1e-8)
    seconds = time.process_time() - begin
    line = f"{name:9} {loss:9} {source:8} {len(masks):4d} {seconds:8.2f} {ours.n_iter:5d} {ours.gap:8.0e}"
    line += f" {ours.violation:9.0e} {ours.objective / len(y):14.9f}"
    if limit is None:
        return line
    begin = time.process_time()
    theirs = solve_conic(problem, masks, signs, tol=1e-8, time_limit=limit)
    seconds = time.process_time() - begin
    if theirs is None:
        return f"{line} {seconds:9.2f}  no point"
    objective, violation = score(problem, masks, signs, theirs)
    return f"{line} {seconds:9.2f} {(objective - ours.objective) / ours.objective:11.1e} {violation:9.0e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-clarabel", action="store_true")
    parser.add_argument("--limit", type=float, default=120.0)
    options = parser.parse_args()
    limit = None if options.no_clarabel else options.limit
    head = "data      loss      patterns    K  seconds steps      gap violation    objective/n"
    print(head if limit is None else f"{head}  CLARABEL  difference violation")
    for name, loss, count in CASES:
        if options.quick and name != "diabetes":
            continue
        for source in ("gates", "neurons"):
            print(run(name, loss, count, source, limit), flush=True)


if __name__ == "__main__":
    main()
