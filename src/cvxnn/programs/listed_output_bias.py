r"""The ReLU program over listed patterns with an output bias.

Over all patterns neurons and bias are optimised together (:func:`cvxnn.programs.relu.solve_relu`). The programs on
listed cones know no bias, so here it is sought by itself:

.. math:: \min_b\ \tfrac{\kappa}{2} b^2 + p(b), \qquad
          p(b) = \min_{W, a}\ \mathrm{loss}((X W^T)_+ a + b) + \tfrac{\beta}{2}(\|W\|_F^2 + \|a\|^2)

The program is convex in its blocks and b together, so the function of b is convex, and its slope is
:math:`\kappa b - \sum_j \nu_j` at the dual vector of the best network for b (envelope theorem). The root of the slope
is bracketed and found by Brent's method; each value is a solve, started at the network before.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import root_scalar

from cvxnn.certificates.certificate import certify_global
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.output_bias import best_shift, zero_sum_dual
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.reduction import reduce_problem
from cvxnn.programs.relu import ReLUOptions, is_exact, solve_relu
from cvxnn.progress import Recorder
from cvxnn.solution import Solution, Status
from cvxnn.solvers.best_bias import fixed_bias

FloatArray = npt.NDArray[np.float64]

__all__ = ["solve_listed_output_bias"]

_MOST_SOLVES = 60
_FINEST = 1e-10
_CERTIFY_SECONDS = 60.0
_TIE = 1e-12
_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


class _Enough(Exception):
    """The tolerance is met, or a limit: no further value of the slope is wanted."""


def solve_listed_output_bias(problem: Problem, options: ReLUOptions, recorder: Recorder) -> Solution:
    """Solve the ReLU program over listed patterns with its bias; see :func:`cvxnn.programs.relu.solve_relu`."""
    start = options.warm_start
    search = _BiasSearch(problem, options, recorder)
    bias = best_shift(problem, np.zeros(problem.n_samples)) if start is None else start.output_bias
    with contextlib.suppress(_Enough):
        search.run(bias)
    return search.report()


class _BiasSearch:
    """Values of the slope at biases, and the best network and certificate among them."""

    def __init__(self, problem: Problem, options: ReLUOptions, recorder: Recorder) -> None:
        self.problem, self.options, self.recorder = problem, options, recorder
        self.provable = options.certify and is_exact(reduce_problem(problem).problem, certify=True)
        self.decay = problem.output_bias_decay or 0.0
        self.network = options.warm_start
        self.best: Solution | None = None
        self.bound = 0.0
        self.solves = 0
        self.sides: dict[float, tuple[FloatArray, float]] = {}
        # The program for a fixed bias can be solved no better than to rounding, and its slope not either.
        self.tol = max(0.1 * options.tol, _FINEST)
        self.slopes: dict[float, float] = {}

    def run(self, start: float) -> None:
        slope = self.slope(start)
        scale = max(abs(start), float(np.max(np.abs(self.problem.y))))
        curvature = float(np.sum(self.problem.sample_weight)) * self.problem.loss.curvature + self.decay
        step = -slope / curvature
        if step == 0.0:
            raise _Enough
        other, low, low_slope = start + step, start, slope
        while True:
            value = self.slope(other)
            if value * slope <= 0.0:
                break
            # The slope changes no faster than by the curvature: such steps fall short of the root, so they grow.
            secant = -value * (other - low) / (value - low_slope) if value != low_slope else math.inf
            step = math.copysign(min(max(1.5 * abs(secant), abs(step)), 8.0 * abs(step) + 1e-3 * scale), step)
            low, low_slope, other = other, value, other + step
        # A slope that is zero to rounding may have either sign.
        if value * slope < 0.0:
            reach = max(1e-15 * scale, _TINY)
            bracket = (min(low, other), max(low, other))
            root_scalar(self.slope, bracket=bracket, method="brentq", xtol=reach, rtol=4.0 * _EPS, maxiter=_MOST_SOLVES)

    def slope(self, bias: float) -> float:
        """Slope at a bias, by a solve; keeps what is better and stops the search when that is enough."""
        if bias in self.slopes:
            return self.slopes[bias]
        remaining = None
        if self.options.time_limit is not None:
            remaining = max(self.options.time_limit - self.recorder.seconds, 0.0)
        if self.best is not None and (self.solves >= _MOST_SOLVES or remaining == 0.0):
            raise _Enough
        options = replace(
            self.options,
            tol=self.tol,
            certify=self.provable,
            warm_start=None if self.network is None else replace(self.network, output_bias=0.0),
            time_limit=remaining,
        )
        solution = solve_relu(fixed_bias(self.problem, bias), options, Recorder(False))
        self.solves += 1
        network = replace(solution.network, output_bias=bias)
        self.network = network
        self._keep(solution, network)
        if self.best is not None and (
            self.best.certificate.gap <= self.options.tol or solution.status in (Status.INTERRUPTED, Status.TIME_LIMIT)
        ):
            raise _Enough
        self.slopes[bias] = self.decay * bias - float(np.sum(solution.dual))
        return self.slopes[bias]

    def _keep(self, solution: Solution, network: ReLUNetwork) -> None:
        """Certificate for the problem with its bias, from the dual vector of the problem at this bias."""
        problem, proof = self.problem, solution.certificate
        objective = network.objective(problem)
        dual, norm_bound = proof.dual, proof.dual_norm_bound
        if self.decay == 0.0:
            opposite = self._other_side(dual, norm_bound) if proof.scope == "global" else None
            dual, norm_bound = zero_sum_dual(problem, dual, norm_bound, opposite)
        bound, scale = scaled_dual_bound(problem, dual, norm_bound)
        certificate = replace(
            proof,
            objective=objective,
            lower_bound=bound,
            global_lower_bound=bound if proof.scope == "global" else 0.0,
            dual=dual,
            scale=scale,
            dual_norm_bound=norm_bound,
        )
        current = replace(solution, network=network, certificate=certificate)
        self.bound = max(self.bound, bound)
        if self.best is None or _better(current, self.best):
            self.best = current
        self.recorder.record(
            "bias",
            self.solves,
            objective=self.best.objective,
            lower_bound=0.0,
            estimate=self.bound,
            width=network.width,
            violation=0.0,
        )

    def _other_side(self, dual: FloatArray, norm_bound: float) -> tuple[FloatArray, float] | None:
        """Remember a dual vector with its bound; return the last one whose entries sum to the other sign."""
        total = float(np.sum(dual))
        side = math.copysign(1.0, total)
        self.sides[side] = dual, norm_bound
        return self.sides.get(-side) if total != 0.0 else None

    def report(self) -> Solution:
        """Best solution with its status; the global bound where one was asked for or comes at once."""
        assert self.best is not None
        best, problem = self.best, self.problem
        certificate = best.certificate
        if certificate.scope == "patterns":
            everywhere, pricing = certify_global(
                problem,
                best.network(problem.X),
                best.objective,
                tol=self.options.tol,
                time_limit=self._certify_seconds(),
                method="auto" if self.options.certify else "cheap",
            )
            if everywhere.gap <= max(self.options.tol, 10.0 * certificate.gap):
                certificate = everywhere
            else:
                certificate = replace(
                    certificate,
                    lower_bound=max(certificate.lower_bound, everywhere.lower_bound),
                    global_lower_bound=everywhere.lower_bound,
                    dual_norm_attained=max(certificate.dual_norm_attained, pricing.lower),
                )
        status = best.status
        met = certificate.gap <= self.options.tol
        if met:
            status = Status.GLOBAL_OPTIMUM if certificate.scope == "global" else Status.PATTERNS_OPTIMUM
        elif status.converged:
            status = Status.STALLED
        return replace(
            best, certificate=certificate, status=status, history=self.recorder.history(), n_iter=self.solves
        )

    def _certify_seconds(self) -> float | None:
        if self.options.time_limit is None:
            return _CERTIFY_SECONDS
        return max(self.options.time_limit - self.recorder.seconds, 0.0)


def _better(first: Solution, second: Solution) -> bool:
    """Whether the first has the lower objective or, where objectives tie, the smaller gap."""
    tie = _TIE * abs(second.objective)
    if abs(first.objective - second.objective) <= tie:
        return first.gap < second.gap
    return first.objective < second.objective
