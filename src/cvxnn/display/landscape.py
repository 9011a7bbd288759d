"""Loss landscape over a plane in the space of all weights, with networks and paths seen in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.display._legend import legend_below
from cvxnn.display._plane import (
    PlanePath,
    PlanePoint,
    WeightPlane,
    flat_weights,
    matching_order,
    require_moderate,
    require_same_shape,
)
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.display._surfaces import draw_contours, draw_surface, grid_size, height_levels, log_heights
from cvxnn.landscape.network_path import NetworkPath
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]
Paths = Mapping[str, NetworkPath | Sequence[ReLUNetwork]]

__all__ = ["LandscapeDisplay"]

_PROVED = 1e-6
"""Relative gap up to which a network counts as optimal."""

_PATH_TIMES = 201
_DECADES = 3.5
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")


class LandscapeDisplay:
    r"""Objective on a plane of networks of one width, :math:`L(\theta_0 + s\,e_1 + t\,e_2)`.

    The directions :math:`e_1, e_2` are orthonormal in the space of all weights, so that distances in the picture are
    Euclidean distances of weights. Networks and paths beside the plane are seen in projection; their distance from the
    plane and their own objective are kept, too.

    Build it by :meth:`from_networks` or :meth:`from_directions`; the data are kept apart from the drawing.

    Parameters
    ----------
    plane : WeightPlane
        Problem, network at the origin, and basis.
    s, t : ndarray (p,), (q,)
        Coordinates of the grid.
    values : ndarray (q, p)
        Objective at ``(s[j], t[i])``.
    lower_bound : float or None
        Proved lower bound over networks of every width.
    points : sequence of PlanePoint
        Networks: name, kind, position, residual distance, objective.
    paths : sequence of PlanePath
        Paths: the same for each of their networks.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[1.0]], [1.0], beta=0.5)
    >>> nets = [ReLUNetwork([[w]], [a]) for w, a in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))]
    >>> display = LandscapeDisplay.from_networks(problem, *nets, resolution=5, margin=0.5)
    >>> display.values.shape, [point.position.tolist() for point in display.points]
    ((5, 5), [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        plane: WeightPlane,
        s: FloatArray,
        t: FloatArray,
        values: FloatArray,
        lower_bound: float | None,
        points: Sequence[PlanePoint],
        paths: Sequence[PlanePath],
    ) -> None:
        self.plane, self.s, self.t, self.values = plane, s, t, values
        self.lower_bound, self.points, self.paths = lower_bound, tuple(points), tuple(paths)

    @classmethod
    def from_networks(
        cls,
        problem: Problem,
        a: ReLUNetwork,
        b: ReLUNetwork,
        c: ReLUNetwork,
        *,
        names: Sequence[str] = ("A", "B", "C"),
        match: bool = False,
        paths: Paths | None = None,
        lower_bound: float | None = None,
        resolution: int = 81,
        margin: float = 0.25,
    ) -> LandscapeDisplay:
        """Plane through three networks of one width.

        The order of the neurons does not change a network, but it changes where its weights lie: without ``match``, two
        networks that differ in the order alone are far apart in the picture.

        Parameters
        ----------
        problem : Problem
        a, b, c : ReLUNetwork
            ``a`` is the origin, and ``b`` lies on the first axis.
        names : sequence of str
            Names of the three in the picture.
        match : bool, default False
            Put the neurons of ``b`` and ``c`` into the order in which their weights come closest to those of ``a``, in
            the sum of squares. Each path takes, as a whole, that order of the three which leads closest to the plane.
        paths : mapping of str to NetworkPath or sequence of ReLUNetwork, optional
            Curves to be seen in the plane, by name; a sequence of networks is the course of a descent.
        lower_bound : float, optional
            Proved lower bound over networks of every width, such as ``solve(problem).global_lower_bound``. Heights are
            counted from it, and networks that attain it are marked as optima.
        resolution : int, default 81
            Points of the grid along each axis.
        margin : float, default 0.25
            Part of the extent of networks and paths by which the grid reaches beyond them, on each side.

        Raises
        ------
        ValueError
            When the networks differ in shape, lie on one line (as equal ones do), one of them lies below
            ``lower_bound``, or weights or objectives overflow.
        """
        require_problem(problem)
        if len(names) != 3:
            raise ValueError(f"names must hold three names; got {len(names)}.")
        for network, name in ((a, "a"), (b, "b"), (c, "c")):
            require_same_shape(a if isinstance(a, ReLUNetwork) else network, network, name)
            _require_moderate(problem, network, name)
        orders = [matching_order(a, network) for network in (a, b, c)] if match else []
        if match:
            b, c = b.permuted(orders[1]), c.permuted(orders[2])
        origin = flat_weights(a)
        plane = WeightPlane.spanned(problem, a, flat_weights(b) - origin, flat_weights(c) - origin)
        networks = dict(zip(names, (a, b, c), strict=True))
        return cls._computed(plane, networks, paths, lower_bound, resolution, margin, extent=0.0, orders=orders)

    @classmethod
    def from_directions(
        cls,
        problem: Problem,
        network: ReLUNetwork,
        d1: tuple[npt.ArrayLike, npt.ArrayLike],
        d2: tuple[npt.ArrayLike, npt.ArrayLike],
        *,
        extent: float | None = None,
        name: str = "network",
        paths: Paths | None = None,
        lower_bound: float | None = None,
        resolution: int = 81,
        margin: float = 0.1,
    ) -> LandscapeDisplay:
        """Plane through a network along two directions ``(dW, da)`` of its weights, which are orthonormalised.

        Parameters
        ----------
        problem : Problem
        network : ReLUNetwork
            Network at the origin.
        d1, d2 : pairs of arrays (m, d) and (m,) or (m, c)
            Directions, such as random ones or the ``descent_direction`` of :func:`cvxnn.landscape.stationarity`.
        extent : float, optional
            The grid reaches at least from ``-extent`` to ``extent`` on both axes, in the units of the weights; by
            default the Euclidean norm of all weights (1 for the zero network).
        name : str, default "network"
        paths, lower_bound, resolution, margin
            As for :meth:`from_networks`.

        Raises
        ------
        ValueError
            When a direction does not fit the network, the two are collinear, ``lower_bound`` is none, or weights or
            objectives overflow.
        """
        require_problem(problem)
        require_same_shape(network, network, "network")
        _require_moderate(problem, network, "network")
        origin = flat_weights(network)
        reach = float(np.linalg.norm(origin)) or 1.0
        if extent is not None:
            reach = as_number(extent, "extent", minimum=0.0, inclusive=False)
        one, two = _flat_direction(network, d1, "d1"), _flat_direction(network, d2, "d2")
        plane = WeightPlane.spanned(problem, network, one, two)
        return cls._computed(plane, {name: network}, paths, lower_bound, resolution, margin, extent=reach)

    @classmethod
    def _computed(
        cls,
        plane: WeightPlane,
        networks: Mapping[str, ReLUNetwork],
        paths: Paths | None,
        lower_bound: float | None,
        resolution: int,
        margin: float,
        *,
        extent: float,
        orders: Sequence[npt.NDArray[np.int64]] = (),
    ) -> LandscapeDisplay:
        count = grid_size(resolution)
        margin = as_number(margin, "margin", minimum=0.0)
        lower_bound = None if lower_bound is None else as_number(lower_bound, "lower_bound")
        points = []
        for name, network in networks.items():
            value = network.objective(plane.problem)
            proved = lower_bound is not None and relative_gap(value, lower_bound) <= _PROVED
            points.append(plane.point(name, "optimum" if proved else "network", network))
        curves = [plane.path(name, path, _PATH_TIMES, orders=orders) for name, path in (paths or {}).items()]
        seen = np.concatenate([[p.position for p in points], *[curve.positions for curve in curves]])
        low, high = np.minimum(seen.min(axis=0), -extent), np.maximum(seen.max(axis=0), extent)
        with np.errstate(over="ignore", invalid="ignore"):
            wide = margin * np.max(high - low)
            s, t = (np.linspace(low[k] - wide, high[k] + wide, count) for k in range(2))
            grid = np.stack(np.meshgrid(s, t), axis=-1)
            values = plane.objectives(grid.reshape(-1, 2)).reshape(count, count)
        require_moderate("The grid", grid, values)
        lowest = min([float(values.min()), *[p.objective for p in points], *[c.objectives.min() for c in curves]])
        if lower_bound is not None and lower_bound > lowest + 1e-9 * abs(lowest):
            raise ValueError(
                f"lower_bound is {lower_bound:.9g}, but a network of objective {lowest:.9g} was seen: it is no bound."
            )
        return cls(plane=plane, s=s, t=t, values=values, lower_bound=lower_bound, points=points, paths=curves)

    @property
    def floor(self) -> float:
        """Value from which heights are counted: the lower bound, or the lowest objective seen where there is none."""
        if self.lower_bound is not None:
            return self.lower_bound
        seen = [point.objective for point in self.points] + [float(path.objectives.min()) for path in self.paths]
        return min(float(self.values.min()), *seen)

    def plot(self, ax: Axes | None = None, *, three: bool = False) -> LandscapeDisplay:
        """Draw contours on ``ax``, or a surface where ``three``; on a new figure without ``ax``.

        The heights are those above :attr:`floor`, in the logarithm; a path begins at its dot. In three dimensions,
        networks and paths stand at their own objective, above or below the surface where they are beside the plane.
        """
        own, ax = ax is None, new_axes(ax, size=(6.8, 6.4 if three else self._tall()), three=three)
        heights = self.values - self.floor
        levels = height_levels(heights, _DECADES)
        over = "proved lower bound" if self.lower_bound is not None else "lowest objective seen"
        draw = draw_surface if three else draw_contours
        draw(ax, self.s, self.t, heights, levels, f"objective above the {over}")
        if not three:
            ax.set_aspect("equal")
        for k, path in enumerate(self.paths):
            off = float(path.residuals.max())
            label = path.name if off <= 1e-9 else f"{path.name} (up to {off:.2g} off the plane)"
            style = {"linestyle": _LINES[k % len(_LINES)], "lw": 2, "marker": "o", "ms": 5, "markevery": [0]}
            ends = [*path.positions.T, *self._heights(path.objectives, levels, three=three)]
            ax.plot(*ends, color=COLOURS[path.kind], zorder=8, label=label, **style)
        for k, point in enumerate(self.points):
            best = point.kind == "optimum"
            ends = [*point.position[:, None], *self._heights(np.array([point.objective]), levels, three=three)]
            style = {"marker": "*" if best else _MARKERS[k % len(_MARKERS)], "ms": 16 if best else 9}
            label = f"{point.name}: {point.objective:.4g}" + (" (proved optimal)" if best else "")
            style |= {"linestyle": "none", "markeredgecolor": "white"}
            ax.plot(*ends, color=COLOURS[point.kind], zorder=9, label=label, **style)
        label = "weights along axis {}" if three else "distance of weights along axis {} of the plane"
        ax.set(xlabel=label.format(1), ylabel=label.format(2), title="Objective on a plane of networks")
        legend_below(ax, own=own, ncols=1)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _tall(self) -> float:
        """Height in inches of a figure that the plane fills, legend included."""
        ratio = float(np.ptp(self.t) / np.ptp(self.s))
        return 1.2 + 0.2 * (len(self.points) + len(self.paths)) + float(np.clip(5.2 * ratio, 1.5, 6.0))

    def _heights(self, objectives: FloatArray, levels: FloatArray, *, three: bool) -> list[FloatArray]:
        """Third coordinate of objectives, where there is one."""
        return [log_heights(objectives - self.floor, levels)] if three else []


def _require_moderate(problem: Problem, network: ReLUNetwork, name: str) -> None:
    """Refuse a network whose weights or objective are too large to be drawn."""
    with np.errstate(over="ignore", invalid="ignore"):
        objective = network.objective(problem)
    require_moderate(name, flat_weights(network), np.array(objective))


def _flat_direction(network: ReLUNetwork, direction: Any, name: str) -> FloatArray:
    """Direction ``(dW, da)`` as a vector; the output bias stays."""
    try:
        dW, da = direction
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (dW, da) of arrays; got {type(direction).__name__}.") from None
    parts = [as_float_array(dW, f"{name}[0]", ndim=2), as_float_array(da, f"{name}[1]", ndim=network.a.ndim)]
    if parts[0].shape != network.W.shape or parts[1].shape != network.a.shape:
        raise ValueError(
            f"{name} must have the shapes {network.W.shape} and {network.a.shape} of W and a of the network; "
            f"got {parts[0].shape} and {parts[1].shape}."
        )
    return np.concatenate([parts[0].ravel(), parts[1].ravel(), [0.0]])
