"""Pages that the site makes from the package and the lessons: reference of all public names, notebooks as text."""

from __future__ import annotations

import importlib
import inspect
import json
import types
from pathlib import Path
from typing import Any

MODULES = {
    "cvxnn": "Problems, solutions, networks, estimators",
    "cvxnn.architectures": "Architectures",
    "cvxnn.losses": "Losses",
    "cvxnn.patterns": "Activation patterns",
    "cvxnn.landscape": "Landscape",
    "cvxnn.display": "Pictures",
    "cvxnn.interop": "Files and other libraries",
    "cvxnn.splines": "One input",
    "cvxnn.kernels": "Gated networks as kernels",
    "cvxnn.gan": "Generators and discriminators",
    "cvxnn.certificates": "Certificates",
}


def public_names(module_name: str) -> list[str]:
    """Names of a module without underscore that are not modules: its ``__all__``, else what cvxnn defines in it."""
    module = importlib.import_module(module_name)
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    kept = []
    for name in listed:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            continue
        if "__all__" in vars(module) or str(getattr(value, "__module__", "")).startswith("cvxnn"):
            kept.append(name)
    return sorted(kept, key=lambda name: (name.isupper(), not inspect.isclass(getattr(module, name)), name.lower()))


def _write(path: Path, text: str) -> None:
    # An unchanged file keeps its date, so that Sphinx reads only what is new.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_reference(folder: Path) -> None:
    """Write ``index.rst`` and a page for each module, with a table of its public names."""
    folder.mkdir(exist_ok=True)
    for module, title in MODULES.items():
        names = "\n".join(f"   {name}" for name in public_names(module))
        table = f".. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n{names}\n"
        head = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {module}\n\n.. currentmodule:: {module}\n\n"
        _write(folder / f"{module}.rst", head + table)
    toc = "\n".join(f"   {module}" for module in MODULES)
    note = "All public names. What is not listed here may change without notice."
    _write(folder / "index.rst", f"Reference\n=========\n\n{note}\n\n.. toctree::\n   :maxdepth: 2\n\n{toc}\n")


def _as_markdown(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    text = f"```python\n{source}\n```"
    for output in cell["outputs"]:
        shown = "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])
        text += f"\n\n```text\n{shown.rstrip()}\n```"
    return text


def write_lessons(notebooks: Path, folder: Path) -> None:
    """Write each notebook of ``notebooks``, with the output stored in it, as a Markdown page of ``folder``."""
    folder.mkdir(exist_ok=True)
    files = sorted(notebooks.glob("*.ipynb"))
    for file in files:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        _write(folder / f"{file.stem}.md", "\n\n".join(map(_as_markdown, cells)) + "\n")
    toc = "\n".join(f"   {file.stem}" for file in files)
    note = "Each is a notebook of the folder ``lessons/``; all run on the core install."
    _write(folder / "index.rst", f"Lessons\n=======\n\n{note}\n\n.. toctree::\n   :maxdepth: 1\n\n{toc}\n")
