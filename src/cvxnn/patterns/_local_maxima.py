"""Local maxima of ``h(u) = sum_j sigma_j (y_j^T u)_+`` on the unit sphere, batched over many starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import qr

from cvxnn.networks import unit_rows

from ._box_rows import BoxRows
from ._concave_step import Float, box_residuals, expired

Bool = npt.NDArray[np.bool_]

_COARSE, _FINE = 1e-6, 1e-12  # relative duality gaps of the concave steps
_ZERO_ROW = 1e-4  # |y^T u| / ||y|| below which a coarse maximum is taken to lie on the hyperplane of y
_ZERO_ROW_FINE = 1e-6
_CONVEX_ZERO = 1e-9
_BATCH_ENTRIES = 2_000_000  # of a batch of directions times rows
_STEP_ENTRIES = 500_000  # of the same in a concave step, which has a dozen such arrays, or of its d x d systems
_MAX_ROUNDS = 100


@dataclass(frozen=True)
class Maxima:
    """Directions with their values, both in scaled units; ``masks`` are the active convex rows."""

    points: Float
    values: Float
    masks: Bool = field(repr=False)

    def take(self, index: npt.NDArray[np.intp] | Bool) -> Maxima:
        """Keep the entries ``index``."""
        return Maxima(self.points[index], self.values[index], self.masks[index])

    def join(self, other: Maxima) -> Maxima:
        """Append the entries of ``other``."""
        return Maxima(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.masks, other.masks]),
        )

    def best(self, count: int) -> Maxima:
        """Return the ``count`` entries of largest value, in decreasing order."""
        return self.take(np.argsort(-self.values, kind="stable")[:count])


class Landscape:
    """The function ``h(u) = sum_j sigma_j (y_j^T u)_+`` with its ascent methods.

    Rows with ``sigma_j > 0`` form the convex part, the others the concave part.  A direction enters the
    concave step only through the set of convex rows that it activates, so no set is solved twice.
    """

    def __init__(self, rows: Float, sigma: Float, deadline: float | None) -> None:
        self._rows, self._sigma, self._deadline = rows, sigma, deadline
        self._convex, self._concave = rows[sigma > 0], rows[sigma < 0]
        # A convex row that vanishes counts as active: entering it can only raise the value.
        self._active_from = -_CONVEX_ZERO * np.linalg.norm(self._convex, axis=1)
        self._boxes = BoxRows(self._concave)

    def value(self, directions: Float) -> Float:
        """``h`` at each direction."""
        first, *others = self._slabs(len(directions))
        total = np.maximum(directions @ self._rows[first].T, 0.0) @ self._sigma[first]
        for slab in others:
            total += np.maximum(directions @ self._rows[slab].T, 0.0) @ self._sigma[slab]
        return total

    def _slabs(self, count: int) -> list[slice]:
        """Slices of the rows, so that products with so many directions are of moderate size; at least one."""
        n = len(self._rows)
        step = max(1, _BATCH_ENTRIES // max(count, 1))
        return [slice(low, min(low + step, n)) for low in range(0, max(n, 1), step)]

    def describe(self, directions: Float) -> Maxima:
        """Directions with their values and active sets."""
        return Maxima(directions, self.value(directions), self._masks(directions))

    def _masks(self, directions: Float) -> Bool:
        masks = np.empty((len(directions), len(self._convex)), dtype=bool)
        for slab in self._slabs(len(directions)):
            masks[:, slab] = directions @ self._convex[slab].T > self._active_from[slab]
        return masks

    def climb(self, directions: Float, n_steps: int) -> Float:
        """Projected ascent: the gradient direction first, then unit steps that shrink from 1 to 1e-3."""
        rows, sigma = self._rows.astype(np.float32), self._sigma.astype(np.float32)
        out = directions.astype(np.float32)
        slabs = self._slabs(len(out))
        for k, step in enumerate([1.0, *np.geomspace(1.0, 1e-3, n_steps - 1).tolist()]):
            if expired(self._deadline):
                break
            gradient = np.zeros_like(out)
            for slab in slabs:
                gradient += ((out @ rows[slab].T > 0) * sigma[slab]) @ rows[slab]
            length = np.linalg.norm(gradient, axis=1, keepdims=True)
            moved = gradient / np.maximum(length, np.float32(1e-30))
            if k > 0:
                moved = out + np.float32(step) * moved
            size = np.linalg.norm(moved, axis=1, keepdims=True)
            out = np.where((length > 0) & (size > 0), moved / np.maximum(size, np.float32(1e-30)), out)
        return unit_rows(out.astype(np.float64))

    def converge(self, start: Maxima, seen: set[bytes], tol: float = _COARSE) -> Maxima:
        """Alternate linearisation of the convex part and exact concave steps until the active sets repeat.

        Values never decrease.  Starts whose active set is in ``seen`` are left out: its step is known.
        """
        done: list[Maxima] = []
        n, d = self._rows.shape
        size = max(1, _STEP_ENTRIES // max(n, d * d))
        order = start.best(start.values.size)
        for low in range(0, order.values.size, size):
            batch = order.take(np.arange(low, min(low + size, order.values.size)))
            for _ in range(_MAX_ROUNDS):
                batch = batch.take(self._unseen(batch.masks, seen))
                if batch.values.size == 0 or expired(self._deadline):
                    break
                stepped = self._concave_step(batch, tol)
                fixed = (stepped.masks == batch.masks).all(axis=1)
                done.append(stepped.take(fixed))
                batch = stepped.take(~fixed)
            done.append(batch.take(np.isfinite(batch.values)))
        out = start.take(np.zeros(start.values.size, dtype=bool))
        for part in done:
            out = out.join(part)
        return out

    def _unseen(self, masks: Bool, seen: set[bytes]) -> Bool:
        fresh = np.zeros(masks.shape[0], dtype=bool)
        for k, bits in enumerate(np.packbits(masks, axis=1)):
            key = bits.tobytes()
            if key not in seen:
                seen.add(key)
                fresh[k] = True
        return fresh

    def _concave_step(self, batch: Maxima, tol: float) -> Maxima:
        targets = batch.masks @ self._convex
        residuals = box_residuals(self._boxes, targets, tol=tol, starts=batch.points, deadline=self._deadline)
        moved = unit_rows(residuals)
        values = self.value(moved)
        better = values > batch.values  # False for NaN: a failed step leaves its start as it was
        points = np.where(better[:, None], moved, batch.points)
        return Maxima(points, np.where(better, values, batch.values), self._masks(points))

    def flip(self, maxima: Maxima, count: int) -> Maxima:
        r"""Active sets that differ from those of the given maxima in one convex row, ``count`` for each.

        On the face of a maximum ``u`` of value ``v`` a flip of row ``y`` turns ``v^2`` into
        ``v^2 - 2 v |y^T u| + ||N^T y||^2``, where the columns of ``N`` span the face, as long as the maximum
        stays on it; the largest are proposed.  Their points are those of the maxima that they come from, with
        no value.
        """
        sets: list[Bool] = []
        for point, value, mask in zip(maxima.points, maxima.values, maxima.masks, strict=True):
            basis = self._normals(point, _ZERO_ROW)
            on_face = self._convex - (self._convex @ basis) @ basis.T
            score = (on_face**2).sum(axis=1) - 2.0 * value * np.abs(self._convex @ point)
            chosen = np.argsort(-score, kind="stable")[:count]
            flipped = np.repeat(mask[None], chosen.size, axis=0)
            flipped[np.arange(chosen.size), chosen] ^= True
            sets.append(flipped)
        masks = np.concatenate(sets) if sets else np.zeros((0, self._convex.shape[0]), dtype=bool)
        points = np.repeat(maxima.points, [len(flipped) for flipped in sets], axis=0)
        return Maxima(points, np.full(masks.shape[0], -np.inf), masks)

    def _normals(self, point: Float, tol: float) -> Float:
        """Orthonormal basis of the span of the concave rows that vanish at ``point``."""
        near = np.abs(self._concave @ point) <= tol * self._boxes.norms
        if not near.any():
            return np.zeros((point.size, 0))
        normals = unit_rows(self._concave[near])
        factors: Any = qr(normals.T, mode="economic", pivoting=True)
        rank = int((np.abs(np.diag(factors[1])) > 1e-9).sum())
        return factors[0][:, :rank]

    def explore(self, start: Maxima, leaders: int, flips: int) -> Maxima:
        """Converge, then expand the best ``leaders`` by one-row flips until all of them are expanded."""
        seen: set[bytes] = set()
        found = self.converge(start, seen)
        expanded: set[bytes] = set()
        while not expired(self._deadline):
            top = found.best(leaders)
            fresh = self._unseen(top.masks, expanded)
            if not fresh.any():
                break
            found = found.join(self.converge(self.flip(top.take(fresh), flips), seen))
        return found

    def polish(self, maxima: Maxima) -> Maxima:
        """Repeat the concave steps at full accuracy and put every maximum exactly on its kinks."""
        fine = self.converge(maxima, set(), _FINE)
        points, values = fine.points.copy(), fine.values.copy()
        for k in range(values.size):
            if expired(self._deadline):
                break
            basis = self._normals(points[k], _ZERO_ROW_FINE)
            gradient = fine.masks[k] @ self._convex - self._active_sum(points[k])
            snapped = gradient - basis @ (basis.T @ gradient)
            snapped = unit_rows((snapped - basis @ (basis.T @ snapped))[None])
            value = self.value(snapped)[0]
            if value >= values[k]:
                points[k], values[k] = snapped[0], value
        return Maxima(points, values, fine.masks)

    def _active_sum(self, point: Float) -> Float:
        """Sum of the concave rows that are clearly active at ``point``."""
        return self._concave[self._concave @ point > _ZERO_ROW_FINE * self._boxes.norms].sum(axis=0)
