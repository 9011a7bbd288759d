"""Benchmarks of cvxnn beside its peers, from one command.

``python -m benchmarks.run --suite all --out bench_output`` runs every case with every method, each run in a process of
its own, warmed up, methods alternating. Runs are appended to OUT/runs.jsonl; runs that are there already, of the same
code with as many threads, are not repeated, so an interrupted benchmark goes on where it stopped (``--fresh`` starts
again, the old file is kept as runs.old.jsonl). Tables go to OUT/results.md after each case, profiles to OUT/profile_*
at the end. ``--plan`` prints the cases, how many of their runs are there, and how long the rest takes.
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
from benchmarks.plan import Expected, Progress, expected, hours, limit_of, longer_runs
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
        self.where = ""
        if options.fresh and self.path.exists():
            self.path.replace(self.folder / "runs.old.jsonl")
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
        _tell(line, self.where)
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
        limit = limit_of(case, options.budget)
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
        options, limit = self.options, limit_of(case, self.options.budget)
        chosen, best = methods(case.suite, options.methods, case.loss), {}
        for seed in range(options.repeats):
            for method in chosen:
                if method.name not in best:
                    best[method.name] = self._tune(case, method, limit)
                self.run(case, method, limit, seed=seed, settings=best[method.name])
        if longer_runs(case, options.longer):
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

    def count(self, case: Case) -> int:
        """Number of the runs of a case that are in the file, of this code and with these threads."""
        known = {(method.name, code_of(method)) for method in methods(case.suite, ["all"], case.loss)}
        threads = threads_of(self.options.threads)
        return sum(
            (run["suite"], run["case"], run.get("threads")) == (case.suite, case.key, threads)
            and (run["method"], run.get("code")) in known
            for run in self.runs
        )

    def perform_all(self, chosen: list[Case]) -> None:
        """All cases in their order, the tables after each."""
        progress = Progress([_expected(case, self.options) for case in chosen], [self.count(case) for case in chosen])
        for index, case in enumerate(chosen):
            self.where = progress.text(index)
            (self.free if case.suite == "free" else self.timed)(case)
            self.tables()

    def tables(self) -> list[Run]:
        """Write the tables; the runs that they hold."""
        runs = current(self.runs, threads_of(self.options.threads))
        text = markdown(runs, environment(self.options.threads))
        (self.folder / "results.md").write_text(text, encoding="utf-8")
        return runs

    def report(self) -> None:
        """Write the tables, and the profiles where matplotlib is installed."""
        runs = self.tables()
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


def _tell(line: Run, where: str) -> None:
    value = "-" if line["objective"] is None else f"{line['objective'] / line['n']:.9f}"
    label = f"{line['suite']:6} {line['case']:42} {line['method']:17} seed {line['seed']} #{line['repeat']}"
    print(f"{where} {label} {line['seconds']:8.3f} s  {value}  {line['failure'] or line['status']}", flush=True)


def _selected(options: argparse.Namespace) -> Iterator[Case]:
    """Cases of the command line."""
    for suite in SUITES if options.suite == "all" else (options.suite,):
        for case in cases(suite, quick=options.quick, every=options.every):
            if not options.cases or any(word in case.key for word in options.cases):
                yield case if options.holdout is None else replace(case, holdout=options.holdout)


def _expected(case: Case, options: argparse.Namespace) -> Expected:
    """Runs and seconds of a case with these options."""
    order = {"names": options.methods, "budget": options.budget, "repeats": options.repeats}
    return expected(case, longer=options.longer, long_seeds=options.long_seeds, **order)


def _plan(runner: Runner, chosen: list[Case]) -> None:
    """Print what there is to do, and how long it takes."""
    wanted, there = [_expected(case, runner.options) for case in chosen], [runner.count(case) for case in chosen]
    for case, each, count in zip(chosen, wanted, there, strict=True):
        print(f"{case.suite:6} {case.key:42} {each.runs:5.0f} runs {hours(each.seconds)}  {count} there")
    total, left = sum(each.runs for each in wanted), hours(Progress(wanted, there).seconds)
    print(f"{len(chosen)} cases, {total:.0f} runs, about {left} to go on an idle machine")


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
    parser.add_argument("--quick", action="store_true", help="six small cases, less than five minutes")
    parser.add_argument("--every", action="store_true", help="every table that fits, a night")
    parser.add_argument("--retry", action="store_true", help="repeat the runs that failed")
    parser.add_argument("--fresh", action="store_true", help="repeat all; the old runs are kept as runs.old.jsonl")
    parser.add_argument("--plan", action="store_true", help="print what is left to do and how long it takes, and stop")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--report", action="store_true", help="only write tables and plots of the runs that are there")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 130 after an interrupt (what was done is kept and reported)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = list(_selected(options))
    try:
        # A name is unknown in all suites or in none.
        methods(SUITES[0], options.methods, "squared")
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print("\n".join(f"{case.suite:6} {case.key}" for case in chosen))
        return 0
    if options.quick and options.budget is None:
        options.budget = 2.0
    options.fresh = options.fresh and not (options.plan or options.report)
    runner, code = Runner(options), 0
    if options.plan:
        _plan(runner, chosen)
        return 0
    try:
        runner.perform_all([] if options.report else chosen)
    except KeyboardInterrupt:
        code = 130
    runner.report()
    walls = [run["wall"] for run in runner.runs]
    print(f"{len(walls)} runs, median {statistics.median(walls):.1f} s" if walls else "no runs")
    return code


if __name__ == "__main__":
    sys.exit(main())
