"""Course of a solve: objective, proved bound and gap against time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn.display._style import COLOURS, new_axes
from cvxnn.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["GapDisplay"]


class GapDisplay:
    """Distance of the best objective from the proved bound, against time.

    Build it by :meth:`from_solution` or :meth:`from_estimator`; the data are kept apart from the drawing.

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

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D

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

    def __init__(self, *, seconds: FloatArray, objective: FloatArray, lower_bound: float, scope: str) -> None:
        self.seconds, self.objective = seconds, objective
        self.lower_bound, self.scope = lower_bound, scope

    @classmethod
    def from_solution(cls, solution: Solution) -> GapDisplay:
        """Take the data of a solution."""
        course, last = solution.history, solution.certificate
        seconds = course.seconds if len(course) else np.zeros(1)
        objective = np.minimum.accumulate(course.objective) if len(course) else np.array([last.objective])
        # The certificate counts the weights that are returned.
        objective = np.append(objective, last.objective)
        seconds = np.append(seconds, seconds[-1])
        return cls(seconds=seconds, objective=objective, lower_bound=last.lower_bound, scope=last.scope)

    @classmethod
    def from_estimator(cls, estimator: Any) -> GapDisplay:
        """Take the data of a fitted :class:`cvxnn.ReLURegressor` or :class:`cvxnn.ReLUClassifier`."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        return cls.from_solution(estimator.solution_)

    def gaps(self) -> FloatArray:
        """Relative distance of each objective from the bound, ``(k,)``; not below 1e-16, which logarithms need."""
        distance = (self.objective - self.lower_bound) / np.maximum(np.abs(self.objective), np.finfo(float).tiny)
        return np.maximum(distance, 1e-16)

    def plot(self, ax: Axes | None = None) -> GapDisplay:
        """Draw on ``ax``, or on axes of a new figure."""
        ax = new_axes(ax)
        proved = "bound for every network" if self.scope == "global" else "bound among the patterns"
        (self.line_,) = ax.step(
            self.seconds, self.gaps(), where="post", marker="o", markersize=3, color=COLOURS["network"]
        )
        ax.set(xlabel="time (s)", ylabel=f"(objective - bound) / objective\n{proved}", yscale="log")
        ax.set_title("How far the best network is from the proof")
        ax.grid(alpha=0.3)
        self.ax_, self.figure_ = ax, ax.figure
        return self
