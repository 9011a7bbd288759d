"""Legends outside of the data."""

from __future__ import annotations

from typing import Any

__all__ = ["legend_below"]


def legend_below(ax: Any, *, own: bool, ncols: int = 2) -> Any:
    """Put the legend below the picture (of the display's ``own`` figure, else of the axes given) and return it."""
    style = {"ncols": ncols, "frameon": False, "fontsize": "small", "handlelength": 3.0}
    if own:
        return ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", **style)
    # Beside other axes there is no common place: each keeps its own.
    return ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), **style)
