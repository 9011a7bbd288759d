"""The verb: train a network to a certified optimum."""

from __future__ import annotations

from collections.abc import Callable

from cvxnn._threads import solver_threads
from cvxnn._validation import as_count, as_number, as_seed
from cvxnn.architectures import Architecture, BatchNormReLU, ReLU
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_problem
from cvxnn.programs.dispatch import Network, SolveOptions, solve_architecture, with_gates
from cvxnn.progress import Progress, Recorder
from cvxnn.solution import Solution, SolveError

__all__ = ["solve"]


def solve(
    problem: Problem,
    *,
    architecture: Architecture | None = None,
    patterns: str | int | ActivationPatterns = "auto",
    tol: float = 1e-6,
    certify: bool = False,
    time_limit: float | None = None,
    max_iter: int | None = None,
    max_width: int | None = None,
    warm_start: Network | None = None,
    random_state: int | None = 0,
    verbose: bool | Callable[[Progress], None] = False,
    throw: bool = False,
) -> Solution:
    r"""Find the best network for a problem, with a proof of how good it is.

    Solves the convex program that is equivalent to training a two-layer ReLU network with weight decay (Pilanci and
    Ergen, 2020, Theorem 1) by column generation: the dual vector of the current network tells which neurons outside
    would lower the objective, and these are added until a search finds none. Where the activation patterns are so few
    that a proof over all of them is within reach, the program is solved on the patterns in use to the last digit, and
    branch and bound closes the search. Elsewhere a round gives the new neurons their masses and then moves all neurons
    jointly; the bound of the result is one among the patterns around its neurons. Listed patterns are solved as they
    are, by a working set.

    Parameters
    ----------
    problem : Problem
        Data, loss and weight decay ``beta > 0``.
    architecture : ReLU, GatedReLU, SampledGatedReLU, BatchNormReLU, Polynomial or ParallelReLU, optional
        ``ReLU()`` by default.
    patterns : "auto", int or ActivationPatterns, default "auto"
        "auto" optimises over networks of every width. A number of sampled patterns, or given ones, confine the neurons
        to the cones of these patterns. With ``BatchNormReLU()`` given patterns are those of the whitened data,
        ``programs.batch_norm.whiten(X).data``; the other relatives take none.
    tol : float, default 1e-6
        Relative duality gap ``(objective - lower_bound) / |objective|`` to reach.
    certify : bool, default False
        Spend time (``time_limit``, or 60 seconds without one) on a global bound, too, where the patterns are too many
        to be searched exactly; the result is ``global_lower_bound``.
    time_limit : float, optional
        Seconds; the best network so far is returned when they run out.
    max_iter : int, optional
        Outer iterations, 200 by default.
    max_width : int, optional
        Most neurons of the network. The best network of all widths is found first and then narrowed; the lower bound
        stays that of all widths, so the gap may not close: the status is then "width limit".
    warm_start : ReLUNetwork or a relative, optional
        Network of the architecture to start from.
    random_state : int or None, default 0
        Seed of all random choices; None stands for 0.
    verbose : bool or callable, default False
        True writes a line per iteration to standard error; a callable receives :class:`cvxnn.Progress`.
    throw : bool, default False
        Raise :class:`cvxnn.SolveError` when ``tol`` was not met, instead of returning with a status.

    Returns
    -------
    Solution
        Network, objective, lower bound, gap, scope of the bound, status, dual vector, patterns and history. Scope
        "global" is only given to a bound that holds for networks of every width.

    Raises
    ------
    ValueError
        On options out of range, ``beta = 0``, or patterns that do not belong to the data.
    SolveError
        With ``throw=True``, when the tolerance was not met.

    Examples
    --------
    >>> from cvxnn import Problem, solve
    >>> solution = solve(Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1))
    >>> solution.scope, solution.gap < 1e-6, round(solution.objective, 6)
    ('global', True, 0.185)
    """
    recorder = Recorder(verbose)
    require_problem(problem)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    if time_limit is not None:
        time_limit = as_number(time_limit, "time_limit", minimum=0.0)
    limit = None if max_iter is None else as_count(max_iter, "max_iter")
    width = None if max_width is None else as_count(max_width, "max_width")
    chosen = ReLU() if architecture is None else architecture
    if width is not None and not (isinstance(chosen, ReLU | BatchNormReLU) and isinstance(patterns, str)):
        raise ValueError(
            'max_width needs architecture=ReLU() or BatchNormReLU() and patterns="auto": gates and given patterns '
            "fix the neurons, and the other programs do not count them."
        )
    seed = as_seed(random_state, "random_state")
    if problem.beta == 0.0:
        raise ValueError(
            "beta is 0; solve needs beta > 0, since without weight decay the optimum may not be attained "
            "(a small value such as 1e-6 comes close)."
        )
    options = SolveOptions(patterns, tol, certify, time_limit, limit, width, warm_start, seed)
    chosen = with_gates(problem, chosen, options)
    with solver_threads(problem, chosen, listed=not isinstance(patterns, str)):
        solution = solve_architecture(problem, chosen, options, recorder)
    if throw and not solution.status.converged:
        raise SolveError(solution)
    return solution
