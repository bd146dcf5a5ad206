"""Rows of tables whose start or end was a template: no prose. Other lines that begin with "|" or "!" are.

In MediaWiki a row is one where a table is open. Tables that open and close in the page itself are gone when
this looks at it, so what is left of tables shows by its own marks ("|-", "|}"), or by templates around it.
"""

from __future__ import annotations

import re
from itertools import groupby

from pipeline.text.wikitext.markup import HOLE

_ANY = re.compile(r"\n[ \t]*+[|!{]")
# "|-" and "|-5| = 5": a mark is alone on its line, or has attributes.
_MARK = re.compile(r"\|-++\s*+(?:\Z|\w[\w\-]*+\s*+=)|\|\}|\|\+(?!\d)|\{\||![^|]*scope\s*+=")
_END = "|}"
_PARAMETER = re.compile(r"\|\s*+\w[\w \-]{0,40}=")
_PARTED = re.compile(r"\S\s*(?:\|\||!!)\s")


def strip(text: str) -> str:
    """`text` with a blank line for each row."""
    if _ANY.search(text) is None and not text.lstrip().startswith(("|", "!", "{|")):
        return text
    lines = text.split("\n")
    shapes = [_shape(line) for line in lines]
    opened = False  # a mark was seen, and no end
    index = 0
    for shape, run in groupby(shapes):
        start, index = index, index + len(list(run))
        after = shapes[index] if index < len(shapes) else "blank"
        if shape == "heading" or (shape == "blank" and after != "row"):
            opened = False
        elif shape == "row":
            rows = [line.strip() for line in lines[start:index]]
            marks = [row for row in rows if _MARK.match(row)]
            between_templates = start > 0 and shapes[start - 1] == after == "hole"
            if (
                opened
                or marks
                or (between_templates and (len(rows) > 1 or _PARTED.search(rows[0])))
                or _are_parameters(rows, lines[index] if index < len(lines) else "")
            ):
                lines[start:index] = [""] * len(rows)
            if marks:
                opened = not marks[-1].startswith(_END)
    return "\n".join(lines)


def _shape(line: str) -> str:
    stripped = line.strip()
    if not stripped:
        return "blank"
    if not stripped.strip(HOLE + " "):
        return "hole"
    if stripped[0] in "|!" or stripped.startswith("{|"):
        return "row"
    return "heading" if stripped[0] == "=" else "text"


def _are_parameters(rows: list[str], after: str) -> bool:
    """Whether the lines are a template's whose braces were lost: "| name = value"."""
    return all(map(_PARAMETER.match, rows)) and (len(rows) > 1 or after.lstrip().startswith("}}"))
