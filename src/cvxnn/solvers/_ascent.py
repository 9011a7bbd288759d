"""Quick search for neurons worth adding: batched projected ascent in single precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._row_slabs import row_slabs
from cvxnn.solvers._workers import in_parallel
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["ascend"]

_STEPS = 40
_MOST_GIVEN = 300
_SIMILARITY = 0.998
_BLOCK_ENTRIES = 1 << 17
_HALVINGS = (24,)
"""Steps after which the worse half stops; the first steps are too long for their values to tell."""
_MOST_ROWS = 1 << 13


def ascend(
    problem: Problem, nu: FloatArray, given: Neurons, *, threshold: float, n_starts: int, rng: np.random.Generator
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

    Returns
    -------
    directions : ndarray (q, d)
        Unit vectors; of two of one sign whose cosine exceeds 0.998 only the better is returned.
    signs : ndarray (q,)
        Signs s.
    """
    X = problem.X
    points, signs, groups = _starts(X, given, n_starts, rng)
    sample = np.sort(rng.choice(len(X), _MOST_ROWS, replace=False)) if len(X) > _MOST_ROWS else slice(None)
    single, dual = X[sample].astype(np.float32), nu[sample].astype(np.float32)
    steps = np.array([1.0, *np.geomspace(1.0, 1e-3, _STEPS - 1)], dtype=np.float32)
    low = 0
    for high in (*_HALVINGS, _STEPS):
        values = _climb_all(single, dual, points, signs, steps[low:high])
        if high < _STEPS:
            kept = _better_half(values, groups)
            points, signs, groups = points[kept], signs[kept], groups[kept]
        low = high
    directions = _unit(points.astype(np.float64))
    values = np.zeros(len(points))
    for rows in row_slabs(len(X), len(points)):
        values += nu[rows] @ np.maximum(X[rows] @ directions.T, 0.0)
    values *= signs
    order = np.argsort(-values, kind="stable")
    chosen = _distinct(directions, signs.astype(np.float64), order[values[order] > threshold])
    return directions[chosen], signs[chosen].astype(np.float64)


def _better_half(values: SingleArray, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Positions of the larger half of the values in each group."""
    kept = []
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups == group)
        kept.append(members[np.argsort(-values[members], kind="stable")[: (len(members) + 1) // 2]])
    return np.sort(np.concatenate(kept))


def _climb_all(
    X: SingleArray, nu: SingleArray, points: SingleArray, signs: SingleArray, steps: SingleArray
) -> SingleArray:
    """Move the points in place, batch by batch; returns the values of :func:`_climb`."""
    values = np.empty(len(points), dtype=np.float32)

    def climb(part: slice) -> None:
        points[part], values[part] = _climb(X, nu, points[part], signs[part], steps)

    batch = max(16, _BLOCK_ENTRIES // len(X))
    in_parallel(climb, [slice(low, low + batch) for low in range(0, len(points), batch)])
    return values


def _climb(
    X: SingleArray, nu: SingleArray, points: SingleArray, signs: SingleArray, steps: SingleArray
) -> tuple[SingleArray, SingleArray]:
    """Projected ascent with the given steps; also the values before the last step."""
    bits = nu.view(np.int32)
    value = np.zeros(len(points), np.float32)
    for step in steps:
        active = points @ X.T
        # The sign bit of minus the product, spread over the word, masks the bits of nu.
        np.negative(active, out=active)
        masks = active.view(np.int32)
        np.right_shift(masks, 31, out=masks)
        masks &= bits
        gradient = (active @ X) * signs[:, None]
        value = np.einsum("ij,ij->i", gradient, points)
        gradient = _unit(gradient)
        moved = gradient if step == 1.0 else _unit(points + step * gradient)
        stuck = ~np.any(moved, axis=1)
        points = np.where(stuck[:, None], points, moved)
    return points, value


def _starts(
    X: FloatArray, given: Neurons, count: int, rng: np.random.Generator
) -> tuple[SingleArray, SingleArray, npt.NDArray[np.intp]]:
    """Directions, signs and group (given, perturbed, generated of either sign) of the starts."""
    n, d = X.shape
    heaviest = np.argsort(-given.masses, kind="stable")[:_MOST_GIVEN]
    known, known_signs = _unit(given.vectors[heaviest]), given.signs[heaviest]
    random = _unit(rng.standard_normal((count, d)))
    half = count // 2
    rows = X[rng.integers(n, size=half)] - X[rng.integers(n, size=half)]
    random[:half] = np.where(np.any(rows != 0.0, axis=1)[:, None], _unit(rows), random[:half])
    noise = 10.0 ** rng.uniform(-2.0, 0.0, size=(len(known), 1)) * _unit(rng.standard_normal(known.shape))
    points = np.vstack([known, _unit(known + noise), random, random])
    signs = np.concatenate([known_signs, known_signs, np.ones(count), -np.ones(count)])
    groups = np.repeat(np.arange(4), [len(known), len(known), count, count])
    return points.astype(np.float32), signs.astype(np.float32), groups


def _unit(rows: npt.NDArray) -> npt.NDArray:
    """Rows of unit length; zero rows stay zero."""
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(size, np.finfo(rows.dtype).tiny)


def _distinct(directions: FloatArray, signs: FloatArray, order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Members of ``order`` that are not close to an earlier one of the same sign."""
    ranked = directions[order]
    close = (ranked @ ranked.T > _SIMILARITY) & (signs[order][:, None] == signs[order])
    free = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if free[i]:
            free[i + 1 :] &= ~close[i, i + 1 :]
    return order[free]
