"""The rows of a tab-separated file that is quoted as Python's csv module writes it, or not at all.

Passages hold quotes of their own, and many a file is written without quoting them: so a quote that is
never closed must not swallow the rows behind it. A row is

1. the lines up to the one that closes the quotes which its first line opens, if to the csv module they
   are one row of as many fields as wanted, and no line but the first reads as the next row;
2. else one line. Its fields are those of the csv module, if they are as many as wanted, or else what
   stands between the tabs, quotes and all.

A file that the csv module wrote is read as it was written. Where a row ends is decided by the bytes from
its start on alone, so that a reader may begin at any row.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.text.sources.lines import Line

# A quote that is open for longer is text.
MAX_ROW_BYTES: Final = 1 << 20
_MAX_FIELD_CHARS: Final = 64 << 20
_NUMBER = re.compile(rb"[0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The lines of a row.

    `open` is True for a last row whose quote is open at the end of the file, if no line from its start on
    is a row on its own: such a file may have been longer.
    """

    lines: tuple[Line, ...]
    open: bool = False


def rows_of(lines: Iterator[Line], fields: int, *, to_end: bool) -> Iterator[Row]:
    """Part lines into rows.

    Args:
        lines: the first begins a row, and the last ends one.
        fields: how many fields a row has.
        to_end: whether they are the file's last lines.
    """
    # Process-wide, and only ever larger: the default of 128 KiB is less than a field may have.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))
    ahead: deque[Line] = deque()
    while (first := ahead.popleft() if ahead else next(lines, None)) is not None:
        if first.data is None or first.data.count(b'"') % 2 == 0:
            yield Row(lines=(first,))
            continue
        count, is_open = _continued(first, ahead, lines, fields)
        if is_open and not to_end:
            count, is_open = 0, False
        yield Row(lines=(first, *(ahead.popleft() for _ in range(count))), open=is_open)


def _continued(first: Line, ahead: deque[Line], lines: Iterator[Line], fields: int) -> tuple[int, bool]:
    """How many of the lines behind `first`, which opens a quote, are of its row; and `Row.open`."""
    row = [first]
    open_bytes = 0
    quotes = True
    for line in _peek(ahead, lines):
        if line.data is None or _is_next(first, line, fields):
            return 0, False
        row.append(line)
        open_bytes += len(line.data)
        if open_bytes > MAX_ROW_BYTES:
            return 0, False
        quotes ^= line.data.count(b'"') % 2 == 1
        if not quotes:
            return (len(row) - 1, False) if _quoted(row, fields) else (0, False)
    if any(_tabs(line) == fields - 1 for line in row):
        return 0, False
    return len(row) - 1, True


def _peek(ahead: deque[Line], lines: Iterator[Line]) -> Iterator[Line]:
    """The lines to come, of which those read from `lines` are put into `ahead`."""
    yield from tuple(ahead)
    for line in lines:
        ahead.append(line)
        yield line


def _is_next(first: Line, line: Line, fields: int) -> bool:
    """Whether `line` is a whole row whose id differs from that of the row `first` by its numbers alone."""
    if _tabs(line) != fields - 1:
        return False
    shapes = {_NUMBER.sub(b"0", (each.data or b"").split(b"\t", 1)[0]) for each in (first, line)}
    return len(shapes) == 1 and b"0" in shapes.pop()


def _tabs(line: Line) -> int:
    return (line.data or b"").count(b"\t")


def fields_of(row: Row, fields: int) -> list[str]:
    """The row's fields; their number is not `fields` where the row is a bad one."""
    first = row.lines[0]
    if len(row.lines) == 1 and b'"' not in (first.data or b""):
        return _text(first).split("\t")
    return _quoted(row.lines, fields) or "\n".join(map(_text, row.lines)).split("\t")


def _quoted(row: Sequence[Line], fields: int) -> list[str] | None:
    """The fields by the rules of quoting, if these make one row of `fields` fields of it."""
    try:
        rows = list(csv.reader((_text(line) + "\n" for line in row), delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 and len(rows[0]) == fields else None


def _text(line: Line) -> str:
    # The csv module takes a carriage return outside quotes for a row's end, and writes it unquoted.
    text = (line.data or b"").decode("utf-8", "replace").removesuffix("\r").replace("\r", " ")
    return text.removeprefix("\ufeff") if line.start == 0 else text
