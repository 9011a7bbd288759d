"""The site: its reference holds every public name, its lists every page, its packages the docs group."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import re
import shutil
import types
from pathlib import Path
from typing import get_args

import pytest

from cvxnn.programs.dispatch import Network
from cvxnn.solution import Blocks, History

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def pages() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("_pages", DOCS / "_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_lists_all_public_names(pages, tmp_path):
    pages.write_reference(tmp_path)
    index = (tmp_path / "index.rst").read_text()
    for module in pages.MODULES:
        assert re.search(rf"^   {module}$", index, re.MULTILINE)
        page = (tmp_path / f"{module}.rst").read_text()
        listed = set(re.findall(r"^   ([A-Za-z]\w*)$", page, re.MULTILINE)) | set(re.findall(r":py:obj:`(\w+) <", page))
        listed |= set(re.findall(r"^\.\. py:data:: (\w+)$", page, re.MULTILINE))
        loaded = importlib.import_module(module)
        every = [n for n in getattr(loaded, "__all__", ()) if not isinstance(getattr(loaded, n), types.ModuleType)]
        assert set(every) <= listed
        assert listed


def test_names_without_a_list_are_those_that_the_package_defines(pages):
    landscape = set(pages.public_names("cvxnn.landscape"))
    source = (ROOT / "src/cvxnn/landscape/__init__.py").read_text()
    assert landscape == set(re.findall(r"^from \S+ import \w+ as (\w+)$", source, re.MULTILINE))


def test_every_public_name_is_documented(pages):
    for module in pages.MODULES:
        for name in pages.public_names(module):
            value = getattr(importlib.import_module(module), name)
            known = inspect.isclass(value) or inspect.isroutine(value)
            text = inspect.getdoc(value) if known else pages.constant_text(module, name)
            assert (text or "").strip(), f"{module}.{name}"


def test_the_names_that_are_promised_are_in_the_reference(pages):
    """Names under which the package is used from outside, each in the module where it is looked for."""
    promised = {
        "cvxnn": "Problem ReLUNetwork solve ReLURegressor ReLUClassifier Solution Status ReLU GatedReLU BatchNormReLU "
        "ParallelReLU Polynomial",
        "cvxnn.patterns": "ActivationPatterns enumerate_patterns sample_patterns count_patterns",
        "cvxnn.landscape": "certify stationarity optimal_set staircase descent_path connect prune regularization_path "
        "NetworkPath dynamics",
        "cvxnn.interop": "from_torch to_torch judge_torch judge_sklearn from_onnx to_onnx load_network",
        "cvxnn.display": "GapDisplay LandscapeDisplay TwoNeuronDisplay ArrangementDisplay OptimalSetDisplay "
        "PathDisplay COLOURS",
    }
    for module, names in promised.items():
        assert set(names.split()) <= set(pages.public_names(module)), module


def test_parts_of_results_are_described(pages, tmp_path):
    """All networks that a solve may return, and what a solution holds."""
    pages.write_reference(tmp_path)
    page = (tmp_path / "parts.rst").read_text(encoding="utf-8")
    assert "   parts\n" in (tmp_path / "index.rst").read_text(encoding="utf-8")
    for kind in [*get_args(Network), History, Blocks]:
        described = f"{kind.__module__}.{kind.__name__}"
        assert kind.__name__ in pages.public_names("cvxnn") or f"   {described}\n" in page, described


def test_no_public_part_of_the_package_is_left_out(pages):
    """Modules that are not listed are the shell, the solvers, and those whose names the package itself offers."""
    inner = {"cli", "programs", "solvers", "estimators", "networks", "parallel_networks", "problem", "progress"}
    inner |= {"solution", "training"}
    package = ROOT / "src/cvxnn"
    found = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    public = {name for name in found if not name.startswith("_")} - inner
    assert {f"cvxnn.{name}" for name in public} == set(pages.MODULES) - {"cvxnn"}


def test_lessons_become_pages(pages, tmp_path):
    pages.write_lessons(ROOT / "lessons", tmp_path, draw=False)
    for notebook in (ROOT / "lessons").glob("*.ipynb"):
        text = (tmp_path / f"{notebook.stem}.md").read_text(encoding="utf-8")
        assert text.startswith("# ")
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            assert "".join(cell["source"]) in text
        assert f"   {notebook.stem}\n" in (tmp_path / "index.rst").read_text()


def test_pictures_of_a_lesson_are_drawn(pages, tmp_path):
    (tmp_path / "notebooks").mkdir()
    name = "3_patterns_and_arrangements"
    shutil.copy(ROOT / "lessons" / f"{name}.ipynb", tmp_path / "notebooks")
    pages.write_lessons(tmp_path / "notebooks", tmp_path / "made")
    pictures = list((tmp_path / "made").glob("*.png"))
    assert len(pictures) == 1 and pictures[0].read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "made" / f"{name}.md").read_text(encoding="utf-8")
    assert f"![second weight against first weight]({pictures[0].name})" in text


def test_pictures_of_the_front_page_are_made_by_examples():
    text = (DOCS / "index.rst").read_text(encoding="utf-8")
    shown = re.findall(r"gallery/images/sphx_glr_(\w+)_\d{3}\.png", text)
    assert shown
    assert all((ROOT / "examples" / f"{name}.py").is_file() for name in shown)


def test_every_page_is_in_a_list(pages, tmp_path):
    """Of the site and of the list that a git host shows."""
    readme = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        (tmp_path / page.name).touch()
        assert page.name == "README.md" or f"]({page.name})" in readme, page.name
    pages.write_guides(tmp_path)
    listed = re.findall(r"^   (\w+)$", (tmp_path / "guides.rst").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted([*(p.stem for p in DOCS.glob("*.md") if p.name != "README.md"), "benchmarks"])
    for page in (DOCS / "theorems").glob("*.md"):
        assert f"theorems/{page.name}" in readme, page.name
        assert f"theorems/{page.name}" in (DOCS / "theorems_and_code.md").read_text(encoding="utf-8"), page.name


def test_functions_of_the_table_of_theorems_exist():
    text = (DOCS / "theorems_and_code.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:landscape|patterns|splines|kernels|gan|programs)\.[\w.]+)`", text)
    assert len(named) > 15
    for name in named:
        module, _, function = f"cvxnn.{name}".rpartition(".")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_the_example_of_the_front_page():
    test = doctest.DocTestParser().get_doctest((DOCS / "index.rst").read_text(), {}, "index.rst", "index.rst", 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
