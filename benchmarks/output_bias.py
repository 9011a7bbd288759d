"""Networks with an output bias, the default of PyTorch's layers: cvxnn beside Adam and L-BFGS at equal time.

The column of ones stays, so that hidden neurons have a bias too; the output bias has the weight decay of the weights,
or none with ``--free``. Wall-clock seconds, everything included; the peers at the best of their settings (width 400),
each of which gets the same time. Usage::

    python -m benchmarks.output_bias --seconds 6 --tables diabetes cancer keel-heart --lams 0.01 0.001
"""

from __future__ import annotations

import argparse
import dataclasses

from benchmarks.cases import Case, Method, methods
from benchmarks.local_search import RIVALS, best_at, rival
from benchmarks.peers import cvxnn_solve
from benchmarks.record import Job
from benchmarks.worker import make_job
from cvxnn import Problem

TABLES = ("diabetes", "cancer", "keel-heart", "keel-german")
LAMS = (1e-2, 1e-3)


def with_bias(job: Job, decay: float) -> Job:
    """The same job for networks with an output bias."""
    given = job.problem
    problem = Problem(
        given.X, given.y, given.beta, given.loss, sample_weight=given.sample_weight, output_bias_decay=decay
    )
    return dataclasses.replace(job, problem=problem)


def best_of(job: Job, method: Method) -> tuple[float, str]:
    """Lowest objective among the settings of a method, and the settings."""
    found = []
    for entry in map(dict, method.grid):
        shown = ", ".join(f"{name} {value}" for name, value in entry.items())
        found.append((best_at(rival(job, method, entry), job.limit), shown))
    return min(found)


def compare(table: str, lam: float, loss: str, seconds: float, *, free: bool) -> None:
    """Print the rows of one problem."""
    job = make_job(Case("free", table, lam, loss=loss), seconds, 0, {})
    job = with_bias(job, 0.0 if free else job.problem.beta)
    n = job.problem.n_samples
    own = cvxnn_solve.run(dataclasses.replace(job, options={"tol": 1e-6}))
    objective = own.trace[-1].objective
    head = f"| {table} | {lam:g} | {loss} |"
    print(f"{head} cvxnn | {objective / n:.7f} | | {own.seconds:.1f} s, {own.status} |", flush=True)
    for method in methods("free", RIVALS, loss):
        value, shown = best_of(job, method)
        above = value / objective - 1.0
        print(f"{head} {method.name} | {value / n:.7f} | {above:+.1e} | {shown} |", flush=True)


def main() -> None:
    """Print one table row for each problem and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="wall-clock seconds for each run")
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--lams", type=float, nargs="+", default=LAMS, help="beta divided by the number of samples")
    parser.add_argument("--loss", default="squared")
    parser.add_argument("--free", action="store_true", help="no decay of the output bias")
    options = parser.parse_args()
    print("| table | lam | loss | method | objective / n | above cvxnn | |")
    print("|---|---|---|---|---|---|---|")
    for table in options.tables:
        for lam in options.lams:
            compare(table, lam, options.loss, options.seconds, free=options.free)


if __name__ == "__main__":
    main()
