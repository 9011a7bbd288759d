"""Projection onto the positive semidefinite matrices when the projection has low rank and moves slowly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh, qr

FloatArray = npt.NDArray[np.float64]

__all__ = ["LowRankProjection"]

_SMALL = 160
"""Below this size a full decomposition is as fast."""
_REFRESH = 50
_DEGREE = 8
_LANCZOS = 10


class LowRankProjection:
    """Factor ``F`` with ``F F^T`` close to the projection of a symmetric matrix.

    A Chebyshev filter damps the negative part of the spectrum and a block of vectors from the last call is iterated
    (Zhou, Saad, Tiago and Chelikowsky, 2006, "Self-consistent-field calculations using Chebyshev-filtered subspace
    iteration"). Every fiftieth call, and whenever the block looks too small, the positive part is computed in full.
    The result is an approximation and must not be relied on in a proof.

    Parameters
    ----------
    seed : int
        Seed of the vectors that fill up the block.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._block: FloatArray | None = None
        self._low, self._cut = -1.0, 0.0
        self._calls = 0

    def __call__(self, A: FloatArray) -> FloatArray:
        """Return ``F (N, k)`` for ``A (N, N)``."""
        self._calls += 1
        block = self._block
        if block is not None and self._calls % _REFRESH:
            if self._calls % 10 == 1:
                self._low = self._lower_end(A)
            factor = self._filtered(A, block)
            if factor is not None:
                return factor
        values, vectors = eigh(A, driver="evr", subset_by_value=(0.0, np.inf), check_finite=False)
        size, k = len(A), len(values)
        width = k + 8 + k // 4
        if size > _SMALL and width < size // 4:
            fill = self._rng.standard_normal((size, width - k)) / np.sqrt(size)
            self._block = np.asfortranarray(np.hstack([vectors, fill]))
            self._low, self._cut = self._lower_end(A), 0.0
        else:
            self._block = None
        return vectors * np.sqrt(values)

    def _filtered(self, A: FloatArray, block: FloatArray) -> FloatArray | None:
        centre, half = 0.5 * (self._cut + self._low), 0.5 * (self._cut - self._low)
        previous, current = block, A @ block
        current -= centre * block
        current /= half
        for _ in range(_DEGREE - 1):
            following = A @ current
            following -= centre * current
            following *= 2.0 / half
            following -= previous
            previous, current = current, following
        current /= np.sqrt(np.sum(current * current, axis=0))
        basis: FloatArray = np.asarray(qr(current, mode="economic", check_finite=False, overwrite_a=True)[0])
        inner = basis.T @ (A @ basis)
        values, turn = np.linalg.eigh(0.5 * (inner + inner.T))
        if not np.all(np.isfinite(values)) or values[0] < self._low or values[0] > 0.0:
            self._block = None
            return None
        self._block = basis @ turn
        self._cut = 0.5 * float(values[0])
        positive = values > 0.0
        return self._block[:, positive] * np.sqrt(values[positive])

    def _lower_end(self, A: FloatArray) -> float:
        """Lanczos estimate below the smallest eigenvalue (Zhou and Li, 2011, "Bounding the spectrum")."""
        v = self._rng.standard_normal(len(A))
        v /= np.linalg.norm(v)
        before, beta = np.zeros_like(v), 0.0
        diagonal, beside = [], []
        for _ in range(min(_LANCZOS, len(A) - 1)):
            f = A @ v - beta * before
            alpha = float(f @ v)
            f -= alpha * v
            diagonal.append(alpha)
            beta = float(np.linalg.norm(f))
            beside.append(beta)
            if beta <= 1e-12 * abs(alpha):
                break
            before, v = v, f / beta
        T = np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1)
        return min(float(np.linalg.eigvalsh(T)[0]) - beside[-1], -1e-300)
