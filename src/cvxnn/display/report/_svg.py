"""Small pictures as SVG: points, columns and curves with axes, described in words for those who do not see them.

Visible text is our own and short, so that nothing overlaps; names from the data stand in the text beside a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.display.report._markup import Markup, tag

FloatArray = npt.NDArray[np.float64]

__all__ = ["Axis", "Series", "columns", "curves", "legend", "points"]

_WIDTH, _HEIGHT = 360.0, 250.0
_TOP, _LEAST_MARGIN, _BOTTOM = 12.0, 20.0, 48.0
_CHARACTER = 7.0
"""Width of a digit, at most; letters of 11 pixels are as large as the text of a phone there."""
_LONGEST_LABEL = 9


@dataclass(frozen=True)
class Axis:
    """Range of an axis with its marks.

    Attributes
    ----------
    title : str
    low, high : float
    ticks : tuple of float
    labels : tuple of str
    """

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    @classmethod
    def around(
        cls, values: npt.ArrayLike, title: str, *, whole: bool = False, zero: bool = False, tight: bool = False
    ) -> Axis:
        """Axis around finite values with round marks.

        If asked for, marks are ``whole`` numbers, ``zero`` belongs to the range, and the range is that of the values
        (``tight``) instead of ending at marks.

        Examples
        --------
        >>> axis = Axis.around([0.3, 9.6], "size")
        >>> axis.low, axis.high, axis.labels
        (0.0, 10.0, ('0', '2', '4', '6', '8', '10'))
        """
        numbers = np.asarray(values, dtype=np.float64).ravel()
        low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
        low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            reach = 0.5 * max(abs(low), abs(high)) or 0.5
            low, high = low - reach, high + reach
        step = _round_step((high - low) / 5.0, least=1.0 if whole else 0.0)
        first = math.floor(low / step + 1e-9)
        # Values that differ by far less than a whole step still need a range.
        last = max(math.ceil(high / step - 1e-9), first + 1)
        if tight:
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        ticks = [step * k for k in range(first, last + 1)]
        labels = [f"{0.0 if k == 0 else step * k:.9g}" for k in range(first, last + 1)]
        if max(map(len, labels), default=0) > _LONGEST_LABEL:
            # Many digits in common: the marks count from the lowest one.
            title = f"{title}, less {ticks[0]:.9g}"
            labels = [f"{step * (k - first):.6g}" for k in range(first, last + 1)]
        low, high = (low, high) if tight else (ticks[0], ticks[-1])
        return cls(title, low, high, tuple(ticks), tuple(labels))

    @classmethod
    def powers(cls, values: npt.ArrayLike, title: str) -> Axis:
        """Axis around the logarithms to base 10 of positive values, marked with at most eight powers.

        Examples
        --------
        >>> axis = Axis.powers([0.02, 3e-5], "gap")
        >>> axis.low, axis.high, axis.labels
        (-5.0, -1.0, ('1e-5', '1e-4', '1e-3', '1e-2', '1e-1'))
        """
        logarithms = np.log10(np.asarray(values, dtype=np.float64))
        first, last = math.floor(logarithms.min() + 1e-9), math.ceil(logarithms.max() - 1e-9)
        last = max(last, first + 1)
        step = math.ceil((last - first) / 7)
        first = last - step * math.ceil((last - first) / step)
        ticks = range(first, last + 1, step)
        labels = tuple("1" if power == 0 else f"1e{power}" for power in ticks)
        return cls(title, float(first), float(last), tuple(map(float, ticks)), labels)

    def place(self, values: npt.ArrayLike, start: float, stop: float) -> FloatArray:
        """Positions on the picture between ``start`` (``low``) and ``stop`` (``high``)."""
        return start + (stop - start) * (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)


@dataclass(frozen=True, eq=False)
class Series:
    """What is drawn alike: a label for the legend, a style (a class of the style sheet), and coordinates."""

    label: str
    style: str
    x: FloatArray
    y: FloatArray


def points(key: str, title: str, description: str, x: Axis, y: Axis, groups: Sequence[Series]) -> Markup:
    """Cloud of points with the diagonal of equal values; the first group is drawn as discs, others as squares."""
    frame = _Frame.of(x, y)
    low, high = max(x.low, y.low), min(x.high, y.high)
    marks = []
    if low < high:
        (x1, x2), (y1, y2) = frame.across([low, high]), frame.up([low, high])
        marks.append(tag("line", class_="guide", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2)))
    for position, group in enumerate(groups):
        places = zip(frame.across(group.x), frame.up(group.y), strict=True)
        marks.append(tag("g", *(_dot(a, b, square=position > 0) for a, b in places), class_=f"mark {group.style}"))
    return frame.picture(key, title, description, marks)


def columns(
    key: str,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    *,
    edges: FloatArray,
    heights: FloatArray,
    styles: Sequence[str],
) -> Markup:
    """Columns between neighbouring ``edges (k + 1,)`` from zero up to ``heights (k,)``."""
    frame = _Frame.of(x, y)
    sides, tops, ground = frame.across(edges), frame.up(heights), float(frame.up(0.0))
    marks = []
    for left, right, top, style in zip(sides[:-1], sides[1:], tops, styles, strict=True):
        gap = min(1.0, 0.1 * (right - left))
        width, height = right - left - 2.0 * gap, abs(ground - top)
        marks.append(
            tag("rect", class_=style, x=_n(left + gap), y=_n(min(top, ground)), width=_n(width), height=_n(height))
        )
    return frame.picture(key, title, description, marks)


def curves(key: str, title: str, description: str, x: Axis, y: Axis, series: Sequence[Series]) -> Markup:
    """Curves through the points of each series."""
    frame = _Frame.of(x, y)
    marks = []
    for line in series:
        places = zip(frame.across(line.x), frame.up(line.y), strict=True)
        path = " ".join(f"{_n(a)},{_n(b)}" for a, b in places)
        marks.append(tag("polyline", class_=f"curve {line.style}", points=path))
    return frame.picture(key, title, description, marks)


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """List of (label, style, kind) with a sample of the style; kinds are "disc", "square", "column" and "curve"."""
    items = []
    for label, style, kind in entries:
        if kind == "curve":
            sample = tag("line", class_=f"curve {style}", x1=0, y1=6, x2=24, y2=6)
        elif kind == "column":
            sample = tag("rect", class_=style, x=7, y=1, width=10, height=10)
        else:
            sample = tag("g", _dot(12.0, 6.0, square=kind == "square"), class_=f"mark {style}")
        picture = tag("svg", sample, viewBox="0 0 24 12", width=24, height=12, aria_hidden="true")
        items.append(tag("li", picture, f" {label}"))
    return tag("ul", *items, class_="legend")


@dataclass(frozen=True)
class _Frame:
    """Place of the axes on the picture."""

    x: Axis
    y: Axis
    left: float
    right: float

    @classmethod
    def of(cls, x: Axis, y: Axis) -> _Frame:
        margin = 8.0 + 0.5 * _CHARACTER * max(map(len, x.labels))
        return cls(x, y, 28.0 + _CHARACTER * max(map(len, y.labels)), _WIDTH - max(_LEAST_MARGIN, margin))

    def across(self, values: npt.ArrayLike) -> FloatArray:
        return self.x.place(values, self.left, self.right)

    def up(self, values: npt.ArrayLike) -> FloatArray:
        return self.y.place(values, _HEIGHT - _BOTTOM, _TOP)

    def picture(self, key: str, title: str, description: str, marks: Sequence[Markup]) -> Markup:
        return tag(
            "svg",
            tag("title", title, id=f"{key}-title"),
            tag("desc", description, id=f"{key}-text"),
            *self._axes(),
            *marks,
            class_="picture",
            role="img",
            aria_labelledby=f"{key}-title {key}-text",
            viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        )

    def _axes(self) -> list[Markup]:
        ground, right = _HEIGHT - _BOTTOM, self.right
        drawn = []
        for place, label in zip(self.up(self.y.ticks), self.y.labels, strict=True):
            drawn.append(tag("line", class_="grid", x1=_n(self.left), y1=_n(place), x2=_n(right), y2=_n(place)))
            drawn.append(tag("text", label, x=_n(self.left - 5.0), y=_n(place + 4.0), text_anchor="end"))
        width = _CHARACTER * (max(map(len, self.x.labels)) + 1)
        # Labels that would touch are left out evenly.
        every = max(1, math.ceil(width * (len(self.x.ticks) - 1) / (right - self.left)))
        for place, label in list(zip(self.across(self.x.ticks), self.x.labels, strict=True))[::every]:
            drawn.append(tag("line", class_="grid", x1=_n(place), y1=_n(_TOP), x2=_n(place), y2=_n(ground)))
            drawn.append(tag("text", label, x=_n(place), y=_n(ground + 19.0), text_anchor="middle"))
        middle = 0.5 * (_TOP + ground)
        return [
            *drawn,
            tag("text", self.x.title, x=_n(0.5 * (self.left + right)), y=_n(_HEIGHT - 8.0), text_anchor="middle"),
            tag("text", self.y.title, transform=f"translate(13 {_n(middle)}) rotate(-90)", text_anchor="middle"),
        ]


def _dot(x: float, y: float, *, square: bool) -> Markup:
    if square:
        return tag("rect", x=_n(x - 2.5), y=_n(y - 2.5), width=5, height=5)
    return tag("circle", cx=_n(x), cy=_n(y), r=2.5)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _round_step(step: float, *, least: float) -> float:
    """Smallest of 1, 2 and 5 times a power of ten that is not below ``step``."""
    step = max(step, least)
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= step * (1.0 - 1e-9))
