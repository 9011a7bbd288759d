"""Pages that the site makes from the package and the lessons: reference of all public names, notebooks as text."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import types
import warnings
from itertools import pairwise
from pathlib import Path
from textwrap import indent
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

PARTS = (
    "cvxnn.solution.History",
    "cvxnn.solution.Blocks",
    "cvxnn.programs.gated.GatedReLUNetwork",
    "cvxnn.programs.batch_norm.BatchNormReLUNetwork",
    "cvxnn.programs.polynomial_network.PolynomialNetwork",
)
"""Classes that users meet as parts of results, in modules whose other names are not public."""

GUIDES = ("tutorial", "how_to_choose", "what_is_certified", "theorems_and_code", "coming_from", "several_outputs")


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


def write_guides(folder: Path) -> None:
    """Write ``guides.rst``: the pages of ``GUIDES`` in this order, then all others of the folder."""
    pages = sorted(page.stem for page in folder.glob("*.md") if page.name != "README.md")
    toc = "\n".join(f"   {page}" for page in [*GUIDES, *(page for page in pages if page not in GUIDES), "benchmarks"])
    _write(folder / "guides.rst", f"Guides\n======\n\n.. toctree::\n   :maxdepth: 1\n\n{toc}\n")


def constant_text(module_name: str, name: str) -> str:
    """Text below the assignment of a constant; autosummary does not find that of one from another module."""
    origin = Path(importlib.import_module(module_name).__file__ or "")
    for path in sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for statement, after in pairwise(body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(str(after.value.value))
    raise LookupError(f"{module_name}.{name} has no text below its assignment")


def write_reference(folder: Path) -> None:
    """Write ``index.rst`` and a page for each module, with a table of its public names.

    A class that two modules offer is described once; the second one links to it.
    """
    folder.mkdir(exist_ok=True)
    described: dict[int, str] = {}
    for module, title in MODULES.items():
        own, elsewhere, constants = [], [], []
        for name in public_names(module):
            value = getattr(importlib.import_module(module), name)
            place = described.setdefault(id(value), f"{module}.{name}")
            if not inspect.isclass(value) and not inspect.isroutine(value):
                constants.append(f".. py:data:: {name}\n\n{indent(constant_text(module, name), '   ')}\n")
            elif place == f"{module}.{name}":
                own.append(name)
            else:
                elsewhere.append(f":py:obj:`{name} <{place}>`")
        names = "\n".join(f"   {name}" for name in own)
        table = f".. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n{names}\n"
        if elsewhere:
            table += f"\nAlso here, described elsewhere: {', '.join(elsewhere)}.\n"
        table += "".join(f"\n{constant}" for constant in constants)
        head = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {module}\n\n.. currentmodule:: {module}\n\n"
        _write(folder / f"{module}.rst", head + table)
    words = "Classes of what results hold: the networks of the relatives of ReLU, and the course of a solve."
    names = "\n".join(f"   {name}" for name in PARTS)
    table = f".. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n{names}\n"
    _write(folder / "parts.rst", f"Parts of results\n================\n\n{words}\n\n{table}")
    toc = "\n".join(f"   {module}" for module in [*MODULES, "parts"])
    note = "All public names. What is not listed here may change without notice."
    _write(folder / "index.rst", f"Reference\n=========\n\n{note}\n\n.. toctree::\n   :maxdepth: 2\n\n{toc}\n")


def _as_markdown(cell: dict[str, Any], picture: str | None) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    text = f"```python\n{source}\n```"
    for output in cell["outputs"]:
        shown = "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])
        text += f"\n\n```text\n{shown.rstrip()}\n```"
    return text if picture is None else f"{text}\n\n{picture}"


def _draw(cells: list[dict[str, Any]], stem: str, folder: Path) -> dict[int, str]:
    """Run a notebook and save its pictures, which are not stored in it: Markdown of the image of each cell."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names: dict[str, Any] = {}
    pictures: dict[int, str] = {}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # A window that cannot be shown here is what the cells end with.
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        for position, cell in enumerate(cells):
            if cell["cell_type"] == "markdown":
                continue
            exec(compile("".join(cell["source"]), f"{stem}, cell {position}", "exec"), names)
            if pyplot.get_fignums():
                ax = pyplot.gca()
                pyplot.savefig(folder / f"{stem}_{position}.png", dpi=100, bbox_inches="tight")
                pictures[position] = f"![{ax.get_ylabel()} against {ax.get_xlabel()}]({stem}_{position}.png)"
                pyplot.close("all")
    return pictures


def write_lessons(notebooks: Path, folder: Path, *, draw: bool = True) -> None:
    """Write each notebook of ``notebooks``, with the output stored in it, as a Markdown page of ``folder``.

    Pictures are drawn anew, unless ``draw`` is False.
    """
    folder.mkdir(exist_ok=True)
    files = sorted(notebooks.glob("*.ipynb"))
    for file in files:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        pictures = _draw(cells, file.stem, folder) if draw else {}
        parts = [_as_markdown(cell, pictures.get(position)) for position, cell in enumerate(cells)]
        _write(folder / f"{file.stem}.md", "\n\n".join(parts) + "\n")
    toc = "\n".join(f"   {file.stem}" for file in files)
    note = (
        "Each is a notebook of the folder ``lessons/``; all run on the core install, and draw where matplotlib is "
        "installed. They build on each other; the first needs no more than what a gradient is."
    )
    _write(folder / "index.rst", f"Lessons\n=======\n\n{note}\n\n.. toctree::\n   :maxdepth: 1\n\n{toc}\n")
