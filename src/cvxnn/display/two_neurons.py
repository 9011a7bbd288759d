"""The surface of a two-neuron network, with the convex program of each region: why training is convex in disguise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.display._surfaces import draw_contours, draw_surface, grid_size, height_levels, log_heights
from cvxnn.display._two_neurons import CriticalPoint, Region, critical_points, regions, surface
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.training import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["TwoNeuronDisplay"]

_PROVED = 1e-6
_TIE = 1e-9
_REACH = 1.8
_DECADES = 2.5
_FEW = 3
"""Patterns of at most so many samples are written out as diagonals."""


class TwoNeuronDisplay:
    r"""Objective of two balanced neurons on data with one feature, and the optimum of each activation region.

    .. math:: L(z_1, z_2) = \mathrm{loss}\big(s_1 (X z_1)_+ + s_2 (X z_2)_+\big) + \beta (|z_1| + |z_2|),
              \qquad z_i = |a_i| w_i,\ s_i = \mathrm{sgn}\, a_i

    This is the objective of the network with :math:`|w_i| = |a_i|`, the best scaling of each neuron. It is not convex,
    but on each quadrant both activation patterns are fixed and it is the objective of a convex program. The global
    optimum is the best of the four; the others may be local minima in which a descent ends.

    Build it by :meth:`from_problem`; the data are kept apart from the drawing.

    Parameters
    ----------
    problem : Problem
    signs : ndarray (2,)
        Signs of the output weights.
    z : ndarray (p,)
        Grid of either coordinate, in units of y per unit of x.
    values : ndarray (p, p)
        Objective at ``(z[j], z[i])``.
    regions : sequence of Region
        The four quadrants: patterns, optima, optimal value, and whether these are local minima of the surface.
    critical : sequence of CriticalPoint
        Points with 0 in Clarke's subdifferential, apart from the inner points of segments of optima.
    lower_bound : float
        Proved lower bound over ReLU networks of every width and of any signs.
    paths : mapping of str to ndarray (k, 2)
        Curves on the surface.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn import Problem
    >>> display = TwoNeuronDisplay.from_problem(Problem([[-1.0], [2.0]], [1.0, 2.0], beta=0.1))
    >>> [round(region.objective, 3) for region in display.regions]
    [0.599, 0.194, 0.194, 2.095]
    >>> display.best.tolist(), display.is_global
    ([[0.975, -0.9], [-0.9, 0.975]], True)
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        problem: Problem,
        signs: FloatArray,
        z: FloatArray,
        values: FloatArray,
        regions: Sequence[Region],
        critical: Sequence[CriticalPoint],
        lower_bound: float,
        paths: Mapping[str, FloatArray],
    ) -> None:
        self.problem, self.signs, self.z, self.values = problem, signs, z, values
        self.regions, self.critical = tuple(regions), tuple(critical)
        self.lower_bound, self.paths = lower_bound, dict(paths)

    @classmethod
    def from_problem(
        cls,
        problem: Problem,
        signs: npt.ArrayLike = (1.0, 1.0),
        *,
        paths: Mapping[str, Sequence[ReLUNetwork]] | None = None,
        resolution: int = 121,
        reach: float | None = None,
    ) -> TwoNeuronDisplay:
        """Compute the surface, its critical points, the convex program of each region, and a bound for all networks.

        Parameters
        ----------
        problem : Problem
            With one feature, one output, no output bias, and ``beta > 0``; two samples make the picture that explains
            the idea.
        signs : array-like (2,), default (1, 1)
            Signs of the two output weights, +1 or -1.
        paths : mapping of str to sequence of ReLUNetwork, optional
            Courses of networks of width 2 with these output signs, drawn at ``z_i = |a_i| w_i``.
        resolution : int, default 121
            Points of the grid along each axis.
        reach : float, optional
            The grid goes from ``-reach`` to ``reach``; by default somewhat beyond all critical points and paths.

        Raises
        ------
        ValueError
            On other problems or signs, or a path whose networks do not fit.
        """
        require_one_output(problem, "TwoNeuronDisplay")
        require_no_output_bias(problem, "TwoNeuronDisplay")
        if problem.n_features != 1:
            raise ValueError(f"TwoNeuronDisplay needs data with one feature; X has {problem.n_features} columns.")
        if problem.beta == 0.0:
            raise ValueError("beta is 0; TwoNeuronDisplay needs beta > 0 (a small one shows the surface of the loss).")
        s = as_float_array(signs, "signs", ndim=1)
        if s.shape != (2,) or not np.all(np.abs(s) == 1.0):
            raise ValueError(f"signs must be two numbers +1 or -1; got {s.tolist()}.")
        count = grid_size(resolution)
        found = regions(problem, s)
        critical = critical_points(problem, s, found)
        curves = {name: _positions(networks, s, name) for name, networks in (paths or {}).items()}
        if reach is None:
            seen = [region.ends for region in found] + [point.position[None] for point in critical]
            reach = _REACH * float(np.abs(np.concatenate([*seen, *curves.values()])).max()) or 1.0
        reach = as_number(reach, "reach", minimum=0.0, inclusive=False)
        z = np.linspace(-reach, reach, count)
        grid = np.stack(np.meshgrid(z, z), axis=-1).reshape(-1, 2)
        return cls(
            problem=problem,
            signs=s,
            z=z,
            values=surface(problem, s, grid).reshape(count, count),
            regions=found,
            critical=critical,
            lower_bound=solve(problem, tol=1e-9).global_lower_bound,
            paths=curves,
        )

    @property
    def optimum(self) -> float:
        """Least objective of the surface: the least of the four convex optima."""
        return min(region.objective for region in self.regions)

    @property
    def best(self) -> FloatArray:
        """Points of least objective ``(k, 2)``: the middle of each segment of them that is not part of another."""
        return np.array([region.ends.mean(axis=0) for region in self._best_regions()])

    def _best_regions(self) -> list[Region]:
        """Regions that have the least objective, without those whose optima lie on the segment of another."""
        level = self.optimum + _TIE * abs(self.optimum)
        kept: list[Region] = []
        for region in sorted(self.regions, key=lambda region: -np.linalg.norm(np.diff(region.ends, axis=0))):
            lies_on = [_on_segment(region.ends, other.ends, _TIE * float(self.z[-1])) for other in kept]
            if region.objective <= level and not any(lies_on):
                kept.append(region)
        return kept

    @property
    def is_global(self) -> bool:
        """Whether no ReLU network of any width is better by more than 1e-6 (relative), as the bound proves."""
        return relative_gap(self.optimum, self.lower_bound) <= _PROVED

    def network(self, point: npt.ArrayLike) -> ReLUNetwork:
        """Balanced network of width 2 at a point ``(2,)``."""
        z = as_float_array(point, "point", ndim=1)
        if z.shape != (2,):
            raise ValueError(f"point must hold two coordinates; got shape {z.shape}.")
        root = np.sqrt(np.abs(z))
        return ReLUNetwork((np.sign(z) * root)[:, None], self.signs * root)

    def plot(self, ax: Axes | None = None, *, three: bool = False) -> TwoNeuronDisplay:
        """Draw contours on ``ax``, or a surface where ``three``; on a new figure without ``ax``.

        The heights are those above the proved lower bound, in the logarithm; a path begins at its dot.
        """
        own, ax = ax is None, new_axes(ax, size=(7.6, 7.2), three=three)
        heights = self.values - self.lower_bound
        levels = height_levels(heights, _DECADES)
        draw = draw_surface if three else draw_contours
        draw(ax, self.z, self.z, heights, levels, "objective above the proved lower bound")
        if three:
            turned: Any = ax
            turned.view_init(elev=40.0, azim=-120.0)
        else:
            ax.set_aspect("equal")
            self._name_regions(ax)
        self._draw_kinks(ax, three=three)
        for k, (name, points) in enumerate(self.paths.items()):
            style = {"linestyle": ("-", "--", "-.", ":")[k % 4], "lw": 2, "marker": "o", "ms": 5, "markevery": [0]}
            self._line(ax, points, three=three, color=COLOURS["descent"], zorder=6, label=name, **style)
        self._draw_optima(ax, three=three)
        ax.set(
            xlabel="$z_1 = |a_1|\\,w_1$  (units of y per unit of x)",
            ylabel="$z_2 = |a_2|\\,w_2$  (units of y per unit of x)",
            title="Two neurons: a convex program in each region",
        )
        legend_below(ax, own=own)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def plot_fits(self, ax: Axes | None = None) -> TwoNeuronDisplay:
        """Draw the data and the function of the network at the best optima and at each local minimum of a region.

        At a segment of optima the function is the same at all its points. Functions that agree are drawn once.
        """
        own, ax = ax is None, new_axes(ax)
        x = self.problem.X[:, 0]
        grid = np.union1d(1.2 * np.linspace(min(x.min(), 0.0), max(x.max(), 0.0), 101), 0.0)
        proved = "global optimum, proved" if self.is_global else "best of the surface"
        best = self._best_regions()
        drawn: list[FloatArray] = []
        for region in sorted(self.regions, key=lambda region: region.objective):
            fit = self.network(region.ends.mean(axis=0))(grid[:, None])
            size = max(float(np.abs(fit).max()), np.finfo(np.float64).tiny)
            if not region.is_minimum or any(np.max(np.abs(fit - other)) <= _TIE * size for other in drawn):
                continue
            # Thin lines over a wide one: both are seen where functions agree in part.
            kind = {"color": COLOURS["network"], "lw": 2, "linestyle": ("--", "-.", ":")[(len(drawn) - 1) % 3]}
            name = "local minimum"
            if region in best:
                kind, name = {"color": COLOURS["optimum"], "lw": 6}, proved
            ax.plot(grid, fit, label=f"{name}, objective {region.objective:.4g}", zorder=3, **kind)
            drawn.append(fit)
        ax.plot(x, self.problem.y, "o", color=COLOURS["data"], zorder=4, label="data")
        ax.set(xlabel="x", ylabel="y, output of the network", title="The same two neurons as functions")
        ax.grid(alpha=0.3)
        legend_below(ax, own=own, ncols=1)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _line(self, ax: Any, points: FloatArray, *, three: bool, **style: Any) -> None:
        """Draw points ``(k, 2)``, on the surface in three dimensions."""
        height = []
        if three:
            levels = height_levels(self.values - self.lower_bound, _DECADES)
            height = [log_heights(surface(self.problem, self.signs, points) - self.lower_bound, levels)]
        ax.plot(*points.T, *height, **style)

    def _draw_kinks(self, ax: Any, *, three: bool) -> None:
        label = "a neuron switches: borders of the regions"
        for k, unit in enumerate(np.eye(2)):
            points = self.z[:, None] * unit
            self._line(ax, points, three=three, color=COLOURS["kink"], lw=1.5, zorder=5, label=None if k else label)

    def _draw_optima(self, ax: Any, *, three: bool) -> None:
        """Draw segments and points of optima, each kind with one entry of the legend."""
        seen: set[str] = set()

        def mark(points: FloatArray, label: str, **style: Any) -> None:
            self._line(ax, points, three=three, label=None if label in seen else label, **style)
            seen.add(label)

        best, line = self._best_regions(), {"lw": 4, "solid_capstyle": "round", "zorder": 8}
        point = {"linestyle": "none", "markeredgecolor": "white", "zorder": 8}
        level = self.optimum + _TIE * abs(self.optimum)
        for region in self.regions:
            style = line if np.any(region.ends[0] != region.ends[1]) else {"marker": "s", "ms": 9, **point}
            if region.objective > level and region.is_minimum:
                mark(_course(region), "optimum of its region only: local minimum", color=COLOURS["network"], **style)
        for corner in self.critical:
            if not corner.is_minimum:
                hollow = {"marker": "o", "ms": 8, "mfc": "white", "mec": COLOURS["network"], "linestyle": "none"}
                mark(corner.position[None], "critical, yet downhill to one side", zorder=9, **hollow)
        proved = "global optimum, proved for every width"
        text = f"{proved if self.is_global else 'best of the surface, not of all networks'}: {self.optimum:.4g}"
        for region in best:
            if np.any(region.ends[0] != region.ends[1]):
                self._line(ax, _course(region), three=three, color=COLOURS["optimum"], **line)
            star = {**point, "marker": "*", "ms": 18, "zorder": 10}
            mark(region.ends.mean(axis=0)[None], text, color=COLOURS["optimum"], **star)

    def _name_regions(self, ax: Axes) -> None:
        """Write patterns and optimal value into the corner of each region."""
        for region in self.regions:
            lines = [f"$D_{i + 1}$: {_pattern(mask)}" for i, mask in enumerate(region.masks)]
            text = "\n".join([*lines, f"convex optimum {region.objective:.4g}"])
            corner = 0.5 + 0.48 * region.cells
            ax.text(
                corner[0],
                corner[1],
                text,
                transform=ax.transAxes,
                ha="right" if region.cells[0] > 0 else "left",
                va="top" if region.cells[1] > 0 else "bottom",
                fontsize=8,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
                zorder=7,
            )


def _course(region: Region) -> FloatArray:
    """Ends of the segment of optima, or the only optimum, ``(k, 2)``."""
    return region.ends if np.any(region.ends[0] != region.ends[1]) else region.ends[:1]


def _on_segment(points: FloatArray, ends: FloatArray, tol: float) -> bool:
    """Whether all points lie on the segment between the ends, to within ``tol``."""
    along = ends[1] - ends[0]
    share = np.clip((points - ends[0]) @ along / max(float(along @ along), np.finfo(np.float64).tiny), 0.0, 1.0)
    return bool(np.all(np.abs(points - ends[0] - share[:, None] * along) <= tol))


def _pattern(mask: npt.NDArray[np.bool_]) -> str:
    if len(mask) <= _FEW:
        return "diag(" + ", ".join(str(int(bit)) for bit in mask) + ")"
    return f"{int(mask.sum())} of {len(mask)} samples"


def _positions(networks: Sequence[ReLUNetwork], signs: FloatArray, name: str) -> FloatArray:
    """Points of a course of networks."""
    points = []
    for network in networks:
        if not isinstance(network, ReLUNetwork) or network.W.shape != (2, 1) or network.a.shape != (2,):
            raise ValueError(f"The path {name!r} must hold ReLUNetworks of width 2 with one feature; got {network!r}.")
        if np.any(network.a * signs < 0):
            raise ValueError(
                f"The path {name!r} has output weights {network.a.tolist()}; signs are {signs.astype(int).tolist()}."
            )
        points.append(np.abs(network.a) * network.W[:, 0])
    if not points:
        raise ValueError(f"The path {name!r} holds no network; at least one is needed.")
    return np.array(points)
