r"""The output rows of given directions: a group lasso :math:`\min_G \mathrm{loss}(H G) + \beta \sum_k \|g_k\|`.

Sweeps over the groups find the active ones; Newton's method with conjugate gradients on those gives the last digits.
"""

from __future__ import annotations

import contextlib
import math
import time

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_outputs"]

_SWEEPS, _NEWTON_STEPS, _HALVINGS = 4, 12, 30
_DENSE = 600
"""Unknowns up to which the Newton system is factorised."""


def solve_outputs(
    problem: Problem,
    hidden: FloatArray,
    outputs: FloatArray,
    *,
    tol: float = 1e-9,
    max_rounds: int = 40,
    cg_steps: int = 120,
    deadline: float = math.inf,
) -> FloatArray:
    r"""Output rows that minimise the objective for a fixed hidden layer.

    Parameters
    ----------
    problem : Problem
        Targets ``(n, c)``, loss and beta.
    hidden : ndarray (n, k)
        Hidden layer :math:`H = (X U^T)_+` of unit directions.
    outputs : ndarray (k, c)
        Start.
    tol : float
        Largest violation of the optimality conditions, relative to beta.
    max_rounds : int
        Most rounds of sweeps and Newton steps.
    cg_steps : int
        Most conjugate gradient steps in a Newton system too large to be factorised.
    deadline : float
        On the clock of ``time.perf_counter``.

    Returns
    -------
    ndarray (k, c)
        Rows of inactive neurons are zero.

    Examples
    --------
    >>> problem = Problem([[1.0], [2.0]], [[1.0, 0.0], [2.0, 0.0]], beta=0.5)
    >>> solve_outputs(problem, problem.X, np.zeros((1, 2))).round(6)
    array([[0.9, 0. ]])
    """
    lasso = _OutputLasso(problem, hidden, cg_steps, deadline)
    rows = np.array(outputs, dtype=np.float64)
    for _ in range(max_rounds):
        for _ in range(_SWEEPS):
            lasso.sweep(rows)
        if lasso.violation(rows) <= tol * problem.beta or time.perf_counter() > deadline:
            break
        rows = lasso.newton(rows, tol)
        if lasso.violation(rows) <= tol * problem.beta or time.perf_counter() > deadline:
            break
    return rows


class _OutputLasso:
    """Objective of the rows, and the two kinds of steps."""

    def __init__(self, problem: Problem, hidden: FloatArray, cg_steps: int, deadline: float) -> None:
        self.problem, self.hidden, self.beta = problem, hidden, problem.beta
        self.cg_steps, self.deadline = cg_steps, deadline
        curvature = problem.loss.curvature * (problem.sample_weight @ (hidden * hidden))
        self.live = curvature > 0.0
        self.curvature = np.where(self.live, curvature, 1.0)

    def objective(self, rows: FloatArray) -> float:
        penalty = float(np.sum(np.linalg.norm(rows, axis=1)))
        return self.problem.loss_value(self.hidden @ rows) + self.beta * penalty

    def sweep(self, rows: FloatArray) -> None:
        """One majorised minimisation over each row in turn, in place."""
        fit = self.hidden @ rows
        dual = self.problem.dual_vector(fit)
        for k in np.flatnonzero(self.live):
            column = self.hidden[:, k]
            target = rows[k] + (column @ dual) / self.curvature[k]
            size = float(np.linalg.norm(target))
            new = target * max(1.0 - self.beta / (self.curvature[k] * size), 0.0) if size > 0.0 else target
            move = new - rows[k]
            if np.any(move != 0.0):
                rows[k] = new
                fit += column[:, None] * move
                dual = self.problem.dual_vector(fit)
        rows[~self.live] = 0.0

    def violation(self, rows: FloatArray) -> float:
        """Largest departure from the optimality conditions, in units of the dual norm."""
        slope = self.hidden.T @ self.problem.dual_vector(self.hidden @ rows)
        sizes = np.linalg.norm(rows, axis=1)
        active = sizes > 0.0
        units = rows / np.where(active, sizes, 1.0)[:, None]
        misfit = np.linalg.norm(slope - self.beta * units, axis=1)
        excess = np.maximum(np.linalg.norm(slope, axis=1) - self.beta, 0.0)
        return float(np.max(np.where(active, misfit, excess), initial=0.0))

    def newton(self, rows: FloatArray, tol: float) -> FloatArray:
        """Newton's method on the rows that are not zero; those that it would turn round become zero."""
        value = self.objective(rows)
        for _ in range(_NEWTON_STEPS):
            sizes = np.linalg.norm(rows, axis=1)
            active = np.flatnonzero(sizes > 0.0)
            if not active.size or time.perf_counter() > self.deadline:
                break
            fit = self.hidden @ rows
            units = rows[active] / sizes[active, None]
            gradient = self.beta * units - self.hidden[:, active].T @ self.problem.dual_vector(fit)
            if float(np.max(np.linalg.norm(gradient, axis=1))) <= 0.1 * tol * self.beta:
                break
            system = _System(self.problem, self.hidden[:, active], fit, units, self.beta / sizes[active])
            step = system.solve(gradient, self.curvature[active], self.cg_steps)
            length, slope = 1.0, float(np.sum(step * gradient))
            for _ in range(_HALVINGS):
                trial = rows.copy()
                moved = rows[active] + length * step
                trial[active] = np.where((np.sum(units * moved, axis=1) > 0.0)[:, None], moved, 0.0)
                new = self.objective(trial)
                if new <= value + 1e-4 * length * slope:
                    break
                length *= 0.5
            else:
                break
            rows, value = trial, new
        return rows


class _System:
    """Hessian of the objective in the rows that are not zero: of the loss, and of the norms."""

    def __init__(
        self, problem: Problem, hidden: FloatArray, fit: FloatArray, units: FloatArray, bend: FloatArray
    ) -> None:
        self.problem, self.hidden, self.fit, self.units = problem, hidden, fit, units
        self.bend = bend[:, None]

    def solve(self, gradient: FloatArray, curvature: FloatArray, cg_steps: int) -> FloatArray:
        """Newton step ``-H^{-1} gradient``: by a factorisation where the system is small, else nearly."""
        if gradient.size <= _DENSE:
            matrix = self.matrix()
            matrix[np.diag_indices_from(matrix)] += 1e-13 * float(np.trace(matrix)) / len(matrix)
            with contextlib.suppress(np.linalg.LinAlgError):
                return -np.asarray(cho_solve(cho_factor(matrix), gradient.ravel())).reshape(gradient.shape)
        return self._conjugate_gradients(gradient, 1.0 / (curvature[:, None] + self.bend), cg_steps)

    def matrix(self) -> FloatArray:
        """All entries, ``(k c, k c)``."""
        k, c = self.units.shape
        out = np.zeros((k, c, k, c))
        for j in range(c):
            unit = np.zeros_like(self.fit)
            unit[:, j] = 1.0
            column = self.problem.hessian_product(self.fit, unit)
            for i in range(c) if np.any(np.delete(column, j, axis=1)) else (j,):
                out[:, i, :, j] = self.hidden.T @ (column[:, i, None] * self.hidden)
        index = np.arange(k)
        norms = np.eye(c) - self.units[:, :, None] * self.units[:, None, :]
        out[index, :, index, :] += self.bend[:, :, None] * norms
        return out.reshape(k * c, k * c)

    def product(self, v: FloatArray) -> FloatArray:
        """Product with rows ``(k, c)``."""
        along = np.sum(self.units * v, axis=1, keepdims=True)
        curved = self.hidden.T @ self.problem.hessian_product(self.fit, self.hidden @ v)
        return curved + self.bend * (v - along * self.units)

    def _conjugate_gradients(self, gradient: FloatArray, scale: FloatArray, cg_steps: int) -> FloatArray:
        step, residual = np.zeros_like(gradient), -gradient
        z = scale * residual
        direction, now = z, float(np.sum(residual * z))
        target = 1e-10 * now
        for _ in range(cg_steps):
            image = self.product(direction)
            curve = float(np.sum(direction * image))
            if curve <= 0.0:
                break
            share = now / curve
            step = step + share * direction
            residual = residual - share * image
            z = scale * residual
            last, now = now, float(np.sum(residual * z))
            if now <= target:
                break
            direction = z + (now / last) * direction
        return step if np.any(step) else -scale * gradient
