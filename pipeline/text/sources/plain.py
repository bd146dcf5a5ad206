"""Text that comes from elsewhere, made fit to be stored: valid, and in one line a paragraph."""

from __future__ import annotations

import re

from pipeline.text import apparatus
from pipeline.text.articles import Section
from storage import texts

# Control characters that part lines for Python (form feed, NEL, ...), and Unicode's own two; the one that
# parts words: dropped, they would join what they part.
_REPLACED = {
    **dict.fromkeys((0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029), "\n"),
    0x1F: " ",
    # The others but tab and newline, and the byte order mark. None of them is text, and NUL ends a string
    # in half of the tools that will read it.
    **dict.fromkeys([*range(9), *range(0x0E, 0x1C), *range(0x7F, 0x85), *range(0x86, 0xA0)]),
    **dict.fromkeys((0xFEFF, 0xFFFE, 0xFFFF)),
}
_WIKI = re.compile(r"(?:https?:)?//([a-z\-]{2,20})\.(?:m\.)?wikipedia\.org/")


def clean(text: str) -> str:
    """`text` without control characters but newlines and tabs; lone surrogates become U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_REPLACED)
    return texts.valid(text)


def paragraphs(text: str) -> str:
    """`text` cleaned, its paragraphs separated by one newline, without blank lines."""
    lines = (line.rstrip(" \t").lstrip() for line in clean(text).split("\n"))
    return "\n".join(line for line in lines if line).strip()


def title(text: str) -> str:
    """`text` cleaned, in one line."""
    return " ".join(clean(text).split())


def language_of(url: object) -> str:
    """The language of the Wikipedia that an address is of: "https://de.wikipedia.org/wiki/Ulm"."""
    found = _WIKI.match(url) if isinstance(url, str) else None
    return found.group(1) if found else apparatus.UNKNOWN


def sections(text: str, language: str) -> tuple[Section, ...]:
    """A text without marks as sections without a path: what may be prose, and the end that is none.

    Headings are lines like others here, and stay where they are.

    Args:
        text: paragraphs separated by newlines.
        language: of the text; `apparatus.UNKNOWN` where nothing tells it.
    """
    lines = paragraphs(text).split("\n")
    tail = apparatus.tail_of(lines, language)
    parts = (("\n".join(lines[:tail]), True), ("\n".join(lines[tail:]), False))
    return tuple(Section(path=(), text=part, prose=prose) for part, prose in parts if part)
