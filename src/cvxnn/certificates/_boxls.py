"""Batches of small box-constrained least-squares problems, ``min || q - A z ||`` over ``0 <= z <= h``.

A primal-dual interior-point method (Mehrotra, 1992) on many problems at once. Every iterate is strictly inside the
box, so whatever the accuracy reached the result is feasible; a bound built on it is valid, merely less tight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear, nnls

FloatArray = npt.NDArray[np.float64]

# Complementarity below which the Newton systems lose their digits; the polish does the rest.
_FLOOR = 1e-11
# Proximal term of the Newton systems; it bounds their condition and leaves the fixed point alone.
_PROXIMAL = 1e-11


@dataclass(frozen=True)
class BoxSolution:
    """Multipliers ``z (B, J)`` inside their boxes and residuals ``q - A z (B, r)``."""

    z: FloatArray
    residual: FloatArray


def solve_boxes(
    q: FloatArray,
    A: FloatArray,
    upper: FloatArray,
    *,
    threshold: float | None = None,
    max_iter: int = 30,
    tol: float = 1e-10,
    polish: bool = True,
) -> BoxSolution:
    """Minimise ``|| q_b - A_b z ||`` over ``0 <= z <= upper_b`` for every `b`.

    Parameters
    ----------
    q : ndarray of shape (B, r)
    A : ndarray of shape (B, r, J)
        A zero column is allowed; it marks padding.
    upper : ndarray of shape (B, J)
        Positive; may be infinite.
    threshold : float, optional
        Stop a problem early once its residual norm is below it, or once it is clear that it will not get there.
    max_iter : int
        Interior-point steps.
    tol : float
        Complementarity, relative to the squared scale of the problem.
    polish : bool
        Finish with exact least squares on the variables that are strictly inside their boxes.

    Returns
    -------
    BoxSolution
    """
    B, _, J = A.shape
    if J == 0:
        return BoxSolution(np.zeros((B, 0)), q.copy())
    norms = np.sqrt(np.sum(A * A, axis=1))
    norms[norms == 0.0] = 1.0
    bounded = np.isfinite(upper)
    cap = np.where(bounded, upper, 1.0) * norms
    scale = np.sqrt(np.sum(q * q, axis=1)) + np.max(np.where(bounded, cap, 0.0), axis=1)
    scale[scale == 0.0] = 1.0
    unit = A / norms[:, None, :]
    height = np.where(bounded, cap / scale[:, None], np.inf)
    z = np.zeros((B, J))
    s, t = np.ones((B, J)), np.zeros((B, J))
    rows = np.arange(B)
    limit = None if threshold is None else threshold / scale
    state = _start(q / scale[:, None], unit, height)
    for iteration in range(max_iter + 1):
        done = state.finished(tol, None if limit is None else limit[rows])
        if iteration == max_iter:
            done[:] = True
        if done.any():
            out = rows[done]
            z[out], s[out], t[out] = (kept[done] for kept in state.record)
            rows = rows[~done]
            if rows.size == 0:
                break
            state = state.keep(~done)
        state.step()
    if polish:
        _polish(q / scale[:, None], unit, height, z, s, t)
    z = np.minimum(z * scale[:, None] / norms, upper)
    return BoxSolution(z, q - np.einsum("brj,bj->br", A, z))


def _start(q: FloatArray, A: FloatArray, height: FloatArray) -> _State:
    bounded = np.isfinite(height)
    z = np.where(bounded, 0.5 * np.where(bounded, height, 1.0), 0.1)
    u = q - np.einsum("brj,bj->br", A, z)
    push = np.einsum("brj,br->bj", A, u)
    s = np.maximum(-push, 0.0) + 0.1
    t = np.where(bounded, np.maximum(push, 0.0) + 0.1, 0.0)
    return _State(q, A, height, z, s, t)


class _State:
    """Iterates of the interior-point method for the problems that are still running."""

    def __init__(
        self, q: FloatArray, A: FloatArray, height: FloatArray, z: FloatArray, s: FloatArray, t: FloatArray
    ) -> None:
        self.q, self.A, self.height = q, A, height
        self.z, self.s, self.t = z, s, t
        self.bounded = np.isfinite(height)
        # Distance to the upper bound; 1, and multiplier 0, where there is none.
        self.room = np.where(self.bounded, height, 1.0) - np.where(self.bounded, z, 0.0)
        self.count = A.shape[2] + np.sum(self.bounded, axis=1)
        # Every iterate is feasible, so that the one with the smallest residual is the best, and kept.
        self.best = np.full(len(q), np.inf)
        self.infeasible = np.full(len(q), np.inf)
        self.record = (z.copy(), s.copy(), t.copy())

    def keep(self, mask: npt.NDArray[np.bool_]) -> _State:
        kept = _State(self.q[mask], self.A[mask], self.height[mask], self.z[mask], self.s[mask], self.t[mask])
        kept.room = self.room[mask]
        kept.best, kept.infeasible = self.best[mask], self.infeasible[mask]
        kept.record = (self.record[0][mask], self.record[1][mask], self.record[2][mask])
        return kept

    def gap(self) -> FloatArray:
        return np.sum(self.s * self.z, axis=1) + np.sum(self.t * self.room, axis=1)

    def finished(self, tol: float, limit: FloatArray | None) -> npt.NDArray[np.bool_]:
        gap = self.gap()
        residual = self.q - np.einsum("brj,bj->br", self.A, self.z)
        square = np.sum(residual * residual, axis=1)
        push = np.einsum("brj,br->bj", self.A, residual)
        infeasible = np.max(np.abs(push + self.s - self.t), axis=1)
        better = square < self.best
        self.best[better] = square[better]
        for kept, current in zip(self.record, (self.z, self.s, self.t), strict=True):
            kept[better] = current[better]
        done = (gap <= np.maximum(tol * square, _FLOOR)) & (infeasible <= 1e-7)
        # Small complementarity with growing dual residuals: the Newton systems have run out of digits.
        done |= (gap <= 1e-8) & (infeasible > 1e-8 + 10.0 * self.infeasible)
        self.infeasible = infeasible
        if limit is not None:
            # The objective is ||u||^2 / 2: its optimum is about ||u||^2 - 2 gap once the duals are feasible.
            hopeless = (square - 4.0 * gap > (1.02 * limit) ** 2) & (infeasible < 1e-3) & (gap <= 2e-3 * square)
            done |= (square < (limit * (1 - 1e-6)) ** 2) | hopeless
        return done

    def step(self) -> None:
        A, z, s, t, room = self.A, self.z, self.s, self.t, self.room
        mu = self.gap() / self.count
        residual = self.q - np.einsum("brj,bj->br", A, z)
        dual = np.einsum("brj,br->bj", A, residual) + s - t
        inverse = 1.0 / (s / z + t / room + _PROXIMAL)
        normal = (A * inverse[:, None, :]) @ A.transpose(0, 2, 1)
        normal[:, np.arange(A.shape[1]), np.arange(A.shape[1])] += 1.0
        solver = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        dz = self._direction(dual - s + t, inverse, solver)
        ds, dt = -s - s / z * dz, -t + t / room * dz
        alpha = self._length(dz, ds, dt, 1.0)
        za, sa, ta = z + alpha * dz, s + alpha * ds, t + alpha * dt
        rise = np.where(self.bounded, dz, 0.0)
        affine = (np.sum(za * sa, axis=1) + np.sum(ta * (room - alpha * rise), axis=1)) / self.count
        centre = (mu * np.minimum(1.0, affine / mu) ** 3)[:, None]
        low = (centre - dz * ds) / z - s
        high = np.where(self.bounded, (centre + dz * dt) / room, 0.0) - t
        dz = self._direction(dual + low - high, inverse, solver)
        ds, dt = low - s / z * dz, high + t / room * dz
        alpha = self._length(dz, ds, dt, 0.995)
        self.z, self.s, self.t = z + alpha * dz, s + alpha * ds, t + alpha * dt
        self.room = room - np.where(self.bounded, alpha * dz, 0.0)

    def _direction(self, rhs: FloatArray, inverse: FloatArray, solver: FloatArray) -> FloatArray:
        # (A^T A + D) dz = rhs by the Woodbury identity, an r x r solve.
        y = solver @ (self.A @ (inverse * rhs)[:, :, None])
        return inverse * (rhs - (self.A.transpose(0, 2, 1) @ y)[:, :, 0])

    def _length(self, dz: FloatArray, ds: FloatArray, dt: FloatArray, fraction: float) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = [
                np.where(dz < 0, -self.z / dz, np.inf).min(axis=1),
                np.where((dz > 0) & self.bounded, self.room / dz, np.inf).min(axis=1),
                np.where(ds < 0, -self.s / ds, np.inf).min(axis=1),
                np.where(dt < 0, -self.t / dt, np.inf).min(axis=1),
            ]
        return np.minimum(1.0, fraction * np.minimum.reduce(steps))[:, None]


def finish_box(q: FloatArray, A: FloatArray, upper: FloatArray) -> FloatArray:
    """Return multipliers of one problem, ``q (r,)``, ``A (r, J)``, ``upper (J,)``, by an active-set method."""
    z = np.zeros(A.shape[1])
    norms = np.sqrt(np.sum(A * A, axis=0))
    live = norms > 0.0
    if not live.any():
        return z
    unit = A[:, live] / norms[live]
    cap = upper[live] * norms[live]
    if np.all(np.isinf(cap)):
        try:
            solution, _ = nnls(unit, q, maxiter=20 * unit.shape[1] + 100)
        except RuntimeError:  # no convergence: zero multipliers are feasible
            return z
    else:
        result = lsq_linear(unit, q, (0.0, cap), method="bvls", tol=1e-15, max_iter=20 * unit.shape[1] + 100)
        solution = result.x
    z[live] = np.clip(solution / norms[live], 0.0, upper[live])
    return z


def _polish(
    q: FloatArray,
    A: FloatArray,
    height: FloatArray,
    z: FloatArray,
    s: FloatArray,
    t: FloatArray,
) -> None:
    """Replace `z` in place where exact least squares on the free variables gives a smaller residual."""
    start = z.copy()
    low = start < s
    high = (height - start) < t
    free = ~(low | high)
    point = np.where(low, 0.0, np.where(high, np.where(np.isfinite(height), height, 0.0), start))
    inner = np.where(free[:, None, :], A, 0.0)
    inverse = np.linalg.pinv(inner, rcond=1e-11)
    for _ in range(2):
        residual = q - np.einsum("brj,bj->br", A, point)
        point = point + np.where(free, np.einsum("bjr,br->bj", inverse, residual), 0.0)
    point = np.clip(point, 0.0, height)
    before = np.sum((q - np.einsum("brj,bj->br", A, start)) ** 2, axis=1)
    after = np.sum((q - np.einsum("brj,bj->br", A, point)) ** 2, axis=1)
    better = after < before
    z[better] = point[better]
