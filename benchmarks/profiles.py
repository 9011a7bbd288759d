"""Figures from the lines of runs: time to a target, medians, geometric means, performance profiles. No drawing here.

A performance profile gives, for each method, the share of problems that it solves within a factor tau of the fastest
(Dolan and More, "Benchmarking optimization software with performance profiles", 2002); a data profile gives the share
that it solves within so many seconds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Run = dict[str, Any]
Times = dict[str, dict[str, float]]
"""Seconds by case and method; infinite where the target was not reached."""

__all__ = [
    "FEASIBLE",
    "append_run",
    "best_known",
    "by_case",
    "current",
    "data_profile",
    "geometric_mean",
    "performance_profile",
    "read_runs",
    "time_to_target",
    "times_to_accuracy",
]

FEASIBLE = 1e-4
"""Norm of the violations of all cones over the norm of the targets, up to which a point counts as feasible."""


def read_runs(path: Path) -> list[Run]:
    """Lines of a file of runs; a last line cut off by an interrupt is left out."""
    if not path.exists():
        return []
    runs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def append_run(path: Path, run: Run) -> None:
    """Add a line to a file of runs, on a line of its own even where the last one was cut off."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        cut_off = file.read() not in (b"", b"\n")
        file.write((("\n" if cut_off else "") + json.dumps(run) + "\n").encode())


def current(runs: Sequence[Run], threads: str) -> list[Run]:
    """Runs with so many threads, and of these, for each case and method, those of the code that ran last.

    >>> old, new = ({"suite": "s", "case": "c", "method": "m", "code": code, "threads": "2"} for code in "ab")
    >>> [run["code"] for run in current([old, new, new], "2")], current([old], "1")
    (['b', 'b'], [])
    """
    chosen = [run for run in runs if run.get("threads") == threads]
    last = {(run["suite"], run["case"], run["method"]): run.get("code") for run in chosen}
    return [run for run in chosen if run.get("code") == last[run["suite"], run["case"], run["method"]]]


def by_case(runs: Iterable[Run], suite: str) -> dict[str, list[Run]]:
    """Runs of a suite by case, in the order of the file."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run["suite"] == suite:
            found[run["case"]].append(run)
    return dict(found)


def best_known(runs: Iterable[Run]) -> float:
    """Smallest objective of a feasible point in any of the runs of a case, or the known optimum."""
    values = [math.inf]
    for run in runs:
        if run.get("known_optimum") is not None:
            return float(run["known_optimum"])
        values += [value for _, value, violation in run["trace"] if violation <= FEASIBLE * 1e-3]
    if math.isinf(min(values)):
        values += [value for run in runs for _, value, violation in run["trace"] if violation <= FEASIBLE]
    return min(values)


def time_to_target(trace: Sequence[Sequence[float]], target: float, floor: float = -math.inf) -> float:
    """First seconds at which the course is feasible and not above the target; infinity if it never is.

    A point that violates cones, within what is allowed, must not lie below ``floor``: it owes that to the violation.

    >>> time_to_target([[1.0, 5.0, 0.0], [2.0, 3.0, 0.0]], 4.0)
    2.0
    """
    for seconds, value, violation in trace:
        if value <= target and (violation == 0.0 or (violation <= FEASIBLE and value >= floor)):
            return seconds
    return math.inf


def times_to_accuracy(runs: Iterable[Run], suite: str, accuracy: float) -> Times:
    """Median seconds, over seeds and repeats, to an objective within ``accuracy`` (relative) of the best known.

    A run that proves a bound counts all its seconds, and only if its gap is at most ``accuracy``; any other run is
    credited with the first moment at which it is accurate enough, known only afterwards.
    """
    times: Times = {}
    for case, lines in by_case(runs, suite).items():
        best = best_known(lines)
        target, floor = best + accuracy * abs(best), best - accuracy * abs(best)
        seconds: dict[str, dict[Any, float]] = defaultdict(dict)
        for run in lines:
            member = (run["seed"], run["repeat"])
            found = _seconds(run, target, floor, accuracy, certified=suite != "free")
            # Runs of one seed with other settings or a longer schedule are further attempts of the same method.
            seconds[run["method"]][member] = min(found, seconds[run["method"]].get(member, math.inf))
        times[case] = {method: _median(list(each.values())) for method, each in seconds.items()}
    return times


def _seconds(run: Run, target: float, floor: float, accuracy: float, *, certified: bool) -> float:
    if certified and run["lower_bound"] is not None:
        return run["seconds"] if run["gap"] is not None and run["gap"] <= accuracy else math.inf
    return time_to_target(run["trace"], target, floor)


def _median(values: Sequence[float]) -> float:
    """Median in which a failure is infinitely slow (the larger of two middle values)."""
    return statistics.median_high(values) if values else math.inf


def performance_profile(times: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Steps of the performance profile of each method: ratios to the fastest, ascending, and shares of the problems.

    Problems that no method solves stay in the denominator.

    >>> profile = performance_profile({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 1.0}})
    >>> profile["x"]
    (array([1., 3.]), array([0.5, 1. ]))
    """
    ratios: dict[str, list[float]] = {method: [] for row in times.values() for method in row}
    for row in times.values():
        fastest = min(row.values(), default=math.inf)
        for method, seconds in row.items():
            if math.isfinite(seconds):
                ratios[method].append(seconds / fastest if fastest > 0 else 1.0)
    return {method: _steps(values, len(times)) for method, values in ratios.items()}


def data_profile(times: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Steps of the share of problems solved against seconds, for each method.

    >>> data_profile({"a": {"x": 1.0}, "b": {"x": math.inf}})["x"]
    (array([1.]), array([0.5]))
    """
    found: dict[str, list[float]] = {method: [] for row in times.values() for method in row}
    for row in times.values():
        for method, seconds in row.items():
            if math.isfinite(seconds):
                found[method].append(seconds)
    return {method: _steps(values, len(times)) for method, values in found.items()}


def _steps(values: list[float], problems: int) -> tuple[FloatArray, FloatArray]:
    return np.sort(np.array(values, dtype=np.float64)), np.arange(1, len(values) + 1) / max(problems, 1)


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers, NaN of none.

    >>> round(geometric_mean([1.0, 100.0]), 9)
    10.0
    """
    return math.exp(math.fsum(math.log(value) for value in values) / len(values)) if values else math.nan
