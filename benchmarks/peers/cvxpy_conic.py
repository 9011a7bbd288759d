"""cvxpy with Clarabel or SCS: the gated program, or the ReLU program with listed patterns, as one conic program."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import Job, Outcome, Point
from cvxnn.architectures import gate_masks

FloatArray = npt.NDArray[np.float64]

_LARGEST = 2e7
"""Entries of the dense matrix D_i X over all i (twice for the ReLU program) beyond which no conic solver is started."""


def run(job: Job) -> Outcome:
    """Model and solve; modelling, compilation and solution count. The course has one point, the end."""
    import cvxpy as cp

    if job.gates is None:
        raise ValueError("the conic program needs gates; the job has none.")
    begin = time.perf_counter()
    X, signed = job.problem.X, job.case.suite == "fixed"
    masks = gate_masks(X, job.gates)
    if signed:
        masks = np.unique(masks, axis=0)
    P, (n, d) = len(masks), X.shape
    if n * d * P * (2 if signed else 1) > _LARGEST:
        return Outcome([], 0.0, f"not started: a dense matrix of {n} x {d * P * (2 if signed else 1)}")
    columns = np.concatenate([mask[:, None] * X for mask in masks], axis=1)
    blocks = [cp.Variable((P, d)) for _ in range(2 if signed else 1)]
    fit = cp.Variable(n)
    output = columns @ cp.vec(blocks[0], order="C")
    if signed:
        output = output - columns @ cp.vec(blocks[1], order="C")
    constraints = [fit == output]
    if signed:
        orthant = np.where(masks, 1.0, -1.0)
        constraints += [cp.multiply(orthant, block @ X.T) >= 0 for block in blocks]
    penalty: Any = sum(cp.sum(cp.norm(block, axis=1)) for block in blocks)
    program = cp.Problem(cp.Minimize(_loss(job, fit) + job.problem.beta * penalty), constraints)
    status = _solve(program, job)
    seconds = time.perf_counter() - begin
    values = [block.value for block in blocks]
    if any(value is None for value in values):
        return Outcome([], seconds, status)
    return _judge(job, masks, [np.asarray(value) for value in values], seconds, status)


def _solve(program: Any, job: Job) -> str:
    """Solve within the time limit, return the status."""
    import cvxpy as cp

    solver = str(job.options["solver"])
    limit = {"time_limit": job.limit} if solver == "CLARABEL" else {"time_limit_secs": job.limit, "eps": 1e-6}
    if solver == "SCS":
        limit["max_iters"] = 10**6
    try:
        program.solve(solver=solver, **limit)
    except cp.SolverError as error:
        return f"solver error: {error}"
    return str(program.status)


def _loss(job: Job, fit: Any) -> Any:
    import cvxpy as cp

    y, name = job.problem.y, job.problem.loss.name
    if name == "squared":
        return 0.5 * cp.sum_squares(fit - y)
    if name == "logistic":
        return cp.sum(cp.logistic(-cp.multiply(y, fit)))
    if name == "squared_hinge":
        return 0.5 * cp.sum_squares(cp.pos(1 - cp.multiply(y, fit)))
    if name == "huber":
        threshold: Any = getattr(job.problem.loss, "delta", 1.0)
        return 0.5 * cp.sum(cp.huber(fit - y, threshold))
    raise ValueError(f"the conic program of loss {name!r} is not written.")


def _judge(job: Job, masks: npt.NDArray[np.bool_], blocks: list[FloatArray], seconds: float, status: str) -> Outcome:
    """Objective of the blocks as they are, and how far outside their cones they lie."""
    X, fit, outside, norms = job.problem.X, np.zeros(job.problem.n_samples), 0.0, []
    for sign, block in zip((1.0, -1.0), blocks, strict=False):
        inner = block @ X.T
        fit += sign * np.sum(masks * inner, axis=0)
        norms.append(np.linalg.norm(block, axis=1))
        if len(blocks) == 2:
            outside += float(np.sum(np.minimum(np.where(masks, inner, -inner), 0.0) ** 2))
    size = np.concatenate(norms)
    objective = job.problem.loss_value(fit) + job.problem.beta * float(size.sum())
    violation = float(np.sqrt(outside) / np.linalg.norm(job.problem.y))
    width = int(np.sum(size > 1e-6 * max(float(size.max()), 1e-300)))
    gates = np.zeros((0, X.shape[1])) if job.gates is None else job.gates

    def predict(rows: FloatArray) -> FloatArray:
        if len(blocks) == 2:
            return np.maximum(rows @ blocks[0].T, 0.0).sum(axis=1) - np.maximum(rows @ blocks[1].T, 0.0).sum(axis=1)
        return np.sum(gate_masks(rows, gates).T * (rows @ blocks[0].T), axis=1)

    return Outcome([Point(seconds, objective, violation)], seconds, status, width, predict)
