"""Normal form of the data for pattern work: scaled, of full rank, one representative row per line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cvxnn._tall_tables import triangle
from cvxnn.networks import unit_rows
from cvxnn.patterns._rank import RANK_TOLERANCE, equilibrate

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LINE_TOLERANCE = 1e-9
"""Unit rows closer than this (up to sign) lie on one line; the same angle decides in restricted arrangements.

Rounding in double precision moves dependent rows apart by 1e-16 to 1e-12, depending on the conditioning.
"""

_BALANCING_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Geometry:
    """Arrangement of the hyperplanes ``x_j^T g = 0`` in coordinates that suit floating point.

    Patterns do not change when rows are scaled by positive factors or columns by any factors, nor under
    invertible maps of the gates; so rows are normalised and their second moment is made the identity.
    """

    rows: FloatArray
    """(n, d) unit rows after column scaling; zero rows stay zero."""
    nonzero: BoolArray
    """(n,) which samples are not zero."""
    exponents: npt.NDArray[np.int32]
    """(d,) ``rows`` are the samples times ``2.0**exponents``, up to factors of the rows."""
    basis: FloatArray
    """(d, r) a gate ``z`` of the lines is the gate ``basis @ z`` of ``rows``."""

    @cached_property
    def lines(self) -> FloatArray:
        """One unit row ``(m, r)`` for each line through the origin that carries a sample."""
        return self.lines_among(slice(None))

    def lines_among(self, samples: slice) -> FloatArray:
        """One unit row for each line that carries one of these samples."""
        nonzero, rows = self.nonzero[samples], self.rows[samples]
        # No copy where nothing is left out: of many rows hardly any ever is.
        lines = _to_unit((rows if nonzero.all() else rows[nonzero]) @ self.basis)
        chosen = line_representatives(lines)
        return lines if len(chosen) == len(lines) else lines[chosen]

    @property
    def rank(self) -> int:
        """Rank of the data, the dimension of ``lines``."""
        return self.basis.shape[1]

    def gates_of_rows(self, gates: FloatArray) -> FloatArray:
        """Map gates (P, r) of the lines to unit gates (P, d) of ``rows``."""
        return unit_rows(gates @ self.basis.T)

    def gates_of_data(self, gates: FloatArray) -> FloatArray:
        """Map gates (P, d) of ``rows`` to unit gates (P, d) of the data as the user gave them."""
        return unit_rows(np.ldexp(gates, self.exponents))


def describe(X: FloatArray) -> Geometry:
    """Bring data (n, d) into normal form."""
    rows, exponents = equilibrate(X)
    nonzero = np.any(rows, axis=1)
    _to_unit(rows)
    basis = _balanced_basis(rows if nonzero.all() else rows[nonzero])
    return Geometry(rows=rows, nonzero=nonzero, exponents=exponents, basis=basis)


def _to_unit(rows: FloatArray) -> FloatArray:
    """Divide each nonzero row by its Euclidean norm, in place."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.where(norms > 0, norms, 1.0)[:, None]
    return rows


def _balanced_basis(rows: FloatArray) -> FloatArray:
    """Map (d, r) after which the unit rows spread over all directions, so that no cell is needle-thin."""
    if rows.shape[0] == 0:
        return np.zeros((rows.shape[1], 0))
    _, values, right = np.linalg.svd(triangle(rows), full_matrices=False)
    rank = int(np.count_nonzero(values > RANK_TOLERANCE * values[0]))
    basis = right[:rank].T / values[:rank]
    for _ in range(_BALANCING_ROUNDS - 1):
        _, values, right = np.linalg.svd(triangle(_to_unit(rows @ basis)), full_matrices=False)
        basis = basis @ (right.T / values)
    return np.ascontiguousarray(basis)


def line_representatives(rows: FloatArray) -> npt.NDArray[np.intp]:
    """Return ascending indices of one unit row (n, r) for each line through the origin."""
    n, rank = rows.shape
    if n == 0 or rank == 0:
        return np.empty(0, dtype=np.intp)
    if rank == 1:
        return np.zeros(1, dtype=np.intp)
    # Rows on one line have equal keys, so that only rows with near-equal keys are compared with each other.
    key = np.abs(rows @ unit_rows(np.random.default_rng(0).standard_normal((1, rank)))[0])
    order = np.argsort(key, kind="stable")
    breaks = np.flatnonzero(np.diff(key[order]) > LINE_TOLERANCE) + 1
    edges = np.concatenate([[0], breaks, [n]]).astype(np.intp)
    starts, stops = edges[:-1], edges[1:]
    alone = stops == starts + 1
    found = [order[starts[alone]]]
    for start, stop in zip(starts[~alone], stops[~alone], strict=True):
        found.append(_compare_all(rows, np.sort(order[start:stop])))
    return np.sort(np.concatenate(found))


def _compare_all(rows: FloatArray, candidates: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    kept = []
    while candidates.size:
        first = candidates[0]
        kept.append(first)
        aligned = rows[candidates] * np.where(rows[candidates] @ rows[first] < 0, -1.0, 1.0)[:, None]
        distances = np.linalg.norm(aligned - rows[first], axis=1)
        candidates = candidates[distances > LINE_TOLERANCE]
    return np.array(kept, dtype=np.intp)
