"""Neurons of an optimal network, of one output or several, brought to the last digits."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.reduction import Reduction
from cvxnn.solvers.face_newton import polish
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.vector_faces import refine_on_faces
from cvxnn.solvers.vector_neurons import VectorNeurons

FloatArray = npt.NDArray[np.float64]

__all__ = [
    "amplification",
    "clean_columns",
    "expanded",
    "flattened",
    "polished",
    "restricted",
    "weighted",
    "with_exact_masses",
]

_MASS_STEPS = 3
_RANK = 1e-9
_ON_KINK = 1e-11
_TOL = 1e-15


def weighted(directions: FloatArray, outputs: FloatArray, masses: FloatArray) -> Neurons | VectorNeurons:
    """Neurons of unit directions with unit outputs ``(k,)`` or ``(k, c)`` and masses ``(k,)``."""
    if outputs.ndim == 1:
        return Neurons(directions * masses[:, None], outputs)
    return VectorNeurons(directions, outputs * masses[:, None])


def restricted(reduction: Reduction, network: ReLUNetwork) -> Neurons | VectorNeurons:
    """Neurons of the reduced problem from a network on the original data."""
    if network.a.ndim == 1:
        return reduction.restrict(network)
    return VectorNeurons.from_layers(network.W @ reduction.basis, network.a / reduction.vector_scale)


def expanded(reduction: Reduction, neurons: Neurons | VectorNeurons) -> Neurons | VectorNeurons:
    """Neurons of the original problem."""
    if isinstance(neurons, Neurons):
        return reduction.expand(neurons)
    return VectorNeurons(neurons.directions @ reduction.basis.T, reduction.vector_scale * neurons.outputs)


def polished(problem: Problem, neurons: Neurons | VectorNeurons) -> Neurons | VectorNeurons:
    """Newton's method on the faces of all neurons."""
    if isinstance(neurons, Neurons):
        return polish(problem, neurons, mass_tol=0.0).neurons
    return refine_on_faces(problem, neurons, tol=_TOL)


def clean_columns(X: FloatArray, directions: FloatArray, outputs: FloatArray) -> FloatArray:
    """Contributions ``s (X u)_+``, ``(n, k)``, or ``(X u)_+ v^T``, ``(n, c, k)``, with exact zeros on kinks."""
    heights = X @ directions.T
    floor = _ON_KINK * np.linalg.norm(X, axis=1)[:, None]
    hidden = np.where(heights > floor, heights, 0.0)
    return hidden * outputs if outputs.ndim == 1 else hidden[:, None, :] * outputs.T[None]


def flattened(columns: FloatArray) -> FloatArray:
    """Contributions as the columns of a matrix."""
    return columns.reshape(math.prod(columns.shape[:-1]), columns.shape[-1])


def with_exact_masses(problem: Problem, neurons: Neurons | VectorNeurons) -> Neurons | VectorNeurons:
    """Newton's method on the masses alone, so that the dual values of all neurons equal beta to the last digits."""
    masses = neurons.masses
    if masses.size == 0 or np.min(masses) <= 0.0:
        return neurons
    if isinstance(neurons, Neurons):
        directions, outputs = neurons.vectors / masses[:, None], neurons.signs
    else:
        directions, outputs = neurons.directions, neurons.outputs / masses[:, None]
    shaped = clean_columns(problem.X, directions, outputs)
    columns = flattened(shaped)
    best, smallest = masses, math.inf
    for _ in range(_MASS_STEPS):
        fit = (columns @ masses).reshape(problem.y.shape)
        away = columns.T @ problem.dual_vector(fit).ravel() - problem.beta
        if not np.max(np.abs(away)) < smallest or np.min(masses) <= 0.0:
            break
        best, smallest = masses, float(np.max(np.abs(away)))
        inverse = np.linalg.pinv(_curved(problem, fit, shaped), rcond=_RANK)
        masses = masses + inverse @ (inverse.T @ away)
    return weighted(directions, outputs, best)


def _curved(problem: Problem, fit: FloatArray, columns: FloatArray) -> FloatArray:
    """Square root of the Hessian of the loss times the contributions."""
    if fit.ndim == 1 or problem.loss.entrywise:
        return flattened(np.sqrt(problem.loss_hessian(fit))[..., None] * columns)
    blocks = np.empty((*fit.shape, fit.shape[1]))
    for j in range(fit.shape[1]):
        unit = np.zeros_like(fit)
        unit[:, j] = 1.0
        blocks[:, :, j] = problem.hessian_product(fit, unit)
    values, vectors = np.linalg.eigh(blocks)
    roots = np.sqrt(np.maximum(values, 0.0))[:, :, None] * vectors.transpose(0, 2, 1)
    return flattened(np.matmul(roots, columns))


def amplification(problem: Problem, fit: FloatArray) -> float:
    """Relative change of the fit for a relative change of the dual vector."""
    bent = float(np.linalg.norm(problem.hessian_product(fit, fit)))
    return float(np.linalg.norm(problem.dual_vector(fit))) / bent if bent > 0.0 else 0.0
