"""The loss inside the relaxation: proximal steps of both signs at once, one equation in one unknown a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.output_bias import best_shift
from cvxnn.certificates.relaxation_rows import RelaxationRows
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["ConePoints", "SlotLoss"]

_MAX_ITER = 80
_BIAS_STEPS = 4
"""Steps of the output bias in one proximal step; what they leave is taken up by the next one."""


class SlotLoss:
    """Loss as a function of the ``2 g`` numbers ``(a s, a t)`` of the reduced rows, in units of beta.

    A sample sees ``length_j * D`` of its slot: s of its line, or t where the sample points the other way.

    Parameters
    ----------
    problem : Problem
    rows : RelaxationRows
    """

    def __init__(self, problem: Problem, rows: RelaxationRows) -> None:
        self.problem = problem
        self.slots = 2 * len(rows.rows)
        self.samples = rows.samples
        self.slot = rows.group + np.where(rows.side > 0, 0, len(rows.rows))
        self.length = np.ldexp(rows.length, rows.exponent)
        self.bias = 0.0
        self._slope = np.zeros(self.slots)

    def fit(self, difference: FloatArray) -> FloatArray:
        """Fitted values ``(n,)`` of the differences ``(2 g,)`` between both signs."""
        fit = np.zeros(self.problem.n_samples)
        fit[self.samples] = self.length * difference[self.slot]
        return fit

    def value(self, difference: FloatArray) -> float:
        """Loss in units of beta, with the best output bias where there is one."""
        problem, fit = self.problem, self.fit(difference)
        if problem.output_bias_decay is None:
            return problem.loss_value(fit) / problem.beta
        bias = best_shift(problem, fit)
        return (problem.loss_value(fit + bias) + 0.5 * problem.output_bias_decay * bias * bias) / problem.beta

    def settle_bias(self, difference: FloatArray) -> None:
        """Start from the output bias that is best for the differences between both signs."""
        if self.problem.output_bias_decay is not None:
            self.bias = best_shift(self.problem, self.fit(difference))

    def collect(self, samples: FloatArray) -> FloatArray:
        """Sums over the samples of each slot, ``(2 g,)``, of values ``(n,)`` times the lengths."""
        return np.bincount(self.slot, weights=self.length * samples[self.samples], minlength=self.slots).astype(float)

    def prox(self, plus: ConePoints, minus: ConePoints, rho: float) -> tuple[FloatArray, FloatArray]:
        """Minimise ``loss(p - m) + rho ||(p, x) - plus||^2 + rho ||(m, z) - minus||^2`` over the cones; return p and m.

        With v minus the derivative of the loss, p is the head of the projection of ``plus`` moved by ``v / 2 rho``, and
        m that of ``minus`` moved the other way. What is left is ``v + loss'(p - m) = 0``, increasing in v: Newton's
        method inside a bracket. An output bias is minimised over, too: the slope of the minimum in it is increasing.
        """
        heads = self._prox(plus, minus, rho)
        decay = self.problem.output_bias_decay
        if decay is None:
            return heads
        slope, curvature = self._bias_slope(heads, decay)
        step = -slope / curvature if curvature > 0.0 else 0.0
        for _ in range(_BIAS_STEPS):
            if step == 0.0:
                break
            self.bias += step
            heads = self._prox(plus, minus, rho)
            before, (slope, _) = slope, self._bias_slope(heads, decay)
            change = slope - before
            # The secant, which no step outgrows tenfold; the slope cannot change against the step but by rounding.
            secant = -slope * step / change if change * step > 0.0 else 0.0
            step = float(np.clip(secant, -10.0 * abs(step), 10.0 * abs(step)))
        return heads

    def _bias_slope(self, heads: tuple[FloatArray, FloatArray], decay: float) -> tuple[float, float]:
        """Slope of the minimum in the output bias, and an upper bound of its curvature."""
        fit = self.fit(heads[0] - heads[1]) + self.bias
        slope = float(np.sum(self.problem.loss_gradient(fit))) + decay * self.bias
        return slope, float(np.sum(self.problem.loss_hessian(fit))) + decay

    def _prox(self, plus: ConePoints, minus: ConePoints, rho: float) -> tuple[FloatArray, FloatArray]:
        """Proximal step at the current output bias."""
        beta, problem = self.problem.beta, self.problem
        step = 0.5 / rho

        def gradient(d: FloatArray) -> FloatArray:
            return self.collect(problem.loss_gradient(self.fit(d) + self.bias)) / beta

        zero = np.zeros(self.slots)
        first = gradient(plus.head(zero)[0] - minus.head(zero)[0])
        low, high = np.minimum(-first, 0.0), np.maximum(-first, 0.0)
        v = np.clip(self._slope, low, high)
        for _ in range(_MAX_ITER):
            (p, rise), (m, fall) = plus.head(step * v), minus.head(-step * v)
            value = v + gradient(p - m)
            below = value < 0.0
            low, high = np.where(below, v, low), np.where(below, high, v)
            bend = problem.loss_hessian(self.fit(p - m) + self.bias)[self.samples] * self.length**2
            bend = np.bincount(self.slot, weights=bend, minlength=self.slots) / beta
            new = v - value / (1.0 + step * bend * (rise + fall))
            new = np.where((new < low) | (new > high), 0.5 * (low + high), new)
            moved = np.abs(new - v)
            v = new
            if np.all(moved <= 1e-13 * np.abs(v) + 1e-300):
                break
        self._slope = v
        return plus.head(step * v)[0], minus.head(-step * v)[0]


class ConePoints(NamedTuple):
    """Points ``(p, x)`` to be projected onto ``||x|| <= aspect * p``; only the length of x matters."""

    p: FloatArray
    length: FloatArray
    aspect: float

    def head(self, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Heads of the projections of ``(p + shift, x)``, and their slopes in the shift."""
        p = self.p + shift
        inside = self.length <= self.aspect * p
        share = 1.0 / (1.0 + self.aspect**2)
        outer = share * (p + self.aspect * self.length)
        head = np.where(inside, p, np.maximum(outer, 0.0))
        return head, np.where(inside, 1.0, np.where(outer > 0.0, share, 0.0))
