"""Legends outside of the data."""

from __future__ import annotations

from typing import Any

__all__ = ["legend_below"]


def legend_below(ax: Any, *, own: bool, ncols: int = 2) -> None:
    """Put the legend below the picture: of the figure where it is the display's ``own``, else of the axes given."""
    style = {"ncols": ncols, "frameon": False, "fontsize": "small", "handlelength": 3.0}
    if own:
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", **style)
    else:
        # Beside other axes there is no common place: each keeps its own.
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), **style)
