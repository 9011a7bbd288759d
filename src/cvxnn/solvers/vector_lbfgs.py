"""Limited-memory BFGS on both layers of a network with several outputs: from random weights, or with smoothed kinks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.problem import Problem
from cvxnn.solvers.lbfgs_start import minimize_layers
from cvxnn.solvers.row_slabs import row_pieces
from cvxnn.solvers.vector_neurons import VectorNeurons

AnyFloats = npt.NDArray[np.floating]

__all__ = ["descend_smoothed", "start_outputs"]

_NEGLIGIBLE = 1e-5
_SINGLE_PRECISION_FROM = 200_000
_START_STEPS, _START_RTOL = 1000, 5e-3
"""Most steps of the start, and the relative fall over the last 50 of them below which it ends."""


def start_outputs(
    problem: Problem,
    *,
    width: int,
    deadline: float = math.inf,
    rng: np.random.Generator,
) -> VectorNeurons:
    """Train a network of given width from random weights; a good start, not an optimum.

    Parameters
    ----------
    problem : Problem
        Targets ``(n, c)``.
    width : int
    deadline : float
        On the clock of ``time.perf_counter``.
    rng : Generator
        Source of the first weights.

    Examples
    --------
    >>> problem = Problem([[1.0], [2.0]], [[1.0, -1.0], [2.0, -2.0]], beta=0.1)
    >>> start = start_outputs(problem, width=4, rng=np.random.default_rng(0))
    >>> start.objective(problem) < 0.2
    True
    """
    layers = _Layers(problem, width)
    point = minimize_layers(
        layers, layers.random_point(rng), max_iter=_START_STEPS, rtol=_START_RTOL, deadline=deadline
    )
    return layers.neurons(point)


def descend_smoothed(
    problem: Problem,
    neurons: VectorNeurons,
    *,
    smoothing: float,
    max_iter: int,
    rtol: float = 1e-7,
    deadline: float = math.inf,
) -> VectorNeurons:
    r"""Move all neurons jointly, with :math:`(t)_+` replaced by :math:`(t + \sqrt{t^2 + e^2})/2`.

    The kinks have the width :math:`e = \epsilon \|x_j\| \|w_k\|` of the weights at the start.
    """
    if len(neurons) == 0 or time.perf_counter() > deadline:
        return neurons
    W, A = neurons.take(neurons.masses > 0.0).layers()
    layers = _Layers(problem, len(W), smoothing * np.linalg.norm(W, axis=1))
    point = np.concatenate([W.ravel(), A.ravel()]).astype(layers.X.dtype)
    return layers.neurons(minimize_layers(layers, point, max_iter=max_iter, rtol=rtol, deadline=deadline))


class _Layers:
    """Objective and gradient in the flat vector ``(W, A)``; products in single precision where they are large."""

    def __init__(self, problem: Problem, width: int, kinks: npt.NDArray[np.float64] | None = None) -> None:
        self.problem, self.width, self.kinks = problem, width, kinks
        n, d = problem.X.shape
        single = n * d * width >= _SINGLE_PRECISION_FROM
        self.X: AnyFloats = problem.X.astype(np.float32 if single else np.float64)
        self.row_norms = np.linalg.norm(problem.X, axis=1)
        self.d, self.c = d, problem.n_outputs
        self.latest: AnyFloats = np.zeros(0, self.X.dtype)

    def random_point(self, rng: np.random.Generator) -> AnyFloats:
        """Gaussian weights whose scale follows that of the data, so that rescaling the data changes nothing."""
        problem, width, d = self.problem, self.width, self.d
        weight = problem.sample_weight / problem.sample_weight.sum()
        row = math.sqrt(float(weight @ np.einsum("ij,ij->i", problem.X, problem.X)))
        target = math.sqrt(float(np.sum(weight @ problem.y**2)))
        scale = math.sqrt((target or 1.0) * math.sqrt(d) / (row or 1.0))
        W = rng.standard_normal((width, d)) * (scale / math.sqrt(d))
        A = rng.standard_normal((width, self.c)) * (scale / math.sqrt(width * self.c))
        return np.concatenate([W.ravel(), A.ravel()]).astype(self.X.dtype)

    def split(self, point: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """First and second layer as views of the flat vector."""
        cut = self.width * self.d
        return point[:cut].reshape(self.width, self.d), point[cut:].reshape(self.width, self.c)

    def __call__(self, point: AnyFloats) -> tuple[float, AnyFloats]:
        """Objective in double precision and its gradient, both in one sweep over slabs of rows."""
        problem, (W, A) = self.problem, self.split(point)
        weights = np.ascontiguousarray(W.T)

        def sweep(slabs: Sequence[slice]) -> tuple[float, AnyFloats, AnyFloats]:
            value, gW, gA = 0.0, np.zeros_like(W), np.zeros_like(A)
            for rows in slabs:
                hidden, active = self._hidden(rows, self.X[rows] @ weights)
                fit = (hidden @ A).astype(np.float64)
                y, weight = problem.y[rows], problem.entry_weight[rows]
                value += problem.loss.value(fit, y, weight)
                if not np.isfinite(value):
                    break
                slope = problem.loss.gradient(fit, y, weight).astype(point.dtype)
                gA += hidden.T @ slope
                back = slope @ A.T
                back *= active
                gW += back.T @ self.X[rows]
            return value, gW, gA

        values, first, second = zip(*in_parallel(sweep, row_pieces(len(self.X), 2 * self.width)), strict=True)
        value = 0.5 * problem.beta * float(np.dot(point, point)) + sum(values)
        if not np.isfinite(value):
            return np.inf, point
        gradient = point.dtype.type(problem.beta) * point
        gradient += np.concatenate([np.sum(first, axis=0).ravel(), np.sum(second, axis=0).ravel()])
        return value, gradient

    def _hidden(self, rows: slice, t: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """Hidden values and their slopes."""
        if self.kinks is None:
            np.maximum(t, 0.0, out=t)
            return t, (t > 0.0).astype(t.dtype)
        radius = np.hypot(t, (self.row_norms[rows, None] * self.kinks).astype(t.dtype))
        slope = np.divide(t, radius, out=np.zeros_like(t), where=radius > 0.0)
        return 0.5 * (t + radius), 0.5 * (1.0 + slope)

    def restrict(self, alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Drop the other neurons; return the mask of the coordinates that remain."""
        mask = np.concatenate([np.repeat(alive, self.d), np.repeat(alive, self.c)])
        self.width = int(alive.sum())
        if self.kinks is not None:
            self.kinks = self.kinks[alive]
        return mask

    def alive(self, point: AnyFloats) -> npt.NDArray[np.bool_]:
        """Neurons of more than negligible mass."""
        W, A = self.split(point)
        masses = np.linalg.norm(A, axis=1) * np.linalg.norm(W, axis=1)
        return masses > _NEGLIGIBLE * np.max(masses, initial=0.0)

    def neurons(self, point: AnyFloats) -> VectorNeurons:
        """Blocks of the convex program, without those of negligible mass."""
        W, A = (layer.astype(np.float64) for layer in self.split(point))
        alive = self.alive(point)
        return VectorNeurons.from_layers(W[alive], A[alive])
