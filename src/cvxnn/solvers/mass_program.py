"""Optimal masses of neurons whose directions are fixed: a smooth convex program over the non-negative orthant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr, solve_triangular

from cvxnn.losses import SquaredLoss
from cvxnn.problem import Problem
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_masses"]


def solve_masses(problem: Problem, neurons: Neurons, *, tol: float = 1e-12, max_iter: int = 100) -> Neurons:
    r"""Re-optimise the masses of neurons along their directions and drop the neurons that get none.

    .. math:: \min_{c \ge 0}\ \mathrm{loss}\Big(\sum_i c_i s_i (X u_i)_+,\ y\Big) + \beta \sum_i c_i,
              \qquad u_i = z_i / \|z_i\|

    Newton steps on the loss; each model is solved exactly by :func:`minimize_nonnegative_quadratic`. For the squared
    loss the first model is the problem itself. The objective is never above that of the neurons passed in.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta.
    neurons : Neurons
        Directions, with masses that serve as the start.
    tol : float, default 1e-12
        Stop when a Newton model promises to lower the objective by less than this fraction of it.
    max_iter : int, default 100
        Most Newton steps.

    Returns
    -------
    Neurons
        At most as many neurons, all of positive mass. Where the best masses are not unique, neurons whose outputs
        depend linearly on those of the others are emptied first, so that at most n remain.

    References
    ----------
    Lee, Sun and Saunders (2014), "Proximal Newton-type methods for minimizing composite functions".

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> solve_masses(problem, Neurons(np.array([[7.0], [-1.0]]), np.array([1.0, 1.0]))).vectors
    array([[1.5]])
    """
    masses = neurons.masses
    alive = masses > 0
    live, masses = neurons.take(alive), masses[alive]
    directions = live.vectors / masses[:, None]
    outputs = np.maximum(problem.X @ directions.T, 0.0) * live.signs
    useful = np.any(outputs != 0.0, axis=0)
    live, directions, masses = live.take(useful), directions[useful], masses[useful]
    outputs = np.ascontiguousarray(outputs[:, useful])
    if len(live) == 0:
        return live
    program = _MassProgram(problem, outputs)
    best = program.minimize(masses, tol=tol, max_iter=max_iter)
    keep = best > 0
    result = Neurons(directions[keep] * best[keep, None], live.signs[keep])
    # Rounding of the norms may cost a last digit: the promise is about the objective as the caller computes it.
    return result if result.objective(problem) <= neurons.objective(problem) else neurons.take(alive)


class _MassProgram:
    """``min loss(outputs c) + beta sum(c)`` over ``c >= 0``."""

    def __init__(self, problem: Problem, outputs: FloatArray) -> None:
        self.problem = problem
        self.outputs = outputs
        self.quadratic = isinstance(problem.loss, SquaredLoss)

    def value(self, masses: FloatArray) -> float:
        """Objective."""
        return self.problem.loss_value(self.outputs @ masses) + self.problem.beta * float(masses.sum())

    def minimize(self, masses: FloatArray, *, tol: float, max_iter: int) -> FloatArray:
        """Newton's method with a line search and a damping that vanishes where full steps are taken."""
        value = self.value(masses)
        damping = 0.0 if self.quadratic else 1e-10
        for _ in range(max_iter):
            target, decrease = self._newton_target(masses, damping, tol * abs(value))
            if decrease <= 0.0:
                break
            trial, trial_value, step = self._line_search(masses, target, value, decrease)
            if trial_value <= value:
                masses, value = trial, trial_value
            if step == 1.0 and decrease <= tol * abs(value):
                break
            if step == 0.0 and damping > 1e-2:
                break
            if not self.quadratic:
                damping = max(damping * 0.1, 1e-12) if step == 1.0 else max(damping * 30.0, 1e-8)
        return self._without_dependent(masses, value)

    def _newton_target(self, masses: FloatArray, damping: float, gap: float) -> tuple[FloatArray, float]:
        """Minimiser of the (damped) quadratic model and the decrease that the model promises."""
        fit = self.outputs @ masses
        curvature = self.problem.loss_hessian(fit)
        gram = self.outputs.T @ (curvature[:, None] * self.outputs)
        slope = self.outputs.T @ self.problem.loss_gradient(fit) + self.problem.beta
        if damping > 0.0:
            size = np.einsum("ij,ij->j", self.outputs, self.outputs)
            gram[np.diag_indices_from(gram)] += damping * self.problem.loss.curvature * size
        target = minimize_nonnegative_quadratic(gram, gram @ masses - slope, gap=0.1 * gap)
        move = target - masses
        return target, -float(slope @ move + 0.5 * move @ (gram @ move))

    def _line_search(
        self, masses: FloatArray, target: FloatArray, value: float, decrease: float
    ) -> tuple[FloatArray, float, float]:
        step = 1.0
        for _ in range(30):
            trial = target if step == 1.0 else masses + step * (target - masses)
            trial_value = self.value(trial)
            if trial_value <= value - 1e-4 * step * decrease:
                return trial, trial_value, step
            if step == 1.0 and decrease <= 1e-14 * abs(value):
                return trial, trial_value, step
            step *= 0.5
        return masses, value, 0.0

    def _without_dependent(self, masses: FloatArray, value: float) -> FloatArray:
        """Empty neurons whose outputs depend on those of others, along directions that keep the fit."""
        support = np.flatnonzero(masses > 0)
        null = _null_space(self.outputs[:, support])
        if null.shape[1] == 0:
            return masses
        pruned = masses.copy()
        pruned[support] = _empty_along(masses[support], null)
        return pruned if self.value(pruned) <= value else masses


def _null_space(columns: FloatArray) -> FloatArray:
    """Basis ``(k, q)`` of the linear dependencies between columns."""
    k = columns.shape[1]
    if k == 0:
        return np.zeros((0, 0))
    scale = np.linalg.norm(columns, axis=0)
    factored: Any = qr(columns / scale, mode="r", pivoting=True)
    triangle, pivots = factored
    diagonal = np.abs(np.diagonal(triangle))
    rank = int(np.sum(diagonal > 1e-11 * diagonal[0]))
    if rank == k:
        return np.zeros((k, 0))
    null = np.zeros((k, k - rank))
    null[pivots[:rank]] = -solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])
    null[pivots[rank:]] = np.eye(k - rank)
    return null / scale[:, None]


def _empty_along(masses: FloatArray, null: FloatArray) -> FloatArray:
    """Move along each dependency, in the sense that does not raise the total mass, until a mass is zero."""
    while null.shape[1]:
        move = null[:, 0] if null[:, 0].sum() < 0 else -null[:, 0]
        falling = np.flatnonzero(move < 0)
        if falling.size == 0:
            null = null[:, 1:]
            continue
        hit = int(falling[np.argmin(masses[falling] / -move[falling])])
        step = float(masses[hit] / -move[hit])
        masses = np.maximum(masses + step * move, 0.0)
        masses[hit] = 0.0
        null = null[:, 1:] - move[:, None] * (null[hit, 1:] / move[hit])
        null[hit] = 0.0
    return masses
