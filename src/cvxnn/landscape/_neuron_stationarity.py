"""First-order conditions of single neurons, from their kinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._adjacent_cells import KinkReading, read_kinks
from cvxnn.landscape._kinks import clarke_residual, make_kinks, steepest_descent
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]
Kind = Literal["active", "dead", "zero", "(w, 0)", "(0, a)"]

__all__ = ["NeuronStationarity", "judge_neuron", "read_network"]


@dataclass(frozen=True, eq=False)
class NeuronStationarity:
    r"""First-order conditions of one neuron (w, a).

    Attributes
    ----------
    index : int
    kind : {"active", "dead", "zero", "(w, 0)", "(0, a)"}
        "dead": both weights are nonzero and no sample activates it. A "zero" neuron is always stationary to first
        order; "dead", "(w, 0)" and "(0, a)" never are.
    kinks : ndarray (k,) of int
        Samples with :math:`x_j^\top w = 0`; samples that are zero themselves are not counted.
    concave : ndarray (k,) of bool
        Kinks with :math:`a \nu_j > 0`.
    output_residual : float
        :math:`|\beta a - h_\nu(w)| / (\beta |a|)`.
    clarke_residual : float
        Distance of 0 from the hull of the gradients in w, divided by :math:`\beta\|w\|`, or ``output_residual``
        where that is larger.
    directional_residual : float
        Steepest one-sided descent in w, divided by :math:`\beta\|w\|`, or ``output_residual`` where that is larger.
    clarke_exact, directional_exact : bool
        False where the cells are too many to be looked at: the residual is then a lower bound.
    snapped : float
        Relative distance that w was moved to lie on its kinks.
    """

    index: int
    kind: Kind
    kinks: npt.NDArray[np.int64]
    concave: npt.NDArray[np.bool_]
    output_residual: float
    clarke_residual: float
    directional_residual: float
    clarke_exact: bool
    directional_exact: bool
    snapped: float


def read_network(
    problem: Problem, network: ReLUNetwork, kink_tol: float, *, snap: bool
) -> tuple[ReLUNetwork, dict[int, KinkReading], npt.NDArray[np.int64]]:
    """Read the kinks of every neuron with a weight vector, and move it onto them where asked for."""
    W, a = network.W.copy(), network.a.copy()
    sizes = np.maximum(np.linalg.norm(W, axis=1), np.abs(a))
    # A neuron whose weight decay is lost in the objective has no digits left to be judged by.
    largest = max(float(np.max(sizes, initial=0.0)), np.sqrt(network.objective(problem) / problem.beta))
    small = snap & (sizes > 0) & (sizes <= kink_tol * largest)
    W[small], a[small] = 0.0, 0.0
    readings = {}
    for i in np.flatnonzero(np.any(W != 0, axis=1)):
        reading = read_kinks(problem.X, W[i], kink_tol, snap=snap)
        readings[int(i)] = reading
        W[i] = reading.w
    return ReLUNetwork(W, a, network.output_bias), readings, np.flatnonzero(small)


def judge_neuron(
    problem: Problem,
    nu: FloatArray,
    index: int,
    network: ReLUNetwork,
    reading: KinkReading | None,
    tol: float,
    max_cells: int,
) -> tuple[NeuronStationarity, tuple[FloatArray, float]]:
    """First-order conditions of one neuron, and minus its steepest descent ``(d, e)``."""
    X, beta, a = problem.X, problem.beta, float(network.a[index])
    w = network.W[index]
    size = float(np.linalg.norm(w))
    kinks = np.zeros(0, dtype=np.int64) if reading is None else np.flatnonzero(reading.on)
    concave = a * nu[kinks] > 0
    moved = 0.0 if reading is None else reading.moved
    if reading is None or a == 0.0:
        kind: Kind = "zero" if reading is None and a == 0.0 else ("(0, a)" if reading is None else "(w, 0)")
        residual = 0.0 if kind == "zero" else 1.0
        neuron = NeuronStationarity(index, kind, kinks, concave, residual, residual, residual, True, True, moved)
        return neuron, (beta * w, beta * a)
    output_gradient = beta * a - float(nu[reading.active] @ (X[reading.active] @ w))
    output = abs(output_gradient) / (beta * abs(a))
    gradient = beta * w - a * (nu[reading.active] @ X[reading.active])
    model = make_kinks(gradient / (beta * size), X[kinks], a * nu[kinks] / (beta * size))
    steepest = steepest_descent(model, max_cells)
    clarke, clarke_exact = clarke_residual(model, max_cells)
    if not clarke_exact and steepest.exact and steepest.rate <= tol:
        # Without descent in any direction Clarke's condition holds, too: the rate is never below its residual.
        clarke, clarke_exact = steepest.rate, True
    neuron = NeuronStationarity(
        index,
        "active" if np.any(reading.active) else "dead",
        kinks,
        concave,
        output,
        max(clarke, output),
        max(steepest.rate, clarke, output),
        clarke_exact,
        steepest.exact,
        moved,
    )
    return neuron, (-beta * size * steepest.vector, output_gradient)
