"""Text that comes from elsewhere, made fit to be stored: valid, and in one line a paragraph."""

from __future__ import annotations

import re

# Control characters but tab and newline, and the byte order mark. None of them is text, and NUL
# ends a string in half of the tools that will read it.
_DROPPED = dict.fromkeys(
    [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0), 0xFEFF, 0xFFFE, 0xFFFF]
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without control characters; lone surrogates become U+FFFD, so that UTF-8 holds it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_DROPPED)
    return _SURROGATE.sub("\ufffd", text)


def paragraphs(text: str) -> str:
    """`text` cleaned, its paragraphs separated by one newline, without blank lines."""
    lines = (line.rstrip(" \t").lstrip() for line in clean(text).split("\n"))
    return "\n".join(line for line in lines if line).strip()


def title(text: str) -> str:
    """`text` cleaned, in one line."""
    return " ".join(clean(text).split())
