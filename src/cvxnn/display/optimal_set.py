"""The polytope of optimal masses, seen in two dimensions: its vertices are the irreducible optimal networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, new_axes
from cvxnn.landscape import OptimalSet, optimal_set
from cvxnn.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["OptimalSetDisplay"]

_RANK = 1e-9
_MAX_EDGES_OF = 300
"""With more vertices the edges are left out: they would cover the picture."""

_TURN, _TILT = np.radians(25.0), np.radians(30.0)
"""View of three principal axes: seen straight on, opposite vertices of symmetric polytopes would hide each other."""

_TOGETHER = 0.06
"""Points closer than this share of the picture share one text."""


class OptimalSetDisplay:
    r"""All optimal networks of a problem as a polytope of masses, projected to two dimensions.

    A point of the polytope :math:`\{c \ge 0 : A c = y^*\}` tells how much mass an optimal network puts on each optimal
    direction; its vertices are the networks from which no neuron can be removed. Build it by :meth:`from_set` or
    :meth:`from_problem`.

    Parameters
    ----------
    vertices : ndarray (V, k)
        Masses of the vertices.
    min_l2 : ndarray (k,)
        Masses of least Euclidean norm.
    edges : ndarray (E, 2) of int
        Vertices that an edge of the polytope joins.
    dimension : int
        Dimension of the polytope.
    coordinates : tuple of two ints or None
        Directions whose masses are the axes; None for the principal axes of the vertices.

    Attributes
    ----------
    points : ndarray (V, 2)
        Projected vertices, in units of mass.
    widths : ndarray (V,) of int
        Number of neurons of each vertex.
    explained : float
        Share of the variance of the vertices that the projection keeps; 1 where nothing is lost.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Kim, Mishkin and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality":
    the optimal polytope.

    Examples
    --------
    >>> import math
    >>> from cvxnn import Problem
    >>> root = math.sqrt(3.0)
    >>> display = OptimalSetDisplay.from_problem(Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2))
    >>> display.widths, display.edges, display.explained
    (array([1, 2]), array([[0, 1]]), 1.0)
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        vertices: FloatArray,
        min_l2: FloatArray,
        edges: IntArray,
        dimension: int,
        coordinates: tuple[int, int] | None = None,
    ) -> None:
        self.vertices, self.min_l2, self.edges = vertices, min_l2, edges
        self.dimension, self.coordinates = dimension, coordinates
        self.widths: IntArray = np.sum(vertices > 0.0, axis=1)
        self._centre = np.zeros(vertices.shape[1]) if coordinates is not None else np.mean(vertices, axis=0)
        self._axes = self._basis()
        self.points: FloatArray = self.project(vertices)
        spread = vertices - np.mean(vertices, axis=0)
        total = float(np.sum(spread**2))
        self.explained = 1.0 if total == 0.0 else float(np.sum((spread @ self._axes.T) ** 2)) / total
        # Rounding may leave a share above one.
        self.explained = 1.0 if self.explained > 1.0 - 1e-12 else self.explained

    @classmethod
    def from_set(
        cls, optimal: OptimalSet, *, coordinates: tuple[int, int] | None = None, max_vertices: int = 2000
    ) -> OptimalSetDisplay:
        """Take the result of :func:`cvxnn.landscape.optimal_set`.

        Parameters
        ----------
        optimal : OptimalSet
        coordinates : tuple of two ints, optional
            Two optimal directions whose masses are the axes, counted from 0; by default the principal axes of the
            vertices, which show a polytope of dimension two as it is, and one of dimension three from an angle.
        max_vertices : int, default 2000
            Most vertices.

        Raises
        ------
        OptimalSetError
            When the vertices are more, or hidden by rounding.
        ValueError
            When the zero network is the only optimum, or ``coordinates`` are not two of the directions.
        """
        if not isinstance(optimal, OptimalSet):
            raise ValueError(f"optimal must be an OptimalSet of landscape.optimal_set; got {type(optimal).__name__}.")
        k = len(optimal.directions)
        if optimal.polytope.is_trivial:
            raise ValueError("The zero network is the only optimum; it has no masses to be drawn.")
        if coordinates is not None and not _names_two(coordinates, k):
            raise ValueError(f"coordinates must be two different integers from 0 to {k - 1}; got {coordinates!r}.")
        vertices = optimal.vertices(max_vertices=max_vertices)
        few = len(vertices) <= _MAX_EDGES_OF
        edges = polytope_edges(optimal.polytope.columns, vertices) if few else np.zeros((0, 2), dtype=np.int64)
        return cls(
            vertices=vertices,
            min_l2=optimal.min_l2(),
            edges=edges,
            dimension=optimal.dimension,
            coordinates=coordinates,
        )

    @classmethod
    def from_problem(cls, problem: Problem, **options: Any) -> OptimalSetDisplay:
        """Compute the optimal set of a problem first; options as in :meth:`from_set`."""
        return cls.from_set(optimal_set(problem), **options)

    def project(self, masses: npt.ArrayLike) -> FloatArray:
        """Place of masses ``(p, k)`` in the picture, ``(p, 2)``."""
        return (np.asarray(masses, dtype=np.float64) - self._centre) @ self._axes.T

    @property
    def _is_line(self) -> bool:
        return self.coordinates is None and self.dimension < 2

    def _basis(self) -> FloatArray:
        k = self.vertices.shape[1]
        if self.coordinates is not None:
            return np.eye(k)[list(self.coordinates)]
        right = np.linalg.svd(self.vertices - self._centre, full_matrices=False)[2][: min(self.dimension, 3)]
        # An axis has no sign of its own: its largest entry is made positive.
        right = right * np.sign(right[np.arange(len(right)), np.argmax(np.abs(right), axis=1)])[:, None]
        if len(right) == 3:
            across = [np.cos(_TURN), np.sin(_TURN), 0.0]
            up = [-np.sin(_TURN) * np.sin(_TILT), np.cos(_TURN) * np.sin(_TILT), np.cos(_TILT)]
            return np.array([across, up]) @ right
        return np.vstack([right, np.zeros((2 - len(right), k))])

    def plot(self, ax: Axes | None = None) -> OptimalSetDisplay:
        """Draw on ``ax``, or on axes of a new figure; numbers are widths."""
        own, ax = ax is None, new_axes(ax, size=(6.6, 2.8 if self._is_line else 5.6))
        for first, second in self.edges:
            ax.plot(*self.points[[first, second]].T, "-", color=COLOURS["optimum"], lw=1.0, alpha=0.6, zorder=1)
        smallest, largest = int(np.min(self.widths)), int(np.max(self.widths))
        groups = [(self.widths == smallest, "*", 15, f"smallest width, m* = {smallest}")]
        if largest > smallest:
            between = (self.widths > smallest) & (self.widths < largest)
            groups.append((between, "o", 7, "widths between"))
            groups.append((self.widths == largest, "s", 7, f"largest irreducible width, M* = {largest}"))
        for chosen, marker, size, label in groups:
            if np.any(chosen):
                style = {"ms": size, "color": COLOURS["optimum"], "mec": "black", "zorder": 3}
                ax.plot(*self.points[chosen].T, marker, ls="none", label=f"vertex of the {label}", **style)
        centre = self.project(self.min_l2[None])[0]
        ax.plot(*centre, "X", ms=9, color=COLOURS["network"], mec="white", label="masses of least norm", zorder=4)
        self._write_widths(ax)
        self._set_axes(ax)
        legend_below(ax, own=own)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _write_widths(self, ax: Any) -> None:
        """Write the widths of the vertices outside of the polytope; vertices that fall together share a text."""
        if len(self.points) > 40:
            return
        size = float(np.max(np.ptp(self.points, axis=0))) or 1.0
        middle, left = np.mean(self.points, axis=0), np.arange(len(self.points))
        while len(left):
            spot = self.points[left[0]]
            near = np.max(np.abs(self.points[left] - spot), axis=1) < _TOGETHER * size
            text = ", ".join(str(width) for width in sorted(self.widths[left[near]].tolist()))
            away = (spot - middle) / (float(np.linalg.norm(spot - middle)) or 1.0)
            shift = 13 * (away if np.any(away) else np.array([0.0, 1.0]))
            box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
            side = "left" if away[0] > 0.3 else "right" if away[0] < -0.3 else "center"
            style = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9, "bbox": box}
            ax.annotate(text, spot, tuple(shift), **style)
            left = left[~near]

    def _set_axes(self, ax: Any) -> None:
        if self.coordinates is not None:
            first, second = self.coordinates
            ax.set(xlabel=f"mass on optimal direction {first}", ylabel=f"mass on optimal direction {second}")
        elif self.dimension > 2:
            ax.set(xlabel="mass, across the view of the principal axes", ylabel="mass, up the view")
        else:
            ax.set(xlabel="mass along the first principal axis", ylabel="mass along the second principal axis")
        # A polytope that is a point or a segment in the picture would have axes without extent.
        size = float(np.max(np.ptp(self.points, axis=0))) or 1.0
        low, high = np.min(self.points, axis=0), np.max(self.points, axis=0)
        room = np.maximum(0.5 * (0.4 * size - (high - low)), 0.22 * size)
        ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        if self._is_line:
            ax.set(yticks=[], ylabel="")
        else:
            ax.set_aspect("equal")
        shown = "" if self.explained == 1.0 else f"\n{self.explained:.0%} of its variance in view"
        count = "one vertex" if len(self.vertices) == 1 else f"{len(self.vertices)} vertices"
        ax.set_title(f"Optimal networks: polytope of dimension {self.dimension} with {count}{shown}", fontsize=11)


def polytope_edges(columns: FloatArray, vertices: FloatArray) -> IntArray:
    """Pairs of vertices ``(E, 2)`` of ``{c >= 0 : A c = b}`` that span an edge.

    The smallest face of two vertices has the union S of their supports, and the dimension ``|S| - rank A_S``.
    """
    unit = columns / np.linalg.norm(columns, axis=0)
    positive = vertices > 0.0
    found = []
    for first in range(len(vertices)):
        for second in range(first + 1, len(vertices)):
            support = positive[first] | positive[second]
            if int(np.sum(support)) - int(np.linalg.matrix_rank(unit[:, support], tol=_RANK)) == 1:
                found.append((first, second))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _names_two(coordinates: Any, k: int) -> bool:
    if not isinstance(coordinates, (tuple, list)) or len(coordinates) != 2:
        return False
    whole = all(hasattr(i, "__index__") and not isinstance(i, bool) and 0 <= i < k for i in coordinates)
    return whole and coordinates[0] != coordinates[1]
