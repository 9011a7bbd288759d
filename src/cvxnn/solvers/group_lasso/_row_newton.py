r"""Newton step on the nonzero blocks of a group lasso with many samples.

Away from zero the objective is smooth, with Hessian :math:`A^T H A + \beta\,\mathrm{diag}((I - \hat u_i \hat u_i^T) /
\|u_i\|)`. Conjugate gradients apply it through two matrix products. Their preconditioner is the same matrix with
:math:`A^T H A` replaced by its estimate from a subsample of the rows plus a multiple of the identity for the directions
that the subsample does not see; its inverse costs one factorisation of the size of the subsample (Woodbury), whatever n
and the number of blocks are. Blocks that the step would carry through zero are set to zero and the others solved again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, get_blas_funcs, get_lapack_funcs

from cvxnn.networks import row_norms
from cvxnn.solvers.group_lasso._row_products import ByteArray, FloatArray, IntArray, Rows, SingleArray

BoolArray = npt.NDArray[np.bool_]

# Least rows of the subsample behind the preconditioner.
SAMPLE = 400
# Part of the mean eigenvalue that stands for the directions that the subsample does not see.
_UNSEEN = 0.1
_LEAST_UNSEEN = 1e-2
# Fraction of its length below which a step counts as carrying a block through zero.
_CROSSING = 1e-3
_CROSSING_ROUNDS = 5
MAX_PRODUCTS = 40
# Shifts of a factor, each ten times the one before, until the last is far beyond the size of the matrix.
_SHIFTS = 10
_POTRF: Any = get_lapack_funcs("potrf", dtype=np.float32)
_TRSV: Any = get_blas_funcs("trsv", dtype=np.float32)


def build_cost(size: int, count: int, features: int) -> float:
    """Operations that the preconditioner of ``count`` blocks takes on a subsample of this size."""
    return 2.0 * size**2 * (count + features) + size**3 / 3.0


class Preconditioner:
    """Inverse of the Hessian estimated from the rows ``sample``."""

    def __init__(
        self, rows: Rows, sample: Rows, bits: ByteArray, U: FloatArray, h: FloatArray, beta: float, unseen: FloatArray
    ) -> None:
        lengths = row_norms(U)
        unit, across = U / lengths[:, None], (beta / lengths)[:, None]
        # What the subsample does not see is T = across (I - u u^T) + diag(unseen). Its inverse is E + q q^T with
        # E = 1 / (across + unseen), here as a product of factors a_i b_j so that the kernel below is one Hadamard
        # product; they are exact where all features have the same scale.
        inverse = 1.0 / (across + unseen)
        rest = np.sum(unit * unit * unseen * inverse, axis=1)
        self._along = inverse * unit * np.sqrt(across / rest[:, None])
        logs = np.log(inverse)
        self._blocks = np.exp(np.mean(logs, axis=1))[:, None]
        self._features = np.exp(np.mean(logs, axis=0) - np.mean(logs))
        self._X = sample.single
        self._masks = np.unpackbits(bits, axis=1, count=len(sample), bitorder="little").astype(np.float32)
        # Curvatures of order one: single precision has a small range.
        scale = float(np.max(h)) * len(rows) / len(sample)
        scale = scale if scale > 0.0 else 1.0
        root = np.sqrt(h * (len(rows) / len(sample)) / scale).astype(np.float32)
        # Kernel of the rows in the metric of T: a Hadamard product, and the columns along the directions.
        rooted = self._masks * root
        weighted = rooted * np.sqrt(scale * self._blocks).astype(np.float32)
        kernel = weighted.T @ weighted
        kernel *= (self._X * self._features.astype(np.float32)) @ self._X.T
        columns = (math.sqrt(scale) * self._along).astype(np.float32) @ self._X.T
        columns *= rooted
        kernel += columns.T @ columns
        self._root, self._factor, self._scale = root, _factorise(kernel), scale

    def __call__(self, R: FloatArray) -> FloatArray:
        """Approximate solution of ``Hessian V = R``, rows ``(k, d)``."""
        outer = self._rest(R)
        size = max(float(np.max(np.abs(outer), initial=0.0)), float(np.finfo(np.float64).tiny))
        z = np.einsum("sd,sd->s", self._masks.T @ (outer / size).astype(np.float32), self._X)
        # Two calls instead of one of potrs, and five times as fast.
        z = _TRSV(self._factor, self._root * z, lower=1, overwrite_x=1)
        z = self._root * _TRSV(self._factor, z, lower=1, trans=1, overwrite_x=1)
        back = (self._masks @ (self._X * z[:, None])).astype(np.float64)
        return outer - (self._scale * size) * self._rest(back)

    def _rest(self, R: FloatArray) -> FloatArray:
        along = np.einsum("kd,kd->k", R, self._along)
        return self._blocks * self._features * R + along[:, None] * self._along


def _factorise(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Cholesky factor of ``I + kernel``; a larger shift where rounding needs it, as only the speed depends on it."""
    kernel.flat[:: len(kernel) + 1] += np.float32(1.0)
    shift = np.float32(1e-6) * np.max(np.diag(kernel), initial=np.float32(1.0))
    for _ in range(_SHIFTS):
        factor, info = _POTRF(kernel.T, lower=1, clean=0)
        if info == 0:
            return factor
        kernel.flat[:: len(kernel) + 1] += shift
        shift *= np.float32(10.0)
    raise LinAlgError("the preconditioner of the rows is not positive definite to rounding.")


@dataclass
class Step:
    """Direction ``(k, d)``, the change of the fit along it ``(n,)``, the blocks that end at zero, and its products.

    ``gradient (k, d)`` is that of the loss at the end of the step, as the quadratic model has it.
    """

    direction: FloatArray
    change: FloatArray
    gradient: FloatArray
    zero: BoolArray
    products: int


class _Model:
    """Hessian of the quadratic model, and the change of the fit for every direction that it was applied to."""

    def __init__(
        self, rows: Rows, bits: ByteArray, h: SingleArray, unit: FloatArray, across: FloatArray, ridge: FloatArray
    ) -> None:
        self._rows, self._bits, self._curvature = rows, bits, h
        self._unit, self._across, self._ridge = unit, across, ridge

    def __call__(self, V: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hessian times ``V``, and ``A V``."""
        image, change = self._rows.curved(self._bits, V, self._curvature)
        return image + self.bending(V), change

    def bending(self, V: FloatArray) -> FloatArray:
        """Part of the norms and of the damping in the product with ``V``."""
        flat = V - np.einsum("kd,kd->k", V, self._unit)[:, None] * self._unit
        return self._across * flat + self._ridge * V


def newton_step(
    rows: Rows,
    sample: Rows,
    ids: IntArray,
    U: FloatArray,
    around: FloatArray,
    gradient: FloatArray,
    h: FloatArray,
    beta: float,
    *,
    sample_h: FloatArray,
    forcing: float,
    damping: float = 0.0,
) -> Step:
    """Minimise the quadratic model over the blocks; ``gradient`` is that of the loss in them.

    The norms are expanded around the blocks ``around (k, d)``, none of them zero: those of ``U`` where it is nonzero,
    a guess along the gradient where a block is to enter. ``damping`` times the mean curvature of each feature is added
    to the Hessian, which is singular where there are more blocks than samples.
    """
    lengths = row_norms(around)
    unit = around / lengths[:, None]
    across = (beta / lengths)[:, None]
    squares = sample_h @ np.square(sample.single.astype(np.float64)) * (0.5 * len(rows) / len(sample))
    mean = np.maximum(squares, max(1e-12 * float(np.max(squares)), 1e-6 * float(np.min(across))))
    unseen = max(_UNSEEN * (1.0 - len(sample) / len(rows)), damping, _LEAST_UNSEEN) * mean
    precondition = Preconditioner(rows, sample, sample.bits(ids), around, sample_h, beta, unseen)
    model = _Model(rows, rows.bits(ids), h.astype(np.float32), unit, across, damping * mean)

    residual = -(gradient + beta * unit)
    change = np.zeros(len(rows))
    free = np.ones(len(ids), dtype=bool)
    x, residual, target, products = _solve(model, precondition, residual, free, change, forcing, None)
    for _ in range(_CROSSING_ROUNDS):
        crossing = free & (np.einsum("kd,kd->k", U + x, unit) <= _CROSSING * lengths)
        if not crossing.any():
            break
        free &= ~crossing
        back = np.zeros_like(x)
        back[crossing] = -U[crossing] - x[crossing]
        x[crossing] = -U[crossing]
        image, moved = model(back)
        residual -= image
        change += moved
        more, residual, _, count = _solve(model, precondition, residual, free, change, forcing, target)
        x += more
        products += count + 1
    return Step(x, change, -(residual + beta * unit + model.bending(x)), ~free, products)


def _solve(
    model: _Model,
    precondition: Preconditioner,
    residual: FloatArray,
    free: BoolArray,
    change: FloatArray,
    forcing: float,
    target: float | None,
) -> tuple[FloatArray, FloatArray, float, int]:
    """Conjugate gradients on the free blocks until the residual in the metric of the preconditioner is ``target``.

    Returns the solution, the full residual, the target (``forcing`` times the first residual where none was given) and
    the number of products; the change of the fit is added to ``change``.
    """
    mask = free[:, None]
    x, residual = np.zeros_like(residual), residual.copy()
    inner = residual * mask
    z = precondition(inner) * mask
    p, size = z.copy(), float(np.sum(inner * z))
    goal = forcing * math.sqrt(max(size, 0.0)) if target is None else target
    for count in range(MAX_PRODUCTS):
        if size <= goal * goal:
            return x, residual, goal, count
        image, moved = model(p)
        curvature = float(np.sum(p * image))
        if curvature <= 0.0:
            return x, residual, goal, count + 1
        length = size / curvature
        x += length * p
        change += length * moved
        residual -= length * image
        inner = residual * mask
        z = precondition(inner) * mask
        previous, size = size, float(np.sum(inner * z))
        p = z + (size / previous) * p
    return x, residual, goal, MAX_PRODUCTS
