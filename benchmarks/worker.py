"""One run in a process of its own, so that its peak memory is its own.

``python -m benchmarks.worker order.json line.json`` reads what to run and writes the line for the file of runs.

The method is warmed up on a tiny problem first (imports, threads, compilation); neither time nor memory of that
count.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import METHODS, Case
from benchmarks.data import Table, load
from benchmarks.record import Job, Outcome
from cvxnn import Problem

__all__ = ["make_job", "perform", "record"]


def make_job(case: Case, limit: float, seed: int, options: dict[str, Any], target: float | None = None) -> Job:
    """Load the table and make the problem and the gates, the same for every method."""
    table = load(case.table, holdout=case.holdout)
    planted = table.planted
    beta = planted.beta if planted is not None and case.lam == 0 else case.lam * len(table.y)
    gates = planted.gates if planted is not None else None
    if case.P and gates is None:
        gates = np.random.default_rng(0).standard_normal((case.P, table.X.shape[1]))
    problem = Problem(table.X, table.y, beta=beta, loss=case.loss)
    return Job(case, table, problem, gates, limit, seed, options, target)


def perform(job: Job, method: str) -> dict[str, Any]:
    """Warm up, run, and return the line for the file."""
    chosen = next(m for m in METHODS if m.name == method and job.case.suite in m.suites)
    function = getattr(importlib.import_module(f"benchmarks.peers.{chosen.module}"), chosen.function)
    options = {**dict(chosen.options), **job.options}
    tiny = Case(job.case.suite, "planted-relu-24x6", 0.0, 4 if job.gates is not None else 0)
    warm = make_job(tiny, 0.2, 0, options)
    function(warm)
    run = Job(job.case, job.table, job.problem, job.gates, job.limit, job.seed, options, job.target)
    before = _restart_peak()
    begin = time.perf_counter()
    outcome = function(run)
    wall = time.perf_counter() - begin
    return record(run, method, outcome, wall=wall, before=before, peak=_peak())


def record(job: Job, method: str, outcome: Outcome, *, wall: float, before: float, peak: float) -> dict[str, Any]:
    """Line for the file: sizes, course, end, memory in MB."""
    last = outcome.trace[-1] if outcome.trace else None
    gap = None
    if last is not None and outcome.lower_bound is not None:
        gap = (last.objective - outcome.lower_bound) / max(abs(last.objective), 1e-300)
    return {
        **asdict(job.case),
        "case": job.case.key,
        "method": method,
        "seed": job.seed,
        "options": {k: v for k, v in job.options.items() if isinstance(v, (str, int, float))},
        "limit": job.limit,
        "target": job.target,
        "n": job.problem.n_samples,
        "d": job.problem.n_features,
        "beta": job.problem.beta,
        "known_optimum": _known(job),
        "status": outcome.status,
        "failure": None if last is not None else outcome.status,
        "seconds": outcome.seconds,
        "wall": wall,
        "objective": None if last is None else last.objective,
        "violation": None if last is None else last.violation,
        "lower_bound": outcome.lower_bound,
        "global_lower_bound": outcome.global_lower_bound,
        "gap": gap,
        "width": outcome.width,
        "test_error": _test_error(job.table, outcome),
        "peak_mb": peak,
        "extra_mb": peak - before,
        "trace": [[round(p.seconds, 6), p.objective, p.violation] for p in outcome.trace],
        "notes": outcome.notes,
    }


def _known(job: Job) -> float | None:
    """Planted optimum, where the program is the planted one."""
    planted = job.table.planted
    if planted is None or job.problem.beta != planted.beta or job.case.loss != "squared":
        return None
    return planted.objective if (planted.gates is None) == (job.case.suite == "free") else None


def _test_error(table: Table, outcome: Outcome) -> float | None:
    """Share of wrong labels, or squared error relative to the variance, on the test rows."""
    if not len(table.y_test) or outcome.predict is None:
        return None
    output = outcome.predict(table.X_test)
    if table.task == "classification":
        return float(np.mean(np.where(output >= 0, 1.0, -1.0) != table.y_test))
    return float(np.mean((output - table.y_test) ** 2) / max(float(np.var(table.y_test)), 1e-300))


def _restart_peak() -> float:
    """Resident memory now in MB; the kernel's record of the peak starts again here, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status_field("VmRSS:")
    except OSError:
        return _peak()


def _peak() -> float:
    """Largest resident memory in MB."""
    try:
        return _status_field("VmHWM:")
    except OSError:
        unit = 1.0 if sys.platform == "darwin" else 1024.0
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _status_field(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1]) / 1024.0


def main() -> None:
    """Read the order, perform it, write the line."""
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = make_job(Case(**order["case"]), order["limit"], order["seed"], order["options"], order["target"])
    line = perform(job, order["method"])
    Path(sys.argv[2]).write_text(json.dumps(line), encoding="utf-8")


if __name__ == "__main__":
    main()
