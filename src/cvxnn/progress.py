"""Progress of a solve: what callbacks receive, and the record that becomes the history."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cvxnn.certificates.certificate import relative_gap
from cvxnn.solution import History

__all__ = ["Progress", "Recorder"]


@dataclass(frozen=True)
class Progress:
    """State that a progress callback receives after each outer iteration.

    Attributes
    ----------
    phase : str
        What the solve is doing: "start", "columns" or "certify".
    iteration : int
    seconds : float
        Wall-clock time since the start.
    objective : float
        Best objective so far.
    lower_bound : float
        Best proved bound so far, in the scope that the solve works in; 0 before one is known.
    gap : float
        Estimated relative gap: the duality gap if the largest violation found were the largest there is. Only the
        certificate of the solution is a proof.
    width : int
        Neurons of the best network.
    violation : float
        Largest dual violation found, relative to beta (0 when none).
    """

    phase: str
    iteration: int
    seconds: float
    objective: float
    lower_bound: float
    gap: float
    width: int
    violation: float


class Recorder:
    """Clock, history and callback of one solve."""

    def __init__(self, verbose: bool | Callable[[Progress], None]) -> None:
        self._begin = time.perf_counter()
        self._rows: list[tuple[int, float, float, float]] = []
        self._callback = verbose if callable(verbose) else (_to_stderr if verbose else None)
        self._callback_seconds = 0.0
        self._bound = 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start, without the time spent in callbacks."""
        return time.perf_counter() - self._begin - self._callback_seconds

    def record(
        self,
        phase: str,
        iteration: int,
        *,
        objective: float,
        lower_bound: float,
        estimate: float,
        width: int,
        violation: float,
    ) -> None:
        """Append a row to the history and call the callback; ``estimate`` is the unproved bound behind ``gap``."""
        self._bound = max(self._bound, lower_bound)
        seconds = self.seconds
        self._rows.append((iteration, seconds, objective, self._bound))
        if self._callback is not None:
            gap = relative_gap(objective, max(estimate, self._bound))
            start = time.perf_counter()
            self._callback(Progress(phase, iteration, seconds, objective, self._bound, gap, width, violation))
            self._callback_seconds += time.perf_counter() - start

    def history(self) -> History:
        """All rows so far."""
        rows = np.array(self._rows, dtype=np.float64).reshape(len(self._rows), 4)
        return History(rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2], rows[:, 3])


def _to_stderr(state: Progress) -> None:
    """One line per iteration for ``verbose=True``; the result of the program stays alone on standard output."""
    sys.stderr.write(
        f"{state.phase:>8} {state.iteration:4d}  {state.seconds:8.2f} s  objective {state.objective:.9g}  "
        f"estimated gap {state.gap:.1e}  violation {state.violation:.1e}  width {state.width}\n"
    )
