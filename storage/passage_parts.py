"""Parts of the passage table: Parquet files whose rows lie in order of passage id.

Columns: passage_id int64, passage_key 16 bytes, page_id string, title string, section list of string
(headings from the top down), ordinal int32 (place in the article), text string, words int32.

A part's footer holds, beside what Parquet has there, the length and the CRC-32 of each row group's bytes,
under the key `memcorpus:groups`. With them the CRC-32 of the whole file, which the card has, follows from the
footer alone. So a group can be read and trusted without the rest of the file.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage import errors, fields, files, ids

SCHEMA: Final = pa.schema(
    [
        pa.field("passage_id", pa.int64(), nullable=False),
        pa.field("passage_key", pa.binary(ids.KEY_BYTES), nullable=False),
        pa.field("page_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("section", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("words", pa.int32(), nullable=False),
    ]
)
# What a split's worker writes, before ids can be known.
UNNUMBERED: Final = pa.schema([field for field in SCHEMA if field.name != "passage_id"])
# Rows that jobs take together, about 1 MiB of text; no row group of any part has more.
ROW_GROUP: Final = 1024
# Rows that a reader of one passage decodes with it. With half as many files are 4 % larger and footers twice
# as long, for a fifth less time; with twice as many 5 % smaller, for twice the time
# (`benchmarks.row_groups`).
GROUP_ROWS: Final = 256
# Parquet's bounds of a row group's values, of columns that somebody may look for.
_BOUNDED: Final = ["passage_id", "page_id"]
MAGIC: Final = b"PAR1"
GROUPS: Final = b"memcorpus:groups"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One Parquet file: its first passage id, its rows, and its bytes' checksum."""

    file: files.FileEntry
    first_passage_id: int
    rows: int

    def to_json(self) -> dict[str, Any]:
        return {
            **self.file.to_json(),
            "first_passage_id": self.first_passage_id,
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, value: Any) -> Part:
        found = fields.Fields(value, "a part of the passages")
        return cls(
            file=files.FileEntry.from_fields(found),
            first_passage_id=found.integer("first_passage_id"),
            rows=found.integer("rows"),
        )


def part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


class _Summing:
    """A file for Arrow to write to, which sums what is written."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sums: list[tuple[int, int]] = []
        self._length = self._sum = 0

    def write(self, data: Any) -> int:
        self._file.write(data)
        self._length += len(data)
        self._sum = zlib.crc32(data, self._sum)
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Arrow's, of what it was given: the file goes on."""

    def cut(self) -> None:
        """The end of a piece."""
        self._sums.append((self._length, self._sum))
        self._length = self._sum = 0

    def groups(self) -> str:
        """Of all pieces but the first, which is the magic number: uint32 [n, 2], lengths and sums."""
        return base64.b64encode(np.array(self._sums[1:], "<u4").tobytes()).decode()


def write_part(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write one part, whole or not at all, a row group at a time. Returns its rows."""
    rows = 0
    bounded = [name for name in _BOUNDED if name in schema.names]
    with files.aside(path) as partial, partial.open("xb") as file:
        sink = _Summing(file)
        with pq.ParquetWriter(
            sink, schema, compression="zstd", write_page_checksum=True, write_statistics=bounded
        ) as writer:
            sink.cut()
            for batch in batches:
                for at in range(0, batch.num_rows, GROUP_ROWS):
                    writer.write_batch(batch.slice(at, GROUP_ROWS))
                    sink.cut()
                rows += batch.num_rows
            writer.add_key_value_metadata({GROUPS: sink.groups()})
    return rows


def groups_of(metadata: pq.FileMetaData) -> npt.NDArray[np.int64] | None:
    """Length and CRC-32 of each row group, int64 [n, 2], as the footer tells; None where it does not."""
    told = (metadata.metadata or {}).get(GROUPS)
    if told is None:
        return None
    try:
        found = np.frombuffer(base64.b64decode(told, validate=True), "<u4").reshape(-1, 2)
    except ValueError:
        return None
    return found.astype(np.int64) if len(found) == metadata.num_row_groups else None


def number_part(source: Path, target: Path, first_passage_id: int) -> int:
    """Copy a part that has no ids yet, giving its rows first_passage_id, +1, ... Returns its rows."""

    def numbered() -> Iterator[pa.RecordBatch]:
        at = first_passage_id
        with errors.reading(source), pq.ParquetFile(source, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROW_GROUP):
                column = pa.array(np.arange(at, at + batch.num_rows, dtype=np.int64))
                yield pa.RecordBatch.from_arrays([column, *batch.columns], schema=SCHEMA)
                at += batch.num_rows

    return write_part(target, SCHEMA, numbered())
