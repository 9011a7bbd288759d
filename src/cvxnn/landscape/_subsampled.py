r"""Optimum of the convex program on all open cells that touch the neurons of a network, without listing the cells.

The cells around one neuron fill the cone on which the samples off its kinks keep their signs. A kink with
:math:`s\nu_j \le 0` bends the dual function :math:`s\,\nu^\top(Xu)_+` down: the maximum over the cells on both of its
sides is one convex problem. Only kinks of the other kind are told apart, and only the cells where the dual function
exceeds beta enter the program.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear

from cvxnn.certificates._rounding import combination_norm_up
from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.landscape._adjacent_cells import KinkReading
from cvxnn.landscape._cell_optimum import CellOptimum, cell_optimum
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import enumerate_patterns
from cvxnn.problem import Problem
from cvxnn.solvers.cells import unique_cells

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["subsampled_optimum"]

_ROUNDS = 40
_TOL = 1e-10
"""Relative gap at which the program counts as solved."""

_WORST_ROWS = 64


def subsampled_optimum(
    problem: Problem, network: ReLUNetwork, readings: list[KinkReading], signs: FloatArray, max_cells: int
) -> CellOptimum:
    """Solve the program on the cells around the neurons with the given kinks and output signs.

    Parameters
    ----------
    problem : Problem
    network : ReLUNetwork
        Its objective, once balanced, is the start.
    readings : list of KinkReading
        One for each neuron that has both weights.
    signs : ndarray (k,)
    max_cells : int
        Most cells to tell apart around one neuron.

    Raises
    ------
    PatternLimitError
        When one neuron has more of them.
    """
    if not readings:
        return cell_optimum(problem, np.zeros((0, problem.n_samples), dtype=np.bool_), np.zeros(0))
    X = problem.X
    masks, sides = np.array([_own_cell(X, reading) for reading in readings]), signs
    index = unique_cells(masks, sides)
    masks, sides = masks[index], sides[index]
    current = network.balanced()
    value = current.objective(problem)
    nu = problem.loss.project_dual(problem.dual_vector(current(X)), problem.y, problem.sample_weight)
    lower, dual = -np.inf, nu
    for round_number in range(_ROUNDS):
        tau, new = _price(problem, nu, readings, signs, max_cells)
        bound, _ = scaled_dual_bound(problem, nu, tau)
        if bound > lower:
            lower, dual = bound, nu
        every = np.concatenate([masks, *(mask[None] for mask, _ in new)])
        both = np.concatenate([sides, [sign for _, sign in new]])
        index = unique_cells(every, both)
        if relative_gap(value, lower) <= _TOL or (round_number and len(index) == len(masks)):
            break
        masks, sides = every[index], both[index]
        found = cell_optimum(problem, masks, sides)
        before, nu = value, found.dual
        if found.value < value:
            current, value = found.network, found.value
        if round_number and value > before * (1.0 - 0.1 * _TOL):
            break
    return CellOptimum(value, lower, current, dual)


def _own_cell(X: FloatArray, reading: KinkReading) -> BoolArray:
    """One of the open cells around the neuron."""
    gate = np.random.default_rng(0).standard_normal(X.shape[1])
    return reading.active | ~np.any(X != 0, axis=1) | (reading.on & (X @ gate > 0))


def _price(
    problem: Problem, nu: FloatArray, readings: list[KinkReading], signs: FloatArray, max_cells: int
) -> tuple[float, list[tuple[BoolArray, float]]]:
    """Proved bound of the dual function over all cells around the neurons, and cells where it exceeds beta."""
    X, beta = problem.X, problem.beta
    norms = np.linalg.norm(X, axis=1)
    units = X / np.where(norms > 0, norms, 1.0)[:, None]
    scale_x = float(2.0 ** np.frexp(np.max(np.abs(X)))[1])
    scale_nu = float(2.0 ** np.frexp(np.max(np.abs(nu)))[1]) if np.any(nu) else 1.0
    largest = 0.0
    new: list[tuple[BoolArray, float]] = []
    for reading, sign in zip(readings, signs, strict=True):
        weights = sign * nu
        bends = np.flatnonzero(reading.on & (weights > 0))
        cells = [np.zeros(0, dtype=np.bool_)]
        if bends.size:
            cells = list(enumerate_patterns(X[bends], max_patterns=max_cells).masks)
        for cell in cells:
            active = reading.active.copy()
            active[bends] = cell
            free = reading.on & (weights <= 0)
            c = _multipliers(units, norms, weights, active, free)
            upper = float(combination_norm_up(X / scale_x, (c / scale_nu)[None])[0]) * scale_x * scale_nu
            largest = max(largest, upper * (1.0 + 1e-15))
            if upper > beta * (1.0 + 0.1 * _TOL):
                new.append((active | (free & (X @ (c @ X) > 0)) | (norms == 0), float(sign)))
    return largest, new


def _multipliers(
    units: FloatArray, norms: FloatArray, weights: FloatArray, active: BoolArray, free: BoolArray
) -> FloatArray:
    r"""Coefficients c of least ``||X^T c||`` with ``weights^T (Xu)_+ <= c^T X u`` wherever the signs are right.

    They are ``weights + rho`` on active samples, ``-rho`` on inactive ones, with rho >= 0, and between ``weights`` and
    0 on free ones. Walls enter as the residual violates them.
    """
    walls = ~free & (norms > 0)
    outward = np.where(active, 1.0, -1.0)
    base = np.where(active & walls, weights, 0.0)
    target = (base * norms) @ units
    size = float(np.linalg.norm(target)) or 1.0
    chosen = np.zeros(len(norms), dtype=np.bool_)
    bends = np.flatnonzero(free & (weights < 0))
    heights = -weights[bends] * norms[bends] / size
    c = base
    while True:
        index = np.flatnonzero(chosen)
        columns = np.hstack([-units[bends].T, (outward[index, None] * units[index]).T])
        residual = target
        if columns.shape[1]:
            high = np.concatenate([heights, np.full(index.size, np.inf)])
            solution: Any = lsq_linear(columns, -target / size, (0.0, high), method="bvls", tol=1e-15, max_iter=2000)
            t = np.clip(solution.x, 0.0, high)
            residual = target + size * (columns @ t)
            c = base.copy()
            share = np.divide(t[: bends.size], heights, out=np.zeros(bends.size), where=heights > 0)
            c[bends] = weights[bends] * np.minimum(share, 1.0)
            rho = size * t[bends.size :] / norms[index]
            c[index] = np.where(active[index], base[index] + rho, -rho)
        push = np.where(walls & ~chosen, outward * (units @ residual), 0.0)
        worst = np.argsort(push, kind="stable")[:_WORST_ROWS]
        worst = worst[push[worst] < -1e-13 * float(np.linalg.norm(residual))]
        if worst.size == 0:
            return c
        chosen[worst] = True
