"""How many runs a benchmark has, how long it takes, and how far it is: figures for whoever waits for it.

The seconds of the free suite are those of its limits. Those of the other suites depend on the machine: what each method
needs on the usual cases is a guess, which the pace of the cases that are done corrects.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import REFERENCE, Case, methods
from benchmarks.data import load

__all__ = ["Expected", "Progress", "expected", "hours", "limit_of", "longer_runs"]

_START = 3.0
"""Seconds that a process needs before its clock starts: imports, the table, the warm-up."""

_TYPICAL = {"cvxnn": 1.0, REFERENCE: 3.0, "pyscnn R-FISTA": 8.0, "pyscnn AL": 25.0, "Clarabel": 40.0, "SCS": 60.0}
"""Seconds of a method in the suites whose measure is time, up to the limit."""

_TUNING = {"Adam": 0.7, "SGD": 0.7}
"""Runs by which a grid of rates is extended, on average."""


@dataclass(frozen=True)
class Expected:
    """Runs and seconds that a case takes."""

    runs: float
    seconds: float


def limit_of(case: Case, budget: float | None) -> float:
    """Seconds of a run: those of the command line, else by the suite and the size of the table."""
    if budget is not None:
        return budget
    if case.suite != "free":
        return 60.0
    entries = load(case.table, holdout=case.holdout).X.size
    return next((seconds for most, seconds in ((2e4, 4.0), (1e5, 8.0), (4e5, 15.0)) if entries < most), 30.0)


def longer_runs(case: Case, longer: float) -> bool:
    """Whether Adam and L-BFGS get longer schedules as well."""
    if longer <= 1:
        return False
    return case.lam >= 1e-2 or case.lam == 0 or len(load(case.table, holdout=case.holdout).y) < 1000


def expected(
    case: Case,
    *,
    names: list[str] | None = None,
    budget: float | None = None,
    repeats: int = 3,
    longer: float = 5.0,
    long_seeds: int = 1,
) -> Expected:
    """Runs and seconds of a case with the options of the command line.

    >>> expected(Case("gated", "iris", 0.1, 5), names=["cvxnn"], budget=60.0, repeats=2)
    Expected(runs=3, seconds=14.0)
    """
    chosen, limit = methods(case.suite, names, case.loss), limit_of(case, budget)
    runs, seconds = 0.0, 0.0
    if case.suite != "free":
        each = [_TYPICAL.get(method.name, limit) for method in chosen]
        counts = [repeats if spent <= 20.0 else 1 for spent in each]
        if all(method.name != REFERENCE for method in chosen):
            each, counts = [*each, _TYPICAL[REFERENCE]], [*counts, 1]
        seconds = sum(count * min(spent, limit) for count, spent in zip(counts, each, strict=True))
        return Expected(sum(counts), seconds + _START * sum(counts))
    for method in chosen:
        extended = next((more for word, more in _TUNING.items() if method.name.startswith(word)), 0.0)
        runs += max(len(method.grid), 1) + extended + repeats - 1
    seconds = runs * limit
    if longer_runs(case, longer):
        further = long_seeds * sum(method.name in ("Adam 400", "L-BFGS 400") for method in chosen)
        runs, seconds = runs + further, seconds + further * longer * limit
    return Expected(runs, seconds + _START * runs)


class Progress:
    """Place in a list of cases, and the seconds that are left at the pace of those done so far.

    >>> progress = Progress([Expected(1, 60.0), Expected(1, 120.0)], [0, 0])
    >>> progress.text(0)
    '[1/2, 0:03:00 to go]'
    """

    def __init__(self, cases: Sequence[Expected], done: Sequence[int]) -> None:
        """Take what is expected of each case, and how many of its runs are there already."""
        left = zip(cases, done, strict=True)
        self._left = [case.seconds * max(1.0 - count / max(case.runs, 1.0), 0.0) for case, count in left]
        self._begin = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds that all cases take from their start, without regard to the pace."""
        return sum(self._left)

    def text(self, index: int) -> str:
        """Where the case of this index is among all, and the time that is left from it on."""
        before, left = sum(self._left[:index]), sum(self._left[index:])
        pace = (time.perf_counter() - self._begin) / before if before > 0 else 1.0
        return f"[{index + 1}/{len(self._left)}, {hours(pace * left)} to go]"


def hours(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> hours(3725.2)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
