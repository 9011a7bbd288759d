"""Solve the ReLU program on given cells with the solver that suits its size."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.cone_proximal import ConeProximal
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.face_newton import polish
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["affords_polish", "refinements", "solve_cells"]

_CONIC_ROWS = 4000
"""Up to so many cone rows the conic solver is as fast as the structured one, and reaches two digits more."""

_CLOSED = 1e-7
"""Gap at which the proximal method has done its work; a larger one goes to the interior-point method."""

_POLISH_VARIABLES = 2500

_OUTSIDE = 1e-6
"""Relative pre-activation on the wrong side that counts as rounding."""

_READINGS = ((1e-7, 1e-5), (1e-5, 1e-5), (1e-7, 1e-9))
"""Tolerances at which the polish reads zero pre-activations and vanishing neurons off the solution on the cells."""


def solve_cells(
    problem: Problem,
    masks: npt.NDArray[np.bool_],
    signs: FloatArray,
    *,
    start: FloatArray,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> FloatArray:
    """Return the vectors ``(K, r)`` of the program on the cones of ``masks (K, n)``.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    masks : ndarray (K, n) of bool
    signs : ndarray (K,)
    start : ndarray (K, r)
        Vectors of an earlier solution, in or near their cones; zero where there is none. From them the proximal
        method starts, which needs a few steps only where they are good.
    tol : float
        Relative gap.
    time_limit : float, optional
        Seconds.
    """
    if masks.size <= _CONIC_ROWS:
        vectors = solve_conic(problem, masks, signs, time_limit=time_limit)
        if vectors is not None:
            return vectors
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    if np.any(start):
        solver = ConeProximal(problem, masks, signs, deadline=deadline)
        solver.start(start)
        gap = solver.descend(np.arange(len(masks)), problem.beta, tol=tol)
        if gap <= max(_CLOSED, tol) or time.perf_counter() > deadline:
            return solver.vectors
        start = solver.vectors
    remaining = None if math.isinf(deadline) else max(deadline - time.perf_counter(), 1e-3)
    return solve_cone_blocks(problem, masks, signs, start=start, tol=tol, time_limit=remaining).vectors


def affords_polish(neurons: Neurons) -> bool:
    """Whether the dense Newton steps of the polish cost less than the digits that they add are worth."""
    return neurons.vectors.size <= _POLISH_VARIABLES


def refinements(
    problem: Problem, neurons: Neurons, *, cells: npt.NDArray[np.bool_] | None = None, deadline: float = math.inf
) -> Iterator[Neurons]:
    """Cleaner versions of a solution on cells: without vanishing blocks, and at machine precision where affordable.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    neurons : Neurons
        One neuron for each cell where ``cells`` are given.
    cells : ndarray (K, n) of bool, optional
        Masks that the neurons may not leave; without it the polish crosses into other cells where that pays.
    deadline : float
        On the clock of ``time.perf_counter``.
    """
    if cells is not None:
        inside = _inside(problem.X, neurons.vectors, cells)
        neurons, cells = neurons.take(inside), cells[inside]
    massed = solve_masses(problem, neurons)
    yield massed
    if not affords_polish(neurons):
        return
    value = massed.objective(problem)
    for zero_tol, mass_tol in _READINGS:
        remaining = None if math.isinf(deadline) else max(deadline - time.perf_counter(), 0.0)
        polished, stationary = polish(
            problem, neurons, cells=cells, zero_tol=zero_tol, mass_tol=mass_tol, time_limit=remaining
        )
        yield polished
        # A reading that misses nothing ends at the optimum of its faces, below the point that it was read from.
        if stationary and polished.objective(problem) <= value:
            return


def _inside(X: FloatArray, vectors: FloatArray, cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether vectors lie in the cones of their cells but for rounding.

    What an interior-point method leaves in a block of no mass is noise in any direction; with a mass it would be a
    neuron outside the cells.
    """
    sizes = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    return np.all(np.where(cells, 1.0, -1.0) * (vectors @ X.T) >= -_OUTSIDE * sizes, axis=1)
