"""The examples of the README run, and print what it says."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


EXAMPLES = re.findall(r"```python\n([^`]*)```\n\nprints\n\n```\n([^`]*)```", README.read_text(encoding="utf-8"))


def test_the_first_example_is_short():
    assert len(EXAMPLES) == 2
    assert len(EXAMPLES[0][0].splitlines()) <= 15


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["solve", "certify"])
def test_examples_print_what_the_readme_says(code, shown):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {})
    assert printed.getvalue() == shown


def test_doctests():
    # The fence that ends a block is not part of the expected output.
    text = README.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
