"""Markdown tables from the lines of runs: every case and method, failures and losses included, and the summaries."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.profiles import Run, best_known, by_case, geometric_mean, times_to_accuracy

__all__ = ["markdown"]

_TITLES = {
    "gated": "Gated program, fixed gates",
    "fixed": "ReLU program, listed patterns",
    "free": "ReLU networks",
}
_TIE = 1e-6
"""Relative difference of objectives up to which two methods tie."""

_LATE = 1.1
"""A run may end this much after its limit before it is called late."""


def markdown(runs: list[Run], environment: dict[str, Any]) -> str:
    """All tables of all suites that have runs."""
    parts = ["# Results", ", ".join(f"{name} {value}" for name, value in environment.items())]
    for suite, title in _TITLES.items():
        if lines := by_case(runs, suite):
            parts.append(f"## {title}")
            parts += _free(lines) if suite == "free" else _timed(runs, lines, suite)
    return "\n\n".join(parts) + "\n"


def _timed(runs: list[Run], cases: dict[str, list[Run]], suite: str) -> list[str]:
    """Seconds to 1e-4: ours certified, a peer's at the first moment it is there."""
    times = times_to_accuracy(runs, suite, 1e-4)
    header = ["case", "n x d", "method", "objective / n", "bound / n", "gap", "above best", "violation"]
    header += ["s to 1e-4", "x cvxnn", "extra MB", "width", "test error", "runs", "end"]
    rows, ratios = [], {}
    for case, lines in cases.items():
        ours, best = times[case].get("cvxnn", math.inf), best_known(lines)
        for method in dict.fromkeys(run["method"] for run in lines):
            mine = [run for run in lines if run["method"] == method]
            seconds = times[case][method]
            ratio, text = _ratio(seconds, ours, mine)
            if not method.startswith("cvxnn") and ratio is not None:
                ratios.setdefault(method, []).append((case, ratio, text))
            rows.append([case, _size(mine[0]), method, *_end(mine, best), _seconds(seconds), text, *_rest(mine)])
    notes = [_summary(method, found) for method, found in ratios.items()]
    return [_table(header, rows), "\n".join(notes)]


def _ratio(seconds: float, ours: float, runs: list[Run]) -> tuple[float | None, str]:
    """Peer's seconds over ours; a lower limit of it where the peer ran out of time, 0 where only we failed."""
    spent = max(run["seconds"] for run in runs)
    if math.isfinite(seconds) and math.isfinite(ours):
        return seconds / ours, f"{seconds / ours:.3g}"
    if math.isfinite(ours):
        return (spent / ours, f"> {spent / ours:.3g}") if spent > 0.9 * runs[0]["limit"] else (None, "failed")
    return (0.0, "cvxnn failed") if math.isfinite(seconds) else (None, "both failed")


def _summary(method: str, found: list[tuple[str, float, str]]) -> str:
    positive = [ratio for _, ratio, _ in found if ratio > 0]
    worst = min(found, key=lambda entry: entry[1])
    bounded = sum(text.startswith(">") for _, _, text in found)
    return (
        f"- **{method}** over cvxnn, {len(found)} cases: geometric mean {geometric_mean(positive):.3g}x "
        f"({bounded} of them lower limits: not reached in time, {len(found) - len(positive)} where cvxnn failed); "
        f"worst {worst[2]} ({worst[0]}); cvxnn slower in {sum(ratio < 1.0 for _, ratio, _ in found)}."
    )


def _end(runs: list[Run], best: float) -> list[str]:
    """Objective, bound, gap, distance from the best known and violation at the end: medians."""
    n = runs[0]["n"]
    value, bound = _middle(runs, "objective"), _middle(runs, "lower_bound")
    above = None if value is None else value / best - 1.0
    gap = _middle(runs, "gap")
    texts = [_number(value, n, "{:.8f}"), _number(bound, n, "{:.8f}"), _number(gap, 1, "{:.1e}")]
    violation = _middle(runs, "violation")
    return [*texts, _number(above, 1, "{:+.1e}"), "" if not violation else f"{violation:.0e}"]


def _rest(runs: list[Run]) -> list[str]:
    error = _number(_middle(runs, "test_error"), 1, "{:.4f}")
    ends = dict.fromkeys(str(run["failure"] or run["status"]) for run in runs)
    memory, width = _number(_middle(runs, "extra_mb"), 1, "{:.0f}"), _number(_middle(runs, "width"), 1, "{:.0f}")
    return [memory, width, error, str(len(runs)), "; ".join(ends)]


def _free(cases: dict[str, list[Run]]) -> list[str]:
    """Objective at equal time and at five times: medians over seeds, and who has the smaller one."""
    header = ["case", "n x d", "method", "limit s", "seconds", "objective / n", "best seed", "worst seed", "bound / n"]
    header += ["above cvxnn %", "extra MB", "width", "test error", "seeds", "settings", "end"]
    rows: list[list[str]] = []
    score: dict[tuple[str, str], list[tuple[str, float | None, bool]]] = {}
    for case, lines in cases.items():
        short = min(run["limit"] for run in lines)
        ours = [run for run in lines if run["method"] == "cvxnn" and run["limit"] == short]
        reference = _middle(ours, "objective")
        late = bool(ours) and _seconds_of(ours) > _LATE * short + 0.1
        for method, limit in dict.fromkeys((run["method"], run["limit"]) for run in lines):
            mine = _tuned([run for run in lines if (run["method"], run["limit"]) == (method, limit)])
            value = _middle(mine, "objective")
            above = None if value is None or reference is None else value / reference - 1.0
            if method != "cvxnn" and value is not None and ours:
                arm = f"{limit / short:.3g} x the time of cvxnn" if limit > short else "equal time"
                score.setdefault((method, arm), []).append((case, above, late))
            rows.append([case, _size(mine[0]), method, f"{limit:g}", *_free_row(mine, above, method, late=late)])
    return [_table(header, rows), "\n".join(_free_summary(*key, found) for key, found in score.items())]


def _free_row(runs: list[Run], above: float | None, method: str, *, late: bool) -> list[str]:
    n, values = runs[0]["n"], [run["objective"] for run in runs if run["objective"] is not None]
    bound = _number(_middle(runs, "global_lower_bound"), n, "{:.7f}")
    spread = [_number(pick(values) if values else None, n, "{:.7f}") for pick in (min, max)]
    options = {k: v for run in runs for k, v in run["options"].items() if k in ("lr", "dtype", "batch")}
    seconds = f"{_seconds_of(runs):.2f}" + (" (late)" if late and method == "cvxnn" else "")
    percent = "" if above is None or method == "cvxnn" else f"{100 * above:+.3f}"
    settings = ", ".join(f"{k} {v}" for k, v in options.items())
    memory, width, error, count, end = _rest(runs)
    value = _number(_middle(runs, "objective"), n, "{:.7f}")
    return [seconds, value, *spread, bound, percent, memory, width, error, count, settings, end]


def _free_summary(method: str, arm: str, found: list[tuple[str, float | None, bool]]) -> str:
    """Cases won and lost; ``None`` is a case in which cvxnn returned nothing."""
    lost = []
    for case, above, late in found:
        if above is None:
            lost.append(f"{case} (cvxnn failed)")
        elif late or above < -_TIE:
            lost.append(f"{case} ({100 * above:+.3f} %{', cvxnn late' if late else ''})")
    mean = geometric_mean([1.0 + above for _, above, _ in found if above is not None])
    text = f"- **{method}**, {arm}: cvxnn not above it in {len(found) - len(lost)} of {len(found)} cases; "
    text += f"geometric mean of its objective over that of cvxnn {mean:.5f}."
    return text + (f" Lost: {', '.join(lost)}." if lost else "")


def _tuned(runs: list[Run]) -> list[Run]:
    """Runs with the settings that are best on the first seed; the others were only tried."""
    first = min(run["seed"] for run in runs)
    tried = [run for run in runs if run["seed"] == first and run["objective"] is not None]
    if not tried:
        return runs
    chosen = min(tried, key=lambda run: run["objective"])["options"]
    return [run for run in runs if run["options"] == chosen]


def _seconds_of(runs: list[Run]) -> float:
    return statistics.median(run["seconds"] for run in runs)


def _middle(runs: Sequence[Run], field: str) -> float | None:
    values = [run[field] for run in runs if run.get(field) is not None]
    return statistics.median(values) if values else None


def _size(run: Run) -> str:
    return f"{run['n']} x {run['d']}" if run.get("n") else ""


def _number(value: float | None, scale: float | None, form: str) -> str:
    return "" if value is None else form.format(value / (scale or 1))


def _seconds(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not reached"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
