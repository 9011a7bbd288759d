"""Profile of the objective along a path of networks, with the steps that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.landscape.network_path import NetworkPath

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["PathDisplay"]

_HATCHES = ("", "///", "...", "\\\\\\", "xx", "--", "oo", "++")
_GREYS = ("#ECECEC", "#F7F7F7", "#E0E0E0", "#F1F1F1")


_DEPTH = 1e-6
"""A logarithmic profile ends at this part of its largest height."""


class PathDisplay:
    """Objective along a :class:`cvxnn.landscape.NetworkPath`.

    Build it by :meth:`from_path`; the data are kept apart from the drawing.

    Parameters
    ----------
    times : ndarray (k,)
        Increasing times from 0 to 1, the breakpoints among them.
    objective : ndarray (k,)
        Objective of the network at each time.
    breakpoints : ndarray (b + 1,)
        Times at which the smooth pieces meet.
    stages : tuple of str
        Name of the step behind each of the b pieces.
    lower_bound : float
        Proved lower bound over networks of every width; minus infinity where there is none.
    target_is_global : bool
        Whether the end is proved to be a global optimum.
    width : int
        Number of neurons of all networks on the path.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork, landscape
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1)
    >>> start = ReLUNetwork([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.5, 0.5]], [1.0, -1.0, 0.5, 1.0])
    >>> display = PathDisplay.from_path(landscape.descent_path(problem, start))
    >>> display.objective[[0, -1]].round(6), display.steps()[0][0]
    (array([1.7875, 0.185 ]), 'balance')
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        times: FloatArray,
        objective: FloatArray,
        breakpoints: FloatArray,
        stages: tuple[str, ...],
        lower_bound: float,
        target_is_global: bool,
        width: int,
    ) -> None:
        self.times, self.objective, self.breakpoints, self.stages = times, objective, breakpoints, stages
        self.lower_bound, self.target_is_global, self.width = lower_bound, target_is_global, width

    @classmethod
    def from_path(cls, path: NetworkPath, *, num: int = 400) -> PathDisplay:
        """Sample a path at ``num`` evenly spaced times and at its breakpoints."""
        if not isinstance(path, NetworkPath):
            raise ValueError(f"path must be a NetworkPath; got {type(path).__name__}.")
        times = np.union1d(np.linspace(0.0, 1.0, as_count(num, "num")), path.breakpoints)
        return cls(
            times=times,
            objective=path.objectives_at(times),
            breakpoints=path.breakpoints,
            stages=path.stages,
            lower_bound=path.lower_bound,
            target_is_global=path.target_is_global,
            width=path.width,
        )

    def steps(self) -> list[tuple[str, float, float]]:
        """Stages with first and last time; neighbouring pieces of one stage are taken together."""
        found: list[tuple[str, float, float]] = []
        for stage, start, end in zip(self.stages, self.breakpoints[:-1], self.breakpoints[1:], strict=True):
            if found and found[-1][0] == stage:
                start = found.pop()[1]
            found.append((stage, float(start), float(end)))
        return found

    def plot(self, ax: Axes | None = None, *, log: bool = False) -> PathDisplay:
        """Draw on ``ax``, or on axes of a new figure.

        With ``log``, heights above the lower bound on a logarithmic scale; those below a millionth of the largest one
        are drawn there.

        Raises
        ------
        ValueError
            Where ``log`` and the path has no lower bound.
        """
        bounded = bool(np.isfinite(self.lower_bound))
        if log and not bounded:
            raise ValueError("log needs a path with a lower bound; this path has none.")
        ax = new_axes(ax, size=(7.2, 4.8))
        heights, broken = self.objective, np.searchsorted(self.times, self.breakpoints)
        if log:
            above = heights - self.lower_bound
            heights = np.maximum(above, max(_DEPTH * float(above.max()), np.finfo(np.float64).tiny))
            ax.set_yscale("log")
        self._shade(ax)
        (self.line_,) = ax.plot(self.times, heights, color=COLOURS["path"], lw=2, label="objective", zorder=4)
        marks = {"linestyle": "none", "marker": "|", "ms": 8, "color": COLOURS["path"], "zorder": 5}
        ax.plot(self.breakpoints, heights[broken], label="breakpoints", **marks)
        best = self.target_is_global
        ax.plot(
            self.times[-1:],
            heights[-1:],
            linestyle="none",
            marker="*" if best else "o",
            ms=15 if best else 8,
            color=COLOURS["optimum" if best else "network"],
            markeredgecolor="white",
            zorder=6,
            clip_on=False,
            label="end: global optimum, proved" if best else "end",
        )
        if bounded and not log:
            ax.axhline(self.lower_bound, color=COLOURS["bound"], ls="--", lw=1.2, zorder=3, label="proved lower bound")
        ax.set(xlim=(0.0, 1.0), xlabel="time along the path (0 start, 1 end)")
        ax.set_ylabel("objective above the lower bound" if log else "objective")
        ax.set_title(f"Objective along a path of networks of width {self.width}")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _shade(self, ax: Axes) -> None:
        """Give each stage a tint and a hatch."""
        order = list(dict.fromkeys(self.stages))
        named: set[str] = set()
        for stage, start, end in self.steps():
            k = order.index(stage)
            ax.axvspan(
                start,
                end,
                facecolor=_GREYS[k % len(_GREYS)],
                edgecolor="#BBBBBB",
                hatch=_HATCHES[k % len(_HATCHES)],
                linewidth=0.0,
                zorder=0,
                label=None if stage in named else stage,
            )
            named.add(stage)
