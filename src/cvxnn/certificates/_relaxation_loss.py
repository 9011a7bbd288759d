"""The loss inside the relaxation: proximal steps of both signs at once, one equation in one unknown a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.relaxation_rows import RelaxationRows
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["ConePoints", "SlotLoss"]

_MAX_ITER = 80


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
        self._slope = np.zeros(self.slots)

    def fit(self, difference: FloatArray) -> FloatArray:
        """Fitted values ``(n,)`` of the differences ``(2 g,)`` between both signs."""
        fit = np.zeros(self.problem.n_samples)
        fit[self.samples] = self.length * difference[self.slot]
        return fit

    def value(self, difference: FloatArray) -> float:
        """Loss in units of beta."""
        return self.problem.loss_value(self.fit(difference)) / self.problem.beta

    def collect(self, samples: FloatArray) -> FloatArray:
        """Sums over the samples of each slot, ``(2 g,)``, of values ``(n,)`` times the lengths."""
        return np.bincount(self.slot, weights=self.length * samples[self.samples], minlength=self.slots).astype(float)

    def prox(self, plus: ConePoints, minus: ConePoints, rho: float) -> tuple[FloatArray, FloatArray]:
        """Minimise ``loss(p - m) + rho ||(p, x) - plus||^2 + rho ||(m, z) - minus||^2`` over the cones; return p and m.

        With v minus the derivative of the loss, p is the head of the projection of ``plus`` moved by ``v / 2 rho``, and
        m that of ``minus`` moved the other way. What is left is ``v + loss'(p - m) = 0``, increasing in v: Newton's
        method inside a bracket.
        """
        beta, problem = self.problem.beta, self.problem
        step = 0.5 / rho

        def gradient(d: FloatArray) -> FloatArray:
            return self.collect(problem.loss_gradient(self.fit(d))) / beta

        zero = np.zeros(self.slots)
        first = gradient(plus.head(zero)[0] - minus.head(zero)[0])
        low, high = np.minimum(-first, 0.0), np.maximum(-first, 0.0)
        v = np.clip(self._slope, low, high)
        for _ in range(_MAX_ITER):
            (p, rise), (m, fall) = plus.head(step * v), minus.head(-step * v)
            value = v + gradient(p - m)
            below = value < 0.0
            low, high = np.where(below, v, low), np.where(below, high, v)
            bend = problem.loss_hessian(self.fit(p - m))[self.samples] * self.length**2
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
