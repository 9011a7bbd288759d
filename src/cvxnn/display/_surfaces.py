"""Drawing of functions of two variables: grey contours and surfaces, on which coloured objects stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count
from cvxnn.display._style import greys

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

__all__ = ["draw_contours", "draw_surface", "grid_size", "height_levels", "log_heights"]

_LEVELS = 17


def grid_size(resolution: int) -> int:
    """Check the number of points of a grid along each axis."""
    if as_count(resolution, "resolution") < 2:
        raise ValueError(f"resolution must be an integer of at least 2; got {resolution!r}.")
    return int(resolution)


def height_levels(heights: FloatArray, decades: float) -> FloatArray:
    """Levels evenly spaced in the logarithm, from the lowest height (``decades`` at most) to the highest."""
    top = max(float(heights.max()), np.finfo(np.float64).tiny)
    positive = heights[heights > 0]
    low = max(float(positive.min()) if positive.size else 0.0, top * 10.0**-decades)
    return np.geomspace(min(low, 0.5 * top), top, _LEVELS)


def draw_contours(ax: Axes, s: FloatArray, t: FloatArray, heights: FloatArray, levels: FloatArray, label: str) -> None:
    """Filled contours with lines and a bar that tells the heights."""
    from matplotlib.colors import LogNorm

    norm = LogNorm(levels[0], levels[-1])
    raised = np.clip(heights, levels[0], levels[-1])
    filled = ax.contourf(s, t, raised, levels=levels, norm=norm, cmap=greys())
    ax.contour(s, t, raised, levels=levels[1:-1], colors="#666666", linewidths=0.4, alpha=0.7)
    bar = ax.figure.colorbar(filled, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)), label=label)
    ticks = _ticks(levels, (1.0, 2.0, 5.0))
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()


def draw_surface(ax: Any, s: FloatArray, t: FloatArray, heights: FloatArray, levels: FloatArray, label: str) -> None:
    """Grey surface of the logarithms of the heights, behind all that is drawn on it later."""
    ax.computed_zorder = False
    raised = log_heights(heights, levels)
    style = {"rcount": 80, "ccount": 80, "linewidth": 0.1, "edgecolor": "#999999", "alpha": 0.75}
    ax.plot_surface(*np.meshgrid(s, t), raised, cmap=greys(), **style)
    ticks = _ticks(levels, (1.0,))
    ax.set_zticks(np.log10(ticks), labels=[f"{tick:g}" for tick in ticks])
    ax.set_zlabel(label.replace("above the", "above\nthe"), labelpad=10.0)


def log_heights(heights: FloatArray, levels: FloatArray) -> FloatArray:
    """Where heights stand in a surface; all below the lowest level stand there."""
    return np.log10(np.maximum(heights, levels[0]))


def _ticks(levels: FloatArray, steps: tuple[float, ...]) -> FloatArray:
    """Round numbers between the lowest and the highest level."""
    decades = 10.0 ** np.arange(np.floor(np.log10(levels[0])), np.ceil(np.log10(levels[-1])) + 1.0)
    ticks = np.outer(decades, steps).ravel()
    return ticks[(ticks >= levels[0]) & (ticks <= levels[-1])]
