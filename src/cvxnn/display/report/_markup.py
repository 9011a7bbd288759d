"""HTML that cannot be injected into: every text is escaped unless this module made it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html import escape

__all__ = ["Markup", "name", "page", "prose", "shown", "table", "tag"]

_VOID = frozenset({"meta", "circle", "rect", "line", "path", "polyline"})
_JOINERS = "\u200c\u200d"
_LONGEST = 60
_UNBROKEN = 12


class Markup(str):
    """Text that is HTML already. Only :func:`tag` and its like make it."""

    __slots__ = ()


def shown(text: str, longest: int | None = _LONGEST) -> str:
    r"""Text of strangers, fit to be seen: no control characters, no reversal of the direction, not too long.

    Control and format characters, halves of surrogate pairs and code points that are no characters are written as in
    Python's strings; the middle of a long text gives way to an ellipsis.

    Examples
    --------
    >>> shown("tab\there \u202eevil"), shown("x" * 100, 9)
    ('tab\\there \\u202eevil', 'xxxxxx…xx')
    """
    if longest is not None and len(text) > longest:
        end = (longest - 1) // 4
        text = f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"
    return "".join(_written(character) for character in text)


def _written(character: str) -> str:
    kind, code = unicodedata.category(character), ord(character)
    hidden = kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    if hidden or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def tag(element: str, *children: str, **attributes: str | float) -> Markup:
    """Element with children and attributes, all of them escaped but children of type :class:`Markup`.

    Underlines in the names of attributes stand for hyphens, one at the end for nothing.

    Examples
    --------
    >>> tag("p", "1 < 2 ", tag("em", "yes"), class_='"')
    '<p class="&quot;">1 &lt; 2 <em>yes</em></p>'
    """
    inside = "".join(child if isinstance(child, Markup) else escape(shown(child, None)) for child in children)
    pairs = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(shown(str(value), None))}"'
        for key, value in attributes.items()
    )
    closing = "/>" if element in _VOID else f">{inside}</{element}>"
    return Markup(f"<{element}{pairs}{closing}")


def name(text: str, longest: int = _LONGEST) -> Markup:
    """Name or label from the data, apart from the direction of the text around it.

    Examples
    --------
    >>> name("<b>")
    '<bdi>&lt;b&gt;</bdi>'
    """
    seen = shown(text if text.strip() else f"“{text}”", longest)
    # Words of this length may be broken anywhere, lest a table be wider than a phone.
    return tag("bdi", seen, class_="long") if len(seen) > _UNBROKEN else tag("bdi", seen)


def prose(element: str, text: str) -> Markup:
    """Sentences of ours in an element; options of the command do not break over lines.

    Examples
    --------
    >>> prose("p", "Use --certify SECONDS.")
    '<p>Use <code>--certify SECONDS</code>.</p>'
    """
    # Every second piece is an option.
    pieces = re.split(r"(--[a-z][a-z-]*(?: SECONDS)?)", text)
    return tag(element, *(tag("code", piece) if k % 2 else piece for k, piece in enumerate(pieces)))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> Markup:
    """Table whose first column names the rows; the columns ``numbers`` are set to the right.

    Without a head it lists properties.

    Examples
    --------
    >>> table("Sizes", [], [["width", "3"]])  # doctest: +ELLIPSIS
    '<div class="table"><table><caption>Sizes</caption><tbody><tr><th scope="row">width</th><td>3</td>...'
    """

    def cell(position: int, content: str) -> Markup:
        style = {"class_": "number"} if position in numbers else {}
        return tag("th", content, scope="row", **style) if position == 0 else tag("td", content, **style)

    top = [
        tag("th", title, scope="col", **({"class_": "number"} if position in numbers else {}))
        for position, title in enumerate(head)
    ]
    body = [tag("tr", *(cell(position, content) for position, content in enumerate(row))) for row in rows]
    parts = [tag("caption", caption), *([tag("thead", tag("tr", *top))] if top else []), tag("tbody", *body)]
    return tag("div", tag("table", *parts), class_="table")


def page(title: str, style: str, policy: str, *body: Markup) -> str:
    """Whole document in English with one style sheet; ``policy`` is its content security policy.

    Examples
    --------
    >>> page("T", "", "default-src 'none'", tag("p", "x")).splitlines()[0]
    '<!DOCTYPE html>'
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # A style sheet of our own: its characters stand for themselves in this element.
        Markup(f"<style>{style}</style>"),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', *body), lang='en')}\n"
