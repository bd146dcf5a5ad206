"""JSON lines that say what becomes of a page: `op` is "upsert" or "delete"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.text.articles import Dropped, Quarantined
from pipeline.text.sources import json_lines, jsonl, lines
from pipeline.text.sources.base import Source, SourceError, Split, SplitProgress

OP: Final = "op"
UPSERT: Final = "upsert"
DELETE: Final = "delete"

# op, page id, where the line is
Operation = tuple[str, str, str]


def operations(source: Source) -> Iterator[Operation] | None:
    """What each line of a source is to do; None where it is a dump.

    Raises while iterated:
        SourceError: a line without an "op", or one that cannot be read.
    """
    if source.format != jsonl.FORMAT or not any(map(_begins, source.files)):
        return None
    return (operation for file in source.files for operation in _of(file))


def _begins(file: Path) -> bool:
    """Has the first line an op?"""
    try:
        record = json.loads(lines.first_line(file))
    except ValueError:
        return False
    return isinstance(record, dict) and OP in record


def _of(file: Path) -> Iterator[Operation]:
    size = file.stat().st_size
    for split in lines.split_file(jsonl.FORMAT, file, max(1, size)):
        yield from _in(split)


def _in(split: Split) -> Iterator[Operation]:
    for line in lines.read_lines(split, SplitProgress(split.size_bytes)):
        where = f"{split.path}, line at byte {line.start:,}"
        if line.data is None:
            raise SourceError(f"{where} is longer than {lines.MAX_LINE_BYTES:,} bytes; shorten it")
        data = line.data.removeprefix(b"\xef\xbb\xbf") if line.start == 0 else line.data
        if not data.strip():
            continue
        try:
            record = json.loads(data)
            if not isinstance(record, dict) or record.get(OP) not in (UPSERT, DELETE):
                said = record.get(OP) if isinstance(record, dict) else type(record).__name__
                raise json_lines.BadRecordError(f'"op" is {said!r:.40}, wanted "{UPSERT}" or "{DELETE}"')
            page_id = json_lines.identifier(record, "id")
            if record[OP] == UPSERT and isinstance(jsonl.page(record), Dropped | Quarantined):
                raise json_lines.BadRecordError(f'page {page_id!r:.40} has no text; remove it by "{DELETE}"')
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{where}: {error}; no change was made") from error
        yield record[OP], page_id, where
