"""What all displays share: one colour for each kind of object, and axes from matplotlib, imported when one draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "greys", "new_axes", "pyplot"]

COLOURS: Final = {
    "data": "#333333",
    "network": "#0072B2",
    "optimum": "#009E73",
    "bound": "#7F7F7F",
    "descent": "#D55E00",
    "path": "#CC79A7",
    "positive": "#0072B2",
    "negative": "#E69F00",
    "kink": "#56B4E9",
}
"""Colours of Okabe and Ito, which people with any colour vision tell apart; an object keeps its colour everywhere.

``data``: samples; ``network``: the network at hand; ``optimum``: what is proved or convex; ``bound``: lower bounds;
``descent``: gradient descent; ``path``: paths between networks; ``positive`` and ``negative``: signs of output weights;
``kink``: where a neuron switches.
"""


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or raise ImportError with the command that installs it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "cvxnn.display draws with matplotlib, which is not installed: pip install 'cvxnn[plot]'."
        ) from error
    return plt


def greys() -> Any:
    """Colour map that is white at the bottom, where one looks, and ends before greys that would hide lines."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("light_greys", colormaps["Greys"]([k / 255 * 0.62 for k in range(256)]))


def new_axes(ax: Axes | None, *, size: tuple[float, float] = (6.4, 4.4), three: bool = False) -> Axes:
    """Return the axes given, or those of a new figure of ``size`` inches."""
    if ax is None:
        figure = pyplot().figure(figsize=size, layout="constrained")
        return figure.add_subplot(projection="3d" if three else None)
    if three != hasattr(ax, "get_zlim"):
        raise ValueError(
            f"ax must be {'three' if three else 'two'}-dimensional axes; "
            f"got {'two' if three else 'three'}-dimensional ones."
        )
    return ax
