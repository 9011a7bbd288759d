"""Every example on the pages of the documentation runs and prints what the page says; links and tests exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MADE = {"_build", "api", "gallery", "lessons"}  # folders that the build of the site fills
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if not MADE & set(p.relative_to(ROOT / "docs").parts))


def examples(page: Path) -> doctest.DocTest:
    # The fence that ends a block is not part of the expected output.
    text = page.read_text(encoding="utf-8").replace("```", "")
    return doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples(page):
    test = examples(page)
    if page.parent.name == "theorems":
        assert test.examples, "a theorem's page has a runnable example"
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for name in re.findall(r"`((?:src|tests|benchmarks|examples|docs)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
