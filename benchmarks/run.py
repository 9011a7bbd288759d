"""Benchmarks of cvxnn beside its peers, from one command.

``python -m benchmarks.run --suite all --out bench_output`` runs every case with every method, each run in a process of
its own, warmed up, methods alternating. Runs are appended to OUT/runs.jsonl; runs that are there already, of the same
code with as many threads, are not repeated, so an interrupted benchmark goes on where it stopped. Tables go to
OUT/results.md, profiles to OUT/profile_*.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import REFERENCE, SUITES, Case, Method, cases, methods
from benchmarks.data import load
from benchmarks.plots import draw_profiles
from benchmarks.profiles import Run, append_run, current, read_runs
from benchmarks.report import markdown
from benchmarks.versions import code_of, commit, environment, threads_of
from benchmarks.worker import perform_apart

__all__ = ["Runner", "main"]

_LONG_RUN = 20.0
"""Seconds beyond which a run is not repeated."""


class Runner:
    """Performs runs that are not in the file yet, and appends them to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = Path(options.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "runs.jsonl"
        self.runs = read_runs(self.path)
        if options.retry:
            self.runs = [run for run in self.runs if run["failure"] is None]
            self.path.write_text("".join(json.dumps(run) + "\n" for run in self.runs), encoding="utf-8")

    def run(self, case: Case, method: Method, limit: float, **order: Any) -> Run:
        """Line of a run, from the file or new; ``order`` has seed, repeat, settings and target."""
        settings = {**dict(method.options), **order.get("settings", {})}
        seed, repeat = order.get("seed", 0), order.get("repeat", 0)
        wanted = (case.suite, case.key, case.holdout, method.name, seed, repeat, settings, limit)
        wanted += (code_of(method), threads_of(self.options.threads))
        for run in self.runs:
            if tuple(run.get(k) for k in _KEY) == wanted:
                return run
        line = self._perform(case, method, limit, seed, settings, order.get("target"))
        line |= dict(zip(_KEY, wanted, strict=True)) | {"commit": commit()}
        append_run(self.path, line)
        self.runs.append(line)
        _tell(line)
        return line

    def _perform(
        self, case: Case, method: Method, limit: float, seed: int, settings: dict[str, Any], target: float | None
    ) -> Run:
        return perform_apart(
            case, method.name, limit, seed=seed, options=settings, target=target, threads=self.options.threads
        )

    def timed(self, case: Case) -> None:
        """Runs of a suite whose measure is time: a reference, then the methods in turn."""
        options = self.options
        chosen = methods(case.suite, options.methods, case.loss)
        limit = options.budget or 60.0
        reference = self.run(case, methods(case.suite, [REFERENCE], case.loss)[0], limit)
        best = reference.get("known_optimum") or reference["objective"]
        target = None if best is None else best * (1.0 + 1e-4)
        slow: set[str] = set()
        for repeat in range(options.repeats):
            for method in chosen:
                if method.name not in slow:
                    line = self.run(case, method, limit, repeat=repeat, target=target)
                    if line["wall"] > _LONG_RUN:
                        slow.add(method.name)

    def free(self, case: Case) -> None:
        """Runs whose measure is the objective: tuning on the first seed, further seeds, then the longer schedules."""
        options, table = self.options, load(case.table, holdout=case.holdout)
        limit = options.budget or _budget(table.X.size)
        chosen, best = methods(case.suite, options.methods, case.loss), {}
        for seed in range(options.repeats):
            for method in chosen:
                if method.name not in best:
                    best[method.name] = self._tune(case, method, limit)
                self.run(case, method, limit, seed=seed, settings=best[method.name])
        small = len(table.y) < 1000 or case.lam >= 1e-2 or case.lam == 0
        if options.longer > 1 and small:
            for seed in range(options.long_seeds):
                for method in chosen:
                    if method.name in ("Adam 400", "L-BFGS 400"):
                        self.run(case, method, options.longer * limit, seed=seed, settings=best[method.name])

    def _tune(self, case: Case, method: Method, limit: float) -> dict[str, Any]:
        """Best settings of the grid on seed 0; from its edge a rate goes further by a factor of 3, at most twice."""
        tried: list[dict[str, Any]] = [dict(entry) for entry in method.grid or [()]]
        values = [_score(self.run(case, method, limit, settings=entry)) for entry in tried]
        for _ in range(2):
            chosen = tried[values.index(min(values))]
            rates = sorted(entry["lr"] for entry in tried if "lr" in entry)
            if not rates or chosen["lr"] not in (rates[0], rates[-1]):
                break
            further = float(f"{chosen['lr'] * (3.0 if chosen['lr'] == rates[-1] else 1.0 / 3.0):.2g}")
            tried.append({**chosen, "lr": further})
            values.append(_score(self.run(case, method, limit, settings=tried[-1])))
        return tried[values.index(min(values))]

    def report(self) -> None:
        """Write the tables, and the profiles where matplotlib is installed."""
        runs = current(self.runs, threads_of(self.options.threads))
        text = markdown(runs, environment(self.options.threads))
        (self.folder / "results.md").write_text(text, encoding="utf-8")
        print(self.folder / "results.md")
        if importlib.util.find_spec("matplotlib") is None:
            print("no drawings: matplotlib is not installed")
            return
        for path in draw_profiles(runs, self.folder):
            print(path)


_KEY = ("suite", "case", "holdout", "method", "seed", "repeat", "options", "limit", "code", "threads")


def _score(line: Run) -> float:
    """Objective; a failure comes last."""
    return float("inf") if line["objective"] is None else line["objective"]


def _budget(entries: int) -> float:
    """Seconds for a table of so many entries in the free suite."""
    return next((seconds for most, seconds in ((2e4, 4.0), (1e5, 8.0), (4e5, 15.0)) if entries < most), 30.0)


def _tell(line: Run) -> None:
    value = "-" if line["objective"] is None else f"{line['objective'] / line['n']:.9f}"
    label = f"{line['suite']:6} {line['case']:42} {line['method']:17} seed {line['seed']} #{line['repeat']}"
    print(f"{label} {line['seconds']:8.3f} s  {value}  {line['failure'] or line['status']}", flush=True)


def _selected(options: argparse.Namespace) -> Iterator[Case]:
    """Cases of the command line."""
    for suite in SUITES if options.suite == "all" else (options.suite,):
        for case in cases(suite, quick=options.quick, every=options.every):
            if not options.cases or any(word in case.key for word in options.cases):
                yield case if options.holdout is None else replace(case, holdout=options.holdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--cases", nargs="*", help="words that select cases, such as diabetes or lam=0.01")
    parser.add_argument("--methods", nargs="*", help='methods by name, "all", or the core ones by default')
    parser.add_argument("--budget", type=float, help="seconds a run; by default 60, in the free suite 4 to 30 by size")
    parser.add_argument("--repeats", type=int, default=3, help="repeats (gated, fixed) or seeds (free) of each run")
    parser.add_argument("--longer", type=float, default=5.0, help="factor of the longer schedules, 1 for none (free)")
    parser.add_argument("--long-seeds", type=int, default=1, help="seeds of the longer schedules")
    parser.add_argument("--threads", type=int, help="threads of every method; each method's own default without it")
    parser.add_argument("--holdout", type=float, help="share of test rows instead of the case's own")
    parser.add_argument("--out", default="bench_output", help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="six small cases, a few minutes")
    parser.add_argument("--every", action="store_true", help="every table that fits, hours")
    parser.add_argument("--retry", action="store_true", help="repeat the runs that failed")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--report", action="store_true", help="only write tables and plots of the runs that are there")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 130 after an interrupt (what was done is kept and reported)."""
    options = _parser().parse_args(arguments)
    chosen = list(_selected(options))
    if options.list:
        print("\n".join(f"{case.suite:6} {case.key}" for case in chosen))
        return 0
    if options.quick and options.budget is None:
        options.budget = 3.0
    runner, code = Runner(options), 0
    try:
        for case in [] if options.report else chosen:
            (runner.free if case.suite == "free" else runner.timed)(case)
    except KeyboardInterrupt:
        code = 130
    runner.report()
    walls = [run["wall"] for run in runner.runs]
    print(f"{len(walls)} runs, median {statistics.median(walls):.1f} s" if walls else "no runs")
    return code


if __name__ == "__main__":
    sys.exit(main())
