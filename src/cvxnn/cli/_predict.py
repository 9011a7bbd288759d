"""``cvxnn predict``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import typer

from cvxnn.cli import _common as common
from cvxnn.interop.model_file import load_model, write_atomically
from cvxnn.interop.tables import read_table

__all__ = ["run"]


def run(model_path: Path, data: Path, *, out: Path | None, proba: bool, score: bool) -> None:
    """Write one prediction a row as CSV, with the header ``prediction``, or ``prediction_NAME`` for several targets."""
    if out is not None:
        common.check_destination(out, [model_path, data])
    model = load_model(model_path)
    table = read_table(data)
    predictions = model.predict(table)
    several = predictions.ndim == 2
    header = [f"prediction_{name}" for name in model.target.names] if several else ["prediction"]
    rows = [[str(value) for value in (row if several else [row])] for row in predictions.tolist()]
    if proba:
        header += [f"probability_{name}" for name in model.target.classes]
        shares = model.predict_proba(table).tolist()
        rows = [[*row, *map(str, share)] for row, share in zip(rows, shares, strict=True)]
    message = None
    if score:
        table.require(list(model.target.names))
        encoded = model.target.encode_table(table)
        value = model.score(model.outputs(table), encoded)
        message = f"{model.score_name} {common.shown_score(value)} on {table.n_rows} rows"
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    if out is None:
        typer.echo(stream.getvalue(), nl=False)
    else:
        try:
            write_atomically(out, stream.getvalue().encode())
        except OSError as error:
            raise common.CommandError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    if message is not None:
        common.say(message)
