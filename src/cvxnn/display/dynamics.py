"""Training dynamics: the network, its neurons and their patterns as gradient descent goes on; pictures and films."""

from __future__ import annotations

from copy import copy
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_number
from cvxnn.display._dynamics_data import curves, kinks, positions
from cvxnn.display._dynamics_page import write_page
from cvxnn.display._film import LEAST_DPI, LEAST_RATE, film_kind, frames_of, write_film
from cvxnn.display._style import COLOURS, pyplot
from cvxnn.landscape.dynamics import Dynamics, line_columns

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["DynamicsDisplay"]

_LEGEND: Final[dict[str, Any]] = {
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "ncols": 2,
    "frameon": False,
    "fontsize": "small",
    "columnspacing": 1.0,
    "borderaxespad": 0.1,
}
"""Above the panel, where it covers no data."""

_WIDE = 2.5
"""Ratio of heights from which on they are drawn on a logarithmic axis; below, its ticks are no round numbers."""


class DynamicsDisplay:
    """A run of gradient descent in four panels: fit, objective, neurons, activation patterns.

    Build it by :meth:`from_dynamics`; the data are kept apart from the drawing. For data on a line (one input and a
    constant column) the fit is a curve and each neuron stands at the input where it switches; for two features each
    neuron stands at its weight vector; otherwise at the angle by which it has turned.

    Parameters
    ----------
    steps : ndarray (T,) of int
        Recorded steps.
    objective, loss : ndarray (T,)
    optimum_steps : ndarray (K,) of int
        Steps at which the convex program on the current patterns was solved; may be empty.
    optima : ndarray (K,)
        Its optima.
    lower_bound : float
        Bound that holds for every network; 0 where none is known.
    n_patterns : ndarray (T,) of int
    changed : ndarray (T,)
        Share of activations that are not those of the start.
    neurons : ndarray (T, m, 2)
        Positions of the neurons; NaN where a neuron has none.
    positive : ndarray (T, m) of bool
        Whether the (first) output weight is positive.
    neuron_labels : tuple of two str
        What the positions are.
    samples : ndarray (n, 2)
        Input and target of each sample on a line; otherwise target and target.
    curves : ndarray (T, G, 2)
        Points of the fit: input and output along a line; otherwise target and output of each sample.
    on_line : bool
        Whether the data lie on a line.
    has_labels : bool
        Whether the targets are labels, which outputs need not equal.
    kinks : ndarray (T, m, 2), optional
        On a line with few neurons: points of the fit at which the neurons switch, NaN where one never does.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Panel of the fit.
    axes_ : list of matplotlib Axes
        Panels of fit, objective, neurons and patterns.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn import Problem, landscape
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.01)
    >>> display = DynamicsDisplay.from_dynamics(landscape.dynamics(problem, width=5, steps=10))
    >>> display.neurons.shape, display.neuron_labels[0]
    ((11, 5, 2), 'input at which the neuron switches (units of the data)')
    """

    ax_: Axes
    axes_: list[Axes]
    figure_: Figure

    def __init__(
        self,
        *,
        steps: IntArray,
        objective: FloatArray,
        loss: FloatArray,
        optimum_steps: IntArray,
        optima: FloatArray,
        lower_bound: float,
        n_patterns: IntArray,
        changed: FloatArray,
        neurons: FloatArray,
        positive: BoolArray,
        neuron_labels: tuple[str, str],
        samples: FloatArray,
        curves: FloatArray,
        on_line: bool,
        has_labels: bool,
        kinks: FloatArray | None = None,
    ) -> None:
        self.steps, self.objective, self.loss = steps, objective, loss
        self.optimum_steps, self.optima, self.lower_bound = optimum_steps, optima, lower_bound
        self.n_patterns, self.changed = n_patterns, changed
        self.neurons, self.positive, self.neuron_labels = neurons, positive, neuron_labels
        self.samples, self.curves, self.on_line, self.has_labels = samples, curves, on_line, has_labels
        self.kinks = kinks

    @classmethod
    def from_dynamics(cls, dynamics: Dynamics) -> DynamicsDisplay:
        """Take the data of a run.

        Raises
        ------
        ValueError
            When the weights of the run were not kept.
        """
        problem, run = dynamics.problem, dynamics
        if run.weights is None:
            raise ValueError("the weights of the run were not kept; run dynamics with keep_weights=True.")
        neurons, labels = positions(run)
        columns = line_columns(problem.X) if problem.n_outputs == 1 else None
        if columns is None:
            target = problem.y.ravel()
            samples = np.column_stack([target, target])
            drawn = np.stack([np.column_stack([target, fit.ravel()]) for fit in run.fits])
        else:
            samples = np.column_stack([problem.X[:, columns[0]], problem.y])
            drawn = curves(run, columns)
        trajectory = run.trajectory
        return cls(
            steps=run.steps,
            objective=run.objective,
            loss=run.loss,
            optimum_steps=run.steps[run.optimum_records],
            optima=np.zeros(0) if trajectory is None else trajectory.optima,
            lower_bound=0.0 if trajectory is None else trajectory.global_lower_bound,
            n_patterns=run.n_patterns,
            changed=run.changed,
            neurons=neurons,
            positive=run.outputs.reshape(*run.norms.shape, -1)[:, :, 0] > 0,
            neuron_labels=labels,
            samples=samples,
            curves=drawn,
            kinks=None if columns is None else kinks(run, columns),
            on_line=columns is not None,
            has_labels=problem.loss.labels or not problem.loss.entrywise,
        )

    @property
    def fit_labels(self) -> tuple[str, str]:
        """Labels of the panel of the fit."""
        output = "output (before the loss)" if self.has_labels else "output (units of the target)"
        return "input" if self.on_line else "label" if self.has_labels else "target", output

    @property
    def is_logarithmic(self) -> bool:
        """Whether objectives and optima are drawn on a logarithmic axis: all positive, and some much larger."""
        heights = np.concatenate([self.objective, self.optima, [self.lower_bound] if self.lower_bound > 0 else []])
        return bool(0.0 < _WIDE * np.min(heights) <= np.max(heights))

    def plot(self, ax: Any = None, *, record: int = -1) -> DynamicsDisplay:
        """Draw the four panels at a record, the last one by default.

        Parameters
        ----------
        ax : sequence of four matplotlib Axes, optional
            For fit, objective, neurons and patterns; those of a new figure without it.
        record : int, default -1
            Position in :attr:`steps`.
        """
        if not -len(self.steps) <= record < len(self.steps):
            raise ValueError(f"record must name one of the {len(self.steps)} records; got {record}.")
        if ax is None:
            figure = pyplot().figure(figsize=(10.0, 7.2), layout="constrained")
            panels = list(figure.subplots(2, 2).ravel())
        else:
            panels = list(np.ravel(ax))
            if len(panels) != 4:
                raise ValueError(f"ax must be four axes (fit, objective, neurons, patterns); got {len(panels)}.")
        self.axes_, self.ax_, self.figure_ = panels, panels[0], panels[0].figure
        self._draw_fit(panels[0])
        self._draw_objective(panels[1])
        self._draw_neurons(panels[2])
        self._draw_patterns(panels[3])
        self._show(record)
        return self

    def animate(self, *, fps: float = 12.0) -> FuncAnimation:
        """Film of :meth:`plot` over all records; keep the result, or it does not run.

        Parameters
        ----------
        fps : float, default 12.0
            Records shown a second.
        """
        rate = as_number(fps, "fps", minimum=0.0, inclusive=False)
        self.plot(record=0)
        # The layout is found once: solving it again takes most of the time of a frame.
        self.figure_.canvas.draw()
        self.figure_.set_layout_engine(None)
        from matplotlib.animation import FuncAnimation

        return FuncAnimation(
            self.figure_, self._show, frames=len(self.steps), interval=1000.0 / rate, blit=False, repeat=True
        )

    def save(self, path: str | PathLike[str], *, fps: float = 12.0, dpi: float = 80.0) -> Path:
        """Write the film as ``.gif`` or ``.mp4``; returns the path.

        Parameters
        ----------
        path : str or path
        fps : float, default 12.0
            Records shown a second, at least 0.01.
        dpi : float, default 80.0
            Pixels per inch, at least 10; the film is 10 by 7.2 inches large.

        Raises
        ------
        ValueError
            On another ending, or an option below its least value.
        RuntimeError
            On ``.mp4`` without the program ffmpeg (the package imageio-ffmpeg brings one), or where ffmpeg fails.
        """
        goal, count = Path(path), len(self.steps)
        film_kind(goal)
        rate = as_number(fps, "fps", minimum=LEAST_RATE)
        size = as_number(dpi, "dpi", minimum=LEAST_DPI)
        # On a figure of its own: one that was drawn before stays as it is.
        film = copy(self).plot(record=0)
        try:
            write_film(goal, frames_of(film.figure_, film._show, count, size), count, rate)
        finally:
            pyplot().close(film.figure_)
        return goal

    def to_html(self, path: str | PathLike[str], *, title: str = "Training dynamics") -> Path:
        """Write one interactive page with a slider over the records, which needs no network; returns the path."""
        return write_page(self, Path(path), title)

    def _draw_fit(self, ax: Axes) -> None:
        if self.on_line:
            ax.scatter(*self.samples.T, color=COLOURS["data"], marker="o", s=28, label="samples", zorder=3)
            (self._fit,) = ax.plot([], [], color=COLOURS["network"], label="network")
            if self.kinks is not None:
                look: dict[str, Any] = {"color": COLOURS["kink"], "markeredgecolor": "black", "markersize": 8}
                (self._kinks,) = ax.plot([], [], "D", label="a neuron switches", zorder=4, **look)
        else:
            if not self.has_labels:
                ax.plot(*_span(self.samples[:, 0]), color=COLOURS["data"], linewidth=1.0, label="exact fit")
            (self._fit,) = ax.plot([], [], "o", color=COLOURS["network"], markersize=4, label="samples")
        low, high = self.fit_view()
        ax.set(xlabel=self.fit_labels[0], ylabel=self.fit_labels[1], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.grid(alpha=0.3)
        ax.legend(**_LEGEND)
        self._caption = ax.set_title("", loc="right", fontsize="medium")

    def _draw_objective(self, ax: Axes) -> None:
        ax.plot(self.steps, self.objective, color=COLOURS["descent"], label="objective of the run")
        if len(self.optima):
            ax.step(
                self.optimum_steps,
                self.optima,
                where="post",
                color=COLOURS["optimum"],
                linestyle="--",
                label="convex optimum of its patterns",
            )
        if self.lower_bound > 0:
            ax.axhline(self.lower_bound, color=COLOURS["bound"], linestyle=":", label="bound for every network")
        scale = "log" if self.is_logarithmic else "linear"
        ax.set(xlabel="step", ylabel="objective (loss and weight decay)", yscale=scale)
        ax.grid(alpha=0.3)
        ax.legend(**_LEGEND)
        (self._cursor,) = ax.plot([], [], "D", color=COLOURS["descent"], markersize=7)

    def _draw_neurons(self, ax: Axes) -> None:
        m = self.neurons.shape[1]
        look: dict[str, Any] = {"linestyle": "", "markersize": 7 if m <= 20 else 5, "alpha": max(0.2, min(1.0, 20 / m))}
        ax.plot(
            *self.neurons[0].T, ".", color=COLOURS["bound"], markersize=3, alpha=look["alpha"], label="at the start"
        )
        (self._up,) = ax.plot([], [], "^", color=COLOURS["positive"], label="output weight > 0", **look)
        (self._down,) = ax.plot([], [], "v", color=COLOURS["negative"], label="output weight < 0", **look)
        low, high = self.neuron_view()
        if self.on_line:
            ax.plot(
                self.samples[:, 0],
                np.zeros(len(self.samples)),
                "|",
                color=COLOURS["data"],
                markersize=14,
                label="samples",
            )
        ax.set(xlabel=self.neuron_labels[0], ylabel=self.neuron_labels[1])
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.grid(alpha=0.3)
        legend = ax.legend(**_LEGEND)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)

    def _draw_patterns(self, ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        (line,) = ax.step(self.steps, self.n_patterns, where="post", color=COLOURS["network"])
        ax.set(xlabel="step", ylabel="distinct activation patterns", ylim=(0, 1.1 * max(self.n_patterns.max(), 1)))
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        share = ax.twinx()
        # The marker of the record lies over both curves.
        share.set_zorder(ax.get_zorder() - 1)
        ax.patch.set_visible(False)
        (dashed,) = share.plot(self.steps, 100.0 * self.changed, "--", color=COLOURS["kink"])
        share.set(ylabel="activations unlike the start (%)", ylim=(0, max(110.0 * self.changed.max(), 1.0)))
        (self._mark,) = ax.plot([], [], "D", color=COLOURS["network"], markersize=7)
        ax.legend(
            [line, dashed],
            ["patterns", "changed activations"],
            **_LEGEND,
        )

    def _show(self, record: int) -> list[Any]:
        """Move what depends on the record."""
        self._fit.set_data(*self.curves[record].T)
        place, positive = self.neurons[record], self.positive[record]
        self._up.set_data(*place[positive].T)
        self._down.set_data(*place[~positive].T)
        self._cursor.set_data([self.steps[record]], [self.objective[record]])
        self._mark.set_data([self.steps[record]], [self.n_patterns[record]])
        self._caption.set_text(f"step {self.steps[record]}")
        moved: list[Any] = [self._fit, self._up, self._down, self._cursor, self._mark, self._caption]
        if self.kinks is not None:
            self._kinks.set_data(*self.kinks[record].T)
            moved.append(self._kinks)
        return moved

    def fit_view(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of the panel of the fit; wild fits of a large start are cut off."""
        points = np.vstack([self.samples, self.curves[-1]])
        low, high = _margin(points)
        if self.on_line:
            low[0], high[0] = self.curves[0][[0, -1], 0]
        return low, high

    def neuron_view(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits of the panel of the neurons over all records."""
        flat = self.neurons.reshape(-1, 2)
        low, high = _margin(flat[np.all(np.isfinite(flat), axis=1)])
        if self.on_line:
            # The samples are marked at height zero.
            low[1], high[1] = min(low[1], -0.05 * high[1]), max(high[1], -0.05 * low[1])
            low[0], high[0] = self.curves[0][[0, -1], 0]
        return low, high


def _span(values: FloatArray) -> tuple[list[float], list[float]]:
    ends = [float(np.min(values)), float(np.max(values))]
    return ends, ends


def _margin(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners of the smallest box around the points, and a little more."""
    if len(points) == 0:
        return np.full(2, -1.0), np.full(2, 1.0)
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    room = 0.08 * np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    return low - room, high + room
