"""The shape of the house: who may import whom, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cvxnn

ROOT = Path(cvxnn.__file__).parent
OPTIONAL = {"torch", "cvxpy", "matplotlib", "dask", "onnx", "pandas", "pyarrow"}
FACES = {"estimators", "interop", "display", "cli"}
LAYERS = {
    "certificates": {"solvers", "programs", "landscape", "training"} | FACES,
    "solvers": {"programs", "landscape", "training"} | FACES,
    "patterns": {"solvers", "programs", "certificates", "landscape", "training"} | FACES,
    "programs": {"landscape", "training"} | FACES,
    "landscape": FACES,
}


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports at any depth, except under TYPE_CHECKING."""
    found: set[str] = set()
    package = path.relative_to(ROOT.parent).with_suffix("").parts[:-1]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            found.add(base + (node.module or ""))
            found.update(f"{base}{node.module or ''}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_dependencies_point_down(path):
    layer = path.relative_to(ROOT).parts[0]
    names = imports(path)
    for forbidden in LAYERS.get(layer, set()):
        bad = {name for name in names if name.split(".")[:2] == ["cvxnn", forbidden]}
        assert not bad, f"{layer} must not import {forbidden}: {bad}"
    if layer not in FACES:
        assert not {name.split(".")[0] for name in names} & OPTIONAL


def test_certificates_load_without_any_solver():
    code = (
        "import sys, types; root = types.ModuleType('cvxnn'); "
        f"root.__path__ = [{str(ROOT)!r}]; sys.modules['cvxnn'] = root; import cvxnn.certificates; "
        "bad = [m for m in sys.modules if m.startswith(('cvxnn.solvers', 'clarabel'))]; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_cvxnn_is_light():
    heavy = sorted(OPTIONAL | {"sklearn", "typer", "rich"})
    code = f"import sys, cvxnn; bad = [m for m in {heavy!r} if m in sys.modules]; assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    names = ["Problem", "ReLUNetwork", "solve", "ReLURegressor", "ReLUClassifier", "Solution", "Status"]
    assert {*names, "patterns", "landscape"} <= set(cvxnn.__all__)
    for name in cvxnn.__all__:
        assert hasattr(cvxnn, name)
        assert name in dir(cvxnn)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cvxnn.nothing
    assert cvxnn.patterns.enumerate_patterns and cvxnn.patterns.sample_patterns and cvxnn.patterns.count_patterns


def test_no_file_grows_past_its_size():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 450}
    assert not long
