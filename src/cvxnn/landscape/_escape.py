"""Escape from a network that is not optimal: one neuron whose addition lowers the objective."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import root_scalar

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["Escape", "best_escape", "best_mass", "best_outputs_escape", "with_neuron"]

_CANDIDATES = 10
_DOUBLINGS = 100
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Escape:
    """Neuron ``(w, a)``, balanced and with the mass that lowers the objective most.

    Attributes
    ----------
    w : ndarray (d,)
    a : float, or ndarray (c,) with several outputs
    objective : float
        Objective of the network with this neuron added.
    """

    w: FloatArray
    a: float | FloatArray
    objective: float


def with_neuron(network: ReLUNetwork, w: FloatArray, a: float | FloatArray) -> ReLUNetwork:
    """Network with one more neuron, appended at the end."""
    return replace(network, W=np.vstack([network.W, w]), a=np.concatenate([network.a, np.asarray(a)[None]]))


def best_escape(
    problem: Problem, network: ReLUNetwork, directions: FloatArray, signs: npt.NDArray[np.floating | np.integer]
) -> Escape | None:
    r"""Neuron among the given unit directions and signs that lowers the objective most, or None.

    A neuron of direction u, sign s and mass c changes the objective at the rate
    :math:`\beta - s\, \nu^T (X u)_+` at c = 0. The objective is convex in c, so every smaller mass lowers it, too.
    """
    fit = network(problem.X)
    outputs = np.maximum(directions @ problem.X.T, 0.0) * np.asarray(signs, dtype=np.float64)[:, None]
    gains = outputs @ problem.dual_vector(fit) - problem.beta
    best: Escape | None = None
    limit = network.objective(problem)
    for index in np.argsort(-gains, kind="stable")[:_CANDIDATES]:
        if gains[index] <= 0.0:
            break
        mass = best_mass(problem, fit, outputs[index])
        w, a = math.sqrt(mass) * directions[index], math.copysign(math.sqrt(mass), signs[index])
        objective = with_neuron(network, w, a).objective(problem)
        # Differences within the rounding of two evaluations prove nothing.
        if objective < limit - 8.0 * _EPS * abs(limit):
            best, limit = Escape(w, a, objective), objective
    return best


def best_outputs_escape(problem: Problem, network: ReLUNetwork, directions: FloatArray) -> Escape | None:
    r"""Neuron of several outputs among the given unit directions that lowers the objective most, or None.

    The best output of a direction u is along :math:`N^T (X u)_+`; the objective then falls at the rate of its norm less
    beta.
    """
    fit = network(problem.X)
    hidden = np.maximum(directions @ problem.X.T, 0.0)
    pulls = hidden @ problem.dual_vector(fit)
    sizes = np.linalg.norm(pulls, axis=1)
    best: Escape | None = None
    limit = network.objective(problem)
    for index in np.argsort(-sizes, kind="stable")[:_CANDIDATES]:
        if sizes[index] <= problem.beta:
            break
        row = pulls[index] / sizes[index]
        mass = best_mass(problem, fit, hidden[index][:, None] * row)
        w, a = math.sqrt(mass) * directions[index], math.sqrt(mass) * row
        objective = with_neuron(network, w, a).objective(problem)
        if objective < limit - 8.0 * _EPS * abs(limit):
            best, limit = Escape(w, a, objective), objective
    return best


def best_mass(problem: Problem, fit: FloatArray, output: FloatArray) -> float:
    """Mass c >= 0 that minimises ``loss(fit + c * output) + beta * c``."""

    def slope(mass: float) -> float:
        return float(np.sum(output * problem.loss_gradient(fit + mass * output))) + problem.beta

    if slope(0.0) >= 0.0:
        return 0.0
    curvature = float(np.sum(problem.loss_hessian(fit) * output * output))
    reach = -slope(0.0) / curvature if curvature > 0.0 else 1.0
    for _ in range(_DOUBLINGS):
        if slope(reach) >= 0.0:
            return float(root_scalar(slope, bracket=(0.0, reach), method="brentq", rtol=1e-12).root)
        reach *= 2.0
    return reach
