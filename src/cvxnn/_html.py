"""Results in notebooks: a caption, a table of figures and a small curve, as HTML without scripts or fixed colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["card", "curve", "figure"]

_WIDTH, _HEIGHT, _MARGIN = 320, 64, 4


def card(caption: str, rows: Sequence[tuple[str, object]], *, note: str = "", picture: str = "") -> str:
    """Table with a caption, one row a figure, and a sentence below. All texts are escaped but ``picture``.

    Examples
    --------
    >>> card("Solution", [("width", 3)])[:58]
    '<div><table><caption style="text-align:left"><strong>Solut'
    """
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    title = f'<caption style="text-align:left"><strong>{escape(caption)}</strong></caption>'
    below = f'<p style="max-width:60em">{escape(note)}</p>' if note else ""
    return f"<div><table>{title}<tbody>{body}</tbody></table>{picture}{below}</div>"


def curve(values: npt.ArrayLike, label: str, *, logarithmic: bool = False) -> str:
    """Line through the values at even distances as SVG in the colour of the text, described by ``label``.

    Fewer than two values, or any that is not finite, make no picture. On a logarithmic scale values count from 1e-16.

    Examples
    --------
    >>> curve([1.0, 0.5], "objective").count("polyline"), curve([1.0], "objective")
    (1, '')
    """
    heights = np.asarray(values, dtype=np.float64)
    if len(heights) < 2 or not np.all(np.isfinite(heights)):
        return ""
    if logarithmic:
        heights = np.log10(np.maximum(heights, 1e-16))
    low, high = float(heights.min()), float(heights.max())
    # A curve that is level to the last digits is drawn level, not as its rounding.
    span = high - low if high - low > 1e-12 * max(abs(high), abs(low)) else math.inf
    x = _MARGIN + (_WIDTH - 2 * _MARGIN) * np.linspace(0.0, 1.0, len(heights))
    y = _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (heights - low) / span
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}"><title>{escape(label)}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def figure(value: float) -> str:
    """Number to nine digits, as the one-line forms of results print it."""
    return f"{value:.9g}"
