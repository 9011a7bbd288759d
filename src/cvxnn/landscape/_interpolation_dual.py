"""Dual vector of minimum-norm interpolation to machine precision, its proved norm, the directions it makes tight."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.landscape._interpolation_program import face_basis, refine_interpolation

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["dual_value", "refined_dual", "tight_directions"]

_EPS = float(np.finfo(np.float64).eps)
_ATOM = 1e-7
_SHARP = 1e-11
_NEWTON_FAILED = 1e-10
_NEARLY = 1e-6
_NEAR = 1e-3
_RIDGE = 1e-4
_SAME_DIRECTION = 1e-6
_READINGS = ((1e-4, 1e-6), (1e-3, 1e-6), (1e-2, 1e-6), (1e-4, 1e-8), (1e-3, 1e-8))
"""Distances of directions that count as one, and slacks in the dual that count as tight, tried in turn."""

_DUAL_READINGS = (1e-6, 1e-7, 1e-8, 1e-9)
"""Slacks at which directions are read off the dual vector where those of the vectors did not do."""


def refined_dual(
    X: FloatArray,
    y: FloatArray,
    masks: BoolArray,
    signs: FloatArray,
    vectors: FloatArray,
    vector_signs: FloatArray,
    dual: FloatArray,
) -> tuple[FloatArray, float, float]:
    """Dual vector, at machine precision where Newton's method succeeds, the bound of its dual norm, its accuracy."""
    best = (-np.inf, 1.0, _ATOM, dual)
    for starts in _starts(X, y, masks, signs, vectors, vector_signs, dual):
        newton, error = refine_interpolation(X, y, *starts, dual)
        if error > _NEWTON_FAILED:
            continue
        tau = _largest_bound(X, newton, masks, signs)
        candidate = (dual_value(newton, y, tau), tau, max(_SHARP, 100.0 * error), newton)
        best = max(best, candidate, key=lambda item: item[0])
        if tau <= 1.0 + _SHARP:
            break
    else:
        tau = _largest_bound(X, dual, masks, signs)
        best = max(best, (dual_value(dual, y, tau), tau, _ATOM, dual), key=lambda item: item[0])
    return best[3], best[1], best[2]


def _starts(
    X: FloatArray,
    y: FloatArray,
    masks: BoolArray,
    signs: FloatArray,
    vectors: FloatArray,
    vector_signs: FloatArray,
    dual: FloatArray,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Readings of the solution for Newton's method: its vectors, then the directions where its dual vector is tight."""
    for same, tight in _READINGS:
        yield _active(X, vectors, vector_signs, dual, same, tight)
    for tight in _DUAL_READINGS:
        directions, sides = tight_directions(X, masks, signs, dual, tight, same=_NEAR)
        if len(sides) == 0:
            continue
        columns = sides * np.maximum(X @ directions.T, 0.0)
        # A little ridge spreads the masses: a vertex would leave out directions that bind the dual vector.
        system = np.vstack([columns, _RIDGE * np.eye(len(sides))])
        masses, _ = nnls(system, np.concatenate([y, np.zeros(len(sides))]), maxiter=100 * len(sides) + 100)
        positive = masses > 0
        yield masses[positive, None] * directions[positive], sides[positive]


def _largest_bound(X: FloatArray, nu: FloatArray, masks: BoolArray, signs: FloatArray) -> float:
    """Proved upper bound of the dual norm over all cells."""
    return float(np.max(cone_bounds(X, nu, masks, signs, target=1.0 - 1e-15)[0]))


def _active(
    X: FloatArray, vectors: FloatArray, signs: FloatArray, dual: FloatArray, same: float, tight: float
) -> tuple[FloatArray, FloatArray]:
    """Vectors whose direction is tight in the dual, those of nearly one direction and one sign added up."""
    kept: list[FloatArray] = []
    kept_signs: list[float] = []
    for z, s in zip(vectors, signs, strict=True):
        unit = z / np.linalg.norm(z)
        if s * float(dual @ np.maximum(X @ unit, 0.0)) < 1.0 - tight:
            continue  # mass that the interior-point method has not driven out yet
        for k, other in enumerate(kept):
            if kept_signs[k] == s and np.linalg.norm(other / np.linalg.norm(other) - unit) < same:
                kept[k] = other + z
                break
        else:
            kept.append(z)
            kept_signs.append(float(s))
    return np.array(kept).reshape(-1, X.shape[1]), np.array(kept_signs)


def dual_value(nu: FloatArray, y: FloatArray, tau: float) -> float:
    """Lower bound ``nu^T y / tau`` of the norm, with the rounding of the sum subtracted; at least 0."""
    if tau <= 0.0:
        return 0.0
    slack = (len(y) + 8) * _EPS * float(np.sum(np.abs(nu * y)))
    return max((float(nu @ y) - slack) / (tau * (1.0 + 4.0 * _EPS)), 0.0)


def tight_directions(
    X: FloatArray,
    masks: BoolArray,
    signs: FloatArray,
    nu: FloatArray,
    accuracy: float,
    *,
    same: float = _SAME_DIRECTION,
) -> tuple[FloatArray, FloatArray]:
    """All unit directions u and signs s with ``s nu^T (Xu)_+ = 1``: the maximisers of the cells that reach 1.

    Of directions closer than ``same``, the one with the largest value is kept.
    """
    upper, found = cone_bounds(X, nu, masks, signs, target=1.0 - 1e-6)
    candidates: list[tuple[float, int, FloatArray]] = []
    for k in np.flatnonzero(upper >= 1.0 - _NEARLY):
        basis, active = face_basis(X, found[k])
        inside = basis @ (basis.T @ (X[active].T @ (signs[k] * nu[active])))
        length = float(np.linalg.norm(inside))
        if length < 1.0 - accuracy:
            continue
        unit = inside / length
        value = signs[k] * float(nu @ np.maximum(X @ unit, 0.0))
        if value >= 1.0 - accuracy:
            candidates.append((-value, int(k), unit))
    directions: list[FloatArray] = []
    sides: list[float] = []
    for _, k, unit in sorted(candidates, key=lambda item: item[:2]):
        repeated = any(
            s == signs[k] and np.linalg.norm(unit - u) < same for u, s in zip(directions, sides, strict=True)
        )
        if not repeated:
            directions.append(unit)
            sides.append(float(signs[k]))
    return np.array(directions).reshape(-1, X.shape[1]), np.array(sides)
