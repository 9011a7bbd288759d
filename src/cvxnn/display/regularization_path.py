"""Optimal networks against weight decay: objective, width, and the mass of each neuron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from cvxnn.display._style import COLOURS, new_axes, pyplot
from cvxnn.landscape import RegularizationPath, regularization_path
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.problem import Problem
from cvxnn.programs.gated import GatedReLUNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["RegularizationPathDisplay"]

_PANELS = ("objective", "width", "masses")
_SAME_NEURON = 0.9
"""Smallest cosine of the angle between directions that are read as one neuron at two weight decays."""


class RegularizationPathDisplay:
    r"""Objective, width and masses of the optimal networks over a range of weight decays.

    Build it by :meth:`from_path` or :meth:`from_problem`.

    Parameters
    ----------
    betas : ndarray (k,)
        Weight decays, decreasing, in the units of the summed loss.
    objectives, lower_bounds, losses : ndarray (k,)
        Objectives, their proved bounds, and the losses among them.
    scopes : tuple of str
        Scope of each bound.
    widths : ndarray (k,) of int
        Numbers of neurons.
    masses, signs : tuple of ndarrays
        For each beta, mass :math:`\|w\||a|` and output sign of each neuron.
    links : tuple of ndarrays (l, 2) of int
        For each step, the pairs of neurons before and after it that are read as one.
    beta_max : float
        From here on the zero network is optimal (the proved upper bound).

    Attributes
    ----------
    ax_ : matplotlib Axes
        The last axes drawn on.
    axes_ : tuple of matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn import Problem
    >>> display = RegularizationPathDisplay.from_problem(Problem([[1.0]], [2.0]), [0.5, 2.0, 1.0])
    >>> display.widths, [m.round(6).tolist() for m in display.masses]
    (array([0, 1, 1]), [[], [1.0], [1.5]])
    """

    ax_: Axes
    axes_: tuple[Axes, ...]
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        betas: FloatArray,
        objectives: FloatArray,
        lower_bounds: FloatArray,
        losses: FloatArray,
        scopes: tuple[str, ...],
        widths: IntArray,
        masses: tuple[FloatArray, ...],
        signs: tuple[FloatArray, ...],
        links: tuple[IntArray, ...],
        beta_max: float,
    ) -> None:
        self.betas, self.objectives, self.lower_bounds, self.losses = betas, objectives, lower_bounds, losses
        self.scopes, self.widths, self.masses, self.signs = scopes, widths, masses, signs
        self.links, self.beta_max = links, beta_max

    @classmethod
    def from_path(cls, path: RegularizationPath) -> RegularizationPathDisplay:
        """Take the result of :func:`cvxnn.landscape.regularization_path`."""
        if not isinstance(path, RegularizationPath):
            raise ValueError(f"path must be a RegularizationPath; got {type(path).__name__}.")
        if not len(path):
            raise ValueError("path has no points; at least one weight decay is needed.")
        nets = path.networks
        return cls(
            betas=path.betas,
            objectives=path.objectives,
            lower_bounds=path.lower_bounds,
            losses=path.losses,
            scopes=path.scopes,
            widths=path.widths,
            masses=tuple(row_norms(net.W) * np.abs(net.a) for net in nets),
            signs=tuple(np.sign(net.a) for net in nets),
            links=tuple(_links(before, after) for before, after in pairwise(nets)),
            beta_max=path.beta_max.upper,
        )

    @classmethod
    def from_problem(
        cls, problem: Problem, betas: npt.ArrayLike | None = None, **options: Any
    ) -> RegularizationPathDisplay:
        """Call :func:`cvxnn.landscape.regularization_path` with these arguments."""
        return cls.from_path(regularization_path(problem, betas, **options))

    def plot(self, ax: Axes | None = None, *, panel: str = "masses") -> RegularizationPathDisplay:
        """Draw three panels on a new figure, or one of them on ``ax``.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        panel : {"objective", "width", "masses"}, default "masses"
            What is drawn on ``ax``.
        """
        if panel not in _PANELS:
            raise ValueError(f"panel must be one of {', '.join(_PANELS)}; got {panel!r}.")
        if ax is None:
            figure = pyplot().figure(figsize=(7.2, 7.6), layout="constrained")
            axes = tuple(figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 3)))
            chosen = dict(zip(_PANELS, axes, strict=True))
        else:
            axes = (new_axes(ax),)
            chosen = {panel: axes[0]}
        draw = {"objective": self._draw_objective, "width": self._draw_width, "masses": self._draw_masses}
        for name, here in chosen.items():
            draw[name](here)
            label = "zero network from here on" if here is axes[0] else None
            here.axvline(self.beta_max, color=COLOURS["kink"], lw=1, ls="--", label=label)
            here.set(xscale="log")
            here.grid(alpha=0.3)
            here.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)
        axes[-1].set_xlabel("weight decay beta (units of the summed loss)")
        self.axes_, self.ax_, self.figure_ = axes, axes[-1], axes[-1].figure
        return self

    def _draw_objective(self, ax: Any) -> None:
        proved = "every network" if set(self.scopes) == {"global"} else "the patterns met"
        ax.plot(self.betas, self.lower_bounds, "-", lw=5, color=COLOURS["bound"], alpha=0.5, label=f"bound, {proved}")
        ax.plot(self.betas, self.objectives, "o-", ms=4, color=COLOURS["network"], label="objective")
        ax.plot(self.betas, self.losses, "s--", ms=3.5, color=COLOURS["data"], label="loss alone")
        ax.set(ylabel="summed loss")

    def _draw_width(self, ax: Any) -> None:
        ax.plot(self.betas, self.widths, "o-", ms=4, color=COLOURS["network"], label="width")
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.set(ylabel="neurons", ylim=(-0.4, 1.08 * max(int(np.max(self.widths)), 1) + 0.3))

    def _draw_masses(self, ax: Any) -> None:
        for i, pairs in enumerate(self.links):
            for before, after in pairs:
                heights = (self.masses[i][before], self.masses[i + 1][after])
                ax.plot(
                    self.betas[i : i + 2], heights, "-", lw=1.0, color=_colour(float(self.signs[i][before])), alpha=0.6
                )
        for sign, marker, word in ((1.0, "^", "positive"), (-1.0, "v", "negative")):
            spots = [
                (beta, mass)
                for beta, masses, signs in zip(self.betas, self.masses, self.signs, strict=True)
                for mass in masses[signs == sign]
            ]
            if spots:
                style = {"color": _colour(sign), "ms": 5, "mec": "black", "mew": 0.4, "ls": "none"}
                ax.plot(*np.array(spots).T, marker, label=f"neuron, {word}\noutput weight", **style)
        ax.set(ylabel=r"mass $\|w\||a|$ of each neuron")


def _colour(sign: float) -> str:
    return COLOURS["positive" if sign > 0 else "negative"]


def _links(before: ReLUNetwork | GatedReLUNetwork, after: ReLUNetwork | GatedReLUNetwork) -> IntArray:
    """Pairs of neurons of one sign (and one gate) whose directions agree best in sum, and well enough each."""
    if not before.width or not after.width:
        return np.zeros((0, 2), dtype=np.int64)
    first, second = (net.W / np.maximum(row_norms(net.W), np.finfo(float).tiny)[:, None] for net in (before, after))
    alike = np.sign(before.a)[:, None] == np.sign(after.a)
    if isinstance(before, GatedReLUNetwork) and isinstance(after, GatedReLUNetwork):
        alike &= np.all(before.gates[:, None] == after.gates, axis=2)
    cosine = np.where(alike, first @ second.T, -1.0)
    pairs = np.column_stack(linear_sum_assignment(cosine, maximize=True))
    return pairs[cosine[pairs[:, 0], pairs[:, 1]] >= _SAME_NEURON]
