"""Optimal masses of neurons whose directions are fixed: a smooth convex program over the non-negative orthant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.losses import SquaredLoss
from cvxnn.problem import Problem
from cvxnn.solvers._dependencies import dependencies, emptied_along
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic
from cvxnn.solvers.best_bias import coupling
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating]

__all__ = ["optimal_masses", "removal_costs", "solve_masses"]

_TOL, _MOST_STEPS = 1e-12, 100
"""Decrease, relative to the value, that ends the Newton steps, and the most of them, unless others are asked for."""

_DOUBLE_ENTRIES = 1 << 23
_RIDGE, _TINY = 1e-10, 1e-290
"""Share of the trace that makes a curvature invertible where outputs depend on each other, and its least size."""

_INDEPENDENT = 1e-5
"""Least distance of a unit column from the span of others that the Gram matrix resolves safely."""

_DEPENDENT = 1e-11
"""Distance below which it depends on them."""


def solve_masses(problem: Problem, neurons: Neurons, *, tol: float = _TOL, max_iter: int = _MOST_STEPS) -> Neurons:
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
    outputs = _outputs(problem.X, directions, live.signs)
    useful = np.any(outputs != 0.0, axis=0)
    if not np.all(useful):
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


def optimal_masses(problem: Problem, outputs: FloatArray, masses: FloatArray) -> FloatArray:
    r"""Minimise :math:`\mathrm{loss}(\sum_i c_i h_i) + \beta \sum_i c_i` over :math:`c \ge 0` for columns h of outputs.

    Parameters
    ----------
    problem : Problem
        Loss and beta; the data are not used.
    outputs : ndarray (n, k)
        Outputs of unit mass, signs included; none of them zero.
    masses : ndarray (k,)
        Start.

    Returns
    -------
    ndarray (k,)
        Masses whose objective is not above that of the start; columns that depend on others are emptied.

    Examples
    --------
    >>> import numpy as np
    >>> optimal_masses(Problem([[1.0]], [2.0], beta=0.5), np.array([[1.0, -1.0]]), np.ones(2))
    array([1.5, 0. ])
    """
    return _MassProgram(problem, outputs).minimize(masses, tol=_TOL, max_iter=_MOST_STEPS)


def removal_costs(problem: Problem, neurons: Neurons) -> FloatArray:
    r"""Rise of the objective when a neuron is dropped and the masses of the others adapt, to second order.

    .. math:: \tfrac12 c_i^2 / (G^{-1})_{ii}, \qquad G = \Phi^\top \mathrm{diag}(l'') \Phi

    with masses c and outputs :math:`\Phi` of unit mass. The masses must be optimal.

    References
    ----------
    Hassibi and Stork (1993), "Second order derivatives for network pruning: optimal brain surgeon".

    Examples
    --------
    >>> import numpy as np
    >>> removal_costs(Problem(np.eye(2), [2.0, 1.0], beta=0.0), Neurons(np.diag([2.0, 1.0]), np.ones(2))).round(6)
    array([2. , 0.5])
    """
    masses = neurons.masses
    outputs = _outputs(problem.X, neurons.vectors / masses[:, None], neurons.signs)
    program = _MassProgram(problem, outputs)
    gram = program._curvature(program._fit(masses))
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)), _TINY)
    return 0.5 * masses**2 / np.maximum(np.diagonal(np.linalg.inv(gram)), _TINY)


def _outputs(X: FloatArray, directions: FloatArray, signs: FloatArray) -> AnyFloats:
    """Signed outputs ``(n, k)`` of the neurons of mass one, in single precision where they are many."""
    n, k = len(X), len(signs)
    outputs = np.empty((n, k), np.float64 if n * k <= _DOUBLE_ENTRIES else np.float32)
    for rows in row_slabs(n, k):
        hidden = X[rows] @ directions.T
        np.maximum(hidden, 0.0, out=hidden)
        np.multiply(hidden, signs, out=outputs[rows], casting="same_kind")
    return outputs


class _MassProgram:
    """``min loss(outputs c) + beta sum(c)`` over ``c >= 0``."""

    def __init__(self, problem: Problem, outputs: AnyFloats) -> None:
        self.problem = problem
        self.outputs = outputs
        self.quadratic = isinstance(problem.loss, SquaredLoss)
        self._gram: FloatArray | None = None

    def value(self, masses: FloatArray) -> float:
        """Objective."""
        return self.problem.loss_value(self._fit(masses)) + self.problem.beta * float(masses.sum())

    def _fit(self, masses: FloatArray) -> FloatArray:
        return (self.outputs @ masses.astype(self.outputs.dtype)).astype(np.float64)

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
        fit = self._fit(masses)
        gram = self._curvature(fit)
        slope = self.problem.beta + self.outputs.T @ self.problem.loss_gradient(fit).astype(self.outputs.dtype)
        if damping > 0.0:
            size = np.einsum("ij,ij->j", self.outputs, self.outputs, dtype=np.float64)
            gram[np.diag_indices_from(gram)] += damping * self.problem.loss.curvature * size
        target = minimize_nonnegative_quadratic(gram, gram @ masses - slope, gap=0.1 * gap)
        move = target - masses
        return target, -float(slope @ move + 0.5 * move @ (gram @ move))

    def _curvature(self, fit: FloatArray) -> FloatArray:
        """Hessian of the loss in the masses; that of the squared loss is formed once."""
        if self._gram is not None:
            return self._gram
        curvature = self.problem.loss_hessian(fit)
        gram = np.zeros((self.outputs.shape[1],) * 2)
        for rows in row_slabs(len(fit), self.outputs.shape[1]):
            part = self.outputs[rows].astype(np.float64)
            gram += part.T @ (curvature[rows, None] * part)
        along = coupling(self.problem, curvature)
        if along is not None:
            shared = along @ self.outputs
            gram -= np.outer(shared, shared)
        if self.quadratic:
            self._gram = gram
        return gram

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
        if _independent(self.outputs[:, support]):
            return masses
        null = dependencies(self.outputs[:, support], tol=_DEPENDENT)
        if null.shape[1] == 0:
            return masses
        pruned = masses.copy()
        pruned[support] = emptied_along(masses[support], null)
        return pruned if self.value(pruned) <= value else masses


def _independent(columns: AnyFloats) -> bool:
    """Whether a cheap test proves that no column depends on the others; False says nothing."""
    gram = np.zeros((columns.shape[1],) * 2)
    for rows in row_slabs(*columns.shape):
        part = columns[rows].astype(np.float64)
        gram += part.T @ part
    scale = np.sqrt(np.diagonal(gram))
    if not np.all(scale > 0.0):
        return False
    gram /= scale[:, None] * scale
    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        return False
    # The square of a pivot is the squared distance of a unit column from the span of those before it.
    return bool(np.min(np.diagonal(factor), initial=1.0) > _INDEPENDENT)
