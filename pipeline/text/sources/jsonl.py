"""JSON lines of anybody's making: `{"id": …, "title": …, "text": …}`.

`id` is a string or a whole number; `text` holds paragraphs separated by newlines. An optional
`sections`, a list of `{"path": [headings], "text": …}`, replaces `text`; an optional `url` tells the language
of a Wikipedia, for the names of its sections that are no prose. Plain, .gz or .bz2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.text import apparatus, words
from pipeline.text.articles import DELETED, EMPTY, Article, Dropped, Page, Section
from pipeline.text.sources import json_lines, plain
from pipeline.text.sources.base import Source, Split, SplitProgress

FORMAT = "jsonl"
PATTERNS = ("*.jsonl", "*.jsonl.gz", "*.jsonl.bz2", "*.ndjson")


def open_files(files: tuple[Path, ...]) -> Source:
    """See `base.open_source`."""
    return json_lines.open_json(FORMAT, files, required=("id", "title", "text"))


def read(split: Split, progress: SplitProgress) -> Iterator[Page]:
    """The articles whose lines start in the split; see `json_lines.read_json`."""
    return json_lines.read_json(split, progress, id_key="id", title_key="title", page_of=page)


def page(record: dict[str, Any]) -> Page:
    """The page of a record.

    Raises:
        BadRecordError: it is none.
    """
    page_id = json_lines.identifier(record, "id")
    if record.get("op") == "delete":  # of a list of changes; see `changed`
        return Dropped(reason=DELETED)
    title = plain.title(json_lines.string(record, "title"))
    language = plain.language_of(record.get("url"))
    if record.get("sections") is not None:
        sections = tuple(_sections(record["sections"], language))
    else:
        sections = plain.sections(json_lines.string(record, "text"), language)
    if not sections:
        return Dropped(reason=EMPTY)
    return Article(page_id=page_id, title=title, sections=sections)


def _sections(value: object, language: str) -> Iterator[Section]:
    if not isinstance(value, list):
        raise json_lines.BadRecordError("'sections' is no list")
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), list):
            raise json_lines.BadRecordError("'sections' has an entry that is no {path: [], text}")
        path = tuple(plain.title(str(heading)) for heading in entry["path"])
        if text := plain.paragraphs(json_lines.string(entry, "text")):
            lines = text.split("\n")
            # Nothing tells an item of a list from a paragraph but the end of a sentence.
            listed = [not words.ends_sentence(line.split()[-1]) for line in lines]
            yield Section(
                path=path, text=text, prose=not apparatus.is_apparatus(path, language, lines, listed)
            )
