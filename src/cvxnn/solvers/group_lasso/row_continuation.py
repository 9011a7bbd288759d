r"""Group lasso over activation patterns for many samples, at many penalties one after another.

The blocks of the last two penalties, continued in the logarithm of the penalty, are the start of the next; so are the
gradients, which tell the blocks that are about to enter. There the best lengths along fixed directions and a Newton
step on the blocks (:mod:`cvxnn.solvers.group_lasso._row_descent`) alternate: the lengths mend what the start and the
step leave, at the cost of a few products. Before the first step each block has its own direction; once the gap is small
it has that of its gradient, too, so that violated norms are mended where the directions are not yet right. After a step
these gradients are those of its quadratic model, which has them for nothing: one pass through all patterns less. The
data in single precision, the subsamples behind the preconditioners and the state of the descent serve all penalties.
Nothing is evaluated in double precision before the gap is small.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError

from cvxnn.networks import row_norms, safe_ratio
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.solvers.group_lasso._common import SINGLE_TOL, OutOfTime
from cvxnn.solvers.group_lasso._course import LEAST_GROWTH, MOST_GROWTH, Course
from cvxnn.solvers.group_lasso._eta_newton import Model
from cvxnn.solvers.group_lasso._lengths import best_lengths, weighted_sum
from cvxnn.solvers.group_lasso._row_descent import Level, Point, Price
from cvxnn.solvers.group_lasso._row_lengths import columns
from cvxnn.solvers.group_lasso._row_products import Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

__all__ = ["RowContinuation"]

# Gap from which on products are in double precision where single precision does not serve the tolerance.
_EXACT_GAP = 3e-6
# Part of the tolerance that is aimed for, as the last bound is that of other products.
_MARGIN = 0.97
# Most steps at a penalty, and steps without progress before it is given up.
_MOST_STEPS, _PATIENCE = 20, 3
# Square of the gap, relative to the tolerance, from which on blocks get the directions of their gradients, too; and
# the one from which on that comes before the first step.
_SQUARE, _FIRST_SQUARE = 10.0, 0.05
# Turn of a gradient from its block that asks for its direction: one minus the cosine, as a part of the turn that makes
# the gap as large as the tolerance.
_TURN = 0.6
# Most lengths in a row, and the gap relative to the tolerance up to which another one comes before a step.
_LENGTHS, _AGAIN = 3, 3.0
# Most entries of the products of all directions with the data, in single precision.
_LARGEST = 1 << 24
# Distance of the norms from the penalty within which further blocks take part.
_CLOSE = 0.03
# The same distance where the norms are those of gradients continued from former penalties.
_EXPECTED = 0.07


class RowContinuation(Course):
    """Course over passes through many samples: what is extrapolated are the blocks.

    Examples
    --------
    >>> patterns = ActivationPatterns.from_masks([[True]], [[1.0]])
    >>> course = RowContinuation(Problem([[1.0]], [2.0]), patterns)
    >>> [course.solve(beta, tol=1e-4)[0].round(3).tolist() for beta in (1.5, 0.5)]
    [[[0.5]], [[1.5]]]
    """

    def __init__(self, problem: Problem, patterns: ActivationPatterns) -> None:
        super().__init__(problem, patterns)
        packed = patterns.packed
        if len(self.origin) < len(packed):
            packed = packed[self.origin]
        X, y, weight = problem.X, problem.y, problem.sample_weight
        self.rows = Rows(X, y, weight, problem.loss, packed, self.exponent, self.deadline.check)
        nothing = Point(np.zeros(0, dtype=np.intp), np.zeros((0, X.shape[1])), np.zeros(len(y)))
        self.level = Level(self.rows, 1.0, nothing)
        self.model = Model(X, y, weight, problem.loss, 1.0, lambda: None)
        # Gradients at the last two penalties, where the steps have led there.
        self.gradients: dict[float, FloatArray] = {}

    @staticmethod
    def serves(problem: Problem, patterns: ActivationPatterns) -> bool:
        """Whether every sample counts: large rows of zero weight would set the scale of the others."""
        return len(patterns) > 0 and bool(np.all(problem.sample_weight > 0))

    def solve(
        self, beta: float, *, tol: float, deadline: float = math.inf
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Blocks ``(P, d)``, their fit and the dual vector at a penalty, from the former one.

        None where the penalty is far from it, or where the steps lead nowhere. Whether the gap is within ``tol`` is for
        a certificate to say.
        """
        self.deadline.at, self.n_steps = deadline, 0
        level, beta = self.level, math.ldexp(beta, -self.exponent)
        try:
            if self.is_far(beta):
                return None
            level.beta = self.model.beta = beta
            level.exact = False
            price = self.descend(self.started(beta), _MARGIN * tol)
        except (LinAlgError, OutOfTime):
            price = None
        if price is None:
            return None
        self.remember(beta, self.blocks())
        known = {**self.gradients, beta: price.gradient}
        self.gradients = {former: known[former] for former, _ in self.past if former in known}
        return self.result()

    def started(self, beta: float) -> Price:
        """Move to the predicted blocks with the lengths that are best for them, and price that point."""
        level, rows = self.level, self.rows
        ids, U = self.predicted(beta)
        expected = self.expected(beta)
        if expected is not None and len(ids):
            # What the last points say of other blocks near the penalty spares a look at the predicted ones.
            level.point = Point(ids, U, np.zeros(len(rows)))
            point = self.best(*self.atoms(expected, math.inf, _EXPECTED))
            if point is not None:
                level.point = point
                return level.price()
        level.point = Point(ids, U, rows.forward(rows.bits(ids), U))
        return level.price()

    def resume(self, beta: float, vectors: FloatArray, nu: FloatArray) -> None:
        """Go on from a solution that another method has found: blocks ``(P, d)``; the dual vector follows from them."""
        self.remember(math.ldexp(beta, -self.exponent), np.ldexp(vectors[self.origin], self.exponent))
        self.gradients = {}

    def largest_penalty(self) -> float:
        """Penalty from which on the zero network is optimal, for the scaled data."""
        self.level.point.fit[:] = 0.0
        return self.level.price().top

    def predicted(self, beta: float) -> tuple[IntArray, FloatArray]:
        """Blocks continued linearly in the logarithm of the penalty; those that would turn back are shortened."""
        if not self.past:
            return self.level.point.ids, self.level.point.U
        _, U = self.past[-1]
        lengths = row_norms(U)
        if len(self.past) > 1:
            _, U0 = self.past[0]
            there = np.where(lengths[:, None] > 0, U + self.stride(beta) * (U - U0), 0.0)
            short = safe_ratio(np.sum(there * U, axis=1), lengths * lengths) < LEAST_GROWTH
            there[short] = LEAST_GROWTH * U[short]
            U = there * np.minimum(1.0, MOST_GROWTH * safe_ratio(lengths, row_norms(there)))[:, None]
        ids = np.flatnonzero(row_norms(U) > 0)
        return ids, U[ids]

    def expected(self, beta: float) -> FloatArray | None:
        """Gradients continued linearly in the logarithm of the penalty; None where the last ones are not known."""
        last = self.gradients.get(self.past[-1][0]) if self.past else None
        before = self.gradients.get(self.past[0][0]) if len(self.past) > 1 else None
        return last if last is None or before is None else last + self.stride(beta) * (last - before)

    def blocks(self) -> FloatArray:
        """Blocks of all patterns."""
        U = np.zeros((len(self.origin), self.rows.X.shape[1]))
        U[self.level.point.ids] = self.level.point.U
        return U

    def descend(self, price: Price, tol: float) -> Price | None:
        """Newton steps and lengths in turn until the gap is small; the price there, None where it does not fall."""
        level, single = self.level, max(tol, _EXACT_GAP)
        stuck, least, gap = 0, math.inf, level.gap(price)
        for k in range(_MOST_STEPS):
            if not level.exact and (k > 0 or gap * gap <= _FIRST_SQUARE * single):
                price, gap = self.polished(price, gap, tol)
            if gap <= single and tol < SINGLE_TOL and not level.exact:
                # Single precision has no more to say.
                level.exact = True
                level.refit()
                price = level.price()
                gap = level.gap(price)
            if gap <= tol:
                return price
            stuck = 0 if gap < 0.9 * least else stuck + 1
            least = min(gap, least)
            if stuck > _PATIENCE:
                return None
            self.n_steps += 1
            level.advance(price, 0.1 * min(gap, 1.0))
            price, gap = self.stepped(price, gap, tol)
        return None

    def stepped(self, price: Price, gap: float, tol: float) -> tuple[Price, float]:
        """Price and gap after a step: at the best lengths along the gradients that its model foresees, or at its end.

        The lengths have to lower the gap from before the step, which is given.
        """
        level = self.level
        if level.modelled is not None and not level.exact and self.is_near(gap, tol):
            gradient, inside = level.modelled, np.zeros(len(self.origin), dtype=bool)
            inside[level.point.ids] = True
            # The model says nothing of the blocks that were zero.
            near = np.flatnonzero((row_norms(gradient) > (1.0 - _CLOSE) * level.beta) & ~inside)
            rows = self.rows
            gradient[near] = rows.backward(rows.bits(near), rows.gradient(level.point.fit))
            there = self.moved(self.best(*self.atoms(gradient, self.turn(price, gap, tol), _CLOSE)), gap)
            if there is not None:
                return there
        price = level.price()
        return price, level.gap(price)

    def polished(self, price: Price, gap: float, tol: float) -> tuple[Price, float]:
        """Move to the best lengths, again where the gap is hardly above the tolerance; the price and the gap there."""
        single = max(tol, _EXACT_GAP)
        for k in range(_LENGTHS):
            if gap <= single or (k > 0 and gap > _AGAIN * single):
                break
            before, price, gap = gap, *self.lengthened(price, gap, tol)
            if gap >= before:
                break
        return price, gap

    def lengthened(self, price: Price, gap: float, tol: float) -> tuple[Price, float]:
        """Move to the best lengths where they lower the gap; the price and the gap there, or those given."""
        turn = self.turn(price, gap, tol) if self.is_near(gap, tol) else math.inf
        there = self.moved(self.best(*self.atoms(price.gradient, turn, _CLOSE)), gap)
        return (price, gap) if there is None else there

    def turn(self, price: Price, gap: float, tol: float) -> float:
        """Turn of a gradient from its block that asks for its direction, from what the norms at a point say of the gap.

        Where the lengths are best, the gap is what the dual vector loses when it is scaled down by the largest excess
        of a norm over the penalty, a convex function of it; and the excess is one minus the cosine of the turn.
        """
        excess = price.top / self.level.beta - 1.0
        return _TURN * tol * excess / gap if excess > 0.0 else math.inf

    def is_near(self, gap: float, tol: float) -> bool:
        """Whether the square of the gap is so small that the directions of gradients may end the solve."""
        return gap * gap <= _SQUARE * max(tol, SINGLE_TOL)

    def moved(self, point: Point | None, gap: float) -> tuple[Price, float] | None:
        """Move to a point if the gap there is smaller than the one given; the price and the gap there, or None."""
        level = self.level
        if point is None:
            return None
        before, level.point = level.point, point
        price = level.price()
        reached = level.gap(price)
        if reached < gap:
            return price, reached
        level.point = before
        return None

    def best(self, ids: IntArray, units: FloatArray, start: FloatArray) -> Point | None:
        """Blocks of the best lengths along directions; None where their products are too large or the search fails."""
        if not 0 < len(ids) * len(self.rows) <= _LARGEST:
            return None
        products = columns(self.level, ids, units)
        lengths = best_lengths(self.model, products, start)
        if lengths is None:
            return None
        U = np.zeros((len(self.origin), units.shape[1]))
        np.add.at(U, ids, lengths[:, None] * units)
        some = np.flatnonzero(row_norms(U) > 0)
        return Point(some, U[some], weighted_sum(products, lengths))

    def atoms(self, gradient: FloatArray, turn: float, close: float) -> tuple[IntArray, FloatArray, FloatArray]:
        """Patterns, directions and present lengths: of nonzero blocks, of others near the penalty, and of gradients.

        Near is a norm above ``1 - close`` penalties. Gradients of nonzero blocks take part where one minus the cosine
        of their turn exceeds ``turn``, the largest turns first for as long as the products stay small.
        """
        point, beta = self.level.point, self.level.beta
        lengths, norms = row_norms(point.U), row_norms(gradient)
        near = norms > (1.0 - close) * beta
        near[point.ids] = False
        others = np.flatnonzero(near)
        sizes = lengths * np.maximum(norms[point.ids], 0.5 * beta)
        turns = 1.0 + np.sum(point.U * gradient[point.ids], axis=1) / sizes
        room = max(0, _LARGEST // len(self.rows) - len(lengths) - len(others))
        turned = np.argsort(-turns, kind="stable")[:room]
        ids = np.concatenate([point.ids, others, point.ids[turned[turns[turned] > turn]]])
        fresh = -gradient[ids[len(lengths) :]]
        units = np.concatenate([point.U / lengths[:, None], fresh / row_norms(fresh)[:, None]])
        return ids, units, np.concatenate([lengths, np.zeros(len(fresh))])

    def result(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Blocks, fit and dual vector in double precision, in the units of the problem."""
        level, problem = self.level, self.problem
        if not level.exact:
            level.refit()
        u, fit = np.zeros((self.n_patterns, problem.n_features)), level.point.fit
        u[self.origin[level.point.ids]] = np.ldexp(level.point.U, -self.exponent)
        return u, fit, problem.loss.project_dual(-self.rows.gradient(fit), problem.y, problem.sample_weight)
