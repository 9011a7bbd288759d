r"""Newton's method on both layers within faces: samples on a kink of a neuron stay until their multiplier objects.

The objective :math:`\mathrm{loss}((X W^\top)_+ A) + \tfrac{\beta}{2}(\|W\|_F^2 + \|A\|_F^2)` is smooth on the subspace
of each neuron in which its samples with :math:`x_j^\top w_k = 0` stay so, as long as no other sample crosses zero.
With the dual matrix N, a crossing of sample j costs where :math:`N_j^\top a_k < 0`: there minimisers stick.
"""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear, nnls

from cvxnn.problem import Problem
from cvxnn.solvers._layer_hessian import LayerHessian
from cvxnn.solvers.vector_neurons import VectorNeurons

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["refine_on_faces"]

_HALVINGS = 25
_ROUNDING = 1e-14
_SAME_KINK = 1e-9
_DEPENDENT = 1e-9
_MOVED = 0.1


def refine_on_faces(
    problem: Problem,
    neurons: VectorNeurons,
    *,
    masks: BoolArray | None = None,
    snap: float = 1e-7,
    tol: float = 1e-11,
    max_iter: int = 60,
    cg_steps: int = 150,
    deadline: float = math.inf,
) -> VectorNeurons:
    """Lower the objective to a stationary point near the given neurons.

    Parameters
    ----------
    problem : Problem
        Targets ``(n, c)``.
    neurons : VectorNeurons
        Start.
    masks : ndarray (n, k) of bool, optional
        Patterns that confine the neurons: no sample may cross zero.
    snap : float
        Samples within this angle of a kink start on it, where crossing it costs or is not allowed.
    tol : float
        Norm of the gradient, relative to beta times that of the weights, at which to stop.
    max_iter : int
        Most Newton steps.
    cg_steps : int
        Most conjugate gradient steps in a Newton system too large to be factorised.
    deadline : float
        On the clock of ``time.perf_counter``.

    Returns
    -------
    VectorNeurons
        Not worse than the start, but for rounding.

    Examples
    --------
    >>> problem = Problem([[1.0], [2.0]], [[1.0, 0.0], [2.0, 0.0]], beta=0.5)
    >>> start = VectorNeurons(np.array([[1.0]]), np.array([[0.5, 0.1]]))
    >>> refine_on_faces(problem, start).outputs.round(6) + 0.0
    array([[0.9, 0. ]])
    """
    if masks is not None:
        masks = masks[:, neurons.masses > 0.0]
    neurons = neurons.take(neurons.masses > 0.0)
    if len(neurons) == 0:
        return neurons
    faces = _Faces(problem, neurons, snap, masks)
    for _ in range(max_iter):
        if time.perf_counter() > deadline:
            break
        if faces.gradient_norm() <= tol * faces.scale() and not faces.release(tol):
            break
        if not faces.step(cg_steps, deadline) and not faces.release(tol):
            break
    refined = faces.neurons()
    # Where nothing is left to gain but rounding, the smaller gradient counts.
    return refined if refined.objective(problem) <= neurons.objective(problem) * (1.0 + _ROUNDING) else neurons


class _Faces:
    """Layers, the samples held on kinks ``held (n, k)`` and the samples that count as active ``active (n, k)``."""

    def __init__(self, problem: Problem, neurons: VectorNeurons, snap: float, masks: BoolArray | None) -> None:
        self.problem, self.beta, self.masks = problem, problem.beta, masks
        self.X = problem.X
        self.lengths = np.linalg.norm(self.X, axis=1)
        self.W, self.A = neurons.layers()
        t = self.X @ self.W.T
        self.active: BoolArray = t > 0.0 if masks is None else masks
        self.held: BoolArray = np.zeros_like(self.active)
        self.bases: list[FloatArray] = [np.zeros((self.X.shape[1], 0))] * len(self.W)
        self.projectors = np.tile(np.eye(self.X.shape[1]), (len(self.W), 1, 1))
        self._evaluate()
        reach = snap * self.lengths[:, None] * np.linalg.norm(self.W, axis=1)
        near = (np.abs(t) <= reach) & self._sticky() & (self.lengths[:, None] > 0.0)
        for k in np.flatnonzero(near.any(axis=0)):
            rows = np.flatnonzero(near[:, k])
            self._hold(int(k), rows[np.argsort(np.abs(t[rows, k]) / self.lengths[rows], kind="stable")])
        self._evaluate()

    def neurons(self) -> VectorNeurons:
        return VectorNeurons.from_layers(self.W, self.A)

    def scale(self) -> float:
        return self.beta * math.sqrt(float(np.sum(self.W**2) + np.sum(self.A**2)))

    def gradient_norm(self) -> float:
        return math.sqrt(float(np.sum(self.gW**2) + np.sum(self.gA**2)))

    def _sticky(self) -> BoolArray:
        """Kinks on which neurons come to rest: where a crossing costs, or all of them for confined neurons."""
        return self.N @ self.A.T < 0.0 if self.masks is None else np.ones_like(self.held)

    def _value(self, W: FloatArray, A: FloatArray) -> float:
        hidden = np.maximum(self.X @ W.T, 0.0)
        hidden[self.held if self.masks is None else self.held | ~self.masks] = 0.0
        return self.problem.loss_value(hidden @ A) + 0.5 * self.beta * float(np.sum(W * W) + np.sum(A * A))

    def _evaluate(self) -> None:
        """Objective, dual matrix and gradients at the present point."""
        self.t = self.X @ self.W.T
        self.hidden = np.where(self.active & ~self.held, self.t, 0.0)
        self.fit = self.hidden @ self.A
        self.N = self.problem.dual_vector(self.fit)
        self.value = self.problem.loss_value(self.fit) + 0.5 * self.beta * float(np.sum(self.W**2) + np.sum(self.A**2))
        self.live = (self.active & ~self.held).astype(np.float64)
        self.free_gW = self.beta * self.W - (self.live * (self.N @ self.A.T)).T @ self.X
        self.gW = self._project(self.free_gW)
        self.gA = self.beta * self.A - self.hidden.T @ self.N

    def _project(self, rows: FloatArray) -> FloatArray:
        """Parts within the faces."""
        return np.matmul(self.projectors, rows[:, :, None])[:, :, 0]

    def _hold(self, k: int, rows: npt.NDArray[np.intp]) -> None:
        """Put samples on the kink of neuron k as long as that moves its weights little; dependent ones follow."""
        basis, w = self.bases[k], self.W[k]
        size = float(np.linalg.norm(w))
        for j in rows:
            unit = self.X[j] / self.lengths[j]
            new = unit - basis @ (basis.T @ unit)
            new -= basis @ (basis.T @ new)
            length = float(np.linalg.norm(new))
            if length > _DEPENDENT:
                moved = w - (new / length) * float(new @ w) / length
                if np.linalg.norm(moved - w) > _MOVED * size:
                    continue
                basis, w = np.column_stack([basis, new / length]), moved
            self.held[j, k] = True
        self.bases[k] = basis
        self.projectors[k] = np.eye(len(w)) - basis @ basis.T
        self.W[k] = w - basis @ (basis.T @ w)

    def step(self, cg_steps: int, deadline: float) -> bool:
        """One damped Newton step on all neurons; whether the objective fell."""
        hessian = LayerHessian(self.problem, self.live, self.A, self.hidden, self.fit, self.N, self.projectors)
        norm = self.gradient_norm()
        dW, dA = hessian.step(self.gW, self.gA, min(0.1, norm / self.scale()) * norm, cg_steps, deadline)
        dt = self.X @ dW.T
        if self.masks is None:
            crossing = (self.t * (self.t + dt) < 0.0) & ~self.held & self._sticky()
            room = np.abs(self.t)
        else:
            # A sample on the boundary of the cone, or beyond it by rounding, may not move out either.
            side = np.where(self.masks, 1.0, -1.0)
            crossing = (side * dt < 0.0) & (side * (self.t + dt) < 0.0) & ~self.held & (self.lengths[:, None] > 0.0)
            room = np.maximum(side * self.t, 0.0)
        share = np.where(crossing, room / np.where(crossing, np.abs(dt), 1.0), np.inf)
        first = np.minimum(np.min(share, axis=0), 1.0)
        slope = float(np.sum(dW * self.gW) + np.sum(dA * self.gA))
        length = 1.0
        for _ in range(_HALVINGS):
            reach = np.minimum(first, length)
            W, A = self.W + reach[:, None] * dW, self.A + length * dA
            value = self._value(W, A)
            if value <= self.value + 1e-6 * length * slope or (length == 1.0 and value < self.value):
                break
            length *= 0.5
        else:
            return False
        before = self.value
        self.W, self.A = W, A
        t = self.X @ W.T
        if self.masks is None:
            self.active = np.where(t == 0.0, self.active, t > 0.0)
        for k in np.flatnonzero((first <= length) & (first < 1.0)):
            self._hold(int(k), np.flatnonzero(share[:, k] <= first[k] * (1.0 + _SAME_KINK) + 1e-15))
        self._evaluate()
        return self.value < before

    def release(self, tol: float) -> bool:
        r"""Let samples go whose multipliers have the wrong sign; whether there were any.

        With the cost :math:`s_j = -N_j^T a_k` of a crossing, w is stationary on its kinks where the gradient on the
        face is :math:`-\sum_j \sigma_j s_j x_j` with :math:`0 \le \sigma_j \le 1`. Otherwise the residual of the
        best such combination is the steepest way down. Confined neurons have one side and :math:`\sigma_j \ge 0` only.
        """
        released = False
        costs = -(self.N @ self.A.T)
        for k in np.flatnonzero(self.held.any(axis=0)):
            rows = np.flatnonzero(self.held[:, k])
            limit = max(1e-7, 1e3 * tol) * self.beta * max(float(np.linalg.norm(self.W[k])), 1e-300)
            if self.masks is None:
                gain = costs[rows, k] <= 0.0
                descent = self._free_descent(int(k), rows, np.maximum(costs[rows, k], 0.0), limit)
            else:
                gain = np.zeros(len(rows), dtype=bool)
                sides = np.where(self.masks[rows, k], 1.0, -1.0)[:, None] * self.X[rows]
                descent = sides.T @ nnls(sides.T, self.free_gW[k], maxiter=1000 + 50 * len(rows))[0] - self.free_gW[k]
            if np.linalg.norm(descent) <= limit and not gain.any():
                continue
            along = self.X[rows] @ descent
            loose = (np.abs(along) > 1e-9 * self.lengths[rows] * np.linalg.norm(descent)) | gain
            if not loose.any():
                continue
            released = True
            if self.masks is None:
                self.active[rows[loose], k] = np.where(gain[loose], True, along[loose] > 0.0)
            self._restart(int(k), rows[~loose], rows[loose])
        if released:
            self._evaluate()
        return released

    def _free_descent(self, k: int, rows: npt.NDArray[np.intp], costs: FloatArray, limit: float) -> FloatArray:
        """Steepest way down from the kinks of neuron k, whose crossings have these costs."""
        columns = (self.X[rows] * costs[:, None]).T
        sigma = np.clip(np.linalg.lstsq(columns, -self.free_gW[k], rcond=None)[0], 0.0, 1.0)
        descent = -(self.free_gW[k] + columns @ sigma)
        if np.linalg.norm(descent) > limit:
            sigma = np.clip(lsq_linear(columns, -self.free_gW[k], (0.0, 1.0), method="bvls").x, 0.0, 1.0)
            descent = -(self.free_gW[k] + columns @ sigma)
        return descent

    def _restart(self, k: int, kept: npt.NDArray[np.intp], loose: npt.NDArray[np.intp]) -> None:
        """Face of neuron k without some samples."""
        self.held[loose, k] = False
        self.held[kept, k] = False
        self.bases[k] = np.zeros((self.X.shape[1], 0))
        self._hold(k, kept)
