r"""Newton's method for programs over groups of linear blocks with cones, on the faces of a nearly optimal point.

On the face where the tight rows of each cone and the vanishing parts stay zero, :math:`\ell(\sum_g A_g z_g) + \beta
\sum_g N(z_g)` is smooth, since no part of the norm vanishes there: Newton's method gives the digits that an
interior-point method leaves open.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr

from cvxnn.problem import Problem
from cvxnn.solvers._ridge_solve import ridge_solve
from cvxnn.solvers.conic_groups import LinearGroup

FloatArray = npt.NDArray[np.float64]

__all__ = ["polish_groups"]

_STEPS = 30
_RANK = 1e-10
_RCOND = 1e-13
_FEW = 200
"""Variables up to which the singular values are computed; a ridge costs a few digits."""
_LARGEST = 1200
"""Variables beyond which a step takes too long for what it gains."""
_SETTLED, _NOISE = 1e-15, 1e-12
_STATIONARY = 1e-9
_NO_STEP, _TINY = 1e-8, 1e-300
_THRESHOLDS = ((1e-7, 1e-5), (1e-5, 1e-4), (1e-9, 1e-7))
"""Relative sizes below which a row of a cone, and a part or a group, are read as zero, in the order of trial."""


@dataclass(frozen=True, eq=False)
class _Face:
    """Basis ``(p, k)`` of the face of a group, the bases of its parts that do not vanish, and the rows kept apart."""

    index: int
    basis: FloatArray
    parts: list[FloatArray]
    rows: FloatArray


def polish_groups(
    problem: Problem, groups: list[LinearGroup], vectors: FloatArray, parts: int, *, time_limit: float | None = None
) -> FloatArray:
    """Vectors of the groups after Newton's method on their faces; never of a higher objective than the given ones.

    Parameters
    ----------
    problem : Problem
    groups : list of LinearGroup
    vectors : ndarray (G, p)
        Nearly optimal.
    parts : int
        Parts of equal size whose lengths the norm adds up; 1 for the Frobenius norm.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    ndarray (G, p)

    Examples
    --------
    >>> group = LinearGroup(np.array([[1.0]]), np.array([[1.0]]))
    >>> polish_groups(Problem([[1.0]], [2.0], beta=0.5), [group], np.array([[1.4999]]), 1)
    array([[1.5]])
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    best, lowest = vectors, _objective(problem, groups, vectors, parts)
    for tight, small in _THRESHOLDS:
        faces = _faces(groups, vectors, parts, tight, small)
        if not faces or sum(face.basis.shape[1] for face in faces) > _LARGEST:
            continue
        program = _OnFaces(problem, groups, faces)
        x = _newton(program, np.concatenate([face.basis.T @ vectors[face.index] for face in faces]), deadline)
        found = np.zeros_like(vectors)
        for face, here in zip(faces, program.slices, strict=True):
            found[face.index] = face.basis @ x[here]
        value = _objective(problem, groups, found, parts)
        # Where rounding hides the difference the stationary point is the better one: the dual needs its digits.
        stationary = float(np.max(np.abs(program.derivatives(x)[0]))) <= _STATIONARY * problem.beta
        if stationary and value <= lowest * (1.0 + _NOISE):
            return found
        if value < lowest:
            best, lowest = found, value
    return best


def _objective(problem: Problem, groups: list[LinearGroup], vectors: FloatArray, parts: int) -> float:
    lengths = np.linalg.norm(vectors.reshape(len(vectors), parts, -1), axis=2)
    fit = np.zeros(problem.n_samples)
    for k in np.flatnonzero(np.any(vectors != 0.0, axis=1)):
        fit += groups[k].fit @ vectors[k]
    return problem.loss_value(fit) + problem.beta * float(lengths.sum())


def _faces(groups: list[LinearGroup], vectors: FloatArray, parts: int, tight: float, small: float) -> list[_Face]:
    lengths = np.linalg.norm(vectors.reshape(len(vectors), parts, -1), axis=2)
    sizes = np.linalg.norm(vectors, axis=1)
    floor = small * float(np.max(sizes, initial=0.0))
    faces = []
    width = vectors.shape[1] // parts
    for k in np.flatnonzero(sizes > floor):
        rows = groups[k].cone
        norms = np.linalg.norm(rows, axis=1)
        zero = np.abs(rows @ vectors[k]) <= tight * norms * sizes[k]
        gone = np.repeat(lengths[k] <= small * sizes[k], width)
        basis = _null_space(np.vstack([rows[zero], np.eye(len(gone))[gone]]), vectors.shape[1])
        split = basis.reshape(parts, width, -1)
        live = [split[j] for j in range(parts) if lengths[k, j] > small * sizes[k]]
        if basis.shape[1] and live:
            faces.append(_Face(int(k), basis, live, rows[~zero]))
    return faces


def _null_space(rows: FloatArray, p: int) -> FloatArray:
    """Orthonormal basis of the vectors orthogonal to all rows."""
    norms = np.linalg.norm(rows, axis=1)
    unit = rows[norms > 0] / norms[norms > 0, None]
    if not len(unit):
        return np.eye(p)
    factors: Any = qr(unit.T, mode="full", pivoting=True)
    diagonal = np.abs(np.diagonal(factors[1]))
    return np.ascontiguousarray(factors[0][:, int(np.sum(diagonal > _RANK * diagonal[0])) :])


class _OnFaces:
    """The program in the coordinates of the faces, one after the other."""

    def __init__(self, problem: Problem, groups: list[LinearGroup], faces: list[_Face]) -> None:
        self.problem, self.faces = problem, faces
        self.columns = np.hstack([groups[face.index].fit @ face.basis for face in faces])
        ends = np.cumsum([0, *(face.basis.shape[1] for face in faces)])
        self.slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def value(self, x: FloatArray) -> float:
        """Objective."""
        norm = 0.0
        for face, here in zip(self.faces, self.slices, strict=True):
            norm += sum(float(np.linalg.norm(part @ x[here])) for part in face.parts)
        return self.problem.loss_value(self.columns @ x) + self.problem.beta * norm

    def derivatives(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient and Hessian where no part vanishes."""
        beta, fit = self.problem.beta, self.columns @ x
        gradient = self.columns.T @ self.problem.loss_gradient(fit)
        hessian = self.columns.T @ (self.problem.loss_hessian(fit)[:, None] * self.columns)
        for face, here in zip(self.faces, self.slices, strict=True):
            for part in face.parts:
                v = part @ x[here]
                size = max(float(np.linalg.norm(v)), _TINY)
                unit = part.T @ (v / size)
                gradient[here] += beta * unit
                hessian[here, here] += beta / size * (part.T @ part - np.outer(unit, unit))
        return gradient, hessian

    def reach(self, x: FloatArray, step: FloatArray) -> float:
        """Longest step, at most one, that keeps the rows of the cones that are not tight positive."""
        length = 1.0
        for face, here in zip(self.faces, self.slices, strict=True):
            heights, change = face.rows @ (face.basis @ x[here]), face.rows @ (face.basis @ step[here])
            falling = (change < 0.0) & (heights > 0.0)
            length = float(np.min(0.99 * heights[falling] / -change[falling], initial=length))
        return length


def _newton_step(hessian: FloatArray, gradient: FloatArray) -> FloatArray:
    """Solve with the Hessian, singular where contributions are dependent: the shortest step, or one with a ridge."""
    if len(gradient) <= _FEW:
        return -np.asarray(np.linalg.lstsq(hessian, gradient, rcond=_RCOND)[0], dtype=np.float64)
    return -ridge_solve(hessian, gradient)


def _newton(program: _OnFaces, x: FloatArray, deadline: float) -> FloatArray:
    """Damped Newton steps that stay in the cones; masses that are not determined move as little as possible."""
    current = program.value(x)
    for _ in range(_STEPS):
        if time.perf_counter() > deadline:
            break
        gradient, hessian = program.derivatives(x)
        step = _newton_step(hessian, gradient)
        length, slope = program.reach(x, step), float(gradient @ step)
        noise = _SETTLED * abs(current)
        while length > _NO_STEP and program.value(x + length * step) > current + 1e-4 * length * slope + noise:
            length *= 0.5
        if length <= _NO_STEP:
            break
        x = x + length * step
        previous, current = current, program.value(x)
        if length == 1.0 and previous - current <= noise:
            break
    return x
