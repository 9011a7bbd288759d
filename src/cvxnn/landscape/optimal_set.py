"""Description of all optimal networks of a problem, from its optimum and a search of all activation patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_number
from cvxnn.architectures import Architecture, ParallelReLU, ReLU
from cvxnn.landscape._atoms import NEAR
from cvxnn.landscape._members import require_fitting_network
from cvxnn.landscape._optimum import OptimalSetError, find_optimum
from cvxnn.landscape._parallel_optimum import find_parallel_optimum
from cvxnn.landscape._parallel_set import ParallelOptimalSet
from cvxnn.landscape.optimal_networks import OptimalSet
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns.limits import DEFAULT_MAX_PATTERNS
from cvxnn.problem import Problem, require_one_output, require_problem
from cvxnn.solution import Solution

FloatArray = npt.NDArray[np.float64]
_Arrays = tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
"""Fit, dual vector, directions, output weights and columns."""

__all__ = ["OptimalSet", "OptimalSetError", "ParallelOptimalSet", "optimal_set"]


def _check_solution(problem: Problem, solution: Solution, parallel: ParallelReLU | None) -> None:
    if not isinstance(solution, Solution):
        raise ValueError(f"solution must be a cvxnn.Solution; got {type(solution).__name__}.")
    if parallel is None:
        require_fitting_network(problem, solution.network, "solution must hold", "it holds")
        return
    net = solution.network
    width = parallel.width if parallel.depth > 2 else 1
    shape = (problem.n_features, parallel.depth, width)
    if not isinstance(net, ParallelReLUNetwork) or (net.n_features, net.depth, net.branching) != shape:
        raise ValueError(
            f"solution must hold a ParallelReLUNetwork of {parallel!r} with {problem.n_features} features; "
            f"it holds {net!r}."
        )


def optimal_set(
    problem: Problem,
    *,
    architecture: Architecture | None = None,
    solution: Solution | None = None,
    tol: float = 1e-7,
    max_patterns: float | None = DEFAULT_MAX_PATTERNS,
    time_limit: float | None = None,
) -> OptimalSet:
    r"""Describe all optimal networks of a problem exactly.

    The problem is solved to rounding, every local maximum of :math:`s\,\nu^\top (Xu)_+` over unit vectors is found by a
    search of all activation patterns, and those that attain beta are the directions of the optimal networks. For
    several outputs that share their neurons, and data of rank at most 3, those of :math:`\|N^\top (Xu)_+\|` are found.

    Parameters
    ----------
    problem : Problem
        With beta > 0, without an output bias, and few enough patterns to be searched; of rank at most 3 where it has
        several outputs.
    architecture : ReLU or ParallelReLU, optional
        ``ReLU()`` by default. For ``ParallelReLU`` with the path norm, of up to three layers or with one neuron in each
        layer, the directions are sub-networks and widths count these; the result is a :class:`ParallelOptimalSet`.
    solution : Solution, optional
        Solution of the problem to start from; it is refined.
    tol : float, default 1e-7
        Relative distance to beta at which a maximum counts as attained, at most 1e-3; ``margin`` and ``error`` of the
        result tell how clear the cut is. Where the directions within it do not agree to a relative 1e-9, as with data
        rounded to eight digits, a cut closer to beta is taken that tells them apart.
    max_patterns : int or None, default 2_000_000
        Most patterns searched for each sign.
    time_limit : float, optional
        Seconds for the solve and the search; without an optimum in time the set is refused.

    Returns
    -------
    OptimalSet or ParallelOptimalSet

    Raises
    ------
    OptimalSetError
        A ``ValueError``: the patterns are too many, the optimum was not reached to rounding, the loss is not strictly
        convex at the optimal fit, so that the fit need not be unique, the architecture is not covered, or, with several
        outputs, the optimal directions form a continuum or the rank is above 3.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, for the convex program; Kim, Mishkin
    and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality", for the
    optimal polytope.

    Examples
    --------
    >>> import math
    >>> from cvxnn import Problem
    >>> root = math.sqrt(3.0)
    >>> o = optimal_set(Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2))
    >>> o
    OptimalSet(3 optimal directions of rank 2, a polytope of masses of dimension 1; objective 0.21)
    >>> o.vertices().round(9) + 0.0
    array([[0. , 1. , 0. ],
           [0.5, 0. , 0.5]])
    >>> o.min_width, o.max_irreducible_width, o.connected_width
    (1, 2, 3)
    """
    require_problem(problem)
    if not (architecture is None or isinstance(architecture, (ReLU, ParallelReLU))):
        raise ValueError(f"architecture must be ReLU() or ParallelReLU(); got {architecture!r}.")
    parallel = architecture if isinstance(architecture, ParallelReLU) else None
    if parallel is not None:
        require_one_output(problem, "optimal_set of parallel networks")
    if solution is not None:
        _check_solution(problem, solution, parallel)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    if tol > NEAR:
        raise ValueError(f"tol must be at most {NEAR:g}, since lower maxima are not searched for; got {tol:g}.")
    if max_patterns is not None and max_patterns != np.inf:
        max_patterns = as_number(max_patterns, "max_patterns", minimum=1.0)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    if parallel is not None and parallel.depth > 2 and parallel.width > 1:
        return _parallel_set(problem, parallel, solution, tol, max_patterns, limit)
    if parallel is not None and solution is not None:
        solution = replace(solution, network=solution.network.to_two_layers())
    found = find_optimum(problem, solution, tol=tol, max_patterns=max_patterns, time_limit=limit)
    arrays = (found.fit, found.dual, found.directions, found.outputs, found.columns)
    rest = (found.gap, max(found.error, found.noise), found.margin, found.n_patterns)
    if parallel is None:
        return OptimalSet(problem, found.solution, *_frozen(arrays), *rest)
    return _chains(problem, parallel, found.solution, arrays, rest)


def _frozen(arrays: _Arrays) -> _Arrays:
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _parallel_set(
    problem: Problem,
    architecture: ParallelReLU,
    solution: Solution | None,
    tol: float,
    max_patterns: float | None,
    limit: float | None,
) -> ParallelOptimalSet:
    best = find_parallel_optimum(problem, architecture, solution, tol=tol, max_patterns=max_patterns, time_limit=limit)
    found = best.found
    return ParallelOptimalSet(
        problem,
        best.solution,
        *_frozen((best.fit, best.dual, found.vectors, found.outputs, best.columns)),
        best.gap,
        best.error,
        best.margin,
        found.n_parts,
        inner_signs=(found.inner,),
        architecture=architecture,
    )


def _chains(
    problem: Problem,
    architecture: ParallelReLU,
    solution: Solution,
    arrays: _Arrays,
    rest: tuple[float, float, float, int],
) -> ParallelOptimalSet:
    """Optimal neurons of two layers as chains of single neurons."""
    fit, dual, directions, signs, columns = arrays
    lead = (len(signs),) + (1,) * (architecture.depth - 2)
    network = ParallelReLUNetwork.from_two_layers(solution.network, architecture.depth, architecture.penalty)
    return ParallelOptimalSet(
        problem,
        replace(solution, network=network),
        *_frozen((fit, dual, directions.reshape(*lead, -1), signs, columns)),
        *rest,
        inner_signs=tuple(np.ones(lead[: 1 + axes]) for axes in range(architecture.depth - 2, 0, -1)),
        architecture=architecture,
    )
