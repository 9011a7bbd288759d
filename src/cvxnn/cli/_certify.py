"""``cvxnn certify``: a proof from data and weights alone; nothing that the solver said is used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn.architectures import ReLU
from cvxnn.certificates.certificate import relative_gap
from cvxnn.cli import _common as common
from cvxnn.cli import _foreign
from cvxnn.interop.model import FloatArray, Model, array_hash
from cvxnn.interop.model_file import load_model
from cvxnn.interop.network_files import is_foreign
from cvxnn.interop.preprocessing import content_hash, split_rows
from cvxnn.interop.tables import Table, read_table
from cvxnn.landscape import NetworkCertificate, RelativeCertificate
from cvxnn.landscape import certify as certify_network
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.problem import Problem

Proof = NetworkCertificate | RelativeCertificate

__all__ = ["Proof", "Rows", "problems_of", "prove", "rows_of", "run"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to judge the network on: those that it was trained on, or all rows of other data.

    ``held_out`` has the rows and targets that the training left out, where it is known which those are.
    """

    X: FloatArray
    encoded: FloatArray
    beta: float
    trained_on: bool
    warning: str | None
    held_out: tuple[FloatArray, FloatArray] | None = None


def run(
    model_path: Path,
    data: Path,
    *,
    targets: tuple[str, ...],
    time_limit: float,
    foreign: _foreign.ForeignOptions,
    as_json: bool,
) -> int:
    """Prove how far the network is from the best of any width; return the exit code."""
    common.require_positive(time_limit, "--time-limit")
    if is_foreign(model_path):
        return _foreign.run(model_path, data, targets=targets, time_limit=time_limit, options=foreign, as_json=as_json)
    model = load_model(model_path)
    foreign.refuse_all()
    table = read_table(data)
    rows = rows_of(model, table, targets)
    start = time.perf_counter()
    proofs = prove(model, rows, time_limit)
    seconds = time.perf_counter() - start
    objective = sum(proof.objective for proof in proofs)
    lower = sum(proof.lower_bound for proof in proofs)
    gap = relative_gap(objective, lower)
    certified = gap <= model.tol
    scope = proofs[0].scope
    outputs = [_output_record(model, k, proof, rows.beta) for k, proof in enumerate(proofs)]
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
        "scope": scope,
        "certified": certified,
        "certified_global": certified and scope == "global",
        "stored_objective": model.certificate.objective if rows.trained_on else None,
        "best_objective": sum(proof.best_objective for proof in proofs),
        "dual_norm_attained_over_beta": max(output["dual_norm_attained_over_beta"] for output in outputs),
        "dual_norm_bound_over_beta": max(output["dual_norm_bound_over_beta"] for output in outputs),
        "is_global": _is_global(certified and scope == "global", proofs),
        "escape": None if certified else next((output["escape"] for output in outputs if output["escape"]), None),
        "interrupted": any(proof.interrupted for proof in proofs),
        "seconds": seconds,
        "outputs": outputs,
    }
    if as_json:
        common.print_json(record)
    else:
        common.print_report(_report(record, model))
    return 0 if certified else 1


def rows_of(model: Model, table: Table, targets: tuple[str, ...]) -> Rows:
    """Rows of the training where the table has them, else all rows with a warning."""
    parts = model.target.parts
    names = targets or model.target.names
    if len(names) != len(parts):
        raise common.CommandError(f"--target names {len(names)} columns; this model predicts {len(parts)}.")
    table.require([*model.preprocessing.names, *names])
    columns = [table[name] for name in names]
    codes = [part.encode(column, table.source) for part, column in zip(parts, columns, strict=True)]
    X, encoded = model.preprocessing.transform(table), np.column_stack(codes) if len(codes) > 1 else codes[0]
    if content_hash(table, model.preprocessing.features, *columns) == model.table_hash:
        labels = None if model.target.kind == "regression" else encoded
        train, test = split_rows(table.n_rows, model.test_size, model.seed, labels)
        if array_hash(X[train], encoded[train]) == model.training_hash:
            held_out = (X[test], encoded[test]) if len(test) else None
            return Rows(X[train], encoded[train], model.beta, True, None, held_out)
        reason = "the training rows of this table could not be reproduced"
    else:
        reason = "these are not the data that the network was trained on"
    warning = f"Warning: {reason}; it is judged on all {len(X)} rows here, with the same alpha."
    return Rows(X, encoded, model.alpha * len(X), False, warning)


def problems_of(model: Model, rows: Rows) -> list[Problem]:
    """Problems of the model on these rows; CommandError where the targets do not fit the loss."""
    try:
        return model.problems(rows.X, rows.encoded, beta=rows.beta)
    except ValueError as error:
        raise common.CommandError(str(error)) from error


def prove(model: Model, rows: Rows, time_limit: float) -> list[Proof]:
    """Judge the network of each problem; all share the seconds."""
    start = time.perf_counter()
    proofs: list[Proof] = []
    architecture = None if isinstance(model.architecture, ReLU) else model.architecture
    stopped = False
    problems = problems_of(model, rows)
    for problem, network in zip(problems, model.networks(), strict=True):
        left = max(time_limit - (time.perf_counter() - start), 1e-3) / (len(problems) - len(proofs))
        seconds = 1e-3 if stopped else left
        try:
            proof: Proof = certify_network(
                problem, network, architecture=architecture, tol=model.tol, time_limit=seconds
            )
        except ValueError as error:
            # Data of scales that leave no digits to a bound.
            raise common.CommandError(str(error)) from error
        stopped = stopped or proof.interrupted
        proofs.append(proof)
    return proofs


def _is_global(certified: bool, proofs: list[Proof]) -> bool | None:
    if certified:
        return True
    return False if any(proof.is_global is False for proof in proofs) else None


def _output_record(model: Model, output: int, proof: Proof, beta: float) -> dict[str, Any]:
    dual = proof.certificate
    return {
        "class": model.target.classes[output] if model.target.kind == "multiclass" and not model.is_joint else None,
        "objective": proof.objective,
        "lower_bound": proof.lower_bound,
        "gap": proof.gap,
        "dual_norm_attained_over_beta": dual.dual_norm_attained / beta,
        "dual_norm_bound_over_beta": dual.dual_norm_bound / beta,
        "method": proof.method,
        "is_global": proof.is_global,
        "escape": _escape(proof),
    }


def _escape(proof: Proof) -> dict[str, Any] | None:
    """Neuron or sub-network to add; the others come with the program, not one by one."""
    escape = None if isinstance(proof, RelativeCertificate) else proof.escape
    if escape is None:
        return None
    if isinstance(escape, ParallelReLUNetwork):
        return {"W": escape.W.tolist(), "b": [layer.tolist() for layer in escape.b], "a": escape.a.tolist()}
    return {"w": escape[0].tolist(), "a": np.asarray(escape[1]).tolist()}


def _report(record: dict[str, Any], model: Model) -> list[tuple[str, str]]:
    where = "the training rows, reproduced" if record["training_data"] else "other data than in training"
    rows = [
        ("Data", f"{record['data']}: {record['n']} rows, {where}"),
        ("Objective", _objective(record)),
        ("Lower bound", f"{record['lower_bound']:.9g}"),
        ("Gap", f"{record['gap']:.1e} (tolerance {record['tol']:g})"),
        ("Scope", common.shown_scope(record["scope"], model.architecture)),
        ("Best met", f"{record['best_objective']:.9g}"),
    ]
    verdict = _foreign.verdict(record)
    return [*rows, ("Verdict", verdict), ("Time", _foreign.spent(record))]


def _objective(record: dict[str, Any]) -> str:
    stored, objective = record["stored_objective"], record["objective"]
    if stored is None:
        return f"{objective:.9g}"
    agrees = bool(np.isclose(objective, stored, rtol=1e-9, atol=0.0))
    return f"{objective:.9g} (" + ("as in the file)" if agrees else f"the file claims {stored:.9g})")
