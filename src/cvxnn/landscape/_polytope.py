"""The polytope of optimal masses, {c >= 0 : A c = b}: its ranges, faces and special points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr, svd
from scipy.optimize import linprog, nnls

from cvxnn.landscape._vertices import enumerate_vertices

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["MassPolytope"]

_RANK = 1e-9
_NEGLIGIBLE = 1e-9
_ABOVE_NOISE = 1e2
_LEAST_NOISE = 1e-14
_LP_TOLERANCES = (1e-10, 1e-7)
_SUPPORT_TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)


@dataclass(frozen=True, eq=False)
class MassPolytope:
    r"""Masses :math:`c \ge 0` with :math:`A c = b`, where the total mass is the same for all of them.

    Parameters
    ----------
    columns : ndarray (n, k)
        Contributions of the atoms.
    fit : ndarray (n,)
        The common fit; a non-negative combination of the columns.
    noise : float, default 0.0
        Relative error of the columns and the fit.
    """

    columns: FloatArray
    fit: FloatArray
    noise: float = 0.0

    @cached_property
    def system(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Equations ``A (r, k)``, ``b (r,)`` of full row rank for scaled masses, the scales ``(k,)``, the kernel."""
        sizes = np.linalg.norm(self.columns, axis=0)
        unit = self.columns / sizes
        left, values, right = svd(unit, full_matrices=True)
        rank = int(np.sum(values > _RANK * values[0])) if values.size else 0
        scale = float(np.linalg.norm(self.fit)) or 1.0
        return left[:, :rank].T @ unit, left[:, :rank].T @ self.fit / scale, scale / sizes, right[rank:].T

    @property
    def n_atoms(self) -> int:
        """Number of atoms k."""
        return self.columns.shape[1]

    @property
    def rank(self) -> int:
        """Rank of the columns."""
        return len(self.system[0]) if self.n_atoms else 0

    @property
    def is_trivial(self) -> bool:
        """Whether the zero masses are the only ones."""
        return self.n_atoms == 0 or not np.any(self.fit)

    @cached_property
    def corners(self) -> FloatArray:
        """Vertices that minimise and maximise each mass, ``(2 k, k)``; row ``2 i`` minimises mass i."""
        if self.is_trivial:
            return np.zeros((2 * self.n_atoms, self.n_atoms))
        scales = self.system[2]
        found = []
        for i in range(self.n_atoms):
            for sign in (1.0, -1.0):
                cost = np.zeros(self.n_atoms)
                cost[i] = sign
                found.append(self.corner(cost / scales))
        return np.array(found)

    def corner(self, cost: FloatArray) -> FloatArray:
        """Vertex of least ``cost @ masses``."""
        A, b, scales, _ = self.system
        message = ""
        # The tightest tolerance that the data allow: a loose one takes small negative masses for zeros.
        for tolerance in _LP_TOLERANCES:
            options = {"primal_feasibility_tolerance": tolerance, "dual_feasibility_tolerance": tolerance}
            result = linprog(cost * scales, A_eq=A, b_eq=b, bounds=(0.0, None), method="highs-ds", options=options)
            if result.status == 0:
                return scales * self._basic(np.maximum(result.x, 0.0))
            message = result.message
        raise ArithmeticError(f"A linear program over the optimal masses failed: {message}")

    def _basic(self, masses: FloatArray) -> FloatArray:
        """Solve again on the support of an approximate vertex: the smallest one that carries the fit up to noise."""
        A, b = self.system[:2]
        largest = _ABOVE_NOISE * max(self.noise, _LEAST_NOISE)
        for tolerance in _SUPPORT_TOLERANCES:
            support = masses > tolerance * float(np.max(masses))
            solution, *_ = np.linalg.lstsq(A[:, support], b, rcond=None)
            candidate = np.zeros_like(masses)
            candidate[support] = solution
            if np.all(solution > 0.0) and float(np.linalg.norm(A @ candidate - b)) <= largest:
                return candidate
        return masses

    @cached_property
    def ranges(self) -> FloatArray:
        """Smallest and largest value of each mass, ``(k, 2)``; negligible ones are zero."""
        diagonal = np.arange(self.n_atoms)
        low, high = self.corners[2 * diagonal, diagonal], self.corners[2 * diagonal + 1, diagonal]
        total = float(np.max(np.sum(self.corners, axis=1), initial=0.0))
        found = np.column_stack([low, np.maximum(low, high)])
        return np.where(found > max(_NEGLIGIBLE, _ABOVE_NOISE * self.noise) * total, found, 0.0)

    @property
    def essential(self) -> BoolArray:
        """Atoms that carry mass in some optimal network, ``(k,)``."""
        return self.ranges[:, 1] > 0.0

    @cached_property
    def interior(self) -> FloatArray:
        """Point of the relative interior: the mean of the corners."""
        return self._cleaned(np.mean(self.corners, axis=0)) if self.n_atoms else np.zeros(0)

    def _cleaned(self, masses: FloatArray) -> FloatArray:
        return np.where(self.essential, masses, 0.0)

    @cached_property
    def face(self) -> MassPolytope:
        """The same polytope among the essential atoms alone."""
        return self if self.essential.all() else MassPolytope(self.columns[:, self.essential], self.fit, self.noise)

    @property
    def dimension(self) -> int:
        """Dimension of the polytope."""
        return 0 if self.is_trivial else self.face.system[3].shape[1]

    def vertices(self, *, max_vertices: int, check: Callable[[], None]) -> FloatArray:
        """All vertices, ``(V, k)``, with exact zeros."""
        if self.is_trivial:
            return np.zeros((1, self.n_atoms))
        face, essential = self.face, self.essential
        A, b, scales, kernel = face.system
        interior = self.interior[essential] / scales
        # Linear programs keep the fit to their own tolerance only.
        interior = interior + np.linalg.lstsq(A, b - A @ interior, rcond=None)[0]
        ranges = self.ranges[essential] / scales[:, None]
        found = enumerate_vertices(
            A, b, interior, kernel, ranges, noise=self.noise, max_vertices=max_vertices, check=check
        )
        vertices = np.zeros((len(found), self.n_atoms))
        vertices[:, essential] = found * scales
        return vertices

    def project_to_moves(self, direction: FloatArray) -> FloatArray:
        """Nearest change of the essential masses that keeps the fit."""
        if direction.shape != (self.n_atoms,):
            raise ValueError(f"direction must have {self.n_atoms} entries; got shape {direction.shape}.")
        move = np.zeros(self.n_atoms)
        if self.dimension:
            kernel = _kernel(self.face.columns)
            inside = kernel @ (kernel.T @ direction[self.essential])
            noise = 1e-12 * float(np.linalg.norm(direction))
            move[self.essential] = np.where(np.abs(inside) > noise, inside, 0.0)
        return move

    def nearest_to_zero(self) -> FloatArray:
        """Masses of least Euclidean norm: a least-distance problem, solved by non-negative least squares."""
        if self.is_trivial:
            return np.zeros(self.n_atoms)
        essential = self.essential
        columns = self.columns[:, essential]
        start = self.interior[essential]
        kernel = _kernel(columns)
        # min ||start + kernel z|| subject to start + kernel z >= 0 (Lawson and Hanson, 1974, chapter 23).
        base = start - kernel @ (kernel.T @ start)
        scale = float(np.linalg.norm(base))
        matrix = np.vstack([kernel.T, -base[None, :] / scale])
        target = np.zeros(len(matrix))
        target[-1] = 1.0
        dual, _ = nnls(matrix, target)
        residual = matrix @ dual - target
        move = -residual[:-1] / residual[-1] * scale if residual[-1] != 0.0 else np.zeros(kernel.shape[1])
        masses = base + kernel @ move
        masses = _least_norm_on_support(columns, self.fit, masses, dual > 0.0)
        full = np.zeros(self.n_atoms)
        full[essential] = masses
        return full


def _least_norm_on_support(columns: FloatArray, fit: FloatArray, masses: FloatArray, tight: BoolArray) -> FloatArray:
    """Solve again with the tight masses at exactly zero."""
    free = ~tight
    solution, *_ = np.linalg.lstsq(columns[:, free], fit, rcond=1e-11)
    exact = np.zeros_like(masses)
    exact[free] = solution
    close = np.allclose(exact, masses, rtol=1e-6, atol=1e-6 * float(np.max(np.abs(masses))))
    return exact if close and np.all(exact >= 0.0) else np.maximum(masses, 0.0)


def _kernel(columns: FloatArray) -> FloatArray:
    """Orthonormal basis of the kernel, ``(k, q)``."""
    sizes = np.linalg.norm(columns, axis=0)
    _, values, right = svd(columns / sizes, full_matrices=True)
    rank = int(np.sum(values > _RANK * values[0])) if values.size else 0
    scaled = right[rank:].T / sizes[:, None]
    factors: Any = qr(scaled, mode="economic")
    return np.asarray(factors[0], dtype=np.float64)
