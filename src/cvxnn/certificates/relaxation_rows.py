"""Rows of a relaxation: unit vectors on distinct lines in coordinates of the row space, every rounding bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._reduced_norm import lift_units, line_groups
from cvxnn.certificates._rounding import TINY, FloatArray, basis_norm_up, gamma, norm_up

__all__ = ["RelaxationRows", "RowWeights", "reduce_rows"]


@dataclass(frozen=True)
class RowWeights:
    """A dual vector on the reduced rows: ``2**power * (s^T (R z)_+ + t^T (-R z)_+)``, up to ``slack``.

    Attributes
    ----------
    s, t : ndarray (g,)
    slack : float
        Bound of the difference over the unit ball, in units of ``2**power``.
    power : int
    """

    s: FloatArray
    t: FloatArray
    slack: float
    power: int


@dataclass(frozen=True)
class RelaxationRows:
    """Data ``X (n, d)`` as ``x_j ~ 2**exponent * side_j * length_j * basis @ rows[group_j]``.

    Attributes
    ----------
    rows : ndarray (g, r)
        One row a line through the origin, of length 1 up to rounding.
    basis : ndarray (d, r) or None
        Orthonormal up to rounding; None is the identity.
    samples : ndarray (k,)
        Samples with a nonzero row.
    group : ndarray (k,)
        Line of each of these samples.
    side : ndarray (k,)
        +1 where ``(x_j^T u)_+`` is ``s`` of the line, -1 where it is ``t``.
    length : ndarray (k,)
        Norms of the samples.
    defect : ndarray (k,)
        Upper bounds of the distances between both sides of the approximation, in units of ``2**exponent``.
    factor : float
        Upper bound of the spectral norm of the basis.
    exponent : int
    n_samples : int
    """

    rows: FloatArray
    basis: FloatArray | None
    samples: npt.NDArray[np.intp]
    group: npt.NDArray[np.intp]
    side: npt.NDArray[np.int8]
    length: FloatArray
    defect: FloatArray
    factor: float
    exponent: int
    n_samples: int

    @property
    def rank(self) -> int:
        """Number of coordinates r."""
        return self.rows.shape[1]

    def weights(self, nu: FloatArray) -> RowWeights:
        """Carry a dual vector ``(n,)`` over to the reduced rows."""
        live = nu[self.samples]
        g = len(self.rows)
        top = float(np.max(np.abs(live), initial=0.0))
        if top == 0.0:
            return RowWeights(np.zeros(g), np.zeros(g), 0.0, 0)
        power = math.frexp(top)[1]
        live = np.ldexp(live, -power)  # exact up to underflow, which TINY pads
        product = live * self.length
        up = self.side > 0
        s: FloatArray = np.bincount(self.group[up], weights=product[up], minlength=g).astype(np.float64)
        t: FloatArray = np.bincount(self.group[~up], weights=product[~up], minlength=g).astype(np.float64)
        pad = 1.0 + 2.0 * gamma(len(live) + 4)
        size = float(np.abs(product) @ norm_up(self.rows)[self.group]) * pad
        slack = float(np.abs(live) @ self.defect) * pad + self.factor * gamma(len(live) + 4) * size
        return RowWeights(s, t, slack * (1.0 + 1e-15) + TINY * len(live), power)

    def upper(self, value: float, weights: RowWeights) -> float:
        """Carry an upper bound over the unit ball of reduced coordinates back to the original ones, rounding up."""
        padded = (max(value, 0.0) * self.factor + weights.slack) * (1.0 + 4e-16)
        if padded == 0.0:
            return 0.0
        try:
            # The scaling is exact unless the result is subnormal.
            return math.nextafter(math.ldexp(padded, self.exponent + weights.power), math.inf)
        except OverflowError:
            return math.inf

    def lift(self, directions: FloatArray) -> FloatArray:
        """Map reduced directions ``(k, r)`` to unit vectors ``(k, d)``; zero stays zero."""
        return lift_units(directions, self.basis)


def reduce_rows(X: FloatArray) -> RelaxationRows:
    """Return the reduced rows of finite data ``X (n, d)``; zero rows are left out, parallel ones share a line.

    Examples
    --------
    >>> reduced = reduce_rows(np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [-6.0, -8.0, 0.0]]))
    >>> reduced.rows.shape, reduced.samples.tolist(), reduced.side.tolist()
    ((1, 1), [0, 2], [1, -1])
    """
    n, d = X.shape
    samples = np.flatnonzero(np.any(X != 0.0, axis=1))
    if samples.size == 0:
        return _empty(n, d)
    exponent = math.frexp(float(np.max(np.abs(X))))[1]
    X = np.ldexp(X[samples], -exponent)  # exact up to underflow
    # Rows far below the largest one lose their squares; scaled by their largest entry they keep them.
    largest = np.max(np.abs(X), axis=1)
    largest[largest == 0.0] = 1.0
    scaled = X / largest[:, None]
    norms = np.sqrt(np.sum(scaled * scaled, axis=1))
    units = scaled / np.where(norms > 0.0, norms, 1.0)[:, None]
    heads, group = _lines(units)
    side = np.where(np.sum(units * units[heads][group], axis=1) < 0.0, -1, 1).astype(np.int8)
    length = norms * largest
    rows, basis = _rotate(units[heads])
    near = (side * length)[:, None] * (rows[group] if basis is None else rows[group] @ basis.T)
    size = length[:, None] * (np.abs(rows[group]) if basis is None else np.abs(rows[group]) @ np.abs(basis).T)
    # Entrywise rounding of the product, of its scaling and of the difference; 2 covers that of the bound itself.
    error = 2.0 * gamma(rows.shape[1] + 4) * (size + np.abs(X))
    defect = norm_up(np.abs(X - near) + error) + TINY
    factor = 1.0 if basis is None else basis_norm_up(basis)
    return RelaxationRows(rows, basis, samples, group, side, length, defect, factor, exponent, n)


def _empty(n: int, d: int) -> RelaxationRows:
    none = np.zeros(0, dtype=np.intp)
    zero: FloatArray = np.zeros(0)
    return RelaxationRows(np.zeros((0, 1)), np.eye(d, 1), none, none, np.zeros(0, np.int8), zero, zero, 1.0, 0, n)


def _lines(units: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First sample of each line, and the line of each sample; lines come in the order of their first samples."""
    group = line_groups(units, np.ones(len(units)))
    first = np.unique(group, return_index=True)[1]
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[group]


def _rotate(units: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Coordinates of the row space."""
    n, d = units.shape
    if d == 1:
        return units, None
    _, sigma, Vt = np.linalg.svd(units, full_matrices=False)
    rank = max(1, int(np.sum(sigma > max(n, d) * 2.0**-52 * sigma[0])))
    if rank == d:
        return units, None
    basis = np.ascontiguousarray(Vt[:rank].T)
    return units @ basis, basis
