r"""Newton's method on the active faces: the polish that brings a good point to machine precision.

Each neuron lies on a face of the arrangement, given by the samples with zero pre-activation. With these fixed as
equalities, :math:`z_i = N_i v_i`, the objective :math:`\ell(\sum_i s_i (X N_i v_i)_+) + \beta\sum\|v_i\|` is smooth and
convex near the point, and Newton's method converges quadratically. Steps stop at the first sign change; there a sample
joins the face (where the kink is convex) or is crossed (where it is concave). At the optimum of a face, samples whose
multiplier has the wrong sign are released.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr
from scipy.optimize import lsq_linear

from cvxnn.problem import Problem
from cvxnn.solvers._ridge_solve import ridge_solve
from cvxnn.solvers.best_bias import coupling
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["Polished", "polish"]

_GRADIENT_TOL = 1e-13
_RELEASE_TOL = 1e-9
_NO_STEP = 1e-12
_ROUNDING = 1e-15
_PROJECTIONS = 5
_MANY_STEPS, _FEW_STEPS, _CHEAP_VARIABLES = 300, 60, 300
"""Newton steps, counted over all faces visited: up to so many variables, and beyond, where a step is expensive."""
_VANISHED = -1

_DEAD = 1e-13
"""Share of the largest mass below which a neuron is gone: what is left of it would go on from kink to kink in steps
whose length is below all rounding, and hold up the others."""


class Polished(NamedTuple):
    """Result of :func:`polish`: the best neurons met, and whether they are stationary on their faces and beyond."""

    neurons: Neurons
    stationary: bool


@dataclass
class _Face:
    """One neuron on its face: ``z = basis @ v``; ``bits`` are +1, -1 and 0 on the face.

    ``cell`` is the mask of the cone that the neuron may not leave, None where it is free; ``crossed`` are the concave
    kinks crossed since it last moved.
    """

    basis: FloatArray
    v: FloatArray
    bits: npt.NDArray[np.int8]
    sign: float
    cell: npt.NDArray[np.bool_] | None
    crossed: frozenset[int] = frozenset()


def polish(
    problem: Problem,
    neurons: Neurons,
    *,
    cells: npt.NDArray[np.bool_] | None = None,
    zero_tol: float = 1e-7,
    mass_tol: float = 1e-5,
    time_limit: float | None = None,
) -> Polished:
    """Optimise the neurons on their faces; the objective is never higher than that of the input, up to rounding.

    Parameters
    ----------
    problem : Problem
        Data of full column rank, of order one.
    neurons : Neurons
        Start, close to an optimum.
    cells : ndarray (k, n) of bool, optional
        Mask of the cone that each neuron must stay in; without it, neurons cross into other cells where that pays.
    zero_tol : float
        A pre-activation below ``zero_tol * ||x_j|| * ||z_i||`` is read as zero.
    mass_tol : float
        A neuron below this share of the largest norm is left out.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    Polished
        Neurons, and whether they are stationary.
    """
    start = time.perf_counter()
    best, best_value = neurons, neurons.objective(problem)
    faces = _read_faces(problem, neurons, zero_tol, mass_tol, cells)
    if cells is not None:
        # The start may violate its cones by rounding and look better for it; the first point on the faces counts.
        best = _to_neurons(faces, problem.n_features)
        best_value = best.objective(problem)
    previous, stationary = math.inf, False
    for _ in range(_MANY_STEPS if neurons.vectors.size <= _CHEAP_VARIABLES else _FEW_STEPS):
        if not faces or (time_limit is not None and time.perf_counter() - start > time_limit):
            break
        gradient_small, hit = _newton_step(problem, faces)
        norms = [float(np.linalg.norm(face.v)) for face in faces]
        faces = [face for face, norm in zip(faces, norms, strict=True) if norm > _DEAD * max(norms)]
        current = _to_neurons(faces, problem.n_features)
        value = current.objective(problem)
        # Where rounding hides the difference the later iterate is the better one: the dual vector needs its digits.
        latest = value <= best_value * (1.0 + _ROUNDING)
        if latest:
            best, best_value = current, min(value, best_value)
        settled = gradient_small or (not hit and value >= previous * (1.0 - _ROUNDING))
        previous = value
        if settled and not _release(problem, faces):
            stationary = latest
            break
    return Polished(best, stationary)


def _read_faces(
    problem: Problem, neurons: Neurons, zero_tol: float, mass_tol: float, cells: npt.NDArray[np.bool_] | None
) -> list[_Face]:
    X = problem.X
    row_norm = np.linalg.norm(X, axis=1)
    largest = float(np.max(np.linalg.norm(neurons.vectors, axis=1), initial=0.0))
    faces: list[_Face] = []
    for i, (z, sign) in enumerate(zip(neurons.vectors, neurons.signs, strict=True)):
        size = float(np.linalg.norm(z))
        if size <= mass_tol * largest:
            continue
        z_rows = X @ z
        sides = np.sign(z_rows).astype(np.int8)
        cell = None if cells is None else cells[i]
        if cell is not None:
            sides[sides * np.where(cell, 1, -1) < 0] = 0
        bits = np.where(np.abs(z_rows) <= zero_tol * row_norm * size, np.int8(0), sides)
        # Rough vectors may have more kinks nearby than a face can: they start beside them.
        face = _nearest_face(X, z, bits, float(sign), cell) or _on_face(X, z, sides, float(sign), cell)
        if face is not None and np.any(face.bits > 0):
            _join_or_append(problem, faces, face)
    return faces


def _nearest_face(
    X: FloatArray, z: FloatArray, bits: npt.NDArray[np.int8], sign: float, cell: npt.NDArray[np.bool_] | None
) -> _Face | None:
    """Project ``z`` to the face of the zero bits and of the samples whose kinks are met on the way there."""
    bits = bits.copy()
    for _ in range(_PROJECTIONS):
        basis, v, met = _projected(X, z, bits)
        if not np.any(met):
            return _Face(basis, v, bits, sign, cell) if np.any(v) else None
        bits[met] = 0
    return None


def _on_face(
    X: FloatArray, z: FloatArray, bits: npt.NDArray[np.int8], sign: float, cell: npt.NDArray[np.bool_] | None
) -> _Face | None:
    """Project ``z`` to the face of the zero bits; None where that is the origin or the projection leaves the cell."""
    basis, v, met = _projected(X, z, bits)
    return None if not np.any(v) or np.any(met) else _Face(basis, v, bits, sign, cell)


def _projected(
    X: FloatArray, z: FloatArray, bits: npt.NDArray[np.int8]
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Basis of the face of the zero bits, ``z`` in it, and the samples whose signs are others there."""
    basis = _null_space(X[bits == 0])
    v = basis.T @ z
    return basis, v, (bits != 0) & (np.sign(X @ (basis @ v)) != bits)


def _null_space(rows: FloatArray) -> FloatArray:
    """Orthonormal basis ``(r, q)`` of the vectors orthogonal to all rows, which are scaled to unit norm first."""
    r = rows.shape[1]
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    if len(rows) == 0:
        return np.eye(r)
    factors: Any = qr(rows.T, mode="full", pivoting=True)
    q, triangle, _ = factors
    diagonal = np.abs(np.diagonal(triangle))
    rank = int(np.count_nonzero(diagonal > 1e-10 * max(diagonal[0], 1e-300)))
    return np.ascontiguousarray(q[:, rank:])


def _join_or_append(problem: Problem, faces: list[_Face], face: _Face) -> None:
    """Merge with a neuron of the same sign and compatible bits: never raises the objective, removes degeneracy."""
    for k, other in enumerate(faces):
        same_cell = face.cell is None or other.cell is None or np.array_equal(face.cell, other.cell)
        if same_cell and other.sign == face.sign and not np.any(other.bits * face.bits < 0):
            z = other.basis @ other.v + face.basis @ face.v
            bits = np.where(other.bits != 0, other.bits, face.bits)
            joined = _on_face(problem.X, z, bits, face.sign, face.cell)
            if joined is not None:
                faces[k] = joined
                return
    faces.append(face)


def _to_neurons(faces: list[_Face], r: int) -> Neurons:
    vectors = np.array([face.basis @ face.v for face in faces]).reshape(len(faces), r)
    return Neurons(vectors, np.array([face.sign for face in faces]))


def _newton_step(problem: Problem, faces: list[_Face]) -> tuple[bool, bool]:
    """One damped Newton step in place; returns whether the gradient is negligible, and whether a face was hit."""
    X, beta = problem.X, problem.beta
    columns = [face.sign * (np.where(face.bits > 0, 1.0, 0.0)[:, None] * (X @ face.basis)) for face in faces]
    A = np.hstack(columns)
    v = np.concatenate([face.v for face in faces])
    fit = A @ v
    norms = [float(np.linalg.norm(face.v)) for face in faces]
    units = np.concatenate([face.v / norm for face, norm in zip(faces, norms, strict=True)])
    gradient = A.T @ problem.loss_gradient(fit) + beta * units
    if np.max(np.abs(gradient)) <= _GRADIENT_TOL * beta:
        return True, False
    step = -_solve_newton(problem, A, fit, gradient, faces, norms)
    t, hits = _first_hit(X, faces, step)
    if t <= _NO_STEP and hits is not None:
        _cross_or_join(problem, faces, hits)
        return False, True
    current = problem.loss_value(fit) + beta * sum(norms)
    slope = float(gradient @ step)
    limit = t
    while t > _NO_STEP:
        trial = v + t * step
        value = problem.loss_value(A @ trial) + beta * _sum_norms(trial, faces)
        if value <= current + 1e-4 * t * slope + 1e-15 * abs(current):
            break
        t *= 0.5
    else:
        return True, False
    _move(faces, t * step)
    if t == limit and hits is not None:
        _cross_or_join(problem, faces, hits)
        return False, True
    return False, False


def _solve_newton(
    problem: Problem, A: FloatArray, fit: FloatArray, gradient: FloatArray, faces: list[_Face], norms: list[float]
) -> FloatArray:
    """Solve with the Hessian; a tiny ridge keeps it definite where contributions are dependent."""
    curvature = problem.loss_hessian(fit)
    H = A.T @ (curvature[:, None] * A)
    along = coupling(problem, curvature)
    if along is not None:
        shared = along @ A
        H -= np.outer(shared, shared)
    position = 0
    for face, norm in zip(faces, norms, strict=True):
        q = len(face.v)
        unit = face.v / norm
        here = slice(position, position + q)
        H[here, here] += problem.beta / norm * (np.eye(q) - np.outer(unit, unit))
        position += q
    return ridge_solve(H, gradient)


def _first_hit(X: FloatArray, faces: list[_Face], step: FloatArray) -> tuple[float, tuple[int, int] | None]:
    """Largest step in (0, 1] before a neuron vanishes or one of its signs changes, with the neuron and the sample."""
    best, hit, position = 1.0, None, 0
    for i, face in enumerate(faces):
        q = len(face.v)
        part = step[position : position + q]
        move = face.basis @ part
        position += q
        shrink = -float(face.v @ part)
        if shrink > 0.0 and face.v @ face.v < best * shrink:
            best, hit = float(face.v @ face.v) / shrink, (i, _VANISHED)
        # Heights above the kinks on the side that the bits name: a kink just crossed is no way back.
        height, change = face.bits * (X @ (face.basis @ face.v)), face.bits * (X @ move)
        danger = change < 0.0
        if not np.any(danger):
            continue
        ratio = np.full(len(height), np.inf)
        ratio[danger] = np.maximum(height[danger], 0.0) / -change[danger]
        j = int(np.argmin(ratio))
        if ratio[j] < best:
            best, hit = float(ratio[j]), (i, j)
    return best, hit


def _sum_norms(v: FloatArray, faces: list[_Face]) -> float:
    total, position = 0.0, 0
    for face in faces:
        total += float(np.linalg.norm(v[position : position + len(face.v)]))
        position += len(face.v)
    return total


def _move(faces: list[_Face], step: FloatArray) -> None:
    position = 0
    for face in faces:
        q = len(face.v)
        face.v = face.v + step[position : position + q]
        face.crossed = frozenset()
        position += q


def _cross_or_join(problem: Problem, faces: list[_Face], hit: tuple[int, int]) -> None:
    """Concave kink: the sample goes on to the other side. Convex kink: it joins the face. A vanished neuron goes.

    The Newton steps of the two sides of a concave kink may both lead across it; the sample then joins the face, too.
    """
    i, j = hit
    face = faces[i]
    if j == _VANISHED:
        del faces[i]
        return
    nu = problem.dual_vector(_to_neurons(faces, problem.n_features).fit(problem.X))
    bits = face.bits.copy()
    if face.cell is None and face.sign * nu[j] > 0 and j not in face.crossed:
        bits[j] = -bits[j]
        faces[i] = _Face(face.basis, face.v, bits, face.sign, None, face.crossed | {j})
        return
    bits[j] = 0
    z = face.basis @ face.v
    basis = _null_space(problem.X[bits == 0])
    v = basis.T @ z
    if not np.any(v):
        del faces[i]
        return
    faces[i] = _Face(basis, v, bits, face.sign, face.cell)


def _release(problem: Problem, faces: list[_Face]) -> bool:
    """Release the samples whose multiplier has the wrong sign; False when every neuron is stationary on its face."""
    X, beta = problem.X, problem.beta
    nu = problem.dual_vector(_to_neurons(faces, problem.n_features).fit(X))
    released = False
    for i, face in enumerate(faces):
        on = np.flatnonzero(face.bits == 0)
        on = on[np.linalg.norm(X[on], axis=1) > 0]
        if on.size == 0:
            continue
        z = face.basis @ face.v
        residual = _multiplier_residual(X, beta, face, on, z / np.linalg.norm(z), face.sign * nu)
        length = float(np.linalg.norm(residual))
        if length <= _RELEASE_TOL * beta:
            continue
        rates = -(X[on] @ residual) / (length * np.linalg.norm(X[on], axis=1))
        moving = np.abs(rates) > 1e-8
        if face.cell is not None:
            moving &= (rates > 0) == face.cell[on]
        if not np.any(moving):
            continue
        bits = face.bits.copy()
        bits[on[moving]] = np.sign(rates[moving]).astype(np.int8)
        basis = _null_space(X[bits == 0])
        step = basis.T @ residual * (-1e-9 * np.linalg.norm(z) / length)
        faces[i] = _Face(basis, basis.T @ z + step, bits, face.sign, face.cell)
        released = True
    return released


def _multiplier_residual(
    X: FloatArray, beta: float, face: _Face, on: npt.NDArray[np.intp], unit: FloatArray, weights: FloatArray
) -> FloatArray:
    """Part of the gradient of a neuron that no admissible multipliers of its kinks cancel; minus it, the cost falls.

    With G the gradient when the samples on the face are off, multipliers mu must satisfy ``G = X_on^T mu``. A free
    neuron may activate sample j at any fraction of [0, 1]: ``s nu_j <= mu_j <= 0``. In a cell the sample is on or off,
    and mu_j is a multiplier of the cone: ``mu_j >= s nu_j`` where it is on, ``mu_j <= 0`` where it is off.
    """
    gradient = beta * unit - X.T @ (weights * (face.bits > 0))
    low, high = np.minimum(weights[on], 0.0), np.zeros(on.size)
    if face.cell is not None:
        inside = face.cell[on]
        low = np.where(inside, weights[on], -np.inf)
        high = np.where(inside, np.inf, 0.0)
    movable = high - low > 1e-12 * beta
    if not np.any(movable):
        return gradient
    fraction = lsq_linear(X[on[movable]].T, gradient, (low[movable], high[movable]), method="bvls")
    return gradient - X[on[movable]].T @ fraction.x
