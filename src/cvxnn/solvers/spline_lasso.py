r"""Lasso over hinges at the samples of one-dimensional data, with a free constant.

.. math:: \min_{c, p, q}\ \ell\Big(c + \sum_j p_j (x - t_j)_+ + \sum_j q_j (t_j - x)_+\Big)
          + \beta \sum_j (|p_j| + |q_j|)

A working set of hinges grows by the local maxima of the correlation with the dual vector. Between the knots of the
working set the fit is linear, so that the loss of a Newton model is a tridiagonal form in the values at these knots: a
step costs two passes over the samples and the solution of a non-negative quadratic program of the size of the working
set, whatever the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky_banded, solve_banded

from cvxnn.certificates.output_bias import best_shift
from cvxnn.problem import Problem
from cvxnn.solvers._nonnegative_least_squares import polish_nonnegative_least_squares
from cvxnn.solvers._nonnegative_qp import minimize_nonnegative_quadratic

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["Hinges", "constant_fit", "refit_hinges", "violated_hinges"]

_LEAST_CURVATURE = 1e-10
_MOST_STEPS, _MOST_HALVINGS = 200, 40
_ARMIJO, _ROUNDING, _TINY = 1e-4, 1e-14, 1e-300
_MOST_POLISH = 4


@dataclass(frozen=True)
class Hinges:
    """Working set: hinge ``i`` has its knot at sample ``index[i]``, opens to ``side[i]`` (+1 right, -1 left).

    ``mass`` is the non-negative multiple of ``sign`` that it enters with.
    """

    index: IntArray
    side: FloatArray
    sign: FloatArray
    mass: FloatArray
    constant: float

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def none(cls, constant: float) -> Hinges:
        """No hinges, only a constant."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0), constant)

    def used(self) -> Hinges:
        """Hinges of positive mass."""
        keep = self.mass > 0
        return replace(self, index=self.index[keep], side=self.side[keep], sign=self.sign[keep], mass=self.mass[keep])

    def extended(self, index: IntArray, side: FloatArray, sign: FloatArray) -> Hinges:
        """Further hinges at mass zero."""
        return replace(
            self,
            index=np.concatenate([self.index, index]),
            side=np.concatenate([self.side, side]),
            sign=np.concatenate([self.sign, sign]),
            mass=np.concatenate([self.mass, np.zeros(len(index))]),
        )

    def columns(self, x: FloatArray, at: FloatArray) -> FloatArray:
        """Signed unit hinges at some points, ``(len(at), k)``."""
        return np.maximum(self.side * (at[:, None] - x[self.index]), 0.0) * self.sign

    def nodes(self, x: FloatArray) -> FloatArray:
        """Distinct points at which the fit may break, with both ends of the data."""
        return np.unique(np.concatenate([x[self.index], x[[0, -1]]]))

    def fit(self, x: FloatArray) -> FloatArray:
        """Values at all samples."""
        nodes = self.nodes(x)
        return np.interp(x, nodes, self.constant + self.columns(x, nodes) @ self.mass)


@dataclass(frozen=True)
class _Mesh:
    """Interpolation from values at nodes to the samples: sample ``j`` lies in ``cell[j]``, at ``share[j]`` of it."""

    nodes: FloatArray
    cell: IntArray
    share: FloatArray

    @classmethod
    def of(cls, x: FloatArray, nodes: FloatArray) -> _Mesh:
        """Mesh of sorted samples, all within the nodes."""
        cell = np.minimum(np.searchsorted(nodes, x, side="right") - 1, len(nodes) - 2)
        share = (x - nodes[cell]) / (nodes[cell + 1] - nodes[cell])
        return cls(nodes, cell, share)

    def interpolate(self, values: FloatArray) -> FloatArray:
        """Values at the samples."""
        return values[self.cell] + self.share * np.diff(values)[self.cell]

    def adjoint(self, gradient: FloatArray) -> FloatArray:
        """Gradient in the values at the nodes."""
        return self._spread(gradient * (1.0 - self.share), gradient * self.share)

    def tridiagonal(self, curvature: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Diagonal and off-diagonal of the curvature in the values at the nodes."""
        high = curvature * self.share
        diagonal = self._spread((curvature - high) * (1.0 - self.share), high * self.share)
        beside = np.bincount(self.cell, high * (1.0 - self.share), len(self.nodes) - 1)
        return diagonal, np.asarray(beside, dtype=np.float64)

    def _spread(self, low: FloatArray, high: FloatArray) -> FloatArray:
        count = len(self.nodes)
        total = np.bincount(self.cell, low, count) + np.bincount(self.cell + 1, high, count)
        return np.asarray(total, dtype=np.float64)


def violated_hinges(
    problem: Problem, hinges: Hinges, right: FloatArray, left: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Most violated hinge of each stretch of knots whose correlation exceeds beta with one sign: knots, sides, signs.

    All local maxima would be too many: neighbouring hinges are nearly the same column.
    """
    found: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for side, values in ((1.0, right), (-1.0, left)):
        sign = np.where(np.abs(values) > problem.beta, np.sign(values), 0.0)
        starts = np.flatnonzero(np.diff(sign, prepend=0.0) != 0.0)
        starts = starts[sign[starts] != 0.0]
        ends = np.append(starts, len(sign))[1:]
        # Stretches of zeros in between have no peak, since a start ends the stretch before it.
        size = np.where(sign != 0.0, np.abs(values), 0.0)
        # The best of the others: next to a knot of the working set there may be a better one.
        size[hinges.index[hinges.side == side]] = 0.0
        peaks = np.array(
            [first + int(np.argmax(size[first:last])) for first, last in zip(starts, ends, strict=True)],
            dtype=np.int64,
        )
        peaks = peaks[size[peaks] > 0.0]
        found.append((peaks, np.full(len(peaks), side), sign[peaks]))
    index, sides, signs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return index, sides, signs


def refit_hinges(problem: Problem, hinges: Hinges, *, tol: float) -> Hinges:
    """Best constant and masses of the working set, by Newton steps on the loss.

    Parameters
    ----------
    problem : Problem
        Sorted one-dimensional data.
    hinges : Hinges
        Working set; its masses are the start.
    tol : float
        Stop when the correlations of the hinges in use differ from beta, and those of the others exceed it, by at
        most this fraction.

    Returns
    -------
    Hinges
        The objective is never above that of the start.
    """
    x = problem.X[:, 0]
    mesh = _Mesh.of(x, hinges.nodes(x))
    node_columns = hinges.columns(x, mesh.nodes)
    fit = mesh.interpolate(hinges.constant + node_columns @ hinges.mass)
    objective = problem.loss_value(fit) + problem.beta * float(np.sum(hinges.mass))
    floor, polish = 0.0, 0
    for _ in range(_MOST_STEPS):
        step = _newton_step(problem, hinges, mesh, node_columns, fit, floor)
        change, constant, promise, residual = step
        if residual <= tol or polish == _MOST_POLISH:
            break
        # Below the rounding of the objective only the residual tells; Newton's full step is right there.
        rounding = _ROUNDING * abs(objective)
        polish += promise <= rounding
        moved = mesh.interpolate(node_columns @ change + constant)
        length, halvings = 1.0, 0
        while halvings < _MOST_HALVINGS:
            # A convex combination of non-negative masses.
            mass = np.maximum(hinges.mass + length * change, 0.0)
            new_fit = fit + length * moved
            value = problem.loss_value(new_fit) + problem.beta * float(np.sum(mass))
            if value <= objective - _ARMIJO * length * promise + rounding:
                break
            length, halvings = 0.5 * length, halvings + 1
        if halvings == _MOST_HALVINGS:
            break
        # Where the loss is flat the model goes too far: it needs some curvature.
        floor = max(10.0 * floor, 1e-4) if halvings > 2 else 0.1 * floor
        floor = min(floor, 1.0) if floor > 1e-6 else 0.0
        hinges = replace(hinges, mass=mass, constant=hinges.constant + length * constant)
        fit, objective = new_fit, value
    return hinges


def _newton_step(
    problem: Problem, hinges: Hinges, mesh: _Mesh, columns: FloatArray, fit: FloatArray, floor: float
) -> tuple[FloatArray, float, float, float]:
    """Changes of masses and constant that minimise the Newton model, its promised decrease, and the residual."""
    gradient = problem.loss_gradient(fit)
    least = max(floor, _LEAST_CURVATURE) * problem.loss.curvature
    curvature = np.maximum(problem.loss_hessian(fit), least * problem.sample_weight)
    node_gradient = mesh.adjoint(gradient)
    diagonal, beside = mesh.tridiagonal(curvature)
    # Columns for the constant and the hinges, times the bidiagonal factor of the curvature.
    factor = cholesky_banded(np.vstack([np.insert(beside, 0, 0.0), diagonal]), check_finite=False)
    basis = np.column_stack([np.ones(len(columns)), columns])
    product = factor[1][:, None] * basis
    product[:-1] += factor[0][1:, None] * basis[1:]
    now = np.insert(hinges.mass, 0, hinges.constant)
    target = product @ now - solve_banded((1, 0), np.vstack([factor[1], np.append(factor[0][1:], 0.0)]), node_gradient)
    move = _best_coefficients(product, target, problem.beta) - now
    slope = basis.T @ node_gradient
    slope[1:] += problem.beta
    residual = max(
        float(np.max(np.where(hinges.mass > 0, np.abs(slope[1:]), -slope[1:]), initial=0.0)) / problem.beta,
        abs(float(slope[0])) / max(float(np.sum(np.abs(node_gradient))), _TINY),
    )
    bent = product @ move
    decrease = -float(move @ slope) - 0.5 * float(bent @ bent)
    return move[1:], float(move[0]), decrease, residual


def _best_coefficients(matrix: FloatArray, target: FloatArray, cost: float) -> FloatArray:
    """Constant and masses of the Newton model: the Gram matrix finds the support, the factors the digits."""
    first = matrix[:, 0] / np.linalg.norm(matrix[:, 0])
    rest = matrix[:, 1:] - np.outer(first, first @ matrix[:, 1:])
    mass = minimize_nonnegative_quadratic(rest.T @ rest, rest.T @ target - cost)
    constant = float(first @ (target - matrix[:, 1:] @ mass)) / float(np.linalg.norm(matrix[:, 0]))
    return polish_nonnegative_least_squares(matrix, target, cost, np.insert(mass, 0, constant))


def constant_fit(problem: Problem) -> Hinges:
    """Working set without hinges and the constant of least loss."""
    return Hinges.none(best_shift(problem, np.zeros(problem.n_samples)))
