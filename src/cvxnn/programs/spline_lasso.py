r"""Two-layer ReLU networks of one input whose biases cost nothing: linear splines, and a lasso over hinges.

.. math:: \min_{w, b, a, c}\ \ell\Big(c + \sum_i a_i (w_i x + b_i)_+\Big) + \tfrac\beta2 \sum_i (w_i^2 + a_i^2)

A neuron is a hinge with its knot at ``-b/w``. The correlation of a dual vector with a hinge is piecewise linear in the
knot with breaks at the samples, so hinges with their knots at the samples suffice: the optimum over all networks of
every width is that of a lasso with 2n columns and a free constant (Ergen and Pilanci, "Convex geometry and duality of
over-parameterized neural networks", 2021, on one-dimensional data).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, certify_norm, relative_gap
from cvxnn.certificates.output_bias import admissible_dual
from cvxnn.certificates.spline_bound import hinge_correlations, hinge_norm
from cvxnn.problem import Problem
from cvxnn.solution import Status
from cvxnn.solvers.spline_lasso import Hinges, constant_fit, refit_hinges, violated_hinges

FloatArray = npt.NDArray[np.float64]

__all__ = ["SplineState", "certify_spline", "solve_spline_lasso"]

_PATIENCE = 5


class SplineState:
    """Best hinges and bound so far, and the dual vector of the latest hinges."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.hinges = constant_fit(problem)
        self.status = Status.STALLED
        self.n_iter = 0
        self.certificate = self._certify(self.hinges)
        self.dual = self.certificate.dual

    def improve(self, hinges: Hinges) -> None:
        """Take over what is better: a lower objective, a higher bound."""
        new, best = self._certify(hinges), self.certificate
        self.dual = new.dual
        if new.objective <= best.objective:
            self.hinges = hinges
        bound = new if new.lower_bound >= best.lower_bound else best
        self.certificate = replace(bound, objective=min(new.objective, best.objective))

    def _certify(self, hinges: Hinges) -> Certificate:
        fit = hinges.fit(self.problem.X[:, 0])
        objective = self.problem.loss_value(fit) + self.problem.beta * float(np.sum(hinges.mass))
        return certify_spline(self.problem, fit, objective)


def certify_spline(problem: Problem, fit: FloatArray, objective: float) -> Certificate:
    """Certificate of scope "global" for a fit on sorted data: no network of any width has a lower objective.

    Parameters
    ----------
    problem : Problem
        Sorted one-dimensional data, ``output_bias_decay=0``.
    fit : ndarray (n,)
        Fitted values, whose dual vector is tried.
    objective : float
        Objective that the bound is compared with.
    """
    nu = admissible_dual(problem, fit)
    upper, attained = hinge_norm(problem.X[:, 0], nu)
    return certify_norm(problem, objective, nu, upper, attained, method="hinges")


def solve_spline_lasso(
    problem: Problem,
    *,
    tol: float,
    max_iter: int,
    time_limit: float | None,
    report: Callable[[SplineState], None],
) -> SplineState:
    """Solve the lasso over all hinges at the samples to a relative duality gap, from the constant fit.

    Parameters
    ----------
    problem : Problem
        One-dimensional data in increasing order, ``output_bias_decay=0``.
    tol : float
        Relative duality gap.
    max_iter : int
        Most extensions of the working set.
    time_limit : float or None
        Seconds.
    report : callable
        Called with the state after each extension.
    """
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    x = problem.X[:, 0]
    state = SplineState(problem)
    current, waiting = state.hinges, 0
    try:
        while True:
            report(state)
            gap = state.certificate.gap
            if gap <= tol:
                state.status = Status.GLOBAL_OPTIMUM
                return state
            if state.n_iter >= max_iter:
                state.status = Status.MAX_ITER
                return state
            if time.perf_counter() > deadline:
                state.status = Status.TIME_LIMIT
                return state
            # The fit is constant outside of the distinct samples: no hinge to add.
            if x[0] == x[-1]:
                return state
            right, left = hinge_correlations(x, state.dual)
            index, side, sign = violated_hinges(problem, current, right, left)
            if len(index) == 0 and waiting >= _PATIENCE:
                return state
            working = current.extended(index, side, sign)
            current = refit_hinges(problem, working, tol=0.1 * min(tol, gap)).used()
            before = state.certificate
            state.improve(current)
            state.n_iter += 1
            improved = relative_gap(before.objective, before.lower_bound) - state.certificate.gap > 0.05 * gap
            waiting = 0 if improved else waiting + 1
            if waiting > 4 * _PATIENCE:
                return state
    except KeyboardInterrupt:
        state.status = Status.INTERRUPTED
        return state
