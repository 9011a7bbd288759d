"""Search for directions that violate the dual constraint of several outputs: batched ascent in single precision."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from cvxnn._powers import times_power
from cvxnn._workers import in_parallel
from cvxnn.networks import unit_rows
from cvxnn.patterns._distinct import distinct
from cvxnn.problem import Problem
from cvxnn.solvers._directions import STEPS, batches
from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["ascend_outputs", "output_values"]

_MOST_GIVEN = 300
_MOST_ROWS = 1 << 13


def ascend_outputs(
    problem: Problem,
    N: FloatArray,
    given: FloatArray,
    *,
    threshold: float,
    n_starts: int,
    rng: np.random.Generator,
    deadline: float = math.inf,
) -> tuple[FloatArray, FloatArray]:
    r"""Find unit directions u with :math:`\|N^\top (X u)_+\|` above a threshold, best first.

    The gradient is that of :math:`\nu^\top (X u)_+` with :math:`\nu = N z`, z the unit vector along
    :math:`N^\top (X u)_+`. Starts are given directions, perturbed copies of them, rows, differences of rows and random
    vectors; steps shrink geometrically because maxima lie on kinks. Nothing found proves nothing.

    Parameters
    ----------
    problem : Problem
        Supplies X.
    N : ndarray (n, c)
        Dual matrix.
    given : ndarray (k, d)
        Unit directions to start from.
    threshold : float
        Least value of a returned direction.
    n_starts : int
        Number of generated starts.
    rng : Generator
        Source of the starts.
    deadline : float
        On the clock of ``time.perf_counter``; a search that it cuts short returns what it has.

    Returns
    -------
    directions : ndarray (q, d)
        Unit vectors; of two whose cosine exceeds 0.998 only the better is returned.
    values : ndarray (q,)
    """
    X = problem.X
    points = _starts(X, given, n_starts, rng)
    sample = np.sort(rng.choice(len(X), _MOST_ROWS, replace=False)) if len(X) > _MOST_ROWS else slice(None)
    single, dual = _single(X[sample]), _single(N[sample])

    def work(part: slice) -> None:
        if time.perf_counter() < deadline:
            points[part] = _climb(single, dual, points[part])

    in_parallel(work, batches(len(points), len(single)))
    directions = unit_rows(points.astype(np.float64))
    values = output_values(X, N, directions)
    chosen = distinct(directions, np.ones(len(directions)), values, above=threshold)
    return directions[chosen], values[chosen]


def output_values(X: FloatArray, N: FloatArray, directions: FloatArray) -> FloatArray:
    """Values of ``||N^T (X u)_+||`` at directions ``(q, d)``."""
    total = np.zeros((len(directions), N.shape[1]))
    for rows in row_slabs(len(X), max(len(directions), 1)):
        total += np.maximum(directions @ X[rows].T, 0.0) @ N[rows]
    return np.linalg.norm(total, axis=1)


def _single(array: FloatArray) -> SingleArray:
    """Array in single precision, with largest entries of order one: in its own units squares may over- or underflow."""
    largest = float(np.max(np.abs(array), initial=0.0))
    return times_power(array, -math.frexp(largest)[1]).astype(np.float32)


def _climb(X: SingleArray, N: SingleArray, points: SingleArray) -> SingleArray:
    for step in STEPS:
        hidden = points @ X.T
        np.maximum(hidden, 0.0, out=hidden)
        slopes = unit_rows(hidden @ N) @ N.T
        slopes *= hidden > 0.0
        gradient = unit_rows(slopes @ X)
        moved = gradient if np.isinf(step) else unit_rows(points + step * gradient)
        points = np.where(np.any(moved, axis=1)[:, None], moved, points)
    return points


def _starts(X: FloatArray, given: FloatArray, count: int, rng: np.random.Generator) -> SingleArray:
    n, d = X.shape
    known = given[:_MOST_GIVEN]
    noise = 10.0 ** rng.uniform(-2.0, 0.0, size=(len(known), 1)) * unit_rows(rng.standard_normal(known.shape))
    random = unit_rows(rng.standard_normal((count, d)))
    half = count // 2
    second = rng.integers(-1, 2, size=(half, 1)) * X[rng.integers(n, size=half)]
    rows = np.where(rng.random((half, 1)) < 0.5, -1.0, 1.0) * (X[rng.integers(n, size=half)] + second)
    # Squares of small rows vanish: entries of order one first.
    largest = np.max(np.abs(rows), axis=1, keepdims=True, initial=0.0)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0.0)
    random[:half] = np.where(largest > 0.0, unit_rows(rows), random[:half])
    return np.vstack([known, unit_rows(known + noise), random]).astype(np.float32)
