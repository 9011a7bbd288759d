"""Newton system of the ReLU program: a block-diagonal matrix plus the curvature of the loss, which couples blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["BlockData", "NewtonSystem", "inverse_factors"]

_PRODUCT_LIMIT = 30_000_000
"""Largest number of stored products x_ja x_jb; beyond it they are formed block by block."""

_CHUNK = 4_000_000
"""Numbers held at a time while the matrix is summed up."""

_RISES = (0.0, 1e-14, 1e-12, 1e-10)
"""Rises of a diagonal, relative to it, that make good what rounding has made indefinite."""


class BlockData:
    """Data of the blocks: ``X (n, r)``, masks ``(K, n)``, signs ``(K,)``, rows in force, linear hulls of the cones.

    ``rows (n, r)`` are the unit rows of X, ``orient (K, n)`` is +-1 where a row is in force and 0 where it is not,
    ``hulls`` maps a block whose cone is flat to an orthonormal basis ``(r, q)`` of the linear hull of that cone.
    """

    def __init__(self, X: FloatArray, masks: BoolArray, signs: FloatArray) -> None:
        self.X = X
        self.masks = masks
        self.weights = masks * signs[:, None]
        norms = np.linalg.norm(X, axis=1)
        self.nonzero = norms > 1e-14 * max(float(norms.max(initial=0.0)), 1e-300)
        self.norms = np.where(self.nonzero, norms, 1.0)
        self.rows = X / self.norms[:, None]
        self.orient = np.where(masks, 1.0, -1.0) * self.nonzero
        self.hulls: dict[int, FloatArray] = {}
        rank = X.shape[1]
        self._upper = np.triu_indices(rank)
        self._products: FloatArray | None = None
        if X.shape[0] * self._upper[0].size <= _PRODUCT_LIMIT:
            self._products = self.rows[:, self._upper[0]] * self.rows[:, self._upper[1]]

    @classmethod
    def free(cls, X: FloatArray, masks: BoolArray, check: Callable[[], None]) -> BlockData:
        """Blocks of sign +1 without cones: no row is in force. ``check`` may raise to end a product or a system."""
        data = cls(X[:0], masks[:, :0], np.ones(len(masks)))
        data.X, data.masks, data.weights, data.check = X, masks, masks.astype(np.float64), check
        return data

    @staticmethod
    def check() -> None:
        """Called once for each part of a system that is summed up; does nothing."""

    def select(self, kept: BoolArray) -> BlockData:
        """Return the data of the blocks marked in ``kept (K,)``."""
        part = copy.copy(self)
        part.masks, part.weights, part.orient = self.masks[kept], self.weights[kept], self.orient[kept]
        place = np.cumsum(kept) - 1
        part.hulls = {int(place[k]): basis for k, basis in self.hulls.items()}
        return part

    def slacks(self, vectors: FloatArray) -> FloatArray:
        """Slacks ``(K, n)`` of the unit rows; 0 where a row is not in force."""
        return self.orient * (vectors @ self.rows.T)

    def rows_adjoint(self, values: FloatArray) -> FloatArray:
        """Transposed map of :meth:`slacks`: ``(K, n)`` to ``(K, r)``."""
        return (self.orient * values) @ self.rows

    def fit(self, vectors: FloatArray) -> FloatArray:
        """Fitted values ``(n,)``."""
        return np.einsum("kn,kn->n", self.weights, vectors @ self.X.T)

    def fit_adjoint(self, values: FloatArray) -> FloatArray:
        """Transposed map of :meth:`fit`: ``(n,)`` to ``(K, r)``."""
        return (self.weights * values) @ self.X

    def project(self, vectors: FloatArray) -> FloatArray:
        """Project ``(K, r)`` in place on the linear hulls of the cones."""
        for k, basis in self.hulls.items():
            vectors[k] = basis @ (basis.T @ vectors[k])
        return vectors

    def gram(self, weights: FloatArray) -> FloatArray:
        """Matrices ``sum_j weights_kj x_j x_j^T`` over unit rows, ``(K, r, r)``."""
        blocks, rank = weights.shape[0], self.X.shape[1]
        out = np.empty((blocks, rank, rank))
        if self._products is None:
            for k in range(blocks):
                out[k] = (self.rows * weights[k][:, None]).T @ self.rows
            return out
        packed = weights @ self._products
        out[:, self._upper[0], self._upper[1]] = packed
        out[:, self._upper[1], self._upper[0]] = packed
        return out


class NewtonSystem:
    """Factorised ``S + A^T diag(h) A``: S block diagonal ``(K, r, r)``, A the map to the fit, h the curvature ``(n,)``.

    With factors ``S^-1 = F F^T``, ``(K, r, r)``, and ``B = diag(h)^(1/2) A F`` the solution is
    ``F (I + B^T B)^-1 F^T``; the smaller of ``I + B^T B`` (K r) and ``I + B B^T`` (n) is factorised, so samples without
    curvature need no care.
    """

    def __init__(self, data: BlockData, factors: FloatArray, curvature: FloatArray) -> None:
        self._data = data
        self._roots = np.sqrt(np.maximum(curvature, 0.0))
        self._factors = factors
        count, rank = factors.shape[:2]
        n = curvature.size
        self._wide = count * rank > n
        self._cholesky = _factorised(_outer_gram(data, factors, self._roots) if self._wide else self._inner_gram())

    def _inner_gram(self) -> FloatArray:
        data = self._data
        count, rank = self._factors.shape[:2]
        gram = np.zeros((count * rank, count * rank))
        size = max(1, _CHUNK // (count * rank))
        for first in range(0, len(data.X), size):
            data.check()
            part = slice(first, first + size)
            tall = np.matmul(data.X[part], self._factors) * (data.weights[:, part] * self._roots[part])[:, :, None]
            flat = np.ascontiguousarray(tall.transpose(1, 0, 2)).reshape(-1, count * rank)
            gram += flat.T @ flat
        gram[np.diag_indices_from(gram)] += 1.0
        return gram

    def solve(self, right: FloatArray) -> FloatArray:
        """Solve for a right-hand side ``(K, r)`` that lies in the linear hulls of the cones."""
        return self.solve_with_fit(right)[0]

    def solve_with_fit(self, right: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Solution and its fit ``(n,)``, which an n x n factor gives more accurately than a product would."""
        factors, data = self._factors, self._data
        inner = np.matmul(factors.transpose(0, 2, 1), right[:, :, None])
        if self._wide:
            image = self._roots * data.fit(np.matmul(factors, inner)[:, :, 0])
            back = cho_solve(self._cholesky, image, check_finite=False)
            pulled = data.fit_adjoint(self._roots * back)
            inner = inner - np.matmul(factors.transpose(0, 2, 1), pulled[:, :, None])
            vectors = np.matmul(factors, inner)[:, :, 0]
            curved = self._roots > 0.0
            return vectors, np.where(curved, back / np.where(curved, self._roots, 1.0), data.fit(vectors))
        inner = cho_solve(self._cholesky, inner.reshape(-1), check_finite=False).reshape(inner.shape)
        vectors = np.matmul(factors, inner)[:, :, 0]
        return vectors, data.fit(vectors)


def _factorised(matrix: FloatArray) -> tuple[FloatArray, bool]:
    """Cholesky factor of a matrix that rounding may have made indefinite: its diagonal is raised until it is not.

    Raises
    ------
    LinAlgError
        Where that is beyond rounding.
    """
    diagonal = matrix.diagonal().copy()
    for rise in _RISES[:-1]:
        matrix[np.diag_indices_from(matrix)] = (1.0 + rise) * diagonal
        try:
            return cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            continue
    matrix[np.diag_indices_from(matrix)] = (1.0 + _RISES[-1]) * diagonal
    return cho_factor(matrix, lower=True, check_finite=False)


def inverse_factors(blocks: FloatArray, hulls: dict[int, FloatArray]) -> FloatArray:
    """Factors F with ``F F^T = S^-1`` for each block, on the linear hull of its cone where that is smaller."""
    factors = np.zeros_like(blocks)
    rank = blocks.shape[1]
    full = np.ones(blocks.shape[0], dtype=bool)
    for k, basis in hulls.items():
        full[k] = False
        size = basis.shape[1]
        factors[k, :, :size] = basis @ _cholesky_inverse((basis.T @ blocks[k] @ basis)[None])[0]
    if full.all():
        return _cholesky_inverse(blocks)
    if full.any():
        factors[full] = _cholesky_inverse(blocks[full])
    return factors.reshape(-1, rank, rank)


def _cholesky_inverse(blocks: FloatArray) -> FloatArray:
    """Upper triangular ``L^-T`` with ``S = L L^T``; the diagonal is scaled to one first."""
    scale = 1.0 / np.sqrt(np.einsum("kii->ki", blocks))
    scaled = blocks * scale[:, :, None] * scale[:, None, :]
    identity = np.eye(blocks.shape[1])
    ridge = 0.0
    while True:
        try:
            lower = np.linalg.cholesky(scaled + ridge * identity)
            break
        except np.linalg.LinAlgError:
            ridge = max(1e-15, 10.0 * ridge)
            if ridge > 1e-6:
                raise
    inverse = np.linalg.solve(lower, np.broadcast_to(identity, lower.shape))
    return inverse.transpose(0, 2, 1) * scale[:, :, None]


def _outer_gram(data: BlockData, factors: FloatArray, roots: FloatArray) -> FloatArray:
    """``I + B B^T``, ``(n, n)``, accumulated over chunks of blocks."""
    n = roots.size
    count, rank = factors.shape[:2]
    gram = np.eye(n)
    size = max(1, _CHUNK // (n * rank))
    for first in range(0, count, size):
        data.check()
        part = slice(first, first + size)
        wide = np.matmul(factors[part].transpose(0, 2, 1), data.X.T)
        wide *= (data.weights[part] * roots)[:, None, :]
        flat = wide.reshape(-1, n)
        gram += flat.T @ flat
    return gram
