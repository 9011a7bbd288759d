"""Quick search for neurons worth adding: batched projected ascent in single precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["ascend"]

_STEPS = 40
_MOST_GIVEN = 300
_SIMILARITY = 0.998
_BLOCK_ENTRIES = 1 << 17


def ascend(
    problem: Problem, nu: FloatArray, given: Neurons, *, threshold: float, n_starts: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    r"""Find unit directions u and signs s with :math:`s\,\nu^\top (X u)_+` above a threshold, best first.

    Starts are the given neurons, perturbed copies of them, differences of rows and random vectors; steps shrink
    geometrically because maxima lie on kinks. Nothing found proves nothing.

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
        Number of generated starts, each used with both signs.
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
    starts = _starts(X, given, n_starts, rng)
    points = np.vstack([starts, starts]).astype(np.float32)
    signs = np.repeat([1.0, -1.0], len(starts))
    single, dual = X.astype(np.float32), nu.astype(np.float32)
    batch = max(16, _BLOCK_ENTRIES // X.shape[0])
    for low in range(0, len(points), batch):
        part = slice(low, low + batch)
        points[part] = _climb(single, dual, points[part], signs[part].astype(np.float32)[:, None])
    directions = _unit(points.astype(np.float64))
    values = np.empty(len(points))
    for low in range(0, len(points), batch):
        part = slice(low, low + batch)
        values[part] = signs[part] * (np.maximum(directions[part] @ X.T, 0.0) @ nu)
    order = np.argsort(-values, kind="stable")
    chosen = _distinct(directions, signs, order[values[order] > threshold])
    return directions[chosen], signs[chosen]


def _climb(X: SingleArray, nu: SingleArray, points: SingleArray, signs: SingleArray) -> SingleArray:
    """Projected ascent: the gradient direction first, then steps that shrink from 1 to 1e-3."""
    for k, step in enumerate([1.0, *np.geomspace(1.0, 1e-3, _STEPS - 1)]):
        active = points @ X.T
        np.multiply(active > 0.0, nu, out=active)
        gradient = _unit(active @ X) * signs
        moved = gradient if k == 0 else _unit(points + np.float32(step) * gradient)
        stuck = ~np.any(moved, axis=1)
        points = np.where(stuck[:, None], points, moved)
    return points


def _starts(X: FloatArray, given: Neurons, count: int, rng: np.random.Generator) -> FloatArray:
    n, d = X.shape
    heaviest = np.argsort(-given.masses, kind="stable")[:_MOST_GIVEN]
    known = _unit(given.vectors[heaviest])
    random = _unit(rng.standard_normal((count, d)))
    half = count // 2
    rows = X[rng.integers(n, size=half)] - X[rng.integers(n, size=half)]
    random[:half] = np.where(np.any(rows != 0.0, axis=1)[:, None], _unit(rows), random[:half])
    noise = 10.0 ** rng.uniform(-2.0, 0.0, size=(len(known), 1)) * _unit(rng.standard_normal(known.shape))
    return np.vstack([known, _unit(known + noise), random])


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
