"""Projection on the cones of activation patterns: the dual active-set method, for many cones at once."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

__all__ = ["ConeProjector"]

_DEPENDENT = 1e-12
"""Squared part of a unit row outside the span of the active rows below which it counts as dependent on them."""

_DRIFT = 1e-11
"""Error of a projection, as a share of the length of the point, at which its factors are computed afresh."""

_INSIDE = 1e-14
"""Share of the length of the point, times the square root of d, that a slack may miss zero by."""

_NUMBERS = 20_000_000
"""Numbers held in factors at a time; cones beyond them keep their active sets only."""

_SLAB = 4_000_000
"""Slacks held at a time."""


class ConeProjector:
    r"""Active sets of the projections on cones ``{u : (2 D - I) X u >= 0}``, kept from one point to the next.

    For a point x the projection is :math:`u = x + N \lambda`, with the oriented unit rows N of the active set and
    :math:`\lambda \ge 0`. At every step of the method the multipliers are non-negative and ``u`` is the projection on
    the subspace orthogonal to N, so stopping early leaves an upper bound ``||u||`` of the norm of the projection.

    Parameters
    ----------
    rows : ndarray (n, d)
        Unit rows of X; zero rows stay zero.
    masks : ndarray (K, n) of bool
        One pattern for each cone.

    References
    ----------
    Goldfarb and Idnani (1983), "A numerically stable dual method for solving strictly convex quadratic programs".
    """

    def __init__(self, rows: FloatArray, masks: BoolArray) -> None:
        count, d = len(masks), rows.shape[1]
        self.rows = rows
        self.sides = 2 * masks.astype(np.int8) - 1
        self.active = np.full((count, d), -1, dtype=np.intp)
        self.multipliers = np.zeros((count, d))
        self.room = max(1, min(count, _NUMBERS // (2 * d * d)))
        self._home = np.full(count, -1, dtype=np.intp)
        self._free = self.room
        self.duals = np.zeros((self.room, d, d))
        self.projectors = np.zeros((self.room, d, d))

    def project(
        self,
        points: FloatArray,
        which: IntArray,
        *,
        enough: float = -1.0,
        deadline: float = np.inf,
    ) -> FloatArray:
        """Project ``points (k, d)`` on the cones ``which (k,)``, each named once, from their last active sets.

        Parameters
        ----------
        points : ndarray (k, d)
        which : ndarray (k,) of int
        enough : float
            Work on a cone ends once the length of its vector has come down to this.
        deadline : float
            On the clock of ``time.perf_counter``.

        Returns
        -------
        ndarray (k, d)
            Projections, up to rounding; where work ended early, the point that belongs to the multipliers found.
        """
        out = np.empty_like(points)
        size = min(self.room, max(1, _SLAB // max(len(self.rows), 1)))
        for first in range(0, len(which), size):
            part = slice(first, first + size)
            out[part] = self._project(points[part], which[part], enough, deadline)
        return out

    def dimension(self, cone: int) -> int:
        """Dimension of the subspace orthogonal to the active rows of a cone."""
        return int(np.count_nonzero(self.active[cone] < 0))

    def basis(self, cone: int) -> FloatArray:
        """Orthonormal basis ``(d, q)`` of that subspace."""
        used = self.active[cone][self.active[cone] >= 0]
        return np.linalg.qr(self.rows[used].T, mode="complete")[0][:, used.size :]

    def dense_multipliers(self, which: IntArray) -> FloatArray:
        """Multipliers of the unit rows of the cones ``which (k,)``, ``(k, n)``."""
        active, values = self.active[which], self.multipliers[which]
        out = np.zeros((len(which), len(self.rows)))
        cone, slot = np.nonzero(active >= 0)
        out[cone, active[cone, slot]] = values[cone, slot]
        return out

    def _project(self, points: FloatArray, which: IntArray, enough: float, deadline: float) -> FloatArray:
        self._load(which)
        out = self._run(points, which, enough, deadline)
        off = np.flatnonzero(self._error(points, which, out) > _DRIFT * np.linalg.norm(points, axis=1))
        if off.size and time.perf_counter() < deadline:
            self._refactor(which[off])
            out[off] = self._run(points[off], which[off], enough, deadline)
        elif off.size:
            # No time for new factors: the multipliers found have a point in any case.
            out[off] = self._points_of_multipliers(points[off], which[off])
        return out

    def _points_of_multipliers(self, points: FloatArray, which: IntArray) -> FloatArray:
        """``x + N lambda``."""
        return points + np.matmul(self.multipliers[which][:, None, :], self._normals(which))[:, 0]

    def _run(self, points: FloatArray, which: IntArray, enough: float, deadline: float) -> FloatArray:
        batch = _Batch(self, points, which, enough)
        batch.make_dual_feasible()
        for _ in range(20 * self.rows.shape[1] + 100):
            if not batch.step() or time.perf_counter() >= deadline:
                break
        return batch.finish()

    def home(self, which: IntArray) -> IntArray:
        """Place of the factors of cones."""
        return self._home[which]

    def _load(self, which: IntArray) -> None:
        """Make sure that the cones have their factors."""
        missing = which[self._home[which] < 0]
        if missing.size > self._free:
            self._home[:] = -1
            self._free = self.room
            missing = which
        if missing.size:
            first = self.room - self._free
            self._home[missing] = np.arange(first, first + missing.size)
            self._free -= missing.size
            self._refactor(missing)

    def _refactor(self, which: IntArray) -> None:
        """Compute projectors and dual vectors of the active sets afresh."""
        home, d = self._home[which], self.rows.shape[1]
        order = np.argsort(self.active[which] < 0, axis=1, kind="stable")
        self.active[which] = np.take_along_axis(self.active[which], order, axis=1)
        self.multipliers[which] = np.take_along_axis(self.multipliers[which], order, axis=1)
        used = self.active[which] >= 0
        if not used.any():
            self.projectors[home] = np.eye(d)
            self.duals[home] = 0.0
            return
        basis, triangle = np.linalg.qr(self._normals(which).transpose(0, 2, 1))
        across = np.where(used[:, None, :], basis, 0.0).transpose(0, 2, 1)
        triangle = np.where(used[:, None, :], triangle, np.eye(d))
        self.projectors[home] = np.eye(d) - np.matmul(across.transpose(0, 2, 1), across)
        self.duals[home] = np.linalg.solve(triangle, across)

    def _normals(self, which: IntArray) -> FloatArray:
        """Oriented active rows ``(k, slots, d)``, zero in empty slots."""
        active = self.active[which]
        side = self.sides[which[:, None], active] * (active >= 0)
        return side[:, :, None] * self.rows[active]

    def _error(self, points: FloatArray, which: IntArray, vectors: FloatArray) -> FloatArray:
        """Largest error of ``u = x + N lambda`` and ``N^T u = 0``."""
        normals = self._normals(which)
        error = np.abs(self._points_of_multipliers(points, which) - vectors).max(axis=1, initial=0.0)
        return np.maximum(error, np.abs(_apply(normals, vectors)).max(axis=1, initial=0.0))


class _Batch:
    """Cones that are worked on; those that are done are written back and leave."""

    def __init__(self, store: ConeProjector, points: FloatArray, which: IntArray, enough: float) -> None:
        home = store.home(which)
        self.store = store
        self.enough = enough
        self.result = np.array(points)
        self.place = np.arange(len(which))
        self.which = which
        self.points = points
        self.tolerance = _INSIDE * np.sqrt(points.shape[1]) * np.linalg.norm(points, axis=1)
        self.active = store.active[which]
        self.duals = store.duals[home]
        self.projectors = store.projectors[home]
        self.vectors = _apply(self.projectors, points)
        self.multipliers = -_apply(self.duals, points)
        self.pending = np.full(len(which), -1, dtype=np.intp)
        self.pushed = np.zeros(len(which))
        self.busy = np.ones(len(which), dtype=bool)

    def make_dual_feasible(self) -> None:
        """Take rows with negative multipliers out of the active sets, the most negative first."""
        while True:
            worst = np.argmin(self.multipliers, axis=1)
            at = np.flatnonzero(self.multipliers[np.arange(len(worst)), worst] < 0.0)
            if at.size == 0:
                return
            self._drop(at, worst[at])
            self.vectors[at] = _apply(self.projectors[at], self.points[at])
            self.multipliers[at] = -_apply(self.duals[at], self.points[at])

    def step(self) -> bool:
        """Find the most violated row of each cone and move towards satisfying it; False once all cones are done."""
        self._choose_rows()
        if not self.busy.any():
            return False
        every = np.arange(self.place.size)
        side = self.store.sides[self.which, self.pending] * self.busy
        normals = side[:, None] * self.store.rows[self.pending]
        # Twice is enough: rounding leaves a part along the active rows that would grow with every change.
        across = _apply(self.projectors, _apply(self.projectors, normals))
        along = _apply(self.duals, normals)
        square = np.einsum("kd,kd->k", across, across)
        shortfall = -np.einsum("kd,kd->k", normals, self.vectors)
        free = square > _DEPENDENT
        full = np.where(free, shortfall / np.where(free, square, 1.0), np.inf)
        ratios = np.where(along > 0.0, self.multipliers / np.where(along > 0.0, along, 1.0), np.inf)
        slot = np.argmin(ratios, axis=1)
        part = ratios[every, slot]
        length = np.maximum(np.minimum(full, part), 0.0)
        # Rounding alone can make a cone look empty: what was found so far stays valid.
        self.busy &= np.isfinite(length)
        length[~self.busy] = 0.0
        self.vectors += np.where(free, length, 0.0)[:, None] * across
        self.multipliers = np.maximum(self.multipliers - length[:, None] * along, 0.0)
        self.pushed += length
        adding = np.flatnonzero(self.busy & (full <= part))
        self._add(adding, across[adding], along[adding], square[adding])
        dropping = np.flatnonzero(self.busy & (full > part))
        self._drop(dropping, slot[dropping])
        return True

    def finish(self) -> FloatArray:
        """Write everything back; returns the vectors."""
        self._write_back(np.arange(self.place.size))
        return self.result

    def _choose_rows(self) -> None:
        idle = np.flatnonzero(self.busy & (self.pending < 0))
        if idle.size == 0:
            return
        inner = self.vectors[idle] @ self.store.rows.T
        inner *= self.store.sides[self.which[idle]]
        row = np.argmin(inner, axis=1)
        violated = inner[np.arange(idle.size), row] < -self.tolerance[idle]
        violated &= np.linalg.norm(self.vectors[idle], axis=1) > self.enough
        # A row that is already active is violated by rounding only.
        violated &= ~np.any(self.active[idle] == row[:, None], axis=1)
        self.pending[idle[violated]] = row[violated]
        self.pushed[idle[violated]] = 0.0
        self.busy[idle[~violated]] = False
        if 4 * np.count_nonzero(self.busy) < 3 * self.busy.size:
            self._leave()

    def _leave(self) -> None:
        """Write back the cones that are done, and go on with the others."""
        self._write_back(np.flatnonzero(~self.busy))
        names = ("place", "which", "points", "tolerance", "active", "duals", "projectors")
        for name in (*names, "vectors", "multipliers", "pending", "pushed", "busy"):
            setattr(self, name, getattr(self, name)[self.busy] if name != "busy" else self.busy[self.busy])

    def _write_back(self, gone: IntArray) -> None:
        store, which = self.store, self.which[gone]
        home = store.home(which)
        store.active[which], store.multipliers[which] = self.active[gone], self.multipliers[gone]
        store.duals[home], store.projectors[home] = self.duals[gone], self.projectors[gone]
        self.result[self.place[gone]] = self.vectors[gone]

    def _add(self, at: IntArray, across: FloatArray, along: FloatArray, square: FloatArray) -> None:
        if at.size == 0:
            return
        slot = np.argmax(self.active[at] < 0, axis=1)
        dual = across / square[:, None]
        self.duals[at] -= along[:, :, None] * dual[:, None, :]
        self.duals[at, slot] = dual
        self.projectors[at] -= across[:, :, None] * dual[:, None, :]
        self.active[at, slot] = self.pending[at]
        self.multipliers[at, slot] = self.pushed[at]
        self.pending[at] = -1

    def _drop(self, at: IntArray, slot: IntArray) -> None:
        if at.size == 0:
            return
        gone = self.duals[at, slot]
        unit = gone / np.linalg.norm(gone, axis=1)[:, None]
        part = _apply(self.duals[at], unit)
        self.duals[at] -= part[:, :, None] * unit[:, None, :]
        self.duals[at, slot] = 0.0
        self.projectors[at] += unit[:, :, None] * unit[:, None, :]
        self.active[at, slot] = -1
        self.multipliers[at, slot] = 0.0


def _apply(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]
