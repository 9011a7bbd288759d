"""The interactive page of training dynamics: a template that is filled with numbers and escaped texts."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cvxnn.display._style import COLOURS

if TYPE_CHECKING:
    from cvxnn.display.dynamics import DynamicsDisplay

__all__ = ["write_page"]

_DIGITS = 5
_ROWS = 12
"""Rows of the table for readers without a picture."""


def write_page(display: DynamicsDisplay, path: Path, title: str) -> Path:
    """Fill the template with the data of a display, and write it."""
    template = (files("cvxnn.display") / "_pages" / "dynamics.html").read_text(encoding="utf-8")
    # "<" cannot end the script element, whatever the texts are.
    data = json.dumps(_data(display), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    head, rest = template.split("{{title}}", 1)
    middle, rest = rest.split("{{heading}}", 1)
    before, rest = rest.split("{{rows}}", 1)
    last, tail = rest.split("{{data}}", 1)
    parts = [head, escape(title), middle, escape(title), before, _rows(display), last, data, tail]
    path.write_text("".join(parts), encoding="utf-8")
    return path


def _data(display: DynamicsDisplay) -> dict[str, Any]:
    fit, place = display.fit_view(), display.neuron_view()
    labels = [label.replace("$", "").replace("\\|", "|").replace("\\,", " ") for label in display.neuron_labels]
    return {
        "steps": display.steps.tolist(),
        "objective": _short(display.objective),
        "optimumSteps": display.optimum_steps.tolist(),
        "optima": _short(display.optima),
        "bound": _short(display.lower_bound),
        "logarithmic": display.is_logarithmic,
        "patterns": display.n_patterns.tolist(),
        "changed": _short(100.0 * display.changed),
        "samples": _short(display.samples),
        "onLine": display.on_line,
        "hasLabels": display.has_labels,
        # The first coordinates of the fit are the same in all records.
        "grid": _short(display.curves[0, :, 0]),
        "curves": _short(display.curves[:, :, 1]),
        "kinks": None if display.kinks is None else _short(display.kinks),
        "neurons": _short(display.neurons),
        "positive": display.positive.astype(int).tolist(),
        "fitView": _short(np.stack(fit)),
        "neuronView": _short(np.stack(place)),
        "fitLabels": display.fit_labels,
        "neuronLabels": labels,
        "colours": COLOURS,
    }


def _short(values: npt.ArrayLike) -> Any:
    """Numbers with few digits, nested as the array is; None for those that are not finite."""
    array = np.asarray(values, dtype=np.float64)
    flat = [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in array.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(array.shape).tolist()


def _rows(display: DynamicsDisplay) -> str:
    """Some records as rows of a table."""
    chosen = np.unique(np.linspace(0, len(display.steps) - 1, _ROWS).round().astype(np.int64))
    known = dict(zip(display.optimum_steps.tolist(), display.optima.tolist(), strict=True))
    rows = []
    for k in chosen.tolist():
        step = int(display.steps[k])
        optimum = f"{known[step]:.5g}" if step in known else "not computed"
        cells = [
            f"{display.objective[k]:.5g}",
            optimum,
            str(display.n_patterns[k]),
            f"{100 * display.changed[k]:.1f} %",
        ]
        rows.append(f'<tr><th scope="row">{step}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join(rows)
