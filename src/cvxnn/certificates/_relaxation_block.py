r"""One output sign of the relaxation inside the alternating direction method.

In the right singular vectors of the rows, ``R = U S V^T``, and with ``x = aspect * w``, the matrix variable is
``V (1 + r + g)`` in the coordinates ``(a, y, b)`` where ``y_k = (S_k^2 / 2 + aspect^2)^(1/2) w_k`` and
``b = |R w| / sqrt 2``. Then ``(a, y, b) -> (a, s, t, x)`` is an isometry: the step in V is a projection, and all
constraints are on entries of a copy of the image, one entry, or one short vector, at a time. Units of beta.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import get_blas_funcs

from cvxnn.certificates._psd_projection import LowRankProjection
from cvxnn.certificates._relaxation_loss import ConePoints

FloatArray = npt.NDArray[np.float64]

__all__ = ["Image", "SignBlock"]

_HALF = math.sqrt(0.5)
_RELAX = 1.8
"""Over-relaxation."""
_GEMM: Any = get_blas_funcs("gemm", dtype=np.float64)


class Image(NamedTuple):
    """Entries of a symmetric matrix over ``(a, s, t, x)``, or of the multipliers of such entries.

    Corner aa; ``head (2 g,)`` for (a, s) and (a, t); ``cone (2 g, r)`` for (s, x) and (t, x); ``side (r,)`` for (a, x);
    ``low (r, r)`` for (x, x); the products ``ss, tt, st (g, g)``.
    """

    corner: float
    head: FloatArray
    cone: FloatArray
    side: FloatArray
    low: FloatArray
    ss: FloatArray
    tt: FloatArray
    st: FloatArray

    def square(self) -> float:
        """Squared Frobenius norm of the symmetric matrix."""
        once = self.corner * self.corner + sum(float(np.sum(part * part)) for part in (self.low, self.ss, self.tt))
        return once + 2.0 * sum(float(np.sum(part * part)) for part in (self.head, self.cone, self.side, self.st))

    def minus(self, other: Image) -> Image:
        """Entrywise difference."""
        parts: list[FloatArray] = [one - two for one, two in zip(self[1:], other[1:], strict=True)]
        return Image(self.corner - other.corner, *parts)


class SignBlock:
    """State: ``W = (over-relaxed image of V) + multipliers``, split into the copy, its projection, and the rest.

    The copies of the products are their positive parts, with zeros on the diagonal of ``st``; those of the other
    entries are kept in ``head_copy`` and so on. ``side`` is free and has no multiplier.
    """

    def __init__(self, left: FloatArray, sigma: FloatArray, aspect: float, seed: int) -> None:
        g, r = left.shape
        self.left, self.aspect = np.asfortranarray(left), aspect
        length = np.sqrt(0.5 * sigma**2 + aspect**2)
        self.to_q, self.to_x = math.sqrt(0.5) * sigma / length, aspect / length
        self.cost = np.concatenate([[0.5], 0.5 / length**2])
        self.corner = self.corner_copy = 0.0
        self.head, self.head_copy = np.zeros(2 * g), np.zeros(2 * g)
        self.cone, self.cone_copy = np.zeros((2 * g, r)), np.zeros((2 * g, r))
        self.side = np.zeros(r)
        self.low, self.low_copy = np.zeros((r, r)), np.zeros((r, r))
        self.ss, self.tt, self.st = (np.zeros((g, g), order="F") for _ in range(3))
        self.load(np.zeros((1 + r + g, 0)))
        self._project = LowRankProjection(seed)
        self._work = [np.empty((g, g), order="F") for _ in range(3)]
        self._matrix = np.empty((1 + r + g, 1 + r + g), order="F")

    def load(self, factor: FloatArray) -> None:
        """Take ``factor (1 + r + g, k)`` as the current V."""
        r = self.left.shape[1]
        self.factor = factor
        turned = self.left @ (self.to_q[:, None] * factor[1 : 1 + r])
        self.s = np.asfortranarray(_HALF * (factor[1 + r :] + turned))
        self.t = np.asfortranarray(_HALF * (factor[1 + r :] - turned))
        self.x = self.to_x[:, None] * factor[1 : 1 + r]

    def neurons(self) -> FloatArray:
        """Columns of the factor as vectors w, ``(k, r)``, in the right singular vectors, with a made positive."""
        return (self.x / self.aspect * np.where(self.factor[0] < 0.0, -1.0, 1.0)).T

    def matrix(self, rho: float) -> FloatArray:
        """Matrix to project: the copies less the multipliers in the coordinates of V, less the cost over rho."""
        U, A = self.left, self._matrix
        g, r = U.shape
        c, d = self.to_q[:, None], self.to_x[:, None]
        head = 2.0 * self.head_copy - self.head
        up, down = head[:g], head[g:]
        cone = 2.0 * self.cone_copy - self.cone
        above, below = cone[:g], cone[g:]
        for source, work in zip((self.ss, self.tt, self.st), self._work, strict=True):
            np.abs(source, out=work)
        same, other, cross = self._work
        np.fill_diagonal(cross, -np.diag(self.st))
        one, two, three, four = U.T @ same, U.T @ other, U.T @ cross, (cross @ U).T
        A[0, 0] = 2.0 * self.corner_copy - self.corner
        A[1 + r :, 0] = _HALF * (up + down)
        A[1 : 1 + r, 0] = _HALF * self.to_q * (U.T @ (up - down)) + self.to_x * self.side
        A[1 : 1 + r, 1 + r :] = c * (0.5 * (one - two + three - four)) + d * (_HALF * (above + below).T)
        A[1 + r :, 1 : 1 + r] = A[1 : 1 + r, 1 + r :].T
        mixed = _HALF * c * (U.T @ (above - below)) * d.T
        inner = (0.5 * c) * ((one + two - three - four) @ U) * c.T
        A[1 : 1 + r, 1 : 1 + r] = inner + mixed + mixed.T + d * (2.0 * self.low_copy - self.low) * d.T
        same += other
        same += cross
        same += cross.T
        np.multiply(same, 0.5, out=A[1 + r :, 1 + r :])
        A[0, 1:] = A[1:, 0]
        A[np.arange(1 + r), np.arange(1 + r)] -= self.cost / rho
        return A

    def step(self, rho: float) -> None:
        """Project and fold the image into the state; `settle` must follow with the copies of ``head``."""
        self.load(self._project(self.matrix(rho)))
        now = self.image()

        def fold(new: FloatArray, state: FloatArray, copy: FloatArray) -> FloatArray:
            return _RELAX * new - _RELAX * copy + state

        self.corner = _RELAX * (now.corner - self.corner_copy) + self.corner
        self.head = fold(now.head, self.head, self.head_copy)
        self.cone = fold(now.cone, self.cone, self.cone_copy)
        self.low = fold(now.low, self.low, self.low_copy)
        self.side = _RELAX * now.side + (1.0 - _RELAX) * self.side
        diagonal = np.diag(self.st).copy()
        work = self._work[0]
        for W, left, right in ((self.ss, self.s, self.s), (self.tt, self.t, self.t), (self.st, self.s, self.t)):
            np.minimum(W, 0.0, out=work)
            W *= 1.0 - _RELAX
            work *= _RELAX
            W += work
            _GEMM(_RELAX, left, right, beta=1.0, c=W, trans_b=1, overwrite_c=1)
        np.fill_diagonal(self.st, diagonal + _RELAX * np.sum(self.s * self.t, axis=1))

    def points(self) -> ConePoints:
        """Heads and lengths of the vectors ``(a s, s x)`` and ``(a t, t x)`` that the copies must have in the cone."""
        return ConePoints(self.head, np.sqrt(np.sum(self.cone * self.cone, axis=1)), self.aspect)

    def settle(self, head: FloatArray, length: FloatArray) -> None:
        """Set the copies, from the heads that the loss has chosen, and those bound by ``Z_aa = tr Z_ww``."""
        self.head_copy = head
        share = np.minimum(1.0, self.aspect * head / np.where(length > 0.0, length, 1.0))
        self.cone_copy = self.cone * np.where(length > 0.0, share, 1.0)[:, None]
        weight = 1.0 / self.aspect**2
        r = len(self.low)
        excess = (self.corner - weight * float(np.trace(self.low))) / (1.0 + r * weight**2)
        self.corner_copy = self.corner - excess
        self.low_copy = self.low + weight * excess * np.eye(r)

    def image(self, *, products: bool = False) -> Image:
        """Image of V; the products only where asked for."""
        a = self.factor[0]
        head = np.concatenate([self.s @ a, self.t @ a])
        cone = np.concatenate([self.s @ self.x.T, self.t @ self.x.T])
        pairs = ((self.s, self.s), (self.t, self.t), (self.s, self.t)) if products else ()
        blocks = [left @ right.T for left, right in pairs] or [np.zeros((0, 0))] * 3
        return Image(float(a @ a), head, cone, self.x @ a, self.x @ self.x.T, *blocks)

    def copies(self) -> Image:
        """Copies of the image that satisfy the constraints."""
        blocks = [np.maximum(W, 0.0) for W in (self.ss, self.tt, self.st)]
        np.fill_diagonal(blocks[2], 0.0)
        return Image(self.corner_copy, self.head_copy, self.cone_copy, self.side, self.low_copy, *blocks)

    def multipliers(self) -> Image:
        """Multipliers over rho; those of the products are at most zero, save on the diagonal of ``st``."""
        blocks = [np.minimum(W, 0.0) for W in (self.ss, self.tt, self.st)]
        np.fill_diagonal(blocks[2], np.diag(self.st))
        parts = (self.head - self.head_copy, self.cone - self.cone_copy, np.zeros_like(self.side))
        return Image(self.corner - self.corner_copy, *parts, self.low - self.low_copy, *blocks)

    def rescale(self, factor: float) -> None:
        """Multiply the multipliers, after a change of the penalty."""
        self.corner = self.corner_copy + factor * (self.corner - self.corner_copy)
        self.head = self.head_copy + factor * (self.head - self.head_copy)
        self.cone = self.cone_copy + factor * (self.cone - self.cone_copy)
        self.low = self.low_copy + factor * (self.low - self.low_copy)
        diagonal = factor * np.diag(self.st)
        for W in (self.ss, self.tt, self.st):
            np.multiply(W, factor, out=W, where=W < 0.0)
        np.fill_diagonal(self.st, diagonal)

    def begin(self, factor: FloatArray) -> None:
        """Set V, and the copies to its image, with zero multipliers."""
        self.load(factor)
        now = self.image(products=True)
        self.corner = self.corner_copy = now.corner
        self.head = self.head_copy = np.maximum(now.head, 0.0)
        self.cone = self.cone_copy = now.cone
        self.side = now.side
        self.low = self.low_copy = now.low
        for W, new in zip((self.ss, self.tt, self.st), now[-3:], strict=True):
            np.maximum(new, 0.0, out=W)
        np.fill_diagonal(self.st, 0.0)

    def value(self) -> float:
        """Weight decay of V, in units of beta."""
        r = len(self.low)
        return float(self.cost @ np.sum(self.factor[: 1 + r] ** 2, axis=1))
