r"""The ReLU program: two-layer networks with weight decay as one convex program over activation patterns.

.. math:: \min_{u, v}\ \ell\big(\textstyle\sum_i D_i X (u_i - v_i)\big) + \beta \sum_i (\|u_i\| + \|v_i\|),
          \qquad (2D_i - I) X u_i \ge 0,\ (2D_i - I) X v_i \ge 0

has the optimal value of the training problem for every width at least its number of nonzero blocks (Pilanci and Ergen,
"Neural networks are convex regularizers", 2020, Theorem 1). A nonzero block z with sign s is the neuron
``w = z / sqrt(||z||)``, ``a = s sqrt(||z||)``; back, (w, a) is the vector ``|a| w`` in a cone that contains it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, certify_global, certify_patterns, relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.output_bias import admissible_dual, best_shift
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns, count_patterns
from cvxnn.problem import Problem
from cvxnn.programs.blocks import cone_blocks, used_patterns
from cvxnn.programs.reduction import Reduction, reduce_problem
from cvxnn.programs.relu_bounds import close_zero, global_bound, quick_bound
from cvxnn.programs.zero_network import zero_is_optimal
from cvxnn.progress import Recorder
from cvxnn.solution import Solution, Status
from cvxnn.solvers.best_bias import BestBias
from cvxnn.solvers.column_generation import generate_columns
from cvxnn.solvers.column_state import PROOF_THRESHOLD, ColumnOptions, ColumnState
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.kink_newton import KinkNewton
from cvxnn.solvers.local_search import default_width, local_search
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.narrowing import narrow
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.working_set import solve_listed

FloatArray = npt.NDArray[np.float64]

__all__ = ["ReLUOptions", "is_exact", "solve_relu"]

_EXACT_RANK, _EXACT_PATTERNS = 4, 50_000_000
"""Up to this rank, or this number of patterns, branch and bound closes the pricing problem within seconds."""

_CERTIFY_RANK, _CERTIFY_SAMPLES = 5, 50
"""Up to this rank, or this number of samples, it is worth trying when a global certificate is asked for."""

_CERTIFY_SECONDS = 60.0
"""Time for a global certificate asked for without a limit; beyond rank 5 it may never close."""

_PATIENCE, _PATIENCE_SHARE = 0.5, 0.05
"""Least seconds for the bound among the patterns where the user stops the solve; share of the limit where it does."""

_CERTIFY_SHARE, _CERTIFY_FIRST, _CERTIFY_EACH, _CERTIFY_PASSES, _CERTIFY_UNIT = 0.1, 0.5, 2e-6, 2.0, 1.5e-7
"""Share of a time limit that is kept for the bound among the patterns, less where it takes fewer seconds than that;
and what comes on top for parts without a limit: multiples of the time of the decomposition, seconds for each pair."""

_CERTIFY_FACTORS = 2e-10
"""Seconds for each cone and cubed feature of that bound. Where they exceed the share the bound stays loose, and less is
kept in that proportion."""

_MOST_BOUNDING = 0.4
"""Largest share of a time limit that is kept for all bounds."""

_START_ROUNDS, _LARGE_START_ROUNDS = 1, 12
"""Most rounds of the local search that makes a start: usual; large."""

_EXACT_START_SHARE = 0.4
"""Share of a time limit for that search where a proof follows."""

_SHARES, _LEAST_SHARE, _COLUMNS_SHARE = (0.9, 0.3), 0.4, 0.15
"""Shares within it: up to some 450 steps of L-BFGS no other method is faster, beyond them it may end after the second
share of its time, and what it leaves is for joint moves. Less than the last share is too little to find new neurons."""

_NARROW_SHARE = 0.4
"""Share of a time limit that is kept for the narrowing of the network to a limited width."""

_START_SAMPLES = 40
"""Below this size column generation from the zero network is faster than a local search for a start."""


@dataclass(frozen=True)
class ReLUOptions:
    """Settings of :func:`solve_relu`: those of :func:`cvxnn.solve`, and a ``pool`` for the searches of neurons."""

    listed: ActivationPatterns | None
    tol: float
    certify: bool
    time_limit: float | None
    max_iter: int
    warm_start: ReLUNetwork | None
    seed: int
    max_width: int | None = None
    pool: DirectionPool | None = None


def solve_relu(problem: Problem, options: ReLUOptions, recorder: Recorder) -> Solution:
    """Solve the ReLU program over all patterns (``options.listed`` None) or over the listed ones.

    Parameters
    ----------
    problem : Problem
    options : ReLUOptions
    recorder : Recorder
        Clock and history.
    """
    deadline = math.inf if options.time_limit is None else time.perf_counter() + options.time_limit
    begin = time.perf_counter()
    reduction = reduce_problem(problem, keep_samples=options.listed is not None)
    # A bound of the dual norm decomposes matrices of the same size.
    decomposing = time.perf_counter() - begin
    small = reduction.problem
    exact = options.listed is None and is_exact(small, certify=options.certify)
    zero = Neurons.empty(small.n_features)
    state = ColumnState(zero, zero.objective(small), np.zeros((0, small.n_features)))
    # The bound comes after the columns, and a narrowing: they need their share of the time.
    narrowing, bounding = _reserves(small, options, decomposing, exact=exact)
    last = deadline - narrowing - bounding
    columns = ColumnOptions(options.tol, exact, options.max_iter, last, options.seed, options.pool)

    def report(current: ColumnState) -> None:
        _record(reduction, current, recorder)

    interrupted = False
    proved = None
    try:
        if options.listed is not None:
            gates = options.listed.gates @ reduction.basis
            solve_listed(small, options.listed.masks[:, reduction.samples], gates, state, columns, report)
        else:
            _start(reduction, state, options, columns.deadline, exact=exact)
            generate_columns(small, state, columns, report)
            if exact:
                proved = _prove(problem, reduction, state, columns, report)
    except KeyboardInterrupt:
        interrupted = True
    clock = deadline, deadline - bounding
    return _finish(problem, reduction, state, options, recorder, clock, proved=proved, interrupted=interrupted)


def _reserves(problem: Problem, options: ReLUOptions, decomposing: float, *, exact: bool) -> tuple[float, float]:
    """Seconds of the time limit that the columns leave to the narrowing, and to the bound that follows it."""
    if options.time_limit is None:
        return 0.0, 0.0
    narrowing = 0.0 if options.max_width is None else _NARROW_SHARE * options.time_limit
    if exact:
        return narrowing, 0.0
    share = _CERTIFY_SHARE * options.time_limit
    width = default_width(problem.n_samples)
    bounding = min(share, _CERTIFY_FIRST + _CERTIFY_EACH * problem.X.size)
    bounding *= min(1.0, share / (_CERTIFY_FACTORS * 2 * width * problem.n_features**3))
    # Cones have rows, and factors whose passes cost less for each entry.
    pairs = width * (problem.n_samples + problem.n_features**2 / 16)
    bounding += _CERTIFY_PASSES * decomposing + _CERTIFY_UNIT * pairs
    return narrowing, min(bounding, _MOST_BOUNDING * options.time_limit)


def _prove(
    problem: Problem,
    reduction: Reduction,
    state: ColumnState,
    columns: ColumnOptions,
    report: Callable[[ColumnState], None],
) -> Certificate | None:
    """Close the pricing problem by branch and bound; neurons that it finds on the way go back to column generation."""
    while state.outcome in ("search", "stalled"):
        network, fit, objective = _network(problem, reduction, state)
        certificate, pricing = certify_global(
            problem,
            fit,
            objective,
            tol=columns.tol,
            time_limit=_remaining(columns.deadline),
            starts=network.W if network.width else None,
            stop_at_violation=True,
        )
        if pricing.interrupted:
            raise KeyboardInterrupt
        state.violation = max(pricing.lower / problem.beta - 1.0, 0.0)
        margin = PROOF_THRESHOLD * columns.tol
        violating = pricing.values > problem.beta * (1.0 + margin)
        # Where not even the neurons attain beta, it is they that are not optimal yet.
        unsettled = network.width > 0 and pricing.lower < problem.beta * (1.0 - margin)
        if certificate.gap <= columns.tol or not (np.any(violating) or unsettled):
            return certificate
        before = state.objective
        state.outcome = "running"
        found = reduction.restrict_directions(pricing.directions[violating][:10], pricing.signs[violating][:10])
        generate_columns(reduction.problem, state, columns, report, found)
        if not state.objective < before:
            # Nothing is gained from such tiny violations; without the early stop the bound may well be tight enough.
            network, _, _ = _network(problem, reduction, state)
            limit = _remaining(columns.deadline)
            return global_bound(problem, network, by_branching=True, tol=columns.tol, time_limit=limit)
    return None


def is_exact(problem: Problem, *, certify: bool) -> bool:
    """Whether the pricing problem is to be closed by branch and bound, so that the optimum is proved global."""
    rank, rows = problem.n_features, int(np.count_nonzero(np.any(problem.X != 0, axis=1)))
    if rank <= _EXACT_RANK or rows <= rank or count_patterns(rows, rank) <= _EXACT_PATTERNS:
        return True
    return certify and (rank <= _CERTIFY_RANK or rows <= _CERTIFY_SAMPLES)


def _start(reduction: Reduction, state: ColumnState, options: ReLUOptions, deadline: float, *, exact: bool) -> None:
    """Good first point: the given network, then a local search where the problem is large enough to need one."""
    small = reduction.problem

    def keep(neurons: Neurons, objective: float) -> None:
        if objective < state.objective * (1.0 - 1e-13):  # neurons of hardly any mass may be lower by rounding
            state.neurons, state.objective = neurons, objective

    if options.warm_start is not None:
        given = reduction.restrict(options.warm_start)
        keep(given, given.objective(small))
        # With masses that are too large no direction violates the dual, although the network is not optimal.
        massed = solve_masses(small, given)
        keep(massed, massed.objective(small))
    elif small.n_samples > _START_SAMPLES and not zero_is_optimal(small):
        # The rounds that follow find better neurons than further cycles of the local search would.
        affordable = KinkNewton.affords(small, default_width(small.n_samples))
        remaining = _remaining(deadline)
        limit = remaining if remaining is None or not exact else _EXACT_START_SHARE * remaining
        found = local_search(
            small,
            time_limit=limit,
            max_rounds=_START_ROUNDS if affordable else _LARGE_START_ROUNDS,
            random_state=options.seed,
            callback=keep,
            shares=_SHARES,
            least_share=_LEAST_SHARE,
        )
        keep(found, found.objective(small))
        left = _remaining(deadline)
        if not exact and remaining is not None and left is not None and left < _COLUMNS_SHARE * remaining:
            # What is left serves to settle the neurons; it is too little to find others.
            state.outcome = "time_limit"


def _record(reduction: Reduction, state: ColumnState, recorder: Recorder) -> None:
    small = reduction.problem
    nu = small.dual_vector(state.neurons.fit(small.X))
    if isinstance(small, BestBias):
        small = small.biased
        nu = admissible_dual(small, nu, nu)
    estimate, _ = scaled_dual_bound(small, nu, small.beta * (1.0 + state.violation))
    recorder.record(
        "columns",
        state.iteration,
        objective=reduction.objective_scale * state.objective,
        lower_bound=0.0,
        estimate=reduction.objective_scale * estimate,
        width=len(state.neurons),
        violation=state.violation,
    )


def _finish(
    problem: Problem,
    reduction: Reduction,
    state: ColumnState,
    options: ReLUOptions,
    recorder: Recorder,
    clock: tuple[float, float],
    *,
    proved: Certificate | None,
    interrupted: bool,
) -> Solution:
    """Go back to the original problem, certify there, and tell how it ended; ``clock``: deadlines of all, of moves."""
    deadline, last_move = clock
    free, fit, objective = _network(problem, reduction, state)
    network, kept, free_objective = free, state.neurons, objective
    if options.max_width is not None and network.width > options.max_width:
        kept, interrupted = _narrowed(reduction, state, options, last_move, interrupted=interrupted)
        network = _expanded(problem, reduction, kept)
        # The bound comes from the fit of the best network of all widths, the objective from the narrow one.
        objective = network.objective(problem)
    narrowed_in_time = time.perf_counter() < last_move
    neurons = reduction.expand(kept)
    patterns = options.listed
    if patterns is None:
        patterns = used_patterns(reduction, problem.X, state.neurons.joined(kept), state.gates)
    try:
        best = free, fit, free_objective
        certificate = _proof(problem, reduction, state, options, deadline, patterns, best, proved, interrupted)
        certificate = replace(certificate, objective=objective)
    except KeyboardInterrupt:
        interrupted = True
        certificate = quick_bound(problem, free, fit, objective, len(patterns))
    status = _status(certificate, state, options.tol, interrupted=interrupted, listed=options.listed is not None)
    if status is Status.STALLED and kept is not state.neurons:
        status = Status.WIDTH_LIMIT if narrowed_in_time else Status.TIME_LIMIT
    elif status in (Status.STALLED, Status.UNPROVED) and time.perf_counter() >= deadline:
        # What is left open, the bound or the proof, might have closed with more time.
        status = Status.TIME_LIMIT
    # The result is complete: an interrupt in the last callback has nothing left to stop.
    with contextlib.suppress(KeyboardInterrupt):
        recorder.record(
            "certify",
            state.iteration,
            objective=objective,
            lower_bound=certificate.lower_bound,
            estimate=certificate.lower_bound,
            width=network.width,
            violation=state.violation,
        )
    blocks = cone_blocks(problem.X, neurons, patterns)
    return Solution(network, certificate, status, patterns, blocks, recorder.history(), max(state.iteration, 1))


def _proof(
    problem: Problem,
    reduction: Reduction,
    state: ColumnState,
    options: ReLUOptions,
    deadline: float,
    patterns: ActivationPatterns,
    best: tuple[ReLUNetwork, FloatArray, float],
    certificate: Certificate | None,
    interrupted: bool,
) -> Certificate:
    """Best bound that time and options allow: for networks of all widths, or among the patterns where that misses."""
    network, fit, objective = best
    if certificate is None:
        # Listed patterns may hold the best network of all.
        closable = options.listed is not None and is_exact(reduction.problem, certify=False)
        if options.certify or closable:
            limit = _remaining(deadline)
            if options.certify and limit is None:
                limit = _CERTIFY_SECONDS
            branching = is_exact(reduction.problem, certify=True)
            certificate = global_bound(problem, network, by_branching=branching, tol=options.tol, time_limit=limit)
        else:
            certificate = quick_bound(problem, network, fit, objective, None)
            # A path goes on to betas that say more.
            if network.width == 0 and options.listed is None and options.pool is None and not interrupted:
                certificate = close_zero(problem, certificate, network, tol=options.tol, deadline=deadline)
    gap = relative_gap(objective, certificate.lower_bound)
    if gap <= options.tol or (network.width == 0 and options.listed is None):
        return certificate
    among = certify_patterns(
        problem,
        fit,
        objective,
        patterns.masks,
        global_lower_bound=certificate.global_lower_bound,
        dual_norm_attained=certificate.dual_norm_attained,
        time_limit=_patience(deadline, options.time_limit, interrupted=interrupted),
    )
    # A proof for all networks that is nearly closed says more than one among the patterns that misses, too.
    closed = relative_gap(objective, among.lower_bound) <= options.tol
    return among if closed or gap > 10.0 * options.tol else certificate


def _patience(deadline: float, time_limit: float | None, *, interrupted: bool) -> float | None:
    """Seconds for the bound among the patterns; None for as long as it takes."""
    if interrupted:
        return _PATIENCE
    if time_limit is None:
        return None
    return max(deadline - time.perf_counter(), min(_PATIENCE, _PATIENCE_SHARE * time_limit))


def _narrowed(
    reduction: Reduction, state: ColumnState, options: ReLUOptions, deadline: float, *, interrupted: bool
) -> tuple[Neurons, bool]:
    """Neurons within the width limit, and whether the user has interrupted by now."""
    width = options.max_width if options.max_width is not None else len(state.neurons)
    small = reduction.problem
    if not interrupted:
        with contextlib.suppress(KeyboardInterrupt):
            return narrow(small, state.neurons, width, deadline=deadline, seed=options.seed), False
    return narrow(small, state.neurons, width, deadline=-math.inf), True


def _network(problem: Problem, reduction: Reduction, state: ColumnState) -> tuple[ReLUNetwork, FloatArray, float]:
    """Network of the state on the original data, with its fit and objective."""
    network = _expanded(problem, reduction, state.neurons)
    return network, network(problem.X), network.objective(problem)


def _expanded(problem: Problem, reduction: Reduction, neurons: Neurons) -> ReLUNetwork:
    """Network of reduced neurons on the original data, with the best output bias where it may have one."""
    network = reduction.expand(neurons).network()
    if problem.output_bias_decay is None:
        return network
    return replace(network, output_bias=best_shift(problem, network(problem.X)))


def _remaining(deadline: float) -> float | None:
    return None if math.isinf(deadline) else max(deadline - time.perf_counter(), 0.0)


def _status(certificate: Certificate, state: ColumnState, tol: float, *, interrupted: bool, listed: bool) -> Status:
    if certificate.gap <= tol and certificate.scope == "global":
        return Status.GLOBAL_OPTIMUM
    if interrupted:
        return Status.INTERRUPTED
    limits = {"max_iter": Status.MAX_ITER, "time_limit": Status.TIME_LIMIT}
    if state.outcome in limits:
        return limits[state.outcome]
    # A closed gap among listed patterns is a proof; elsewhere the search has to have ended, too.
    searched = state.outcome == "search" or listed
    if searched and certificate.gap <= tol:
        return Status.PATTERNS_OPTIMUM
    # A zero network has no neurons that could stall.
    return Status.UNPROVED if searched and len(state.neurons) == 0 and not listed else Status.STALLED
