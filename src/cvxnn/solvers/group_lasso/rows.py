r"""Group lasso over activation patterns for many samples: time linear in n, masks kept as bits.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

A subsample of the rows gives the first blocks, along a path of penalties. All rows then take Newton steps on the blocks
that are nonzero (:mod:`cvxnn.solvers.group_lasso._row_descent`); between two of them all patterns are priced and those
with :math:`\|X^T D_i \nu\| > \beta` enter. Once the square of the gap is within the tolerance, the best lengths of the
blocks along their directions and gradients often end the solve (:mod:`cvxnn.solvers.group_lasso._lengths`). Products
are in single precision until the duality gap is small; from a hundredth on the blocks are evaluated in double precision
after every step. So are those that are returned, and the bound that ends the solve.
"""

from __future__ import annotations

import math
import time

import numpy as np

from cvxnn.certificates.certificate import relative_gap
from cvxnn.networks import row_norms
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso._common import (
    Deadline,
    GroupLassoResult,
    concluded,
    dual_bound,
    exponent_of,
    fitting_scale,
    norm_slack,
)
from cvxnn.solvers.group_lasso._row_descent import Level, Point, Price
from cvxnn.solvers.group_lasso._row_lengths import lengthened, worth_lengthening
from cvxnn.solvers.group_lasso._row_products import FloatArray, IntArray, Rows

__all__ = ["solve_group_lasso_rows"]

# Rows of the smallest subsample, and the part of the rows that a subsample takes.
_LEAST_SAMPLE = 2500
_SAMPLE_PART = 8
# Relative gap at which a subsample has said what it knows.
_SAMPLE_GAP = 0.1
# Factor between two penalties of the path, and the relative gap at which a penalty is left.
_PATH_FACTOR = 4.0
_PATH_GAP = 0.2
# Relative gap below which products are in double precision.
_EXACT_GAP = 3e-6
# Relative gap above which the blocks are evaluated in single precision only, and the margin for its rounding.
_ROUGH_GAP, _ROUGH_MARGIN = 1e-2, 1e-5
# Part of the gap that is left where the lengths are worth solving for again.
_FAST = 0.2
# Iterations without progress before the solve ends.
_PATIENCE = 6
_MAX_ITER = 200
# Relative gap of the zero network from which on it is looked at in double precision.
_TRIVIAL_GAP = 1e-2
# Prices that follow the deadline: in double precision of the salvaged blocks, and for the certificate, with a margin.
_LATE_PRICES = 6.0


def solve_group_lasso_rows(
    problem: Problem,
    patterns: ActivationPatterns,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int | None = None,
    warm_start: FloatArray | None = None,
    recorder: Recorder | None = None,
    most_work: float = math.inf,
) -> GroupLassoResult:
    """Solve the group lasso to a relative duality gap, by products with the data only.

    Parameters and result are those of :func:`cvxnn.solvers.group_lasso.solve_group_lasso`; ``max_iter`` counts Newton
    steps on all rows, and blocks to start from replace the subsample. After ``most_work`` operations in Newton steps
    the solve ends as one that has stalled.

    Examples
    --------
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> result = solve_group_lasso_rows(problem, ActivationPatterns.from_masks([[True]], [[1.0]]))
    >>> result.vectors.round(6)
    array([[1.5]])
    """
    run = _Run(problem, patterns, tol, time_limit, Recorder(False) if recorder is None else recorder, most_work)
    limit = _MAX_ITER if max_iter is None else max_iter
    return run.result(concluded(lambda: run.solve(patterns, limit, warm_start)))


class _Run:
    """One solve: the scaled problem, the best primal and dual points, and the record."""

    def __init__(
        self,
        problem: Problem,
        patterns: ActivationPatterns,
        tol: float,
        time_limit: float | None,
        recorder: Recorder,
        most_work: float = math.inf,
    ) -> None:
        self.deadline = Deadline(math.inf if time_limit is None else time.perf_counter() + time_limit)
        self.problem, self.tol, self.recorder, self.most_work = problem, tol, recorder, most_work
        self.origin = first_occurrences(patterns.packed)
        packed = patterns.packed
        if len(self.origin) < len(packed):
            packed = packed[self.origin]
        # A power of two brings X to order one exactly; u and beta change by the inverse.
        self.exponent = exponent_of(problem.X)
        self.beta = math.ldexp(problem.beta, -self.exponent)
        self.rows = Rows(
            problem.X, problem.y, problem.sample_weight, problem.loss, packed, self.exponent, self.deadline.check
        )
        self.best = self.zero(self.rows)
        self.objective = problem.loss_value(self.best.fit)
        # Whether the best blocks were evaluated in single precision only.
        self.rough = False
        self.dual = problem.dual_vector(self.best.fit)
        self.bound = 0.0
        self.n_iter = 0
        # Blocks to salvage when the descent is cut short, of the level in work or before one.
        self.level: Level | None = None
        self.start: tuple[IntArray, FloatArray] | None = None

    def zero(self, rows: Rows) -> Point:
        return Point(np.zeros(0, dtype=np.intp), np.zeros((0, rows.X.shape[1])), np.zeros(len(rows)))

    # -- course --------------------------------------------------------------------------------------------------------

    def solve(self, patterns: ActivationPatterns, max_iter: int, warm_start: FloatArray | None) -> Status:
        self.start = None if warm_start is None else self.warm_blocks(patterns, warm_start)
        level = Level(self.rows, self.beta, self.zero(self.rows))
        begin = time.perf_counter()
        price = level.price()
        if level.gap(price) <= _TRIVIAL_GAP:
            # The zero network may be optimal, which single precision cannot prove.
            level.exact = True
            price = level.price()
            self.update_bound(price)
        self.deadline.at -= _LATE_PRICES * (time.perf_counter() - begin)
        self.record(price.top, self.bound)
        if level.exact and (price.top <= self.beta or self.gap() <= self.tol):
            return Status.PATTERNS_OPTIMUM
        level.exact = False
        path = warm_start is None
        if self.start is not None:
            self.place(level, *self.start)
        elif len(self.rows) >= 2 * _LEAST_SAMPLE:
            self.place(level, *self.sampled(self.rows, self.beta))
            path = False
        self.level = level
        return self.descend(level, max_iter, path)

    def sampled(self, rows: Rows, beta: float) -> tuple[IntArray, FloatArray]:
        """Blocks of a coarse solution on a subsample, itself started from a smaller one."""
        n = len(rows)
        size = max(_LEAST_SAMPLE, n // _SAMPLE_PART)
        index = np.sort(np.random.default_rng(1).choice(n, size, replace=False))
        share = float(np.sum(rows.weight[index])) / float(np.sum(rows.weight))
        few = rows.sample(index)
        # Noise grows as the root of the number of rows falls: with the plain share the blocks would fit it.
        penalty = max(share, 1e-3 * size / n) * math.sqrt(n / size) * beta
        level = Level(few, penalty, self.zero(few))
        path = size < 2 * _LEAST_SAMPLE
        if not path:
            self.place(level, *self.sampled(few, level.beta))
        self.level = level
        self.coarse(level, path)
        return level.point.ids, level.point.U

    def coarse(self, level: Level, path: bool) -> None:
        """Descend on a subsample until its gap is small or no longer falls."""
        target, stuck, least = level.beta, 0, math.inf
        price = level.price()
        if path:
            level.beta = max(target, price.top / _PATH_FACTOR)
        for _ in range(_MAX_ITER):
            gap = level.gap(price)
            while level.beta > target and (gap <= _PATH_GAP or stuck >= _PATIENCE):
                level.beta = max(target, level.beta / _PATH_FACTOR)
                gap, least, stuck = level.gap(price), math.inf, 0
            stuck = 0 if gap < 0.9 * least else stuck + 1
            least = min(gap, least)
            done = level.beta <= target and (gap <= _SAMPLE_GAP or stuck >= _PATIENCE)
            if done or level.work > self.most_work:
                return
            level.advance(price, 0.1 * gap)
            price = level.price()

    def descend(self, level: Level, max_iter: int, path: bool) -> Status:
        """Newton steps on all rows until the gap is proved, or until neither gap nor objective falls."""
        target, stuck, least = level.beta, 0, math.inf
        price = level.price()
        if path:
            level.beta = max(target, price.top / _PATH_FACTOR)
        while True:
            gap = level.gap(price)
            while level.beta > target and (gap <= _PATH_GAP or stuck >= _PATIENCE):
                level.beta = max(target, level.beta / _PATH_FACTOR)
                gap, least, stuck = level.gap(price), math.inf, 0
            if level.beta <= target:
                if gap <= max(_EXACT_GAP, self.tol) and not level.exact:
                    # Single precision has no more to say: evaluate the blocks, and go on in double.
                    level.exact, stuck = True, 0
                    level.refit()
                    price = level.price()
                    gap = level.gap(price)
                if level.exact:
                    self.update_bound(price)
            self.evaluate(level, rough=gap > _ROUGH_GAP and not level.exact)
            if self.rough and self.gap() <= self.tol:
                self.evaluate(level)
            self.record(price.top, (1.0 - gap) * level.objective() if level.beta <= target else 0.0)
            if self.gap() <= self.tol:
                return Status.PATTERNS_OPTIMUM
            if self.n_iter >= max_iter:
                return Status.MAX_ITER
            if level.beta <= target:
                price, gap = self.lengthen(level, price, gap)
                if self.gap() <= self.tol:
                    return Status.PATTERNS_OPTIMUM
            if level.work > self.most_work:
                return Status.STALLED
            if stuck >= _PATIENCE:
                if level.exact:
                    return Status.STALLED
                level.exact, stuck = True, 0
                level.refit()
                price = level.price()
            self.n_iter += 1
            fell = level.advance(price, 0.1 * min(gap, 1.0))
            price = level.price()
            stuck = 0 if fell or gap < 0.9 * least else stuck + 1
            least = min(gap, least)

    def lengthen(self, level: Level, price: Price, gap: float) -> tuple[Price, float]:
        """Move to the best lengths of the blocks along their directions, for as long as the gap falls fast."""
        while worth_lengthening(level, gap, self.tol):
            point = lengthened(level, price)
            if point is None:
                break
            trial = Level(self.rows, self.beta, point)
            trial.exact = True
            trial.refit()
            new = trial.price()
            self.update_bound(new)
            self.evaluate(trial)
            if self.gap() <= self.tol:
                self.n_iter += 1
                self.record(new.top, self.bound)
                break
            last, reached = gap, trial.gap(new)
            if reached >= gap:
                break
            level.point, price, gap = trial.point, new, reached
            if gap > _FAST * last:
                break
        return price, gap

    def place(self, level: Level, ids: IntArray, U: FloatArray) -> None:
        """Start a level from blocks, scaled down where that lowers its objective."""
        fit = level.rows.forward(level.rows.bits(ids), U)
        cost = level.beta * float(np.sum(row_norms(U)))
        best = fitting_scale(level.rows.value, fit, cost)
        level.point = Point(ids, best * U, best * fit)

    def warm_blocks(self, patterns: ActivationPatterns, warm_start: FloatArray) -> tuple[IntArray, FloatArray]:
        """Nonzero blocks of a start; those of equal patterns add up."""
        U = np.ldexp(warm_start[self.origin], self.exponent)
        if len(self.origin) < len(patterns):
            place = {patterns.packed[i].tobytes(): k for k, i in enumerate(self.origin)}
            home = np.array([place[row.tobytes()] for row in patterns.packed])
            U = np.zeros_like(U)
            np.add.at(U, home, np.ldexp(warm_start, self.exponent))
        ids = np.flatnonzero(row_norms(U) > 0)
        return ids, U[ids]

    # -- bounds and record ---------------------------------------------------------------------------------------------

    def evaluate(self, level: Level, *, rough: bool = False) -> None:
        """Keep the blocks of a level of all rows if they are the best so far, evaluated in double unless ``rough``."""
        if not (rough or level.exact):
            level.refit()
        # With a margin for rounding, so that the value in double precision of the same blocks is the lower one.
        objective = level.rows.value(level.point.fit) + self.beta * float(np.sum(row_norms(level.point.U)))
        if rough:
            slope = np.abs(level.rows.gradient(level.point.fit))
            objective += _ROUGH_MARGIN * objective + float(slope @ level.rows.forward_slack(level.point.U))
        if self.rough and not rough and self.best is level.point:
            # Should the margin not have been enough, the value in double precision counts all the same.
            self.objective, self.rough = objective, False
        elif objective < self.objective:
            self.objective, self.best, self.rough = objective, level.point, rough
        elif self.rough and not rough:
            # The best blocks so far may remain so in double precision.
            self.evaluate(Level(self.rows, self.beta, self.best))
            self.evaluate(level)

    def update_bound(self, price: Price) -> None:
        problem = self.problem
        nu = problem.loss.project_dual(price.nu, problem.y, problem.sample_weight)
        tau = math.ldexp(price.top, self.exponent) + norm_slack(self.rows.X, nu)
        bound = dual_bound(problem.loss, problem.y, problem.sample_weight, nu, tau / problem.beta)
        if bound > self.bound:
            self.bound, self.dual = bound, nu

    def gap(self) -> float:
        return relative_gap(self.objective, self.bound)

    def record(self, largest: float, estimate: float) -> None:
        """Write a row of the history; ``largest`` is the largest norm over all blocks."""
        self.recorder.record(
            "start" if self.n_iter == 0 else "blocks",
            self.n_iter,
            objective=self.objective,
            lower_bound=self.bound,
            estimate=max(self.bound, estimate),
            width=len(self.best.ids),
            violation=max(0.0, largest / self.beta - 1.0),
        )

    def result(self, status: Status) -> GroupLassoResult:
        blocks = self.start if self.level is None else self.level.nonzero_blocks()
        if status is not Status.PATTERNS_OPTIMUM and blocks is not None:
            self.salvage(*blocks)
        index = self.origin[self.best.ids]
        vectors = np.ldexp(self.best.U, -self.exponent)
        return GroupLassoResult(
            index=index,
            vectors=vectors,
            dual=self.dual,
            objective=self.objective,
            lower_bound=self.bound,
            status=status,
            history=self.recorder.history(),
            n_iter=self.n_iter,
        )

    def salvage(self, ids: IntArray, U: FloatArray) -> None:
        """Evaluate blocks, of a part of the rows perhaps, on all rows and in double precision."""
        self.deadline.at = math.inf
        if self.rough:
            self.evaluate(Level(self.rows, self.beta, self.best))
        rest = Level(self.rows, self.beta, self.zero(self.rows))
        self.place(rest, ids, U)
        self.evaluate(rest)
        rest.exact = True
        self.update_bound(rest.price())
