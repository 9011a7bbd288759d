"""What is known about the critical widths of a polytope of masses, with or without a list of its vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._optimum import OptimalSetError
from cvxnn.landscape._polytope import MassPolytope
from cvxnn.landscape._supports import SupportBounds, largest_vertex_support, smallest_support

FloatArray = npt.NDArray[np.float64]

__all__ = ["CriticalWidths"]

_MILP_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class CriticalWidths:
    """Bounds of the smallest and the largest support of a vertex; ``listed`` tells whether vertices were listed."""

    smallest: SupportBounds
    largest: SupportBounds
    rank: int
    listed: bool

    @classmethod
    def of(cls, polytope: MassPolytope, vertices: FloatArray | None) -> CriticalWidths:
        """Read them from the vertices, or bound them where there is no list."""
        if vertices is None:
            smallest = smallest_support(polytope, time_limit=_MILP_SECONDS)
            return cls(smallest, largest_vertex_support(polytope), polytope.rank, False)
        sizes = np.sum(vertices > 0.0, axis=1)
        few, many = int(np.argmin(sizes)), int(np.argmax(sizes))
        return cls(
            SupportBounds(int(sizes[few]), int(sizes[few]), vertices[few]),
            SupportBounds(int(sizes[many]), int(sizes[many]), vertices[many]),
            polytope.rank,
            True,
        )

    @property
    def status(self) -> str:
        """How the smallest support is known."""
        low, high = self.smallest.lower, self.smallest.upper
        if self.listed:
            return "enumerated"
        return "proved by MILP" if low == high else f"bounds {low}..{high} within the time limit"

    def min_width(self) -> int:
        """Smallest support."""
        return _known("smallest width", self.smallest.lower, self.smallest.upper)

    def max_irreducible_width(self) -> int:
        """Largest support of a vertex."""
        return _known("largest irreducible width", self.largest.lower, self.largest.upper)

    def connected_width(self) -> int:
        """Width that the theorem promises to be connected."""
        if self.smallest.upper == 0:
            return 0
        low, high = self.smallest.lower + self.largest.lower, self.smallest.upper + self.largest.upper
        return _known("connected width", min(low, self.rank + 1), min(high, self.rank + 1))


def _known(name: str, low: int, high: int) -> int:
    if low < high:
        raise OptimalSetError(f"The {name} is known only to lie between {low} and {high}.")
    return low
