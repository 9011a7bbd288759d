"""The verb: train a network to a certified optimum."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

from cvxnn._validation import as_count, as_number
from cvxnn._workers import workers
from cvxnn.architectures import GatedReLU, ParallelReLU, ReLU
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns import ActivationPatterns, sample_patterns
from cvxnn.problem import Problem, require_no_output_bias, require_problem
from cvxnn.programs.gated import GatedReLUNetwork, solve_gated
from cvxnn.programs.output_bias import solve_output_bias
from cvxnn.programs.parallel_relu import ParallelOptions, solve_parallel
from cvxnn.programs.relu import ReLUOptions, solve_relu
from cvxnn.progress import Progress, Recorder
from cvxnn.solution import Solution, SolveError
from cvxnn.solvers.group_lasso import ROWS

__all__ = ["blas_threads", "solve"]

_THREADED_ENTRIES = 50_000
_THREADED_SAMPLES = 2_500


def solve(
    problem: Problem,
    *,
    architecture: ReLU | GatedReLU | ParallelReLU | None = None,
    patterns: str | int | ActivationPatterns = "auto",
    tol: float = 1e-6,
    certify: bool = False,
    time_limit: float | None = None,
    max_iter: int | None = None,
    max_width: int | None = None,
    warm_start: ReLUNetwork | GatedReLUNetwork | ParallelReLUNetwork | None = None,
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
    architecture : ReLU, GatedReLU or ParallelReLU, optional
        ``ReLU()`` by default.
    patterns : "auto", int or ActivationPatterns, default "auto"
        "auto" optimises over networks of every width. A number of sampled patterns, or given ones, confine the neurons
        to the cones of these patterns.
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
    warm_start : ReLUNetwork, GatedReLUNetwork or ParallelReLUNetwork, optional
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
    limit = 200 if max_iter is None else as_count(max_iter, "max_iter")
    width = None if max_width is None else as_count(max_width, "max_width")
    if width is not None and (isinstance(architecture, (GatedReLU, ParallelReLU)) or not isinstance(patterns, str)):
        raise ValueError('max_width needs architecture=ReLU() and patterns="auto": given patterns fix the neurons.')
    seed = 0 if random_state is None else _seed(random_state)
    if problem.beta == 0.0:
        raise ValueError(
            "beta is 0; solve needs beta > 0, since without weight decay the optimum may not be attained "
            "(a small value such as 1e-6 comes close)."
        )
    with _threads(problem, architecture, listed=not isinstance(patterns, str)):
        if isinstance(architecture, GatedReLU):
            require_no_output_bias(problem, "solve with GatedReLU")
            solution = solve_gated(
                problem,
                architecture,
                tol=tol,
                time_limit=time_limit,
                max_iter=limit,
                recorder=recorder,
                warm_start=_gated_start(warm_start, architecture),
            )
        elif architecture is None or isinstance(architecture, ReLU):
            listed = _listed_patterns(patterns, problem, seed)
            start = _relu_start(warm_start, problem)
            options = ReLUOptions(listed, tol, certify, time_limit, limit, start, seed, width)
            if problem.output_bias_decay is None:
                solution = solve_relu(problem, options, recorder)
            else:
                solution = solve_output_bias(problem, options, recorder)
        elif isinstance(architecture, ParallelReLU):
            if not isinstance(patterns, str):
                raise ValueError('ParallelReLU takes patterns="auto" only: its patterns come in layers.')
            parallel = ParallelOptions(tol, certify, time_limit, limit, warm_start, seed)
            solution = solve_parallel(problem, architecture, parallel, recorder)
        else:
            raise ValueError(f"architecture must be ReLU(), GatedReLU(gates) or ParallelReLU(); got {architecture!r}.")
    if throw and not solution.status.converged:
        raise SolveError(solution)
    return solution


@contextmanager
def _threads(problem: Problem, architecture: Any, *, listed: bool) -> Iterator[None]:
    """Threads of the solver itself where it works by slabs of rows, those of the BLAS where it factorises matrices."""
    gated = isinstance(architecture, GatedReLU)
    by_slabs = problem.n_samples > ROWS if gated else not listed
    if by_slabs or _is_small(problem, architecture):
        count = max((library.num_threads or 1 for library in _blas().lib_controllers), default=1)
        with _blas().limit(limits=1), workers(count):
            yield
    else:
        yield


def blas_threads(problem: Problem, architecture: ReLU | GatedReLU | None = None) -> AbstractContextManager[object]:
    """Context with one thread where the matrices are so small that synchronisation costs more than it gains."""
    return _blas().limit(limits=1 if _is_small(problem, architecture) else None)


def _is_small(problem: Problem, architecture: Any) -> bool:
    # The matrices that are factorised for a gated problem have the size of the samples.
    if isinstance(architecture, GatedReLU):
        return problem.n_samples < _THREADED_SAMPLES
    return problem.X.size < _THREADED_ENTRIES


@functools.cache
def _blas() -> ThreadpoolController:
    """Handle of the BLAS libraries; finding them takes longer than a small solve."""
    return ThreadpoolController().select(user_api="blas")


def _listed_patterns(patterns: Any, problem: Problem, seed: int) -> ActivationPatterns | None:
    if isinstance(patterns, str) and patterns == "auto":
        return None
    if isinstance(patterns, ActivationPatterns):
        if patterns.n_samples != problem.n_samples or patterns.gates.shape[1] != problem.n_features:
            raise ValueError(
                f"patterns belong to data of shape ({patterns.n_samples}, {patterns.gates.shape[1]}); "
                f"the problem has X of shape {problem.X.shape}."
            )
        if len(patterns) == 0:
            raise ValueError("patterns is empty; at least one activation pattern is needed.")
        return patterns
    if isinstance(patterns, (str, bool)) or not hasattr(patterns, "__index__"):
        raise ValueError(f'patterns must be "auto", a positive number or ActivationPatterns; got {patterns!r}.')
    return sample_patterns(problem.X, as_count(patterns, "patterns"), random_state=seed)


def _relu_start(network: Any, problem: Problem) -> ReLUNetwork | None:
    if network is None:
        return None
    if not isinstance(network, ReLUNetwork) or network.n_features != problem.n_features or network.a.ndim != 1:
        raise ValueError(
            f"warm_start must be a ReLUNetwork with {problem.n_features} features and one output; got {network!r}."
        )
    return network


def _gated_start(network: Any, architecture: GatedReLU) -> GatedReLUNetwork | None:
    if network is not None and not isinstance(network, GatedReLUNetwork):
        raise ValueError(f"warm_start must be a GatedReLUNetwork for {architecture!r}; got {network!r}.")
    return network


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
        raise ValueError(f"random_state must be a non-negative integer or None; got {value!r}.")
    return int(value)
