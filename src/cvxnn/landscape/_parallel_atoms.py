r"""All sub-networks of three layers at which a dual-feasible vector attains its dual norm, for the path norm.

On the vectors of given activation patterns and signs, :math:`s\,\nu^\top (\sum_j I_j (X v_j)_+)_+` is linear on a
convex cone, so that at most one point of the ball attains a positive maximum: those that attain beta are finitely many.
Neurons of positive sign only are the pricing problem of two layers, whose maximisers combine freely. All other parts of
the sign patterns are listed unless a bound by multipliers excludes them, and solved by non-negative least squares.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.certificates.parallel_bounds import part_bound
from cvxnn.certificates.parallel_multipliers import MultiplierProgram, Multipliers
from cvxnn.landscape._atoms import NEAR, find_atoms
from cvxnn.patterns import enumerate_patterns
from cvxnn.patterns.limits import Limits
from cvxnn.programs.parallel_groups import linear_group

FloatArray = npt.NDArray[np.float64]
SignArray = npt.NDArray[np.int8]

__all__ = ["Subnetworks", "canonical", "find_subnetworks"]

_SAME = 1e-6
_DIGITS = 7


@dataclass(frozen=True, eq=False)
class Subnetworks:
    """Sub-networks of Frobenius norm one whose value comes near, or reaches, the level.

    Attributes
    ----------
    vectors : ndarray (k, m, d)
    inner : ndarray (k, m)
        Signs of the neurons.
    outputs : ndarray (k,)
    values : ndarray (k,)
    rejected : float
        No other local maximum has a larger value.
    n_parts : int
        Patterns searched and parts of the sign patterns bounded.
    """

    vectors: FloatArray
    inner: FloatArray
    outputs: FloatArray
    values: FloatArray
    rejected: float
    n_parts: int

    def above(self, level: float) -> Subnetworks:
        """Only those whose value reaches the level."""
        keep = self.values >= level
        rejected = max(self.rejected, float(np.max(self.values[~keep], initial=0.0)))
        arrays = (self.vectors[keep], self.inner[keep], self.outputs[keep], self.values[keep])
        return Subnetworks(*arrays, rejected, self.n_parts)


def find_subnetworks(X: FloatArray, nu: FloatArray, beta: float, m: int, *, limits: Limits) -> Subnetworks:
    """Find every sub-network at which a local maximum of either output sign comes near beta.

    Parameters
    ----------
    X : ndarray (n, d)
        Of order one.
    nu : ndarray (n,)
        Dual vector.
    beta : float
        The level; maxima of at least ``(1 - NEAR / m) beta`` are returned.
    m : int
        Neurons of a sub-network.
    limits : Limits

    Raises
    ------
    PatternLimitError
        When a limit is exceeded.
    """
    floor = (1.0 - NEAR / m) * beta
    rows = (nu != 0.0) & np.any(X != 0.0, axis=1)
    found = _all_positive(X, nu, beta, m, floor, limits)
    count = found[1]
    points: list[tuple[FloatArray, FloatArray, float]] = found[0]
    if np.any(rows):
        cells = np.where(enumerate_patterns(X[rows]).masks, 1, -1).astype(np.int8)
        for output, plus in itertools.product((1.0, -1.0), range(1, m)):
            search = _MixedSigns(X[rows], nu[rows], output, plus, m, cells, floor, limits)
            points += search.run()
            count += search.n_parts
    vectors = np.array([v for v, _, _ in points]).reshape(len(points), m, X.shape[1])
    inner = np.array([s for _, s, _ in points]).reshape(len(points), m)
    outputs = np.array([o for _, _, o in points], dtype=np.float64)
    hidden = np.einsum("kmn,km->kn", np.maximum(vectors @ X.T, 0.0), inner)
    values = outputs * (np.maximum(hidden, 0.0) @ nu)
    order = _distinct(vectors, inner, outputs, values)
    return Subnetworks(vectors[order], inner[order], outputs[order], values[order], floor, count)


def canonical(vectors: FloatArray, inner: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Order the neurons of one sub-network: positive signs first, then by coordinates; neurons of no weight last."""
    sizes = np.linalg.norm(vectors, axis=1)
    gone = sizes <= _SAME * float(np.max(sizes, initial=0.0))
    signs = np.where(gone, 1.0, inner)
    keys = np.round(vectors, _DIGITS) + 0.0
    order = np.lexsort((*keys.T[::-1], -signs, gone))
    return vectors[order], signs[order]


def _all_positive(
    X: FloatArray, nu: FloatArray, beta: float, m: int, floor: float, limits: Limits
) -> tuple[list[tuple[FloatArray, FloatArray, float]], int]:
    """Combinations, with repetition, of the maximisers of two layers, whose level is lower by the root of m."""
    atoms = find_atoms(X, nu, beta / np.sqrt(m), limits=limits)
    found = []
    for output in (1.0, -1.0):
        mine = np.flatnonzero(atoms.outputs == output)
        for chosen in itertools.combinations_with_replacement(mine.tolist(), m):
            limits.check_time()
            values = atoms.values[list(chosen)]
            size = float(np.linalg.norm(values))
            if size >= floor:
                vectors = atoms.directions[list(chosen)] * (values / size)[:, None]
                found.append((*canonical(vectors, np.ones(m)), output))
    return found, atoms.n_patterns


class _MixedSigns:
    """Maximisers with ``plus`` neurons of positive sign, which come first, and at least one of negative sign."""

    def __init__(
        self,
        X: FloatArray,
        nu: FloatArray,
        output: float,
        plus: int,
        m: int,
        cells: SignArray,
        floor: float,
        limits: Limits,
    ) -> None:
        self.X, self.c, self.output, self.m, self.cells = X, output * nu, output, m, cells
        self.signs = np.array([1] * plus + [-1] * (m - plus), dtype=np.int8)
        self.floor, self.limits = floor, limits
        self.program = MultiplierProgram(X, self.signs, "path")
        self.n_parts = 0

    def run(self) -> list[tuple[FloatArray, FloatArray, float]]:
        """Maximisers whose value reaches the floor, possibly repeated."""
        found = []
        n = len(self.c)
        stack: list[tuple[tuple[int, ...], SignArray]] = [((), np.zeros(n, dtype=np.int8))]
        while stack:
            self.limits.check_time()
            chosen, outer = stack.pop()
            inner = np.zeros((self.m, n), dtype=np.int8)
            inner[: len(chosen)] = self.cells[list(chosen)]
            complete = len(chosen) == self.m
            if complete:
                outer = self._with_decided(inner, outer)
            self.n_parts += 1
            if complete and np.all(outer != 0):
                point = self._maximiser(inner, outer)
                found += [] if point is None else [(*canonical(point, self.signs.astype(np.float64)), self.output)]
                continue
            hint = self.program.solve(self.c, inner, outer)
            if hint is not None and self._bound(inner, outer, hint) < self.floor:
                continue
            stack += self._split_outer(inner, outer, chosen, hint) if complete else self._next_neuron(chosen, outer)
        return found

    def _bound(self, inner: SignArray, outer: SignArray, hint: Multipliers) -> float:
        return part_bound(self.X, self.c, self.signs, inner, outer, hint, "path")

    def _next_neuron(self, chosen: tuple[int, ...], outer: SignArray) -> Iterator[tuple[tuple[int, ...], SignArray]]:
        """Patterns of the next neuron; neurons of one sign come in the order of their patterns."""
        j = len(chosen)
        first = chosen[-1] if j and self.signs[j] == self.signs[j - 1] else 0
        return (((*chosen, cell), outer) for cell in range(first, len(self.cells)))

    def _with_decided(self, inner: SignArray, outer: SignArray) -> SignArray:
        """Signs of the sum where only neurons of one sign are active: they follow."""
        above = np.any(inner[self.signs > 0] > 0, axis=0)
        below = np.any(inner[self.signs < 0] > 0, axis=0)
        return np.where(~above, -1, np.where(~below, 1, outer)).astype(np.int8)

    def _split_outer(
        self, inner: SignArray, outer: SignArray, chosen: tuple[int, ...], hint: Multipliers | None
    ) -> list[tuple[tuple[int, ...], SignArray]]:
        """Both signs of the sum at the open sample that costs the bound most."""
        slack = np.zeros(len(outer))
        if hint is not None:
            hidden = np.maximum(hint.point @ self.X.T, 0.0)
            above, below = hidden[self.signs > 0].sum(axis=0), hidden[self.signs < 0].sum(axis=0)
            slack = hint.p * above + hint.q * below - self.c * np.maximum(above - below, 0.0)
        at = int(np.argmax(np.where(outer == 0, slack, -np.inf)))
        halves = []
        for side in (-1, 1):
            half = outer.copy()
            half[at] = side
            halves.append((chosen, half))
        return halves

    def _maximiser(self, inner: SignArray, outer: SignArray) -> FloatArray | None:
        """Unit vector of the projection of the gradient to the cone of the signs, by non-negative least squares."""
        group = linear_group(self.X, [inner > 0, outer > 0], [self.signs.astype(np.float64)], 1.0)
        # A sum that follows from its neurons needs no constraint of its own, yet one that holds does no harm.
        gradient = group.fit.T @ self.c
        multipliers, _ = nnls(group.cone.T, -gradient, maxiter=50 * len(group.cone))
        residual = gradient + group.cone.T @ multipliers
        length = float(np.linalg.norm(residual))
        return (residual / length).reshape(self.m, -1) if length >= self.floor else None


def _distinct(vectors: FloatArray, inner: FloatArray, outputs: FloatArray, values: FloatArray) -> npt.NDArray[np.intp]:
    """Indices of one sub-network of each group closer than the tolerance, sorted by signs, then by coordinates."""
    chosen: list[int] = []
    for i in np.argsort(-values, kind="stable"):
        near = np.linalg.norm(vectors[chosen] - vectors[i], axis=(1, 2)) <= _SAME
        same = (outputs[chosen] == outputs[i]) & np.all(inner[chosen] == inner[i], axis=1)
        if not np.any(near & same):
            chosen.append(int(i))
    index = np.array(chosen, dtype=np.intp)
    keys = np.round(vectors[index].reshape(len(index), vectors[0].size), 6) + 0.0 if chosen else np.zeros((0, 1))
    return index[np.lexsort((*keys.T[::-1], *(-inner[index]).T[::-1], -outputs[index]))]
