"""The notebooks run on the core install, and their cells print what is stored in them."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
CORE = {"cvxnn", "numpy", "scipy", "sklearn"} | set(sys.stdlib_module_names)


def code_cells(path: Path) -> list[dict]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def draws(cell: dict) -> bool:
    return "matplotlib" in cell["metadata"].get("tags", [])


def run(source: str, names: dict) -> str:
    """Execute a cell as a notebook does: what it prints, and its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop().value if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last), "cell", "eval"), names)
    return printed.getvalue() + ("" if value is None else repr(value))


def stored(cell: dict) -> str:
    texts = [out.get("text") or out["data"]["text/plain"] for out in cell["outputs"]]
    return "".join("".join(text) for text in texts)


def test_there_are_five():
    assert len(LESSONS) == 5


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_cells_print_what_is_stored(path, monkeypatch):
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: None)
    names: dict = {}
    for cell in code_cells(path):
        shown = run("".join(cell["source"]), names)
        if not draws(cell):
            assert shown == stored(cell), "".join(cell["source"])
    pyplot.close("all")


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_cells_need_the_core_install_only(path):
    for cell in code_cells(path):
        tree = ast.parse("".join(cell["source"]))
        for node in ast.walk(tree):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            packages = {name.split(".")[0] for name in imported}
            assert packages <= CORE | ({"matplotlib"} if draws(cell) else set()), packages


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_all_cells_run_without_matplotlib(path, monkeypatch):
    # What Python does with an entry of None: the import fails as if there were no such package.
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    names: dict = {}
    for cell in code_cells(path):
        shown = run("".join(cell["source"]), names)
        if draws(cell):
            assert shown == "The picture needs matplotlib: pip install 'cvxnn[plot]'\n"
