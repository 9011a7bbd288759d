"""Sphinx settings: Markdown pages, gallery of ``examples/plot_*.py``, lessons, and reference of all public names."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import _pages  # noqa: E402

import cvxnn  # noqa: E402

project = "cvxnn"
author = "The cvxnn developers"
version = release = cvxnn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
]
exclude_patterns = ["_build", "README.md", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
templates_path = ["_templates"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc's sections say the types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(^|[/\\])(?!plot_)[^/\\]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "matplotlib_animations": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "cvxnn"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"index": []}
copyright = "the cvxnn developers, MIT licence"

_pages.write_guides(HERE)
_pages.write_reference(HERE / "api")
_pages.write_lessons(HERE.parent / "lessons", HERE / "lessons")


def _links_of_the_site(app: object, docname: str, source: list[str]) -> None:
    """Point links that leave this folder, which a plain git host follows, to the page of the site."""
    source[0] = source[0].replace("](../benchmarks/README.md", "](benchmarks.rst")


def setup(app: object) -> None:
    """Connect the change of links."""
    app.connect("source-read", _links_of_the_site)  # type: ignore[attr-defined]
