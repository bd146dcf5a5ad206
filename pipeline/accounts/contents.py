"""What the files of a component hold, and how many bytes they take: sums over its card and its list.

No array and no part is opened, and lists of a million files are summed up by column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from storage import file_list
from storage.components import AnyComponent, Card
from storage.components.base import SHORT
from storage.files import FileEntry
from storage.folder import CorpusFolder

# What a component's files are that hold no data.
LISTS: Final = "cards and lists"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Files that hold the same thing, summed up.

    Attributes:
        part: a component's noun, "manifest" or "statistics".
        version: which component of that noun, where there may be several.
        codec: in what it is stored.
        content: what the files hold.
    """

    part: str
    version: str
    codec: str
    content: str
    files: int
    bytes: int


def summed(part: str, content: str, sizes: list[int], *, version: str = "", codec: str = "") -> Size:
    """Files of so many bytes each as one row."""
    return Size(part=part, version=version, codec=codec, content=content, files=len(sizes), bytes=sum(sizes))


def of_component(
    corpus: CorpusFolder, component: AnyComponent, name: str, card: Card, entry: FileEntry
) -> list[Size]:
    """One row for each content of a component, and one for its card, lists and metadata.

    Together they are all of its files.
    """
    version, codec = name[:SHORT], card.label
    rows: list[Size] = []
    rest_files, rest_bytes = 1, entry.bytes
    inside = {content.below: [0, 0] for content in card.contents if content.below}
    if card.listed is not None:
        corpus.ensure(card.listed)
        corpus.require_whole(card.listed)
        rest_files, rest_bytes = rest_files + 1, rest_bytes + card.listed.bytes
        for paths, listed in file_list.batches(corpus.path(card.listed.path), card.listed, ["path", "bytes"]):
            rest_files, rest_bytes = rest_files + len(listed), rest_bytes + _sum(listed)
            for below, counted in inside.items():
                found = pc.filter(listed, pc.starts_with(paths, below))
                counted[0] += len(found)
                counted[1] += _sum(found)
    rest_files += len(card.entries)
    rest_bytes += sum(entry.bytes for entry in card.entries)
    for content in card.contents:
        sizes = [entry.bytes for entry in content.entries]
        row = summed(component.noun, content.name, sizes, version=version, codec=codec)
        if content.below and card.listed is not None:
            count, total = inside[content.below]
            row = replace(row, files=count, bytes=total)
        rest_files, rest_bytes = rest_files - row.files, rest_bytes - row.bytes
        rows.append(row)
    lists = Size(
        part=component.noun,
        version=version,
        codec=codec,
        content=LISTS,
        files=rest_files,
        bytes=rest_bytes,
    )
    return [*rows, lists]


def merged(sizes: list[Size]) -> list[Size]:
    """Sizes of the same content in several segments, as one."""
    found: dict[tuple[str, str, str, str], Size] = {}
    for size in sizes:
        key = size.part, size.version, size.codec, size.content
        other = found.get(key)
        found[key] = (
            size
            if other is None
            else replace(size, files=size.files + other.files, bytes=size.bytes + other.bytes)
        )
    return list(found.values())


def _sum(sizes: pa.Array) -> int:
    return int(pc.sum(sizes).as_py() or 0)
