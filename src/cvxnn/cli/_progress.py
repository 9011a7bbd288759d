"""Progress of a solve on stderr, drawn by rich when stderr is a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cvxnn.training import Progress

__all__ = ["Watch", "watch"]

Watch = Callable[[str], "Callable[[Progress], None] | bool"]
"""Gives for a label the callback of one solve, or False where nothing is drawn."""


@contextmanager
def watch(tol: float, *, quiet: bool) -> Iterator[Watch]:
    """Show the relative gap as it falls to the tolerance; draw nothing in a pipe."""
    if quiet or not sys.stderr.isatty():
        yield lambda label: False
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:

        def follow(label: str) -> Callable[[Progress], None]:
            task = bar.add_task(label, total=1.0, state="")

            def update(progress: Progress) -> None:
                state = f"gap {progress.gap:.1e}, {progress.width} neurons, {progress.phase}"
                bar.update(task, completed=done_fraction(progress.gap, tol), state=state)

            return update

        yield follow


def done_fraction(gap: float, tol: float) -> float:
    """Share of the way from a gap of 1 to the tolerance, on a logarithmic scale."""
    if gap <= tol:
        return 1.0
    if not math.isfinite(gap) or gap >= 1.0 or tol >= 1.0:
        return 0.0
    return math.log(gap) / math.log(tol)
