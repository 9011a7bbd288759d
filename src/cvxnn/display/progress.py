"""Progress of a solve in place: one line in a terminal, a small table with its curve in a notebook."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from typing import Any, TextIO

from cvxnn._html import card, curve, figure
from cvxnn.progress import Progress

__all__ = ["ProgressDisplay"]

_PAUSE = 0.1
"""Seconds between two drawings of one phase: more often nobody can read."""

_UP_AND_CLEAR = "\x1b[1A\x1b[2K"


class ProgressDisplay:
    """Callback for ``verbose`` of :func:`cvxnn.solve` and the estimators that renews what it has shown.

    In a Jupyter notebook it is a table with the curve of the objective, in a terminal one line; into a file or a pipe
    it writes one line for each phase and at most ten a second. The gap shown is an estimate: only the certificate of
    the solution is a proof.

    Parameters
    ----------
    file : text stream, optional
        Where lines go; standard error by default. A stream that is given is used in notebooks, too.

    Attributes
    ----------
    objectives : list of float
        Best objective at every iteration of the last solve.

    Examples
    --------
    >>> import io
    >>> from cvxnn import Problem, solve
    >>> progress = ProgressDisplay(file=io.StringIO())
    >>> solution = solve(Problem([[1.0], [2.0]], [1.0, 2.0], beta=0.1), verbose=progress)
    >>> len(progress.objectives) == len(solution.history)
    True
    """

    def __init__(self, *, file: TextIO | None = None) -> None:
        self.objectives: list[float] = []
        self._file = file
        self._shown = -_PAUSE
        self._seconds = 0.0
        self._phase = ""
        self._lines = 0
        self._handle: Any = None

    def __call__(self, state: Progress) -> None:
        """Show a state of the solve."""
        if state.seconds < self._seconds:
            # Another solve begins; what was shown of the last one stays.
            self.objectives, self._phase, self._lines, self._handle = [], "", 0, None
        self._seconds = state.seconds
        self.objectives.append(state.objective)
        now = time.perf_counter()
        if state.phase == self._phase and now < self._shown + _PAUSE:
            return
        self._phase, self._shown = state.phase, now
        if self._file is None and _in_notebook():
            self._show_table(state)
        else:
            self._show_line(state)

    def _show_line(self, state: Progress) -> None:
        stream = sys.stderr if self._file is None else self._file
        line = (
            f"{state.phase}  {state.seconds:.3g} s  objective {figure(state.objective)}  "
            f"estimated gap {state.gap:.1e}  width {state.width}"
        )
        if stream.isatty():
            # A line that wraps could not be cleared; it ends, so that whatever is printed next begins on its own.
            line = line[: shutil.get_terminal_size().columns - 1]
            stream.write((_UP_AND_CLEAR if self._lines else "") + line + "\n")
        else:
            stream.write(line + "\n")
        self._lines += 1
        stream.flush()

    def _show_table(self, state: Progress) -> None:
        jupyter = importlib.import_module("IPython.display")
        rows = [
            ("phase", state.phase),
            ("seconds", f"{state.seconds:.3g}"),
            ("objective", figure(state.objective)),
            ("estimated gap", f"{state.gap:.1e}"),
            ("width", state.width),
        ]
        picture = curve(self.objectives, "objective over the iterations")
        page = jupyter.HTML(
            card("Solving", rows, note="Only the certificate of the solution is a proof.", picture=picture)
        )
        if self._handle is None:
            self._handle = jupyter.display(page, display_id=True)
        else:
            self._handle.update(page)


def _in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel, which is told without importing IPython."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
