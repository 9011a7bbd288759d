"""Progress in place: what is written into pipes, terminals and notebooks."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest

from cvxnn import Problem, Progress, solve
from cvxnn.display import ProgressDisplay


def state(phase: str, iteration: int, objective: float) -> Progress:
    return Progress(phase, iteration, 0.5, objective, 0.0, 1e-3, 4, 0.1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_phase_is_written_once_and_objectives_are_kept():
    rng = np.random.default_rng(0)
    problem = Problem(rng.normal(size=(15, 2)), rng.normal(size=15), beta=0.05)
    stream = io.StringIO()
    progress = ProgressDisplay(file=stream)
    phases: list[str] = []
    solution = solve(problem, verbose=lambda s: (phases.append(s.phase), progress(s)))
    lines = stream.getvalue().splitlines()
    assert {line.split()[0] for line in lines} == set(phases)
    np.testing.assert_array_equal(progress.objectives, solution.history.objective)
    assert not any("\x1b" in line for line in lines)


def test_terminal_line_is_cleared_before_the_next_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    progress = ProgressDisplay(file=stream)
    progress(state("start", 0, 2.0))
    progress(state("start", 1, 1.5))
    progress(state("columns", 2, 1.0))
    first, second, rest = stream.getvalue().split("\n")
    assert first.startswith("start  0.5 s  objective 2") and len(first) == 29
    assert second.startswith("\x1b[1A\x1b[2Kcolumns") and rest == ""
    assert progress.objectives == [2.0, 1.5, 1.0]


def test_another_solve_begins_anew():
    stream = Terminal()
    progress = ProgressDisplay(file=stream)
    later = Progress("certify", 7, 3.0, 1.0, 0.0, 1e-3, 4, 0.1)
    for shown in (state("start", 0, 2.0), later, state("start", 0, 5.0)):
        progress(shown)
    assert progress.objectives == [5.0]
    # The last line of the solve before is left standing.
    assert stream.getvalue().count("\x1b[1A") == 1


@pytest.fixture
def notebook(monkeypatch):
    """A Jupyter kernel in miniature: what is displayed, and each renewal of it."""
    pages: list[str] = []

    class HTML(str):
        pass

    class Handle:
        def update(self, page: str) -> None:
            pages.append(page)

    def display(page: str, *, display_id: bool) -> Handle:
        assert display_id
        pages.append(page)
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()
    root, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    root.get_ipython = lambda: shell  # type: ignore[attr-defined]
    inner.HTML, inner.display = HTML, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", root)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return pages


def test_notebook_renews_one_table(notebook, capsys):
    progress = ProgressDisplay()
    progress(state("start", 0, 2.0))
    progress(state("columns", 1, 1.0))
    assert len(notebook) == 2 and "<td" in notebook[0] and "polyline" in notebook[1]
    assert capsys.readouterr().err == ""
    own = io.StringIO()
    ProgressDisplay(file=own)(state("start", 0, 2.0))
    assert own.getvalue() and len(notebook) == 2
