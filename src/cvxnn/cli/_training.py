"""From a table to a trained model: which problem it is, and one solve for each output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn import Problem, ReLUNetwork, Solution, Status, solve
from cvxnn.architectures import Architecture
from cvxnn.cli._common import CommandError
from cvxnn.cli._progress import Watch
from cvxnn.interop.model import Course, StoredCertificate
from cvxnn.interop.preprocessing import IntArray, Preprocessing, split_rows
from cvxnn.interop.tables import Column, Table, TableError, listing
from cvxnn.interop.targets import MAX_CATEGORIES, Target
from cvxnn.programs.dispatch import Network
from cvxnn.programs.one_vs_all import stacked_network

FloatArray = npt.NDArray[np.float64]

__all__ = [
    "Outcome",
    "Prepared",
    "choose_loss",
    "course_of",
    "prepare",
    "solve_outputs",
    "target_name",
    "target_names",
]

_CLASSIFIERS = ("logistic", "squared_hinge", "softmax")
_FEW = 20
_MOST_ENTRIES = 200
"""Iterations of a course that a model file keeps."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table made ready for training: all rows as numbers, and which of them train."""

    preprocessing: Preprocessing
    target: Target
    loss: str
    X: FloatArray
    encoded: FloatArray
    train: IntArray
    test: IntArray
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Network of all outputs with what was proved about it.

    ``solutions`` has one entry a problem; None where an interrupt came before a network was found.
    """

    network: Network
    certificate: StoredCertificate
    status: Status
    solutions: tuple[Solution | None, ...]
    seconds: float


def target_name(asked: str | None, data: Path, table: Table) -> str:
    """Name of the target: as asked, or "y" in an .npz file."""
    if asked is not None:
        return asked
    if data.suffix.lower() == ".npz" and "y" in table:
        return "y"
    raise CommandError(f"--target COLUMN is needed; the columns of {table.source} are {listing(table.names)}.")


def target_names(asked: Sequence[str], data: Path, table: Table) -> list[str]:
    """Names of the targets: as asked, or "y", or "y0", "y1" and so on in an .npz file."""
    if asked:
        if len(set(asked)) < len(asked):
            raise CommandError(f"--target names a column twice: {listing(list(asked))}.")
        return list(asked)
    if data.suffix.lower() == ".npz" and "y" not in table and "y0" in table:
        return [name for name in table.names if name.startswith("y")]
    return [target_name(None, data, table)]


def prepare(
    table: Table,
    targets: Sequence[str],
    drop: Sequence[str],
    loss: str,
    *,
    test_size: float,
    seed: int,
    intercept: bool,
    standardize: bool,
    constant_target: bool = False,
) -> Prepared:
    """Choose the loss, split the rows, and encode columns and target.

    A number that is the same in all rows has no use as a target unless ``constant_target`` is set.
    """
    for name in drop:
        if name not in table:
            raise TableError(f"--drop names {name!r}, which {table.source} does not have: {listing(table.names)}.")
        if name in targets:
            raise TableError(f"--drop names the target {name!r}.")
    columns = [table[target] for target in targets]
    names = [name for name in table.names if name not in targets and name not in drop]
    if not names:
        raise TableError(f"{table.source} has no column left besides the target {', '.join(map(repr, targets))}.")
    table.require([*names, *targets], advice=" (or leave a column out with --drop COLUMN)")
    table.refuse_spoiled_numbers(list(targets), droppable=False)
    column = columns[0]
    asked, loss = (
        loss,
        _common_loss(columns, loss) if len(columns) > 1 else choose_loss(column, loss, constant=constant_target),
    )
    labels: FloatArray | None = None
    if loss in _CLASSIFIERS:
        goal = Target.classification(column)
        labels = goal.encode(column, table.source)
        train, test = split_rows(table.n_rows, test_size, seed, labels)
    else:
        train, test = split_rows(table.n_rows, test_size, seed)
        goal, *more = (
            Target.regression(each, train, table.source, standardize=standardize, constant=constant_target)
            for each in columns
        )
        goal = replace(goal, more=tuple(more))
    preprocessing, notes = Preprocessing.fit(table, names, train, intercept=intercept, standardize=standardize)
    if asked == "auto" and goal.kind == "regression":
        notes = (*(_whole_numbers_note(column) if len(columns) == 1 else ()), *notes)
    encoded = goal.encode_table(table) if labels is None else labels
    return Prepared(preprocessing, goal, loss, preprocessing.transform(table), encoded, train, test, notes)


def _whole_numbers_note(column: Column) -> tuple[str, ...]:
    distinct = np.unique(column.values) if column.values is not None else np.empty(0)
    if len(distinct) > _FEW or not np.all(distinct == np.round(distinct)):
        return ()
    return (
        f"Target {column.name!r} has {len(distinct)} distinct whole numbers and is taken as numbers; "
        "--loss logistic takes them as classes.",
    )


def _common_loss(columns: Sequence[Column], loss: str) -> str:
    """Loss for several targets, which must be numbers."""
    if loss in _CLASSIFIERS:
        raise TableError(
            f"--loss {loss} takes one target; several need --loss squared or --loss huber, or a model for each target."
        )
    for column in columns:
        if column.values is None:
            raise TableError(
                f"several targets must be numbers, but {column.name!r} holds text; train a model for each target, "
                "without the others (--drop)."
            )
    return "squared" if loss == "auto" else loss


def choose_loss(column: Column, loss: str, *, constant: bool = False) -> str:
    """Loss for a target: as asked if it fits; "auto" is squared for numbers, logistic for two classes, then softmax."""
    distinct = len(set(column.text.tolist())) if column.values is None else len(np.unique(column.values))
    if loss == "auto":
        numbers = column.values is not None and (distinct > 2 or (constant and distinct == 1))
        return "squared" if numbers else "logistic" if distinct <= 2 else "softmax"
    if loss in _CLASSIFIERS:
        if column.values is not None and distinct > MAX_CATEGORIES:
            raise TableError(
                f"--loss {loss} needs classes, but the target {column.name!r} has {distinct} distinct numbers; "
                "use --loss squared or --loss huber."
            )
        if loss == "softmax" and distinct <= 2:
            raise TableError(
                f"--loss softmax is for three classes and more, but the target {column.name!r} has {distinct}; "
                "use --loss logistic."
            )
    elif column.values is None:
        raise TableError(
            f"--loss {loss} needs a target of numbers, but {column.name!r} holds text; "
            "use --loss logistic, --loss softmax or --loss squared_hinge."
        )
    return loss


def solve_outputs(
    problems: Sequence[Problem],
    labels: Sequence[str],
    *,
    architecture: Architecture,
    tol: float,
    certify: bool,
    time_limit: float | None,
    max_iter: int | None,
    max_width: int | None,
    seed: int,
    watch: Watch,
) -> Outcome:
    """Solve the problems in turn; after an interrupt those that are left get the zero network."""
    start = time.perf_counter()
    solutions: list[Solution | None] = []
    for position, (problem, label) in enumerate(zip(problems, labels, strict=True)):
        if solutions and _interrupted(solutions[-1]):
            solutions.append(None)
            continue
        limit = time_limit
        if time_limit is not None:
            left = time_limit - (time.perf_counter() - start)
            limit = max(left, 1e-3) / (len(problems) - position)
        try:
            solution = solve(
                problem,
                architecture=architecture,
                tol=tol,
                certify=certify,
                time_limit=limit,
                max_iter=max_iter,
                max_width=max_width,
                random_state=seed,
                verbose=watch(label),
            )
        except KeyboardInterrupt:
            if not solutions:
                raise
            solution = None
        except ValueError as error:
            # What the theorem of the architecture does not cover: a loss, a size, a proof that is out of reach.
            raise CommandError(str(error)) from error
        solutions.append(solution)
    seconds = time.perf_counter() - start
    return Outcome(
        _joined([s.network if s else ReLUNetwork.zero(problems[0].n_features) for s in solutions]),
        _summed(problems, solutions),
        _joint_status(solutions),
        tuple(solutions),
        seconds,
    )


def _interrupted(solution: Solution | None) -> bool:
    return solution is None or solution.status is Status.INTERRUPTED


def _joined(networks: Sequence[Any]) -> Network:
    """The network, or one with an output for each of several."""
    return networks[0] if len(networks) == 1 else stacked_network(networks)


def _summed(problems: Sequence[Problem], solutions: Sequence[Solution | None]) -> StoredCertificate:
    objective = lower = global_lower = 0.0
    for problem, solution in zip(problems, solutions, strict=True):
        if solution is None:
            # The zero network; every objective is at least 0.
            objective += problem.loss_value(np.zeros_like(problem.y))
            continue
        objective += solution.objective
        lower += solution.lower_bound
        global_lower += solution.global_lower_bound
    every_global = all(solution is None or solution.scope == "global" for solution in solutions)
    return StoredCertificate(
        objective=objective,
        lower_bound=lower,
        scope="global" if every_global else "patterns",
        global_lower_bound=global_lower,
        status=_joint_status(solutions).value,
        n_iter=sum(solution.n_iter for solution in solutions if solution),
    )


def _joint_status(solutions: Sequence[Solution | None]) -> Status:
    """Worst status: interrupted, then any that did not converge, then the weaker scope."""
    if any(_interrupted(solution) for solution in solutions):
        return Status.INTERRUPTED
    found = [solution.status for solution in solutions if solution]
    for status in found:
        if not status.converged:
            return status
    return Status.GLOBAL_OPTIMUM if all(s is Status.GLOBAL_OPTIMUM for s in found) else Status.PATTERNS_OPTIMUM


def course_of(outcome: Outcome) -> Course | None:
    """Course of all solves, side by side and summed; None where an interrupt came before one of them."""
    solutions = [solution for solution in outcome.solutions if solution is not None and len(solution.history)]
    if not solutions or len(solutions) < len(outcome.solutions):
        return None
    longest = max(solutions, key=lambda solution: len(solution.history)).history
    rows = np.arange(len(longest))
    objective, lower = np.zeros(len(rows)), np.zeros(len(rows))
    for solution in solutions:
        history = solution.history
        # A solve that has ended waits for the others.
        last = np.minimum(rows, len(history) - 1)
        objective += np.minimum.accumulate(history.objective)[last]
        lower += np.maximum.accumulate(history.lower_bound)[last]
    kept = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ENTRIES)).astype(np.int64))
    kept = kept[np.isfinite(objective[kept])]
    # What is proved at the end counts the weights that are stored.
    final = outcome.certificate
    return Course(
        (*longest.iterations[kept].tolist(), int(longest.iterations[-1])),
        (*objective[kept].tolist(), final.objective),
        (*(value if np.isfinite(value) else None for value in lower[kept].tolist()), final.lower_bound),
    )
