"""Networks of one input as linear splines: the data, the fit, its kinks and its slopes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_one_output
from cvxnn.solution import Solution
from cvxnn.splines import LinearSpline, SplineSolution, network_spline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["SplineDisplay"]

_MARGIN = 0.08
"""Room on both sides of the samples, as a share of their range."""

_ROOM = 0.06
"""Narrower pieces, as a share of the picture, stay without their slope."""

_SAME_KNOT = 1e-7
"""Knots closer than this share of the range of the samples are one: neurons at a sample meet up to rounding."""

_SAME_SLOPE = 1e-7
"""Slopes that differ by less, relative to the largest one, are one slope."""


class SplineDisplay:
    r"""Network of one input, which is a linear spline, with its data.

    The neuron :math:`a (w x + b)_+` bends the fit at its kink :math:`-b/w`; between kinks the fit is a line. Build it
    by :meth:`from_network`, :meth:`from_solution`, :meth:`from_spline` or :meth:`from_estimator`.

    Parameters
    ----------
    x, y : ndarray (n,)
        Samples.
    spline : LinearSpline
        The fit.

    Attributes
    ----------
    knots : ndarray (k,)
        Places where the slope changes, in the units of x.
    slopes : ndarray (k + 1,)
        Slopes between them from left to right, in units of y over units of x.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn.splines import fit_spline
    >>> x, y = [-2.0, -1.0, 0.0, 1.0, 2.0], [2.0, 1.0, 0.0, 1.0, 2.0]
    >>> display = SplineDisplay.from_spline(fit_spline(x, y, beta=0.1), x, y)
    >>> display.knots, display.slopes.round(3)
    (array([0.]), array([-0.929,  0.929]))
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, *, x: FloatArray, y: FloatArray, spline: LinearSpline) -> None:
        self.x, self.y, self.spline = x, y, spline
        # A group of knots ends where the next one is clearly further right.
        ends = np.append(np.diff(spline.knots) > _SAME_KNOT * float(np.ptp(x)), True)[: len(spline.knots)]
        knots, slopes = spline.knots[ends], spline.slopes[np.append(True, ends)]
        bends = np.abs(np.diff(slopes)) > _SAME_SLOPE * float(np.max(np.abs(slopes)))
        self.knots: FloatArray = knots[bends]
        self.slopes: FloatArray = slopes[np.append(True, bends)]

    @classmethod
    def from_spline(cls, spline: LinearSpline | SplineSolution, x: npt.ArrayLike, y: npt.ArrayLike) -> SplineDisplay:
        """Take a spline, or the result of :func:`cvxnn.splines.fit_spline`, and its samples ``(n,)``."""
        fit = spline.spline if isinstance(spline, SplineSolution) else spline
        if not isinstance(fit, LinearSpline):
            raise ValueError(f"spline must be a LinearSpline or a SplineSolution; got {type(spline).__name__}.")
        inputs, targets = as_float_array(x, "x", ndim=1), as_float_array(y, "y", ndim=1)
        if len(inputs) != len(targets):
            raise ValueError(f"x has {len(inputs)} entries but y has {len(targets)}; they must match.")
        return cls(x=inputs, y=targets, spline=fit)

    @classmethod
    def from_network(cls, problem: Problem, network: ReLUNetwork) -> SplineDisplay:
        """Take a network and the problem whose data it fits.

        Raises
        ------
        ValueError
            Where the data are not one column, or one column and a column of ones, or there are several outputs.
        """
        require_one_output(problem, "SplineDisplay")
        X = problem.X
        if X.shape[1] > 2 or (X.shape[1] == 2 and np.any(X[:, 1] != 1.0)):
            raise ValueError(
                "X must be one column, or one column and a column of ones, for its network to be a spline; "
                f"got shape {X.shape}{' and a second column of other numbers' if X.shape[1] == 2 else ''}."
            )
        if isinstance(network, ReLUNetwork) and network.n_features != X.shape[1]:
            raise ValueError(f"network must take the {X.shape[1]} columns of X; it takes {network.n_features}.")
        return cls(x=X[:, 0], y=problem.y, spline=network_spline(network))

    @classmethod
    def from_solution(cls, problem: Problem, solution: Solution) -> SplineDisplay:
        """Take the network of a solution of the problem."""
        return cls.from_network(problem, solution.network)

    @classmethod
    def from_estimator(cls, estimator: Any) -> SplineDisplay:
        """Take the data of a :class:`cvxnn.ReLURegressor` or binary :class:`cvxnn.ReLUClassifier` of one feature.

        Classes are drawn at -1 and +1, and the fit is the decision function.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        if isinstance(estimator.problem_, list):
            raise ValueError(f"estimator must have one output; it has {len(estimator.problem_)}.")
        return cls.from_network(estimator.problem_, estimator.network_)

    def plot(self, ax: Axes | None = None) -> SplineDisplay:
        """Draw on ``ax``, or on axes of a new figure."""
        own, ax = ax is None, new_axes(ax, size=(7.0, 4.6))
        low, high = self._range()
        points = np.sort(np.concatenate([[low, high], self.knots[(self.knots > low) & (self.knots < high)]]))
        ax.plot(self.x, self.y, "o", ms=4.5, color=COLOURS["data"], label="samples", zorder=3)
        ax.plot(points, self.spline(points), "-", lw=2, color=COLOURS["network"], label="network, slopes above")
        changes = np.diff(self.slopes)
        for marker, chosen, text in (("^", changes > 0, "slope rises"), ("v", changes < 0, "slope falls")):
            knots = self.knots[chosen & (self.knots > low) & (self.knots < high)]
            if len(knots):
                style = {"color": COLOURS["kink"], "mec": "black", "ms": 9, "zorder": 4}
                ax.plot(knots, self.spline(knots), marker, label=f"kink, {text}", **style)
        for knot in points[1:-1]:
            ax.axvline(knot, color=COLOURS["kink"], lw=0.8, ls=":", zorder=0)
        ax.set(xlim=(low, high), xlabel="x", ylabel="y and f(x)")
        self._write_slopes(ax, points)
        outside = len(self.knots) - (len(points) - 2)
        more = f", {outside} of them outside of the picture" if outside else ""
        ax.set_title(f"{len(self.knots)} kink{'' if len(self.knots) == 1 else 's'}{more}", pad=24)
        legend_below(ax, own=own, ncols=4)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _range(self) -> tuple[float, float]:
        low, high = float(np.min(self.x)), float(np.max(self.x))
        room = _MARGIN * (high - low) or 1.0
        return low - room, high + room

    def _write_slopes(self, ax: Any, points: FloatArray) -> None:
        """Write the slope of each piece above the picture, where the piece is wide enough."""
        first = int(np.sum(self.knots <= points[0]))
        for index, (left, right) in enumerate(pairwise(points)):
            if right - left >= _ROOM * (points[-1] - points[0]):
                text = f"{self.slopes[first + index]:+.2g}"
                place = (0.5 * (left + right), 1.02)
                style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": COLOURS["network"]}
                ax.annotate(text, place, xycoords=("data", "axes fraction"), **style)
