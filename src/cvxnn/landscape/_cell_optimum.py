r"""Optimal value of the ReLU program on listed cells with given output signs, bounded from both sides.

.. math:: \min_z\ \ell\big(\textstyle\sum_i s_i D_i X z_i\big) + \beta \sum_i \|z_i\|,\qquad (2D_i - I) X z_i \ge 0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.reduction import reduce_problem
from cvxnn.solvers.cell_program import refinements
from cvxnn.solvers.cone_interior_point import solve_cone_blocks
from cvxnn.solvers.conic import solve_conic
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["CellOptimum", "cell_optimum"]

_CONIC_ROWS = 4000
"""Up to so many cone rows the conic solver is as fast as the structured one, and reaches two digits more."""

_INSIDE = 1e-8
"""Relative violation up to which a vector counts as lying in its cone."""

_BOUND_SECONDS = 20.0
"""Time for sharpening the bound of one dual vector; the bound holds when it runs out."""


@dataclass(frozen=True, eq=False)
class CellOptimum:
    """Optimum of the program on listed cells.

    Attributes
    ----------
    value : float
        Objective of :attr:`network`, an upper bound of the optimum.
    lower_bound : float
        Proved lower bound, rounding included.
    network : ReLUNetwork
        Network whose neurons lie in the cells, up to rounding.
    dual : ndarray (n,)
        Dual vector behind the bound.
    """

    value: float
    lower_bound: float
    network: ReLUNetwork
    dual: FloatArray


def cell_optimum(
    problem: Problem,
    masks: BoolArray,
    signs: FloatArray,
    *,
    start: FloatArray | None = None,
    tol: float = 1e-9,
    polish: bool = True,
    time_limit: float | None = None,
) -> CellOptimum:
    """Solve the program on the cones of ``masks (K, n)`` with output signs ``signs (K,)``.

    Parameters
    ----------
    problem : Problem
    masks : ndarray (K, n) of bool
    signs : ndarray (K,)
    start : ndarray (K, d), optional
        Vectors in the cones; the value is not above theirs.
    tol : float
        Relative gap asked of the interior-point method.
    polish : bool
        Add the last digits by Newton's method on the faces.
    time_limit : float, optional
        Seconds for the interior-point method.
    """
    if len(masks) == 0:
        return _certified(problem, masks, signs, Neurons.empty(problem.n_features), [])
    reduction = reduce_problem(problem, keep_samples=True)
    small = reduction.problem
    hint = None if start is None else start @ reduction.basis / reduction.vector_scale
    vectors = solve_conic(small, masks, signs, time_limit=time_limit) if masks.size <= _CONIC_ROWS else None
    duals = []
    if vectors is None:
        solution = solve_cone_blocks(small, masks, signs, start=hint, tol=0.1 * tol, time_limit=time_limit)
        vectors = solution.vectors
        # The loss is objective_scale * small loss of fit / tau, with objective_scale = kappa tau^2.
        unit = np.sqrt(reduction.objective_scale * float(np.mean(problem.sample_weight)))
        duals.append((unit * solution.dual, unit * solution.multipliers))
    # A vector of next to no mass may point out of its cone; its direction must not be given mass there.
    inside = _violation(small.X, masks, vectors) <= _INSIDE
    found, cells = Neurons(vectors[inside], signs[inside]), masks[inside]
    candidates = [Neurons.empty(small.n_features)]
    candidates += refinements(small, found, cells=cells) if polish else [solve_masses(small, found)]
    if hint is not None:
        own = Neurons(hint, signs)
        candidates.append(own.take(own.masses > 0))
    candidates = [neurons for neurons in candidates if _confined(small.X, masks, signs, neurons)]
    best = min(candidates, key=lambda neurons: neurons.objective(small))
    return _certified(problem, masks, signs, reduction.expand(best), duals)


def _violation(X: FloatArray, masks: BoolArray, vectors: FloatArray) -> FloatArray:
    """Largest ``-(2 D - I)_jj x_j^T z / (||x_j|| ||z||)`` of each vector in the cone of its mask."""
    norms, sizes = np.linalg.norm(X, axis=1), np.linalg.norm(vectors, axis=1)
    units = X / np.where(norms > 0, norms, 1.0)[:, None]
    ahead = vectors @ units.T / np.where(sizes > 0, sizes, 1.0)[:, None]
    return np.max(np.where(masks, -ahead, ahead), axis=1, initial=0.0)


def _confined(X: FloatArray, masks: BoolArray, signs: FloatArray, neurons: Neurons) -> bool:
    """Whether each neuron lies in the cone of a mask with its sign."""
    for vector, sign in zip(neurons.vectors, neurons.signs, strict=True):
        cells = masks[signs == sign]
        if not np.any(_violation(X, cells, np.repeat(vector[None], len(cells), axis=0)) <= 10.0 * _INSIDE):
            return False
    return True


def _certified(
    problem: Problem,
    masks: BoolArray,
    signs: FloatArray,
    neurons: Neurons,
    duals: list[tuple[FloatArray, FloatArray]],
) -> CellOptimum:
    """Prove a bound from the dual vector of the network, and from those of the solver with their multipliers."""
    network = neurons.network()
    best, vector = -np.inf, np.zeros(problem.n_samples)
    for nu, rho in [(problem.dual_vector(network(problem.X)), None), *duals]:
        inside = problem.loss.project_dual(nu, problem.y, problem.sample_weight)
        upper, _ = cone_bounds(
            problem.X, inside, masks, signs, target=problem.beta * (1.0 - 1e-15), rho=rho, time_limit=_BOUND_SECONDS
        )
        bound, _ = scaled_dual_bound(problem, inside, float(np.max(upper, initial=0.0)))
        if bound > best:
            best, vector = bound, inside
    return CellOptimum(network.objective(problem), best, network, vector)
