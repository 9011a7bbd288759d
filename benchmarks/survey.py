"""Where are patterns-free networks not better than Adam and L-BFGS? Many tables, losses and weights, one process.

Run ``OMP_NUM_THREADS=1 python -m benchmarks.survey --out survey_output``. Each case: ``cvxnn.solve`` with a short time
limit, then the rivals of the main benchmark (width 400). The share of the processor that cvxnn had during its run,
times the limit, is the number of CPU seconds that a rival gets: what else runs on the machine counts little. L-BFGS has
no schedule, so its one run serves for the equal and the longer time; Adam has a run for each rate, and where it is not
far behind one of the best rate for the longer time. Cases that are in OUT/survey.jsonl, of the same code, are not
repeated. OUT/survey.md has the table, losses first. With ``--cpu`` the limits are CPU seconds: where the machine is
shared and there is one thread, the results hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Method, methods
from benchmarks.data import keel_names
from benchmarks.profiles import append_run, read_runs
from benchmarks.record import Job, Point
from benchmarks.versions import code_of
from benchmarks.worker import function_of, make_job
from cvxnn import solve

__all__ = ["compare", "main", "survey_cases", "survey_table"]

_LONGER = 5.0
_RATES = ((2e5, (1e-2, 3e-2)), (math.inf, (3e-3, 1e-2)))
"""Rates of Adam by the number of entries: those that were best in the full grid."""

_ORDER = ("squared", "huber", "logistic", "squared_hinge")

_FAR = 2.0
"""An Adam run that ends so many times above ours is not repeated for the longer time, which gains less."""

_LATE, _LATE_SECONDS, _TIE = 1.1, 0.1, 1e-6


def survey_cases(tables: list[str] | None = None, lams: tuple[float, ...] = (1e-2, 1e-3)) -> list[Case]:
    """Cases by table (default: all with at most 5,000 rows), small tables first; losses and weights vary with it."""
    chosen = tables or ["diabetes", "cancer", "digits", "wine", "iris", *(f"keel-{name}" for name in keel_names())]
    found: list[Case] = []
    for table in chosen:
        regression = table == "diabetes" or table.endswith("@regression")
        losses = ("squared", "huber") if regression else ("squared", "logistic", "squared_hinge")
        for lam in lams:
            found += [Case("free", table, lam, loss=loss) for loss in losses]
            found += [Case("free", table, lam, loss=loss, weighted=True) for loss in losses[:2]]
    return found


def compare(case: Case, budget: float, seed: int = 0) -> dict[str, Any]:
    """Line of one case: ours, and the best objectives of the rivals at equal and at longer time."""
    job = dataclasses.replace(make_job(case, budget, seed, {}), clock=time.process_time)
    line = _ours(job)
    line |= {"case": case.key, "seed": seed, "n": job.problem.n_samples, "d": job.problem.n_features, "limit": budget}
    equal = budget * min(line["cpu"] / max(line["wall"], 1e-9), 1.0)
    longer = _LONGER * equal if case.lam >= 1e-2 or line["n"] < 1000 else equal
    for name in ("Adam 400", "L-BFGS 400"):
        method = methods("free", [name], case.loss)[0]
        if name.startswith("Adam"):
            short, long = _adam(job, method, equal, longer, line["objective"])
        else:
            short, long = _lbfgs(job, method, equal, longer)
        line |= {name: short, f"{name} longer": long if longer > equal else None}
    return line | {"rival_cpu": equal}


def _ours(job: Job) -> dict[str, Any]:
    """Run of ``solve``: what it says, and what can be checked of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            solution = solve(job.problem, time_limit=job.limit, random_state=job.seed)
        except Exception as error:
            solution, failure = None, f"{type(error).__name__}: {error}"
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    line: dict[str, Any] = {"wall": wall, "cpu": cpu, "warnings": sorted({str(entry.message) for entry in caught})}
    if solution is None:
        return line | {"failure": failure, "objective": None, "status": "error", "gap": None, "global_bound": None}
    value, wrong = solution.network.objective(job.problem), None
    if not abs(value - solution.objective) <= 1e-9 * max(abs(value), 1.0):
        wrong = f"objective {solution.objective!r}, but its network has {value!r}"
    line |= {"failure": wrong, "objective": value, "status": solution.status.value, "gap": solution.gap}
    line |= {"scope": solution.scope, "width": solution.network.width}
    return line | {"global_bound": solution.global_lower_bound}


def _run(job: Job, method: Method, limit: float, settings: dict[str, Any]) -> list[Point]:
    options = {**dict(method.options), **settings}
    return function_of(method)(dataclasses.replace(job, options=options, limit=limit)).trace


def _best(course: list[Point], limit: float) -> float:
    return min((point.objective for point in course if point.seconds <= 1.02 * limit + 0.01), default=math.inf)


def _adam(job: Job, method: Method, equal: float, longer: float, ours: float | None) -> tuple[float, float | None]:
    """Best objectives at equal and at longer time; None for the longer one where it is out of reach."""
    rates = next(rates for most, rates in _RATES if job.problem.X.size < most)
    short = {rate: _best(_run(job, method, equal, {"lr": rate}), equal) for rate in rates}
    best = min(short, key=lambda rate: short[rate])
    if longer <= equal or (ours is not None and short[best] > _FAR * ours):
        return short[best], None
    return short[best], _best(_run(job, method, longer, {"lr": best}), longer)


def _lbfgs(job: Job, method: Method, equal: float, longer: float) -> tuple[float, float]:
    course = _run(job, method, longer, {"dtype": "float32"})
    return _best(course, equal), _best(course, longer)


def _margins(line: dict[str, Any]) -> tuple[float, float]:
    """Relative distance of the best rival from ours, at equal and at longer time: negative where it is better."""
    ours = line["objective"]
    pairs = [[line["Adam 400"], line["L-BFGS 400"]], [line["Adam 400 longer"], line["L-BFGS 400 longer"]]]
    known = [[value for value in pair if value is not None] for pair in pairs]
    if ours is None:
        return -math.inf, -math.inf
    margins = [min(pair, default=math.inf) / ours - 1.0 if ours > 0 else 0.0 for pair in known]
    return margins[0], margins[1]


def _remarks(line: dict[str, Any]) -> list[str]:
    """What is wrong with a line: losses, late ends, failures, warnings, bounds above what a rival reached."""
    short, long = _margins(line)
    remarks = [f"LOSS {100 * short:+.4f} %"] if short < -_TIE else []
    remarks += [f"LOSS at five times {100 * long:+.4f} %"] if long < -_TIE else []
    if line["wall"] > _LATE * line["limit"] + _LATE_SECONDS:
        remarks.append(f"LATE {line['wall'] - line['limit']:.2f} s")
    remarks += [f"FAILURE {line['failure']}"] if line["failure"] else []
    remarks += [f"WARNING {text[:120]}" for text in line["warnings"]]
    values = [line[key] for key in ("objective", "Adam 400 longer", "L-BFGS 400 longer") if line[key] is not None]
    bound = line["global_bound"]
    if bound is not None and values and bound > min(values) + 1e-9 * abs(bound):
        remarks.append("FALSE BOUND")
    return remarks


def survey_table(lines: list[dict[str, Any]]) -> str:
    """Markdown table of all lines, losses first, with a summary."""
    header = ["case", "seed", "n x d", "limit s", "wall s", "CPU s", "objective / n", "Adam", "L-BFGS", "Adam 5 x"]
    header += ["L-BFGS 5 x", "status", "gap", "scope", "width", "remarks"]
    rows = []
    for line in sorted(lines, key=lambda line: min(_margins(line))):
        n, values = line["n"], [line["objective"], line["Adam 400"], line["L-BFGS 400"]]
        values += [line["Adam 400 longer"], line["L-BFGS 400 longer"]]
        row = [line["case"], str(line["seed"]), f"{n} x {line['d']}", f"{line['limit']:g}", f"{line['wall']:.2f}"]
        row += [f"{line['cpu']:.2f}", *("" if value is None else f"{value / n:.7f}" for value in values)]
        gap = "" if line["gap"] is None else f"{line['gap']:.1e}"
        row += [line["status"], gap, str(line.get("scope", "")), str(line.get("width", "")), "; ".join(_remarks(line))]
        rows.append("| " + " | ".join(row) + " |")
    margins = [_margins(line) for line in lines]
    lost, longer = sum(m[0] < -_TIE for m in margins), sum(m[1] < -_TIE for m in margins)
    compared = sum(math.isfinite(m[1]) or m[1] < 0 for m in margins)
    summary = f"{len(lines)} runs; not above the best rival at equal time in {len(lines) - lost}, "
    summary += f"at five times the time in {compared - longer} of {compared}."
    head = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([summary, "", *head, *rows]) + "\n"


def _budget(entries: int) -> float:
    return next((seconds for most, seconds in ((2e4, 2.0), (1e5, 4.0)) if entries < most), 6.0)


def main() -> None:
    """Compare the cases, write a line for each, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="survey_output", help="folder of the results")
    parser.add_argument("--budget", type=float, help="seconds for each run of cvxnn; by default 2 to 6 by size")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--tables", nargs="*", help="names of tables; by default all of at most 5,000 rows")
    parser.add_argument("--lams", type=float, nargs="*", default=[1e-2, 1e-3])
    parser.add_argument("--cases", nargs="*", help="words that a case must have, such as logistic unweighted")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds instead of those of the wall clock")
    parser.add_argument("--fresh", action="store_true", help="forget the lines that are there")
    options = parser.parse_args()
    if options.cpu:
        time.perf_counter = time.process_time
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    path, code = folder / "survey.jsonl", code_of(methods("free", ["cvxnn"], "squared")[0])
    if options.fresh:
        path.unlink(missing_ok=True)
    lines = read_runs(path)
    done = {(line["case"], line["seed"], line["limit"]) for line in lines if line["code"] == code}
    print(f"threads {os.environ.get('OMP_NUM_THREADS', 'default')}, {code}", flush=True)
    compare(Case("free", "planted-relu-24x6", 0.0), 0.3)
    sizes: dict[str, int] = {}
    chosen = survey_cases(options.tables, tuple(options.lams))
    for case in chosen:
        if case.table not in sizes:
            table = make_job(case, 1.0, 0, {}).table
            sizes[case.table] = table.X.size if len(table.y) <= 5000 or options.tables else -1
    for case in sorted(chosen, key=lambda case: (case.weighted, _ORDER.index(case.loss), sizes[case.table])):
        words = case.key.split() if case.weighted else [*case.key.split(), "unweighted"]
        if sizes[case.table] < 0 or (options.cases and not set(options.cases) <= set(words)):
            continue
        limit = options.budget or _budget(sizes[case.table])
        for seed in options.seeds:
            if (case.key, seed, limit) in done:
                continue
            line = compare(case, limit, seed) | {"code": code}
            append_run(path, line)
            lines.append(line)
            short, long = _margins(line)
            marks = f"{100 * short:+8.3f} % {100 * long:+8.3f} %"
            print(f"{case.key:50} {line['wall']:6.2f} s {marks} {'; '.join(_remarks(line))}", flush=True)
    (folder / "survey.md").write_text(survey_table([line for line in lines if line["code"] == code]), encoding="utf-8")


if __name__ == "__main__":
    main()
