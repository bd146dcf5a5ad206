"""HTML tags of a rendered page: what breaks a line, what shows nothing, what is left as it stands.

Every pass reads the page once. Elements that hide their content are paired by a stack for each name, never
by a pattern that looks ahead for the closing tag: of that, n unclosed tags would make n searches of the page.
"""

from __future__ import annotations

import re
from bisect import bisect_left

from pipeline.text.wikitext.markup import BREAK

_BLOCK = frozenset(
    """
        br hr p div blockquote center li ul ol dl dt dd tr td th table caption tbody thead tfoot
        poem h1 h2 h3 h4 h5 h6 article aside
    """.split()
)
_INLINE = frozenset(
    """
        a abbr b bdi bdo big cite code data del dfn em font i img ins kbd mark nobr noinclude nowiki
        onlyinclude includeonly q rb rp rt rtc ruby s samp score small source span strike strong sub
        sup syntaxhighlight time tt u var wbr ref references math chem ce gallery timeline pre hiero
        graph mapframe maplink imagemap inputbox templatedata templatestyles categorytree indicator
        translate tvar languages labeledsectiontransclusion langconvert label input form button col
        colgroup meta link ul section
    """.split()
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>])([^<>]*)>")
_HIDING = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_HEADING = re.compile(r"^=", re.MULTILINE)
_OPENED = re.compile(r"navcontent|collaps|toggle|spoiler", re.IGNORECASE)
_POWER = re.compile(r"(?<=[\d)])<sup>([+\-−]?\d+)</sup>", re.IGNORECASE)
_POEM = re.compile(r"<poem\b[^<>]*>([^<]*(?:<(?!/?poem)[^<]*)*)</poem\s*>", re.IGNORECASE)


def strip(text: str) -> str:
    """`text` without its tags: those of blocks become `BREAK`, unknown ones stay."""
    if "<" not in text:
        return text
    # A search for a plain word is many times as fast as one of a pattern without case.
    lowered = text.lower()
    if "<poem" in lowered:
        text = _POEM.sub(lambda found: found.group(1).replace("\n", BREAK), text)
    if "display" in lowered:
        text = _without_hidden(text)
    if "<sup>" in lowered:
        text = _POWER.sub(r"^\1", text)
    return _TAG.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    name = found.group(2).lower()
    if name in _BLOCK:
        return BREAK
    return "" if name in _INLINE else found.group()


def _hides(attributes: str) -> bool:
    """Whether an element shows nothing. A box that a reader opens by a click holds text as any other."""
    return _HIDING.search(attributes) is not None and _OPENED.search(attributes) is None


def _without_hidden(text: str) -> str:
    """`text` without the elements that `display: none` hides. One that is never closed hides nothing."""
    opened: dict[str, list[tuple[int, bool]]] = {}  # by name: where each starts, and whether it hides
    hidden: list[tuple[int, int]] = []
    for tag in _TAG.finditer(text):
        closing, name, attributes = tag.groups()
        stack = opened.setdefault(name.lower(), [])
        if not closing:
            if not attributes.endswith("/"):
                stack.append((tag.start(), _hides(attributes)))
        elif stack:
            start, hides = stack.pop()
            if hides:
                hidden.append((start, tag.end()))
    headings = [found.start() for found in _HEADING.finditer(text)] if hidden else []
    pieces: list[str] = []
    position = 0
    for start, end in sorted(hidden):
        # With a heading in it, it is a part of the article in a box of some other name.
        if start >= position and bisect_left(headings, start) == bisect_left(headings, end):
            pieces.append(text[position:start])
            position = end
    pieces.append(text[position:])
    return "".join(pieces)
