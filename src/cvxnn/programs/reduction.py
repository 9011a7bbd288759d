"""Equivalent problem of smaller dimension and unit scale, with the map back.

The optimal first-layer weights lie in the row space of the data, so ``X = Z V^T`` may be replaced by ``Z (n, r)``
without changing any norm. Scaling the data by 1/sigma, the targets by 1/tau and the sample weights by 1/kappa
multiplies the objective by a constant when beta is scaled along; solvers then see quantities of order one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.losses import HuberLoss, Loss, SquaredLoss
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns._rank import reduce_rank
from cvxnn.problem import Problem, problem_of
from cvxnn.solvers.axis_scales import kink_axes
from cvxnn.solvers.best_bias import BestBias, replaced
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["Reduction", "reduce_problem"]

_LEAST_BETA = 1e-30
"""Least beta of a problem of order one: below it the rounding of the fit decides the objective."""

_MOST_DELTA, _LEAST_DELTA = 1e100, 1e-100
"""Bounds of the width of the Huber loss in units of the targets: beyond the first it is the squared loss."""


@dataclass(frozen=True)
class Reduction:
    """Small problem and the constants that lead back.

    Attributes
    ----------
    problem : Problem
        Reduced problem with data ``(n', r)``; samples of zero weight are left out. An output bias follows the neurons
        (:class:`cvxnn.solvers.best_bias.BestBias`).
    basis : ndarray (d, r)
        Orthonormal basis V of the row space.
    vector_scale : float
        Vectors of the original program are ``vector_scale * V z``.
    objective_scale : float
        Original objective divided by the reduced one (up to the samples of zero weight, which cost nothing).
    samples : ndarray (n',) of int
        Samples kept.
    """

    problem: Problem
    basis: FloatArray
    vector_scale: float
    objective_scale: float
    samples: npt.NDArray[np.int64]

    def expand(self, neurons: Neurons) -> Neurons:
        """Neurons of the original problem from neurons of the reduced one."""
        return Neurons(self.vector_scale * (neurons.vectors @ self.basis.T), neurons.signs)

    def restrict(self, network: ReLUNetwork) -> Neurons:
        """Neurons of the reduced problem from a network on the original data; parts outside the row space go."""
        vectors = np.abs(network.a)[:, None] * (network.W @ self.basis) / self.vector_scale
        keep = np.linalg.norm(vectors, axis=1) > 0
        return Neurons(vectors[keep], np.sign(network.a[keep]))

    def restrict_directions(self, directions: FloatArray, signs: npt.NDArray[np.int64]) -> Neurons:
        """Unit directions of the original space as neurons of the reduced problem; their masses mean nothing."""
        return Neurons(directions @ self.basis, signs.astype(np.float64))


def reduce_problem(problem: Problem, *, keep_samples: bool = False) -> Reduction:
    """Reduce the rank, drop samples of zero weight, and scale data, targets and weights to order one.

    Parameters
    ----------
    problem : Problem
    keep_samples : bool
        Keep samples of zero weight: they cost nothing, yet their signs confine the neurons of listed patterns.

    Examples
    --------
    >>> from cvxnn import Problem
    >>> reduction = reduce_problem(Problem([[1e6, 1e6], [2e6, 2e6], [0.0, 0.0]], [1.0, 2.0, 3.0]))
    >>> reduction.problem.X.shape
    (3, 1)
    """
    samples = np.flatnonzero((problem.sample_weight > 0) | keep_samples)
    # Not even the rows of the data are copied where all are kept: there may be many.
    kept = slice(None) if len(samples) == problem.n_samples else samples
    Z, basis = reduce_rank(problem.X[kept])
    y, weight = problem.y[samples], problem.sample_weight[samples]
    sigma = _row_scale(Z)
    tau, loss = _target_scale(problem.loss, y)
    kappa = float(np.mean(weight))
    if Z.shape[1]:
        axes = kink_axes(Z / max(_largest(Z), np.finfo(float).tiny))
        Z, basis = Z @ axes, basis @ axes
    else:
        Z, basis = np.zeros((len(samples), 1)), np.eye(problem.n_features, 1)
    beta = problem.beta / sigma / tau / kappa
    if problem.beta > 0 and beta < _LEAST_BETA:
        raise ValueError(
            f"beta is {problem.beta:g}, too small beside data, targets and weights of this scale; "
            f"from {_LEAST_BETA * sigma * tau * kappa:g} on it is accepted."
        )
    Z /= sigma
    reduced = problem_of(Z, y / tau, beta, loss, sample_weight=weight / kappa)
    if problem.output_bias_decay is not None:
        reduced = BestBias(replaced(reduced, output_bias_decay=problem.output_bias_decay / kappa))
    return Reduction(reduced, basis, tau / sigma, kappa * tau * tau, samples)


def _row_scale(Z: FloatArray) -> float:
    """Root mean square of the norms of the rows, whose squares need not be normal numbers; 1 where all vanish."""
    largest = _largest(Z)
    return largest * _scale(np.linalg.norm(Z / largest, axis=1)) if largest > 0 else 1.0


def _largest(values: FloatArray) -> float:
    """Largest size of an entry, without an array of them."""
    return max(float(np.max(values, initial=0.0)), -float(np.min(values, initial=0.0)))


def _scale(values: FloatArray) -> float:
    """Root mean square, or 1 where everything vanishes."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return largest * float(np.sqrt(np.mean((values / largest) ** 2))) if largest > 0 else 1.0


def _target_scale(loss: Loss, y: FloatArray) -> tuple[float, Loss]:
    """Scale of the targets where the loss is homogeneous in (fit, target), and the loss in the new units."""
    if isinstance(loss, SquaredLoss):
        return _scale(y), loss
    if isinstance(loss, HuberLoss):
        tau = _scale(y)
        # A target may be so small that the quotient is infinite.
        delta = loss.delta / max(tau, loss.delta / _MOST_DELTA)
        return tau, HuberLoss(max(delta, _LEAST_DELTA))
    return 1.0, loss
