"""Gated ReLU networks with fixed random gates: seconds to a certified relative gap, beside pyscnn's R-FISTA.

Run with ``python -m benchmarks.gated``. Both are alternated in one process, each warmed up. Ours is the wall clock from
the gates to the certificate, and counts only if the gap that it proves is within the tolerance; theirs is pyscnn's own
clock, without its metrics, when its objective first is within the tolerance of the optimum: no rule could stop it
earlier. Seconds are medians of the repetitions. A ratio after ``>`` is a lower limit: the peer's time was over first.
``--alone`` adds cases without the peer: larger ones, and losses that pyscnn does not have for gated networks.
``--memory`` runs each once more in a process of its own for the peak of its memory above imports and data.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from typing import Any

from benchmarks.cases import Case
from benchmarks.peers import cvxnn_solve, pyscnn_gated
from benchmarks.profiles import geometric_mean
from benchmarks.record import Job
from benchmarks.worker import make_job, perform_apart

TABLES = ("diabetes", "cancer", "digits")
LARGE = "synthetic-20000x30"
COMPARED = [
    *(Case("gated", table, lam, 500) for table in TABLES for lam in (1e-1, 1e-2)),
    *(Case("gated", LARGE, lam, P) for P in (100, 500) for lam in (1e-1, 1e-2)),
]
ALONE = [
    *(Case("gated", table, lam, 500) for table in TABLES for lam in (1e-3, 1e-4)),
    *(Case("gated", table, lam, 5000) for table in TABLES for lam in (1e-2, 1e-4)),
    *(Case("gated", "diabetes", lam, 500, "huber") for lam in (1e-1, 1e-2)),
    *(Case("gated", table, 1e-2, 500, loss) for table in TABLES[1:] for loss in ("logistic", "squared_hinge")),
]


def ours(job: Job) -> tuple[float, float]:
    """Wall-clock seconds to a gap within the tolerance, infinite if it is not proved, and the objective."""
    run = cvxnn_solve.run(job)
    objective, bound = run.trace[-1].objective, run.lower_bound
    proved = bound is not None and objective - bound <= job.options["tol"] * abs(objective)
    return run.seconds if proved else math.inf, objective


def theirs(job: Job, target: float) -> float:
    """Seconds of pyscnn's clock until its objective is at the target; infinity where the limit came first."""
    run = pyscnn_gated.run(dataclasses.replace(job, target=target))
    return next((point.seconds for point in run.trace if point.objective <= target), math.inf)


def peak(case: Case, method: str, limit: float, options: dict[str, Any], target: float | None = None) -> str:
    """Peak memory in MB above imports and data, of one run in a process of its own."""
    megabytes = perform_apart(case, method, limit, options=options, target=target)["extra_mb"]
    return "failed" if megabytes is None else f"{megabytes:.0f}"


def compare(case: Case, options: argparse.Namespace) -> tuple[str, float | None]:
    """Row of a case, and how many times our seconds the peer takes: 0 where ours is not proved, None without peer."""
    job = make_job(case, options.limit, 0, {"tol": options.tol})
    target = math.inf
    if case in COMPARED:
        # The optimum is known to a hundredth of the tolerance.
        target = ours(dataclasses.replace(job, options={"tol": 1e-2 * options.tol}))[1] * (1.0 + options.tol)
    mine, moments = [], []
    for _ in range(options.repeats):
        mine.append(ours(job)[0])
        if case in COMPARED:
            moments.append(theirs(job, target))
    middle = statistics.median(mine)
    row = f"{case.table:<20}{case.P:>6}{case.lam:>8.0e} {case.loss:<14}{middle:>9.3f}"
    if case not in COMPARED:
        return row, None
    peer = statistics.median(moments)
    ratio = min(peer, options.limit) / middle
    row += f"{peer:>10.3f}{'>' if math.isinf(peer) else ' '}{ratio:>8.1f}"
    if options.memory:
        row += "   " + peak(case, "cvxnn", options.limit, {"tol": options.tol})
        row += " / " + peak(case, "pyscnn R-FISTA", options.limit, {}, target)
    return row, ratio


def main() -> None:
    """Print one row a case, and the geometric mean of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tol", type=float, default=1e-4, help="relative gap, and distance from the optimum for pyscnn"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a run")
    parser.add_argument("--table", action="append", help="only this table; may be repeated")
    parser.add_argument("--alone", action="store_true", help="our cases without a peer, too")
    parser.add_argument("--memory", action="store_true", help="peak memory of each, in processes of their own")
    options = parser.parse_args()
    warm = make_job(Case("gated", "planted-relu-24x6", 0.0, 4), 1.0, 0, {"tol": 1e-4})
    cvxnn_solve.run(warm)
    pyscnn_gated.run(warm)
    print(f"{'data':<20}{'P':>6}{'lam':>8} {'loss':<14}{'ours s':>9}{'pyscnn s':>10}{'ratio':>9}   MB ours / pyscnn")
    ratios = []
    for case in COMPARED + (ALONE if options.alone else []):
        if options.table and case.table not in options.table:
            continue
        row, ratio = compare(case, options)
        print(row, flush=True)
        if ratio is not None:
            ratios.append(ratio)
    if ratios:
        proved = [ratio for ratio in ratios if ratio > 0.0]
        print(
            f"geometric mean of {len(proved)} ratios: {geometric_mean(proved):.1f}, smallest {min(ratios):.1f}; "
            f"cases where ours is not proved: {len(ratios) - len(proved)}"
        )


if __name__ == "__main__":
    main()
