"""What KILT and plain JSON lines share: a line is an object, or says why it is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.text.articles import Page, Quarantined
from pipeline.text.sources import kinds, lines, plain
from pipeline.text.sources.base import Source, SourceError, Split, SplitProgress


class BadRecordError(ValueError):
    """Why a record is no article."""


@dataclass(frozen=True)
class JsonLines:
    """Files of one JSON object a line."""

    format: str
    files: tuple[Path, ...]

    def splits(self, split_bytes: int) -> list[Split]:
        """Byte ranges of about `split_bytes`; a compressed file is one split."""
        return [split for file in self.files for split in lines.split_file(self.format, file, split_bytes)]


def open_json(name: str, files: tuple[Path, ...], *, required: tuple[str, ...]) -> Source:
    """Check that the files' first lines are objects with the `required` keys.

    Raises:
        SourceError: a file is something else.
    """
    for file in files:
        line = lines.first_line(file)
        keys = ", ".join(required)
        if not line.lstrip().startswith(b"{"):
            raise SourceError(
                f"{file}: {kinds.describe(line or kinds.head_of(file))}, not JSON lines; "
                f"give a file with one object with {keys} a line"
            )
        try:
            record = json.loads(line)
        except ValueError:
            continue  # longer than was read, or one bad line: the reader says so with its place
        missing = [key for key in required if key not in record]
        if len(missing) == len(required):
            raise SourceError(
                f"{file}: its first line has {', '.join(map(repr, record)) or 'no keys'}, wanted "
                f"{keys}; is it another format than {name}?"
            )
    return JsonLines(name, files)


def read_json(
    split: Split, progress: SplitProgress, *, id_key: str, title_key: str, page_of: Callable[[Any], Page]
) -> Iterator[Page]:
    """A page for each line that starts in the split; blank lines are none.

    Args:
        id_key: the record's key of the page id, for the report about a bad record.
        title_key: the same for the title.
        page_of: makes a page of a record, or raises `BadRecordError`.

    Raises:
        SourceError: the last line is cut off (it has no newline and is no JSON).
    """
    for line in lines.read_lines(split, progress):
        if line.data is None:
            reason = f"line at byte {line.start:,} is longer than {lines.MAX_LINE_BYTES:,} bytes"
            yield Quarantined(page_id="", title="", reason=reason)
            continue
        data = line.data.removeprefix(b"\xef\xbb\xbf") if line.start == 0 else line.data
        if not data.strip():
            continue
        try:
            record = json.loads(data)
        except (ValueError, RecursionError) as error:
            if not line.ended:
                raise SourceError(
                    f"{split.path} is cut off: its last line, at byte {line.start:,}, has no newline "
                    "and is no JSON; finish its download"
                ) from error
            reason = f"line at byte {line.start:,} is no JSON: {plain.title(str(error))}"
            yield Quarantined(page_id="", title="", reason=reason)
            continue
        try:
            if not isinstance(record, dict):
                raise BadRecordError(f"it is no object but {type(record).__name__}")
            page = page_of(record)
        except BadRecordError as error:
            keys = record if isinstance(record, dict) else {}
            yield Quarantined(
                page_id=_shown(keys.get(id_key)),
                title=_shown(keys.get(title_key)),
                reason=f"line at byte {line.start:,}: {error}",
            )
            continue
        yield page


def _shown(value: object) -> str:
    return plain.title(str(value)) if isinstance(value, str | int) else ""


def identifier(record: dict[str, Any], key: str) -> str:
    """A record's id as a string; it may be written as a whole number."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and plain.title(value):
        return plain.title(value)
    raise BadRecordError(f"{key!r} is {_said(record, key)}, wanted a string or a whole number")


def string(record: dict[str, Any], key: str) -> str:
    """A record's string, or a reason why it is none."""
    value = record.get(key)
    if isinstance(value, str):
        return value
    raise BadRecordError(f"{key!r} is {_said(record, key)}, wanted a string")


def _said(record: dict[str, Any], key: str) -> str:
    if key not in record:
        return "missing"
    value = record[key]
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
