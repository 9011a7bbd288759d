r"""Group lasso over activation patterns: the start from a part of the samples, and the choice of the method.

.. math:: \min_u\ \ell\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

Up to :data:`ROWS` samples the method is that of :mod:`cvxnn.solvers.group_lasso.kernel`, beyond it that of
:mod:`cvxnn.solvers.group_lasso.rows`, which needs no matrix of their number squared. A quarter of the samples gives the
first blocks where there are many; where they have few columns, the method by rows is tried first. What stalls or takes
long ends with the interior-point method of :mod:`cvxnn.solvers.group_lasso.interior`, if its size allows. Samples of
zero weight are left out: they cost nothing, yet large rows among them would set the scale of the others.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import relative_gap
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import Status
from cvxnn.solvers.group_lasso._common import GroupLassoResult, restricted
from cvxnn.solvers.group_lasso.interior import InteriorRun, interior_serves, work_before
from cvxnn.solvers.group_lasso.kernel import KernelRun
from cvxnn.solvers.group_lasso.rows import solve_group_lasso_rows

FloatArray = npt.NDArray[np.float64]

__all__ = ["ROWS", "solve_group_lasso"]

# Samples beyond which the method by rows is faster and smaller.
ROWS = 5000
# Samples from which on a part of them gives the start, the part, the relative gap that it is solved to, and the share
# of the time that it may take.
_SAMPLED = 900
_SAMPLE_PART = 4
_SAMPLE_GAP = 3e-2
_SAMPLE_SHARE = 0.4
# Nonzero columns at the start, relative to the samples, up to which the method by rows is the faster one.
_FEW_COLUMNS = 1.75
# Steps of that method before it is given up.
_ROW_STEPS = 20
_MAX_ITER = 200
# Relative gap up to which the blocks of the interior-point method are the start of another one.
_CLOSE = 0.1


def solve_group_lasso(
    problem: Problem,
    patterns: ActivationPatterns,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int | None = None,
    warm_start: FloatArray | None = None,
    recorder: Recorder | None = None,
) -> GroupLassoResult:
    """Solve the group lasso to a relative duality gap.

    Parameters
    ----------
    problem : Problem
        Data, loss and a positive ``beta``.
    patterns : ActivationPatterns
        One block for each pattern; of equal patterns only the first carries weight.
    tol : float, default 1e-6
        Relative duality gap.
    time_limit : float, optional
        Seconds; checked between factorisations and products.
    max_iter : int, optional
        Iterations, 200 by default: working sets, or Newton steps on all rows where the samples are many.
    warm_start : ndarray (P, d), optional
        Blocks to start from; the path of penalties is skipped.
    recorder : Recorder, optional
        Keeps the history, one row an iteration, and calls back.

    Returns
    -------
    GroupLassoResult

    Examples
    --------
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> result = solve_group_lasso(problem, ActivationPatterns.from_masks([[True]], [[1.0]]))
    >>> result.vectors.round(6)
    array([[1.5]])
    """
    begin = time.perf_counter()
    deadline = math.inf if time_limit is None else begin + time_limit
    recorder = Recorder(False) if recorder is None else recorder
    limit = _MAX_ITER if max_iter is None else max_iter
    counted = np.flatnonzero(problem.sample_weight > 0)
    if counted.size < problem.n_samples:
        part, few = restricted(problem, patterns, counted, problem.sample_weight[counted])
        result = _solve(part, few, tol, deadline, limit, warm_start, recorder)
        dual = np.zeros(problem.n_samples)
        dual[counted] = result.dual
        return replace(result, dual=dual)
    return _solve(problem, patterns, tol, deadline, limit, warm_start, recorder)


def _solve(
    problem: Problem,
    patterns: ActivationPatterns,
    tol: float,
    deadline: float,
    limit: int,
    warm_start: FloatArray | None,
    recorder: Recorder,
) -> GroupLassoResult:
    """Take the methods that suit the size; where they stall, go on by the interior-point one if the size allows it.

    Few samples go back to the method by kernels where that stalls, too, now without a limit of its work.
    """
    result = _attempt(problem, patterns, tol, deadline, limit, warm_start, recorder)
    if result.status is not Status.STALLED or not interior_serves(problem, len(patterns)):
        return result
    result = InteriorRun(problem, patterns, tol, deadline, recorder, result).finish(limit)
    if result.status is not Status.STALLED or problem.n_samples > ROWS:
        return result
    run = KernelRun(problem, patterns, tol, deadline, recorder, patient=True)
    start = run.continue_from(result, len(patterns))
    # Blocks far from the optimum are a poor start.
    status = run.finish(limit, start if relative_gap(result.objective, result.lower_bound) <= _CLOSE else None)
    return run.result(status)


def _attempt(
    problem: Problem,
    patterns: ActivationPatterns,
    tol: float,
    deadline: float,
    limit: int,
    warm_start: FloatArray | None,
    recorder: Recorder,
) -> GroupLassoResult:
    """Start from a part of the samples, then one method or both."""
    begin = time.perf_counter()
    start, many, interrupted, stalled = warm_start, problem.n_samples > ROWS, False, False
    if start is None and not many and problem.n_samples >= _SAMPLED:
        share = math.inf if math.isinf(deadline) else begin + _SAMPLE_SHARE * (deadline - begin)
        try:
            start, status = _sampled_start(problem, patterns, share)
            interrupted, stalled = status is Status.INTERRUPTED, status is Status.STALLED
        except KeyboardInterrupt:
            interrupted = True
    first, late = None, interrupted or time.perf_counter() > deadline
    if stalled and not late and start is not None and interior_serves(problem, len(patterns)):
        # What stalls on a part of the samples is not tried on all of them.
        run = KernelRun(problem, patterns, tol, deadline, recorder)
        run.begin_at(start)
        return run.result(Status.STALLED)
    few = start is not None and problem.n_samples >= _SAMPLED and _few_columns(problem, start)
    if many or (few and not late):
        left = None if math.isinf(deadline) else max(0.0, deadline - time.perf_counter())
        # Few samples can go to the other method where this one is slow; many cannot.
        steps = limit if many else min(limit, _ROW_STEPS)
        first = solve_group_lasso_rows(
            problem,
            patterns,
            tol=tol,
            time_limit=left,
            max_iter=steps,
            warm_start=start,
            recorder=recorder,
            most_work=work_before(problem, len(patterns)),
        )
        if many or steps == limit or first.status not in (Status.MAX_ITER, Status.STALLED):
            return first
    run = KernelRun(problem, patterns, tol, -math.inf if late else deadline, recorder)
    if first is not None:
        start = run.continue_from(first, len(patterns))
    status = run.finish(limit, start)
    return run.result(Status.INTERRUPTED if interrupted else status)


def _sampled_start(problem: Problem, patterns: ActivationPatterns, deadline: float) -> tuple[FloatArray | None, Status]:
    """Blocks ``(P, d)`` of the problem on a part of the samples, and the status of the search for them.

    There are none where the part has fewer samples than features. Those that a deadline or an interrupt leaves are the
    best so far.
    """
    counted = np.flatnonzero(problem.sample_weight > 0)
    size = counted.size // _SAMPLE_PART
    if size < problem.n_features:
        return None, Status.MAX_ITER
    rows = np.sort(np.random.default_rng(0).permutation(counted)[:size])
    weight = problem.sample_weight[rows]
    weight *= float(np.sum(problem.sample_weight)) / float(np.sum(weight))
    part, few = restricted(problem, patterns, rows, weight)
    run = KernelRun(part, few, _SAMPLE_GAP, deadline, Recorder(False))
    result = run.result(run.finish(_MAX_ITER, None))
    vectors = np.zeros((len(patterns), problem.n_features))
    vectors[result.index] = result.vectors
    return vectors, result.status


def _few_columns(problem: Problem, start: FloatArray) -> bool:
    """Whether the nonzero blocks have so few columns that products with them cost less than a kernel."""
    active = np.count_nonzero(np.any(start != 0.0, axis=1))
    return int(active) * problem.n_features <= _FEW_COLUMNS * problem.n_samples
