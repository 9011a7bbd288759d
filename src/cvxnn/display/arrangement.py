"""Activation cells of two- and three-dimensional data, with the dual function and the optimal directions on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.display._legend import legend_below
from cvxnn.display._style import COLOURS, greys, new_axes
from cvxnn.landscape import OptimalSet, ParallelOptimalSet, optimal_set
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.patterns import ActivationPatterns, enumerate_patterns
from cvxnn.problem import Problem, require_problem
from cvxnn.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FloatArray = npt.NDArray[np.float64]

__all__ = ["ArrangementDisplay"]

_LABELS = 16
"""More samples or cells than this stay without numbers."""

_MAX_BITS = 10
"""Patterns of more samples are not written beside their cells."""

_CHARACTER = 0.06
"""Width of a character beside the unit circle."""


class ArrangementDisplay:
    r"""Cells of weight vectors u that have one activation pattern on the data, as sectors or on a sphere.

    Each sample :math:`x_j` divides the directions u by the line (or great circle) :math:`x_j^\top u = 0`. With a
    problem, the dual function :math:`h(u) = \nu^\top (Xu)_+` of the optimal dual vector :math:`\nu` is drawn, too:
    :math:`|h| \le \beta` everywhere, and the optimal neurons point to where it equals :math:`\beta`. Build it by
    :meth:`from_problem` or :meth:`from_solution`.

    Parameters
    ----------
    X : ndarray (n, d)
        Data with d = 2 or 3; a bias is a column of ones.
    patterns : ActivationPatterns
        All cells.
    dual : ndarray (n,) or (n, c), optional
        Optimal dual vector divided by beta.
    directions : ndarray (k, d)
        Unit vectors of the optimal neurons, or of those of a network.
    signs : ndarray (k,) or None
        Signs of their output weights; None for several outputs.
    meaning : str, default "optimal direction"
        What the directions are, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", for the dual constraint.

    Examples
    --------
    >>> display = ArrangementDisplay.from_problem([[1.0, 0.0], [0.0, 1.0]])
    >>> len(display.patterns), display.sectors().round(3)[0]
    (4, array([0.   , 1.571]))
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        X: FloatArray,
        patterns: ActivationPatterns,
        dual: FloatArray | None,
        directions: FloatArray,
        signs: FloatArray | None,
        meaning: str = "optimal direction",
    ) -> None:
        self.X, self.patterns, self.dual = X, patterns, dual
        self.directions, self.signs, self.meaning = directions, signs, meaning

    @classmethod
    def from_problem(
        cls, problem: Problem | OptimalSet | npt.ArrayLike, *, max_patterns: int = 20_000
    ) -> ArrangementDisplay:
        """List the cells, and the optimal directions where there is something to be optimal.

        Parameters
        ----------
        problem : Problem, OptimalSet or array-like (n, d)
            Of a problem :func:`cvxnn.landscape.optimal_set` is computed; of plain data only the cells.
        max_patterns : int, default 20_000
            Most cells.

        Raises
        ------
        ValueError
            For data that have neither two nor three columns, optimal sets of parallel networks, too many cells, or
            where the optimal set cannot be had.
        """
        if isinstance(problem, ParallelOptimalSet):
            raise ValueError("problem is an optimal set of parallel networks; one of two-layer networks is accepted.")
        given = problem.problem if isinstance(problem, OptimalSet) else problem
        X = given.X if isinstance(given, Problem) else as_float_array(given, "X", ndim=2)
        patterns = _cells(X, max_patterns)
        if not isinstance(given, Problem):
            return cls(X=X, patterns=patterns, dual=None, directions=np.zeros((0, X.shape[1])), signs=np.zeros(0))
        o = problem if isinstance(problem, OptimalSet) else optimal_set(given)
        signs = o.outputs if o.outputs.ndim == 1 else None
        return cls(X=X, patterns=patterns, dual=o.dual / given.beta, directions=o.directions, signs=signs)

    @classmethod
    def from_solution(cls, problem: Problem, solution: Solution, *, max_patterns: int = 20_000) -> ArrangementDisplay:
        """Take the neurons and the dual vector of a solution, for losses and limits that rule out the optimal set.

        Parameters
        ----------
        problem : Problem
        solution : Solution
            Of the problem, with a two-layer ReLU network.
        max_patterns : int, default 20_000
            Most cells.
        """
        require_problem(problem)
        net = solution.network
        if not isinstance(net, ReLUNetwork) or net.n_features != problem.n_features:
            raise ValueError(f"solution must hold a ReLUNetwork with {problem.n_features} features; it holds {net!r}.")
        if problem.beta == 0.0:
            raise ValueError("beta is 0; the dual function is drawn relative to a positive beta.")
        used = np.any(net.W != 0.0, axis=1)
        W, signs = net.W[used], np.sign(net.a[used]) if net.a.ndim == 1 else None
        return cls(
            X=problem.X,
            patterns=_cells(problem.X, max_patterns),
            dual=solution.dual / problem.beta,
            directions=W / row_norms(W)[:, None],
            signs=signs,
            meaning="neuron",
        )

    def dual_function(self, directions: npt.ArrayLike) -> FloatArray:
        r"""Dual function over beta, :math:`h(u)/\beta`, at vectors u ``(k, d)``; its norm for several outputs."""
        if self.dual is None:
            raise ValueError("The display was made of data alone; a Problem has a dual function.")
        hidden = np.maximum(as_float_array(directions, "directions", ndim=2) @ self.X.T, 0.0)
        values = hidden @ self.dual
        return values if values.ndim == 1 else row_norms(values)

    def sectors(self) -> FloatArray:
        """Angles in radians at which the cell of each pattern begins and ends, ``(P, 2)``; two-dimensional data only.

        Begins lie in [0, 2 pi), ends above their begins; rows are in the order of the patterns.
        """
        if self.X.shape[1] != 2:
            raise ValueError(f"sectors belong to two-dimensional data; these have {self.X.shape[1]} columns.")
        rows = self.X[row_norms(self.X) > 0.0]
        if not len(rows):
            return np.array([[0.0, 2.0 * np.pi]])
        poles = np.arctan2(rows[:, 1], rows[:, 0])
        cuts = np.concatenate([poles + np.pi / 2, poles - np.pi / 2])
        gates = np.arctan2(self.patterns.gates[:, 1], self.patterns.gates[:, 0])
        ahead = np.min((cuts - gates[:, None]) % (2.0 * np.pi), axis=1)
        behind = np.min((gates[:, None] - cuts) % (2.0 * np.pi), axis=1)
        begin = (gates - behind) % (2.0 * np.pi)
        # What rounding leaves of a full turn is no turn.
        begin[2.0 * np.pi - begin < 1e-12] = 0.0
        return np.column_stack([begin, begin + behind + ahead])

    def plot(self, ax: Axes | None = None) -> ArrangementDisplay:
        """Draw the circle of directions, or their sphere in Hammer's equal-area map, on ``ax`` or a new figure."""
        flat = self.X.shape[1] == 2
        own, ax = ax is None, new_axes(ax, size=(7.4, 6.0) if flat else (8.2, 4.6))
        if flat:
            self._draw_circle(ax)
        else:
            self._draw_sphere(ax)
        ax.set_aspect("equal")
        ax.set_title(f"{len(self.patterns)} activation patterns of {len(self.X)} samples")
        legend_below(ax, own=own)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_circle(self, ax: Any) -> None:
        from matplotlib.patches import Wedge

        sectors, masks = self.sectors(), self.patterns.masks
        written = len(self.X) <= _MAX_BITS
        rim = 1.3 + (_CHARACTER * len(self.X) if written else 0.0)
        for (begin, end), mask in zip(sectors, masks, strict=True):
            shade = str(1.0 - 0.22 * float(np.mean(mask)))
            ax.add_patch(Wedge((0, 0), 1.0, *np.degrees([begin, end]), facecolor=shade, edgecolor="none", zorder=0))
            middle = 0.5 * (begin + end)
            if written and end - begin > 0.12:
                bits = "".join("1" if on else "0" for on in mask)
                across = np.cos(middle)
                side = "left" if across > 0.3 else "right" if across < -0.3 else "center"
                ax.annotate(bits, _at(middle, 1.15), ha=side, va="center", fontsize=8, family="monospace")
        for index, begin in enumerate(sectors[:, 0] if len(sectors) > 1 else ()):
            x, y = _at(begin, 1.0)
            ax.plot([0, x], [0, y], color=COLOURS["kink"], lw=self._thin, label=_once("a sample switches", index))
        turn = np.linspace(0.0, 2.0 * np.pi, 1441)
        ring = np.column_stack([np.cos(turn), np.sin(turn)])
        label = r"unit circle, $|h(u)| = \beta$" if self.dual is not None else "unit circle"
        ax.plot(*ring.T, color=COLOURS["bound"], lw=1, label=label)
        if self.dual is not None:
            height = self.dual_function(ring)
            curve = np.abs(height)[:, None] * ring
            for sign, style, text in ((1, "-", "h(u) > 0"), (-1, "--", "h(u) < 0")):
                if np.any(sign * height > 0):
                    part = np.where((sign * height > 0)[:, None], curve, np.nan)
                    ax.plot(*part.T, style, color=_colour(sign), lw=1.8, label=rf"radius $|h(u)|/\beta$, {text}")
        self._draw_samples(ax, self._samples() * rim, self._samples() * (rim + 0.15), apart=0.15)
        for tip in self.directions:
            ax.plot([0, tip[0]], [0, tip[1]], color=COLOURS["optimum"], lw=2.2, zorder=3)
        self._draw_optimal(ax, self.directions)
        ax.set(xlabel="$u_1$, weight on the first column", ylabel="$u_2$, weight on the second column")
        ax.set(xlim=(-rim - 0.3, rim + 0.3), ylim=(-rim - 0.3, rim + 0.3), xticks=[-1, 0, 1], yticks=[-1, 0, 1])

    def _draw_sphere(self, ax: Any) -> None:
        longitude, latitude = np.meshgrid(np.linspace(-np.pi, np.pi, 361), np.linspace(-np.pi / 2, np.pi / 2, 181))
        points = np.stack([np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)], axis=-1)
        points = np.concatenate([points, np.sin(latitude)[..., None]], axis=-1)
        flat = points.reshape(-1, 3)
        shades, text = np.mean(flat @ self.X.T >= 0.0, axis=1), "share of active samples"
        if self.dual is not None:
            shades = np.minimum(np.abs(self.dual_function(flat)), 1.0)
            text = r"$|h(u)|/\beta$, 1 where neurons are optimal"
        grid = _hammer(longitude, latitude)
        levels, shades = np.linspace(0.0, 1.0, 11), shades.reshape(latitude.shape)
        filled = ax.contourf(grid[..., 0], grid[..., 1], shades, levels, cmap=greys())
        ax.figure.colorbar(filled, ax=ax, label=text, shrink=0.7, ticks=np.linspace(0, 1, 6))
        pieces = [piece for row in self.X[row_norms(self.X) > 0.0] for piece in _great_circle(row)]
        for index, piece in enumerate(pieces):
            effects = _halo(2.4 * self._thin)
            label = _once("a sample switches", index)
            ax.plot(*piece.T, color=COLOURS["kink"], lw=self._thin, label=label, path_effects=effects)
        rim = np.linspace(-np.pi / 2, np.pi / 2, 181)
        for side in (-np.pi, np.pi):
            ax.plot(*_hammer(np.full_like(rim, side), rim).T, color=COLOURS["bound"], lw=1)
        for axis in range(3):
            for sign in (1.0, -1.0):
                spot = _project(sign * np.eye(3)[axis : axis + 1])[0]
                text = f"${'+' if sign > 0 else '-'}u_{axis + 1}$"
                lift = (0, 9 * np.sign(spot[1])) if axis == 2 else (0, -9)
                ax.plot(*spot, "+", color=COLOURS["bound"], ms=7)
                style = {"ha": "center", "va": "center", "fontsize": 8, "path_effects": _halo(), "zorder": 6}
                ax.annotate(text, spot, lift, textcoords="offset points", **style)
        samples = _project(self._samples())
        self._draw_samples(ax, samples, samples + 0.09, apart=0.12)
        self._draw_optimal(ax, _project(self.directions))
        ax.set(xlim=(-3.1, 3.1), ylim=(-1.65, 1.65))
        ax.axis("off")

    @property
    def _thin(self) -> float:
        """Width of the lines of the samples: the more, the thinner."""
        return 1.0 if len(self.X) <= _LABELS else 0.4

    def _samples(self) -> FloatArray:
        """Unit vectors of the samples; NaN where a sample is zero."""
        norms = row_norms(self.X)
        return self.X / np.where(norms > 0.0, norms, np.nan)[:, None]

    def _draw_samples(self, ax: Any, spots: FloatArray, numbers: FloatArray, *, apart: float) -> None:
        ax.plot(*spots.T, "o", ms=4.5, color=COLOURS["data"], label="direction of a sample", zorder=4)
        if len(self.X) > _LABELS:
            return
        left = np.flatnonzero(np.all(np.isfinite(numbers), axis=1))
        while len(left):
            # Samples that lie together share one text.
            near = row_norms(numbers[left] - numbers[left[0]]) < apart
            text = ",".join(str(index + 1) for index in left[near])
            right = numbers[left[0], 0] - spots[left[0], 0]
            side = "left" if right > 0.05 else "right" if right < -0.05 else "center"
            style = {"ha": side, "va": "center", "fontsize": 8, "path_effects": _halo(), "zorder": 6}
            ax.annotate(text, numbers[left[0]], color=COLOURS["data"], **style)
            left = left[~near]

    def _draw_optimal(self, ax: Any, tips: FloatArray) -> None:
        if self.signs is None:
            style = {"ms": 9, "color": COLOURS["optimum"], "mec": "black", "zorder": 5}
            ax.plot(*tips.T, "D", label=self.meaning, **style)
            return
        for sign, marker, word in ((1, "^", "positive"), (-1, "v", "negative")):
            chosen = tips[self.signs == sign]
            if len(chosen):
                style = {"ms": 10, "color": _colour(sign), "mec": "black", "zorder": 5}
                ax.plot(*chosen.T, marker, ls="none", label=f"{self.meaning}, {word} output weight", **style)


def _halo(width: float = 2.0) -> list[Any]:
    """White rim of texts and lines on grey, which keeps them apart without colours, too."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="white")]


def _at(angle: float, radius: float) -> tuple[float, float]:
    return radius * float(np.cos(angle)), radius * float(np.sin(angle))


def _cells(X: FloatArray, max_patterns: int) -> ActivationPatterns:
    if X.shape[1] not in (2, 3):
        raise ValueError(f"X must have two or three columns to be drawn as an arrangement; got {X.shape[1]}.")
    return enumerate_patterns(X, max_patterns=max_patterns)


def _once(label: str, index: int) -> str | None:
    """Label of the first of several equal lines."""
    return label if index == 0 else None


def _colour(sign: int) -> str:
    return COLOURS["positive" if sign > 0 else "negative"]


def _hammer(longitude: FloatArray, latitude: FloatArray) -> FloatArray:
    """Equal-area map of the whole sphere on an ellipse."""
    scale = np.sqrt(2.0) / np.sqrt(1.0 + np.cos(latitude) * np.cos(longitude / 2.0))
    return np.stack([2.0 * scale * np.cos(latitude) * np.sin(longitude / 2.0), scale * np.sin(latitude)], axis=-1)


def _project(vectors: FloatArray) -> FloatArray:
    """Map unit vectors ``(k, 3)``; the first axis is in the middle, the third one up."""
    return _hammer(np.arctan2(vectors[:, 1], vectors[:, 0]), np.arcsin(np.clip(vectors[:, 2], -1.0, 1.0)))


def _great_circle(pole: FloatArray) -> list[FloatArray]:
    """Pieces of the circle of vectors at right angles to ``pole``, cut where the map is."""
    basis = np.linalg.svd(pole[None] / np.max(np.abs(pole)))[2][1:]
    turn = np.linspace(0.0, 2.0 * np.pi, 721)
    points = np.column_stack([np.cos(turn), np.sin(turn)]) @ basis
    longitude = np.arctan2(points[:, 1], points[:, 0])
    # Next to a pole of the map, too, longitudes jump without leaving the ellipse's edge by much.
    jumps = np.flatnonzero(np.abs(np.diff(longitude)) > np.pi / 2) + 1
    return np.split(_project(points), jumps)
