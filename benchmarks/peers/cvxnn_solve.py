"""``cvxnn.solve`` from the data to the certificate, on its default settings."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.record import Job, Outcome, Point
from cvxnn import GatedReLU, patterns, solve


def run(job: Job) -> Outcome:
    """Solve and certify; all seconds count, making of the patterns and certificate included."""
    begin = time.perf_counter()
    options: dict[str, Any] = {"tol": job.options["tol"], "time_limit": job.limit, "random_state": job.seed}
    if job.gates is not None and job.case.suite == "gated":
        options["architecture"] = GatedReLU(job.gates)
    elif job.gates is not None:
        options["patterns"] = patterns.ActivationPatterns.from_gates(job.problem.X, job.gates)
    solution = solve(job.problem, **options)
    seconds = time.perf_counter() - begin
    history = zip(solution.history.seconds.tolist(), solution.history.objective.tolist(), strict=True)
    trace = [Point(t, value) for t, value in history if t < seconds and value >= solution.objective]
    bound = solution.lower_bound if job.case.suite != "free" or solution.scope == "global" else None
    return Outcome(
        trace=[*trace, Point(seconds, solution.objective)],
        seconds=seconds,
        status=solution.status.value,
        width=solution.network.width,
        predict=solution.network,
        lower_bound=bound,
        global_lower_bound=solution.global_lower_bound if job.case.suite != "gated" else None,
        notes={"scope": solution.scope, "iterations": solution.n_iter},
    )
