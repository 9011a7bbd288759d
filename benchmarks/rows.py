"""Gated ReLU networks: seconds and memory against the number of rows, at a fixed number of gates and features.

Run with ``python -m benchmarks.rows``; ``--out`` takes a folder for ``rows.md``, ``rows.png`` and ``rows.svg``. Each
run has a process of its own, warmed up on a tiny problem. Seconds are wall clock from the arrays to the certificate;
memory is the growth of the peak of resident memory beyond data, libraries and warm-up, next to the bytes of the data
and of the masks as bits. Data: the table ``synthetic-<n>x<features>``, ``beta = lambda * n``. A last column has the
slope of the seconds in n, on logarithmic scales, from the row before.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.worker import perform_apart

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
LAMBDAS = (1e-1, 1e-2)


def once(n: int, strength: float, options: argparse.Namespace) -> dict[str, Any]:
    """Fastest of a few runs of one case."""
    case = Case("gated", f"synthetic-{n}x{options.features}", strength, options.gates)
    runs = []
    for _ in range(options.repeats):
        line = perform_apart(case, "cvxnn", options.limit, options={"tol": options.tol})
        if line["failure"] is not None:
            raise RuntimeError(f"{case.key}: {line['failure']}")
        runs.append(line)
    best = min(runs, key=lambda line: line["seconds"])
    return {
        "n": n,
        "lambda": strength,
        "seconds": best["seconds"],
        "memory": best["extra_mb"],
        "data": 8 * n * options.features / 2**20,
        "masks": options.gates * math.ceil(n / 8) / 2**20,
        "gap": best["gap"],
        "proved": best["gap"] <= options.tol,
        "width": best["width"],
        "iterations": best["notes"]["iterations"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| lambda | n | seconds | MB | data MB | masks MB | gap | width | steps | slope |", "|--:" * 10 + "|"]
    previous: dict[str, Any] = {}
    for row in rows:
        slope = ""
        if previous and previous["lambda"] == row["lambda"]:
            slope = f"{math.log(row['seconds'] / previous['seconds']) / math.log(row['n'] / previous['n']):.2f}"
        seconds = f"{row['seconds']:.2f}" + ("" if row["proved"] else " (gap open)")
        lines.append(
            f"| {row['lambda']:g} | {row['n']:,} | {seconds} | {row['memory']:.0f} | {row['data']:.0f} "
            f"| {row['masks']:.1f} | {row['gap']:.0e} | {row['width']} | {row['iterations']} | {slope} |"
        )
        previous = row
    return lines


def draw(rows: list[dict[str, Any]], folder: Path, title: str) -> None:
    """Seconds and memory against n, with a line of slope one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    for strength, marker in zip(LAMBDAS, "os", strict=True):
        chosen = [row for row in rows if row["lambda"] == strength]
        n = [row["n"] for row in chosen]
        axes[0].loglog(n, [row["seconds"] for row in chosen], marker=marker, label=f"lambda = {strength:g}")
        axes[1].loglog(n, [max(row["memory"], 1.0) for row in chosen], marker=marker, label=f"lambda = {strength:g}")
    last = max(rows, key=lambda row: row["n"])
    ends = np.array([last["n"] / 40.0, last["n"]])
    axes[0].loglog(ends, last["seconds"] * ends / last["n"], color="0.6", linestyle=":", label="proportional to n")
    n = sorted({row["n"] for row in rows})
    axes[1].loglog(
        n, [next(row["data"] for row in rows if row["n"] == k) for k in n], color="0.6", linestyle=":", label="data"
    )
    for axis, label in zip(axes, ("seconds", "MB beyond the data"), strict=True):
        axis.set_xlabel("rows n")
        axis.set_ylabel(label)
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"rows.{ending}", dpi=150, metadata={"Date": None} if ending == "svg" else None)
    pyplot.close(figure)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each case; the fastest counts")
    parser.add_argument("--out", type=Path, help="folder of rows.md and the figure")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for a run")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for strength in LAMBDAS:
        for n in sorted(options.sizes):
            rows.append(once(n, strength, options))
            print("\n".join(table(rows) if len(rows) == 1 else table(rows)[-1:]), flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "rows.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")
        draw(rows, options.out, f"Gated ReLU, {options.gates} gates, {options.features} features, gap {options.tol:g}")


if __name__ == "__main__":
    main()
