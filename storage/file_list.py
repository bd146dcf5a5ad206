"""The list of a component's files, as Parquet: path, bytes, crc32. A 30 TB version has a million of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
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


def write(path: Path, entries: Iterable[files.FileEntry]) -> None:
    """Write a list whole or not at all; the entries are taken as they come, a batch at a time."""
    partial = files.partial_path(path)
    rest = iter(entries)
    with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
        while batch := list(islice(rest, _BATCH)):
            writer.write_table(
                pa.table(
                    {
                        "path": [entry.path for entry in batch],
                        "bytes": [entry.bytes for entry in batch],
                        "crc32": [entry.crc32 for entry in batch],
                    },
                    schema=_SCHEMA,
                )
            )
    files.finish_partial(partial, path)


def read(root: Path, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    """The listed files, after the list itself has been checked."""
    if wrong := files.damage(root, entry):
        raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
    try:
        with pq.ParquetFile(files.inside(root, entry.path)) as file:
            if not file.schema_arrow.equals(_SCHEMA):
                raise errors.CorpusError(f"{entry.path} has other columns than a list of files")
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    yield files.FileEntry(**row)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as e:
        raise errors.CorpusError(f"{entry.path} is no list of files: {e}") from e
