"""``cvxnn landscape``: the optimal set of a table's problem, its critical widths and its staircase of connectivity."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvxnn.cli import _common as common
from cvxnn.cli._training import prepare, target_name
from cvxnn.interop.tables import read_table
from cvxnn.landscape import OptimalSet, OptimalSetError, Staircase, optimal_set, staircase
from cvxnn.losses import HuberLoss
from cvxnn.problem import Problem

__all__ = ["LandscapeOptions", "run"]


@dataclass(frozen=True)
class LandscapeOptions:
    """Options of the command, as typed."""

    data: Path
    target: str | None
    drop: tuple[str, ...]
    beta: float | None
    alpha: float | None
    loss: str
    huber_delta: float
    intercept: bool
    standardize: bool
    time_limit: float | None
    as_json: bool


def run(options: LandscapeOptions) -> int:
    """Report the optimal set and the staircase; return the exit code."""
    problem, columns = _problem(options)
    source = str(options.data)
    start = time.perf_counter()
    try:
        best = optimal_set(problem, time_limit=options.time_limit)
        rows = staircase(best)
    except OptimalSetError as error:
        raise common.CommandError(str(error)) from error
    seconds = time.perf_counter() - start
    if options.as_json:
        common.print_json(_record(source, columns, problem, best, rows, seconds))
    else:
        common.print_report(_report(source, columns, problem, best, seconds))
        common.print_text(f"\n{rows}")
    return 0


def _problem(options: LandscapeOptions) -> tuple[Problem, list[str]]:
    for value, option in (
        (options.beta, "--beta"),
        (options.alpha, "--alpha"),
        (options.huber_delta, "--huber-delta"),
        (options.time_limit, "--time-limit"),
    ):
        common.require_positive(value, option)
    if (options.beta is None) == (options.alpha is None):
        raise common.CommandError("give the weight decay as either --beta (summed loss) or --alpha (mean loss).")
    table = read_table(options.data)
    prepared = prepare(
        table,
        [target_name(options.target, options.data, table)],
        options.drop,
        options.loss,
        test_size=0.0,
        seed=0,
        intercept=options.intercept,
        standardize=options.standardize,
        constant_target=True,
    )
    joint = prepared.target.n_outputs > 1
    if joint and prepared.loss != "softmax":
        raise common.CommandError(
            f"target {prepared.target.name!r} has {prepared.target.n_outputs} classes, which --loss {prepared.loss} "
            "gives one network each; the landscape of one network for all needs --loss softmax."
        )
    beta = options.beta if options.beta is not None else (options.alpha or 0.0) * table.n_rows
    loss = HuberLoss(options.huber_delta) if prepared.loss == "huber" else prepared.loss
    goal = prepared.target.joint_targets(prepared.encoded) if joint else prepared.target.targets(prepared.encoded)
    problem = Problem(prepared.X, goal, beta, loss)
    for note in prepared.notes:
        common.say(note)
    return problem, [*prepared.preprocessing.inputs, *(["bias"] if options.intercept else [])]


def _record(
    source: str, columns: list[str], problem: Problem, best: OptimalSet, rows: Staircase, seconds: float
) -> dict[str, Any]:
    return {
        "data": source,
        "columns": columns,
        "n": problem.n_samples,
        "d": problem.n_features,
        "loss": problem.loss.name,
        "beta": problem.beta,
        "objective": best.objective,
        "gap": best.solution.gap,
        "unique": best.is_unique,
        "directions": best.directions.tolist(),
        **_output_record(best),
        "mass_range": best.mass_range().tolist(),
        "total_mass": best.total_mass,
        "vertices": best.vertices().tolist(),
        "min_width": best.min_width,
        "max_irreducible_width": best.max_irreducible_width,
        "connected_width": best.connected_width,
        "spurious_free_width": best.spurious_free_width,
        "staircase": [
            {
                "width": row.width,
                "components": row.components,
                "labelled_components": row.labelled_components,
                "isolated_points": row.isolated_points,
                "continuum": row.continuum,
                "phase": row.phase,
            }
            for row in rows
        ],
        "seconds": seconds,
    }


def _output_record(best: OptimalSet) -> dict[str, Any]:
    """Signs of the directions, or their unit output vectors."""
    if best.problem.n_outputs > 1:
        return {"outputs": best.outputs.tolist()}
    return {"signs": [int(sign) for sign in best.signs]}


def _report(
    source: str, columns: list[str], problem: Problem, best: OptimalSet, seconds: float
) -> list[tuple[str, str]]:
    unique = "unique up to splits and permutations of neurons" if best.is_unique else "not unique"
    counts = (
        f"{_counted(len(best.directions), 'optimal direction')}, {_counted(len(best.vertices()), 'vertex', 'vertices')}"
    )
    return [
        ("Data", f"{source}: {problem.n_samples} rows, input columns {', '.join(columns)}"),
        ("Problem", f"{problem.loss.name} loss, beta {problem.beta:g}"),
        ("Optimum", f"{best.objective:.9g}, global to a relative gap of {best.solution.gap:.1e}"),
        ("Best network", f"{unique}; {counts}"),
        ("Least width", f"{best.min_width} neurons (m*): no narrower network is optimal"),
        ("Largest irreducible", f"{best.max_irreducible_width} neurons (M*)"),
        ("Connected from", f"width {best.connected_width} on: a path of best networks between any two"),
        (
            "No spurious valley",
            f"from width {best.spurious_free_width} on: a descent path to the optimum from anywhere",
        ),
        ("Time", f"{seconds:.2f} s"),
    ]


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
