"""Gated ReLU networks: seconds and memory against the number of rows, at a fixed number of gates and features.

Run with ``python -m benchmarks.rows``; ``--out`` takes a folder for ``rows.md``, ``rows.png`` and ``rows.svg``. Each
run has a process of its own, warmed up on a tiny problem. Seconds are wall clock from the arrays to the certificate;
memory is the growth of the peak of resident memory beyond data, libraries and warm-up, next to the bytes of the data
and of the masks as bits. Data: Gaussian features and a column of ones, targets of a ReLU network of width 10 with
noise, ``beta = lambda * n``. A last column has the slope of the seconds in n, on logarithmic scales, from the row
before.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
LAMBDAS = (1e-1, 1e-2)
_ROOT = Path(__file__).resolve().parent.parent


def synthetic(n: int, d: int) -> tuple[Float, Float]:
    """Features with a column of ones, and standardised targets of a planted network with noise."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    X[:, -1] = 1.0
    U = rng.standard_normal((10, d))
    y = np.maximum(X @ U.T, 0.0) @ rng.choice([-1.0, 1.0], 10) + 0.1 * rng.standard_normal(n)
    return X, (y - y.mean()) / y.std()


def _peak() -> float:
    """Peak of resident memory in megabytes."""
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def once(n: int, d: int, P: int, strength: float, tol: float) -> dict[str, Any]:
    """Solve one case in this process."""
    from cvxnn import GatedReLU, Problem, solve

    X, y = synthetic(100, d)
    gates = np.random.default_rng(1).standard_normal((P, d))
    solve(Problem(X, y, beta=10.0), architecture=GatedReLU(gates[:5]))
    X, y = synthetic(n, d)
    problem = Problem(X, y, beta=strength * n)
    before, begin = _peak(), time.perf_counter()
    s = solve(problem, architecture=GatedReLU(gates), tol=tol)
    seconds = time.perf_counter() - begin
    return {
        "n": n,
        "lambda": strength,
        "seconds": seconds,
        "memory": _peak() - before,
        "data": X.nbytes / 1e6,
        "masks": s.patterns.nbytes / 1e6,
        "gap": s.gap,
        "width": s.network.width,
        "iterations": s.n_iter,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| lambda | n | seconds | MB | data MB | masks MB | gap | width | steps | slope |", "|--:" * 10 + "|"]
    previous: dict[str, Any] = {}
    for row in rows:
        slope = ""
        if previous and previous["lambda"] == row["lambda"]:
            slope = f"{math.log(row['seconds'] / previous['seconds']) / math.log(row['n'] / previous['n']):.2f}"
        lines.append(
            f"| {row['lambda']:g} | {row['n']:,} | {row['seconds']:.2f} | {row['memory']:.0f} | {row['data']:.0f} "
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
    parser.add_argument("--once", type=float, nargs=2, metavar=("N", "LAMBDA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = (options.features, options.gates)
    if options.once:
        print(json.dumps(once(int(options.once[0]), *shape, options.once[1], options.tol)))
        return
    rows = []
    for strength in LAMBDAS:
        for n in sorted(options.sizes):
            command = [sys.executable, "-m", "benchmarks.rows", "--once", str(n), str(strength)]
            command += ["--gates", str(options.gates), "--features", str(options.features), "--tol", str(options.tol)]
            runs = []
            for _ in range(options.repeats):
                done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout))
            rows.append(min(runs, key=lambda row: row["seconds"]))
            print("\n".join(table(rows) if len(rows) == 1 else table(rows)[-1:]), flush=True)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "rows.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")
        draw(rows, options.out, f"Gated ReLU, {options.gates} gates, {options.features} features, gap {options.tol:g}")


if __name__ == "__main__":
    main()
