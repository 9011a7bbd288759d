"""One run in a process of its own, so that its peak memory is its own.

``python -m benchmarks.worker order.json line.json`` reads what to run and writes the line for the file of runs.

The method is warmed up on a tiny problem first (imports, threads, compilation); neither time nor memory of that
count.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import METHODS, Case, Method
from benchmarks.data import Table, load
from benchmarks.record import Job, Outcome
from cvxnn import Problem

__all__ = ["function_of", "make_job", "perform", "perform_apart", "record"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ROOT = Path(__file__).resolve().parent.parent


def make_job(case: Case, limit: float, seed: int, options: dict[str, Any], target: float | None = None) -> Job:
    """Load the table and make the problem and the gates, the same for every method."""
    table = load(case.table, holdout=case.holdout)
    planted = table.planted
    beta = planted.beta if planted is not None and case.lam == 0 else case.lam * len(table.y)
    gates = planted.gates if planted is not None else None
    if case.P and gates is None:
        gates = np.random.default_rng(0).standard_normal((case.P, table.X.shape[1]))
    weight = _weights(len(table.y)) if case.weighted else None
    problem = Problem(table.X, table.y, beta=beta, loss=case.loss, sample_weight=weight)
    return Job(case, table, problem, gates, limit, seed, options, target)


def _weights(n: int) -> np.ndarray:
    """Weights of the samples: exponential with mean one, every tenth zero."""
    weight = np.random.default_rng(0).exponential(size=n)
    weight[::10] = 0.0
    return weight * (n / weight.sum())


def function_of(method: Method) -> Callable[[Job], Outcome]:
    """Function that runs a method."""
    return getattr(importlib.import_module(f"benchmarks.peers.{method.module}"), method.function)


def perform(job: Job, method: str) -> dict[str, Any]:
    """Warm up, run, and return the line for the file."""
    chosen = next(m for m in METHODS if m.name == method and job.case.suite in m.suites)
    function = function_of(chosen)
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


def perform_apart(
    case: Case,
    method: str,
    limit: float,
    *,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    target: float | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Line of a run in a process of its own; of a process that fails or does not end, a line with the failure."""
    order = {"case": asdict(case), "method": method, "limit": limit, "seed": seed}
    order |= {"options": options or {}, "target": target}
    environment = dict(os.environ)
    if threads:
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    most = 2.0 * limit + 60.0
    with tempfile.TemporaryDirectory() as folder:
        given, returned = Path(folder) / "order.json", Path(folder) / "line.json"
        given.write_text(json.dumps(order), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.worker", str(given), str(returned)]
        try:
            done = subprocess.run(command, env=environment, cwd=_ROOT, timeout=most, capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return _failed(order, f"killed after {most:.0f} s", most)
        if done.returncode or not returned.exists():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            return _failed(order, f"exit {done.returncode}: {last[0][:200]}", 0.0)
        return json.loads(returned.read_text(encoding="utf-8"))


def _failed(order: dict[str, Any], text: str, wall: float) -> dict[str, Any]:
    """Line of a run that returned nothing."""
    empty = ("n", "d", "objective", "violation", "lower_bound", "global_lower_bound", "gap", "width", "test_error")
    line = {**order.pop("case"), **order, **dict.fromkeys(empty), "status": text, "failure": text}
    line |= {"seconds": wall, "wall": wall, "trace": [], "peak_mb": None, "extra_mb": None, "known_optimum": None}
    return line


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
