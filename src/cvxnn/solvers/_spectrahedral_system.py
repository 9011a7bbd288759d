r"""Newton systems of the interior-point method for two spectrahedral lifts, by samples or by matrix entries.

The fit of a symmetric matrix Z of size d + 1 is :math:`\mathcal A(Z)_j = \langle A_j, Z\rangle` with

.. math:: A_j = \begin{pmatrix} a\, x_j x_j^\top & \tfrac b2 x_j \\ \tfrac b2 x_j^\top & c \end{pmatrix}.

With scaling matrices :math:`W_\pm = G_\pm G_\pm^\top`, the operator
:math:`M = \sum_\pm \mathcal A (W_\pm \mathcal A^*(\cdot) W_\pm)` and the diagonal curvature H of the loss both
systems solve

.. math:: M \Delta\nu - \Delta e = r,\qquad H \Delta e + \Delta\nu = r_d .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

FloatArray = npt.NDArray[np.float64]
Coefficients = tuple[float, float, float]

__all__ = ["Change", "EntrySystem", "Lift", "NewtonSystem", "SampleSystem", "choose_system"]

_SLAB = 1 << 21
_MOST_SAMPLES, _MOST_ENTRIES = 9000, 3000
_TRUSTED = 1e-3


class Lift:
    """The linear map A and its adjoint.

    Parameters
    ----------
    X : ndarray (n, d)
    coefficients : (a, b, c)

    Examples
    --------
    >>> lift = Lift(np.array([[2.0]]), (1.0, 3.0, 5.0))
    >>> lift.fit(np.ones((2, 2))), lift.adjoint(np.ones(1)).tolist()
    (array([15.]), [[4.0, 3.0], [3.0, 5.0]])
    """

    def __init__(self, X: FloatArray, coefficients: Coefficients) -> None:
        self.X = X
        self.coefficients = coefficients

    def fit(self, Z: FloatArray) -> FloatArray:
        """Fitted values ``(n,)`` of a matrix ``(d + 1, d + 1)``."""
        a, b, c = self.coefficients
        quadratic = np.einsum("ij,ij->i", self.X @ Z[:-1, :-1], self.X)
        return a * quadratic + b * (self.X @ Z[:-1, -1]) + c * Z[-1, -1]

    def adjoint(self, nu: FloatArray) -> FloatArray:
        """Sum of the matrices A_j times the entries of nu."""
        a, b, c = self.coefficients
        d = self.X.shape[1]
        out = np.empty((d + 1, d + 1))
        block = a * ((self.X * nu[:, None]).T @ self.X)
        out[:d, :d] = 0.5 * (block + block.T)
        out[:d, d] = out[d, :d] = 0.5 * b * (self.X.T @ nu)
        out[d, d] = c * float(np.sum(nu))
        return out


@dataclass(frozen=True)
class Change:
    """Solution for one right-hand side: changes of nu and e, and ``G^T A*(dnu) G`` for both signs."""

    nu: FloatArray
    e: FloatArray
    scaled: list[FloatArray]


class NewtonSystem(Protocol):
    """A factorised system; see the module."""

    def factorise(self, scalings: list[FloatArray], curvature: FloatArray) -> None:
        """Take the matrices G of both signs and the diagonal H; LinAlgError where rounding prevents it."""
        ...

    def solve(self, r: FloatArray, rd: FloatArray) -> Change:
        """Solve for right-hand sides ``(n,)``."""
        ...


def choose_system(lift: Lift, *, constant_curvature: bool) -> NewtonSystem:
    """System of the smaller cost.

    Raises
    ------
    ValueError
        If both are beyond the size that is solved.
    """
    n, d = lift.X.shape
    p = (d + 1) * (d + 2) // 2
    if n > _MOST_SAMPLES and p > _MOST_ENTRIES:
        raise ValueError(
            f"the polynomial program has a dense system of the size of the samples, {n} (up to {_MOST_SAMPLES} is "
            f"solved), or of (d + 1)(d + 2)/2 = {p} (up to {_MOST_ENTRIES}); take fewer features, such as principal "
            "components, or fewer samples."
        )
    by_samples = n**3 / 3.0 + 4.0 * n * n * d
    by_entries = 9.0 * p**3 + (0.0 if constant_curvature else 1.0 * n * p * p)
    if p > _MOST_ENTRIES or (n <= _MOST_SAMPLES and by_samples <= by_entries):
        return SampleSystem(lift)
    return EntrySystem(lift, constant_curvature=constant_curvature)


class SampleSystem:
    r"""System of the size of the samples: :math:`(I + H^{1/2} M H^{1/2})\, t = H^{1/2} (M r_d - r)`."""

    def __init__(self, lift: Lift) -> None:
        self.lift = lift

    def factorise(self, scalings: list[FloatArray], curvature: FloatArray) -> None:
        """Form M and factorise."""
        n = len(curvature)
        self.scalings = scalings
        self.root = np.sqrt(curvature)
        self.M = np.zeros((n, n))
        for G in scalings:
            self._add(G @ G.T)
        shifted = self.root[:, None] * self.M
        shifted *= self.root
        shifted[np.diag_indices(n)] += 1.0
        self.factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)

    def _add(self, W: FloatArray) -> None:
        """Add ``<A_i, W A_j W>``, entry by entry from the products of the samples with the blocks of W."""
        X = self.lift.X
        a, b, c = self.lift.coefficients
        h, w = X @ W[:-1, -1], float(W[-1, -1])
        ends = a * c * h * h + b * c * w * h + 0.5 * c * c * w * w
        left = X @ W[:-1, :-1]
        step = max(1, _SLAB // len(X))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            G = left[rows] @ X.T
            hr = h[rows, None]
            part = hr + h
            part *= a * b
            part += 0.5 * b * b * w
            part *= G
            G *= G
            G *= a * a
            part += G
            part += (0.5 * b * b) * hr * h
            part += ends[rows, None]
            part += ends
            self.M[rows] += part

    def solve(self, r: FloatArray, rd: FloatArray) -> Change:
        """Back substitution."""
        root = self.root
        t = cho_solve(self.factor, root * (self.M @ rd - r), check_finite=False)
        dnu = rd - root * t
        de = self.M @ dnu - r
        # Where the curvature is not small the division is more accurate than the difference.
        sure = root > _TRUSTED * float(np.max(root))
        de[sure] = t[sure] / root[sure]
        A = self.lift.adjoint(dnu)
        return Change(dnu, de, [G.T @ A @ G for G in self.scalings])


class EntrySystem:
    r"""System of twice the size of a symmetric matrix, whose cost hardly depends on the samples.

    In the entries s of both scaled matrices, :math:`\Delta s = F w` with
    :math:`F F^\top = \sum_\pm W_\pm \otimes W_\pm` and
    :math:`(I + F^\top \Phi^\top H \Phi F)\, w = F^\top \Phi^\top (r_d + H r)`: a product of factors, in which
    nothing cancels.
    """

    def __init__(self, lift: Lift, *, constant_curvature: bool) -> None:
        self.lift = lift
        self.constant = constant_curvature
        self.gram: FloatArray | None = None
        d = lift.X.shape[1]
        self.rows, self.columns = np.triu_indices(d + 1)
        self.stretch = np.where(self.rows == self.columns, 1.0, np.sqrt(2.0))
        a, b, c = lift.coefficients
        weights = np.full((d + 1, d + 1), a)
        weights[:d, d] = 0.5 * b
        weights[d, d] = c
        self.weights = weights[self.rows, self.columns] * self.stretch

    def factorise(self, scalings: list[FloatArray], curvature: FloatArray) -> None:
        """Form the factors and the Gram matrix of the features, and factorise."""
        self.scalings, self.curvature = scalings, curvature
        if self.gram is None or not self.constant:
            self.gram = self._gram(curvature)
        self.factors = np.concatenate([self._factor(G) for G in scalings], axis=1)
        inner = self.factors.T @ (self.gram @ self.factors)
        inner[np.diag_indices_from(inner)] += 1.0
        self.factor = cho_factor(inner, lower=True, overwrite_a=True, check_finite=False)

    def _gram(self, curvature: FloatArray) -> FloatArray:
        X = self.lift.X
        p = len(self.rows)
        gram = np.zeros((p, p))
        extended = np.column_stack([X, np.ones(len(X))])
        step = max(1, _SLAB // p)
        for start in range(0, len(X), step):
            part = extended[start : start + step]
            features = part[:, self.rows]
            features *= part[:, self.columns]
            features *= self.weights
            features *= np.sqrt(curvature[start : start + step, None])
            gram += features.T @ features
        return gram

    def _factor(self, G: FloatArray) -> FloatArray:
        """Matrix of ``S -> G S G^T`` on the entries of symmetric matrices."""
        i, j = self.rows, self.columns
        out = G[np.ix_(i, i)] * G[np.ix_(j, j)]
        out += G[np.ix_(i, j)] * G[np.ix_(j, i)]
        return out * (0.5 * self.stretch[:, None] * self.stretch)

    def solve(self, r: FloatArray, rd: FloatArray) -> Change:
        """Back substitution; the maps between samples and entries go through the matrices."""
        right = self._pack(self.lift.adjoint(rd + self.curvature * r))
        w = cho_solve(self.factor, self.factors.T @ right, check_finite=False)
        e = self.lift.fit(self._unpack(self.factors @ w)) - r
        return Change(rd - self.curvature * e, e, [self._unpack(part) for part in np.split(w, 2)])

    def _pack(self, matrix: FloatArray) -> FloatArray:
        return matrix[self.rows, self.columns] * self.stretch

    def _unpack(self, entries: FloatArray) -> FloatArray:
        d = self.lift.X.shape[1]
        out = np.zeros((d + 1, d + 1))
        out[self.rows, self.columns] = entries / self.stretch
        out[self.columns, self.rows] = entries / self.stretch
        return out
