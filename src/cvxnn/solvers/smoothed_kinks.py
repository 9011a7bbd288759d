"""Joint Newton-like steps on all neurons with the kinks of the ReLU smoothed and majorised."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["SmoothedKinks"]

_CG_TOL = 0.1
_LARGEST_MOVE = 1e30
"""Where the curvature vanishes, the direction grows without limit; single precision ends at 3e38."""

_CG_MAX = 40
_FLATTEST = 1e-15
"""Least curvature of a block in the preconditioner: the squares of its inverse still fit in single precision."""
_KEEP_SMOOTHING = 4
_KEEP_BLOCKS = 2
# Entries of the work arrays of one row block: few enough to stay in a core's cache.
_BLOCK_ENTRIES = 1 << 17
# Entries of the cached products of features; beyond, they are formed block by block.
_PAIR_ENTRIES = 1 << 24


class SmoothedKinks:
    r"""Steps that lower :math:`\mathrm{loss}(\sum_i s_i (t_i + R_i)/2) + \beta \sum_i \|z_i\|`, :math:`t_i = X z_i`.

    Each ReLU of a preactivation t becomes :math:`(t + R)/2` with :math:`R = \sqrt{t^2 + E^2}` and
    :math:`E_{ji} = \epsilon \|x_j\| \|z_i\|`. A step solves a Newton system in which a convex kink has the curvature
    :math:`1/(2R)` of a majorising parabola and a concave kink none, with the Gauss-Newton term of the loss that couples
    the neurons; conjugate gradients apply it through X, preconditioned with the block of each neuron.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta.

    References
    ----------
    Hunter and Lange (2004), "A tutorial on MM algorithms"; Nocedal and Wright (2006), section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.1)
    >>> steps = SmoothedKinks(problem)
    >>> best = steps.minimize(Neurons(np.array([[1.0]]), np.ones(1)), eps=1e-4, max_steps=8)
    >>> round(best.objective(problem), 4)
    0.195
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.single: SingleArray = problem.X.astype(np.float32)
        self.row_norms = np.linalg.norm(problem.X, axis=1)
        self.damping = 0.1
        self._upper = np.triu_indices(problem.n_features)
        cached = problem.n_samples * len(self._upper[0]) <= _PAIR_ENTRIES
        self._pairs = self._feature_products(slice(None)) if cached else None

    def minimize(self, neurons: Neurons, *, eps: float, max_steps: int, deadline: float = np.inf) -> Neurons:
        """Take steps at smoothing ``eps``; return the best neurons met by the true objective.

        The start counts as met, so the objective never rises. ``deadline`` is a time of ``time.perf_counter``.
        """
        best = neurons.take(neurons.masses > 0)
        best_value = best.objective(self.problem)
        if len(best) == 0:
            return best
        vectors, signs = best.vectors, best.signs
        state, blocks = None, None
        for step in range(max_steps):
            if time.perf_counter() >= deadline:
                break
            if state is None or step % _KEEP_SMOOTHING == 0:
                size = np.linalg.norm(vectors, axis=1)
                smooth = (eps * self.row_norms[:, None] * np.maximum(size, 1e-150)) ** 2 + 1e-300
                state = self._state(vectors, signs, self.problem.X @ vectors.T, smooth)
            if blocks is None or step % _KEEP_BLOCKS == 0:
                blocks = self._inverse_blocks(state)
            move = self._solve(state, blocks, deadline)
            found = self._line_search(state, move)
            if found is None:
                blocks = None
                if self.damping > 1e6:
                    break
                continue
            length, products, true_value = found
            vectors = vectors + length * move
            if true_value < best_value:
                best, best_value = Neurons(vectors, signs), true_value
            state = self._state(vectors, signs, products, smooth)
        return best

    def _state(self, vectors: FloatArray, signs: FloatArray, products: FloatArray, smooth: FloatArray) -> _State:
        """Compute the derivatives of the smoothed objective at ``vectors`` with ``products = X vectors'``."""
        root = np.sqrt(products * products + smooth)
        fit = 0.5 * ((products + root) @ signs)
        nu = self.problem.dual_vector(fit)
        slopes = products / root
        slopes += 1.0
        slopes *= 0.5 * signs
        convex = np.maximum(-nu[:, None] * signs, 0.0)
        convex /= 2.0 * root
        norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-150)
        gradient = (self.problem.beta / norms)[:, None] * vectors - (slopes * nu[:, None]).T @ self.problem.X
        return _State(
            vectors=vectors,
            signs=signs,
            products=products,
            smooth=smooth,
            value=self.problem.loss_value(fit) + self.problem.beta * float(norms.sum()),
            gradient=gradient,
            slopes=slopes.astype(np.float32),
            convex=convex.astype(np.float32),
            curvature=self.problem.loss_hessian(fit).astype(np.float32),
            pull=(self.problem.beta / norms).astype(np.float32),
            directions=(vectors / norms[:, None]).astype(np.float32),
        )

    def _row_blocks(self, entries_per_row: int) -> list[slice]:
        n = self.problem.n_samples
        rows = max(64, _BLOCK_ENTRIES // max(entries_per_row, 1))
        return [slice(i, min(i + rows, n)) for i in range(0, n, rows)]

    def _apply(self, state: _State, p: SingleArray) -> SingleArray:
        """Product of the Newton matrix with one vector per neuron, ``(k, d)``."""
        radial = np.einsum("ij,ij->i", state.directions, p)
        out = state.pull[:, None] * ((1.0 + np.float32(self.damping)) * p - radial[:, None] * state.directions)
        for rows in self._row_blocks(len(p)):
            change = self.single[rows] @ p.T
            slopes = state.slopes[rows]
            coupled = state.curvature[rows] * np.einsum("ij,ij->i", slopes, change)
            change *= state.convex[rows]
            change += slopes * coupled[:, None]
            out += change.T @ self.single[rows]
        return out

    def _feature_products(self, rows: slice) -> SingleArray:
        return self.single[rows][:, self._upper[0]] * self.single[rows][:, self._upper[1]]

    def _inverse_blocks(self, state: _State) -> SingleArray:
        """Inverse of the diagonal block of each neuron, ``(k, d, d)``."""
        k, d = state.vectors.shape
        packed = np.zeros((k, len(self._upper[0])), dtype=np.float32)
        for rows in self._row_blocks(max(k, len(self._upper[0]) // 4)):
            weight = state.slopes[rows] ** 2
            weight *= state.curvature[rows, None]
            weight += state.convex[rows]
            pairs = self._pairs[rows] if self._pairs is not None else self._feature_products(rows)
            packed += weight.T @ pairs
        blocks = np.empty((k, d, d), dtype=np.float32)
        blocks[:, self._upper[0], self._upper[1]] = packed
        blocks[:, self._upper[1], self._upper[0]] = packed
        blocks -= state.pull[:, None, None] * state.directions[:, :, None] * state.directions[:, None, :]
        diagonal = np.arange(d)
        trace = blocks[:, diagonal, diagonal].sum(axis=1) + d * state.pull
        shift = (1.0 + np.float32(self.damping)) * state.pull + np.float32(1e-6) * np.maximum(trace, 0.0)
        blocks[:, diagonal, diagonal] += np.maximum(shift, np.float32(_FLATTEST))[:, None]
        return np.linalg.inv(blocks)

    def _solve(self, state: _State, blocks: SingleArray, deadline: float) -> FloatArray:
        """Inexact Newton direction by preconditioned conjugate gradients in single precision."""
        scale = float(np.max(np.abs(state.gradient)))
        if scale == 0.0:
            return np.zeros_like(state.gradient)
        residual = (-state.gradient / scale).astype(np.float32)
        move = np.zeros_like(residual)
        goal = _CG_TOL * float(np.linalg.norm(residual))
        p, last = None, 1.0
        for _ in range(_CG_MAX):
            z = np.matmul(blocks, residual[:, :, None])[:, :, 0]
            now = float(np.vdot(residual, z))
            p = z if p is None else z + np.float32(now / last) * p
            product = self._apply(state, p)
            bend = float(np.vdot(p, product))
            if not (np.isfinite(bend) and bend > 0.0 and now > 0.0):
                break
            if now / bend * float(np.max(np.abs(p))) > _LARGEST_MOVE:
                break
            share = np.float32(now / bend)
            move += share * p
            residual -= share * product
            last = now
            if np.linalg.norm(residual) <= goal or time.perf_counter() >= deadline:
                break
        if not np.any(move):
            return -state.gradient / (1.0 + self.damping)
        return move.astype(np.float64) * scale

    def _line_search(self, state: _State, move: FloatArray) -> tuple[float, FloatArray, float] | None:
        """Double the step while the smoothed objective falls, or halve it until it does; adapt the damping."""
        change = self.problem.X @ move.T
        length, value, products = 1.0, np.inf, state.products
        slope = float(np.vdot(state.gradient, move))
        for _ in range(10):
            trial = state.products + length * change
            trial_value = self._smoothed_value(state, move, length, trial)
            if value < state.value and trial_value >= value:
                length *= 0.5
                break
            improved = trial_value < state.value + 1e-4 * length * slope
            if improved:
                value, products = trial_value, trial
                if length < 1.0 or length >= 8.0:
                    break
                length *= 2.0
            else:
                length *= 0.5
        if not value < state.value:
            self.damping = max(10.0 * self.damping, 1e-3)
            return None
        self.damping = (
            max(0.5 * self.damping, 1e-3) if length >= 1.0 else (3.0 * self.damping if length < 0.5 else self.damping)
        )
        masses = np.linalg.norm(state.vectors + length * move, axis=1)
        fit = np.maximum(products, 0.0) @ state.signs
        return length, products, self.problem.loss_value(fit) + self.problem.beta * float(masses.sum())

    def _smoothed_value(self, state: _State, move: FloatArray, length: float, products: FloatArray) -> float:
        work = products * products
        work += state.smooth
        np.sqrt(work, out=work)
        work += products
        masses = np.linalg.norm(state.vectors + length * move, axis=1)
        return self.problem.loss_value(0.5 * (work @ state.signs)) + self.problem.beta * float(masses.sum())


@dataclass(frozen=True, eq=False)
class _State:
    """One iterate and the derivatives of the smoothed objective there (those for the solve in single precision)."""

    vectors: FloatArray
    signs: FloatArray
    products: FloatArray
    smooth: FloatArray
    value: float
    gradient: FloatArray
    slopes: SingleArray
    convex: SingleArray
    curvature: SingleArray
    pull: SingleArray
    directions: SingleArray
