r"""Trees of ReLU neurons, many at a time: outputs, gradients, ascent of the dual function, joint descent.

A tree of depth three is :math:`(\sum_j I_j (X v_j)_+)_+`; deeper ones have trees in the place of the neurons. It is
positively homogeneous in its vectors, and its cost is a norm of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from cvxnn.problem import Problem
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["Trees", "ascend", "descend_jointly", "random_trees", "refit_masses", "tree_norms"]

_ASCENT_STEPS = 150
"""Most steps of either part of an ascent."""

_GAIN = 1e-7
"""Relative gain of an ascent step below which a start is left alone."""


_SHRINK = 0.95


@dataclass(frozen=True, eq=False)
class Trees:
    """Vectors ``(K, m, ..., m, d)``, signs of the layers between, from the first on, and output signs ``(K,)``."""

    vectors: FloatArray
    signs: tuple[FloatArray, ...]
    outputs: FloatArray

    def __len__(self) -> int:
        """Return the number of trees."""
        return len(self.outputs)

    def take(self, index: Any) -> Trees:
        """Trees chosen by an index or a mask."""
        return Trees(self.vectors[index], tuple(s[index] for s in self.signs), self.outputs[index])

    def joined(self, other: Trees) -> Trees:
        """Append other trees."""
        signs = tuple(np.concatenate(pair) for pair in zip(self.signs, other.signs, strict=True))
        vectors = np.concatenate([self.vectors, other.vectors])
        return Trees(vectors, signs, np.concatenate([self.outputs, other.outputs]))

    def scaled(self, factors: FloatArray) -> Trees:
        """Trees times non-negative factors ``(K,)``."""
        return Trees(self.vectors * _column(factors, self.vectors.ndim), self.signs, self.outputs)

    def values(self, X: FloatArray) -> FloatArray:
        """Outputs without their signs, ``(K, n)``."""
        return self._forward(X)[-1]

    def fit(self, X: FloatArray) -> FloatArray:
        """Sum of the signed outputs, ``(n,)``."""
        return self.outputs @ self.values(X) if len(self) else np.zeros(len(X))

    def masks(self, X: FloatArray) -> list[npt.NDArray[np.bool_]]:
        """Activation patterns of all neurons, layer by layer, ``(K, m, ..., n)``."""
        z = self._inner(X)
        masks = [z >= 0]
        for level in self.signs:
            z = np.sum(level[..., None] * np.maximum(z, 0.0), axis=-2)
            masks.append(z >= 0)
        return masks

    def _inner(self, X: FloatArray) -> FloatArray:
        # One product for all vectors: a stack of small ones is far slower.
        flat = self.vectors.reshape(-1, self.vectors.shape[-1]) @ X.T
        return flat.reshape(*self.vectors.shape[:-1], len(X))

    def _forward(self, X: FloatArray) -> list[FloatArray]:
        hidden = [np.maximum(self._inner(X), 0.0)]
        for level in self.signs:
            hidden.append(np.maximum(np.sum(level[..., None] * hidden[-1], axis=-2), 0.0))
        return hidden

    def gradient(self, X: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Outputs ``(K, n)``, and the gradient of ``weights (K, n) * outputs``, summed over samples, in the vectors."""
        hidden = self._forward(X)
        back = weights * (hidden[-1] > 0)
        for level, below in zip(reversed(self.signs), reversed(hidden[:-1]), strict=True):
            back = np.expand_dims(back, -2) * level[..., None] * (below > 0)
        flat = back.reshape(-1, len(X)) @ X
        return hidden[-1], flat.reshape(self.vectors.shape)


def tree_norms(vectors: FloatArray, norm: str) -> FloatArray:
    """Norms of trees ``(K,)``: "path" Frobenius, "l21" the sum of the lengths of the vectors."""
    if not len(vectors):
        return np.zeros(0)
    squares = np.sum(vectors * vectors, axis=-1).reshape(len(vectors), -1)
    return np.sum(np.sqrt(squares), axis=1) if norm == "l21" else np.sqrt(np.sum(squares, axis=1))


def random_trees(
    X: FloatArray, count: int, shape: tuple[int, ...], outputs: FloatArray, rng: np.random.Generator
) -> Trees:
    """Trees ``(count, *shape)`` with random vectors and signs; each neuron has an input of positive sign."""
    vectors = rng.standard_normal((count, *shape)) * rng.random((count, *shape[:-1], 1))
    signs = []
    for axes in range(len(shape) - 1, 0, -1):
        level = np.where(rng.random((count, *shape[:axes])) < 0.5, -1.0, 1.0)
        level[..., 0] = 1.0
        signs.append(level)
    del X
    return Trees(vectors, tuple(signs), np.resize(outputs, count))


def ascend(
    X: FloatArray, nu: FloatArray, starts: Trees, norm: str, *, deadline: float = np.inf
) -> tuple[Trees, FloatArray]:
    """Projected gradient ascent of ``outputs * nu^T tree(X)`` on the unit sphere of the norm, all starts at once.

    Each step is doubled after a gain and cut after a loss, separately for each start; steps of fixed, shrinking lengths
    follow.

    Returns
    -------
    trees : Trees
        Of norm one.
    values : ndarray (K,)
    """
    weights = starts.outputs[:, None] * nu
    free = _to_free(starts.vectors, norm)
    free = _normalised(free)
    step = np.full(len(starts), 0.5)

    def evaluate(at: FloatArray) -> tuple[FloatArray, FloatArray]:
        values, slope = Trees(_from_free(at, norm), starts.signs, starts.outputs).gradient(X, weights)
        return np.sum(weights * values, axis=1), _pull_back(at, slope, norm)

    value, slope = evaluate(free)
    for _ in range(_ASCENT_STEPS):
        length = np.sqrt(np.sum(slope * slope, axis=tuple(range(1, slope.ndim))))
        unit = slope / _column(np.where(length > 0, length, 1.0), slope.ndim)
        trial = _normalised(free + _column(step, free.ndim) * unit)
        trial_value, trial_slope = evaluate(trial)
        better = trial_value > value
        gain = trial_value[better] - value[better]
        mask = _column(better, free.ndim)
        free, slope = np.where(mask, trial, free), np.where(mask, trial_slope, slope)
        value = np.where(better, trial_value, value)
        step = np.where(better, np.minimum(2.0 * step, 64.0), 0.4 * step)
        small = gain.size == 0 or float(np.max(gain)) <= _GAIN * float(np.max(value))
        if (small and float(np.max(step)) < 1e-4) or time.perf_counter() > deadline:
            break
    # Maxima lie on ridges, where every step along the gradient loses: shrinking steps across them do not stop there.
    at, slope_at = free, slope
    for k in range(_ASCENT_STEPS):
        if time.perf_counter() > deadline:
            break
        length = np.sqrt(np.sum(slope_at * slope_at, axis=tuple(range(1, slope.ndim))))
        unit = slope_at / _column(np.where(length > 0, length, 1.0), slope.ndim)
        at = _normalised(at + 0.3 * _SHRINK**k * unit)
        trial_value, slope_at = evaluate(at)
        better = trial_value > value
        free = np.where(_column(better, free.ndim), at, free)
        value = np.maximum(value, trial_value)
    trees = Trees(_from_free(free, norm), starts.signs, starts.outputs)
    size = tree_norms(trees.vectors, norm)
    # A step may end in the zero tree, whose value is zero.
    return trees.scaled(1.0 / np.where(size > 0, size, 1.0)), value


def refit_masses(problem: Problem, trees: Trees, norm: str) -> Trees:
    """Optimal masses of trees along their directions; those that get none are dropped."""
    sizes = tree_norms(trees.vectors, norm)
    trees = trees.take(sizes > 0)
    sizes = sizes[sizes > 0]
    if not len(trees):
        return trees
    values = trees.values(problem.X) / sizes[:, None]
    # The outputs of unit trees are the data of a two-layer problem whose neurons are the coordinate directions.
    program = Problem(
        np.ascontiguousarray(values.T), problem.y, problem.beta, problem.loss, sample_weight=problem.sample_weight
    )
    best = solve_masses(program, Neurons(np.diag(sizes), trees.outputs))
    factors = best.vectors.sum(axis=0) / sizes if len(best) else np.zeros(len(trees))
    return trees.scaled(factors).take(factors > 0)


def descend_jointly(problem: Problem, trees: Trees, norm: str, *, steps: int, deadline: float = np.inf) -> Trees:
    """L-BFGS on all vectors at once, signs fixed; the trees passed in where it does not lower the objective."""
    if not len(trees):
        return trees
    start = _to_free(trees.vectors, norm)
    best: list[Any] = [np.inf, start]

    def evaluate(flat: FloatArray) -> tuple[float, FloatArray]:
        at = flat.reshape(start.shape)
        now = Trees(_from_free(at, norm), trees.signs, trees.outputs)
        values = now.values(problem.X)
        fit = trees.outputs @ values
        weights = trees.outputs[:, None] * problem.loss_gradient(fit)
        slope = _pull_back(at, now.gradient(problem.X, weights)[1], norm) + 2.0 * problem.beta * at
        value = problem.loss_value(fit) + problem.beta * float(np.sum(at * at))
        if value < best[0]:
            best[:] = [value, at.copy()]
        return value, slope.ravel()

    def stop(_: Any) -> None:
        if time.perf_counter() > deadline:
            raise StopIteration

    minimize(
        evaluate,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=stop,
        options={"maxiter": steps, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-10 * problem.beta},
    )
    return Trees(_from_free(best[1], norm), trees.signs, trees.outputs)


def _blocks(free: FloatArray, norm: str) -> FloatArray:
    """Lengths of the blocks whose norms are added up: whole trees, or single vectors."""
    axes = tuple(range(1, free.ndim)) if norm == "path" else (free.ndim - 1,)
    return np.sqrt(np.sum(free * free, axis=axes, keepdims=True))


def _from_free(free: FloatArray, norm: str) -> FloatArray:
    """Vectors ``|w| w`` of blocks w: their norm is the smooth ``||w||^2``."""
    return _blocks(free, norm) * free


def _to_free(vectors: FloatArray, norm: str) -> FloatArray:
    length = _blocks(vectors, norm)
    return vectors / np.sqrt(np.where(length > 0, length, 1.0))


def _pull_back(free: FloatArray, slope: FloatArray, norm: str) -> FloatArray:
    """Gradient in the blocks w of a function with the given gradient in the vectors ``|w| w``."""
    length = _blocks(free, norm)
    axes = tuple(range(1, free.ndim)) if norm == "path" else (free.ndim - 1,)
    along = np.sum(free * slope, axis=axes, keepdims=True)
    return length * slope + free * (along / np.where(length > 0, length, 1.0))


def _normalised(free: FloatArray) -> FloatArray:
    size = np.sqrt(np.sum(free * free, axis=tuple(range(1, free.ndim))))
    return free / _column(np.where(size > 0, size, 1.0), free.ndim)


def _column(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    return values.reshape(-1, *([1] * (ndim - 1)))
