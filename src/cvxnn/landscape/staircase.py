"""The staircase of connectivity: components of the optimal networks at each width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import Architecture
from cvxnn.landscape._vertex_graph import vertex_components
from cvxnn.landscape.optimal_set import OptimalSet, ParallelOptimalSet, optimal_set
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["Staircase", "StaircaseRow", "Transition", "staircase"]


@dataclass(frozen=True)
class StaircaseRow:
    """The optimal networks of one width.

    Attributes
    ----------
    width : int
        Number of neurons m.
    components : int
        Connected components up to permutations of the neurons; 0 where no network of this width is optimal.
    labelled_components : int
        Connected components of the networks themselves, in the space of their weights. Exact, of any size.
    isolated_points : bool
        Whether some optimal network of this width is isolated.
    continuum : bool
        Whether some component is not a single network.
    phase : str
        The phase in words.
    """

    width: int
    components: int
    labelled_components: int
    isolated_points: bool
    continuum: bool
    phase: str


@dataclass(frozen=True)
class Transition:
    """A width at which the set of optimal networks changes its nature, with the name of the width and its meaning."""

    name: str
    width: int
    meaning: str


@dataclass(frozen=True)
class Staircase(Sequence[StaircaseRow]):
    """Rows by rising width, printable as a table.

    Attributes
    ----------
    rows : tuple of StaircaseRow
    transitions : tuple of Transition
        The critical widths in rising order.
    connected_from : int
        Smallest width at which and above which the optimal networks are connected; at most the width of the theorem.
    """

    rows: tuple[StaircaseRow, ...]
    transitions: tuple[Transition, ...]
    connected_from: int

    @overload
    def __getitem__(self, index: int) -> StaircaseRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[StaircaseRow, ...]: ...
    def __getitem__(self, index: int | slice) -> StaircaseRow | tuple[StaircaseRow, ...]:
        """Row or rows by position; :meth:`at` looks a width up."""
        return self.rows[index]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[StaircaseRow]:
        """Rows by rising width."""
        return iter(self.rows)

    def at(self, width: int) -> StaircaseRow:
        """Row of a width.

        Raises
        ------
        KeyError
            When the width is not in the table.
        """
        for row in self.rows:
            if row.width == width:
                return row
        raise KeyError(f"The staircase has no row for width {width}; it has {[row.width for row in self.rows]}.")

    def __str__(self) -> str:
        """Table of the rows, then the critical widths."""
        head = ("width", "components", "labelled", "isolated", "continuum", "phase")
        body = [
            (
                str(row.width),
                str(row.components),
                _short(row.labelled_components),
                "yes" if row.isolated_points else "no",
                "yes" if row.continuum else "no",
                row.phase,
            )
            for row in self.rows
        ]
        sizes = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [
            "  ".join(cell.rjust(sizes[i]) if i < 3 else cell.ljust(sizes[i]) for i, cell in enumerate(line))
            for line in [head, *body]
        ]
        lines += [f"{t.name} = {t.width}: {t.meaning}" for t in self.transitions]
        return "\n".join(line.rstrip() for line in lines)


def staircase(
    problem: Problem | OptimalSet,
    widths: Iterable[int] | None = None,
    *,
    architecture: Architecture | None = None,
    time_limit: float | None = None,
) -> Staircase:
    r"""Count the connected components of the optimal networks of each width.

    Optimal networks of width m fill the faces of the optimal polytope with at most m directions. Their components up to
    permutations are those of the graph of the vertices with at most m positive masses in which two are joined when
    their supports together have at most m directions. Among the networks themselves, a component counts m! times where
    it is a single vertex with exactly m positive masses (an isolated network and its permutations), and once
    otherwise, since a free neuron lets all permutations be reached. All of this holds for several outputs, too.

    Parameters
    ----------
    problem : Problem or OptimalSet
        A problem is first handed to :func:`optimal_set`.
    widths : iterable of int, optional
        Widths of the rows; by default 1 (or 0 where the zero network is optimal) up to ``m* + M* + 1``.
    architecture : ReLU or ParallelReLU, optional
        Where a problem is given. For ``ParallelReLU`` width counts sub-networks, and the orders of the neurons within
        each of them are labels, too.
    time_limit : float, optional
        Seconds for :func:`optimal_set`, where a problem is given.

    Returns
    -------
    Staircase

    Raises
    ------
    OptimalSetError
        When the optimal set, or the list of its vertices, cannot be had.
    ValueError
        When a width is not a non-negative integer.

    References
    ----------
    Kim, Mishkin and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality":
    the staircase of connectivity.

    Examples
    --------
    >>> import math
    >>> from cvxnn import Problem
    >>> root = math.sqrt(3.0)
    >>> steps = staircase(Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2))
    >>> [(row.width, row.components, row.labelled_components) for row in steps]
    [(1, 1, 1), (2, 2, 3), (3, 1, 1), (4, 1, 1)]
    >>> steps.connected_from
    3
    """
    o = (
        problem
        if isinstance(problem, OptimalSet)
        else optimal_set(problem, architecture=architecture, time_limit=time_limit)
    )
    vertices = o.vertices()
    sizes = np.sum(vertices > 0.0, axis=1)
    smallest, largest = int(np.min(sizes)), int(np.max(sizes))
    connected_from = _connected_from(vertices, smallest, o.connected_width, _orders(o, vertices))
    # m* + M* comes into view, too, which the theorem is often quoted with, and one more.
    last = max(o.connected_width, smallest + largest) + 1
    chosen = range(min(smallest, 1), last + 1) if widths is None else _checked_widths(widths)
    orders = _orders(o, vertices)
    rows = tuple(_row(vertices, sizes, orders, width) for width in chosen)
    return Staircase(rows, _transitions(o, smallest, largest, connected_from), connected_from)


def _checked_widths(widths: Iterable[int]) -> list[int]:
    if isinstance(widths, (str, bytes)) or not isinstance(widths, Iterable):
        raise ValueError(f"widths must be an iterable of non-negative integers; got {widths!r}.")
    chosen = list(widths)
    for width in chosen:
        if isinstance(width, bool) or not hasattr(width, "__index__") or width < 0:
            raise ValueError(f"widths must hold non-negative integers; got {width!r}.")
    return sorted({int(width) for width in chosen})


def _orders(o: OptimalSet, vertices: FloatArray) -> list[int]:
    """Orders of the neurons within the sub-networks of each vertex; neurons by themselves have one."""
    if not isinstance(o, ParallelOptimalSet):
        return [1] * len(vertices)
    counts = o.arrangements
    return [math.prod(counts[int(i)] for i in np.flatnonzero(vertex > 0.0)) for vertex in vertices]


def _row(vertices: FloatArray, sizes: npt.NDArray[np.int64], orders: list[int], width: int) -> StaircaseRow:
    labels = vertex_components(vertices, width)
    count = int(np.max(labels, initial=-1)) + 1
    smallest = int(np.min(sizes))
    if smallest == 0:
        # The zero network is alone: it has no mass to split, so it is isolated at every width.
        return StaircaseRow(width, 1, 1, True, False, "one network")
    population = np.bincount(labels[labels >= 0], minlength=count)
    full = [int(i) for i in np.flatnonzero((labels >= 0) & (sizes == width)) if population[labels[i]] == 1]
    isolated = len(full)
    labelled = sum(orders[i] for i in full) * math.factorial(width) + (count - isolated)
    phase = _phase(count, labelled, isolated)
    return StaircaseRow(width, count, labelled, isolated > 0, isolated < count, phase)


def _phase(count: int, labelled: int, isolated: int) -> str:
    if count == 0:
        return "no optimum of this width"
    if isolated == count:
        return "one network" if labelled == 1 else "finite set"
    if isolated:
        return "isolated points and continua"
    return "connected" if labelled == 1 else "continua, not connected"


def _connected_from(vertices: FloatArray, smallest: int, enough: int, orders: list[int]) -> int:
    """Smallest width from which on there is one component also among labelled networks."""
    width = max(enough, smallest)
    sizes = np.sum(vertices > 0.0, axis=1)
    while width > smallest and _row(vertices, sizes, orders, width - 1).labelled_components == 1:
        width -= 1
    return width


def _transitions(o: OptimalSet, smallest: int, largest: int, connected_from: int) -> tuple[Transition, ...]:
    if smallest == 0:
        return (Transition("m*", 0, "the zero network is the only optimum at every width"),)
    found = [
        Transition("m*", smallest, "smallest optimal width; there the optimal networks are finitely many"),
        Transition("m* + 1", smallest + 1, "from here on there are continua of optimal networks"),
        Transition("M*", largest, "largest width with isolated optimal networks"),
        Transition("M* + 1", largest + 1, "from here on no optimal network is isolated"),
        Transition("first connected width", connected_from, "from here on the optimal networks are connected"),
        Transition(
            "min(m* + M*, rank + 1)", o.connected_width, "width at which the theorem promises that they are connected"
        ),
    ]
    if not isinstance(o, ParallelOptimalSet):
        meaning = "from here on every network has a path to an optimum along which the objective never rises"
        name = "r_eff + 1" if o.problem.n_outputs == 1 else "c r_eff + 1"
        found.append(Transition(name, o.spurious_free_width, meaning))
    return tuple(sorted(found, key=lambda t: t.width))


def _short(number: int) -> str:
    """Digits up to a million, then a power of ten."""
    if number < 10**6:
        return str(number)
    return f"{number:.3e}" if number < 10**300 else f"about 10^{int(number.bit_length() * math.log10(2))}"
