"""Several outputs with neurons confined to the cones of listed patterns: column generation with a pricing per cone."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.cone_projection import ConeProjector
from cvxnn.networks import unit_rows
from cvxnn.patterns._distinct import distinct
from cvxnn.problem import Problem
from cvxnn.solvers.output_lasso import solve_outputs
from cvxnn.solvers.vector_columns import VectorOptions, VectorState
from cvxnn.solvers.vector_faces import refine_on_faces
from cvxnn.solvers.vector_neurons import VectorNeurons

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

__all__ = ["solve_confined"]

_PROJECTIONS, _OUTPUTS = 12, 3
_NEGLIGIBLE = 1e-9
_SAME = 1.0 - 1e-9
_OUTSIDE = 1e-9


def solve_confined(
    problem: Problem,
    masks: BoolArray,
    state: VectorState,
    options: VectorOptions,
    report: Callable[[VectorState], None],
    *,
    start: VectorNeurons | None = None,
) -> None:
    r"""Improve ``state`` among networks whose neurons lie in the cones of the patterns.

    For a cone and unit output z, :math:`z^\top N^\top D X u` is linear in u and largest at a projection on the cone;
    alternating with the best z climbs :math:`\|N^\top D X u\|`. The climb is local: the bound of the result tells
    how much it can have missed.

    Parameters
    ----------
    problem : Problem
        Reduced problem: full column rank, order one.
    masks : ndarray (P, n) of bool
    state : VectorState
        Updated in place; neurons of a start count only where they lie in one of the cones.
    options : VectorOptions
    report : callable
        Called after each iteration; it may raise to stop.
    start : VectorNeurons, optional
    """
    confined = _Confined(problem, masks, options)
    home = np.zeros(0, dtype=np.intp)
    if start is not None:
        inside, cones = confined.cones_of(start)
        neurons, home = confined.improve(start.take(inside), cones)
        state.offer(problem, neurons)
        home = home if state.neurons is neurons else home[:0]
    while state.outcome == "running":
        if state.stop_at_limits(options):
            break
        found, cones, values = confined.price(problem.dual_vector(state.neurons.fit(problem.X)), state.neurons, home)
        violating = values > problem.beta * (1.0 + 1e-2 * options.tol)
        state.violation = max(float(np.max(values, initial=0.0)) / problem.beta - 1.0, 0.0)
        if not violating.any():
            state.outcome = "search"
            break
        order = np.argsort(-values, kind="stable")[: max(10, len(home) // 3)]
        order = order[violating[order]]
        state.iteration += 1
        neurons, cones = confined.improve(state.neurons.joined(found[order]), np.concatenate([home, cones[order]]))
        if not neurons.objective(problem) < state.objective * (1.0 - 1e-14):
            state.outcome = "stalled"
        else:
            state.neurons, state.objective, home = neurons, neurons.objective(problem), cones
        report(state)


class _Confined:
    """Moves of neurons within their cones."""

    def __init__(self, problem: Problem, masks: BoolArray, options: VectorOptions) -> None:
        self.problem, self.masks, self.options = problem, masks, options
        self.units = unit_rows(problem.X)
        self.rng = np.random.default_rng(options.seed)

    def cones_of(self, neurons: VectorNeurons) -> tuple[IntArray, IntArray]:
        """Neurons that lie in a cone, and the first such cone of each."""
        t = self.units @ neurons.directions.T
        outside = self.masks.astype(np.float64) @ np.maximum(-t, 0.0) + (~self.masks) @ np.maximum(t, 0.0)
        home = np.argmin(outside, axis=0)
        inside = np.flatnonzero(outside[home, np.arange(len(neurons))] <= _OUTSIDE)
        return inside, home[inside]

    def improve(self, neurons: VectorNeurons, home: IntArray) -> tuple[VectorNeurons, IntArray]:
        """Weigh the neurons and move them within their cones."""
        neurons, home = self._weigh(neurons, home)
        if len(neurons):
            refined = refine_on_faces(
                self.problem, neurons, masks=self.masks[home].T, snap=1e-9, deadline=self.options.deadline
            )
            if len(refined) == len(neurons) and np.all(self._outside(refined, home) <= _OUTSIDE):
                return self._weigh(refined, home)
        return neurons, home

    def _outside(self, neurons: VectorNeurons, home: IntArray) -> FloatArray:
        """How far the neurons stick out of their cones."""
        t = np.where(self.masks[home].T, 1.0, -1.0) * (self.units @ neurons.directions.T)
        return np.max(-t, axis=0, initial=0.0)

    def _weigh(self, neurons: VectorNeurons, home: IntArray) -> tuple[VectorNeurons, IntArray]:
        hidden = np.where(self.masks[home].T, np.maximum(self.problem.X @ neurons.directions.T, 0.0), 0.0)
        outputs = solve_outputs(self.problem, hidden, neurons.outputs, tol=1e-9, deadline=self.options.deadline)
        massed = VectorNeurons(neurons.directions, outputs)
        keep = np.flatnonzero(massed.masses > _NEGLIGIBLE * np.max(massed.masses, initial=0.0))
        return massed.take(keep), home[keep]

    def price(self, N: FloatArray, neurons: VectorNeurons, home: IntArray) -> tuple[FloatArray, IntArray, FloatArray]:
        """Good unit vectors of the cones, the cones, and their values."""
        parts = []
        size = max(1, (1 << 22) // max(self.problem.n_samples, 1))
        for first in range(0, len(self.masks), size):
            if time.perf_counter() > self.options.deadline:
                break
            parts.append(self._price(N, np.arange(first, min(first + size, len(self.masks))), neurons, home))
        if not parts:
            return np.zeros((0, self.problem.n_features)), np.zeros(0, dtype=np.intp), np.zeros(0)
        directions, cones, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return directions, cones, values

    def _price(
        self, N: FloatArray, which: IntArray, neurons: VectorNeurons, home: IntArray
    ) -> tuple[FloatArray, IntArray, FloatArray]:
        X = self.problem.X
        matrices = np.einsum("pn,nd,nc->pdc", self.masks[which].astype(np.float64), X, N, optimize=True)
        starts = np.linalg.svd(matrices, full_matrices=False)[2][:, :_OUTPUTS]
        known = self.rng.standard_normal((len(which), 1, N.shape[1]))
        units = neurons.outputs / np.maximum(neurons.masses, 1e-300)[:, None]
        for row, cone in zip(units, home, strict=True):
            if which[0] <= cone <= which[-1]:
                known[cone - which[0], 0] = row
        starts = np.concatenate([starts, -starts, unit_rows(known.reshape(len(which), -1))[:, None]], axis=1)
        found, cones, values = [], [], []
        for s in range(starts.shape[1]):
            points, heights = self._climb(matrices, starts[:, s], self.masks[which])
            good = heights > self.problem.beta
            found.append(points[good])
            cones.append(which[good])
            values.append(heights[good])
        directions, homes, heights = np.concatenate(found), np.concatenate(cones), np.concatenate(values)
        chosen = distinct(directions, homes, heights, similarity=_SAME)
        return directions[chosen], homes[chosen], heights[chosen]

    def _climb(self, matrices: FloatArray, z: FloatArray, masks: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Alternate the best direction of each cone for an output and the best output for a direction."""
        projector = ConeProjector(self.units, masks)
        every = np.arange(len(masks))
        points = np.zeros(matrices.shape[:2])
        for _ in range(_PROJECTIONS):
            ahead = np.einsum("pdc,pc->pd", matrices, z)
            projected = projector.project(ahead, every, deadline=self.options.deadline)
            # What the cone sends to its tip keeps a remainder of rounding there.
            tip = np.linalg.norm(projected, axis=1) <= 1e-9 * np.linalg.norm(ahead, axis=1)
            points = np.where(tip[:, None], 0.0, unit_rows(projected))
            outputs = np.einsum("pdc,pd->pc", matrices, points)
            z = np.where(np.any(outputs != 0.0, axis=1)[:, None], unit_rows(outputs), z)
        return points, np.linalg.norm(np.einsum("pdc,pd->pc", matrices, points), axis=1)
