"""Drawing of functions of two variables: grey contours and surfaces, on which coloured objects stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

__all__ = ["draw_contours", "draw_surface", "grid_size", "height_levels", "legend_below"]

_DECADES = 4.0
_LEVELS = 17


def grid_size(resolution: int) -> int:
    """Check the number of points of a grid along each axis."""
    if as_count(resolution, "resolution") < 2:
        raise ValueError(f"resolution must be an integer of at least 2; got {resolution!r}.")
    return int(resolution)


def height_levels(heights: FloatArray) -> FloatArray:
    """Levels evenly spaced in the logarithm, from the lowest height (but not over 4 decades) to the highest."""
    top = max(float(heights.max()), np.finfo(np.float64).tiny)
    positive = heights[heights > 0]
    low = max(float(positive.min()) if positive.size else 0.0, top * 10.0**-_DECADES)
    return np.geomspace(min(low, 0.5 * top), top, _LEVELS)


def _greys() -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    # The darkest greys would hide lines; white at the bottom, where one looks.
    return LinearSegmentedColormap.from_list("light_greys", colormaps["Greys"](np.linspace(0.0, 0.62, 256)))


def draw_contours(ax: Axes, s: FloatArray, t: FloatArray, heights: FloatArray, levels: FloatArray, label: str) -> None:
    """Filled contours with lines and a bar that tells the heights."""
    from matplotlib.colors import LogNorm

    norm = LogNorm(levels[0], levels[-1])
    raised = np.clip(heights, levels[0], levels[-1])
    filled = ax.contourf(s, t, raised, levels=levels, norm=norm, cmap=_greys())
    ax.contour(s, t, raised, levels=levels[1:-1], colors="#666666", linewidths=0.4, alpha=0.7)
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.85, label=label)
    first, last = np.ceil(np.log10(levels[0])), np.floor(np.log10(levels[-1]))
    ticks = 10.0 ** np.arange(first, last + 1) if last > first else levels[:: len(levels) // 4]
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()


def draw_surface(ax: Any, s: FloatArray, t: FloatArray, values: FloatArray) -> None:
    """Grey surface behind all that is drawn on it later."""
    ax.computed_zorder = False
    ax.plot_surface(
        *np.meshgrid(s, t), values, cmap=_greys(), rcount=60, ccount=60, linewidth=0.1, edgecolor="#999999", alpha=0.75
    )


def legend_below(ax: Axes, columns: int = 1) -> None:
    """Legend under the axes, clear of the data."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, ncols=columns, fontsize=9)
