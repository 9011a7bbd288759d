"""Drawings of the profiles, from the lines of runs: PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import REFERENCE
from benchmarks.profiles import FloatArray, Run, data_profile, performance_profile, times_to_accuracy

__all__ = ["ACCURACIES", "draw_profiles"]

ACCURACIES = {"gated": (1e-4,), "fixed": (1e-4,), "free": (1e-2, 1e-3)}
_WORDS = {"gated": "gated program", "fixed": "ReLU program, listed patterns", "free": "ReLU networks"}


def draw_profiles(runs: list[Run], folder: Path) -> list[Path]:
    """Draw the share of problems solved against seconds and against the ratio to the fastest, by suite and accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written: list[Path] = []
    for suite, accuracies in ACCURACIES.items():
        for accuracy in accuracies:
            # One curve for cvxnn: the tight run is there to know the optimum.
            times = times_to_accuracy([run for run in runs if run["method"] != REFERENCE], suite, accuracy)
            if not times:
                continue
            figure, axes = pyplot.subplots(1, 2, figsize=(10.0, 3.8), sharey=True, layout="constrained")
            _steps(axes[0], data_profile(times), "seconds")
            _steps(axes[1], performance_profile(times), "seconds over those of the fastest method")
            axes[0].set_ylabel("share of problems solved")
            axes[1].legend(loc="lower right", fontsize="small", frameon=False)
            figure.suptitle(f"{_WORDS[suite]}: within {accuracy:g} of the best known, {len(times)} problems")
            for ending in ("png", "svg"):
                path = folder / f"profile_{suite}_{accuracy:g}.{ending}"
                figure.savefig(path, dpi=150, metadata={"Date": None} if ending == "svg" else None)
                written.append(path)
            pyplot.close(figure)
    return written


def _steps(axis: Any, profile: dict[str, tuple[FloatArray, FloatArray]], label: str) -> None:
    """One staircase a method, drawn to the right edge; a method that solves nothing lies on the axis."""
    finite = [x for x, _ in profile.values() if x.size]
    low = min((float(x[0]) for x in finite), default=1.0)
    high = 1.5 * max((float(x[-1]) for x in finite), default=1.0)
    for number, method in enumerate(sorted(profile, key=lambda name: (not name.startswith("cvxnn"), name))):
        x, share = profile[method]
        level = float(share[-1]) if share.size else 0.0
        style = "-" if method.startswith("cvxnn") else ("--", "-.", ":")[number % 3]
        axis.step(
            np.concatenate([[low * 0.9], x, [high]]),
            np.concatenate([[0.0], share, [level]]),
            where="post",
            linestyle=style,
            linewidth=2.2 if method.startswith("cvxnn") else 1.5,
            label=method,
        )
    axis.set_xscale("log")
    axis.set_xlim(low * 0.9, max(high, low))
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel(label)
    axis.grid(visible=True, which="major", alpha=0.3)
