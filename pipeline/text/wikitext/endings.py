"""The sections at an article's end that are no prose, by what they hold, whatever they are called.

References are a template or a tag and nothing else, external links are items that are links out of the wiki,
"See also" is one list of links. All stand at the end. So sections are looked at from the last on, up to
the first that is anything else. Lists of links to the wiki's own pages are looked at only where the wiki's
names are not known, and one at most, since articles that are lists have them in every section.
"""

from __future__ import annotations

import re

from pipeline.text import apparatus

# On a heading: what is under it is no prose.
MARK = "\x1b"
_NOTHING = re.compile(
    r"\[\[[^\[\]:|]{1,60}+:[^\[\]]{0,300}+\]\]|<references\b[^<>]*>|</references\s*+>|__\w{1,30}?__"
)
_TEMPLATE = re.compile(r"\{\{[^{}]{0,300}+\}\}")
# An item that is a link out of the wiki, or a work that is cited, with a few words behind it.
_URL = r"(?:\[(?:https?:)?//[^\[\]]{1,500}+\]|https?://\S{1,500}+)"
_WORK = r"cite|cita|citation|citar|literatur|internetquelle|ouvrage|article|lien web"
_CITED = r"\{\{\s*+(?:" + _WORK + r")\b[^{}]{0,600}+\}\}"
_ITEM = r"[*#:]++[^\w\[{\n]{0,8}+"
_OUTWARD = re.compile(rf"{_ITEM}(?:{_URL}|{_CITED})[^\n]{{0,100}}+", re.IGNORECASE)
# On a wiki whose templates are not known, one that begins an item may be either.
_OUTWARD_UNKNOWN = re.compile(
    rf"{_ITEM}(?:{_URL}|\{{\{{[^{{}}]{{0,600}}+\}}\}}(?![^\n]*\[\[))[^\n]{{0,100}}+"
)
_INWARD = re.compile(
    r"[*#:]++[^\w\[\n]{0,8}+\[\[[^\[\]]{1,300}+\]\][^\w(]{0,8}+(?:\([^()]{0,60}+\))?[^\w(]{0,8}+"
)
_LABEL = re.compile(r";|'{2,5}[^']{1,60}'{2,5}:?$")  # ";Books", "'''Official'''"
_MOST = 0.75  # of the items, to be what the section holds


def mark(text: str, language: str) -> str:
    """`text` with `MARK` on the headings of such sections; what precedes the first heading is never one."""
    lines = text.split("\n")
    headings = [n for n, line in enumerate(lines) if line[:1] in "= \t" and _is_heading(line)]
    known = apparatus.knows(language)
    inward = marked = 0
    following = len(lines)
    for heading in reversed(headings):
        kind = _kind(lines[heading + 1 : following], known=known)
        named = apparatus.is_named(lines[heading].strip().strip("= \t"), language)
        inward += kind == "inward"
        if not named and (kind == "prose" or (kind == "inward" and (known or inward > 1))):
            break
        following = heading
        # By name it is judged later, with what it holds as plain text.
        if kind in ("outward", "inward") and not (named and kind == "inward"):
            marked += 1
            title = lines[heading].rstrip(" \t=")
            lines[heading] = title + MARK + lines[heading][len(title) :]
    return "\n".join(lines) if marked else text


def _is_heading(line: str) -> bool:
    line = line.strip()
    return line.startswith("=") and line.endswith("=") and line.strip("= ") != ""


def _kind(lines: list[str], *, known: bool) -> str:
    """What a section holds: nothing to read, links out of the wiki or into it, or prose."""
    outward = inward = others = 0
    pattern = _OUTWARD if known else _OUTWARD_UNKNOWN
    for line in lines:
        line = _NOTHING.sub("", line).strip()
        if not line or _TEMPLATE.fullmatch(line) or _LABEL.match(line):
            continue
        if pattern.fullmatch(line):
            outward += 1
        elif _INWARD.fullmatch(line):
            inward += 1
        elif line[0] in "*#:":
            others += 1
        else:
            return "prose"
    items = outward + inward + others
    if not items:
        return "nothing"
    if outward >= _MOST * items:
        return "outward"
    return "inward" if outward + inward >= _MOST * items and not others else "prose"
