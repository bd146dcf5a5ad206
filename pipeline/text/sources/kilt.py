"""KILT's knowledge source, `kilt_knowledgesource.json`: JSON lines of 5.9 M Wikipedia pages.

`text` is a list of paragraphs. The first is the title; "Section::::A.:B." is a heading with its
path, "BULLET::::- " marks a list item (facebookresearch/KILT, README).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.text import apparatus
from pipeline.text.articles import EMPTY, Article, Dropped, Page, Section
from pipeline.text.sources import json_lines, plain
from pipeline.text.sources.base import Source, Split, SplitProgress

FORMAT = "kilt"
PATTERNS = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz", "*.json.bz2", "*.jsonl.bz2")

_HEADING = "Section::::"
_ITEM = "BULLET::::"
_BULLET = re.compile(r"BULLET::::[-*#:; ]*")
# "Works.:Books." has a point at the end of every heading; "Works:Books." only at the last. A colon
# with a space after it is a heading's own ("Part 2: the return").
_NESTED = ".:"
_COLON = re.compile(r":(?!\s)")


def open_files(files: tuple[Path, ...]) -> Source:
    """See `base.open_source`."""
    required = ("wikipedia_id", "wikipedia_title", "text")
    return json_lines.open_json(FORMAT, files, required=required)


def read(split: Split, progress: SplitProgress) -> Iterator[Page]:
    """The articles whose lines start in the split; see `json_lines.read_json`."""
    return json_lines.read_json(
        split, progress, id_key="wikipedia_id", title_key="wikipedia_title", page_of=_page
    )


def _page(record: dict[str, Any]) -> Page:
    key = "wikipedia_id" if "wikipedia_id" in record else "_id"
    page_id = json_lines.identifier(record, key)
    title = plain.title(json_lines.string(record, "wikipedia_title"))
    sections = tuple(_sections(record.get("text"), title))
    if not sections:
        return Dropped(reason=EMPTY)
    return Article(page_id=page_id, title=title, sections=sections)


def _sections(text: object, title: str) -> Iterator[Section]:
    if not isinstance(text, list) or not all(isinstance(part, str) for part in text):
        raise json_lines.BadRecordError("'text' is no list of strings")
    path: tuple[str, ...] = ()
    paragraphs: list[str] = []
    listed: list[bool] = []  # whether each of them is an item of a list

    def section() -> Iterator[Section]:
        if paragraphs:
            prose = not apparatus.is_apparatus(path, "en", paragraphs, listed)
            yield Section(path=path, text="\n".join(paragraphs), prose=prose)

    for number, part in enumerate(text):
        paragraph = plain.paragraphs(part)
        if number == 0 and paragraph == title:
            continue
        if paragraph.startswith(_HEADING):
            yield from section()
            path, paragraphs, listed = heading_path(paragraph), [], []
        elif shown := _BULLET.sub("", paragraph).strip():
            listed.append(paragraph.startswith(_ITEM))
            paragraphs.append(shown)
    yield from section()


def heading_path(paragraph: str) -> tuple[str, ...]:
    """ "Section::::Works.:Books." as ("Works", "Books")."""
    text = paragraph.removeprefix(_HEADING).strip().removesuffix(".")
    parts = text.split(_NESTED) if _NESTED in text else _COLON.split(text)
    return tuple(part.strip() for part in parts if part.strip())
