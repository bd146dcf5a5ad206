"""Text that can be stored, and that every tokenizer takes."""

from __future__ import annotations

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def valid(text: str) -> str:
    """`text` with U+FFFD for each half of a pair of UTF-16, which JSON and Python let by as a character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
