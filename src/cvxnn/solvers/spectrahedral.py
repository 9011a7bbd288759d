r"""The semidefinite program of a network with polynomial activation, by a primal-dual interior-point method.

.. math:: \min_{Z_\pm \succeq 0}\ \ell\big(\mathcal A(Z_+ - Z_-)\big)
          + \tfrac\beta2 (\mathrm{tr}\, Z_+ + \mathrm{tr}\, Z_-),
          \qquad \langle J, Z_\pm\rangle = 0,\quad J = \mathrm{diag}(1, \dots, 1, -1)

(Bartan and Pilanci, 2021, "Neural spectrahedra and semidefinite lifts"). The conditions of optimality are
:math:`Z_\pm S_\pm = 0` for :math:`S_\pm = \tfrac\beta2 I + \rho_\pm J \mp \mathcal A^*(\nu)` and
:math:`\nu = -\nabla\ell(e)` at the fit e. Mehrotra's predictor-corrector steps are taken in the direction of
Nesterov and Todd: two matrices of size d + 1 and one dense system a step, a dozen or two steps. The factors of Z and
S are carried along instead of the matrices, whose small eigenvalues rounding would lose. Losses with kinks in the
gradient are smoothed by the barrier parameter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.losses import HuberLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.problem import Problem
from cvxnn.solvers._spectrahedral_loss import loss_model
from cvxnn.solvers._spectrahedral_system import Change, Coefficients, Lift, choose_system

FloatArray = npt.NDArray[np.float64]
Pair = list[FloatArray]

__all__ = ["SpectrahedralState", "solve_spectrahedral"]

_SIGNS = (1.0, -1.0)
_BOUNDARY, _PREDICTED = 0.98, 0.99
_LEAST_CENTRING, _SHORT, _SAFE_CENTRING = 1e-6, 0.1, 0.3
_SMALLEST_STEP = 1e-8
_ROUNDING = 1e-13


@dataclass
class SpectrahedralState:
    """Iterate of the method.

    Attributes
    ----------
    roots : list of two ndarray (d + 1, d + 1)
        Factors R of the matrices ``Z = R R^T`` of both signs, with ``<J, Z> = 0`` to rounding.
    nu : ndarray (n,)
        Dual vector.
    objective : float
        Objective at the fit of the matrices.
    gap : float
        Estimate of the distance to the optimum, relative to the objective.
    iteration : int
    outcome : str
        "running", "solved", "stalled", "time_limit", "max_iter" or "interrupted".
    """

    roots: Pair
    nu: FloatArray
    objective: float
    gap: float = math.inf
    iteration: int = 0
    outcome: str = "running"


def solve_spectrahedral(
    problem: Problem,
    coefficients: Coefficients,
    *,
    tol: float = 1e-8,
    max_iter: int = 200,
    deadline: float = math.inf,
    report: Callable[[SpectrahedralState], None] = lambda state: None,
) -> SpectrahedralState:
    """Solve the program; an interrupt or the deadline returns the iterate so far.

    Parameters
    ----------
    problem : Problem
        Of order one.
    coefficients : (a, b, c)
        Of order one, not all zero.
    tol : float
        Complementarity, relative to the objective.
    max_iter : int
    deadline : float
        Time of ``time.perf_counter`` at which to stop.
    report : callable
        Called after each step.

    Examples
    --------
    >>> state = solve_spectrahedral(Problem([[1.0]], [2.0], beta=0.5), (1.0, 0.0, 0.0))
    >>> round(state.objective, 6), round(float(np.sum(state.roots[0][0] ** 2)), 4)
    (0.875, 1.5)
    """
    method = _Method(problem, coefficients)
    state = method.state
    try:
        while state.outcome == "running":
            if state.iteration >= max_iter:
                state.outcome = "max_iter"
            elif time.perf_counter() >= deadline:
                state.outcome = "time_limit"
            else:
                method.advance(tol)
                report(state)
    except KeyboardInterrupt:
        state.outcome = "interrupted"
    return state


class _Method:
    """Iterate, residuals and steps."""

    def __init__(self, problem: Problem, coefficients: Coefficients) -> None:
        self.problem = problem
        self.lift = Lift(problem.X, coefficients)
        self.system = choose_system(self.lift, constant_curvature=isinstance(problem.loss, SquaredLoss))
        n, d = problem.X.shape
        self.size = d + 1
        self.J = np.diag(np.append(np.ones(d), -1.0))
        # Where a loss has kinks its gradient is flat far away: a start without loss keeps nu and e consistent.
        kinks = isinstance(problem.loss, HuberLoss | SquaredHingeLoss)
        self.e = problem.y - getattr(problem.loss, "offset", 0.0) if kinks else np.zeros(n)
        nu = problem.dual_vector(self.e)
        largest = float(np.max(np.abs(np.linalg.eigvalsh(self.lift.adjoint(nu)))))
        if largest > 0.45 * problem.beta:
            nu = nu * (0.45 * problem.beta / largest)
        start = np.diag(np.append(np.full(d, 1.0 / d), 1.0))
        loss = problem.loss_value(np.zeros(n))
        # Complementarity of the order of the objective.
        start *= max(loss, 1e-3 * problem.n_samples) / (2.0 * problem.beta)
        self.loss = loss_model(problem, loss / (2.0 * self.size) if loss > 0.0 else 1.0)
        root = np.sqrt(start)
        self.state = SpectrahedralState([root, root.copy()], nu, loss + 2.0 * problem.beta * float(start[-1, -1]))
        # The factors of S are carried along: formed anew from nu, S would lose its small eigenvalues to rounding.
        self.slacks = [np.linalg.cholesky(part) for part in self._slacks(nu)]

    def advance(self, tol: float) -> None:
        """One step, or the end; rounding shows as a matrix that is no longer definite."""
        state = self.state
        try:
            step = _Step(self)
            affine = step.direction([-np.diag(values) for values in step.values], 0.0)
            length = min(1.0, _PREDICTED * step.longest(affine, 0.0))
            centring = max((step.mu_after(affine, length) / step.mu) ** 3, _LEAST_CENTRING)
            if length < _SHORT:
                centring = max(centring, _SAFE_CENTRING)
            target = centring * step.mu
            move = step.direction(step.corrector(affine, centring), target)
            length = min(1.0, _BOUNDARY * step.longest(move, target))
            if not length > _SMALLEST_STEP:
                raise np.linalg.LinAlgError("no step is left")
            self.loss.take(move.change.nu, target, length)
            self._take(step, move, length)
        except np.linalg.LinAlgError:
            state.outcome = "stalled"
            return
        if state.gap <= tol:
            state.outcome = "solved"

    def _slacks(self, nu: FloatArray) -> Pair:
        """Dual matrices S of both signs with ``rho = 0``."""
        A = self.lift.adjoint(nu)
        half = 0.5 * self.problem.beta * np.eye(self.size)
        return [half - sign * A for sign in _SIGNS]

    def _take(self, step: _Step, move: _Direction, length: float) -> None:
        """Move there."""
        state, problem = self.state, self.problem
        roots = step.moved(step.scalings, move.matrices, length)
        slacks = step.moved(step.inverses, move.slacks, length)
        state.roots, self.slacks = roots, slacks
        state.nu = state.nu + length * move.change.nu
        self.e = self.e + length * move.change.e
        state.iteration += 1
        fit = self.lift.fit(roots[0] @ roots[0].T - roots[1] @ roots[1].T)
        masses = float(sum(np.sum(root[-1] ** 2) for root in roots))
        state.objective = problem.loss_value(fit) + problem.beta * masses
        # The matrices S are definite, so that nu is feasible, unless it is not in the domain of the conjugate.
        bound = problem.dual_value(problem.loss.project_dual(state.nu, problem.y, problem.sample_weight))
        product = sum(float(np.sum((s.T @ z) ** 2)) for z, s in zip(roots, slacks, strict=True))
        state.gap = max(state.objective - bound, product) / max(state.objective, 1e-300)
        if product <= _ROUNDING * state.objective:
            raise np.linalg.LinAlgError("the rest is rounding")


@dataclass
class _Direction:
    """Changes: of the fit and its dual, of rho, and of the scaled matrices of both signs."""

    change: Change
    rho: FloatArray
    matrices: Pair
    slacks: Pair


class _Step:
    """Newton directions at an iterate, in coordinates in which Z and S are the same diagonal matrix."""

    def __init__(self, method: _Method) -> None:
        self.method = method
        lift = method.lift
        self.scalings: Pair = []
        self.inverses: Pair = []
        self.values: Pair = []
        for root, slack in zip(method.state.roots, method.slacks, strict=True):
            left, values, rows = np.linalg.svd(slack.T @ root)
            if not values[-1] > 0.0:
                raise np.linalg.LinAlgError("complementarity has vanished")
            self.scalings.append((root @ rows.T) / np.sqrt(values))
            self.inverses.append((slack @ left) / np.sqrt(values))
            self.values.append(values)
        Z = [root @ root.T for root in method.state.roots]
        self.mu = sum(float(values @ values) for values in self.values) / (2.0 * method.size)
        self.curvature = method.loss.linearise(method.e, method.state.nu, self.mu)
        self.rp = method.e - lift.fit(Z[0] - Z[1])
        self.rj = [-float(np.sum(method.J * z)) for z in Z]
        method.system.factorise(self.scalings, self.curvature)
        self.turned = [G.T @ method.J @ G for G in self.scalings]
        border = [sign * lift.fit(G @ J @ G.T) for sign, G, J in zip(_SIGNS, self.scalings, self.turned, strict=True)]
        self.border = [method.system.solve(column, np.zeros_like(column)) for column in border]

    def direction(self, targets: Pair, target: float) -> _Direction:
        """Direction in which the scaled changes of Z and S sum to the targets, and the loss aims at a parameter."""
        lift, J = self.method.lift, self.turned
        full = [G @ target @ G.T for G, target in zip(self.scalings, targets, strict=True)]
        base = self.method.system.solve(self.rp - lift.fit(full[0] - full[1]), self.method.loss.residual(target))

        def along(change: Change) -> FloatArray:
            parts = zip(_SIGNS, J, change.scaled, strict=True)
            return np.array([sign * float(np.sum(turned * part)) for sign, turned, part in parts])

        inner = np.stack([along(change) for change in self.border], axis=1)
        inner -= np.diag([float(np.sum(turned * turned)) for turned in J])
        wanted = [
            rest - float(np.sum(turned * target)) for rest, turned, target in zip(self.rj, J, targets, strict=True)
        ]
        rho = np.asarray(np.linalg.solve(inner, np.array(wanted) - along(base)), dtype=np.float64)
        change = Change(
            base.nu + rho[0] * self.border[0].nu + rho[1] * self.border[1].nu,
            base.e + rho[0] * self.border[0].e + rho[1] * self.border[1].e,
            [
                part + rho[0] * first + rho[1] * second
                for part, first, second in zip(base.scaled, self.border[0].scaled, self.border[1].scaled, strict=True)
            ],
        )
        slacks = [
            _symmetric(step * turned - sign * part)
            for step, turned, sign, part in zip(rho, J, _SIGNS, change.scaled, strict=True)
        ]
        return _Direction(change, rho, [target - slack for target, slack in zip(targets, slacks, strict=True)], slacks)

    def corrector(self, affine: _Direction, centring: float) -> Pair:
        """Targets with the second-order term of the affine direction (Todd, Toh and Tutuncu, 1998)."""
        out = []
        for values, dz, ds in zip(self.values, affine.matrices, affine.slacks, strict=True):
            right = np.diag(centring * self.mu - values**2) - _symmetric(dz @ ds)
            out.append(2.0 * right / (values[:, None] + values))
        return out

    def mu_after(self, move: _Direction, length: float) -> float:
        """Barrier parameter at the end of a step."""
        total = 0.0
        for values, dz, ds in zip(self.values, move.matrices, move.slacks, strict=True):
            total += float(np.sum((np.diag(values) + length * dz) * (np.diag(values) + length * ds)))
        return max(total, 0.0) / (2.0 * self.method.size)

    def moved(self, bases: Pair, changes: Pair, length: float) -> Pair:
        """Factors of both matrices after a step, from their changes in scaled coordinates."""
        return [
            base @ np.linalg.cholesky(np.diag(values) + length * _symmetric(change))
            for base, values, change in zip(bases, self.values, changes, strict=True)
        ]

    def longest(self, move: _Direction, target: float) -> float:
        """Longest step that keeps all four matrices definite, and the loss in its domain."""
        least = 0.0
        for values, *changes in zip(self.values, move.matrices, move.slacks, strict=True):
            root = np.sqrt(values)
            for change in changes:
                least = min(least, float(np.linalg.eigvalsh(change / root[:, None] / root)[0]))
        definite = math.inf if least >= 0.0 else -1.0 / least
        return min(definite, self.method.loss.longest(move.change.nu, target))


def _symmetric(matrix: FloatArray) -> FloatArray:
    return 0.5 * (matrix + matrix.T)
