r"""Search for neurons worth adding: batched ascent, then Newton steps that settle each direction on its kinks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.networks import unit_rows
from cvxnn.patterns._distinct import distinct
from cvxnn.problem import Problem
from cvxnn.solvers._directions import STEPS, batches, climb
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.axis_scales import axis_scales
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.search_starts import late_starts, usual_starts

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["Ascents", "NeuronSearch"]

_NEAR_STAGES: tuple[tuple[SingleArray, int], ...] = (
    (np.geomspace(0.3, 0.1, 8, dtype=np.float32), 4),
    (np.geomspace(0.1, 3e-3, 16, dtype=np.float32), 1),
)
_FAR_STAGES: tuple[tuple[SingleArray, int], ...] = (
    (np.geomspace(1.0, 0.3, 16, dtype=np.float32), 4),
    (np.geomspace(0.3, 3e-3, 40, dtype=np.float32), 1),
)
_ACROSS_STAGES: tuple[tuple[SingleArray, int], ...] = (
    (np.geomspace(0.6, 0.1, 12, dtype=np.float32), 4),
    (np.geomspace(0.1, 3e-3, 16, dtype=np.float32), 1),
)
_BEYOND_STAGES: tuple[tuple[SingleArray, int], ...] = (
    (np.geomspace(1.0, 0.1, 24, dtype=np.float32), 8),
    (np.geomspace(0.1, 5e-3, 24, dtype=np.float32), 1),
)
_NEAR_STARTS, _FAR_STARTS, _BEYOND_STARTS = 1.75, 4 / 3, 0.75
"""Lengths of the ascent steps of all starts, and after them the share of the starts that goes on, the best one in so
many; and the numbers of starts for each one asked for. Short steps find the many maxima close to present neurons, long
ones the few far from them. Late, far from everything known, they are rare: the values tell the good starts once the
steps are short. A first step straight to the gradient leads most starts to the same maxima, and serves to confirm only.
"""

_SMOOTHINGS = (3e-2, 3e-2, 1e-2, 1e-2, 3e-3, 3e-3, 1e-3, 1e-3, 1e-4)
"""Smoothings of the kinks in the refinement, one Newton step at each, relative to the lengths of point and row."""

_REFINED_SHARE = 8
_FEWEST_REFINED = 32
_FAR = 1.2
_PROMISING = 0.3
"""Of the points after ascent with a value above the last number, in units of beta, the best one in so many are refined,
or as many as the second number says where that is more; none of them where so many, and a quarter of the number of
neurons, have a value above the third number already."""

_REFINE_ENTRIES, _SYSTEM_ENTRIES = 1 << 20, 1 << 23
"""Entries of a batch of points times rows, and of their Newton systems."""

_DENSE_FEATURES = 160
"""Up to so many features the Newton systems are formed; beyond, conjugate gradients apply them through the rows."""

_CG_STEPS = 20
_MOST_NEARBY = 400
"""Neurons, the heaviest, and directions of a pool, the first, that starts are made of."""

_SAME = 0.9995
"""Cosine above which a point is a current neuron."""

_POOLED_STEPS = STEPS[15:]
_POOLED_VALUE = 0.5
_POOLED_KEPT = 5
"""Ascent from the directions of a pool, the least value of a direction that is kept, relative to beta, and how many
are kept for each one climbed from."""


@dataclass(frozen=True, eq=False)
class _Course:
    """Ascents that begin alike: where, how many for each one asked for, and their steps in stages."""

    origin: Literal["near", "far", "around", "across", "beyond"]
    starts: float
    stages: tuple[tuple[SingleArray, int], ...]


class Ascents(Enum):
    """Which ascents a search makes."""

    USUAL = (_Course("near", _NEAR_STARTS, _NEAR_STAGES), _Course("far", _FAR_STARTS, _FAR_STAGES))
    """Short ones near the neurons, and long ones from anywhere."""

    LATE = (
        _Course("around", _NEAR_STARTS, _NEAR_STAGES),
        _Course("across", _FAR_STARTS, _ACROSS_STAGES),
        _Course("beyond", _BEYOND_STARTS, _BEYOND_STAGES),
    )
    """From relatives of all good maxima, those of a pool among them, and some long ones from afar: what is left to find
    late, when it gains little, lies beside such maxima more often than beside neurons."""

    JUMP = (_Course("far", 1.0, ((STEPS, 1),)),)
    """From anywhere, with a first step straight to the gradient, which finds other maxima, and fewer."""


class NeuronSearch:
    r"""Finds unit directions u and signs s with a large :math:`s\,\nu^\top (X u)_+`.

    Projected ascent with shrinking steps leads from many starts to the neighbourhood of maxima. These lie on kinks
    ``x_j^T u = 0`` with ``s nu_j < 0``, where ascent stalls; Newton's method refines the best points therefore, on

    .. math:: \min_u\ \tfrac12 \|u\|^2 - \sum_j s \nu_j (x_j^\top u)_+,

    with convex kinks smoothed less and less, their slopes as variables of their own (a primal-dual method), and the
    concave ones linearised. The minimiser has the direction of a maximum, and its norm is the value. Finding nothing
    proves nothing.

    Parameters
    ----------
    problem : Problem
        Supplies X and beta.
    products : PairProducts, optional
        Those of X in single precision; formed when needed otherwise.

    References
    ----------
    Chan, Golub and Mulet (1999), "A nonlinear primal-dual method for total variation-based image restoration".

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], beta=1.0)
    >>> search = NeuronSearch(problem)
    >>> found, values = search.find(problem.y, Neurons.empty(2), n_starts=16, random_state=0)
    >>> found.vectors[0].round(3), found.signs[0], values[0].round(3)
    (array([0.6, 0.8]), np.float64(1.0), np.float64(5.0))
    """

    def __init__(self, problem: Problem, products: PairProducts | None = None) -> None:
        self.problem = problem
        # Points are u = diag(scales) q with the variables q, in which the data are of like size along all axes.
        self.scales = axis_scales(problem)
        self.even = bool(np.all(self.scales == 1.0))
        self.costs: SingleArray = (self.scales**2).astype(np.float32)
        self.single: SingleArray = (problem.X * self.scales).astype(np.float32)
        self.row_norms: SingleArray = np.linalg.norm(self.single, axis=1)
        self.products = products or PairProducts(self.single)

    def find(
        self,
        nu: FloatArray,
        neurons: Neurons,
        *,
        n_starts: int,
        threshold: float = 1.0,
        random_state: int | np.random.Generator = 0,
        deadline: float = math.inf,
        pool: DirectionPool | None = None,
        n_pooled: int = 0,
        ascents: Ascents = Ascents.USUAL,
    ) -> tuple[Neurons, FloatArray]:
        """Directions of value above ``threshold * beta``, best first, with the values divided by beta.

        Parameters
        ----------
        nu : ndarray (n,)
            Dual vector.
        neurons : Neurons
            Current neurons: starts are made of them, too.
        n_starts : int
            Number of ascents that go to their end; each is used with both signs. With a pool 0 is allowed.
        threshold : float, default 1.0
        random_state : int or Generator, default 0
        deadline : float
            Time of ``time.perf_counter`` at which the search stops with what it has.
        pool : DirectionPool, optional
            Further starts, and what late ones are made of; brought up to date with what the search finds.
        n_pooled : int, default 0
            Number of directions of the pool to start from as they are, the best at ``nu``.
        ascents : Ascents, default Ascents.USUAL

        Returns
        -------
        found : Neurons
            Unit vectors; of two of one sign whose cosine exceeds 0.998 only the better is returned.
        values : ndarray (q,)
        """
        rng = np.random.default_rng(random_state)
        dual = nu / self.problem.beta
        points, signs = self._ascended(neurons, pool, n_starts, dual.astype(np.float32), rng, deadline, ascents)
        if pool is not None and len(pool):
            pooled, pooled_signs = self._pooled(pool, n_pooled, neurons, dual, deadline)
            points, signs = np.vstack([points, pooled]), np.concatenate([signs, pooled_signs])
        order = self._ranked(points, signs, dual, _PROMISING)
        climbed, climbed_signs = points[order], signs[order]
        # What climbed to a current neuron is a maximum already, and would crowd out the others.
        fresh = np.flatnonzero(~_near(climbed, climbed_signs, self._variables(neurons), neurons.signs))
        fresh = fresh[: max(_FEWEST_REFINED, len(points) // _REFINED_SHARE)]
        points, signs = climbed[fresh], climbed_signs[fresh]
        # Far from an optimum the ascent alone finds more neurons than are needed.
        plenty = threshold >= 1.0 and len(self._ranked(points, signs, dual, _FAR)) >= max(
            _FEWEST_REFINED, len(neurons) // 4
        )
        refined = points if plenty else self._refine(points, signs, dual.astype(np.float32), deadline)
        if pool is not None:
            met, met_signs = np.vstack([refined, climbed]), np.concatenate([signs, climbed_signs])
            self._keep(pool, met, met_signs, dual, _POOLED_KEPT * n_pooled)
        both, signs = np.vstack([refined, points]), np.concatenate([signs, signs])
        best = self._ranked(both, signs, dual, threshold)
        vectors = unit_rows(both[best].astype(np.float64) * self.scales)
        found = Neurons(vectors, signs[best].astype(np.float64))
        values = self._values(vectors, found.signs, dual)
        keep = values > threshold
        return found.take(keep), values[keep]

    def _pooled(
        self, pool: DirectionPool, count: int, neurons: Neurons, dual: FloatArray, deadline: float
    ) -> tuple[SingleArray, SingleArray]:
        """Best directions of a pool that are no current neurons after a short ascent, with their signs."""
        best = self._ranked(pool.points, pool.signs, dual, _POOLED_VALUE)
        # At an optimum the neurons themselves are the best.
        best = best[~_near(pool.points[best], pool.signs[best], self._variables(neurons), neurons.signs)][:count]
        points, signs = pool.points[best], pool.signs[best]
        costs = None if self.even else self.costs
        climb(self.single, dual.astype(np.float32), points, signs, _POOLED_STEPS, deadline, costs)
        return points, signs

    def _keep(self, pool: DirectionPool, points: SingleArray, signs: SingleArray, dual: FloatArray, most: int) -> None:
        """Put directions into a pool beside those that it holds; the best at the dual vector remain."""
        points = np.vstack([points, pool.points]) if len(pool) else points
        signs = np.concatenate([signs, pool.signs])
        best = self._ranked(points, signs, dual, _POOLED_VALUE)[:most]
        pool.replace(points[best], signs[best])

    def _variables(self, neurons: Neurons) -> FloatArray:
        """Variables q of the neurons, as unit rows."""
        return unit_rows(neurons.vectors / self.scales)

    def _ascended(
        self,
        neurons: Neurons,
        pool: DirectionPool | None,
        count: int,
        dual: SingleArray,
        rng: np.random.Generator,
        deadline: float,
        ascents: Ascents,
    ) -> tuple[SingleArray, SingleArray]:
        """Unit points after ascent, about ``count`` times two, and their signs."""
        heaviest = np.argsort(-neurons.masses, kind="stable")[:_MOST_NEARBY]
        known = self._variables(neurons.take(heaviest))
        pooled = () if pool is None or len(pool) == 0 else (unit_rows(pool.points[:_MOST_NEARBY].astype(np.float64)),)
        maxima = np.vstack([known, *pooled])
        parts = []
        for course in ascents.value:
            size = math.ceil(course.starts * count)
            if course.origin in ("near", "far"):
                starts = usual_starts(self.problem.X, known, size, rng, course.origin, self.scales)
            else:
                starts = late_starts(known, maxima, size, rng, course.origin)
            parts.append(self._both_signs(starts, dual, course.stages, deadline))
        return np.vstack([points for points, _ in parts]), np.concatenate([signs for _, signs in parts])

    def _both_signs(
        self, starts: FloatArray, dual: SingleArray, stages: Sequence[tuple[SingleArray, int]], deadline: float
    ) -> tuple[SingleArray, SingleArray]:
        """Ascent of all starts for either sign; after each stage one in so many goes on, the best ones."""
        points = np.vstack([starts, starts]).astype(np.float32)
        signs = np.repeat(np.array([1.0, -1.0], dtype=np.float32), len(starts))
        for steps, kept in stages:
            values = climb(self.single, dual, points, signs, steps, deadline, None if self.even else self.costs)
            if kept > 1:
                best = np.argsort(-values, kind="stable")[: math.ceil(len(points) / kept)]
                points, signs = points[best], signs[best]
        return points, signs

    def _values(self, directions: FloatArray, signs: FloatArray, dual: FloatArray) -> FloatArray:
        out = np.empty(len(directions))

        def value(part: slice) -> None:
            out[part] = signs[part] * (np.maximum(directions[part] @ self.problem.X.T, 0.0) @ dual)

        in_parallel(value, batches(len(directions), self.problem.n_samples))
        return out

    def _ranked(
        self, points: SingleArray, signs: SingleArray, dual: FloatArray, threshold: float
    ) -> npt.NDArray[np.intp]:
        """Index of the points above a value, best first, without those close to a better one of their sign."""
        directions = points.astype(np.float64)
        values = self._values(unit_rows(directions * self.scales), signs.astype(np.float64), dual)
        return distinct(unit_rows(directions), signs, values, above=threshold)

    def _refine(self, points: SingleArray, signs: SingleArray, dual: SingleArray, deadline: float) -> SingleArray:
        refined = points.copy()
        n, d = self.single.shape

        def settle(part: slice) -> None:
            if time.perf_counter() < deadline:
                refined[part] = self._settle(points[part], signs[part, None] * dual)

        size = max(4, min(_REFINE_ENTRIES // n, _SYSTEM_ENTRIES // (d * d)))
        in_parallel(settle, [slice(low, low + size) for low in range(0, len(points), size)])
        return refined

    def _settle(self, start: SingleArray, weights: SingleArray) -> SingleArray:
        """Primal-dual Newton steps on ``1/2 ||u||^2 - sum_j w_j (x_j^T u)_+`` for each row of ``start``."""
        z = start @ self.single.T
        size = np.einsum("ij,ij->i", weights, np.maximum(z, 0.0))
        size = np.maximum(size if self.even else size / ((start * start) @ self.costs), np.float32(1e-3))
        u = size[:, None] * start
        z *= size[:, None]
        best, best_value = start.copy(), np.full(len(start), -np.inf, dtype=np.float32)
        pull = np.maximum(-weights, 0.0)
        dual_slopes = np.zeros_like(z)
        for eps in _SMOOTHINGS:
            smooth = np.float32(eps) * np.linalg.norm(u, axis=1)[:, None] * self.row_norms
            root = np.sqrt(z * z + smooth * smooth) + np.float32(1e-20)
            ratio = z / root
            # A concave kink is linearised on its side, a convex one smoothed.
            active = np.where(weights < 0.0, 0.5 * (1.0 + ratio), z > 0.0)
            gradient = self.costs * u - (weights * active) @ self.single
            bend = (1.0 - dual_slopes * ratio) / root
            step = self._newton(0.5 * pull * bend, gradient)
            change = step @ self.single.T
            dual_slopes = np.clip(ratio + bend * change, -1.0, 1.0)
            u = u + step
            z += change
            length = np.maximum(np.sqrt((u * u) @ self.costs), np.float32(1e-30))
            value = np.einsum("ij,ij->i", weights, np.maximum(z, 0.0)) / length
            better = value > best_value
            best[better], best_value[better] = (u / length[:, None])[better], value[better]
        return best

    def _newton(self, curvature: SingleArray, gradient: SingleArray) -> SingleArray:
        """Solve ``(C + X^T diag(c_i) X) step_i = -gradient_i`` with the diagonal matrix C of the costs."""
        d = gradient.shape[1]
        if d <= _DENSE_FEATURES:
            system = self.products.sums(curvature)
            diagonal = np.arange(d)
            trace = system[:, diagonal, diagonal].sum(axis=1)
            # Rounding of the sums may cost definiteness where the curvature of the kinks is large.
            system[:, diagonal, diagonal] += self.costs + (np.float32(1e-7) * trace)[:, None]
            return -np.linalg.solve(system, gradient[:, :, None])[:, :, 0]
        scale = 1.0 / (self.costs + curvature @ (self.single * self.single))
        step, residual = np.zeros_like(gradient), -gradient
        direction, last = np.zeros_like(gradient), np.ones(len(gradient), dtype=np.float32)
        for _ in range(_CG_STEPS):
            z = scale * residual
            now = np.einsum("ij,ij->i", residual, z)
            direction = z + (now / np.maximum(last, np.float32(1e-30)))[:, None] * direction
            product = self.costs * direction + (curvature * (direction @ self.single.T)) @ self.single
            bend = np.maximum(np.einsum("ij,ij->i", direction, product), np.float32(1e-30))
            share = (now / bend)[:, None]
            step += share * direction
            residual = residual - share * product
            last = now
        return step


def _near(points: SingleArray, signs: SingleArray, known: FloatArray, known_signs: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether a point has the direction and the sign of one of the known unit rows."""
    return np.any((unit_rows(points) @ known.T.astype(np.float32) > _SAME) & (signs[:, None] == known_signs), axis=1)
