"""``cvxnn info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvxnn.architectures import BatchNormReLU, ParallelReLU
from cvxnn.cli import _common as common
from cvxnn.cli._architectures import architecture_words
from cvxnn.interop.architecture_records import record_of
from cvxnn.interop.model import Model
from cvxnn.interop.model_file import FORMAT, load_model
from cvxnn.interop.tables import listing

__all__ = ["run"]


def run(path: Path, *, as_json: bool) -> None:
    """Show what is in a model file."""
    model = load_model(path)
    if as_json:
        common.print_json(_record(path, model))
    else:
        common.print_report(_report(path, model))


def _record(path: Path, model: Model) -> dict[str, Any]:
    proof = model.certificate
    return {
        "file": str(path),
        "format": FORMAT,
        "version": model.version,
        "width": model.network.width,
        "architecture": record_of(model.network, model.architecture),
        "n_outputs": model.target.n_outputs,
        "n_features": model.network.n_features,
        **model.preprocessing.to_dict(),
        "inputs": list(model.preprocessing.inputs),
        "target": model.target.to_dict(),
        "loss": model.loss,
        "huber_delta": model.huber_delta,
        "alpha": model.alpha,
        "beta": model.beta,
        "tol": model.tol,
        "seed": model.seed,
        "test_size": model.test_size,
        "n_rows": model.n_rows,
        "n_train": model.n_train,
        "certificate": {
            **common.certificate_record(proof),
            "status": proof.status,
            "n_iter": proof.n_iter,
        },
        "table_hash": model.table_hash,
        "training_hash": model.training_hash,
    }


def _report(path: Path, model: Model) -> list[tuple[str, str]]:
    net, proof, target, preprocessing = model.network, model.certificate, model.target, model.preprocessing
    goal = "numbers" if target.kind == "regression" else f"classes {listing(target.classes)}"
    unit = "sub-networks" if isinstance(model.architecture, ParallelReLU) else "neurons"
    bias = "shift of batch norm" if isinstance(model.architecture, BatchNormReLU) else "no biases"
    outputs = "1 output" if target.n_outputs == 1 else f"{target.n_outputs} outputs"
    settings = [
        "column of ones" if preprocessing.intercept else bias,
        "standardised" if preprocessing.standardized else "units of the table",
    ]
    return [
        ("File", f"{path} (format {FORMAT}, cvxnn {model.version})"),
        ("Network", f"{net.width} {unit}, {net.n_features} inputs, {outputs}"),
        ("Kind", architecture_words(model.architecture)),
        ("Target", f"{target.shown}, {goal}"),
        ("Columns", listing(preprocessing.names)),
        ("Encoding", ", ".join(settings)),
        ("Loss", f"{model.loss}, alpha {model.alpha:g} (beta {model.beta:g})"),
        ("Training", f"{model.n_train} of {model.n_rows} rows, seed {model.seed}, test size {model.test_size:g}"),
        ("Objective", f"{proof.objective:.9g}"),
        ("Lower bound", f"{proof.lower_bound:.9g} (gap {proof.gap:.1e}, tolerance {model.tol:g})"),
        ("Scope", common.shown_scope(proof.scope, model.architecture)),
        ("Global gap", f"{proof.global_gap:.1e}"),
        ("Status", f"{proof.status}, {proof.n_iter} iterations"),
        ("Table", f"sha256 {model.table_hash}"),
    ]
