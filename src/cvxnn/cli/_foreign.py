"""``cvxnn certify`` for networks of other programs: which columns they see and on what objective they were trained."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn.cli import _common as common
from cvxnn.cli._training import target_names
from cvxnn.interop.foreign_model import ForeignModel
from cvxnn.interop.judging import FloatArray, JudgedNetwork, judge
from cvxnn.interop.network_files import read_network_file
from cvxnn.interop.tables import Column, Table, TableError, listing, read_table
from cvxnn.interop.targets import Target
from cvxnn.interop.two_layer import MissingExtraError, NetworkFormatError, TwoLayerWeights
from cvxnn.interop.weight_decay import TrainingObjective, torch_objective
from cvxnn.landscape import NetworkCertificate
from cvxnn.landscape import certify as certify_network
from cvxnn.losses import SoftmaxLoss
from cvxnn.networks import ReLUNetwork

__all__ = ["Case", "ForeignOptions", "read_case", "run", "spent", "verdict"]

_TOL = 1e-4
_POSITIVE = ("1", "1.0", "+1")


@dataclass(frozen=True)
class ForeignOptions:
    """Options of ``cvxnn certify`` for networks of other programs; None or () where not given."""

    weight_decay: float | None
    beta: float | None
    loss: str | None
    huber_delta: float | None
    reduction: str | None
    decay_biases: bool | None
    label_positive: str | None
    drop: tuple[str, ...]
    tol: float | None

    def refuse_all(self) -> None:
        """Raise CommandError if any option is given: a model file of cvxnn stores all of this."""
        for field in fields(self):
            if getattr(self, field.name) not in (None, ()):
                name = field.name.replace("_", "-")
                raise common.CommandError(
                    f"--{name} is for networks of other programs; this model file stores its own."
                )


@dataclass(frozen=True, eq=False)
class Case:
    """A network of another program on a table: its weights, what it sees, and what it is to predict."""

    weights: TwoLayerWeights
    judged: JudgedNetwork
    columns: tuple[str, ...]
    goals: tuple[Column, ...]
    options: ForeignOptions

    @property
    def tol(self) -> float:
        """Relative gap that counts as proved."""
        return _TOL if self.options.tol is None else self.options.tol

    def prove(self, time_limit: float) -> NetworkCertificate:
        """Judge the network against all networks of all widths."""
        # Where biases are free the gap of the problem is not quite theirs.
        aim = self.tol if self.judged.exact else 0.5 * self.tol
        try:
            proof = certify_network(self.judged.problem, self.judged.network, tol=aim, time_limit=time_limit)
        except ValueError as error:
            # Data of scales that leave no digits to a bound.
            raise common.CommandError(str(error)) from error
        if not isinstance(proof, NetworkCertificate):
            raise TypeError(f"certify returned a {type(proof).__name__} for a ReLU network.")
        return proof

    def model(self) -> ForeignModel:
        """Network with its columns and its target, for a report.

        Raises
        ------
        CommandError
            If there are several targets of classes, which a report cannot tell.
        """
        loss, names = self.judged.training.loss, [goal.name for goal in self.goals]
        if loss.labels and len(names) > 1:
            raise common.CommandError(
                f"--target names {len(names)} columns of classes; cvxnn report takes one (cvxnn certify takes them)."
            )
        if isinstance(loss, SoftmaxLoss):
            single = len(names) == 1
            classes = tuple(map(str, range(self.weights.n_outputs))) if single else tuple(names)
            target = Target(names[0] if single else "class", "multiclass", classes)
        elif loss.labels:
            target = Target(names[0], "binary", _classes(self.goals[0], loss_word(self.options), self.options))
        else:
            target, *more = (Target(name, "regression") for name in names)
            target = replace(target, more=tuple(more))
        return ForeignModel(
            self.judged, self.columns, target, self.tol, loss_word(self.options), _reduction(self.options)
        )

    def encoded(self, target: Target) -> FloatArray:
        """Targets as ``target`` encodes them."""
        y = self.judged.problem.y
        if target.kind == "regression":
            return y
        if target.kind == "binary":
            return (y > 0.0).astype(np.float64)
        return np.argmax(y, axis=1).astype(np.float64)


def run(
    path: Path, data: Path, *, targets: tuple[str, ...], time_limit: float, options: ForeignOptions, as_json: bool
) -> int:
    """Prove how far the network is from the best of any width; return the exit code."""
    case = read_case(path, data, targets=targets, options=options)
    start = time.perf_counter()
    proof = case.prove(time_limit)
    record = _record(path, data, case.judged, proof, case.tol, time.perf_counter() - start)
    names = ", ".join(goal.name for goal in case.goals)
    record |= {"target": names, "columns": list(case.columns), "training": _training_record(options, case.judged)}
    if as_json:
        common.print_json(record)
    else:
        common.print_report(_report(record, case.weights))
    return 0 if record["certified_global"] else 1


def read_case(path: Path, data: Path, *, targets: tuple[str, ...], options: ForeignOptions) -> Case:
    """Read the network and the table; CommandError where they or the options do not fit."""
    for name in ("weight_decay", "beta", "huber_delta", "tol"):
        common.require_positive(getattr(options, name), f"--{name.replace('_', '-')}")
    try:
        weights = read_network_file(path)
    except (NetworkFormatError, MissingExtraError) as error:
        raise common.CommandError(str(error)) from error
    table = read_table(data)
    goals = tuple(table[name] for name in target_names(targets, data, table))
    names = _columns(table, [goal.name for goal in goals], options.drop, weights.n_inputs)
    try:
        training = _objective(options, table.n_rows, weights.n_outputs)
        columns = [_targets(goal, training, options) for goal in goals]
        y = columns[0] if len(columns) == 1 else np.column_stack(columns)
        judged = judge(weights, _values(table, names), y, training)
    except ValueError as error:
        raise common.CommandError(str(error)) from error
    return Case(weights, judged, tuple(names), goals, options)


def _columns(table: Table, targets: list[str], drop: tuple[str, ...], wanted: int) -> list[str]:
    """Names of the columns that the network sees, in the order of the file."""
    for name in drop:
        if name not in table:
            raise TableError(f"--drop names {name!r}, which {table.source} does not have: {listing(table.names)}.")
        if name in targets:
            raise TableError(f"--drop names the target {name!r}.")
    names = [name for name in table.names if name not in targets and name not in drop]
    table.require([*names, *targets])
    table.refuse_spoiled_numbers(names)
    text = [name for name in names if table[name].values is None]
    if text:
        raise TableError(
            f"column {text[0]!r} of {table.source} holds text; a network of another program takes numbers "
            "(encode the column, or leave it out with --drop)."
        )
    if len(names) != wanted:
        raise TableError(
            f"the network takes {wanted} inputs but {table.source} has {len(names)} columns besides the target: "
            f"{listing(names)}."
        )
    return names


def _values(table: Table, names: list[str]) -> FloatArray:
    return np.column_stack([np.asarray(table[name].values, dtype=np.float64) for name in names])


def _objective(options: ForeignOptions, n: int, n_outputs: int) -> TrainingObjective:
    decay = options.beta if options.weight_decay is None else options.weight_decay
    if options.weight_decay is not None and options.beta is not None:
        raise common.CommandError("--weight-decay and --beta say the same thing; give one of them.")
    if decay is None:
        raise common.CommandError("one of --weight-decay and --beta is needed: the network was trained with it.")
    if options.beta is not None and options.reduction == "mean":
        raise common.CommandError("--beta is in the units of the summed loss; --reduction mean needs --weight-decay.")
    return torch_objective(
        n,
        weight_decay=decay,
        loss=loss_word(options),
        reduction="sum" if options.beta is not None else options.reduction,
        delta=options.huber_delta,
        decay_biases=options.decay_biases is not False,
        n_outputs=n_outputs,
    )


def loss_word(options: ForeignOptions) -> str:
    """Word of --loss, or the one that stands for it."""
    return options.loss or ("mse" if options.beta is None else "squared")


def _targets(column: Column, training: TrainingObjective, options: ForeignOptions) -> FloatArray:
    """Numbers, or the labels of the loss: 0 and 1, or -1 and +1."""
    if not training.loss.labels:
        if options.label_positive is not None:
            raise common.CommandError(f"--label-positive is for losses of classes; --loss is {loss_word(options)}.")
        if column.values is None:
            raise common.CommandError(
                f"--loss {loss_word(options)} needs a target of numbers, but {column.name!r} holds text; "
                "use --loss bce_with_logits and --label-positive."
            )
        return column.values
    _, positive = _classes(column, loss_word(options), options)
    return np.where(column.text == positive, 1.0, 0.0 if training.zero_one_labels else -1.0)


def _classes(column: Column, loss: str, options: ForeignOptions) -> tuple[str, str]:
    """Classes of small and of large outputs."""
    classes = sorted(set(column.text.tolist()))
    if len(classes) != 2:
        raise common.CommandError(
            f"--loss {loss} needs two classes, but the target {column.name!r} has {len(classes)}: {listing(classes)}."
        )
    positive = options.label_positive or next((label for label in classes if label in _POSITIVE), None)
    if positive is None:
        raise common.CommandError(f"--label-positive is needed: the class of large outputs, of {listing(classes)}.")
    if positive not in classes:
        raise common.CommandError(f"--label-positive names {positive!r}, but the classes are {listing(classes)}.")
    return next(label for label in classes if label != positive), positive


def _record(
    path: Path, data: Path, judged: JudgedNetwork, proof: NetworkCertificate, tol: float, seconds: float
) -> dict[str, Any]:
    beta = judged.problem.beta
    bound, gap = judged.training_bound(proof.lower_bound), judged.gap(proof.lower_bound)
    better = proof.better if isinstance(proof.better, ReLUNetwork) else None
    best = judged.objective if better is None else judged.training_objective(better)
    certified = gap <= tol
    neuron = proof.escape if isinstance(proof.escape, tuple) else None
    escape = None if certified or neuron is None else _escape(judged, *neuron)
    # Beaten means beaten for their objective, which may differ from that of the problem where biases are free.
    beaten = best < judged.objective * (1.0 - max(1e-2 * tol, 1e-13))
    dual = proof.certificate
    figures = {
        "objective": judged.objective,
        "lower_bound": bound,
        "gap": gap,
        "dual_norm_attained_over_beta": dual.dual_norm_attained / beta,
        "dual_norm_bound_over_beta": dual.dual_norm_bound / beta,
        "is_global": True if certified else False if beaten else None,
        "escape": escape,
    }
    return {
        "model": str(path),
        "data": str(data),
        "n": judged.problem.n_samples,
        "training_data": None,
        "beta": judged.training.beta,
        "tol": tol,
        "scope": "global",
        "certified_global": certified,
        "stored_objective": None,
        "best_objective": min(best, judged.objective),
        "scale": judged.scale,
        "exact": judged.exact,
        "difference": judged.difference,
        "excess": judged.excess,
        "interrupted": proof.interrupted,
        "seconds": seconds,
        **figures,
        "outputs": [{"class": None, **figures, "method": proof.method}],
    }


def _escape(judged: JudgedNetwork, w: FloatArray, a: Any) -> dict[str, Any] | None:
    """Neuron to add, for the columns of the table; None where it does not lower their objective."""
    network = judged.network
    rows = np.concatenate([network.a, np.asarray(a, dtype=np.float64)[None]])
    more = ReLUNetwork(np.vstack([network.W, w]), rows, output_bias=network.output_bias)
    value = judged.training_objective(more)
    if value >= judged.objective:
        return None
    bias = None if judged.column is None else float(w[-1]) * judged.column
    inputs = w if judged.column is None else w[:-1]
    return {"w": inputs.tolist(), "hidden_bias": bias, "a": np.asarray(a).tolist(), "objective": value}


def _reduction(options: ForeignOptions) -> str:
    return "sum" if options.beta is not None else options.reduction or "mean"


def _training_record(options: ForeignOptions, judged: JudgedNetwork) -> dict[str, Any]:
    training = judged.training
    return {
        "loss": loss_word(options),
        "reduction": _reduction(options),
        "weight_decay": training.weight_decay,
        "hidden_bias_decay": training.hidden_bias_decay if judged.column is not None else None,
        "output_bias_decay": training.output_bias_decay,
    }


def _report(record: dict[str, Any], weights: TwoLayerWeights) -> list[tuple[str, str]]:
    training = record["training"]
    biases = " and ".join(
        name for name, value in (("hidden", weights.hidden_bias), ("output", weights.output_bias)) if value is not None
    )
    trust = "" if record["model"].lower().endswith(".onnx") else "; that they are ReLU is not in the file"
    rows = [
        ("Network", f"{record['model']}: {len(weights.W)} neurons, {biases or 'no'} biases{trust}"),
        ("Data", f"{record['data']}: {record['n']} rows, columns {listing(record['columns'])}, not standardised"),
        ("Trained on", f"{training['loss']} ({training['reduction']}), weight decay {training['weight_decay']:g}"),
        ("Objective", f"{record['objective']:.9g} (in the units of the training)"),
        ("Lower bound", f"{record['lower_bound']:.9g}"),
        ("Gap", f"{record['gap']:.1e} (tolerance {record['tol']:g})"),
        ("Scope", common.SCOPES["global"]),
    ]
    if record["best_objective"] < record["objective"]:
        rows.append(("Best met", f"{record['best_objective']:.9g}"))
    if not record["exact"]:
        reason = (
            "of several outputs, which loosen the bound"
            if record["excess"]
            else "free, so there may be no best network"
        )
        rows.append(("Biases", f"{reason}; the bound holds all the same"))
    return [*rows, ("Verdict", verdict(record)), ("Time", spent(record))]


def spent(record: dict[str, Any]) -> str:
    """Seconds, and whether an interrupt ended the work."""
    return f"{record['seconds']:.2f} s" + (" (interrupted; the bounds hold)" if record["interrupted"] else "")


def verdict(record: dict[str, Any]) -> str:
    """One line on what was proved."""
    if record["certified_global"]:
        return "certified: no network of any width is better by more than the gap"
    if record.get("certified"):
        return "certified among these gates: no network with them is better by more than the gap"
    if record["escape"] is not None:
        return "not certified: adding a neuron lowers the objective"
    if record["is_global"] is False:
        return "not certified: a better network was found"
    return "not decided: no clearly better neuron was found, but the bound is not tight enough"
