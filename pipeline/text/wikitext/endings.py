"""The sections at an article's end that are no prose, by what they hold: for wikis whose names are not known.

References are a template or a tag and nothing else, external links are items that are links out of the wiki,
"See also" is one list of links. All stand at the end. So sections are looked at from the last on, up to
the first that is anything else; one list of links to the wiki's own pages at most, since articles
that are lists have them in every section.
"""

from __future__ import annotations

import re

# On a heading: what is under it is no prose.
MARK = "\x1b"
_NOTHING = re.compile(
    r"\[\[[^\[\]:|]{1,60}+:[^\[\]]{0,300}+\]\]|<references\b[^<>]*>|</references\s*+>|__\w{1,30}?__"
)
_TEMPLATE = re.compile(r"\{\{[^{}]{0,300}+\}\}")
# An item that is a link, with a few words behind it.
_OUTWARD = re.compile(
    r"[*#:]++[^\w\[{\n]{0,8}+(?:\[(?:https?:)?//[^\[\]]{1,500}+\]|https?://\S{1,500}+|\{\{[^{}]{0,300}+\}\})"
    r"[^\n]{0,100}+"
)
_INWARD = re.compile(
    r"[*#:]++[^\w\[\n]{0,8}+\[\[[^\[\]]{1,300}+\]\][^\w(]{0,8}+(?:\([^()]{0,60}+\))?[^\w(]{0,8}+"
)


def mark(text: str) -> str:
    """`text` with `MARK` on the headings of such sections; what precedes the first heading is never one."""
    lines = text.split("\n")
    headings = [number for number, line in enumerate(lines) if _is_heading(line)]
    inward = 0
    following = len(lines)
    for heading in reversed(headings):
        kind = _kind(lines[heading + 1 : following])
        inward += kind == "inward"
        if kind == "prose" or inward > 1:
            break
        title = lines[heading].rstrip(" \t=")
        lines[heading] = title + MARK + lines[heading][len(title) :]
        following = heading
    return "\n".join(lines)


def _is_heading(line: str) -> bool:
    line = line.strip()
    return line.startswith("=") and line.endswith("=") and line.strip("= ") != ""


def _kind(lines: list[str]) -> str:
    """What a section holds: nothing to read, links out of the wiki or into it, or prose."""
    kind = "nothing"
    for line in lines:
        line = _NOTHING.sub("", line).strip()
        if not line or _TEMPLATE.fullmatch(line):
            continue
        if _OUTWARD.fullmatch(line):
            kind = "outward" if kind == "nothing" else kind
        elif _INWARD.fullmatch(line):
            kind = "inward"
        else:
            return "prose"
    return kind
