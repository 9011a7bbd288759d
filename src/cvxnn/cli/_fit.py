"""``cvxnn fit``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvxnn import __version__
from cvxnn.architectures import GatedReLU, ParallelReLU, SampledGatedReLU
from cvxnn.cli import _common as common
from cvxnn.cli._architectures import ArchitectureOptions, architecture_words
from cvxnn.cli._progress import watch
from cvxnn.cli._training import Outcome, Prepared, course_of, prepare, solve_outputs, target_names
from cvxnn.interop.architecture_records import record_of
from cvxnn.interop.model import Model, StoredCertificate, array_hash
from cvxnn.interop.model_file import save_model
from cvxnn.interop.preprocessing import content_hash
from cvxnn.interop.tables import Table, read_table
from cvxnn.networks import ReLUNetwork
from cvxnn.solution import Status

__all__ = ["FitOptions", "run"]


@dataclass(frozen=True)
class FitOptions:
    """Options of the command, as typed."""

    data: Path
    targets: tuple[str, ...]
    drop: tuple[str, ...]
    network: ArchitectureOptions
    alpha: float
    loss: str
    huber_delta: float
    test_size: float
    intercept: bool
    standardize: bool
    tol: float
    time_limit: float | None
    max_iter: int | None
    max_width: int | None
    certify: bool
    seed: int
    out: Path
    as_json: bool
    quiet: bool


def run(options: FitOptions) -> int:
    """Train, write the model, report; return the exit code."""
    _check(options)
    table = read_table(options.data)
    targets = target_names(options.targets, options.data, table)
    prepared = prepare(
        table,
        targets,
        options.drop,
        options.loss,
        test_size=options.test_size,
        seed=options.seed,
        intercept=options.intercept and options.network.name != "batch-norm",
        standardize=options.standardize,
    )
    options.network.require_one_output(prepared.target.n_outputs)
    talk = not (options.quiet or options.as_json)
    if talk:
        common.print_report(_data_rows(options, prepared))
    draft = _draft(options, table, prepared)
    outcome = _solve(options, draft, prepared)
    with common.uninterrupted():
        model = _finished(draft, outcome)
        save_model(options.out, model)
        scores = _scores(model, prepared)
        if options.as_json:
            common.print_json(_record(options, model, prepared, outcome, scores))
        elif talk:
            common.print_report(_result_rows(options, model, outcome, scores))
    return 0 if _done(options, outcome) else 1


def _check(options: FitOptions) -> None:
    for value, option in (
        (options.alpha, "--alpha"),
        (options.huber_delta, "--huber-delta"),
        (options.tol, "--tol"),
        (options.time_limit, "--time-limit"),
    ):
        common.require_positive(value, option)
    if not (math.isfinite(options.test_size) and 0.0 <= options.test_size < 1.0):
        raise common.CommandError(f"--test-size must lie in [0, 1); got {options.test_size:g}.")
    options.network.require_fit(intercept=options.intercept, max_width=options.max_width, certify=options.certify)
    options.network.architecture()
    common.check_destination(options.out, [options.data])


def _draft(options: FitOptions, table: Table, prepared: Prepared) -> Model:
    """Model of the zero network: everything but the result of the solve."""
    X, y = prepared.X[prepared.train], prepared.encoded[prepared.train]
    return Model(
        network=ReLUNetwork.zero(prepared.preprocessing.n_features),
        preprocessing=prepared.preprocessing,
        target=prepared.target,
        loss=prepared.loss,
        huber_delta=options.huber_delta if prepared.loss == "huber" else None,
        alpha=options.alpha,
        beta=options.alpha * len(prepared.train),
        tol=options.tol,
        seed=options.seed,
        test_size=options.test_size,
        n_rows=table.n_rows,
        n_train=len(prepared.train),
        certificate=StoredCertificate(math.inf, 0.0, "global", 0.0, "not solved", 0),
        table_hash=content_hash(table, prepared.preprocessing.features, *(table[k] for k in prepared.target.names)),
        training_hash=array_hash(X, y),
        version=__version__,
        architecture=options.network.architecture(),
    )


def _solve(options: FitOptions, draft: Model, prepared: Prepared) -> Outcome:
    X, y = prepared.X[prepared.train], prepared.encoded[prepared.train]
    if not math.isfinite(draft.beta):
        raise common.CommandError(f"--alpha {options.alpha:g} is too large for {len(X)} rows.")
    try:
        problems = draft.problems(X, y)
    except ValueError as error:
        raise common.CommandError(str(error)) from error
    labels = [f"class {name!r}" for name in draft.target.classes] if len(problems) > 1 else ["solving"]
    with watch(options.tol, quiet=options.quiet) as follow:
        return solve_outputs(
            problems,
            labels,
            architecture=draft.architecture,
            tol=options.tol,
            certify=options.certify,
            time_limit=options.time_limit,
            max_iter=options.max_iter,
            max_width=options.max_width,
            seed=options.seed,
            watch=follow,
        )


def _finished(draft: Model, outcome: Outcome) -> Model:
    architecture = draft.architecture
    if isinstance(architecture, SampledGatedReLU) and outcome.solutions[0] is not None:
        # The gates that were drawn are part of the problem that was solved.
        architecture = GatedReLU(outcome.solutions[0].patterns.gates)
    return replace(
        draft,
        network=outcome.network,
        certificate=outcome.certificate,
        architecture=architecture,
        course=course_of(outcome),
    )


def _scores(model: Model, prepared: Prepared) -> tuple[float | None, float | None]:
    outputs = model.network(prepared.X)
    train, test = (model.score(outputs[rows], prepared.encoded[rows]) for rows in (prepared.train, prepared.test))
    return train, test


def _certified(options: FitOptions, outcome: Outcome) -> bool:
    return outcome.certificate.global_gap <= options.tol


def _done(options: FitOptions, outcome: Outcome) -> bool:
    # A search that ended where no tight bound is known has done what can be done, unless a proof was asked for.
    ended = outcome.status.converged or outcome.status is Status.UNPROVED
    return ended and (_certified(options, outcome) or not options.certify)


def _data_rows(options: FitOptions, prepared: Prepared) -> list[tuple[str, str]]:
    preprocessing, target = prepared.preprocessing, prepared.target
    n_train, n_test = len(prepared.train), len(prepared.test)
    kind = "numbers" if target.kind == "regression" else f"{len(target.classes)} classes"
    if target.kind == "multiclass":
        kind += ", one network for all" if prepared.loss == "softmax" else ", one network a class"
    ones = " and a column of ones" if preprocessing.intercept else ""
    architecture = options.network.architecture()
    rows = [
        ("Data", f"{options.data}: {n_train} rows for training, {n_test} held out"),
        ("Target", f"{target.shown}, {kind}"),
        ("Inputs", f"{len(preprocessing.inputs)} from {len(preprocessing.features)} columns{ones}"),
        ("Loss", f"{prepared.loss}, alpha {options.alpha:g} (beta {options.alpha * n_train:g})"),
    ]
    if options.network.name != "relu":
        rows.insert(3, ("Network", architecture_words(architecture)))
    return _padded(rows + [("Note", note) for note in prepared.notes])


def _result_rows(
    options: FitOptions, model: Model, outcome: Outcome, scores: tuple[float | None, float | None]
) -> list[tuple[str, str]]:
    certificate, status = outcome.certificate, outcome.status
    met = "met" if certificate.gap <= options.tol else "not met"
    if met == "met" and not status.converged:
        met = f"met{' among these patterns' * (certificate.scope == 'patterns')}, but the search had not ended"
    test = f", {common.shown_score(scores[1])} on held-out rows" if model.n_train < model.n_rows else ""
    empty = "; the best network is zero, a smaller --alpha allows more" if status.converged else ""
    gated = isinstance(model.architecture, GatedReLU)
    unit = "sub-networks" if isinstance(model.architecture, ParallelReLU) else "neurons"
    beyond = f"{certificate.global_gap:.1e} (lower bound {certificate.global_lower_bound:.9g})"
    return _padded(
        [
            ("Objective", f"{certificate.objective:.9g}"),
            ("Lower bound", f"{certificate.lower_bound:.9g}"),
            ("Gap", f"{certificate.gap:.1e} (tolerance {options.tol:g}: {met})"),
            ("Scope", common.shown_scope(certificate.scope, model.architecture)),
            *([] if gated else [("Global gap", beyond)]),
            ("Width", f"{model.network.width} {unit}{empty if model.network.width == 0 else ''}"),
            ("Time", f"{outcome.seconds:.2f} s, {certificate.n_iter} iterations"),
            ("Score", f"{model.score_name} {common.shown_score(scores[0])} on training rows{test}"),
            ("Status", f"{status.value}: {_advice(status, gated=gated)}"),
            ("Written", str(options.out)),
        ]
    )


def _advice(status: Status, *, gated: bool) -> str:
    if gated and status is Status.PATTERNS_OPTIMUM:
        return "The duality gap is closed for networks with these gates; other gates may do better."
    return common.shell_words(status.advice)


def _padded(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{label:<11}", value) for label, value in rows]


def _record(
    options: FitOptions, model: Model, prepared: Prepared, outcome: Outcome, scores: tuple[float | None, float | None]
) -> dict[str, Any]:
    certificate, status = outcome.certificate, outcome.status
    return {
        "data": {
            "file": str(options.data),
            "n_rows": model.n_rows,
            "n_train": model.n_train,
            "n_test": model.n_rows - model.n_train,
            "columns": list(model.preprocessing.names),
            "inputs": list(model.preprocessing.inputs),
            "target": model.target.name,
            "targets": list(model.target.names),
            "kind": model.target.kind,
            "classes": list(model.target.classes),
            "notes": list(prepared.notes),
        },
        "architecture": record_of(model.network, model.architecture),
        "loss": model.loss,
        "alpha": model.alpha,
        "beta": model.beta,
        "tol": model.tol,
        "seed": model.seed,
        **common.certificate_record(certificate),
        "status": status.value,
        "advice": status.advice,
        "converged": status.converged,
        "certified_global": _certified(options, outcome),
        "n_iter": certificate.n_iter,
        "width": model.network.width,
        "seconds": outcome.seconds,
        "score": model.score_name,
        "train_score": scores[0],
        "test_score": scores[1],
        "file": str(options.out),
        "certificate": [_output_record(model, k, s) for k, s in enumerate(outcome.solutions)],
    }


def _output_record(model: Model, output: int, solution: Any) -> dict[str, Any]:
    name = model.target.classes[output] if model.target.kind == "multiclass" and not model.is_joint else None
    if solution is None:
        return {"class": name, "status": "interrupted"}
    proof = solution.certificate
    return {
        "class": name,
        "status": solution.status.value,
        **common.certificate_record(proof),
        "scale": proof.scale,
        "dual_norm_bound": proof.dual_norm_bound,
        "dual_norm_attained": proof.dual_norm_attained,
        "n_patterns": proof.n_patterns,
        "method": proof.method,
    }
