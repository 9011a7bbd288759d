"""What the commands share: errors as plain sentences, reports, JSON, and checks of the file to write."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cvxnn.architectures import Architecture
    from cvxnn.certificates import Certificate
    from cvxnn.interop.model import StoredCertificate

__all__ = [
    "SCOPES",
    "CommandError",
    "certificate_record",
    "check_destination",
    "plain_errors",
    "print_json",
    "print_report",
    "print_text",
    "require_positive",
    "say",
    "shell_words",
    "shown_scope",
    "shown_score",
    "uninterrupted",
]

SCOPES = {
    "global": "global: the bound holds for every network of every width",
    "patterns": "patterns: the bound holds among networks confined to the activation patterns in use, not for all",
}


_OPTIONS = {
    "certify=True": "--certify",
    "time_limit": "--time-limit",
    "max_iter": "--max-iter",
    "max_width": "--max-width",
    "tol": "--tol",
    "beta": "--alpha",
}


class CommandError(ValueError):
    """Wrong usage of a command; the message is one plain sentence."""


@contextmanager
def plain_errors(interrupted: str) -> Iterator[None]:
    """Turn expected errors into one sentence on stderr and exit code 2, an interrupt into exit code 1."""
    try:
        yield
    except KeyboardInterrupt as error:
        say(f"Interrupted: {interrupted}.")
        raise typer.Exit(1) from error
    except _expected() as error:
        say(f"Error: {error}")
        raise typer.Exit(2) from error


def _expected() -> tuple[type[Exception], ...]:
    """Errors that are the user's to mend; any other is a fault of the program and keeps its traceback."""
    from cvxnn.interop.model_file import ModelFileError
    from cvxnn.interop.tables import TableError

    return CommandError, TableError, ModelFileError


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C for the short time in which a result is scored and written, lest it be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def say(message: str) -> None:
    """Print a message on stderr."""
    typer.echo(message, err=True)


def require_positive(value: float | None, option: str) -> None:
    """Raise CommandError unless the value is None or a positive finite number."""
    if value is not None and not (math.isfinite(value) and value > 0.0):
        raise CommandError(f"{option} must be a positive number; got {value:g}.")


def check_destination(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before any long work, a file that cannot be written or that is one of the inputs."""
    try:
        parent = path.resolve().parent
        if path.is_dir():
            raise CommandError(f"--out {path} is a directory; give the name of a file.")
        if not parent.is_dir():
            raise CommandError(f"--out {path} lies in {parent}, which is not an existing directory.")
        if path.exists() and any(other.exists() and path.samefile(other) for other in inputs):
            raise CommandError(f"--out {path} is an input of this command; choose another name.")
        # Permissions do not tell all: a file system may be full, read-only or, like /proc, take no files.
        trial = path.resolve().with_name(f".{path.resolve().name}.{os.getpid()}.tmp")
        trial.open("xb").close()
        trial.unlink()
    except OSError as error:
        raise CommandError(f"--out {path} cannot be written: {error.strerror or error}.") from error


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite become null."""
    typer.echo(json.dumps(_finite(record), ensure_ascii=False, allow_nan=False, indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_report(rows: Sequence[tuple[str, str]]) -> None:
    """Print labels and values in two columns."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        typer.echo(f"{label:<{width}}  {value}")


def print_text(text: str) -> None:
    """Print text on stdout."""
    typer.echo(text)


def shell_words(advice: str) -> str:
    """Advice with the options of the command where it names arguments of the Python functions."""
    return re.sub(rf"\b({'|'.join(_OPTIONS)})\b", lambda found: _OPTIONS[found[0]], advice)


def shown_scope(scope: str, architecture: Architecture) -> str:
    """What a scope means for an architecture."""
    from cvxnn.architectures import GatedReLU

    if isinstance(architecture, GatedReLU):
        return f"patterns: the bound holds for every network, of every width, with these {len(architecture)} gates"
    return SCOPES[scope]


def shown_score(score: float | None) -> str:
    """Score with four digits, or a word where there is none."""
    return "not defined" if score is None else f"{score:.4f}"


def certificate_record(certificate: Certificate | StoredCertificate) -> dict[str, Any]:
    """Figures of a certificate under the names of the Python attributes."""
    return {
        "objective": certificate.objective,
        "lower_bound": certificate.lower_bound,
        "gap": certificate.gap,
        "scope": certificate.scope,
        "global_lower_bound": certificate.global_lower_bound,
        "global_gap": certificate.global_gap,
    }
