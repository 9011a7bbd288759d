"""pyscnn 0.0.10 driven through its own interface, with a time limit and its own clock.

Its clock counts iterations and leaves out the evaluation of metrics. The penalty of the default ``unitize_data=True``
differs from weight decay, so it is off. Its objective is 1/(2n) of the squared residuals plus lam times the norms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.record import Job, Outcome, Point, TimeUpError


def optimise(job: Job, model: Any, solver: Any, objective_name: str, score: Callable[[Any], Outcome]) -> Outcome:
    """Run a solver of pyscnn until its rule, the limit or the target stops it; ``score`` judges the final model."""
    from scnn.metrics import Metrics
    from scnn.private.interface import (
        build_internal_model,
        build_metrics_tuple,
        build_optimizer,
        get_logger,
        process_data,
        set_device,
    )
    from scnn.regularizers import NeuronGL1

    n = job.problem.n_samples
    constrained = objective_name == "base_objective"
    metrics = Metrics(objective=not constrained, grad_norm=False, model_loss=constrained, constraint_gaps=constrained)
    logger = get_logger("scnn")
    set_device("cpu", job.options.get("dtype", "float64"), job.seed)
    train, test, _ = process_data(job.problem.X, job.problem.y, None, None, unitize_data=False)
    regularizer = NeuronGL1(job.problem.beta / n)
    internal = build_internal_model(model, regularizer, train[0])
    procedure = build_optimizer(solver, regularizer, metrics)
    log: dict[str, list[float]] = {}
    seconds = 0.0
    size = float(np.linalg.norm(job.problem.y))
    record_time = procedure._record_time

    def points() -> list[Point]:
        values = log.get(f"train_{objective_name}", [])
        gaps = log.get("train_constraint_gaps", [])
        violations = [math.sqrt(max(gap, 0.0)) / size for gap in gaps] if constrained else itertools.repeat(0.0)
        clock = np.cumsum(log.get("time", [])).tolist()
        return [Point(t, n * float(v), g) for t, v, g in zip(clock, values, violations, strict=False)]

    def timed(metrics_log: dict[str, list[float]], start_time: float) -> Any:
        # The log belongs to a local variable of the procedure: this is the only place from which it can be kept.
        nonlocal log, seconds
        log = metrics_log
        if values := log.get(f"train_{objective_name}"):
            gap = math.sqrt(max(log["train_constraint_gaps"][-1], 0.0)) / size if constrained else 0.0
            if seconds > job.limit or job.met(n * float(values[-1]), gap):
                raise TimeUpError
        result = record_time(metrics_log, start_time)
        seconds += result[0]["time"][-1]
        return result

    procedure._record_time = timed
    status = "stopped by its own rule"
    try:
        rows, held = (train[0], train[1]), (test[0], test[1])
        procedure(logger, internal, lambda start: start, rows, held, build_metrics_tuple(metrics))
    except TimeUpError:
        status = "time limit" if seconds > job.limit else "target met"
    end = score(internal)
    end.trace, end.seconds, end.status = _thin(points()), seconds, status
    return end


def _thin(points: list[Point], most: int = 200) -> list[Point]:
    """Every point of a short course; of a long one the first, the last and points evenly spaced in log time."""
    if len(points) <= most:
        return points
    wanted = np.geomspace(max(points[0].seconds, 1e-4), points[-1].seconds, most)
    index = np.unique(np.searchsorted([p.seconds for p in points], wanted).clip(0, len(points) - 1))
    return [points[i] for i in index]
