"""A path from any network to a global optimum along which the objective never rises."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_number
from cvxnn.certificates.certificate import Certificate, certify_global, relative_gap
from cvxnn.landscape._join import join_within, settle
from cvxnn.landscape._local_descent import follow_descent, merge_compatible, move_towards
from cvxnn.landscape._moves import Atoms, Walker, check_network
from cvxnn.landscape._pieces import MassPiece, Piece
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.network_path import NetworkPath, PathError, assemble_path
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.solution import Solution
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["descent_path"]

_SOLVE_TOL = 1e-11
_PROOF_SECONDS = 10.0
"""Time for the proof that a given network is optimal, unless there is a time limit."""

_ROUNDS = 1000
_LOCAL_ROUNDS = 100
_LOCAL_GAIN = 1e-7
"""A descent without a free slot is stuck once a round lowers the objective by less than this."""

_ENTERING = 1e-12
"""Relative violation of the dual from which on a neuron of the optimum is worth inserting."""


def descent_path(
    problem: Problem,
    network: ReLUNetwork,
    target: ReLUNetwork | None = None,
    *,
    optimum: Solution | ReLUNetwork | None = None,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> NetworkPath:
    r"""Path of networks of constant width from a network to a global optimum; the objective never rises.

    A width of :math:`r_{\mathrm{eff}} + 1 \le n + 1` suffices for every start
    (:func:`cvxnn.landscape.effective_dimension`). The neurons are balanced; then the objective is convex in the masses
    :math:`c_i = \|w_i\| |a_i|`, and each step is a straight line to the best masses of the present neurons together
    with neurons of one global optimum, put into free slots at mass zero. The neurons of best masses have independent
    contributions, so a slot is always free. Below that width the same is tried, and where no slot is free the path
    goes downhill in all weights; it may then end in a local minimum (:class:`PathError`).

    Parameters
    ----------
    problem : Problem
        Data, loss and ``beta > 0``.
    network : ReLUNetwork
        Start: any weights, unbalanced, dead and zero neurons included.
    target : ReLUNetwork, optional
        Optimal network of the same width at which the path is to end. By default it ends at any optimum.
    optimum : Solution or ReLUNetwork, optional
        A known optimum, of any width; by default :func:`cvxnn.solve` is asked for one. Its neurons are all that the
        construction needs.
    tol : float, default 1e-9
        Relative excess of the objective at the end over that of the optimum that is accepted.
    time_limit : float, optional
        Seconds for the search for an optimum and its proof.

    Returns
    -------
    NetworkPath
        ``path(0)`` is ``network`` and ``path(1)`` is ``target``, to the last bit. ``target_is_global`` says whether
        the end is proved globally optimal; where the data are too many for a proof, the path leads to the best network
        known, and its end is never worse than ``optimum``.

    Raises
    ------
    PathError
        When the width is below :math:`r_{\mathrm{eff}} + 1` and the descent got stuck, when the target is not optimal,
        or when its width differs.
    ValueError
        On networks that do not fit the problem, ``beta = 0``, or an output bias.

    References
    ----------
    Haeffele and Vidal (2017), "Global optimality in neural network training", Theorem 2; Kim and Pilanci (2024),
    "Exploring the loss landscape of regularized neural networks via convex duality", Theorem 2.

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> from cvxnn.landscape.descent_path import descent_path
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1)
    >>> start = ReLUNetwork([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 2.0]], [1.0, -1.0, 2.0, 1.0])
    >>> path = descent_path(problem, start)
    >>> path.target_is_global, round(path(1.0).objective(problem), 6)
    (True, 0.185)
    """
    require_no_output_bias(problem, "descent_path")
    require_one_output(problem, "descent_path")
    check_network(problem, network, "network")
    tol = as_number(tol, "tol", minimum=0.0)
    time_limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    if problem.beta == 0.0:
        raise ValueError("beta is 0; descent_path needs beta > 0, since otherwise the optimum may not be attained.")
    if target is not None:
        check_network(problem, target, "target")
        if target.width != network.width:
            raise PathError(
                f"target has width {target.width} but network has width {network.width}; a path keeps its width "
                "(add zero neurons to the narrower one)."
            )
    walker = Walker(problem, network)
    walker.optimize(walker.live, "optimise masses")
    goal = _find_goal(problem, walker.network(), target if target is not None else optimum, tol, time_limit)
    _reach(walker, goal, tol)
    end, pieces = walker.network(), walker.pieces
    if target is not None:
        end, pieces = target, _end_at(walker, target, tol)
    pieces = pieces or [standing_still(walker)]
    value = end.objective(problem)
    proved = relative_gap(value, goal.lower_bound) <= max(tol, 1e-9)
    return assemble_path(problem, network, end, pieces, lower_bound=goal.lower_bound, target_is_global=proved)


@dataclass(frozen=True, eq=False)
class _Goal:
    """Neurons of the optimum, its objective, and a bound over all networks."""

    atoms: Atoms
    masses: FloatArray
    objective: float
    lower_bound: float


def standing_still(walker: Walker) -> Piece:
    """Piece of a path that does not move."""
    return MassPiece(walker.directions, walker.signs, walker.masses, walker.masses, "stay")


def prove(problem: Problem, network: ReLUNetwork, time_limit: float | None) -> Certificate:
    """Certificate from the dual vector of an optimal network, with a bound over networks of every width."""
    certificate, _ = certify_global(
        problem,
        network(problem.X),
        network.objective(problem),
        tol=1e-9,
        time_limit=_PROOF_SECONDS if time_limit is None else time_limit,
        starts=network.W if network.width else None,
    )
    return certificate


def _find_goal(
    problem: Problem,
    start: ReLUNetwork,
    given: Solution | ReLUNetwork | None,
    tol: float,
    time_limit: float | None,
) -> _Goal:
    """Neurons to insert, from the given optimum or from a solve that does not end above the start."""
    begin = time.perf_counter()
    if isinstance(given, ReLUNetwork):
        check_network(problem, given, "optimum")
        network, bound = given, prove(problem, given, time_limit).global_lower_bound
    else:
        solution = given if given is not None else solve(problem, tol=_SOLVE_TOL, time_limit=time_limit)
        if not isinstance(solution, Solution) or not isinstance(solution.network, ReLUNetwork):
            raise ValueError(f"optimum must be the Solution of a ReLU problem or a ReLUNetwork; got {given!r}.")
        check_network(problem, solution.network, "optimum")
        network, bound = solution.network, solution.global_lower_bound
        if given is None and relative_gap(network.objective(problem), start.objective(problem)) > tol:
            left = None if time_limit is None else max(time_limit - (time.perf_counter() - begin), 0.0)
            better = solve(problem, tol=_SOLVE_TOL, time_limit=left, warm_start=start)
            network, bound = better.network, max(bound, better.global_lower_bound)
    walker = Walker(problem, network)
    settle(walker)
    on = walker.live
    atoms = Atoms(walker.directions[on], walker.signs[on])
    return _Goal(atoms, walker.masses[on], network.objective(problem), bound)


def _reach(walker: Walker, goal: _Goal, tol: float) -> None:
    """Descend until no neuron of the optimum lowers the objective: then no network of these neurons does."""
    columns = goal.atoms.columns(walker.problem.X)
    local = 0
    for rounds in range(_ROUNDS):
        value = walker.objective()
        rates = columns.T @ walker.dual() / walker.problem.beta - 1.0
        entering = np.argsort(-rates)
        entering = entering[rates[entering] > _ENTERING]
        if entering.size == 0 or (rounds and _excess(value, goal) <= 0.0):
            break
        if walker.free.size:
            homes = walker.free[: entering.size]
            entering = entering[: homes.size]
            walker.aim(homes, goal.atoms.directions[entering], goal.atoms.signs[entering])
            walker.optimize(np.concatenate([walker.live, homes]), "insert neurons")
            progress = walker.objective() < value - 1e-15 * abs(value)
        elif merge_compatible(walker):
            progress = True
        else:
            move_towards(walker, goal.atoms, goal.masses)
            follow_descent(walker)
            walker.optimize(walker.live, "optimise masses")
            local += 1
            gain = value - walker.objective()
            progress = walker.free.size > 0 or (local < _LOCAL_ROUNDS and gain > _LOCAL_GAIN * abs(value))
        if not progress:
            break
    excess = _excess(walker.objective(), goal)
    if excess > tol:
        raise PathError(_obstruction(walker, excess), walker.network())


def _excess(value: float, goal: _Goal) -> float:
    return (value - goal.objective) / max(abs(goal.objective), math.ulp(0.0))


def _obstruction(walker: Walker, excess: float) -> str:
    needed = effective_dimension(walker.problem.X) + 1
    if walker.width < needed:
        return (
            f"No descent path was found at width {walker.width}: with no free slot the descent got stuck at objective "
            f"{walker.objective():.9g}, {excess:.1e} (relative) above the optimum; width {needed} suffices for every "
            "start (add zero neurons)."
        )
    return (
        f"The descent stalled in floating point at objective {walker.objective():.9g}, {excess:.1e} (relative) above "
        f"the optimum, although width {walker.width} suffices; standardise X or increase beta."
    )


def _end_at(walker: Walker, target: ReLUNetwork, tol: float) -> list[Piece]:
    """Pieces from the start through the optimum reached to the target."""
    problem = walker.problem
    value, wanted = walker.objective(), target.objective(problem)
    excess = relative_gap(wanted, value)
    if excess > max(tol, 1e-9):
        raise PathError(
            f"target is not optimal: its objective {wanted:.9g} is {excess:.1e} (relative) above that of a network "
            "that the descent reached, so that a path to it would have to rise."
        )
    pieces = join_within(walker, Walker(problem, target))
    if pieces is None:
        needed = effective_dimension(problem.X) + 1
        raise PathError(
            f"The descent reached an optimum, but no path from there to the target was found at width {walker.width}: "
            f"width {needed} suffices for every pair (add zero neurons to both), or leave out the target."
        )
    return pieces
