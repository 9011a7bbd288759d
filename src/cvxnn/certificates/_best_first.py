"""Best-first branch and bound in batches, whatever a node is; the bound is valid whenever the search stops."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._local_search import DirectionPool
from cvxnn.certificates._rounding import FloatArray

__all__ = ["Bounder", "Nodes", "SearchResult", "best_first"]


@dataclass(frozen=True)
class SearchResult:
    """Outcome of a branch and bound on the reduced problem."""

    upper: float
    nodes: int
    interrupted: bool


@dataclass
class Nodes(ABC):
    """Open nodes, one in each row of every array: sign of the problem ``(B,)``, upper bound ``(B,)`` and more."""

    sign: npt.NDArray[np.int64]
    bound: FloatArray

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        """Chosen nodes, as copies."""
        return type(self)(*(getattr(self, item.name)[index] for item in fields(self)))

    def join(self, other: Self) -> Self:
        """These nodes, then the others."""
        names = [item.name for item in fields(self)]
        return type(self)(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    @abstractmethod
    def closed(self) -> npt.NDArray[np.bool_]:
        """Whether a node cannot be split."""


AnyNodes = TypeVar("AnyNodes", bound=Nodes)


class Bounder(Protocol[AnyNodes]):
    """What bounds nodes: ``trivial`` bounds all of them, and ``resolution`` is the rounding of a bound."""

    trivial: float
    resolution: float

    def bound(self, nodes: AnyNodes, limit: float, pool: DirectionPool) -> AnyNodes:
        """Nodes with better bounds and with what is to be split next; points met go to the pool."""
        ...


def best_first(
    roots: AnyNodes,
    split: Callable[[AnyNodes], AnyNodes],
    bounder: Bounder[AnyNodes],
    pool: DirectionPool,
    *,
    batch: int,
    target: float | None,
    stop_above: float | None,
    tol: float,
    deadline: float | None,
    max_nodes: int,
) -> SearchResult:
    """Split the nodes of largest bound, `batch` at a time, until none is above the limit.

    Parameters
    ----------
    roots : Nodes
        They cover the ball; they are bounded before any is split.
    split : callable
        Two nodes for each one, which cover it.
    bounder : Bounder
    pool : DirectionPool
    batch : int
    target, stop_above, tol, deadline, max_nodes
        As for :func:`cvxnn.certificates.cone_branch_and_bound.cone_branch_and_bound`.

    Returns
    -------
    SearchResult
        ``upper`` is the maximum over the nodes that were left and those still open.
    """
    frontier = roots
    retired, nodes, interrupted = 0.0, 0, False

    def limit() -> float:
        return max(target or 0.0, pool.best * (1.0 + tol), pool.best + bounder.resolution)

    try:
        frontier = _bounded(bounder, roots, limit(), pool, batch, deadline)
        nodes = frontier.bound.size
        while True:
            most = limit()
            low = (frontier.bound <= most) | frontier.closed()
            retired = max(retired, float(np.max(frontier.bound, where=low, initial=0.0)))
            frontier = frontier.take(~low)
            if frontier.bound.size == 0 or nodes >= max_nodes:
                break
            if (deadline is not None and time.monotonic() >= deadline) or (
                stop_above is not None and pool.best > stop_above
            ):
                break
            size = min(batch, frontier.bound.size)
            top = np.argpartition(-frontier.bound, size - 1)[:size]
            chosen = frontier.take(top)
            children = bounder.bound(split(chosen), most, pool)
            rest = np.ones(frontier.bound.size, dtype=bool)
            rest[top] = False
            frontier, nodes = frontier.take(rest).join(children), nodes + children.bound.size
    except KeyboardInterrupt:
        interrupted = True
    return SearchResult(max(retired, float(np.max(frontier.bound, initial=0.0))), nodes, interrupted)


def _bounded(
    bounder: Bounder[AnyNodes],
    roots: AnyNodes,
    limit: float,
    pool: DirectionPool,
    batch: int,
    deadline: float | None,
) -> AnyNodes:
    """Bound the roots, a batch at a time; those that a deadline leaves keep the bound that they have."""
    done = bounder.bound(roots.take(np.arange(min(batch, roots.bound.size))), limit, pool)
    while done.bound.size < roots.bound.size:
        rest = np.arange(done.bound.size, roots.bound.size)
        if deadline is not None and time.monotonic() >= deadline:
            return done.join(roots.take(rest))
        done = done.join(bounder.bound(roots.take(rest[:batch]), limit, pool))
    return done
