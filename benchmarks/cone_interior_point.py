"""ReLU program on listed patterns: ``cvxnn.solve`` beside pyscnn's AL and cvxpy with Clarabel and SCS, in one process.

Run ``python -m benchmarks.cone_interior_point diabetes:50:1e-2 cancer:100:1e-2:logistic`` with cases
``table:P:lam[:loss]``, ``beta = lam * n``, patterns of P Gaussian gates; without cases the default list runs.
``--limit`` is the time that a peer gets, ``--peers`` names some of them, ``--repeats`` is the number of runs of cvxnn,
of which the fastest counts.

cvxnn's seconds go from the data to the certificate. pyscnn is timed by its own clock and stopped by an ideal rule, at
the first feasible point (violation 1e-4) within 1e-4 of the optimum; the conic solvers run to their own tolerance and
are judged by the point that they return. ``interior point`` is the structured solver on all cones at once.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Case
from benchmarks.peers import cvxpy_conic, pyscnn_al
from benchmarks.record import Job, Outcome
from benchmarks.worker import make_job
from cvxnn import Solution, patterns, solve
from cvxnn.architectures import gate_masks
from cvxnn.programs.reduction import reduce_problem
from cvxnn.solvers.cone_interior_point import solve_cone_blocks

CASES = [
    f"{table}:{P}:{lam}" for table in ("diabetes", "cancer") for P in (50, 100) for lam in ("1e-1", "1e-2", "1e-3")
]
CASES += ["digits:50:1e-2", "cancer:100:1e-2:logistic"]
PEERS = ("interior point", "pyscnn AL", "clarabel", "scs")


def listed(job: Job) -> patterns.ActivationPatterns:
    """Patterns of the job's gates, each once."""
    gates = np.zeros((0, job.problem.n_features)) if job.gates is None else job.gates
    masks = gate_masks(job.problem.X, gates)
    _, first = np.unique(masks, axis=0, return_index=True)
    first = np.sort(first)
    return patterns.ActivationPatterns.from_masks(masks[first], gates[first])


def ours(job: Job, tol: float, repeats: int) -> tuple[float, Solution]:
    """Least seconds of a few runs, and the solution."""
    seconds, solution = math.inf, None
    for _ in range(repeats):
        begin = time.perf_counter()
        solution = solve(job.problem, patterns=listed(job), tol=tol)
        seconds = min(seconds, time.perf_counter() - begin)
    if solution is None:
        raise ValueError(f"repeats must be positive; got {repeats}.")
    return seconds, solution


def interior_point(job: Job, masks: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Seconds and objective of the structured interior-point method on all cones."""
    begin = time.perf_counter()
    reduction = reduce_problem(job.problem, keep_samples=True)
    signs = np.repeat([1.0, -1.0], len(masks))
    found = solve_cone_blocks(reduction.problem, np.concatenate([masks, masks]), signs, tol=1e-6, time_limit=job.limit)
    return time.perf_counter() - begin, reduction.objective_scale * found.objective


def told(outcome: Outcome, job: Job, optimum: float) -> str:
    """Seconds to the target, or where the peer ended."""
    reached = [p.seconds for p in outcome.trace if job.met(p.objective, p.violation)]
    if reached:
        return f"{min(reached):8.2f} s"
    if not outcome.trace:
        return outcome.status or "no point"
    last = outcome.trace[-1]
    excess = (last.objective - optimum) / optimum
    return f"{last.seconds:8.2f} s, then {excess:+.0e} above the optimum, violation {last.violation:.0e}"


def compare(name: str, options: argparse.Namespace) -> None:
    """Lines of one case."""
    table, count, lam, *loss = name.split(":")
    case = Case("fixed", table, float(lam), int(count), loss[0] if loss else "squared")
    job = make_job(case, options.limit, 0, {})
    for tol in (1e-4, 1e-6):
        seconds, solution = ours(job, tol, options.repeats)
        print(
            f"{case.key:40} cvxnn {tol:.0e}     {seconds:8.2f} s, gap {solution.gap:.0e}, {solution.status}", flush=True
        )
    optimum = solution.objective
    target = optimum * (1.0 + 1e-4)
    for peer in options.peers:
        settings = {"solver": peer.upper()}
        run = Job(case, job.table, job.problem, job.gates, options.limit, 0, settings, target)
        if peer == "interior point":
            seconds, objective = interior_point(job, listed(job).masks)
            line = f"{seconds:8.2f} s, {(objective - optimum) / optimum:+.0e} above"
        else:
            line = told((pyscnn_al if peer == "pyscnn AL" else cvxpy_conic).run(run), run, optimum)
        print(f"{'':40} {peer:15} {line}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for name in options.cases:
        compare(name, options)


if __name__ == "__main__":
    main()
