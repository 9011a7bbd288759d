r"""Pieces of paths: curves of networks of one width, each smooth in a parameter that runs from 0 to 1.

A neuron of mass c is :math:`w = \sqrt c\,u,\ a = s\sqrt c`. Masses move along straight lines, at the rate
:math:`\sin^2(\pi\theta/2)`: then the weights of a neuron that starts or ends at mass zero are Lipschitz in
:math:`\theta`, although they are square roots of the mass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cvxnn.networks import row_norms

FloatArray = npt.NDArray[np.float64]

_LENGTH_SAMPLES = 9


@dataclass(frozen=True, eq=False)
class BalancePiece:
    r"""From any weights to the balanced ones of the same function.

    With :math:`\|w\| = \sqrt c\,e^\lambda,\ |a| = \sqrt c\,e^{-\lambda}` the penalty is :math:`c\cosh 2\lambda`; it
    falls as :math:`\lambda` goes to 0, here at a rate that keeps the speed of the weights bounded. Neurons without
    mass, of which one layer is zero, shrink along a straight line.
    """

    W: FloatArray
    a: FloatArray
    stage: str = "balance"
    backwards: bool = False

    @property
    def width(self) -> int:
        return len(self.a)

    @cached_property
    def active(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.any(self.W != 0.0, axis=1) | (self.a != 0.0))

    @cached_property
    def _logs(self) -> FloatArray:
        """Half the logarithm of ||w|| / |a|; NaN where a neuron has no mass."""
        size_w, size_a = row_norms(self.W), np.abs(self.a)
        logs = np.full(self.width, np.nan)
        live = size_w * size_a > 0.0
        logs[live] = 0.5 * (np.log(size_w[live]) - np.log(size_a[live]))
        return logs

    def weights(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        rest = (theta if self.backwards else 1.0 - theta)[:, None]
        logs = self._logs[self.active]
        live = np.isfinite(logs)
        start = np.where(live, logs, 0.0)
        change = np.arcsinh(rest * np.sinh(start)) - start
        factor_w = np.where(live, np.exp(change), rest)
        factor_a = np.where(live, np.exp(-change), rest)
        return self.W[self.active] * factor_w[:, :, None], self.a[self.active] * factor_a

    def reversed(self) -> BalancePiece:
        return replace(self, backwards=not self.backwards)


@dataclass(frozen=True, eq=False)
class MassPiece:
    """Masses move from ``start`` to ``end`` along a straight line; the directions stay.

    The fitted values and the sum of the masses are linear along it, so the objective is convex.
    """

    directions: FloatArray
    signs: FloatArray
    start: FloatArray
    end: FloatArray
    stage: str

    @property
    def width(self) -> int:
        return len(self.signs)

    @cached_property
    def active(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero((self.start > 0.0) | (self.end > 0.0))

    def weights(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        on = self.active
        first, second = _shares(theta)
        roots = np.sqrt(first[:, None] * self.start[on] + second[:, None] * self.end[on])
        return roots[:, :, None] * self.directions[on], roots * self.signs[on]

    def reversed(self) -> MassPiece:
        return replace(self, start=self.end, end=self.start)


@dataclass(frozen=True, eq=False)
class TurnPiece:
    """Vectors ``z = |a| w`` move from ``start`` to ``end`` along straight lines; the signs stay.

    Where no pre-activation changes its sign the fitted values are linear and the sum of the norms is convex along it.
    """

    start: FloatArray
    end: FloatArray
    signs: FloatArray
    stage: str

    @property
    def width(self) -> int:
        return len(self.signs)

    @cached_property
    def active(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.any(self.start != 0.0, axis=1) | np.any(self.end != 0.0, axis=1))

    def weights(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        on = self.active
        first, second = _shares(theta)
        vectors = first[:, None, None] * self.start[on] + second[:, None, None] * self.end[on]
        norms = np.sqrt(np.einsum("bkd,bkd->bk", vectors, vectors))
        roots = np.sqrt(norms)
        scale = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0.0)
        return vectors * scale[:, :, None], roots * self.signs[on]

    def reversed(self) -> TurnPiece:
        return replace(self, start=self.end, end=self.start)


Piece = BalancePiece | MassPiece | TurnPiece
"""A curve of weights of fixed shapes ``(m, d)`` and ``(m,)``.

``stage`` names the step of the construction that it belongs to, ``active`` the k neurons that are not zero along the
whole piece; ``weights`` takes B parameters in [0, 1] to the weights ``(B, k, d)`` and ``(B, k)`` of these.
"""


def _shares(theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shares of the start and of the end; exactly (1, 0) and (0, 1) at the ends."""
    second = np.sin(0.5 * np.pi * theta) ** 2
    first = np.sin(0.5 * np.pi * (1.0 - theta)) ** 2
    return first, second


def piece_length(piece: Piece) -> float:
    """Length of the curve in the space of all weights, by chords."""
    W, a = piece.weights(np.linspace(0.0, 1.0, _LENGTH_SAMPLES))
    steps = np.sum(np.diff(W, axis=0) ** 2, axis=(1, 2)) + np.sum(np.diff(a, axis=0) ** 2, axis=1)
    return float(np.sum(np.sqrt(steps)))
