"""The optimum over parallel networks of three layers to full precision, with all sub-networks that can be used."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.architectures import ParallelReLU
from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.landscape._optimum import OptimalSetError, check_curvature, fit_noise
from cvxnn.landscape._parallel_atoms import Subnetworks, find_subnetworks
from cvxnn.landscape._polytope import MassPolytope
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns.limits import DEFAULT_MAX_MEMORY, Limits, PatternLimitError, format_count
from cvxnn.problem import Problem, require_no_output_bias
from cvxnn.programs.parallel_groups import linear_group
from cvxnn.programs.parallel_relu import combination_count, is_exact_parallel
from cvxnn.programs.reduction import reduce_problem
from cvxnn.solution import Solution
from cvxnn.solvers.group_newton import polish_groups
from cvxnn.solvers.trees import Trees
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["ParallelOptimum", "find_parallel_optimum"]

_SOLVE_TOL = 1e-9
_LARGEST_GAP, _PRECISE = 1e-9, 1e-13
_ROUNDS = 4
_ON_KINK = 1e-11
_CUTS = (1e-9, 1e-11)
_ZERO = 1e-13


class ParallelOptimum(NamedTuple):
    """Sub-networks of the original problem, with what :class:`cvxnn.landscape.OptimalSet` keeps."""

    solution: Solution
    found: Subnetworks
    columns: FloatArray
    fit: FloatArray
    dual: FloatArray
    gap: float
    error: float
    margin: float


def find_parallel_optimum(
    problem: Problem,
    architecture: ParallelReLU,
    solution: Solution | None,
    *,
    tol: float,
    max_patterns: float | None,
    time_limit: float | None,
) -> ParallelOptimum:
    """Solve the problem exactly and find its sub-networks; see :func:`cvxnn.landscape.optimal_set`."""
    require_no_output_bias(problem, "optimal_set")
    if problem.beta == 0.0:
        raise OptimalSetError("optimal_set needs beta > 0; without weight decay the optimum may not be attained.")
    _check_architecture(problem, architecture)
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit

    def remaining() -> float | None:
        return None if math.isinf(deadline) else max(deadline - time.perf_counter(), 1e-3)

    start = None if solution is None else solution.network
    solution = solve(
        problem, architecture=architecture, tol=_SOLVE_TOL, certify=True, warm_start=start, time_limit=remaining()
    )
    reduction = reduce_problem(problem)
    small, m = reduction.problem, architecture.width
    vectors, levels, outputs = solution.network.vectors()
    trees = Trees(vectors @ reduction.basis / reduction.vector_scale, levels, outputs)
    check_curvature(small, trees.fit(small.X))
    best: tuple[float, Subnetworks, Trees, float] | None = None
    try:
        for _ in range(_ROUNDS):
            nu = small.dual_vector(trees.fit(small.X))
            limits = Limits.start(max_patterns, DEFAULT_MAX_MEMORY, remaining())
            near = find_subnetworks(small.X, nu, small.beta, m, limits=limits)
            kept, masses, error = _attained(small, near, tol, trees.fit(small.X))
            largest = float(np.max(near.values, initial=0.0))
            if best is None or error < best[0]:
                best = (error, kept, trees, largest)
            if error <= _PRECISE or error > best[0]:
                break
            trees = _polished(small, kept, masses)
    except PatternLimitError as limit:
        raise OptimalSetError(f"The search of the sign patterns for optimal sub-networks ended: {limit}") from limit
    if best is None or best[0] > _LARGEST_GAP:
        left = "" if best is None else f" and its optimal sub-networks fit to a relative error of {best[0]:.1e}"
        raise OptimalSetError(
            f"The problem was solved to a relative gap of {solution.gap:.1e}{left}, but the optimal set needs "
            f"{_LARGEST_GAP:g} for both. {solution.status.advice}"
        )
    error, kept, trees, largest = best
    full = trees.scaled(np.full(len(trees), reduction.vector_scale))
    full = Trees(full.vectors @ reduction.basis.T, full.signs, full.outputs)
    lifted = Subnetworks(
        kept.vectors @ reduction.basis.T, kept.inner, kept.outputs, kept.values, kept.rejected, kept.n_parts
    )
    if not len(trees) and error > _ZERO:
        raise OptimalSetError(
            f"beta is within a relative {error:.1e} of the smallest one for which the zero network is optimal; "
            "so close to it rounding hides the optimal networks."
        )
    return _expand(problem, solution, lifted, full, reduction.samples, largest / small.beta, error, small.beta)


def _check_architecture(problem: Problem, architecture: ParallelReLU) -> None:
    if architecture.penalty != "path":
        raise OptimalSetError(
            'optimal_set covers penalty="path" for sub-networks of several neurons: with penalty="l21" optimal '
            "sub-networks need not be finitely many; use solve and certify, which cover both."
        )
    if architecture.depth > 3:
        raise OptimalSetError(
            f"optimal_set covers parallel networks of up to three layers; got depth={architecture.depth}. "
            "solve and certify cover more."
        )
    if not is_exact_parallel(problem, architecture):
        count = combination_count(problem, architecture)
        raise OptimalSetError(
            f"X with width={architecture.width} has up to {format_count(count)} combinations of first-layer patterns; "
            "optimal_set searches up to 30,000. solve and certify need no list."
        )


def _attained(small: Problem, near: Subnetworks, tol: float, fit: FloatArray) -> tuple[Subnetworks, FloatArray, float]:
    """Sub-networks that attain the level, masses with the fit inside the optimal set, and the error.

    Where those within ``tol`` do not agree, those above a cut closer to the level are taken.
    """
    options = []
    for cut in (tol, *(cut for cut in _CUTS if cut < tol)):
        kept = near.above(small.beta * (1.0 - cut))
        masses, missed = _masses(small.X, kept, fit)
        away = kept.values / small.beta - 1.0
        error = max(missed, float(np.max(np.abs(away) if np.any(fit) else away, initial=0.0)))
        options.append((kept, masses, error))
        if error <= _LARGEST_GAP:
            return options[-1]
    return options[0]


def _masses(X: FloatArray, found: Subnetworks, fit: FloatArray) -> tuple[FloatArray, float]:
    size = float(np.linalg.norm(fit))
    if size == 0.0 or not len(found.outputs):
        return np.zeros(len(found.outputs)), 0.0 if size == 0.0 else math.inf
    columns = clean_columns(X, found)
    masses, missed = nnls(columns, fit)
    if missed <= 1e-6 * size:
        masses = MassPolytope(columns, columns @ masses).interior
    return masses, float(missed) / size


def clean_columns(X: FloatArray, found: Subnetworks) -> FloatArray:
    """Contributions ``(n, k)`` of sub-networks, with exact zeros on kinks of both layers."""
    heights = np.einsum("nd,kmd->nkm", X, found.vectors)
    floor = _ON_KINK * np.linalg.norm(X, axis=1)
    hidden = np.where(heights > floor[:, None, None], heights, 0.0)
    sums = np.einsum("nkm,km->nk", hidden, found.inner)
    return np.where(sums > floor[:, None], sums, 0.0) * found.outputs


def _polished(small: Problem, found: Subnetworks, masses: FloatArray) -> Trees:
    """Newton's method on the faces of the sub-networks with mass."""
    index = np.flatnonzero(masses > 0.0)
    trees = Trees(found.vectors, (found.inner,), found.outputs).take(index)
    trees = trees.scaled(masses[index])
    if not len(trees):
        return trees
    masks = trees.masks(small.X)
    groups = [
        linear_group(small.X, [level[k] for level in masks], [trees.signs[0][k]], float(trees.outputs[k]))
        for k in range(len(trees))
    ]
    flat = polish_groups(small, groups, trees.vectors.reshape(len(trees), -1), 1)
    return Trees(flat.reshape(trees.vectors.shape), trees.signs, trees.outputs)


def _expand(
    problem: Problem,
    solution: Solution,
    found: Subnetworks,
    trees: Trees,
    samples: npt.NDArray[np.int64],
    largest: float,
    error: float,
    level: float,
) -> ParallelOptimum:
    """Fit, dual vector and error in the units of the problem."""
    network = ParallelReLUNetwork.from_vectors(trees.vectors, trees.signs, trees.outputs)
    filled, objective = trees.fit(problem.X), network.objective(problem)
    columns = clean_columns(problem.X, found)
    fit, dual = np.full(problem.n_samples, np.nan), np.zeros(problem.n_samples)
    fit[samples] = filled[samples]
    dual[samples] = problem.dual_vector(filled)[samples]
    projected = problem.loss.project_dual(dual, problem.y, problem.sample_weight)
    gap = relative_gap(objective, scaled_dual_bound(problem, projected, max(largest, 1.0) * problem.beta)[0])
    if len(trees):
        error = max(error, float(np.max(np.abs(columns.T @ dual / problem.beta - 1.0), initial=0.0)))
        weight = problem.sample_weight[samples]
        kept = Problem(problem.X[samples], problem.y[samples], problem.beta, problem.loss, sample_weight=weight)
        error = max(error, fit_noise(kept, columns[samples], filled[samples], error))
    return ParallelOptimum(solution, found, columns, fit, dual, gap, error, 1.0 - found.rejected / level)
