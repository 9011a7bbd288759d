"""Solve the problems of an estimator one by one or in parallel, and sum up how it went."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from time import perf_counter
from typing import Any, cast

from joblib import Parallel, delayed, effective_n_jobs
from sklearn.exceptions import ConvergenceWarning

from cvxnn.problem import Problem
from cvxnn.programs.dispatch import Network
from cvxnn.programs.one_vs_all import worst_status
from cvxnn.solution import Solution, Status
from cvxnn.training import solve


def solve_all(
    problems: Sequence[Problem],
    starts: Sequence[Network | None],
    *,
    n_jobs: int | None,
    time_limit: float | None,
    **options: Any,
) -> list[Solution]:
    """One solution a problem; ``time_limit`` seconds are shared by all of them."""
    # joblib reads None as 1, or as what an enclosing joblib context says; its annotation forgets None.
    workers = min(effective_n_jobs(cast("int", n_jobs)), len(problems))
    if workers <= 1:
        return _solve_in_turn(problems, starts, time_limit, options)
    share = None if time_limit is None else time_limit * workers / len(problems)
    jobs = (
        delayed(solve)(problem, warm_start=start, time_limit=share, **options)
        for problem, start in zip(problems, starts, strict=True)
    )
    return cast("list[Solution]", Parallel(n_jobs=workers)(jobs))


def _solve_in_turn(
    problems: Sequence[Problem],
    starts: Sequence[Network | None],
    time_limit: float | None,
    options: dict[str, Any],
) -> list[Solution]:
    end = None if time_limit is None else perf_counter() + time_limit
    solutions: list[Solution] = []
    for k, (problem, start) in enumerate(zip(problems, starts, strict=True)):
        share = None if end is None else max(end - perf_counter(), 0.0) / (len(problems) - k)
        solutions.append(solve(problem, warm_start=start, time_limit=share, **options))
        if solutions[-1].status is Status.INTERRUPTED:
            # One Ctrl-C stops the whole fit: the remaining classes only get what no time can give.
            end = perf_counter()
    return solutions


def warn_unless_converged(name: str, solutions: Sequence[Solution], tol: float) -> None:
    """One ConvergenceWarning with the gap reached and what to change, if a problem missed the tolerance.

    A width limit that binds is what was asked for, and a bound that is loose where no tight one is known is nothing
    that more iterations would mend; the status and the gap tell these without a warning.
    """
    ended = [*(status for status in Status if status.converged), Status.WIDTH_LIMIT, Status.UNPROVED]
    missed = [solution for solution in solutions if solution.status not in ended]
    if not missed:
        return
    status = worst_status(missed)
    worst = max((solution.certificate for solution in missed), key=lambda certificate: certificate.global_gap)
    share = f" in {len(missed)} of its {len(solutions)} one-vs-rest problems" if len(solutions) > 1 else ""
    # Gated networks have no bound over networks with other gates.
    beyond = f" ({worst.global_gap:.1e} over all networks)" if worst.global_lower_bound > 0.0 else ""
    warnings.warn(
        f"{name} ended with status {status.value!r}{share}: relative duality gap {worst.gap:.1e} in scope "
        f"{worst.scope!r}{beyond}, tol={tol:g}. "
        f"{status.advice} (beta is alpha * sum(sample_weight); X or y that is not standardised slows it down.)",
        ConvergenceWarning,
        stacklevel=4,
    )
