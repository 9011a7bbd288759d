"""The optimum of a problem to full precision, with all atoms that optimal networks can use, or a refusal."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import svd
from scipy.optimize import nnls

from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.landscape._atoms import Atoms, find_atoms
from cvxnn.landscape._optimal_neurons import (
    amplification,
    clean_columns,
    expanded,
    flattened,
    polished,
    restricted,
    weighted,
    with_exact_masses,
)
from cvxnn.landscape._polytope import MassPolytope
from cvxnn.landscape._vector_atoms import LARGEST_RANK, find_vector_atoms
from cvxnn.patterns import count_patterns
from cvxnn.patterns._geometry import describe
from cvxnn.patterns.limits import DEFAULT_MAX_MEMORY, Limits, PatternLimitError, format_count
from cvxnn.problem import Problem, require_no_output_bias
from cvxnn.programs.reduction import Reduction, reduce_problem
from cvxnn.solution import Solution
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.vector_neurons import VectorNeurons
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["OptimalSetError", "Optimum", "check_curvature", "find_optimum", "fit_noise"]

_SOLVE_TOLS = (1e-9, 1e-12)
_START_GAP = 1e-6
_LARGEST_GAP = 1e-9
_WIDE = 1e-5
_PRECISE = 1e-13
_FLOOR = 2e-15
_ZERO = 1e-13
_ROUNDS = 4
_CUTS = (1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
_CLEAR = 1e3
_RANK = 1e-9
_INSIDE = 1e-7
_BEND = 1e-7
_ROUNDING = 1e-15
_EXACT_ARC, _ARC = 1e-11, 1e-7
"""Bend below which there is an arc of maxima, for an exact dual vector, and for one that rounding has left."""


class OptimalSetError(ValueError):
    """The optimal set, or the part of it that was asked for, cannot be given exactly; the message says why."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """Atoms of the original problem; the fit of samples of zero weight is not determined and NaN.

    Attributes
    ----------
    solution : Solution
    directions : ndarray (k, d)
    outputs : ndarray (k,) or (k, c)
    columns : ndarray (n, k) or (n, c, k)
    fit, dual : ndarray (n,) or (n, c)
    gap : float
        Relative gap between the objective and the bound of the dual vector, whose norm the search of all patterns gave.
    error : float
        Largest relative distance of an accepted atom from the level, and of the fit from the span of the atoms.
    noise : float
        Error of the fit relative to its norm that the error of the dual values may cause: large where the fit is the
        small difference of larger numbers, or the columns are nearly dependent.
    margin : float
        Relative distance below the level of the next local maximum, at most the distance searched.
    n_patterns : int
    """

    solution: Solution
    directions: FloatArray
    outputs: FloatArray
    columns: FloatArray
    fit: FloatArray
    dual: FloatArray
    gap: float
    error: float
    noise: float
    margin: float
    n_patterns: int


class _Settled(NamedTuple):
    """Atoms of the reduced problem, neurons of the optimal fit, the largest dual value, and the error left."""

    atoms: Atoms
    neurons: Neurons | VectorNeurons
    largest: float
    error: float


def find_optimum(
    problem: Problem, solution: Solution | None, *, tol: float, max_patterns: float | None, time_limit: float | None
) -> Optimum:
    """Solve the problem exactly and find its atoms; see :func:`cvxnn.landscape.optimal_set`."""
    require_no_output_bias(problem, "optimal_set")
    if problem.beta == 0.0:
        raise OptimalSetError("optimal_set needs beta > 0; without weight decay the optimum may not be attained.")
    if time_limit == 0.0:
        raise OptimalSetError("time_limit=0 leaves no time for optimal_set, which needs the solved problem.")
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    reduction = reduce_problem(problem)
    _check_size(reduction.problem, max_patterns)

    def limits() -> Limits:
        return Limits.start(max_patterns, DEFAULT_MAX_MEMORY, _remaining(deadline))

    found: Optimum | None = None
    if solution is not None and solution.gap <= _START_GAP:
        found = _from_solution(problem, reduction, solution, tol, limits)
    for solve_tol in _SOLVE_TOLS:
        if found is not None and max(found.error, found.gap) <= _LARGEST_GAP:
            break
        start = None if solution is None else solution.network
        solution = solve(problem, tol=solve_tol, warm_start=start, time_limit=_remaining(deadline))
        found = _from_solution(problem, reduction, solution, tol, limits)
    if found is None or solution is None or max(found.error, found.gap) > _LARGEST_GAP:
        raise OptimalSetError(_not_closed(solution, found))
    if not np.any(np.nan_to_num(found.fit)) and found.error > _ZERO:
        raise OptimalSetError(
            f"beta is within a relative {found.error:.1e} of the smallest one for which the zero network is optimal; "
            "so close to it rounding hides the optimal networks."
        )
    return found


def _remaining(deadline: float) -> float | None:
    return None if math.isinf(deadline) else max(deadline - time.perf_counter(), 1e-3)


def _not_closed(solution: Solution | None, found: Optimum | None) -> str:
    """Why no optimum was accepted."""
    reached = "was not solved" if solution is None else f"was solved to a relative gap of {solution.gap:.1e}"
    left = "" if found is None else f" and its optimal directions fit to a relative error of {found.error:.1e}"
    advice = "" if solution is None else f" {solution.status.advice}"
    if found is not None and found.gap <= _LARGEST_GAP:
        advice = " A smaller tol leaves out directions that are only nearly optimal, as those of rounded data are."
    return f"The problem {reached}{left}, but the optimal set needs {_LARGEST_GAP:g} for both.{advice}"


def _check_size(small: Problem, max_patterns: float | None) -> None:
    """Refuse before any work when even the patterns of half of the samples are too many."""
    geometry = describe(small.X)
    lines, rank = len(geometry.lines), geometry.rank
    if small.n_outputs > 1 and rank > LARGEST_RANK:
        raise OptimalSetError(
            f"X has rank {rank} and up to {format_count(count_patterns(lines, rank))} activation patterns; for several "
            f"outputs optimal_set takes data of rank at most {LARGEST_RANK}. Take it for single columns of y, or bound "
            "the gap of one network by landscape.certify."
        )
    if lines == 0 or max_patterns is None:
        return
    if small.n_outputs > 1:
        _check_count(count_patterns(lines, rank), lines, rank, max_patterns)
        return
    needed = count_patterns(-(-lines // 2), rank)
    if needed > max_patterns:
        raise OptimalSetError(
            f"X has up to {format_count(count_patterns(lines, rank))} activation patterns ({lines} samples on "
            f"different lines, rank {rank}); optimal_set searches those of the samples of either sign of the dual "
            f"vector, up to {format_count(needed)} or more, above max_patterns={format_count(int(max_patterns))}; "
            "fewer columns or rows have fewer."
        )


def _check_count(count: int, lines: int, rank: int, max_patterns: float) -> None:
    """Refuse patterns of several outputs, all of which are searched."""
    if count > max_patterns:
        raise OptimalSetError(
            f"X has up to {format_count(count)} activation patterns ({lines} samples on different lines, rank {rank}), "
            f"all of which optimal_set searches for several outputs, above "
            f"max_patterns={format_count(int(max_patterns))}; fewer columns or rows have fewer."
        )


def check_curvature(small: Problem, fit: FloatArray) -> None:
    """Refuse where the loss is not strictly convex around the optimal fit, so that the fit need not be unique."""
    if small.loss.strictly_convex:
        return
    step = _BEND * max(1.0, float(np.max(np.abs(fit), initial=0.0)))
    flat = np.zeros(fit.shape, dtype=np.bool_)
    for shift in (-step, 0.0, step):
        # The softmax loss is flat along equal shifts of all outputs, to which the optimal fit is orthogonal.
        flat |= small.loss_hessian(fit + shift) <= 0.0
    flat = flat if flat.ndim == 1 else np.any(flat, axis=1)
    if np.any(flat):
        raise OptimalSetError(
            f"The {small.loss.name} loss has no curvature at the optimal fit of {int(np.sum(flat))} of "
            f"{small.n_samples} samples, so the optimal fit need not be unique; optimal_set needs a loss that is "
            "strictly convex there, such as the squared or the logistic loss."
        )


def _from_solution(
    problem: Problem, reduction: Reduction, solution: Solution, tol: float, limits: Callable[[], Limits]
) -> Optimum | None:
    """Atoms at the fit of a solution; None where they cannot be settled there."""
    small = reduction.problem
    neurons = restricted(reduction, solution.network)
    check_curvature(small, neurons.fit(small.X))
    try:
        if small.n_outputs > 1:
            # Which directions attain the level is told apart by the last digits of the dual vector.
            neurons = polished(small, neurons)
        settled = _settle(small, neurons, tol, limits)
    except PatternLimitError as limit:
        raise OptimalSetError(f"The search of the activation patterns for optimal directions ended: {limit}") from limit
    return None if settled is None else _expand(problem, reduction, solution, settled)


def _settle(
    small: Problem, neurons: Neurons | VectorNeurons, tol: float, limits: Callable[[], Limits]
) -> _Settled | None:
    """Alternate between finding the atoms and Newton's method on all their faces until both agree to rounding."""
    best: _Settled | None = None
    for _ in range(_ROUNDS):
        fit = neurons.fit(small.X)
        search = find_atoms if small.n_outputs == 1 else find_vector_atoms
        near = search(small.X, small.dual_vector(fit), small.beta, limits=limits())
        atoms = _attained(small, near, tol, fit)
        _check_isolated(atoms, _EXACT_ARC)
        masses, missed = _masses(small, atoms, fit)
        error = max(missed, _violation(small, atoms, fit))
        stalled = best is not None and error <= _PRECISE and error > 0.5 * best.error
        if best is None or error < best.error:
            best = _Settled(atoms, neurons, near.largest, error)
        # Where the fit is the small difference of larger numbers, it needs all digits of the dual vector.
        if stalled or error <= max(_PRECISE / max(amplification(small, fit), 1.0), _FLOOR):
            break
        if error > _INSIDE:
            atoms = near.above(small.beta * (1.0 - _WIDE))
            masses, _ = _masses(small, atoms, fit)
        keep = masses > 0.0
        inside = weighted(atoms.directions[keep], atoms.outputs[keep], masses[keep])
        neurons = with_exact_masses(small, polished(small, inside))
    if best is not None:
        _check_isolated(best.atoms, _ARC)
    return best if best is not None and math.isfinite(best.error) else None


def _attained(small: Problem, near: Atoms, tol: float, fit: FloatArray) -> Atoms:
    """Atoms that attain the level up to ``tol``; where these do not agree, those above a clear cut closer to it.

    Data that are rounded to seven or eight digits have directions that are optimal to so many digits only.
    """
    widest = near.above(small.beta * (1.0 - tol))
    if _violation(small, widest, fit) <= _LARGEST_GAP:
        return widest
    consistent: Atoms | None = None
    for cut in [cut for cut in _CUTS if cut < tol]:
        atoms = near.above(small.beta * (1.0 - cut))
        violation = _violation(small, atoms, fit)
        if len(atoms.values) == 0 or violation > _LARGEST_GAP:
            continue
        if 1.0 - atoms.rejected / small.beta >= _CLEAR * violation:
            return atoms
        consistent = consistent or atoms
    return consistent or widest


def fit_noise(problem: Problem, columns: FloatArray, fit: FloatArray, error: float) -> float:
    """Relative error of the fit when the dual values of the columns are off by a relative ``error`` or rounding."""
    growth = amplification(problem, fit)
    if growth == 0.0 or columns.shape[1] == 0:
        return 0.0
    values = svd(columns / np.linalg.norm(columns, axis=0), compute_uv=False)
    smallest = float(np.min(values[values > _RANK * values[0]]))
    # Each of the values may be off by as much; their vector is as much longer as there are more of them.
    return math.sqrt(columns.shape[1]) * max(error, _ROUNDING) * max(growth, 1.0) / min(smallest, 1.0)


def _masses(small: Problem, atoms: Atoms, fit: FloatArray) -> tuple[FloatArray, float]:
    """Masses with this fit, inside the optimal set where they are not unique, and the relative misfit."""
    size = float(np.linalg.norm(fit))
    if size == 0.0 or len(atoms.values) == 0:
        return np.zeros(len(atoms.values)), 0.0 if size == 0.0 else math.inf
    columns = flattened(clean_columns(small.X, atoms.directions, atoms.outputs))
    masses, missed = nnls(columns, fit.ravel())
    if missed <= _INSIDE * size:
        # Directions that are not settled yet may leave columns too close to dependent for a linear program.
        with contextlib.suppress(ArithmeticError):
            masses = MassPolytope(columns, columns @ masses).interior
    return masses, float(missed) / size


def _violation(small: Problem, atoms: Atoms, fit: FloatArray) -> float:
    """Largest relative distance of the atoms from the level; without masses only what is above it counts."""
    away = atoms.values / small.beta - 1.0
    return float(np.max(np.abs(away) if np.any(fit) else away, initial=0.0))


def _check_isolated(atoms: Atoms, least_bend: float) -> None:
    """Refuse a continuum of optimal directions: arcs along which the dual value bends no more than this."""
    flat = atoms.bends <= least_bend
    if np.any(flat):
        raise OptimalSetError(
            f"The optimal directions form a continuum: arcs of them leave {int(np.sum(flat))} of the {len(flat)} "
            "directions found, so that the optimal networks are no polytope of masses. With several outputs this "
            "happens where one activation pattern serves two neurons; landscape.certify judges single networks there."
        )


def _expand(problem: Problem, reduction: Reduction, solution: Solution, settled: _Settled) -> Optimum:
    """Carry the atoms back to the original data."""
    atoms, samples, small = settled.atoms, reduction.samples, reduction.problem
    directions = atoms.directions @ reduction.basis.T
    columns = clean_columns(problem.X, directions, atoms.outputs)
    # Not the columns times masses: the dual vector is the small difference of the targets and this.
    neurons = expanded(reduction, settled.neurons)
    filled = neurons.fit(problem.X)
    fit, dual = np.full(problem.y.shape, np.nan), np.zeros(problem.y.shape)
    fit[samples] = filled[samples]
    dual[samples] = problem.dual_vector(filled)[samples]
    objective = problem.loss_value(filled) + problem.beta * float(np.sum(neurons.masses))
    norm = max(settled.largest / small.beta, 1.0) * problem.beta
    projected = problem.project_dual(dual)
    gap = relative_gap(objective, scaled_dual_bound(problem, projected, norm)[0])
    margin = 1.0 - atoms.rejected / small.beta
    images = np.maximum(problem.X @ directions.T, 0.0).T @ dual
    values = (atoms.outputs * images if dual.ndim == 1 else np.linalg.norm(images, axis=1)) / problem.beta
    used = np.any(neurons.masses > 0.0)
    away = np.abs(values - 1.0) if used else values - 1.0
    error = max(settled.error, float(np.max(away, initial=0.0)))
    noise = fit_noise(small, flattened(columns[samples]), settled.neurons.fit(small.X), error) if used else 0.0
    arrays = (directions, atoms.outputs, columns, fit, dual)
    return Optimum(solution, *arrays, gap, error, noise, margin, atoms.n_patterns)
