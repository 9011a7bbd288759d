"""``cvxnn report``: one HTML page on a network in a file and a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvxnn.cli import _certify
from cvxnn.cli import _common as common
from cvxnn.cli._foreign import ForeignOptions, read_case
from cvxnn.display.report import Facts, Part, report_page, verdict
from cvxnn.interop.model import Model
from cvxnn.interop.model_file import load_model, write_atomically
from cvxnn.interop.network_files import is_foreign
from cvxnn.interop.tables import read_table
from cvxnn.solution import Status

__all__ = ["run"]


def run(
    model_path: Path,
    data: Path,
    *,
    out: Path,
    targets: tuple[str, ...],
    certify: float | None,
    foreign: ForeignOptions,
    quiet: bool,
) -> int:
    """Write the page; return the exit code."""
    common.require_positive(certify, "--certify")
    common.check_destination(out, [model_path, data])
    if is_foreign(model_path):
        facts, advice = _foreign(model_path, data, targets, certify, foreign), None
    else:
        foreign.refuse_all()
        facts, advice = _own(load_model(model_path), data, targets, certify)
    with common.uninterrupted():
        page = report_page(facts, model_name=model_path.name, data_name=data.name, advice=advice)
        try:
            write_atomically(out, page.encode())
        except OSError as error:
            raise common.CommandError(f"--out {out} cannot be written: {error.strerror or error}.") from error
        if not quiet:
            common.print_report([("Verdict", verdict(facts).heading), ("Written", str(out))])
    bound = facts.bound
    proved = certify is None or (bound is not None and bound.gap <= facts.model.tol)
    return 0 if proved else 1


def _own(model: Model, data: Path, targets: tuple[str, ...], certify: float | None) -> tuple[Facts, str | None]:
    """Facts on a model file of cvxnn, and what its status advises."""
    rows = _certify.rows_of(model, read_table(data), targets)
    # Refuses targets that do not fit the loss in a plain sentence.
    _certify.problems_of(model, rows)
    if rows.warning:
        common.say(rows.warning)
    proofs = () if certify is None else tuple(_certify.prove(model, rows, certify))
    with common.uninterrupted(), _plain_refusals():
        return Facts(model, _parts(model, rows), rows.trained_on, rows.beta, proofs), _advice(model)


def _foreign(path: Path, data: Path, targets: tuple[str, ...], certify: float | None, options: ForeignOptions) -> Facts:
    """Facts on a network of another program."""
    case = read_case(path, data, targets=targets, options=options)
    model = case.model()
    proofs = () if certify is None else (case.prove(certify),)
    with common.uninterrupted(), _plain_refusals():
        part = Part.of("rows of this table", model, model.inputs(), case.encoded(model.target))
        return Facts(model, (part,), False, model.judged.problem.beta, proofs)


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Figures that are too large for a page are refused in a plain sentence."""
    try:
        yield
    except ValueError as error:
        raise common.CommandError(str(error)) from error


def _parts(model: Model, rows: _certify.Rows) -> tuple[Part, ...]:
    if not rows.trained_on:
        return (Part.of("rows of this table", model, rows.X, rows.encoded),)
    training = Part.of("training rows", model, rows.X, rows.encoded)
    return (training,) if rows.held_out is None else (training, Part.of("held-out rows", model, *rows.held_out))


def _advice(model: Model) -> str | None:
    """What the status in the file advises, in the words of the shell; None for a status of another version."""
    known = {status.value: status for status in Status}
    status = known.get(model.certificate.status)
    return None if status is None else common.shell_words(status.advice)
