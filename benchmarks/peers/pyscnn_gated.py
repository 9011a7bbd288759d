"""pyscnn: R-FISTA on the gated program."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers._pyscnn import optimise
from benchmarks.record import Job, Outcome


def run(job: Job) -> Outcome:
    """Minimise the gated program of the job's gates; it stops when its clock passes the limit or the target is met."""
    from scnn.models import ConvexGatedReLU
    from scnn.solvers import RFISTA

    if job.gates is None:
        raise ValueError("pyscnn's R-FISTA needs gates; the job has none.")
    model = ConvexGatedReLU(np.ascontiguousarray(job.gates.T))
    return optimise(job, model, RFISTA(model, max_iters=10**7, tol=1e-16), "objective", _score)


def _score(internal: Any) -> Outcome:
    weights, gates = np.asarray(internal.weights)[0], np.asarray(internal.U)
    active = np.any(weights != 0.0, axis=1)
    vectors, live = weights[active].astype(float), gates[:, active]
    return Outcome([], 0.0, "", int(active.sum()), lambda X: np.sum((X @ live >= 0) * (X @ vectors.T), axis=1))
