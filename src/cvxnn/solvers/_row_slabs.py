"""Passes over the hidden layer by slabs of rows, so that no array of its size is formed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._workers import in_parallel, pieces_of
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["fitted", "objective", "row_pieces", "row_slabs"]

_SLAB_ENTRIES = 1 << 16
"""Entries of the work arrays of one slab: few enough to stay in a core's cache."""


def row_slabs(n_samples: int, width: int) -> list[slice]:
    """Slices that cover the rows, each of at least 64 rows and of about as many entries as fit in a core's cache.

    Examples
    --------
    >>> row_slabs(300, 512)
    [slice(0, 128, None), slice(128, 256, None), slice(256, 300, None)]
    """
    rows = max(64, _SLAB_ENTRIES // max(width, 1))
    return [slice(i, min(i + rows, n_samples)) for i in range(0, n_samples, rows)]


def row_pieces(n_samples: int, width: int) -> list[Sequence[slice]]:
    """The slabs of :func:`row_slabs` in a few runs, for :func:`in_parallel`."""
    return pieces_of(row_slabs(n_samples, width))


def fitted(problem: Problem, neurons: Neurons) -> FloatArray:
    """Fitted values ``(n,)`` in double precision."""
    fit = np.empty(problem.n_samples)

    def sweep(slabs: Sequence[slice]) -> None:
        for rows in slabs:
            fit[rows] = neurons.fit(problem.X[rows])

    in_parallel(sweep, row_pieces(problem.n_samples, len(neurons)))
    return fit


def objective(problem: Problem, neurons: Neurons) -> float:
    """Training objective of the balanced network in double precision."""
    return problem.loss_value(fitted(problem, neurons)) + problem.beta * float(neurons.masses.sum())
