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
from cvxnn.solvers.moment_descent import descend_moments

FloatArray = npt.NDArray[np.float64]

__all__ = ["MomentFit", "MomentProblem", "fit_moments", "moment_gap", "split_samples"]

_STIFFNESS = 1e8
"""Cost of a squared excess over the constraint, in squared norms of the data per squared radius."""
_KEPT = 1e-9
"""Multipliers below this share of the largest one count as zero."""
_STARTS, _CLIMBS = 128, 24
"""Random starts of the cheap search for violated directions, and its steps."""
_CUTS_A_ROUND = 40
_NEAR = 1e-4
"""Squared distance below which two violated directions give one cut."""
_DIRECTIONS = 200
"""Random directions for each feature in the first descent."""
_SHARES = (0.995, 0.99, 0.98, 0.95)
"""Shares of the radius that the descents in turn ask for: between their directions the moments differ by more."""
_PATIENCE = 5
"""Rounds after which a cut that does not bind is dropped."""
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
    descend: bool = False,
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
    descend : bool
        Whether gradient descent may replace the reference by a better one first.
    """
    target = problem.beta_d * (1.0 + tol)
    first = moment_gap(problem.X, problem.samples(reference), target=target, time_limit=_left(deadline))
    fit = MomentFit(reference, first, first.lower <= target)
    fit.objectives.append(float(np.sum(reference**2)))
    report(0, fit.objectives[0], first.lower)
    directions = np.zeros((0, problem.X.shape[1]))
    try:
        if first.interrupted:
            raise KeyboardInterrupt
        if descend and not _expired(deadline):
            _descend(problem, fit, target, deadline, report)
        for step in range(1, max_iter + 1):
            stepped = _step(problem, fit.weights, directions, tol, max_cuts, deadline, fit)
            if stepped is None:
                break
            weights, gap, directions = stepped
            feasible = gap.lower <= target
            if gap.upper > target >= fit.gap.upper and step > 1 and _expired(deadline):
                # No time is left to prove the constraint, which is proved for the generator before.
                fit.ended = "time_limit"
                break
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
    except RuntimeError:
        # The least-squares solver ran out of iterations: the cuts are too nearly dependent.
        fit.ended = "stalled"
    return fit


def _descend(
    problem: MomentProblem,
    fit: MomentFit,
    target: float,
    deadline: float | None,
    report: Callable[[int, float, float], None],
) -> None:
    """Try local minima of a penalty as the reference: other patterns than those of the data, often of less norm."""
    rng = np.random.default_rng(0)
    U = rng.standard_normal((_DIRECTIONS * problem.X.shape[1], problem.X.shape[1]))
    U = np.vstack([U / np.linalg.norm(U, axis=1, keepdims=True), _spread(problem.X)])
    W = fit.weights
    for share in _SHARES:
        W = descend_moments(U, problem.moment(U), share * problem.beta_d, W, problem.Z, deadline=deadline)
        samples = problem.samples(W)
        gap = moment_gap(problem.X, samples, target=target, starts=None, method="cheap")
        if target < gap.upper and gap.lower <= target:
            gap = moment_gap(problem.X, samples, target=target, time_limit=_left(deadline))
        if gap.interrupted:
            raise KeyboardInterrupt
        feasible, after = gap.lower <= target, float(np.sum(W**2))
        closer = not fit.feasible and gap.lower < fit.gap.lower
        if (feasible and (after < fit.objectives[-1] or not fit.feasible)) or (not feasible and closer):
            fit.weights, fit.gap, fit.feasible = W, gap, feasible
            fit.objectives.append(after)
            report(0, after, gap.lower)
        if feasible:
            break
        # The next descent sees the directions that this one missed.
        missed, _ = _climb(problem, samples, target, gap.directions)
        U = np.vstack([U, missed, gap.directions])


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
    start = np.vstack([_spread(problem.X), directions])
    cuts.add_lower(start)
    cuts.add_upper(start, anchor)
    stiffness: float | None = None
    for _ in range(max_cuts):
        if _expired(deadline):
            fit.ended = "time_limit"
            return None
        solved = cuts.solve(stiffness)
        if solved is None:
            stiffness = _STIFFNESS * float(np.sum(problem.X**2)) / problem.beta_d**2
            continue
        weights, excess = solved
        samples = problem.samples(weights)
        target = (problem.beta_d + excess) * (1.0 + tol)
        chosen, signs = _climb(problem, samples, target, cuts.active)
        if not len(chosen):
            gap = moment_gap(problem.X, samples, target=target, starts=cuts.active, method="cheap")
            if gap.lower <= target and gap.upper > target:
                gap = moment_gap(problem.X, samples, target=target, starts=cuts.active, time_limit=_left(deadline))
            if gap.interrupted:
                raise KeyboardInterrupt
            if gap.lower <= target:
                # Cuts that bind are the start of the next step.
                return weights, gap, cuts.active
            violated = gap.values > target
            chosen, signs = gap.directions[violated], gap.signs[violated]
        cuts.add_lower(chosen[signs > 0])
        cuts.add_upper(chosen[signs < 0], samples)
        fit.n_cuts += len(chosen)
    fit.ended = "stalled"
    return None


def _climb(
    problem: MomentProblem, samples: FloatArray, target: float, starts: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Directions that violate the constraint, and the sign of the violation there; cheap, may miss some."""
    rows = np.vstack([problem.X, samples])
    weights = np.concatenate([np.ones(len(problem.X)), -np.ones(len(samples))])
    fill = np.random.default_rng(0).standard_normal((_STARTS, rows.shape[1]))
    U = np.tile(np.vstack([starts, fill]), (2, 1))
    U /= np.linalg.norm(U, axis=1, keepdims=True)
    signs = np.repeat(np.array([1, -1], dtype=np.int64), len(U) // 2)
    best, values = U.copy(), signs * (np.maximum(U @ rows.T, 0.0) @ weights)
    for length in np.geomspace(1.0, 1e-3, _CLIMBS):
        slope = signs[:, None] * (((U @ rows.T > 0.0) * weights) @ rows)
        slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-300)
        U = U + length * slope
        U /= np.maximum(np.linalg.norm(U, axis=1, keepdims=True), 1e-300)
        reached = signs * (np.maximum(U @ rows.T, 0.0) @ weights)
        better = reached > values
        best[better], values[better] = U[better], reached[better]
    chosen: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        if values[i] <= target or len(chosen) == _CUTS_A_ROUND:
            break
        near = np.sum((best[chosen] - best[i]) ** 2, axis=1) < _NEAR
        if not np.any(near & (signs[chosen] == signs[i])):
            chosen.append(int(i))
    return best[chosen], signs[chosen]


class _Cuts:
    """Linear inequalities ``A w >= b`` in the weights, with the directions that they come from.

    Cuts that did not bind for some rounds are dropped: the others have the same solution, whose norm only rises.
    """

    def __init__(self, problem: MomentProblem, anchor: FloatArray) -> None:
        self._problem, self._anchor = problem, anchor
        size = anchor.shape[1] * (anchor.shape[0] if problem.Z is None else problem.Z.shape[1])
        self._A, self._b = np.zeros((0, size)), np.zeros(0)
        self._U = np.zeros((0, anchor.shape[1]))
        self._idle = np.zeros(0, dtype=np.int64)

    def add_lower(self, U: FloatArray) -> None:
        """Require ``1^T E G u >= 1^T (X u)_+ - beta_d`` with the patterns E of the reference."""
        self._append(self._problem.rows(U, self._anchor), self._problem.moment(U) - self._problem.beta_d, U)

    def add_upper(self, U: FloatArray, samples: FloatArray) -> None:
        """Require ``1^T E G u <= 1^T (X u)_+ + beta_d`` with the patterns E of the samples: valid for every G."""
        self._append(-self._problem.rows(U, samples), -self._problem.moment(U) - self._problem.beta_d, U)

    def _append(self, A: FloatArray, b: FloatArray, U: FloatArray) -> None:
        self._A, self._b, self._U = np.vstack([self._A, A]), np.append(self._b, b), np.vstack([self._U, U])
        self._idle = np.append(self._idle, np.zeros(len(U), dtype=np.int64))

    @property
    def active(self) -> FloatArray:
        """Directions of the cuts that bound the last solution."""
        return self._U[self._idle == 0]

    def solve(self, stiffness: float | None) -> tuple[FloatArray, float] | None:
        """Weights and common excess over the radius (0 without stiffness); None where the cuts admit no weights."""
        A = self._A
        if stiffness is not None:
            A = np.hstack([A, np.full((len(A), 1), stiffness**-0.5)])
        solved = least_distance(A, self._b)
        if solved is None:
            return None
        point, multipliers = solved
        binding = multipliers > _KEPT * np.max(multipliers, initial=0.0)
        self._idle = np.where(binding, 0, self._idle + 1)
        kept = self._idle <= _PATIENCE
        self._A, self._b, self._U, self._idle = self._A[kept], self._b[kept], self._U[kept], self._idle[kept]
        excess = 0.0 if stiffness is None else float(point[-1]) * stiffness**-0.5
        weights = point if stiffness is None else point[:-1]
        return weights.reshape(-1, self._U.shape[1]), excess


def _spread(X: FloatArray) -> FloatArray:
    """Directions to begin with: the principal axes, both ways."""
    axes = np.linalg.svd(X, full_matrices=False)[2]
    return np.vstack([axes, -axes])


def _expired(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
