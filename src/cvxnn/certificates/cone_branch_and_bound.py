"""Cone branch and bound: the dual norm of data of small rank, closed to rounding.

The cone around a node is spanned by ``r`` vertices ``v_k`` on the sphere of the l1 norm. For ``u = sum_k c_k v_k`` with
``c >= 0`` each convex term obeys ``(x^T u)_+ <= sum_k c_k (x^T v_k)_+`` and each concave one
``-(x^T u)_+ <= -lambda x^T u`` for every ``lambda`` in [0, 1]. So ``h(u) <= c^T b(lambda)``, and any `g` with
``v_k^T g >= b_k(lambda)`` for all `k` gives ``h(u) <= ||g||`` on the part of the ball inside the cone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._best_first import Nodes, SearchResult, best_first
from cvxnn.certificates._boxls import finish_box, solve_boxes
from cvxnn.certificates._local_search import DirectionPool
from cvxnn.certificates._reduction import ReducedPricing
from cvxnn.certificates._rounding import FloatArray, gamma, norm_up

_BATCH = 256
# Entries of the work arrays of one batch, and those up to which a batch has 16 cones.
_BATCH_ENTRIES, _MOST_ENTRIES = 120_000, 400_000
# Vertices are multiples of 2**-52 in [-1, 1], so that midpoints of two of them are exact in binary64.
_GRID_BITS = 52
_MIN_EDGE = 1e-11
# Ratio of the least height of a cone to its longest edge below which the interior-point method is not trusted.
_FLATNESS = 1e-3
# Cones within this relative distance of the limit are finished by an active-set method, a few in each batch.
_NEAR = 1e-4
_FINISHED_PER_BATCH = 64
_MAX_FINISHED = 400


@dataclass
class _Cones(Nodes):
    """Open cones: vertices ``(B, r, r)``, orthant signs ``(B, r)`` and the edge to split ``(B, 2)``."""

    vertices: FloatArray
    orthant: FloatArray
    edge: npt.NDArray[np.intp]

    def closed(self) -> npt.NDArray[np.bool_]:
        return self.edge[:, 0] < 0


def cone_branch_and_bound(
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

    Parameters
    ----------
    problem : ReducedPricing
    pool : DirectionPool
        Receives the feasible points met; its best value is the lower bound.
    target : float, optional
        Cones whose bound is at most `target` are not refined.
    stop_above : float, optional
        Stop as soon as a feasible value exceeds this.
    tol : float
        Relative distance of the bounds at which a cone is not refined.
    deadline : float, optional
        Value of ``time.monotonic()`` at which to stop.
    max_nodes : int

    Returns
    -------
    SearchResult
        ``upper`` is valid whenever the search stops: it is the maximum over refined and open cones.
    """
    bounder = _ConeBounder(problem)
    least = int(np.clip(_MOST_ENTRIES // problem.rows.size, 2, 16))
    batch = int(np.clip(_BATCH_ENTRIES // problem.rows.size, least, _BATCH))
    return best_first(
        _orthants(problem.rank, bounder.trivial),
        _bisect,
        bounder,
        pool,
        batch=batch,
        target=target,
        stop_above=stop_above,
        tol=tol,
        deadline=deadline,
        max_nodes=max_nodes,
    )


def _orthants(rank: int, bound: float) -> _Cones:
    """Return the facets of the cross-polytope, for both signs."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=rank)))
    count = len(signs)
    vertices = np.zeros((count, rank, rank))
    vertices[:, np.arange(rank), np.arange(rank)] = signs
    return _Cones(
        np.repeat(np.array([1, -1], dtype=np.int64), count),
        np.full(2 * count, bound),
        np.concatenate([vertices, vertices]),
        np.concatenate([signs, signs]),
        np.zeros((2 * count, 2), dtype=np.intp),
    )


def _bisect(nodes: _Cones) -> _Cones:
    """Split every cone at the midpoint of its chosen edge; the two halves cover it exactly."""
    index = np.arange(nodes.bound.size)
    first, second = nodes.edge[:, 0], nodes.edge[:, 1]
    # Both ends are multiples of 2**-52 in [-1, 1], so that this is exact: a multiple of 2**-53 needs 53 bits.
    middle = 0.5 * nodes.vertices[index, first] + 0.5 * nodes.vertices[index, second]
    left, right = nodes.take(index), nodes.take(index)
    left.vertices[index, first] = middle
    right.vertices[index, second] = middle
    return left.join(right)


def _inverses(vertices: FloatArray) -> FloatArray:
    """Return inverses, used for candidates only; of a cone that is flat in floating point, the pseudo-inverse."""
    try:
        inverse = np.linalg.inv(vertices)
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(vertices)
    return np.asarray(inverse, dtype=np.float64)


@dataclass(frozen=True)
class _System:
    """Least-squares problems of a batch: ``lambda`` of the concave rows in `slots`, then multipliers of the rays."""

    q: FloatArray
    A: FloatArray
    height: FloatArray
    slots: npt.NDArray[np.intp]
    used: npt.NDArray[np.bool_]
    fixed: FloatArray
    curved: npt.NDArray[np.bool_]
    heights: FloatArray

    def multipliers(self, z: FloatArray) -> FloatArray:
        """Return ``lambda (B, n)`` in [0, 1]."""
        lam = self.fixed.copy()
        values = np.where(self.used, z[:, : self.slots.shape[1]], np.take_along_axis(lam, self.slots, axis=1))
        np.put_along_axis(lam, self.slots, np.clip(values, 0.0, 1.0), axis=1)
        return lam


class _ConeBounder:
    """Bounds of cones, with the rounding errors that hold for every cone of one problem."""

    def __init__(self, problem: ReducedPricing) -> None:
        self.problem = problem
        rows, weights = problem.rows, problem.weights
        n, r = rows.shape
        largest = np.max(np.abs(rows), axis=1)
        mass = float(np.abs(weights) @ largest) * (1.0 + 2.0 * gamma(n + 2))
        linear = float(np.max(np.abs(problem.linear)))
        # A vertex has unit l1 norm, so that |x^T v| <= max |x| and its rounding is below gamma_r max |x|; a sum of n
        # products, one of them with lambda, adds gamma_{n+3}.
        self.error = gamma(n + r + 6) * mass + gamma(r + 3) * linear
        self.noise = 4.0 * gamma(r) * largest
        self.trivial = float(np.abs(weights) @ norm_up(rows)) * (1.0 + 2.0 * gamma(n + 2)) + float(
            norm_up(problem.linear)
        )
        # No refinement brings a bound below the true value plus this.
        self.resolution = 4.0 * np.sqrt(r) * self.error

    def bound(self, nodes: _Cones, limit: float, pool: DirectionPool) -> _Cones:
        """Return `nodes` with better bounds and with the edge at which to split next (-1 where none can be)."""
        weights = nodes.sign[:, None] * self.problem.weights
        images = nodes.vertices @ self.problem.rows.T
        system = self._system(nodes, weights, images)
        solution = solve_boxes(system.q, system.A, system.height, threshold=limit)
        z, g = solution.z, solution.residual
        bound = self._verify(nodes, weights, images, system.multipliers(z), g)
        edge, longest = self._edges(nodes.vertices, weights, images)
        hard = ~system.curved | (system.heights.min(axis=1) < _FLATNESS * longest)
        near = np.flatnonzero((bound > limit) & ((bound <= (1.0 + _NEAR) * limit) | hard))
        if system.A.shape[2] <= _MAX_FINISHED and near.size:
            # A cone without curved rows is exact, and splitting a flat one makes it worse: those come first.
            near = near[np.lexsort((-bound[near], ~hard[near]))[:_FINISHED_PER_BATCH]]
            for k in near:
                z[k] = finish_box(system.q[k], system.A[k], system.height[k])
                g[k] = system.q[k] - system.A[k] @ z[k]
            lam = system.multipliers(z)[near]
            sharp = self._verify(nodes.take(near), weights[near], images[near], lam, g[near])
            bound[near] = np.minimum(bound[near], sharp)
        bound = np.minimum(nodes.bound, bound)
        pool.add(np.concatenate([g, nodes.vertices.mean(axis=1)]), np.concatenate([nodes.sign, nodes.sign]))
        return _Cones(nodes.sign, bound, nodes.vertices, nodes.orthant, edge)

    def _system(self, nodes: _Cones, weights: FloatArray, images: FloatArray) -> _System:
        """Set up ``min || q - A z ||`` for the multipliers; nothing here needs to be exact."""
        rows = self.problem.rows
        # Rows that vanish at a vertex up to rounding count as vanishing there.
        images = np.where(np.abs(images) <= self.noise, 0.0, images)
        positive = images.min(axis=1) >= 0.0
        mixed = ~positive & (images.max(axis=1) > 0.0)
        curved = mixed & (weights > 0.0)
        overestimate = np.maximum(images, 0.0) @ np.where(curved, weights, 0.0)[:, :, None]
        inverse = _inverses(nodes.vertices)
        q = (weights * positive) @ rows + nodes.sign[:, None] * self.problem.linear
        q = q + (inverse @ overestimate)[:, :, 0]
        free = mixed & (weights < 0.0)
        width = int(free.sum(axis=1).max(initial=0))
        slots = np.argsort(~free, axis=1, kind="stable")[:, :width]
        used = np.take_along_axis(free, slots, axis=1)
        size = np.where(used, -np.take_along_axis(weights, slots, axis=1), 0.0)
        columns = rows[slots].transpose(0, 2, 1) * size[:, None, :]
        # The inverse norm of a dual ray is the height of its vertex over the opposite facet.
        lengths = np.sqrt(np.sum(inverse * inverse, axis=1))
        rays = -inverse / lengths[:, None, :]
        height = np.concatenate([np.ones((len(q), width)), np.full((len(q), self.problem.rank), np.inf)], axis=1)
        A = np.concatenate([columns, rays], axis=2)
        return _System(q, A, height, slots, used, positive.astype(np.float64), curved.any(axis=1), 1.0 / lengths)

    def _verify(
        self, nodes: _Cones, weights: FloatArray, images: FloatArray, lam: FloatArray, g: FloatArray
    ) -> FloatArray:
        """Return rigorous bounds from any multipliers in [0, 1] and any vectors `g`."""
        r = self.problem.rank
        terms = np.maximum(images, 0.0) @ np.maximum(weights, 0.0)[:, :, None]
        terms += images @ (np.minimum(weights, 0.0) * lam)[:, :, None]
        b = terms[:, :, 0] + nodes.sign[:, None] * (nodes.vertices @ self.problem.linear)
        reached = (nodes.vertices @ g[:, :, None])[:, :, 0]
        size = np.max(np.abs(g), axis=1) + np.max(np.abs(b), axis=1)
        slack = np.maximum(np.max(b - reached, axis=1), 0.0) + self.error + gamma(2 * r + 8) * size
        # The orthant's sign vector s has s^T v = ||v||_1 = 1 at every vertex: adding slack * s repairs g.
        return norm_up(g + (slack * (1.0 + gamma(4)))[:, None] * nodes.orthant)

    def _edges(
        self, vertices: FloatArray, weights: FloatArray, images: FloatArray
    ) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Choose the edge to split, -1 where none can be split exactly; return the longest edge's length, too.

        Splitting an edge removes from the overestimate of a convex row that changes sign on it half the smaller of
        its two absolute values; the edge where these sum to most, times its length, is taken.
        """
        r = self.problem.rank
        pairs = np.array(list(itertools.combinations(range(r), 2)), dtype=np.intp).reshape(-1, 2)
        if len(pairs) == 0:
            return np.full((len(vertices), 2), -1, dtype=np.intp), np.zeros(len(vertices))
        units = vertices / np.sqrt(np.sum(vertices * vertices, axis=2, keepdims=True))
        length = np.sqrt(np.sum((units[:, pairs[:, 0]] - units[:, pairs[:, 1]]) ** 2, axis=2))
        convex = np.maximum(weights, 0.0)
        removed = np.empty_like(length)
        for column, (k, m) in enumerate(pairs):
            crossed = np.maximum(np.minimum(images[:, k], -images[:, m]), np.minimum(-images[:, k], images[:, m]))
            removed[:, column] = np.einsum("bn,bn->b", np.maximum(crossed, 0.0), convex)
        curved = np.max(removed, axis=1, keepdims=True) > self.error
        best = np.argmax(np.where(curved, removed * length, length), axis=1)
        edge = pairs[best]
        index = np.arange(len(vertices))
        grid = np.ldexp(0.5 * vertices[index, edge[:, 0]] + 0.5 * vertices[index, edge[:, 1]], _GRID_BITS)
        exact = np.all(grid == np.rint(grid), axis=1)
        edge[~exact | (length[index, best] < _MIN_EDGE)] = -1
        return edge, np.max(length, axis=1)
