"""The staircase of connectivity: components of the optimal networks at each width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.landscape import OptimalSet, Staircase, StaircaseRow, Transition, staircase
from cvxnn.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["StaircaseDisplay"]

_MARKERS = {
    (False, False): ("x", "no optimal network"),
    (True, False): ("o", "only isolated networks"),
    (True, True): ("D", "isolated networks and continua"),
    (False, True): ("s", "only continua"),
}
"""Marker of a row by whether it has isolated networks, and continua."""

_LARGEST_POWER = 300
"""Numbers from ``10**300`` on have no place on an axis of doubles and are drawn there."""


class StaircaseDisplay:
    """Number of connected components of the optimal networks against their width, with the critical widths.

    Build it by :meth:`from_rows` or :meth:`from_problem`.

    Parameters
    ----------
    rows : tuple of StaircaseRow
        Components by rising width, up to permutations of the neurons and among labelled networks.
    transitions : tuple of Transition
        Critical widths.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Kim, Mishkin and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality".

    Examples
    --------
    >>> import math
    >>> from cvxnn import Problem
    >>> root = math.sqrt(3.0)
    >>> display = StaircaseDisplay.from_problem(Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2))
    >>> display.components, display.critical_widths()[3]
    ([1, 2, 1, 1], ['M* + 1', 'first connected width', 'min(m* + M*, rank + 1)', 'r_eff + 1'])
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, *, rows: tuple[StaircaseRow, ...], transitions: tuple[Transition, ...]) -> None:
        self.rows, self.transitions = rows, transitions

    @classmethod
    def from_rows(cls, stairs: Staircase) -> StaircaseDisplay:
        """Take the result of :func:`cvxnn.landscape.staircase`."""
        if not isinstance(stairs, Staircase):
            raise ValueError(f"stairs must be a Staircase of landscape.staircase; got {type(stairs).__name__}.")
        if not len(stairs):
            raise ValueError("stairs has no rows; at least one width is needed.")
        return cls(rows=stairs.rows, transitions=stairs.transitions)

    @classmethod
    def from_problem(cls, problem: Problem | OptimalSet, **options: Any) -> StaircaseDisplay:
        """Call :func:`cvxnn.landscape.staircase` with these arguments."""
        return cls.from_rows(staircase(problem, **options))

    @property
    def widths(self) -> list[int]:
        """Widths of the rows."""
        return [row.width for row in self.rows]

    @property
    def components(self) -> list[int]:
        """Components up to permutations of the neurons."""
        return [row.components for row in self.rows]

    @property
    def labelled_components(self) -> list[int]:
        """Components of the networks themselves."""
        return [row.labelled_components for row in self.rows]

    def critical_widths(self) -> dict[int, list[str]]:
        """Names of the critical widths by their width, in rising order."""
        found: dict[int, list[str]] = {}
        for transition in self.transitions:
            found.setdefault(transition.width, []).append(transition.name)
        return found

    def plot(self, ax: Axes | None = None) -> StaircaseDisplay:
        """Draw on ``ax``, or on axes of a new figure. Critical widths beyond the rows are left out."""
        own, ax = ax is None, new_axes(ax, size=(8.2, 4.8))
        critical = {w: names for w, names in self.critical_widths().items() if w in self.widths}
        for width in critical:
            ax.axvline(width, color=COLOURS["bound"], lw=0.8, ls=":", zorder=0)
        self._draw_stairs(ax, self.labelled_components, COLOURS["network"], "--", "networks themselves")
        self._draw_stairs(ax, self.components, COLOURS["optimum"], "-", "up to the order of the neurons")
        for kind, (marker, text) in _MARKERS.items():
            rows = [r for r in self.rows if (r.isolated_points, r.continuum) == kind]
            if rows:
                x, y = [r.width for r in rows], [_size(r.components) for r in rows]
                style = {"color": COLOURS["optimum"], "mec": "black", "ms": 8, "zorder": 4, "clip_on": False}
                if marker == "x":
                    style |= {"mec": COLOURS["optimum"], "mew": 2}
                ax.plot(x, y, marker, ls="none", label=text, **style)
        self._set_axes(ax, critical)
        legend_below(ax, own=own)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_stairs(self, ax: Any, counts: list[int], colour: str, style: str, label: str) -> None:
        first, last = self.widths[0], self.widths[-1]
        heights = np.full(last - first + 1, np.nan)
        # Widths that were not asked for stay empty.
        heights[np.array(self.widths) - first] = [_size(count) for count in counts]
        edges = np.arange(first, last + 2) - 0.5
        look = {"color": colour, "ls": style, "lw": 1.8, "label": f"components, {label}"}
        ax.stairs(heights, edges, baseline=None, **look)

    def _set_axes(self, ax: Any, critical: dict[int, list[str]]) -> None:
        top = max(_size(count) for count in [*self.labelled_components, *self.components, 1])
        # The logarithm begins at one, so that no component has its place, too.
        ax.set_yscale("symlog", linthresh=1.0, linscale=0.3)
        ax.set_ylim(-0.15, 3.0 * top)
        last = math.ceil(math.log10(top))
        powers = range(0, last + 1, max(1, last // 6))
        ax.set_yticks([0.0, *(10.0**p for p in powers)], ["0", *(_power(p) for p in powers)])
        ax.set_yticks(_minor(top), minor=True)
        step = max(1, len(self.widths) // 12)
        ax.set_xticks(self.widths[::step])
        ax.set(xlabel="width m (neurons)", ylabel="connected components of the optimal networks")
        lines = ["Critical widths (dotted)"]
        for width, names in critical.items():
            lines += ["", f"m = {width}", *(f"  {name}" for name in names)]
        ax.annotate("\n".join(lines), (1.02, 1.0), xycoords="axes fraction", ha="left", va="top", fontsize=8)


def _size(count: int) -> float:
    return float(count) if count < 10**_LARGEST_POWER else 10.0**_LARGEST_POWER


def _power(power: int) -> str:
    return str(10**power) if power < 3 else f"$10^{{{power}}}$"


def _minor(top: float) -> list[float]:
    """Ticks at 2, 3, ..., 9 times powers of ten, where these are few."""
    last = int(math.log10(top))
    return [k * 10.0**p for p in range(last + 1) for k in range(2, 10)] if last < 8 else []
