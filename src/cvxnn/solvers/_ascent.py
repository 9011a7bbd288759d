"""Quick search for neurons worth adding: batched projected ascent in single precision."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from cvxnn.networks import unit_rows
from cvxnn.patterns._distinct import distinct
from cvxnn.problem import Problem
from cvxnn.solvers._directions import STEPS, climb
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["ascend"]

_MOST_GIVEN = 300
_HALVINGS = (24,)
"""Steps after which the worse half stops; the first steps are too long for their values to tell."""
_MOST_ROWS = 1 << 13


def ascend(
    problem: Problem,
    nu: FloatArray,
    given: Neurons,
    *,
    threshold: float,
    n_starts: int,
    rng: np.random.Generator,
    deadline: float = math.inf,
    scales: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    r"""Find unit directions u and signs s with :math:`s\,\nu^\top (X u)_+` above a threshold, best first.

    Starts are the given neurons, perturbed copies of them, differences of rows and random vectors; steps shrink
    geometrically because maxima lie on kinks; the worse half of the starts stops early. With many rows a random sample
    of them guides the ascent; values are those of all rows. Nothing found proves nothing.

    Parameters
    ----------
    problem : Problem
        Supplies X.
    nu : ndarray (n,)
        Dual vector.
    given : Neurons
        Current neurons; only their directions matter.
    threshold : float
        Least value of a returned direction; beta, or a little more, for neurons worth adding.
    n_starts : int
        Number of generated starts, each used with both signs; given neurons start with their own.
    rng : Generator
        Source of the starts.
    deadline : float
        On the clock of ``time.perf_counter``; a search that it cuts short returns nothing.
    scales : ndarray (d,), optional
        Those of :func:`axis_scales`: steps are made in the variables ``u / scales``.

    Returns
    -------
    directions : ndarray (q, d)
        Unit vectors; of two of one sign whose cosine exceeds 0.998 only the better is returned.
    signs : ndarray (q,)
        Signs s.
    """
    X = problem.X
    even = scales is None or bool(np.all(scales == 1.0))
    scales = np.ones(X.shape[1]) if scales is None else scales
    costs = None if even else (scales**2).astype(np.float32)
    scaled = X if even else X * scales
    points, signs, groups = _starts(scaled, Neurons(given.vectors / scales, given.signs), given.masses, n_starts, rng)
    sample = np.sort(rng.choice(len(X), _MOST_ROWS, replace=False)) if len(X) > _MOST_ROWS else slice(None)
    single, dual = scaled[sample].astype(np.float32), nu[sample].astype(np.float32)
    low = 0
    for high in (*_HALVINGS, len(STEPS)):
        values = climb(single, dual, points, signs, STEPS[low:high], deadline, costs)
        if high < len(STEPS):
            kept = _better_half(values, groups)
            points, signs, groups = points[kept], signs[kept], groups[kept]
        low = high
    if time.perf_counter() >= deadline:
        return np.zeros((0, X.shape[1])), np.zeros(0)
    directions = unit_rows(points * scales)
    values = np.zeros(len(points))
    for rows in row_slabs(len(X), len(points)):
        values += nu[rows] @ np.maximum(X[rows] @ directions.T, 0.0)
    values *= signs
    shapes = directions if even else unit_rows(directions / scales)
    chosen = distinct(shapes, signs, values, above=threshold)
    return directions[chosen], signs[chosen].astype(np.float64)


def _better_half(values: SingleArray, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Positions of the larger half of the values in each group."""
    kept = []
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        kept.append(members[np.argsort(-values[members], kind="stable")[: (len(members) + 1) // 2]])
    return np.sort(np.concatenate(kept))


def _starts(
    X: FloatArray, given: Neurons, masses: FloatArray, count: int, rng: np.random.Generator
) -> tuple[SingleArray, SingleArray, npt.NDArray[np.intp]]:
    """Directions, signs and group (given, perturbed, generated of either sign) of the starts."""
    n, d = X.shape
    heaviest = np.argsort(-masses, kind="stable")[:_MOST_GIVEN]
    known, known_signs = unit_rows(given.vectors[heaviest]), given.signs[heaviest]
    random = unit_rows(rng.standard_normal((count, d)))
    half = count // 2
    rows = X[rng.integers(n, size=half)] - X[rng.integers(n, size=half)]
    random[:half] = np.where(np.any(rows != 0.0, axis=1)[:, None], unit_rows(rows), random[:half])
    noise = 10.0 ** rng.uniform(-2.0, 0.0, size=(len(known), 1)) * unit_rows(rng.standard_normal(known.shape))
    points = np.vstack([known, unit_rows(known + noise), random, random])
    signs = np.concatenate([known_signs, known_signs, np.ones(count), -np.ones(count)])
    groups = np.repeat(np.arange(4), [len(known), len(known), count, count])
    return points.astype(np.float32), signs.astype(np.float32), groups
