"""Stationarity neuron by neuron: how far each one is from satisfying its first-order conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.landscape import Stationarity, stationarity
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["StationarityDisplay"]

_FLOOR = 1e-17
"""Logarithms need it; residuals of zero are drawn there."""

_NAMED = 16
"""More neurons than this are shown by their numbers alone."""


class StationarityDisplay:
    """First-order residuals of each neuron of a network, against the tolerance of a stationary one.

    Build it by :meth:`from_result` or :meth:`from_network`.

    Parameters
    ----------
    clarke, directional, output : ndarray (m,)
        Residuals of each neuron, relative to the weight decay that acts on it: distance of 0 from Clarke's
        subdifferential, steepest one-sided descent, and imbalance of the output weight.
    kinds : tuple of str
        Kind of each neuron: "active", "dead", "zero", "(w, 0)" or "(0, a)".
    kinks : ndarray (m,) of int
        Number of samples at which each neuron is at its kink.
    output_bias : float or None
        Residual of the output bias; None for problems without one.
    tol : float
        Largest residual of a stationary network.
    is_clarke, is_directional : bool or None
        Verdicts on the network.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[0.0, 1.0], [1.0, -1.0]], [2.0, 2.0], beta=1.0)
    >>> display = StationarityDisplay.from_network(problem, ReLUNetwork([[1.0, 0.0]], [1.0]))
    >>> display.is_clarke, display.is_directional, bool(display.directional[0] > 0.5)
    (True, False, True)
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        clarke: FloatArray,
        directional: FloatArray,
        output: FloatArray,
        kinds: tuple[str, ...],
        kinks: npt.NDArray[np.int64],
        output_bias: float | None,
        tol: float,
        is_clarke: bool | None,
        is_directional: bool | None,
    ) -> None:
        self.clarke, self.directional, self.output = clarke, directional, output
        self.kinds, self.kinks, self.output_bias, self.tol = kinds, kinks, output_bias, tol
        self.is_clarke, self.is_directional = is_clarke, is_directional

    @classmethod
    def from_result(cls, result: Stationarity) -> StationarityDisplay:
        """Take the result of :func:`cvxnn.landscape.stationarity`."""
        if not isinstance(result, Stationarity):
            raise ValueError(f"result must be a Stationarity of landscape.stationarity; got {type(result).__name__}.")
        neurons = result.neurons
        return cls(
            clarke=np.array([neuron.clarke_residual for neuron in neurons]),
            directional=np.array([neuron.directional_residual for neuron in neurons]),
            output=np.array([neuron.output_residual for neuron in neurons]),
            kinds=tuple(neuron.kind for neuron in neurons),
            kinks=np.array([len(neuron.kinks) for neuron in neurons], dtype=np.int64),
            output_bias=None if result.problem.output_bias_decay is None else result.output_bias_residual,
            tol=result.tol,
            is_clarke=result.is_clarke,
            is_directional=result.is_directional,
        )

    @classmethod
    def from_network(cls, problem: Problem, network: ReLUNetwork, **options: Any) -> StationarityDisplay:
        """Call :func:`cvxnn.landscape.stationarity` with these arguments."""
        return cls.from_result(stationarity(problem, network, **options))

    def plot(self, ax: Axes | None = None) -> StationarityDisplay:
        """Draw on ``ax``, or on axes of a new figure."""
        own, ax = ax is None, new_axes(ax, size=(7.2, 4.8))
        index = np.arange(len(self.kinds))
        ax.axhspan(_FLOOR / 10, self.tol, color=COLOURS["optimum"], alpha=0.12, lw=0, label="stationary")
        ax.axhline(self.tol, color=COLOURS["optimum"], lw=1.2)
        series = (
            (self.directional, -0.2, "^", "descent", "directional: steepest descent"),
            (self.clarke, 0.0, "s", "bound", "Clarke: distance of 0 from the hull of gradients"),
            (self.output, 0.2, "o", "network", "output weight: imbalance"),
        )
        for values, shift, marker, colour, label in series:
            style = {"ms": 6, "color": COLOURS[colour], "mec": "black", "mew": 0.6}
            ax.plot(index + shift, self._drawn(values), marker, ls="none", label=label, **style)
        if self.output_bias is not None:
            style = {"ms": 7, "color": COLOURS["network"], "mec": "black", "mew": 0.6, "ls": "none"}
            spot = self._drawn(np.array([self.output_bias]))
            ax.plot([len(index)], spot, "P", label="output bias (rightmost)", **style)
        self._set_axes(ax, index)
        legend_below(ax, own=own)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _drawn(self, values: FloatArray) -> FloatArray:
        """Residuals as they are drawn: zeros on the lower edge, those that overflow on the upper one."""
        return np.clip(values, _FLOOR, self._ceiling())

    def _ceiling(self) -> float:
        every = np.concatenate([self.clarke, self.directional, self.output, [self.tol, self.output_bias or 0.0, 1.0]])
        return 10.0 * float(np.max(every[np.isfinite(every)]))

    def _set_axes(self, ax: Any, index: npt.NDArray[np.int64]) -> None:
        ax.set(yscale="log", ylim=(_FLOOR / 5, 5.0 * self._ceiling()))
        ax.set(xlabel="neuron", ylabel="residual, relative to the neuron's weight decay")
        if 0 < len(index) <= _NAMED:
            names = [_name(i, kind, n) for i, (kind, n) in enumerate(zip(self.kinds, self.kinks, strict=True))]
            ax.set_xticks(index, names, fontsize=8)
            ax.set_xlabel("neuron, its kind and the samples at its kink")
        places = len(index) + (self.output_bias is not None)
        if places:
            ax.set_xlim(-0.6, places - 0.4)
        ax.set_title(f"Stationary: {_word(self.is_clarke)} (Clarke), {_word(self.is_directional)} (in every direction)")
        ax.grid(axis="y", alpha=0.3)


def _name(index: int, kind: str, kinks: int) -> str:
    return f"{index}\n{kind}" + (f"\n{kinks} kink{'' if kinks == 1 else 's'}" if kinks else "")


def _word(verdict: bool | None) -> str:
    return "not decided" if verdict is None else ("yes" if verdict else "no")
