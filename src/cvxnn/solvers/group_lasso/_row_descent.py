r"""Descent of a group lasso on one set of rows: entry of violated blocks, Newton step, line search.

Blocks enter along their gradients with a common length, halved until the objective falls (Armijo); so is the Newton
step of :mod:`cvxnn.solvers.group_lasso._row_newton`. Where it leads nowhere a proximal gradient step takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvxnn.certificates.certificate import relative_gap
from cvxnn.networks import row_norms
from cvxnn.solvers.group_lasso import _row_newton
from cvxnn.solvers.group_lasso._common import dual_bound
from cvxnn.solvers.group_lasso._row_newton import BoolArray, newton_step
from cvxnn.solvers.group_lasso._row_products import FloatArray, IntArray, Rows

# Accuracy of a step while blocks still come and go, and afterwards.
_LOOSE, _TIGHT = 0.3, 0.1
# Least curvature of the model relative to the upper bound of the loss: flat stretches have none.
_FLOOR, _LEAST_FLOOR = 1e-3, 1e-6
# First damping of a model that was hard to minimise or led nowhere, relative to the mean eigenvalue.
_LEAST_DAMPING = 1e-4
# Products in a step beyond which the preconditioner's sample is doubled, and its largest size.
_MANY_PRODUCTS, _LARGEST_SAMPLE = 25, 3200
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
    exact: bool

    @property
    def top(self) -> float:
        return float(np.max(self.norms, initial=0.0))


class Level:
    """Descent on one set of rows: the point, and the preconditioner's subsample."""

    def __init__(self, rows: Rows, beta: float, point: Point) -> None:
        self.rows, self.beta, self.point = rows, beta, point
        self._take_sample(_row_newton.SAMPLE)
        self._floor = _FLOOR
        self._damping = 0.0
        self._forcing = _LOOSE
        self._lipschitz = 0.0
        self.exact = False

    def _take_sample(self, size: int) -> None:
        """Draw the rows behind the preconditioner."""
        n = len(self.rows)
        self._index = np.sort(np.random.default_rng(0).choice(n, min(size, n), replace=False))
        self._sample = self.rows.sample(self._index)

    def objective(self) -> float:
        return self.rows.value(self.point.fit) + self.beta * float(np.sum(row_norms(self.point.U)))

    def price(self) -> Price:
        nu = -self.rows.gradient(self.point.fit)
        gradient = -self.rows.backward(self.rows.packed, nu, exact=self.exact)
        return Price(gradient, row_norms(gradient), nu, self.exact)

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
        """Let violated blocks enter and take a Newton step; tells whether the objective fell beyond rounding."""
        before = self.objective()
        gradient, entered = self._enter(price, slack)
        if len(self.point.ids) == 0:
            return False
        rows, point = self.rows, self.point
        h = rows.curvature(point.fit, self._floor)
        step = newton_step(
            rows, self._sample, point.ids, point.U, gradient, h, self.beta, sample_h=h[self._index],
            forcing=self._forcing,
            damping=self._damping,
        )  # fmt: skip
        length = self._search(step.direction, step.zero, gradient)
        if length == 0.0:
            self._proximal(gradient)
        # Settled blocks deserve a more accurate step; a step that was cut short a model with more curvature.
        settled = length == 1.0 and not entered and not step.zero.any()
        self._forcing = _TIGHT if settled else _LOOSE
        self._floor = max(self._floor / 10.0, _LEAST_FLOOR) if length == 1.0 else min(1.0, 4.0 * self._floor)
        if length < 0.25 or step.products >= _row_newton.MAX_PRODUCTS:
            self._damping = max(_LEAST_DAMPING, 10.0 * self._damping)
        else:
            self._damping = 0.0 if self._damping <= _LEAST_DAMPING else self._damping / 10.0
        if step.products >= _MANY_PRODUCTS and len(self._index) < min(_LARGEST_SAMPLE, len(rows)):
            self._take_sample(2 * len(self._index))
        if self.exact:
            self.refit()
        return self.objective() < before - 16.0 * _EPS * abs(before)

    def _enter(self, price: Price, slack: float) -> tuple[FloatArray, bool]:
        """Add the most violated blocks along their gradients; returns the gradient in the blocks of the point."""
        rows, point, beta = self.rows, self.point, self.beta
        outside = price.norms.copy()
        outside[point.ids] = 0.0
        fresh = np.flatnonzero(outside > beta * (1.0 + slack))
        room = max(10, len(point.ids))
        if len(fresh) > room:
            fresh = np.sort(fresh[np.argsort(-outside[fresh], kind="stable")[:room]])
        if len(fresh) == 0:
            return price.gradient[point.ids], False
        entry = -price.gradient[fresh] * (1.0 - beta / price.norms[fresh])[:, None]
        change = rows.forward(rows.bits(fresh), entry)
        cost = beta * float(np.sum(row_norms(entry)))
        slope = float(np.sum(entry * price.gradient[fresh])) + cost
        curvature = float(np.sum(rows.curvature(point.fit, self._floor) * change * change))
        value = rows.value(point.fit)
        length = -slope / max(curvature, _TINY)
        for _ in range(60):
            if rows.value(point.fit + length * change) + length * cost <= value + 0.3 * length * slope:
                break
            length *= 0.5
        else:
            # So near to the optimum that rounding hides the descent.
            return price.gradient[point.ids], False
        ids = np.concatenate([point.ids, fresh])
        order = np.argsort(ids)
        U = np.concatenate([point.U, length * entry])[order]
        self.point = Point(ids[order], U, point.fit + length * change)
        bits = rows.bits(self.point.ids)
        return rows.backward(bits, rows.gradient(self.point.fit), exact=self.exact), True

    def _search(self, direction: FloatArray, zero: BoolArray, gradient: FloatArray) -> float:
        """Halve the step until the objective falls; 0 where it never does."""
        rows, point, beta = self.rows, self.point, self.beta
        unit = point.U / row_norms(point.U)[:, None]
        slope = float(np.sum(direction * (gradient + beta * unit)))
        if not slope < 0.0:
            return 0.0
        change = rows.forward(rows.bits(point.ids), direction)
        before, length = self.objective(), 1.0
        while length > 1e-6:
            U = point.U + length * direction
            if length == 1.0:
                U[zero] = 0.0
            fit = point.fit + length * change
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
