"""Course of a solve: objective, proved bound and gap against time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["GapDisplay"]

_LOOKS = (("-", "o"), ("--", "s"), ("-.", "D"), (":", "^"))
"""Lines and markers of several solves in one picture."""

_TAG = "cvxnn course of a solve"


class GapDisplay:
    """Course of a solve against time: distance of the best objective from the proved bound, or the two themselves.

    Build it by :meth:`from_solution` or :meth:`from_estimator`; the data are kept apart from the drawing. Several
    solves are compared on one picture by ``.plot(ax)`` on the axes of the first, each with a name.

    Parameters
    ----------
    seconds : ndarray (k,)
        Wall-clock time since the start of the solve.
    objective : ndarray (k,)
        Best objective so far.
    lower_bound : float
        Bound that the certificate proves at the end.
    scope : {"global", "patterns"}
        Scope of that bound.
    bounds : ndarray (k,), optional
        Best bound proved so far; 0 where there was none. By default ``lower_bound`` at the end alone.
    name : str, default ""
        Name of the solve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        Line of the gap, or of the objective.
    bound_line_ : matplotlib Line2D
        Line of the bound, where that is drawn.

    Examples
    --------
    >>> from cvxnn import Problem, solve
    >>> display = GapDisplay.from_solution(solve(Problem([[-1.0, 1.0], [1.0, 1.0]], [1.0, 2.0], beta=0.1)))
    >>> display.scope, bool(display.gaps()[-1] < 1e-6)
    ('global', True)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    line_: Any
    bound_line_: Any

    def __init__(
        self,
        *,
        seconds: FloatArray,
        objective: FloatArray,
        lower_bound: float,
        scope: str,
        bounds: FloatArray | None = None,
        name: str = "",
    ) -> None:
        self.seconds, self.objective = seconds, objective
        self.lower_bound, self.scope, self.name = lower_bound, scope, name
        self.bounds = np.append(np.zeros(len(seconds) - 1), lower_bound) if bounds is None else bounds

    @classmethod
    def from_solution(cls, solution: Solution, *, name: str = "") -> GapDisplay:
        """Take the data of a solution."""
        course, last = solution.history, solution.certificate
        seconds = course.seconds if len(course) else np.zeros(1)
        objective = np.minimum.accumulate(course.objective) if len(course) else np.array([last.objective])
        proved = course.lower_bound if len(course) else np.zeros(1)
        return cls(
            # The certificate counts the weights that are returned.
            objective=np.append(objective, last.objective),
            seconds=np.append(seconds, seconds[-1]),
            bounds=np.append(np.minimum(np.maximum.accumulate(proved), last.lower_bound), last.lower_bound),
            lower_bound=last.lower_bound,
            scope=last.scope,
            name=name,
        )

    @classmethod
    def from_estimator(cls, estimator: Any, *, name: str = "") -> GapDisplay:
        """Take the data of a fitted :class:`cvxnn.ReLURegressor` or :class:`cvxnn.ReLUClassifier`."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        return cls.from_solution(estimator.solution_, name=name)

    def gaps(self) -> FloatArray:
        """Relative distance of each objective from the bound, ``(k,)``; not below 1e-16, which logarithms need."""
        distance = (self.objective - self.lower_bound) / np.maximum(np.abs(self.objective), np.finfo(float).tiny)
        return np.maximum(distance, 1e-16)

    def plot(self, ax: Axes | None = None, *, values: Literal["gap", "objective"] = "gap") -> GapDisplay:
        """Draw on ``ax``, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Those of another solve, too: then lines and markers differ.
        values : {"gap", "objective"}, default "gap"
            "gap" draws :meth:`gaps`, "objective" the objective and the proved bound.
        """
        if values not in ("gap", "objective"):
            raise ValueError(f'values must be "gap" or "objective"; got {values!r}.')
        own, ax = ax is None, new_axes(ax)
        style, marker = _LOOKS[sum(line.get_gid() == _TAG for line in ax.lines) % len(_LOOKS)]
        look: dict[str, Any] = {"where": "post", "linestyle": style, "marker": marker, "markersize": 4}
        proved = "bound for every network" if self.scope == "global" else "bound among the patterns"
        if values == "gap":
            label = f"{self.name} ({proved})" if self.name else None
            (self.line_,) = ax.step(self.seconds, self.gaps(), color=COLOURS["network"], label=label, gid=_TAG, **look)
            ax.set(ylabel="(objective - bound) / objective" + ("" if self.name else f"\n{proved}"), yscale="log")
            ax.set_title("How far the best network is from the proof")
        else:
            self._draw_both(ax, proved, look)
        ax.set_xlabel("time (s)")
        last = max(float(np.asarray(line.get_xdata())[-1]) for line in ax.lines if line.get_gid() == _TAG)
        ax.set_xlim(0.0, 1.04 * last or 1.0)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[1]:
            # One legend for all solves, where that of the first one was.
            for old in [legend for legend in ax.figure.legends if legend.get_gid() == _TAG]:
                own = True
                old.remove()
            legend_below(ax, own=own).set_gid(_TAG)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_both(self, ax: Axes, proved: str, look: dict[str, Any]) -> None:
        """Draw objective and bound; the bound that is proved in the end is a thin line from the start on."""
        of = f", {self.name}" if self.name else ""
        (self.line_,) = ax.step(
            self.seconds, self.objective, color=COLOURS["network"], label=f"best network so far{of}", gid=_TAG, **look
        )
        proved_so_far = np.where(self.bounds > 0.0, self.bounds, np.nan)
        (self.bound_line_,) = ax.step(
            self.seconds, proved_so_far, color=COLOURS["bound"], label=f"{proved}{of}", markerfacecolor="white", **look
        )
        ax.axhline(self.lower_bound, color=COLOURS["bound"], linestyle=look["linestyle"], linewidth=0.6)
        lines = [line for line in ax.lines if line.get_gid() == _TAG]
        seen = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines] + [[self.lower_bound]])
        low, high = float(np.min(seen)), float(np.max(seen))
        room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set(ylabel="objective (loss and weight decay)", ylim=(low - room, high + room))
        ax.ticklabel_format(axis="y", useOffset=False)
        ax.set_title("Best network and proved bound")
