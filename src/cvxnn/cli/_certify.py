"""``cvxnn certify``: a proof from data and weights alone; nothing that the solver said is used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn.certificates.certificate import Certificate, certify_global, relative_gap
from cvxnn.cli import _common as common
from cvxnn.interop.model import FloatArray, Model, array_hash
from cvxnn.interop.model_file import load_model
from cvxnn.interop.preprocessing import content_hash, split_rows
from cvxnn.interop.tables import Table, read_table
from cvxnn.problem import Problem

__all__ = ["run"]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to judge the network on: those that it was trained on, or all rows of other data."""

    X: FloatArray
    encoded: FloatArray
    beta: float
    trained_on: bool
    warning: str | None


def run(model_path: Path, data: Path, *, target: str | None, time_limit: float, as_json: bool) -> int:
    """Prove how far the network is from the best of any width; return the exit code."""
    common.require_positive(time_limit, "--time-limit")
    model = load_model(model_path)
    table = read_table(data)
    rows = _rows(model, table, target or model.target.name)
    start = time.perf_counter()
    proofs = _proofs(model, rows, time_limit)
    seconds = time.perf_counter() - start
    objective = sum(proof.objective for proof in proofs)
    lower = sum(proof.lower_bound for proof in proofs)
    gap = relative_gap(objective, lower)
    certified = gap <= model.tol
    if rows.warning:
        common.say(rows.warning)
    record = {
        "model": str(model_path),
        "data": str(data),
        "n": len(rows.X),
        "training_data": rows.trained_on,
        "beta": rows.beta,
        "tol": model.tol,
        "objective": objective,
        "lower_bound": lower,
        "gap": gap,
        "scope": "global",
        "certified_global": certified,
        "stored_objective": model.certificate.objective if rows.trained_on else None,
        "dual_norm_attained_over_beta": max(proof.dual_norm_attained for proof in proofs) / rows.beta,
        "dual_norm_bound_over_beta": max(proof.dual_norm_bound for proof in proofs) / rows.beta,
        "seconds": seconds,
        "outputs": [_output_record(model, k, proof, rows.beta) for k, proof in enumerate(proofs)],
    }
    if as_json:
        common.print_json(record)
    else:
        common.print_report(_report(record))
    return 0 if certified else 1


def _rows(model: Model, table: Table, target: str) -> _Rows:
    table.require([*model.preprocessing.names, target])
    column = table[target]
    X, encoded = model.preprocessing.transform(table), model.target.encode(column, table.source)
    if content_hash(table, model.preprocessing.features, column) == model.table_hash:
        labels = None if model.target.kind == "regression" else encoded
        train, _ = split_rows(table.n_rows, model.test_size, model.seed, labels)
        if array_hash(X[train], encoded[train]) == model.training_hash:
            return _Rows(X[train], encoded[train], model.beta, True, None)
        reason = "the training rows of this table could not be reproduced"
    else:
        reason = "these are not the data that the network was trained on"
    warning = f"Warning: {reason}; it is judged on all {len(X)} rows here, with the same alpha."
    return _Rows(X, encoded, model.alpha * len(X), False, warning)


def _problem(model: Model, rows: _Rows, output: int) -> Problem:
    try:
        return model.problem(rows.X, rows.encoded, output, beta=rows.beta)
    except ValueError as error:
        raise common.CommandError(str(error)) from error


def _proofs(model: Model, rows: _Rows, time_limit: float) -> list[Certificate]:
    start = time.perf_counter()
    proofs: list[Certificate] = []
    n_outputs = model.target.n_outputs
    stopped = False
    for output in range(n_outputs):
        problem, network = _problem(model, rows, output), model.network_of(output)
        left = max(time_limit - (time.perf_counter() - start), 1e-3) / (n_outputs - output)
        starts = network.W if network.width else None
        proof, pricing = certify_global(
            problem,
            network(problem.X),
            network.objective(problem),
            tol=model.tol,
            starts=starts,
            time_limit=1e-3 if stopped else left,
        )
        stopped = stopped or pricing.interrupted
        proofs.append(proof)
    return proofs


def _output_record(model: Model, output: int, proof: Certificate, beta: float) -> dict[str, Any]:
    return {
        "class": model.target.classes[output] if model.target.kind == "multiclass" else None,
        "objective": proof.objective,
        "lower_bound": proof.lower_bound,
        "gap": proof.gap,
        "dual_norm_attained_over_beta": proof.dual_norm_attained / beta,
        "dual_norm_bound_over_beta": proof.dual_norm_bound / beta,
        "method": proof.method,
    }


def _report(record: dict[str, Any]) -> list[tuple[str, str]]:
    attained, bound = record["dual_norm_attained_over_beta"], record["dual_norm_bound_over_beta"]
    where = "the training rows, reproduced" if record["training_data"] else "other data than in training"
    rows = [
        ("Data", f"{record['data']}: {record['n']} rows, {where}"),
        ("Objective", _objective(record)),
        ("Lower bound", f"{record['lower_bound']:.9g}"),
        ("Gap", f"{record['gap']:.1e} (tolerance {record['tol']:g})"),
        ("Scope", common.SCOPES["global"]),
        ("Dual norm", f"between {attained:.6g} and {bound:.6g} times beta; at most 1 at an optimum"),
    ]
    if record["certified_global"]:
        verdict = "certified: no network of any width is better by more than the gap"
    elif attained > 1.0 + record["tol"]:
        verdict = "not certified: adding a neuron lowers the objective"
    else:
        verdict = "not decided: no clearly better neuron was found, but the bound is not tight enough"
    return [*rows, ("Verdict", verdict), ("Time", f"{record['seconds']:.2f} s")]


def _objective(record: dict[str, Any]) -> str:
    stored, objective = record["stored_objective"], record["objective"]
    if stored is None:
        return f"{objective:.9g}"
    agrees = bool(np.isclose(objective, stored, rtol=1e-9, atol=0.0))
    return f"{objective:.9g} (" + ("as in the file)" if agrees else f"the file claims {stored:.9g})")
