"""Passages of an update, compared by what they say: a key of each, there or just read.

A key is 16 bytes, whatever the passage; it stands in a file beside the unit's receipt, with another of its
page. So tens of millions are compared without an object for any of them; see `compare`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow.parquet as pq

from pipeline.components.passages import read
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import errors, files, ids, passage_table
from storage.folder import CorpusFolder
from storage.passage_table import Part
from storage.receipts import Counts, Receipt
from storage.work_folder import WorkFolder

_KEYS: Final = ".keys"
_PAGES: Final = ".pages"
_COLUMNS: Final = ["page_id", "title", "section", "ordinal", "text"]

# page id, title, section path, ordinal, text
Row: TypeAlias = tuple[str, str, list[str], int, str]


@dataclass(frozen=True, kw_only=True)
class KeyCounts(Counts):
    """Passages that have a key."""

    passages: int = 0


OLD: Final = Stage(name="old-keys", title="key old passages", counts=KeyCounts, measure="passages")
NEW: Final = Stage(name="new-keys", title="key new passages", counts=KeyCounts, measure="passages")


def keys_path(work: WorkFolder, stage: Stage[KeyCounts], unit: int) -> Path:
    """The keys of a unit's passages, 16 bytes each, in order."""
    return work.side_file(stage.name, unit, _KEYS)


def pages_path(work: WorkFolder, stage: Stage[KeyCounts], unit: int) -> Path:
    """The keys of their pages, likewise."""
    return work.side_file(stage.name, unit, _PAGES)


def page_key(page_id: str) -> bytes:
    """BLAKE2b-128 of a page's id."""
    return hashlib.blake2b(page_id.encode(), digest_size=ids.KEY_BYTES).digest()


def passage_keys(rows: Iterable[Row], *, by_document: bool) -> Iterator[bytes]:
    """The key of each passage.

    Args:
        rows: passages in order.
        by_document: a passage is the same only where its whole document is. So it is with chunks: they follow
            each other, and what changes in one moves the borders of all behind it.
    """
    if not by_document:
        for page_id, title, section, _, text in rows:
            yield ids.content_key(page_id, title, section, text)
        return
    document: list[Row] = []
    for row in rows:
        if row[3] == 0:
            yield from _document_keys(document)
            document = []
        document.append(row)
    yield from _document_keys(document)


def _document_keys(document: list[Row]) -> Iterator[bytes]:
    if not document:
        return
    digest = hashlib.blake2b(digest_size=ids.KEY_BYTES)
    for page_id, title, section, _, text in document:
        digest.update(ids.content_key(page_id, title, section, text))
    for page_id, title, _, ordinal, _ in document:
        yield ids.content_key(page_id, title, (str(ordinal),), digest.hexdigest())


@dataclass(frozen=True, kw_only=True)
class KeyPassages:
    """Writes the keys of the passages of Parquet files.

    Attributes:
        corpus: in whose work folder they go.
        stage: `OLD` or `NEW`.
        by_document: see `passage_keys`.
        source: of `OLD`, the folder that holds `parts`; of `NEW`, the parts are those that splits left in
            `corpus`'s work.
    """

    corpus: CorpusFolder
    stage: Stage[KeyCounts]
    by_document: bool
    source: CorpusFolder | None = None
    parts: tuple[Part, ...] = ()

    def run(self, unit: int, meter: Meter) -> Receipt[KeyCounts]:
        work = self.corpus.work
        if self.source is None:
            path = read.unnumbered_path(work, unit)
        else:
            entry = self.parts[unit].file
            self.source.require_whole(entry)
            path = self.source.path(entry.path)
        keys, pages = bytearray(), bytearray()
        known: dict[str, bytes] = {}

        def rows() -> Iterator[Row]:
            with errors.reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(passage_table.ROW_GROUP, columns=_COLUMNS):
                    columns = [batch.column(name).to_pylist() for name in _COLUMNS]
                    known.clear()
                    for row in zip(*columns, strict=True):
                        page_id = row[0]
                        if page_id not in known:
                            known[page_id] = page_key(page_id)
                        pages.extend(known[page_id])
                        yield row

        with meter.time("reading"):
            for key in passage_keys(rows(), by_document=self.by_document):
                keys.extend(key)
        meter.count("passages", len(keys) // ids.KEY_BYTES)
        written = []
        with meter.time("writing"):
            for target, data in (
                (keys_path(work, self.stage, unit), keys),
                (pages_path(work, self.stage, unit), pages),
            ):
                files.write_atomic(target, bytes(data))
                written.append(self.corpus.entry(target))
        return Receipt(
            unit=unit,
            files=tuple(written),
            counts=KeyCounts(passages=len(keys) // ids.KEY_BYTES),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )
