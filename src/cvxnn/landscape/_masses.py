"""Masses of neurons with fixed directions: the best ones, and equivalent ones with independent contributions.

A column is the contribution ``s (X u)_+`` of a neuron of mass one. Masses of zero are accepted everywhere, so that
neurons about to enter a network can take part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.losses import SquaredLoss
from cvxnn.problem import Problem
from cvxnn.solvers._dependencies import dependencies, emptied_along
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic

FloatArray = npt.NDArray[np.float64]

RANK_TOL = 1e-12
"""Columns are dependent where pivoted elimination of unit columns leaves less than this."""

_NEWTON_STEPS = 100
_ROUNDS = 10
_SHORTEST_STEP = 1e-3


def contributions(X: FloatArray, directions: FloatArray, signs: FloatArray) -> FloatArray:
    """Columns ``s_i (X u_i)_+`` of unit directions, ``(n, k)``; rounding errors of pre-activations are zero."""
    values = X @ directions.T
    noise = (X.shape[1] + 2) * np.finfo(np.float64).eps * np.linalg.norm(X, axis=1)
    return np.where(values > noise[:, None], values, 0.0) * signs


def mass_objective(problem: Problem, columns: FloatArray, masses: FloatArray) -> float:
    """Objective of the balanced network with these masses."""
    return problem.loss_value(columns @ masses) + problem.beta * float(masses.sum())


def minimize_masses(problem: Problem, columns: FloatArray, masses: FloatArray) -> FloatArray:
    r"""Masses of least objective, with linearly independent columns where they are positive.

    .. math:: \min_{c \ge 0}\ \mathrm{loss}(Ac, y) + \beta \sum_i c_i

    Newton's method whose models are solved exactly; then masses are moved along dependencies of the columns until the
    remaining columns are independent, where Newton's method ends at full precision. Without rows of zero weight the
    fit of the minimiser is that of a vertex of the set of all minimisers.
    """
    weighted = problem.sample_weight > 0
    current = masses
    value = mass_objective(problem, columns, current)
    for _ in range(_ROUNDS):
        current = _newton(problem, columns, current)
        current = independent_masses(columns[weighted], current)
        support = np.flatnonzero(current > 0.0)
        if support.size == 0:
            return current
        current = current.copy()
        current[support] = _newton(problem, columns[:, support], current[support])
        slopes = columns.T @ problem.loss_gradient(columns @ current) + problem.beta
        new_value = mass_objective(problem, columns, current)
        if np.min(slopes) >= -1e-12 * problem.beta or not new_value < value - 1e-15 * abs(value):
            break
        value = new_value
    return current


def _newton(problem: Problem, columns: FloatArray, masses: FloatArray) -> FloatArray:
    """Newton's method with a line search and a damping that vanishes where full steps are taken."""
    value = mass_objective(problem, columns, masses)
    damping = 0.0 if isinstance(problem.loss, SquaredLoss) else 1e-10
    squares = np.einsum("ij,ij->j", columns, columns)
    for _ in range(_NEWTON_STEPS):
        fit = columns @ masses
        slope = columns.T @ problem.loss_gradient(fit) + problem.beta
        gram = columns.T @ (problem.loss_hessian(fit)[:, None] * columns)
        gram[np.diag_indices_from(gram)] += damping * problem.loss.curvature * squares
        target = minimize_nonnegative_quadratic(gram, gram @ masses - slope, gap=1e-16 * abs(value))
        move = target - masses
        decrease = -float(slope @ move + 0.5 * move @ (gram @ move))
        if decrease <= 0.0:
            break
        # Below the rounding of the objective the model is the better judge: its gradient keeps its digits.
        last = decrease <= 1e-14 * abs(value)
        step, trial = 1.0, target
        trial_value = mass_objective(problem, columns, trial)
        while not last and trial_value > value - 1e-4 * step * decrease and step > _SHORTEST_STEP:
            step *= 0.25
            trial = masses + step * move
            trial_value = mass_objective(problem, columns, trial)
        if trial_value <= value * (1.0 + 1e-15):
            masses, value = trial, trial_value
            if last:
                break
        elif last or damping >= columns.shape[1]:
            break
        if isinstance(problem.loss, SquaredLoss):
            continue
        # A loss without curvature at the fit needs more than its own Hessian; damping k majorises every loss.
        damping = max(0.1 * damping, 1e-14) if step == 1.0 else min(max(30.0 * damping, 1e-6), columns.shape[1])
    return masses


def independent_masses(columns: FloatArray, masses: FloatArray, *, tol: float = RANK_TOL) -> FloatArray:
    """Masses of the same fit whose columns are independent where they are positive; their sum is not larger.

    The dependencies are removed in blocks of as many columns as there are rows, so that any number of columns costs
    time in proportion to it.
    """
    pending = np.flatnonzero(masses > 0.0)
    out = np.where(masses > 0.0, masses, 0.0)
    kept = pending[:0]
    block = max(columns.shape[0], 32)
    while pending.size:
        together = np.concatenate([kept, pending[:block]])
        pending = pending[block:]
        null = dependencies(columns[:, together], tol=tol)
        out[together] = emptied_along(out[together], null)
        kept = together[out[together] > 0.0]
    return out
