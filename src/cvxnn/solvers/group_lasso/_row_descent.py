r"""Descent of a group lasso on one set of rows: entry of violated blocks, Newton step, line search.

Blocks enter along their gradients with a common length, halved until the objective falls (Armijo); so is the Newton
step of :mod:`cvxnn.solvers.group_lasso._row_newton`. Where it leads nowhere a proximal gradient step takes its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvxnn.certificates.certificate import relative_gap
from cvxnn.networks import row_norms
from cvxnn.solvers.group_lasso import _row_newton
from cvxnn.solvers.group_lasso._common import dual_bound, norm_slack
from cvxnn.solvers.group_lasso._row_newton import Step, build_cost, newton_step
from cvxnn.solvers.group_lasso._row_products import FloatArray, IntArray, Rows

# Accuracy of a step while blocks still come and go, and afterwards.
_LOOSE, _TIGHT = 0.15, 0.1
# Blocks that may enter in a step: at least so many, and a part of those that are nonzero. Most of the violated blocks
# are no longer so once the worst of them have entered.
_LEAST_ROOM, _ROOM = 10, 0.25
# Least curvature of the model relative to the upper bound of the loss: flat stretches have none.
_FLOOR, _LEAST_FLOOR = 1e-3, 1e-6
# First damping of a model that was hard to minimise or led nowhere, relative to the mean eigenvalue.
_LEAST_DAMPING = 1e-4
# Operations of a product with the Hessian for each sample and column.
_PRODUCT_COST = 8.0
# Products in a step beyond which the preconditioner's sample is doubled, and its largest size.
_MANY_PRODUCTS, _LARGEST_SAMPLE = 25, 3200
# Largest size of that sample from the start, relative to the least.
_SAMPLE_GROWTH = 4
# Part of its share of the curvature that the subsample has to see, or it says nothing on the blocks that enter.
_LEAST_SEEN = 0.1
_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


@dataclass
class Point:
    """Blocks ``U (k, d)`` of the patterns ``ids``, increasing, and their fit."""

    ids: IntArray
    U: FloatArray
    fit: FloatArray


@dataclass
class Price:
    """Gradient of the loss in all blocks at a point, and what follows from it for one penalty."""

    gradient: FloatArray
    norms: FloatArray
    nu: FloatArray

    @property
    def top(self) -> float:
        return float(np.max(self.norms, initial=0.0))


class Level:
    """Descent on one set of rows: the point, and the preconditioner's subsample."""

    def __init__(self, rows: Rows, beta: float, point: Point) -> None:
        self.rows, self.beta, self.point = rows, beta, point
        self._samples: dict[int, tuple[IntArray, Rows]] = {}
        self._least_sample = 0
        self._floor = _FLOOR
        self._damping = 0.0
        self._forcing = _LOOSE
        self._lipschitz = 0.0
        self.exact = False
        # Gradients in all blocks after the last step as its model has them, former ones for those that were zero; none
        # where the step was cut short.
        self.modelled: FloatArray | None = None
        #: Operations of all Newton steps so far.
        self.work = 0.0

    def _sample(self, count: int) -> tuple[IntArray, Rows]:
        """Rows behind the preconditioner of so many blocks: more where a product costs more than the factorisation."""
        n, d = self.rows.X.shape
        size = _row_newton.SAMPLE
        while (
            2 * size <= _SAMPLE_GROWTH * _row_newton.SAMPLE
            and build_cost(2 * size, count, d) <= _PRODUCT_COST * n * count * d
        ):
            size *= 2
        size = min(n, max(size, self._least_sample))
        if size not in self._samples:
            index = np.sort(np.random.default_rng(0).choice(n, size, replace=False))
            self._samples[size] = index, self.rows.sample(index)
        return self._samples[size]

    def nonzero_blocks(self) -> tuple[IntArray, FloatArray]:
        """Patterns and blocks of the point, without those that a step which was cut short has let enter at zero."""
        few = row_norms(self.point.U) > 0
        return self.point.ids[few], self.point.U[few]

    def objective(self) -> float:
        return self.rows.value(self.point.fit) + self.beta * float(np.sum(row_norms(self.point.U)))

    def price(self) -> Price:
        """Gradient in all blocks; if ``exact``, in double precision where rounding would hide which is the largest."""
        rows = self.rows
        nu = -rows.gradient(self.point.fit)
        gradient = -rows.backward(rows.packed, nu)
        norms = row_norms(gradient)
        if self.exact:
            slack = rows.single_slack(rows.packed, nu) * math.ldexp(norm_slack(rows.X, nu), -rows.exponent)
            near = norms >= np.max(norms) - 2.0 * slack
            near[self.point.ids] = True
            gradient[near] = -rows.backward(rows.packed[near], nu, exact=True)
            norms[near] = row_norms(gradient[near])
        return Price(gradient, norms, nu)

    def refit(self) -> None:
        """Evaluate the fit of the blocks in double precision."""
        point = self.point
        point.fit = self.rows.forward(self.rows.bits(point.ids), point.U, exact=True)

    def gap(self, price: Price) -> float:
        """Relative duality gap at the penalty in force, as computed."""
        rows = self.rows
        nu = rows.loss.project_dual(price.nu, rows.y, rows.weight)
        bound = dual_bound(rows.loss, rows.y, rows.weight, nu, price.top / self.beta)
        return relative_gap(self.objective(), max(bound, 0.0))

    def advance(self, price: Price, slack: float) -> bool:
        """Let violated blocks enter in a Newton step; tells whether the objective fell beyond rounding."""
        before = self.objective()
        rows = self.rows
        h = rows.curvature(self.point.fit, self._floor)
        fresh = self._violated(price, slack)
        index, sample = self._sample(len(self.point.ids) + len(fresh))
        sample_h = h[index]
        around = self._join(fresh, price, sample, sample_h, h)
        point = self.point
        self.modelled = None
        if len(point.ids) == 0:
            return False
        gradient = price.gradient[point.ids]
        step = newton_step(
            rows, sample, point.ids, point.U, around, gradient, h, self.beta,
            sample_h=sample_h,
            forcing=self._forcing,
            damping=self._damping,
        )  # fmt: skip
        count, d = point.U.shape
        self.work += build_cost(len(index), count, d) + _PRODUCT_COST * step.products * len(rows) * count * d
        length = self._search(step, gradient)
        if length == 1.0:
            self.modelled = price.gradient.copy()
            self.modelled[point.ids] = step.gradient
        elif length == 0.0:
            self._proximal(gradient)
        # Settled blocks deserve a more accurate step; a step that was cut short a model with more curvature.
        settled = length == 1.0 and len(fresh) == 0 and not step.zero.any()
        self._forcing = _TIGHT if settled else _LOOSE
        self._floor = max(self._floor / 10.0, _LEAST_FLOOR) if length == 1.0 else min(1.0, 4.0 * self._floor)
        if length < 0.25 or step.products >= _row_newton.MAX_PRODUCTS:
            self._damping = max(_LEAST_DAMPING, 10.0 * self._damping)
        else:
            self._damping = 0.0 if self._damping <= _LEAST_DAMPING else self._damping / 10.0
        if step.products >= _MANY_PRODUCTS and len(index) < min(_LARGEST_SAMPLE, len(rows)):
            self._least_sample = 2 * len(index)
        if self.exact:
            self.refit()
        return self.objective() < before - 16.0 * _EPS * abs(before)

    def _violated(self, price: Price, slack: float) -> IntArray:
        """Blocks to enter, the most violated ones, increasing."""
        outside = price.norms.copy()
        outside[self.point.ids] = 0.0
        fresh = np.flatnonzero(outside > self.beta * (1.0 + slack))
        room = max(_LEAST_ROOM, int(_ROOM * len(self.point.ids)))
        if len(fresh) > room:
            fresh = np.sort(fresh[np.argsort(-outside[fresh], kind="stable")[:room]])
        return fresh

    def _join(self, fresh: IntArray, price: Price, sample: Rows, sample_h: FloatArray, h: FloatArray) -> FloatArray:
        """Add blocks, still zero, to the point; returns the blocks to expand the norms around.

        A block that enters is expected along its gradient, at the length that suits all of them on the subsample.
        """
        point, beta = self.point, self.beta
        if len(fresh) == 0:
            return point.U
        entry = -price.gradient[fresh] * (1.0 - beta / price.norms[fresh])[:, None]
        change = sample.forward(sample.bits(fresh), entry)
        slope = float(np.sum(entry * price.gradient[fresh])) + beta * float(np.sum(row_norms(entry)))
        part = len(sample) / len(self.rows)
        curvature = float(np.sum(sample_h * change * change)) / part
        if curvature <= 0.0 or float(np.sum(sample_h)) < _LEAST_SEEN * part * float(np.sum(h)):
            # The weight is on a few rows, which the subsample missed.
            change = self.rows.forward(self.rows.bits(fresh), entry)
            curvature = float(np.sum(h * change * change))
        length = -slope / max(curvature, _TINY)
        ids = np.concatenate([point.ids, fresh])
        order = np.argsort(ids)
        self.point = Point(ids[order], np.concatenate([point.U, np.zeros_like(entry)])[order], point.fit)
        return np.concatenate([point.U, length * entry])[order]

    def _search(self, step: Step, gradient: FloatArray) -> float:
        """Halve the step until the objective falls; 0 where it never does."""
        rows, point, beta = self.rows, self.point, self.beta
        lengths = row_norms(point.U)
        along = np.einsum("kd,kd->k", point.U, step.direction)
        rise = np.where(lengths > 0, along / np.maximum(lengths, _TINY), row_norms(step.direction))
        slope = float(np.sum(step.direction * gradient)) + beta * float(np.sum(rise))
        if not slope < 0.0:
            return 0.0
        before, length = self.objective(), 1.0
        while length > 1e-6:
            U = point.U + length * step.direction
            if length == 1.0:
                U[step.zero] = 0.0
            fit = point.fit + length * step.change
            value = rows.value(fit) + beta * float(np.sum(row_norms(U)))
            if value <= before + 1e-4 * length * slope + 8.0 * _EPS * abs(before):
                self._move(U, fit)
                return length
            length *= 0.5
        return 0.0

    def _proximal(self, gradient: FloatArray) -> None:
        """One proximal gradient step, which always falls: the way on where the quadratic model leads nowhere."""
        rows, point, beta = self.rows, self.point, self.beta
        bits = rows.bits(point.ids)
        value = rows.value(point.fit)
        if self._lipschitz == 0.0:
            change = rows.forward(bits, gradient)
            size = max(float(np.sum(gradient * gradient)), _TINY)
            self._lipschitz = float(np.sum(rows.loss.curvature * rows.weight * change * change)) / size
        lipschitz = max(0.25 * self._lipschitz, _TINY)
        for _ in range(60):
            target = point.U - gradient / lipschitz
            lengths = row_norms(target)
            shrink = np.maximum(lengths - beta / lipschitz, 0.0)
            U = target * np.divide(shrink, lengths, out=np.zeros_like(lengths), where=lengths > 0)[:, None]
            move = U - point.U
            fit = point.fit + rows.forward(bits, move)
            bound = value + float(np.sum(gradient * move)) + 0.5 * lipschitz * float(np.sum(move * move))
            if rows.value(fit) <= bound + 8.0 * _EPS * abs(value):
                self._lipschitz = lipschitz
                self._move(U, fit)
                return
            lipschitz *= 2.0

    def _move(self, U: FloatArray, fit: FloatArray) -> None:
        keep = row_norms(U) > 0
        self.point = Point(self.point.ids[keep], U[keep], fit)
