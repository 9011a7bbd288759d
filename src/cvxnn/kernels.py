r"""Gated ReLU networks as kernel learning: the tangent kernel, its best weights, and the way from one to the other.

With weights :math:`\eta_i \ge 0` of the gates the gated network has the kernel
:math:`K_\eta = \sum_i \eta_i D_i X X^\top D_i`, and training with weight decay is the choice of the best weights
(Dwaraknath, Ergen and Pilanci, 2023, "Fixing the NTK: from neural network linearizations to exact convex programs"):

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|
          \ =\ \min_{\eta \ge 0}\ \min_{f}\ \ell(f) + \tfrac\beta2 f^\top K_\eta^{+} f + \tfrac\beta2 \sum_i \eta_i .

The neural tangent kernel is the choice of weights that knows nothing of the targets.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.architectures import GatedReLU, gate_masks
from cvxnn.certificates.certificate import Certificate
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.networks import row_norms
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_no_output_bias
from cvxnn.programs.gated import GatedReLUNetwork

FloatArray = npt.NDArray[np.float64]

__all__ = ["KernelPath", "gated_kernel", "gated_tangent_kernel", "reweighted_kernel_path"]

_MOST_SAMPLES = 4000
_NEWTON_STEPS, _HALVINGS = 60, 40
_NEWTON_TOL = 1e-15
_FIRST_SCALES = 40


def gated_kernel(
    X: npt.ArrayLike, gates: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, other: npt.ArrayLike | None = None
) -> FloatArray:
    r"""Kernel :math:`K = \sum_i \eta_i D_i X X'^\top D_i'` of a gated ReLU network with fixed gates.

    Parameters
    ----------
    X : array-like (n, d)
    gates : array-like (P, d)
    weights : array-like (P,), optional
        Non-negative weights of the gates; 1 / P by default, the tangent kernel of the network at random first layers.
    other : array-like (n', d), optional
        Data X' of the columns; X by default.

    Returns
    -------
    ndarray (n, n')

    Raises
    ------
    ValueError
        If a shape does not match or a weight is negative.

    Examples
    --------
    >>> gated_kernel([[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [-1.0, 2.0]], [1.0, 1.0])
    array([[1., 1.],
           [1., 4.]])
    """
    data, rows = as_float_array(X, "X", ndim=2), as_float_array(gates, "gates", ndim=2)
    columns = data if other is None else as_float_array(other, "other", ndim=2)
    if columns.shape[1] != data.shape[1]:
        raise ValueError(f"other has {columns.shape[1]} features but X has {data.shape[1]}; they must match.")
    eta = _weights(weights, len(rows))
    left = gate_masks(data, rows).astype(np.float64)
    right = left if other is None else gate_masks(columns, rows).astype(np.float64)
    return (data @ columns.T) * ((left.T * eta) @ right)


def gated_tangent_kernel(X: npt.ArrayLike, *, other: npt.ArrayLike | None = None) -> FloatArray:
    r"""Mean of :func:`gated_kernel` over Gaussian gates.

    It is :math:`x^\top x' (\pi - \theta) / 2\pi` at the angle :math:`\theta`, the limit of the tangent kernel for a
    growing number of random gates.

    Examples
    --------
    >>> gated_tangent_kernel([[1.0, 0.0], [1.0, 1.0]]).round(4)
    array([[0.5  , 0.375],
           [0.375, 1.   ]])
    """
    data = as_float_array(X, "X", ndim=2)
    columns = data if other is None else as_float_array(other, "other", ndim=2)
    if columns.shape[1] != data.shape[1]:
        raise ValueError(f"other has {columns.shape[1]} features but X has {data.shape[1]}; they must match.")
    first, second = _unit(data), _unit(columns)
    cosine = np.clip(first @ second.T, -1.0, 1.0)
    if other is None:
        np.fill_diagonal(cosine, np.where(np.any(data != 0.0, axis=1), 1.0, 0.0))
    return (data @ columns.T) * (np.pi - np.arccos(cosine)) / (2.0 * np.pi)


def _unit(rows: FloatArray) -> FloatArray:
    norms = row_norms(rows)
    return rows / np.where(norms > 0.0, norms, 1.0)[:, None]


@dataclass(frozen=True, eq=False)
class KernelPath:
    """Course of iterative reweighting from the tangent kernel to the best weights.

    Attributes
    ----------
    weights : ndarray (k, P)
        Weights of the gates at each step; the first row is constant, the tangent kernel in its best scale.
    kernel_objectives : ndarray (k,)
        Objective of learning with the kernel of these weights; never rises.
    objectives : ndarray (k,)
        Objective of the gated network that the kernel's solution is; below the former, with equality at the optimum.
    lower_bounds : ndarray (k,)
        Proved bound of the objective over all networks with these gates; the best so far.
    network : GatedReLUNetwork
        The last network.
    certificate : Certificate
        Its certificate, of scope "patterns".
    interrupted : bool
        Whether the user ended the path.
    """

    weights: FloatArray
    kernel_objectives: FloatArray
    objectives: FloatArray
    lower_bounds: FloatArray
    network: GatedReLUNetwork
    certificate: Certificate
    interrupted: bool

    @property
    def gap(self) -> float:
        """Relative duality gap of the last network."""
        return self.certificate.gap


def reweighted_kernel_path(
    problem: Problem,
    architecture: GatedReLU,
    *,
    tol: float = 1e-6,
    max_iter: int = 5000,
    time_limit: float | None = None,
) -> KernelPath:
    r"""Learn the weights of the gates by iterative reweighting, from the tangent kernel to the trained network.

    A step solves the kernel problem for the weights :math:`\eta`, with the dual vector :math:`\nu`, and sets
    :math:`\eta_i \leftarrow \|u_i\| = \eta_i \|X^\top D_i \nu\| / \beta`, the best weights for the blocks u. Every
    second step tries an extrapolation of the last two, which is taken where it is better. Slower than
    :func:`cvxnn.solve` with :class:`cvxnn.GatedReLU`, whose optimum it reaches: it is meant to show the way.

    Parameters
    ----------
    problem : Problem
        Up to 4000 samples, ``beta > 0``.
    architecture : GatedReLU
    tol : float, default 1e-6
        Relative duality gap at which to stop.
    max_iter : int, default 5000
        Most steps.
    time_limit : float, optional
        Seconds; the path so far is returned when they run out, or at an interrupt.

    Raises
    ------
    ValueError
        For options out of range, an output bias, too many samples, or gates of another number of columns.

    References
    ----------
    Dwaraknath, Ergen and Pilanci (2023), "Fixing the NTK: from neural network linearizations to exact convex programs",
    section 5; Varadhan and Roland (2008), "Simple and globally convergent methods for accelerating the convergence of
    any EM algorithm" (the extrapolation).

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0], beta=0.5)
    >>> path = reweighted_kernel_path(problem, GatedReLU([[1.0, -1.0], [-1.0, 1.0]]))
    >>> path.weights[0].round(4), path.weights[-1].round(4), float(path.objectives[-1].round(4))
    (array([1., 1.]), array([1.5, 0.5]), 1.25)
    """
    require_no_output_bias(problem, "reweighted_kernel_path")
    _check(problem, architecture)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = as_count(max_iter, "max_iter")
    seconds = math.inf if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    run = _Reweighting(problem, architecture)
    deadline = time.perf_counter() + seconds
    interrupted = False
    try:
        run.start()
        while run.certificate.gap > tol and len(run.rows) < limit and time.perf_counter() < deadline:
            run.advance()
    except KeyboardInterrupt:
        interrupted = True
    return run.path(interrupted=interrupted)


def _check(problem: Problem, architecture: GatedReLU) -> None:
    if not isinstance(architecture, GatedReLU):
        raise ValueError(f"architecture must be GatedReLU(gates); got {architecture!r}.")
    if architecture.gates.shape[1] != problem.n_features:
        raise ValueError(
            f"gates has {architecture.gates.shape[1]} columns but X has {problem.n_features} features; they must match."
        )
    if problem.beta == 0.0:
        raise ValueError("beta must be > 0 for a kernel problem; got 0.")
    if problem.n_samples > _MOST_SAMPLES:
        raise ValueError(
            f"the kernel has {problem.n_samples} rows and columns; up to {_MOST_SAMPLES} samples are taken: "
            "solve(problem, architecture=GatedReLU(gates)) trains the same network without it."
        )


def _weights(weights: npt.ArrayLike | None, count: int) -> FloatArray:
    if weights is None:
        return np.full(count, 1.0 / count)
    eta = as_float_array(weights, "weights", ndim=1)
    if len(eta) != count:
        raise ValueError(f"weights has {len(eta)} entries but there are {count} gates; they must match.")
    if np.any(eta < 0.0):
        raise ValueError(f"weights must be non-negative; got a smallest value of {eta.min():g}.")
    return eta


class _Reweighting:
    """Weights, dual vector and record of the steps."""

    def __init__(self, problem: Problem, architecture: GatedReLU) -> None:
        self.problem = problem
        self.gates = architecture.gates
        masks = architecture.masks(problem.X)
        self.patterns = ActivationPatterns.from_masks(masks, self.gates)
        self.masks = masks.astype(np.float64)
        self.gram = problem.X @ problem.X.T
        self.rows: list[tuple[FloatArray, float, float, float]] = []
        self.alpha = problem.dual_vector(np.zeros(problem.n_samples))
        self.previous: FloatArray | None = None
        # The zero network, until a kernel problem is solved.
        self.network = GatedReLUNetwork.from_vectors(self.gates, np.zeros(self.gates.shape))
        self.certificate = certify_gated(problem, self.network.objective(problem), self.patterns, self.alpha)
        self.eta = np.zeros(len(self.gates))
        self.next = self.eta

    def start(self) -> None:
        """Equal weights, in the scale that is best among powers of two."""
        best = math.inf
        kernel = self.gram * (self.masks.T @ self.masks)
        size = float(np.mean(np.diagonal(kernel)))
        scale = 1.0 if size == 0.0 else self.problem.beta / size
        # The objective is convex in the scale: it is met from below until it rises.
        for _ in range(2 * _FIRST_SCALES):
            value, alpha = self._solve(scale * np.ones(len(self.gates)), kernel=scale * kernel)
            if not value < best:
                break
            best, self.alpha, self.eta = value, alpha, scale * np.ones(len(self.gates))
            scale *= 2.0
        self._take(self.eta, best, self.alpha)

    def advance(self) -> None:
        """One reweighting; every second one with an extrapolation in the logarithms of the weights."""
        if self.previous is not None:
            trial = self._extrapolated(self.previous, self.eta, self.next)
            self.previous = None
            # The weights alone cost half of beta each.
            if trial is not None and 0.5 * self.problem.beta * float(np.sum(trial)) < self.rows[-1][1]:
                value, alpha = self._solve(trial)
                if value < self.rows[-1][1]:
                    self._take(trial, value, alpha)
                    return
        else:
            self.previous = self.eta
        eta = self.next
        value, alpha = self._solve(eta)
        self._take(eta, value, alpha)

    @staticmethod
    def _extrapolated(first: FloatArray, second: FloatArray, third: FloatArray) -> FloatArray | None:
        live = (first > 0.0) & (second > 0.0) & (third > 0.0)
        if not np.any(live):
            return None
        step = np.log(second[live] / first[live])
        bend = np.log(third[live] / second[live]) - step
        size = float(np.linalg.norm(bend))
        if size == 0.0:
            return None
        length = max(1.0, min(float(np.linalg.norm(step)) / size, 1e3))
        out = np.zeros_like(third)
        exponent = np.clip(2.0 * length * step + length * length * bend, -700.0, 50.0)
        out[live] = first[live] * np.exp(exponent)
        return out

    def _take(self, eta: FloatArray, value: float, alpha: FloatArray) -> None:
        """Network and bound of a solved kernel problem, and the weights that follow."""
        problem = self.problem
        blocks = (eta / problem.beta)[:, None] * ((self.masks * alpha) @ problem.X)
        self.eta, self.alpha, self.next = eta, alpha, row_norms(blocks)
        self.network = GatedReLUNetwork.from_vectors(self.gates, blocks)
        objective = self.network.objective(problem)
        # At the solution the coefficients are the dual vector; the latter is in the domain of the conjugate.
        nu = problem.dual_vector(self.network(problem.X))
        found = certify_gated(problem, objective, self.patterns, nu)
        if found.lower_bound < self.certificate.lower_bound:
            found = replace(self.certificate, objective=objective)
        self.certificate = found
        self.rows.append((eta, value, objective, found.lower_bound))

    def _solve(self, eta: FloatArray, *, kernel: FloatArray | None = None) -> tuple[float, FloatArray]:
        r"""Objective and coefficients of the kernel problem: Newton's method on :math:`f = K \alpha / \beta`."""
        problem, beta = self.problem, self.problem.beta
        K = self.gram * ((self.masks.T * eta) @ self.masks) if kernel is None else kernel
        K = K / beta
        alpha = self.alpha

        def value(point: FloatArray) -> tuple[float, FloatArray]:
            fit = K @ point
            return problem.loss_value(fit) + 0.5 * float(point @ fit), fit

        current, fit = value(alpha)
        for _ in range(_NEWTON_STEPS):
            gradient, curvature = problem.loss_gradient(fit), problem.loss_hessian(fit)
            root = np.sqrt(curvature)
            target = curvature * fit - gradient
            matrix = root[:, None] * K * root
            matrix[np.diag_indices_from(matrix)] += 1.0
            try:
                factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                # A kernel so large that its rounding exceeds the identity: the coefficients so far stand.
                break
            move = target - root * cho_solve(factor, root * (K @ target), check_finite=False) - alpha
            # Decrease that the gradient K (alpha + gradient) promises.
            slope = float((K @ (alpha + gradient)) @ move)
            if not slope < -_NEWTON_TOL * abs(current):
                break
            step = 1.0
            for _ in range(_HALVINGS):
                trial, trial_fit = value(alpha + step * move)
                if trial <= current + 1e-4 * step * slope:
                    break
                step *= 0.5
            else:
                break
            alpha, current, fit = alpha + step * move, trial, trial_fit
        return current + 0.5 * beta * float(np.sum(eta)), alpha

    def path(self, *, interrupted: bool) -> KernelPath:
        """Record of all steps."""
        if not self.rows:
            value = self.network.objective(self.problem)
            self.rows.append((self.eta, value, value, self.certificate.lower_bound))
        weights, values, objectives, bounds = zip(*self.rows, strict=True)
        return KernelPath(
            np.array(weights),
            np.array(values),
            np.array(objectives),
            np.array(bounds),
            self.network,
            self.certificate,
            interrupted,
        )
