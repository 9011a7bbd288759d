"""Which code a run belongs to: a line of a run counts as done, and as comparable, only for the same code."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cvxnn
from benchmarks.cases import Method

__all__ = ["code_of", "commit", "environment", "threads_of"]

_PACKAGES = {
    "pyscnn_gated": ("pyscnn",),
    "pyscnn_al": ("pyscnn",),
    "cvxpy_conic": ("cvxpy", "clarabel", "scs"),
    "torch_networks": ("torch",),
    "sklearn_mlp": ("scikit-learn",),
}
_SHOWN = ("numpy", "scipy", "torch", "pyscnn", "cvxpy", "clarabel", "scs", "scikit-learn")


def code_of(method: Method) -> str:
    """Name of the code that a method runs: releases of a peer's packages; for cvxnn its release and its source files.

    The source files are those that are imported, whether committed or not.
    """
    if method.module == "cvxnn_solve":
        return f"cvxnn {cvxnn.__version__}+{_sources()}"
    return ", ".join(f"{name} {_release(name)}" for name in _PACKAGES[method.module])


def _sources() -> str:
    """First digits of the SHA-256 of all source files of cvxnn."""
    found, root = hashlib.sha256(), Path(cvxnn.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:10]


def commit() -> str | None:
    """Commit of the checkout, marked where files have changed since; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def threads_of(wanted: int | None) -> str:
    """Threads of the runs: those wanted, those of the shell, or each method's own default."""
    return str(wanted or os.environ.get("OMP_NUM_THREADS") or "default")


def environment(threads: int | None) -> dict[str, Any]:
    """Versions and machine, for the head of the tables."""
    found: dict[str, Any] = {"cvxnn": f"{cvxnn.__version__}+{_sources()}", "commit": commit() or "unknown"}
    found |= {"python": platform.python_version(), "cores": os.cpu_count(), "threads": threads_of(threads)}
    return found | {name: _release(name) for name in _SHOWN}


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
