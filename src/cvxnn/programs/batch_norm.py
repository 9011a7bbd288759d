r"""Batch-norm networks: the ReLU program on whitened data.

With the batch statistics of the training data, a neuron with batch norm is
:math:`a\,(\gamma\, \tilde X w/\|\tilde X w\| + \alpha \mathbf 1/\sqrt n)_+`, where :math:`\tilde X` is the centred
data. With :math:`\tilde X = U \Sigma V^\top` and :math:`q = \gamma\, \Sigma V^\top w / \|\Sigma V^\top w\|` it reads
:math:`a\,(U q + \alpha \mathbf 1/\sqrt n)_+` with :math:`\|q\| = |\gamma|`: w itself is not penalised, and weight decay
on :math:`\gamma, \alpha, a` is weight decay of the network on :math:`U' = [U, \mathbf 1/\sqrt n]` (Ergen, Sahiner,
Ozturkler, Pauly, Mardani and Pilanci, "Demystifying batch normalization in ReLU networks", ICLR 2022). Back,
:math:`\gamma = \|q\|` and :math:`w = V \Sigma^{-1} q`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_features, as_float_array, frozen_weights
from cvxnn.certificates._rounding import gamma as rounding_gamma
from cvxnn.certificates.batch_norm_bound import certify_batch_norm, dual_size, whitening_error
from cvxnn.networks import HiddenLayer, ReLUNetwork, row_norms, safe_ratio
from cvxnn.problem import Problem
from cvxnn.programs.relu import ReLUOptions, solve_relu
from cvxnn.progress import Recorder
from cvxnn.solution import Solution, Status

FloatArray = npt.NDArray[np.float64]

__all__ = ["BatchNormReLUNetwork", "WhitenedData", "solve_batch_norm", "whiten"]

_EPS = float(np.finfo(np.float64).eps)
_CONSTANT = 64.0
"""Columns whose deviations are at most so many units of rounding of their entries count as constant, directions whose
deviations are as small as dependent. A larger number would deny networks that can be evaluated."""


@dataclass(frozen=True, eq=False, repr=False)
class BatchNormReLUNetwork(HiddenLayer):
    r"""Two-layer ReLU network with batch norm and the statistics of its training data.

    .. math:: f(x) = \sum_i a_i \big(\gamma_i\, (x-\mu)^\top w_i / s_i + \alpha_i/\sqrt n\big)_+

    In frameworks whose batch norm divides by the standard deviation, the layer has weight
    :math:`\gamma_i/\sqrt n`, bias :math:`\alpha_i/\sqrt n`, running mean :math:`\mu^\top w_i` and running variance
    :math:`s_i^2/n` (biased, with no constant added).

    Parameters
    ----------
    W : array-like (m, d)
        First layer, one neuron a row; its length does not matter.
    gamma, alpha : array-like (m,)
        Scale and shift of the normalised pre-activations.
    a : array-like (m,)
        Second layer. Width m = 0 is allowed: it is the zero function.
    mean : array-like (d,)
        Mean of the data.
    scale : array-like (m,)
        Norms :math:`s_i = \|\tilde X w_i\|` on the data; a neuron with ``scale`` 0 has only its shift.
    n_samples : int
        Number of samples n of the data.

    Raises
    ------
    ValueError
        If the shapes do not match or an entry is not finite.

    Examples
    --------
    >>> net = BatchNormReLUNetwork.from_data([[1.0], [3.0]], [[2.0]], [1.0], [0.0], [4.0])
    >>> net([[3.0], [5.0]]).round(6)
    array([2.828427, 8.485281])
    """

    W: FloatArray
    gamma: FloatArray
    alpha: FloatArray
    a: FloatArray
    mean: FloatArray
    scale: FloatArray
    n_samples: int

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        object.__setattr__(self, "n_samples", as_count(self.n_samples, "n_samples"))
        W = np.array(self.W, dtype=np.float64)
        if W.ndim != 2 or W.shape[1] == 0:
            raise ValueError(f"W must have shape (m, d) with d >= 1; got {W.shape}.")
        m, d = W.shape
        shapes = {"W": (m, d), "gamma": (m,), "alpha": (m,), "a": (m,), "mean": (d,), "scale": (m,)}
        for name, shape in shapes.items():
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape} as W has shape {W.shape}; got {array.shape}.")
            object.__setattr__(self, name, frozen_weights(array, name))
        if np.any(self.scale < 0):
            raise ValueError(f"scale must be non-negative; got a smallest value of {self.scale.min():g}.")

    @classmethod
    def from_data(
        cls, X: npt.ArrayLike, W: npt.ArrayLike, gamma: npt.ArrayLike, alpha: npt.ArrayLike, a: npt.ArrayLike
    ) -> BatchNormReLUNetwork:
        """Network with the statistics of the data ``X (n, d)``: their mean, and the norms of the pre-activations."""
        data, weights = as_float_array(X, "X", ndim=2), np.asarray(W, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[1] != data.shape[1]:
            raise ValueError(
                f"W must have shape (m, {data.shape[1]}) as X has shape {data.shape}; got {weights.shape}."
            )
        mean, centred, error = _centre(data)
        values = (weights @ centred.T).reshape(len(weights), len(data))
        scale = row_norms(values)
        # What cancels in the product is rounding, and batch norm would make it a signal. No direction that whitening
        # takes for dependent passes.
        units = _CONSTANT * _EPS * np.sqrt(data.shape[1]) * row_norms(centred.T) + 2.0 * np.sqrt(len(data)) * error
        noise = np.abs(weights) @ units
        scale[scale <= noise] = 0.0
        return cls(weights, np.asarray(gamma), np.asarray(alpha), np.asarray(a), mean, scale, len(data))

    def __call__(self, X: npt.ArrayLike) -> FloatArray:
        """Outputs ``(n,)`` with the stored statistics, as a trained network predicts."""
        data = as_features(X, self.n_features)
        normalised = (data - self.mean) @ (self.W * safe_ratio(np.ones(self.width), self.scale)[:, None]).T
        return np.maximum(normalised * self.gamma + self.alpha / np.sqrt(self.n_samples), 0.0) @ self.a

    def __repr__(self) -> str:
        """Short form with the sizes."""
        return f"BatchNormReLUNetwork(width={self.width}, n_features={self.n_features}, n_samples={self.n_samples})"

    def on_batch(self, X: npt.ArrayLike) -> BatchNormReLUNetwork:
        """Network with the same weights and the statistics of ``X``, as it is evaluated during training."""
        return BatchNormReLUNetwork.from_data(X, self.W, self.gamma, self.alpha, self.a)

    def folded(self) -> ReLUNetwork:
        """ReLU network with the same outputs on data with a column of ones at the end, statistics included.

        Examples
        --------
        >>> net = BatchNormReLUNetwork.from_data([[1.0], [3.0]], [[2.0]], [1.0], [0.5], [4.0])
        >>> bool(np.allclose(net.folded()([[3.0, 1.0], [5.0, 1.0]]), net([[3.0], [5.0]])))
        True
        """
        W = self.W * (self.gamma * safe_ratio(np.ones(self.width), self.scale))[:, None]
        return ReLUNetwork(np.column_stack([W, self.alpha / np.sqrt(self.n_samples) - W @ self.mean]), self.a)

    def penalty(self) -> float:
        r"""Weight decay term :math:`\tfrac12(\|\gamma\|^2 + \|\alpha\|^2 + \|a\|^2)`, without beta; W is free."""
        return 0.5 * float(sum(np.sum(part * part) for part in (self.gamma, self.alpha, self.a)))

    def objective(self, problem: Problem) -> float:
        r"""Training objective :math:`\mathrm{loss}(f(X), y) + \beta\,`:meth:`penalty`.

        The batch statistics are those of the problem's X, as in training.

        Examples
        --------
        >>> problem = Problem([[1.0], [3.0]], [0.0, 2.0], beta=0.5)
        >>> net = BatchNormReLUNetwork.from_data(problem.X, [[1.0]], [2.0**0.75], [0.0], [2.0**0.75])
        >>> round(net.objective(problem), 6)
        1.414214
        """
        return problem.loss_value(self.on_batch(problem.X)(problem.X)) + problem.beta * self.penalty()


@dataclass(frozen=True, eq=False)
class WhitenedData:
    r"""Data :math:`U' = [U, \mathbf 1/\sqrt n]` of the equivalent ReLU network, and the way back.

    Attributes
    ----------
    data : ndarray (n, r + 1)
        Orthonormal basis of the centred columns, then the constant column :math:`1/\sqrt n`.
    back : ndarray (d, r)
        ``w = back q`` has ``(X - mean) w = U q``.
    mean : ndarray (d,)
    epsilon, kappa : float
        Rounding of the whitening, see :func:`cvxnn.certificates.batch_norm_bound.whitening_error`.
    """

    data: FloatArray
    back: FloatArray
    mean: FloatArray
    epsilon: float
    kappa: float

    def problem_of(self, problem: Problem) -> Problem:
        """Problem of the equivalent ReLU network: that of the batch-norm network with :attr:`data` in place of X."""
        return Problem(self.data, problem.y, problem.beta, problem.loss, sample_weight=problem.sample_weight)

    def to_relu(self, network: BatchNormReLUNetwork, X: FloatArray) -> ReLUNetwork:
        """ReLU network on :attr:`data` with the outputs and the penalty of a batch-norm network on X."""
        unit = safe_ratio(np.ones(network.width), network.scale)
        q = network.gamma[:, None] * ((network.W * unit[:, None]) @ ((X - self.mean).T @ self.data[:, :-1]))
        return ReLUNetwork(np.column_stack([q, network.alpha]), network.a)

    def from_relu(self, network: ReLUNetwork, X: FloatArray) -> BatchNormReLUNetwork:
        r"""Batch-norm network of a ReLU network on :attr:`data`: :math:`\gamma = \|q\|,\ w = V \Sigma^{-1} q`."""
        q, alpha = network.W[:, :-1], network.W[:, -1]
        gamma = row_norms(q)
        W = (q * safe_ratio(np.ones(len(q)), gamma)[:, None]) @ self.back.T
        return BatchNormReLUNetwork.from_data(X, W, gamma, alpha, network.a)


def whiten(X: npt.ArrayLike) -> WhitenedData:
    r"""Whiten data ``(n, d)`` for batch norm.

    Columns that are constant, and directions in which the centred columns depend on each other, to rounding, carry no
    neuron: batch norm would scale their rounding errors up to a signal.

    Examples
    --------
    >>> whiten([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]).data.shape
    (3, 2)
    """
    data = as_float_array(X, "X", ndim=2)
    n, d = data.shape
    mean, centred, error = _centre(data)
    norms = row_norms(centred.T)
    varying = np.flatnonzero(norms > _CONSTANT * _EPS * np.sqrt(n) * np.max(np.abs(data), axis=0))
    scaled = centred[:, varying] / norms[varying]
    # Division by the norm is one more rounding of each entry.
    shift = error[varying] / norms[varying] + _EPS * np.max(np.abs(scaled), axis=0, initial=0.0)
    V, s = _directions(scaled, 2.0 * np.sqrt(n) * float(np.linalg.norm(error[varying] / norms[varying])))
    U = scaled @ V / s
    epsilon, kappa = whitening_error(scaled, shift, V, s, U)
    back = np.zeros((d, len(s)))
    back[varying] = V / s / norms[varying, None]
    return WhitenedData(np.column_stack([U, np.full(n, 1.0 / np.sqrt(n))]), back, mean, epsilon, kappa)


def _centre(data: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean ``(d,)``, centred data and a bound ``(d,)`` of the errors of their entries.

    Taking the mean twice removes the rounding of the first one.
    """
    first = np.mean(data, axis=0)
    mean = first + np.mean(data - first, axis=0)
    centred = data - mean
    # The differences are rounded, and the mean of what they leave is computed from them.
    error = np.abs(np.mean(centred, axis=0)) + 4.0 * _EPS * np.max(np.abs(data), axis=0)
    return mean, centred, (error + rounding_gamma(len(data) + 4) * np.mean(np.abs(centred), axis=0)) * (1.0 + 1e-9)


def _directions(scaled: FloatArray, noise: float) -> tuple[FloatArray, FloatArray]:
    """Right singular vectors ``(k, r)`` and singular values of the part that is no rounding of the data."""
    if scaled.shape[1] == 0:
        return np.zeros((0, 0)), np.zeros(0)
    triangle = np.linalg.qr(scaled, mode="r") if len(scaled) > scaled.shape[1] else scaled
    _, values, rows = np.linalg.svd(triangle, full_matrices=False)
    rank = int(np.count_nonzero(values > _CONSTANT * _EPS * values[0] + noise))
    return np.ascontiguousarray(rows[:rank].T), values[:rank]


def solve_batch_norm(
    problem: Problem,
    whitened: WhitenedData,
    options: ReLUOptions,
    recorder: Recorder,
) -> Solution:
    """Train a two-layer ReLU network with batch norm to a certified optimum.

    Parameters
    ----------
    problem : Problem
        Loss, targets, ``beta > 0`` and sample weights; these enter the loss and not the batch statistics.
    whitened : WhitenedData
        :func:`whiten` of its data.
    options : ReLUOptions
        ``listed`` and ``warm_start`` belong to the whitened data.
    recorder : Recorder
        Clock and history.

    Returns
    -------
    Solution
        Its network is a :class:`BatchNormReLUNetwork`; ``patterns`` and ``blocks`` belong to the whitened data.

    Raises
    ------
    ValueError
        For a loss that the bound does not cover.

    Examples
    --------
    >>> problem = Problem([[0.0], [1.0], [2.0]], [0.0, 0.0, 1.0], beta=0.1)
    >>> options = ReLUOptions(None, 1e-6, False, None, 200, None, 0)
    >>> s = solve_batch_norm(problem, whiten(problem.X), options, Recorder(False))
    >>> s.scope, s.network.width, round(s.objective, 6)
    ('global', 1, 0.123613)
    """
    # Refuses a loss that the bound does not cover before any work is done.
    dual_size(problem)
    solution = solve_relu(whitened.problem_of(problem), options, recorder)
    network = whitened.from_relu(solution.network, problem.X)
    certificate = certify_batch_norm(
        problem, network.objective(problem), solution.certificate, whitened.epsilon, whitened.kappa
    )
    status = solution.status
    if status.converged and certificate.gap > options.tol:
        status = Status.STALLED
    return replace(solution, network=network, certificate=certificate, status=status)
