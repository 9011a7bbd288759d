"""Iterates of the interior-point method for the ReLU program: Mehrotra steps with Nesterov-Todd scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers._cone_algebra import (
    NormScaling,
    cone_step,
    determinant_after,
    join,
    product,
    ray_step,
    scaling,
)
from cvxnn.solvers._cone_losses import InteriorLoss, interior_loss
from cvxnn.solvers._cone_system import BlockData, NewtonSystem, inverse_factors

FloatArray = npt.NDArray[np.float64]

__all__ = ["ConeIteration", "Direction", "Targets", "start_length"]

_PART = 0.1
"""Part of what the zero network can pay for that the first vectors take."""

_REFINEMENTS = 1
"""Refinements of each Newton direction; with none, gaps below 1e-10 are out of reach."""


@dataclass(frozen=True)
class Targets:
    """Right-hand sides of the complementarity equations: rows, norm cones, variables of the loss."""

    rows: FloatArray
    cones: FloatArray
    loss: FloatArray


@dataclass(frozen=True)
class Direction:
    """Newton direction; ``primal`` and ``dual`` belong to the norm cones, ``(K, r + 1)``."""

    primal: FloatArray
    dual: FloatArray
    slack: FloatArray
    multipliers: FloatArray
    fit: FloatArray


class ConeIteration:
    """Primal-dual iterate of the ReLU program on blocks whose cones have a (relative) interior.

    Primal: vectors z with heights ``t >= ||z||`` and positive slacks on the rows in force. Dual: row multipliers
    ``rho >= 0`` and ``(beta, p)`` in the norm cones. Primal equations hold at every iterate; the dual residual
    ``s D X^T g - p - X^T (2 D - I) rho`` (g the gradient of the loss) vanishes at the end.

    Parameters
    ----------
    problem : Problem
        Loss, targets and beta > 0.
    data : BlockData
        Blocks.
    points : array (K, r)
        Unit vectors strictly inside the cones.
    """

    def __init__(self, problem: Problem, data: BlockData, points: FloatArray) -> None:
        self.problem = problem
        self.data = data
        self.live = data.orient != 0
        beta, count = problem.beta, points.shape[0]
        # Row multipliers start large enough to balance the norms (beta) and a part of the loss (pull).
        length = start_length(problem, data, points)
        vectors = length * points
        pull = np.linalg.norm(data.fit_adjoint(problem.loss_gradient(data.fit(vectors))), axis=1)
        force = beta + 0.2 * float(pull.mean())
        centre = force * length / max(float(self.live.sum()) / count, 1.0)
        self.slack = np.where(self.live, data.slacks(vectors), 1.0)
        self.multipliers = np.where(self.live, centre / self.slack, 0.0)
        # On the central path t beta + z^T p = centre and p = -beta z / t, so t^2 - ||z||^2 = t centre / beta.
        ratio = centre / beta
        height = 0.5 * (ratio + np.hypot(ratio, 2.0 * length))
        self.primal = join(height, vectors)
        self.primal_determinant = np.full(count, height * ratio)
        self.dual = join(beta, -beta / height * vectors)
        self.dual_determinant = np.full(count, beta * beta * ratio / height)
        self.loss: InteriorLoss = interior_loss(problem, data.fit(vectors), centre)

    @property
    def vectors(self) -> FloatArray:
        """Block vectors ``(K, r)``."""
        return self.primal[:, 1:]

    def residual(self) -> FloatArray:
        """Dual residual of every block, ``(K, r)``, on the linear hulls of the cones."""
        data = self.data
        out = data.fit_adjoint(self.loss.gradient) - self.dual[:, 1:] - data.rows_adjoint(self.multipliers)
        return data.project(out)

    def complementarity(self) -> tuple[float, int]:
        """Sum of all complementary products and their number."""
        total, number = self.loss.products()
        total += float(np.sum(self.slack * self.multipliers)) + float(np.sum(self.primal * self.dual))
        return total, number + int(self.live.sum()) + self.primal.shape[0]

    def step(self) -> float:
        """One predictor-corrector step; returns its length."""
        norm = scaling(self.primal, self.primal_determinant, self.dual, self.dual_determinant)
        system = NewtonSystem(self.data, self._factors(norm), self.loss.curvature())
        residual = self.residual()
        plain = Targets(-self.slack * self.multipliers, -self.dual, self.loss.target())
        affine = self._direction(system, norm, residual, plain)
        reach = min(1.0, self._limit(affine, plain))
        total, number = self.complementarity()
        centre = (1.0 - reach) ** 3 * total / number
        bent = product(norm.scale_primal(affine.primal), norm.scale_dual(affine.dual))
        mirrored = join(self.primal[:, 0], -self.vectors) * (centre / self.primal_determinant)[:, None]
        targets = Targets(
            np.where(self.live, plain.rows - affine.slack * affine.multipliers + centre, 0.0),
            plain.cones + mirrored - norm.scale_primal(norm.divide(bent)),
            self.loss.corrected(affine.fit, reach, centre),
        )
        final = self._direction(system, norm, residual, targets)
        length = min(1.0, 0.99 * self._limit(final, targets))
        self._advance(final, length, targets)
        return length

    def _factors(self, norm: NormScaling) -> FloatArray:
        """Factors of the inverse block matrices: row barriers, and the norm cones with their heights eliminated."""
        inverse = 1.0 / norm.size**2
        tail = norm.axis[:, 1:]
        blocks = self.data.gram(self.multipliers / self.slack)
        blocks += inverse[:, None, None] * np.eye(tail.shape[1])
        blocks -= np.einsum("k,ki,kj->kij", 2.0 * inverse / (2.0 * norm.axis[:, 0] ** 2 - 1.0), tail, tail)
        return inverse_factors(blocks, self.data.hulls)

    def _direction(self, system: NewtonSystem, norm: NormScaling, residual: FloatArray, targets: Targets) -> Direction:
        data = self.data
        head, tail = norm.axis[:, 0], norm.axis[:, 1:]
        inverse = 1.0 / norm.size**2
        lead = 2.0 * head**2 - 1.0
        force = targets.cones[:, 1:] + (2.0 * head * targets.cones[:, 0] / lead)[:, None] * tail
        right = force - residual + data.rows_adjoint(targets.rows / self.slack)
        right -= data.fit_adjoint(self.loss.shift(targets.loss))
        parts = self._response(system.solve(data.project(right)), norm)
        # Multipliers of rows near zero are ratios of rounded numbers: refine the dual equation in their own terms.
        shift = self.loss.shift(targets.loss)
        local = targets.rows / self.slack
        for _ in range(_REFINEMENTS):
            vectors, pull, multipliers = parts
            change = shift + self.loss.curvature() * data.fit(vectors)
            left = residual + data.fit_adjoint(change) - force - pull - data.rows_adjoint(local + multipliers)
            more = self._response(system.solve(-data.project(left)), norm)
            parts = (vectors + more[0], pull + more[1], multipliers + more[2])
        vectors, pull, multipliers = parts
        # The height of the dual, beta, stays: this gives the heights, in an order that avoids cancellation.
        along = np.einsum("kr,kr->k", tail, vectors)
        heights = (targets.cones[:, 0] / inverse + 2.0 * head * along) / lead
        return Direction(
            join(heights, vectors),
            join(0.0, force + pull),
            data.slacks(vectors),
            local + multipliers,
            data.fit(vectors),
        )

    def _response(self, vectors: FloatArray, norm: NormScaling) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Vectors with the changes of norm and row multipliers that they cause."""
        tail = norm.axis[:, 1:]
        along = np.einsum("kr,kr->k", tail, vectors) * 2.0 / (2.0 * norm.axis[:, 0] ** 2 - 1.0)
        pull = -(vectors - along[:, None] * tail) / (norm.size**2)[:, None]
        return vectors, pull, -self.multipliers / self.slack * self.data.slacks(vectors)

    def _limit(self, direction: Direction, targets: Targets) -> float:
        """Largest step that keeps the iterate in all cones."""
        bounds = (
            cone_step(self.primal, self.primal_determinant, direction.primal),
            cone_step(self.dual, self.dual_determinant, direction.dual),
            ray_step(self.slack, direction.slack),
            ray_step(np.where(self.live, self.multipliers, 1.0), direction.multipliers),
            self.loss.limit(targets.loss, direction.fit),
        )
        return min(bounds)

    def _advance(self, direction: Direction, length: float, targets: Targets) -> None:
        primal, dual = length * direction.primal, length * direction.dual
        self.primal_determinant = determinant_after(self.primal_determinant, self.primal, primal)
        self.dual_determinant = determinant_after(self.dual_determinant, self.dual, dual)
        self.primal = self.primal + primal
        self.dual = self.dual + dual
        self.slack = self.slack + length * direction.slack
        self.multipliers = self.multipliers + length * direction.multipliers
        self.loss.advance(length, targets.loss, direction.fit)


def start_length(problem: Problem, data: BlockData, points: FloatArray) -> float:
    """Choose a common length of the first vectors: what the zero network can pay for, and no flat loss."""
    origin = np.zeros(data.X.shape[0])
    zero, curved = problem.loss_value(origin), float(problem.loss_hessian(origin).sum())
    length = max(_PART * zero / (problem.beta * points.shape[0]), 1e-12)
    fit = data.fit(points)
    while length > 1e-12:
        there = length * fit
        if problem.loss_value(there) <= 1.5 * zero and float(problem.loss_hessian(there).sum()) >= 0.5 * curved:
            break
        length *= 0.5
    return length
