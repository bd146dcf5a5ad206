"""The list of a component's files, as Parquet: path, bytes, crc32. A 30 TB version has a million of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from storage import errors, files

NAME: Final = "files.parquet"
_SCHEMA: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
    ]
)
_BATCH: Final = 65536


class Writer:
    """Writes a list whole or not at all; entries are taken as they come, a batch in memory at a time."""

    def __init__(self, path: Path) -> None:
        self._open = ExitStack()
        partial = self._open.enter_context(files.aside(path))
        self._writer = self._open.enter_context(pq.ParquetWriter(partial, _SCHEMA, compression="zstd"))
        self._batch: list[files.FileEntry] = []

    def add(self, entry: files.FileEntry) -> None:
        self._batch.append(entry)
        if len(self._batch) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = {name: [getattr(entry, name) for entry in self._batch] for name in _SCHEMA.names}
        with self._open.pop_all() as opened:  # if it fails, what is written is taken away
            self._writer.write_table(pa.table(columns, schema=_SCHEMA))
            self._open = opened.pop_all()
        self._batch.clear()

    def close(self) -> None:
        """All is added: put the list in place."""
        if self._batch:
            self._flush()
        self._open.close()


def read(path: Path, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    """The listed files; `entry` is the list's own, against which it has been checked."""
    for batch in batches(path, entry, _SCHEMA.names):
        yield from _entries(batch, entry)


def between(path: Path, entry: files.FileEntry, first: int, stop: int) -> Iterator[files.FileEntry]:
    """As `read`, of the rows from `first` to `stop`; what lies before them is not decoded."""
    skipped, at = 0, first
    with _opened(path, entry) as file:
        groups: list[int] = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skipped + rows <= first and not groups:
                skipped += rows
                continue
            groups.append(group)
            if skipped + sum(file.metadata.row_group(g).num_rows for g in groups) >= stop:
                break
        at = skipped
        for batch in file.iter_batches(_BATCH, columns=_SCHEMA.names, row_groups=groups):
            low, high = max(first - at, 0), min(stop - at, len(batch))
            at += len(batch)
            if low < high:
                yield from _entries(batch.slice(low, high - low), entry)
            if at >= stop:
                return


def totals(path: Path, entry: files.FileEntry) -> tuple[int, int]:
    """How many files are listed, and how many bytes they have."""
    rows = size = 0
    for batch in batches(path, entry, ["bytes"]):
        rows += len(batch)
        size += int(batch.column(0).to_numpy().sum())
    return rows, size


def _entries(batch: pa.RecordBatch, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as e:
        raise errors.CorpusError(f"{entry.path} is no list of files: {e}") from e
    for row in rows:
        yield files.FileEntry(**row)


def batches(path: Path, entry: files.FileEntry, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of the list, a part at a time.

    Raises:
        CorpusError: it is none.
        UnreadableError: it cannot be read.
    """
    with _opened(path, entry) as file:
        yield from file.iter_batches(_BATCH, columns=columns)


@contextmanager
def _opened(path: Path, entry: files.FileEntry) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_SCHEMA):
                raise errors.CorpusError(f"{entry.path} has other columns than a list of files")
            yield file
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, OSError) and e.errno is not None:  # Arrow's own of what it reads have no number
            raise errors.from_os(entry.path, e) from e
        raise errors.CorpusError(f"{entry.path} is no list of files: {e}") from e
