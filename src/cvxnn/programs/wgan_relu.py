r"""Wasserstein GAN with a ReLU discriminator: a generator of least norm under moment constraints.

The discriminator :math:`\sum_j v_j (x^\top u_j)_+`, :math:`\|u_j\| = 1`, with the penalty
:math:`\beta_d \sum_j |v_j|` has the best value 0 where

.. math:: |1^\top (Xu)_+ - 1^\top (Gu)_+| \le \beta_d \quad\text{for all}\quad \|u\| \le 1,

and is unbounded elsewhere. The part :math:`1^\top (Gu)_+ \le 1^\top (Xu)_+ + \beta_d` is convex in G. The other is not:
with the patterns E of a reference, :math:`1^\top (Gu)_+ \ge 1^\top E G u` makes
:math:`1^\top E G u \ge 1^\top (Xu)_+ - \beta_d` a convex restriction, tight at the reference. Each step solves that
convex program by cutting planes in u, from the solution of the step before: the norm never rises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.pricing import PricingBound, pricing_bound
from cvxnn.solvers.least_distance import least_distance

FloatArray = npt.NDArray[np.float64]

__all__ = ["MomentFit", "MomentProblem", "fit_moments", "moment_gap", "split_samples"]

_STIFFNESS = 1e8
"""Cost of a squared excess over the constraint, in squared norms of the data per squared radius."""
_KEPT = 1e-9
"""Multipliers below this share of the largest one count as zero."""
_LEAST_GAIN = 1e-3
"""Relative decrease of the violation below which the search for a feasible generator ends."""


@dataclass(frozen=True, eq=False)
class MomentProblem:
    """Data ``X (n, d)``, radius ``beta_d`` and the map ``Z (m, k)`` from weights ``W (k, d)`` to samples ``Z W``."""

    X: FloatArray
    beta_d: float
    Z: FloatArray | None

    def samples(self, W: FloatArray) -> FloatArray:
        """Samples ``(m, d)`` of weights."""
        return W if self.Z is None else self.Z @ W

    def moment(self, U: FloatArray) -> FloatArray:
        """Moments ``1^T (X u)_+`` of directions ``(K, d)``."""
        return np.sum(np.maximum(U @ self.X.T, 0.0), axis=1)

    def rows(self, U: FloatArray, samples: FloatArray) -> FloatArray:
        """Gradients of ``1^T (G u)_+`` with the patterns of the samples, in the weights, ``(K, k * d)``."""
        active = (U @ samples.T > 0.0).astype(np.float64)
        outer = active if self.Z is None else active @ self.Z
        return (outer[:, :, None] * U[:, None, :]).reshape(len(U), outer.shape[1] * U.shape[1])


@dataclass
class MomentFit:
    """Best generator so far: ``feasible`` where no violation was found, which ``gap.upper`` proves or leaves open."""

    weights: FloatArray
    gap: PricingBound
    feasible: bool
    ended: str = "max_iter"
    objectives: list[float] = field(default_factory=list)
    n_cuts: int = 0


def moment_gap(
    X: FloatArray,
    samples: FloatArray,
    *,
    target: float | None = None,
    time_limit: float | None = None,
    starts: FloatArray | None = None,
    method: str = "auto",
) -> PricingBound:
    """Bounds of ``max_u |1^T (X u)_+ - 1^T (G u)_+|`` over the unit ball: pricing on the stacked samples."""
    stacked = np.vstack([X, samples])
    weights = np.concatenate([np.ones(len(X)), -np.ones(len(samples))])
    return pricing_bound(
        stacked,
        weights,
        target=target,
        tol=1e-7,
        time_limit=time_limit,
        starts=starts if starts is not None and len(starts) else None,
        method=method,
        stop_at_violation=target is not None,
    )


def split_samples(X: FloatArray, m: int) -> FloatArray:
    """Reference of m rows: samples split into equal parts, which leaves every moment as it is, or neighbours summed."""
    n = len(X)
    if m >= n:
        parts = np.full(n, m // n)
        parts[: m % n] += 1
        return np.repeat(X / parts[:, None], parts, axis=0)
    plane = X @ np.linalg.svd(X, full_matrices=False)[2][:2].T
    angle = np.arctan2(plane[:, 1], plane[:, 0]) if plane.shape[1] == 2 else plane[:, 0]
    return np.array([np.sum(X[part], axis=0) for part in np.array_split(np.argsort(angle, kind="stable"), m)])


def fit_moments(
    problem: MomentProblem,
    reference: FloatArray,
    *,
    tol: float,
    max_iter: int,
    max_cuts: int,
    deadline: float | None,
    report: Callable[[int, float, float], None],
) -> MomentFit:
    """Lower the norm of the weights step by step, each from the patterns of the last.

    Parameters
    ----------
    problem : MomentProblem
    reference : ndarray (k, d)
        Weights to start from.
    tol : float
        Accepted excess over ``beta_d``, and least relative decrease of a step, relative.
    max_iter : int
        Most steps.
    max_cuts : int
        Most rounds of cuts in one step.
    deadline : float, optional
        Reading of ``time.monotonic`` at which to stop.
    report : callable
        Called with the step, the squared norm and the largest violation found.
    """
    target = problem.beta_d * (1.0 + tol)
    first = moment_gap(problem.X, problem.samples(reference), target=target, time_limit=_left(deadline))
    fit = MomentFit(reference, first, first.lower <= target)
    fit.objectives.append(float(np.sum(reference**2)))
    report(0, fit.objectives[0], first.lower)
    directions = _spread(problem.X)
    try:
        for step in range(1, max_iter + 1):
            stepped = _step(problem, fit.weights, directions, tol, max_cuts, deadline, fit)
            if stepped is None:
                break
            weights, gap, directions = stepped
            feasible = gap.lower <= target
            before, after = fit.objectives[-1], float(np.sum(weights**2))
            progress = _progress(fit, feasible, gap, before, after, tol)
            if feasible > fit.feasible or (feasible == fit.feasible and (progress or after <= before)):
                fit.weights, fit.gap, fit.feasible = weights, gap, feasible
                fit.objectives.append(after)
                report(step, after, gap.lower)
            if not progress:
                fit.ended = "stationary" if fit.feasible else "infeasible"
                break
    except KeyboardInterrupt:
        fit.ended = "interrupted"
    return fit


def _progress(fit: MomentFit, feasible: bool, gap: PricingBound, before: float, after: float, tol: float) -> bool:
    """Whether a step gained: feasibility first, then a smaller excess, then a smaller norm."""
    if feasible != fit.feasible:
        return feasible
    if not feasible:
        return gap.lower < fit.gap.lower * (1.0 - _LEAST_GAIN)
    return after < before * (1.0 - tol)


def _step(
    problem: MomentProblem,
    reference: FloatArray,
    directions: FloatArray,
    tol: float,
    max_cuts: int,
    deadline: float | None,
    fit: MomentFit,
) -> tuple[FloatArray, PricingBound, FloatArray] | None:
    """Least norm with the patterns of the reference, by cuts at the directions that violate the constraint most."""
    anchor = problem.samples(reference)
    cuts = _Cuts(problem, anchor)
    cuts.add_lower(directions)
    cuts.add_upper(directions, anchor)
    stiffness: float | None = None
    for _ in range(max_cuts):
        if deadline is not None and time.monotonic() > deadline:
            fit.ended = "time_limit"
            return None
        solved = cuts.solve(stiffness)
        if solved is None:
            stiffness = _STIFFNESS * float(np.sum(problem.X**2)) / problem.beta_d**2
            continue
        weights, excess = solved
        samples = problem.samples(weights)
        target = (problem.beta_d + excess) * (1.0 + tol)
        gap = moment_gap(problem.X, samples, target=target, starts=cuts.active, method="cheap")
        if gap.lower <= target and gap.upper > target:
            gap = moment_gap(problem.X, samples, target=target, starts=cuts.active, time_limit=_left(deadline))
        violated = gap.values > target
        if not np.any(violated):
            # Cuts that bind are the start of the next step.
            return weights, gap, cuts.active
        chosen, signs = gap.directions[violated], gap.signs[violated]
        cuts.add_lower(chosen[signs > 0])
        cuts.add_upper(chosen[signs < 0], samples)
        fit.n_cuts += int(np.count_nonzero(violated))
    fit.ended = "stalled"
    return None


class _Cuts:
    """Linear inequalities ``A w >= b`` in the weights, with the directions that they come from."""

    def __init__(self, problem: MomentProblem, anchor: FloatArray) -> None:
        self._problem, self._anchor = problem, anchor
        self._A: list[FloatArray] = []
        self._b: list[FloatArray] = []
        self._U: list[FloatArray] = []
        self._multipliers = np.zeros(0)

    def add_lower(self, U: FloatArray) -> None:
        """Require ``1^T E G u >= 1^T (X u)_+ - beta_d`` with the patterns E of the reference."""
        self._append(self._problem.rows(U, self._anchor), self._problem.moment(U) - self._problem.beta_d, U)

    def add_upper(self, U: FloatArray, samples: FloatArray) -> None:
        """Require ``1^T E G u <= 1^T (X u)_+ + beta_d`` with the patterns E of the samples: valid for every G."""
        self._append(-self._problem.rows(U, samples), -self._problem.moment(U) - self._problem.beta_d, U)

    def _append(self, A: FloatArray, b: FloatArray, U: FloatArray) -> None:
        if len(U):
            self._A.append(A)
            self._b.append(b)
            self._U.append(U)

    @property
    def active(self) -> FloatArray:
        """Directions of the cuts that bound the last solution."""
        U = np.vstack(self._U)
        used = np.zeros(len(U), dtype=bool)
        used[: len(self._multipliers)] = self._multipliers > _KEPT * np.max(self._multipliers, initial=0.0)
        return U[used]

    def solve(self, stiffness: float | None) -> tuple[FloatArray, float] | None:
        """Weights and common excess over the radius (0 without stiffness); None where the cuts admit no weights."""
        A, b = np.vstack(self._A), np.concatenate(self._b)
        if stiffness is not None:
            A = np.hstack([A, np.full((len(A), 1), stiffness**-0.5)])
        solved = least_distance(A, b)
        if solved is None:
            return None
        point, self._multipliers = solved
        excess = 0.0 if stiffness is None else float(point[-1]) * stiffness**-0.5
        weights = point if stiffness is None else point[:-1]
        d = self._problem.X.shape[1]
        return weights.reshape(-1, d), excess


def _spread(X: FloatArray) -> FloatArray:
    """Directions to begin with: the principal axes, both ways."""
    axes = np.linalg.svd(X, full_matrices=False)[2]
    return np.vstack([axes, -axes])


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
