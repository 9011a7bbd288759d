"""A path between two optimal networks along which the objective is constant."""

from __future__ import annotations

import numpy as np

from cvxnn._validation import as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.landscape._join import LOOSE_RANK_TOL, align, join_along, join_within, settle
from cvxnn.landscape._masses import mass_objective, minimize_masses
from cvxnn.landscape._moves import Atoms, Walker, check_network
from cvxnn.landscape._pieces import Piece
from cvxnn.landscape._vertex_graph import vertex_path
from cvxnn.landscape.descent_path import prove, standing_still
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.landscape.network_path import NetworkPath, PathError, assemble_path
from cvxnn.landscape.optimal_set import OptimalSetError, optimal_set
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.problem import Problem, require_no_output_bias, require_one_output

__all__ = ["connect"]

_NOT_OPTIMAL = 1e-6
"""A neuron that violates the dual by more than this disproves optimality."""


def connect(
    problem: Problem,
    a: ReLUNetwork,
    b: ReLUNetwork,
    *,
    tol: float = 1e-9,
    time_limit: float | None = None,
) -> NetworkPath:
    r"""Path of constant objective between two optimal networks of one width.

    Optimal networks are points of the polytope :math:`\{c \ge 0 : Ac = f^*\}` of masses of optimal neurons, with the
    masses distributed over m labelled slots. Each end is walked to a vertex of its face, the vertices are joined along
    edges, neurons are permuted through a free slot, and masses split as at the other end. With a width of at least the
    rank of the contributions of the two networks plus one this never fails and needs no enumeration; below it, where
    the patterns of the data can be enumerated, all optimal neurons are listed and the answer is exact.

    Parameters
    ----------
    problem : Problem
        Data, loss and ``beta > 0``.
    a, b : ReLUNetwork
        Optimal networks of the same width. The order of the neurons matters: networks are labelled.
    tol : float, default 1e-9
        Relative difference of objectives that is accepted.
    time_limit : float, optional
        Seconds for the proof that ``a`` is optimal; without it ten seconds.

    Returns
    -------
    NetworkPath
        ``path(0)`` is ``a`` and ``path(1)`` is ``b``, to the last bit. ``target_is_global`` says whether optimality was
        proved; where the data are too many for it, the two networks are only known to be equally good, and best among
        the networks made of their neurons.

    Raises
    ------
    PathError
        When a network is not optimal, the widths differ, or there is no such path: the networks lie in different
        components, or one of them is an isolated point.
    ValueError
        On networks that do not fit the problem, ``beta = 0``, or an output bias.

    References
    ----------
    Kim and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality",
    Theorem 2.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import Problem, ReLUNetwork
    >>> from cvxnn.landscape.connect import connect
    >>> problem = Problem([[-np.sqrt(3), 1.0], [np.sqrt(3), 1.0]], [1.1, 1.1], beta=0.2)
    >>> a = ReLUNetwork([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [1.0, 0.0, 0.0])
    >>> w = np.sqrt(0.5) * np.array([[0.0, 0.0], [-np.sqrt(0.75), 0.5], [np.sqrt(0.75), 0.5]])
    >>> b = ReLUNetwork(w, [0.0, np.sqrt(0.5), np.sqrt(0.5)])
    >>> path = connect(problem, a, b)
    >>> path.objectives(5).round(9)
    array([0.21, 0.21, 0.21, 0.21, 0.21])
    """
    require_no_output_bias(problem, "connect")
    require_one_output(problem, "connect")
    check_network(problem, a, "a")
    check_network(problem, b, "b")
    tol = as_number(tol, "tol", minimum=0.0)
    time_limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    if problem.beta == 0.0:
        raise ValueError("beta is 0; connect needs beta > 0, since otherwise the optimum may not be attained.")
    if a.width != b.width:
        raise PathError(
            f"a has width {a.width} but b has width {b.width}; a path keeps its width (add zero neurons to the "
            "narrower one)."
        )
    bound = _check_optimal(problem, a, b, tol, time_limit)
    first, second = Walker(problem, a), Walker(problem, b)
    pieces = join_within(first, second)
    if pieces is None:
        pieces = _pieces_through_optimal_set(problem, first, second)
    pieces = pieces or [standing_still(first)]
    value = max(a.objective(problem), b.objective(problem))
    proved = relative_gap(value, bound) <= max(tol, 1e-9)
    path = assemble_path(problem, a, b, pieces, lower_bound=bound, target_is_global=proved)
    deviation = float(np.max(np.abs(path.objectives_at(path.breakpoints) / value - 1.0))) if value else 0.0
    if deviation > max(tol, 1e-12):
        raise PathError(
            f"The objective would vary by {deviation:.1e} (relative) along the path, since a or b is optimal only to "
            "rounding; solve to a smaller tol, or raise tol here."
        )
    return path


def _check_optimal(problem: Problem, a: ReLUNetwork, b: ReLUNetwork, tol: float, time_limit: float | None) -> float:
    """Refuse networks that are not optimal as far as this can be decided; returns the bound over all networks."""
    first, second = Walker(problem, a), Walker(problem, b)
    on, other = first.live, second.live
    columns = np.hstack([first.columns()[:, on], second.columns()[:, other]])
    masses = np.concatenate([first.masses[on], np.zeros(other.size)])
    best = mass_objective(problem, columns, minimize_masses(problem, columns, masses))
    for name, network in (("a", a), ("b", b)):
        value = network.objective(problem)
        excess = relative_gap(value, best)
        if excess > tol:
            raise PathError(
                f"{name} is not optimal: its objective {value:.9g} is {excess:.1e} (relative) above that of a network "
                "with the neurons of a and b and other masses."
            )
    certificate = prove(problem, a, time_limit)
    excess = certificate.dual_norm_attained / problem.beta - 1.0
    if excess > _NOT_OPTIMAL:
        raise PathError(
            f"a is not optimal: a further neuron lowers its objective {certificate.objective:.9g}, since it exceeds "
            f"the dual constraint by {excess:.1e} (relative); solve or descent_path lead to an optimum."
        )
    return certificate.global_lower_bound


def _pieces_through_optimal_set(problem: Problem, first: Walker, second: Walker) -> list[Piece]:
    """Pieces of a path through all optimal neurons, or the reason why there is none."""
    width = first.width
    settle(first, tol=LOOSE_RANK_TOL)
    settle(second, tol=LOOSE_RANK_TOL)
    for name, walker in (("a", first), ("b", second)):
        if walker.free.size == 0:
            raise PathError(
                f"{name} is an isolated point of the optimal networks of width {width}: its contributions are "
                f"independent and no slot is free, so that not even a permutation leads away; width {width + 1} does."
            )
    enough = effective_dimension(problem.X) + 1
    try:
        optimal = optimal_set(problem)
        vertices = optimal.vertices()
    except OptimalSetError as error:
        raise PathError(
            f"No path was found at width {width} among the neurons of a and b, and the other optimal neurons are not "
            f"known ({error}) Width {enough} always suffices: add zero neurons to both."
        ) from error
    atoms = Atoms(optimal.directions, optimal.signs.astype(np.float64))
    start = int(np.argmin(row_norms(vertices - align(first, atoms))))
    goal = int(np.argmin(row_norms(vertices - align(second, atoms))))
    steps = vertex_path(vertices, width, start, goal)
    pieces = None if steps is None else join_along(first, second, atoms, [vertices[k] for k in steps])
    if pieces is None:
        raise PathError(
            f"a and b lie in different components of the optimal networks of width {width}; from width "
            f"{optimal.connected_width} on all of them are connected (add zero neurons to both)."
        )
    return pieces
