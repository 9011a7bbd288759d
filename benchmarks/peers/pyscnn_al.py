"""pyscnn: augmented Lagrangian on the ReLU program with listed patterns."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers._pyscnn import optimise
from benchmarks.record import Job, Outcome


def run(job: Job) -> Outcome:
    """Minimise the program of the job's patterns; objective without the penalty, violation as its own metric has it."""
    from scnn.models import ConvexReLU
    from scnn.solvers import AL

    if job.gates is None:
        raise ValueError("pyscnn's augmented Lagrangian needs gates; the job has none.")
    model = ConvexReLU(np.ascontiguousarray(job.gates.T))
    # A tight tolerance of the constraints: the clock of the comparison decides when it is over, not this one.
    solver = AL(model, max_primal_iters=10**7, max_dual_iters=10**6, tol=1e-6, constraint_tol=1e-10)
    return optimise(job, model, solver, "base_objective", _score)


def _score(internal: Any) -> Outcome:
    weights = np.asarray(internal.weights)[:, 0].astype(float)
    active = [block[np.any(block != 0.0, axis=1)] for block in weights]
    width = sum(len(block) for block in active)

    def predict(X: np.ndarray) -> np.ndarray:
        return np.maximum(X @ active[0].T, 0.0).sum(axis=1) - np.maximum(X @ active[1].T, 0.0).sum(axis=1)

    return Outcome([], 0.0, "", width, predict)
