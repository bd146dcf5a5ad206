"""HTML character references as MediaWiki reads them: with their semicolon, or not at all."""

from __future__ import annotations

import re
from html.entities import html5

_REFERENCE = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")


def decode(text: str) -> str:
    """`text` with its references decoded once; unknown names and "&copy" stay as they stand."""
    return _REFERENCE.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return html5.get(name + ";", found.group())
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return "\ufffd"
    return " " if code < 0x20 or 0x7F <= code < 0xA0 else chr(code)
