"""Sign branch and bound: the dual norm of few data at any rank.

Only rows of positive weight need branching: the others enter the objective as concave terms, which the dual
multipliers handle exactly. A node fixes the sign of ``x_j^T u`` for some rows; closed half-spaces leave nothing out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._best_first import Nodes, SearchResult, best_first
from cvxnn.certificates._boxls import finish_box, solve_boxes
from cvxnn.certificates._local_search import DirectionPool, ascend
from cvxnn.certificates._reduction import ReducedPricing
from cvxnn.certificates._rounding import FloatArray, combination_norm_up, gamma, norm_up
from cvxnn.certificates.cheap_bounds import kink_bound

_BATCH = 32


@dataclass
class _HalfSpaces(Nodes):
    """Open nodes: fixed signs of the rows ``(B, n)``, 0 where free, and the row to fix next ``(B,)``."""

    fixed: npt.NDArray[np.int8]
    branch: npt.NDArray[np.intp]

    def closed(self) -> npt.NDArray[np.bool_]:
        return self.branch < 0


def sign_branch_and_bound(
    problem: ReducedPricing,
    pool: DirectionPool,
    *,
    target: float | None = None,
    stop_above: float | None = None,
    tol: float = 1e-9,
    deadline: float | None = None,
    max_nodes: int = 200_000,
) -> SearchResult:
    """Bound ``max sign * h`` over both signs and the unit ball from above.

    Parameters and result are those of `cone_branch_and_bound`.
    """
    bounder = _SignBounder(problem)
    n = len(problem.rows)
    roots = _HalfSpaces(
        np.array([1, -1], dtype=np.int64),
        np.full(2, bounder.trivial),
        np.zeros((2, n), dtype=np.int8),
        np.zeros(2, dtype=np.intp),
    )
    return best_first(
        roots,
        _split,
        bounder,
        pool,
        batch=_BATCH,
        target=target,
        stop_above=stop_above,
        tol=tol,
        deadline=deadline,
        max_nodes=max_nodes,
    )


def _split(nodes: _HalfSpaces) -> _HalfSpaces:
    """Fix the sign of the chosen row both ways; the two closed half-spaces cover the space."""
    index = np.arange(nodes.bound.size)
    left, right = nodes.take(index), nodes.take(index)
    left.fixed[index, nodes.branch] = 1
    right.fixed[index, nodes.branch] = -1
    return left.join(right)


class _SignBounder:
    """Bounds of nodes by weak duality, from any multipliers of the right sign."""

    def __init__(self, problem: ReducedPricing) -> None:
        self.problem = problem
        rows, weights = problem.rows, problem.weights
        n, r = rows.shape
        self.lengths = norm_up(rows)
        mass = float(np.abs(weights) @ self.lengths) * (1.0 + 2.0 * gamma(n + 2)) + float(norm_up(problem.linear))
        self.trivial = mass
        self.resolution = 2.0 * gamma(n + r + 8) * np.sqrt(r) * mass
        self.kinks: dict[bytes, float] = {}

    def bound(self, nodes: _HalfSpaces, limit: float, pool: DirectionPool) -> _HalfSpaces:
        """Return `nodes` with better bounds and with the row to fix next (-1 where none is left)."""
        weights = nodes.sign[:, None] * self.problem.weights
        free = (weights > 0.0) & (nodes.fixed == 0)
        kinks = np.array([self._kink(weights[b], free[b]) for b in range(len(free))])
        coefficients, residual = self._multipliers(nodes, weights, free, limit)
        linear = nodes.sign[:, None] * self.problem.linear
        bound = (combination_norm_up(self.problem.rows, coefficients, linear) + kinks) * (1.0 + 4e-16)
        bound = np.minimum(nodes.bound, bound)
        pool.add(residual, nodes.sign)
        if nodes.bound.size <= 4 or float(np.max(bound)) > 1.5 * pool.best:
            norms = np.sqrt(np.sum(residual * residual, axis=1))
            best = np.argsort(-bound, kind="stable")[:2]
            best = best[norms[best] > 0.0]
            pool.add(*ascend(self.problem, residual[best] / norms[best, None], nodes.sign[best]))
        return _HalfSpaces(nodes.sign, bound, nodes.fixed, self._branch(weights, free, residual))

    def _kink(self, weights: FloatArray, free: npt.NDArray[np.bool_]) -> float:
        if not free.any():
            return 0.0
        key = free.tobytes() + (b"+" if weights[np.argmax(free)] == self.problem.weights[np.argmax(free)] else b"-")
        if key not in self.kinks:
            if len(self.kinks) > 50_000:
                self.kinks.clear()
            self.kinks[key] = kink_bound(self.problem.rows[free], weights[free], self.lengths[free])
        return self.kinks[key]

    def _multipliers(
        self, nodes: _HalfSpaces, weights: FloatArray, free: npt.NDArray[np.bool_], limit: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return coefficients ``c (B, n)`` with ``sign * h(u) <= (l + X^T c)^T u + kinks`` on each node."""
        rows = self.problem.rows
        up = nodes.fixed > 0
        # Free convex rows: (t)_+ = t / 2 + |t| / 2. Rows fixed upwards: at least w. Fixed downwards: at most 0.
        start = np.where(up, weights, np.where(free, 0.5 * weights, 0.0))
        q = start @ rows + nodes.sign[:, None] * self.problem.linear
        concave = weights < 0.0
        scale = np.where(concave, -weights, np.where(up, -1.0, np.where(nodes.fixed < 0, 1.0, 0.0)))
        A = rows.T[None, :, :] * scale[:, None, :]
        box = np.where(nodes.fixed != 0, np.inf, 1.0)
        solution = solve_boxes(q, A, box, threshold=None)
        z = solution.z
        # Nodes that cannot be branched must be exact: finish them by an active-set method.
        values = np.sqrt(np.sum(solution.residual**2, axis=1))
        for b in np.flatnonzero(~free.any(axis=1) & (values > limit)):
            sharp = finish_box(q[b], A[b], box[b])
            residual = q[b] - A[b] @ sharp
            if residual @ residual < values[b] ** 2:
                z[b], solution.residual[b] = sharp, residual
        c = np.where(concave, np.clip(weights * z, weights, 0.0), 0.0)
        # The sum of non-negative numbers is, rounded, no smaller than either of them.
        c = np.where(up, weights + z, np.where(nodes.fixed < 0, -z, np.where(free, 0.5 * weights, c)))
        return c, solution.residual

    def _branch(self, weights: FloatArray, free: npt.NDArray[np.bool_], residual: FloatArray) -> npt.NDArray[np.intp]:
        norms = np.sqrt(np.sum(residual * residual, axis=1, keepdims=True))
        units = residual / np.where(norms > 0.0, norms, 1.0)
        # Prefer the row whose overestimate is worst at the point that attains the bound.
        score = np.where(free, weights * (self.lengths - np.abs(units @ self.problem.rows.T)), -np.inf)
        branch = np.argmax(score, axis=1)
        return np.where(free.any(axis=1), branch, -1)
