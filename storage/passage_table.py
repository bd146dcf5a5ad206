"""The passage table: Parquet parts whose rows lie in order of passage id.

Columns: passage_id int64, passage_key 16 bytes, page_id string, title string, section list of string
(headings from the top down), ordinal int32 (place in the article), text string, words int32.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage import descriptors, errors, fields, files, ids
from storage.thread_locks import ThreadLock

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
# Rows read and decoded together: about 1 MiB of text.
ROW_GROUP: Final = 1024
# Parts a reader keeps open: each has its footer in memory, and a file of `descriptors`' budget.
OPEN_PARTS: Final = 32


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


def write_part(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Write one part, whole or not at all, a row group at a time. Returns its rows."""
    rows = 0
    with (
        files.aside(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch, row_group_size=ROW_GROUP)
            rows += batch.num_rows
    return rows


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


class _OpenPart(descriptors.Kept):
    """A part that is open, and the first row of each of its row groups."""

    __slots__ = ("file", "firsts")

    def __init__(self, part: Part, path: Path) -> None:
        """
        Raises:
            DamagedError: it is no Parquet file, or not of these rows.
            UnreadableError: it cannot be opened.
        """
        super().__init__()
        try:
            self.file = pq.ParquetFile(path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as e:
            raise _failure(part, e) from e
        groups = [self.file.metadata.row_group(g).num_rows for g in range(self.file.num_row_groups)]
        self.firsts: npt.NDArray[np.int64] = np.array(ids.first_ids(groups), np.int64)
        if self.firsts[-1] != part.rows or not self.file.schema_arrow.equals(SCHEMA):
            raise errors.DamagedError(
                f"{part.file.path} has {self.firsts[-1]} rows of {len(self.file.schema_arrow)} columns, "
                f"wanted {part.rows} of {SCHEMA.names}"
            )
        # A few bytes of Parquet can stand for any number of equal rows, and a group is read whole.
        if max(groups) > ROW_GROUP:
            raise errors.CorpusError(
                f"{part.file.path} has a row group of {max(groups):,} rows, wanted up to {ROW_GROUP:,}"
            )

    def __del__(self) -> None:
        if (file := getattr(self, "file", None)) is not None:
            with contextlib.suppress(OSError):  # as `descriptors.OpenFile`
                file.close()


def _failure(part: Part, error: OSError | pa.ArrowException) -> errors.DamagedError | errors.UnreadableError:
    """Arrow raises OSError of bytes that make no sense too, but then without the system's number."""
    if isinstance(error, OSError) and error.errno is not None:
        return errors.from_os(part.file.path, error)
    return errors.DamagedError(f"{part.file.path} is no Parquet file, or was changed: {error}")


class PassageTable:
    """Reads passages by id. A part's checksum is verified when a process first opens it. Thread-safe."""

    def __init__(
        self,
        root: Path,
        parts: Sequence[Part],
        *,
        ensure: Callable[[files.FileEntry], None] | None = None,
    ) -> None:
        """`root` is the corpus folder, `parts` all parts in order of passage id.

        `ensure` is called before a part is first opened, where it may have to be brought there.
        """
        wanted = ids.first_ids(part.rows for part in parts)
        for part, first in zip(parts, wanted, strict=False):
            if part.first_passage_id != first or part.rows < 1:
                raise errors.CorpusError(
                    f"{part.file.path} claims {part.rows} rows from passage "
                    f"{part.first_passage_id}, wanted 1 or more from {first}"
                )
        self.root = root
        self._ensure = ensure
        self.parts = tuple(parts)
        self._firsts = np.array(wanted, np.int64)
        self._open = descriptors.Home()
        self._owner = os.getpid()
        self._checked: set[int] = set()
        self._lock = ThreadLock()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def _part(self, number: int) -> _OpenPart:
        """A part, open. Under the lock."""
        if self._owner != os.getpid():
            # Forked, maybe while another thread was in the middle of one of these.
            self._open.clear()
            self._owner = os.getpid()
        known: _OpenPart | None = self._open.get(number)
        if known is not None:
            known.used = descriptors.tick()
            return known
        part = self.parts[number]
        if number not in self._checked:
            if self._ensure is not None:
                self._ensure(part.file)
            if wrong := files.damage(self.root, part.file):
                raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
            self._checked.add(number)
        path = files.inside(self.root, part.file.path)
        while len(self._open) >= OPEN_PARTS:
            oldest = min(self._open, key=lambda number: self._open[number].used)
            del self._open[oldest]
        return descriptors.OPEN.open(self._open, number, lambda: _OpenPart(part, path))

    def take(self, wanted: npt.ArrayLike, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Passages by id, in the order asked, duplicates allowed.

        Args:
            wanted: ids [k].
            columns: those to read; None: all.

        Raises:
            UnknownPassageError: naming ids that are not there.
            DamagedError: a part's bytes do not match its checksum.
            UnreadableError: a part cannot be read.
        """
        rows = ids.as_ids(wanted, len(self))
        if rows.size == 0:
            return SCHEMA.empty_table() if columns is None else SCHEMA.empty_table().select(list(columns))
        unique, back = np.unique(rows, return_inverse=True)
        return pa.concat_tables(self._sorted_rows(unique, columns)).combine_chunks().take(pa.array(back))

    def first_of(
        self,
        keys: Sequence[str],
        are_there: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None = None,
    ) -> npt.NDArray[np.int64]:
        """The first passage of each page [k], by the page's id or the key it was written under; -1: none.

        `are_there` tells of passages [n] which may be found; None: all.

        Reads the column of all passages, a row group at a time: a few seconds for 36 million.

        Args:
            keys: of the pages.
            are_there: which of some ids an update did not remove; None: all are there.

        Raises:
            DamagedError, UnreadableError: as `take`.
        """
        import pyarrow.compute as pc  # 50 ms, which no other reading needs

        wanted = pa.array(dict.fromkeys(keys), pa.string())
        found = np.full(len(wanted), -1, np.int64)
        for number in range(len(self.parts) if len(wanted) else 0):
            with self._lock:
                part = self._part(number)
                for group in range(part.file.num_row_groups):
                    try:
                        column = part.file.read_row_group(group, columns=["page_id"]).column(0)
                    except (OSError, pa.ArrowException) as e:
                        raise _failure(self.parts[number], e) from e
                    places = pc.index_in(column, wanted).to_numpy(zero_copy_only=False)
                    rows = np.flatnonzero(~np.isnan(places.astype(np.float64)))[::-1]
                    first = self._firsts[number] + part.firsts[group]
                    if are_there is not None:
                        rows = rows[are_there(first + rows)]
                    here = np.full(len(wanted), -1, np.int64)
                    here[places[rows].astype(np.int64)] = first + rows
                    found = np.where(found < 0, here, found)
        places = pc.index_in(pa.array(keys, pa.string()), wanted).to_numpy(zero_copy_only=False)
        return found[places.astype(np.int64)] if len(wanted) else found

    def _sorted_rows(
        self, unique: npt.NDArray[np.int64], columns: Sequence[str] | None
    ) -> Iterator[pa.Table]:
        """Rows of ascending ids, row group by row group, each read once."""
        part_of = np.searchsorted(self._firsts, unique, side="right") - 1
        for number in np.unique(part_of):
            local = unique[part_of == number] - self._firsts[number]
            with self._lock:
                part = self._part(int(number))
                group_of = np.searchsorted(part.firsts, local, side="right") - 1
                for group in np.unique(group_of):
                    try:
                        table = part.file.read_row_group(int(group), columns=columns)
                    except (OSError, pa.ArrowException) as e:  # changed since its checksum was verified
                        raise _failure(self.parts[number], e) from e
                    yield table.take(pa.array(local[group_of == group] - part.firsts[group]))

    def read(self, first: int, stop: int) -> pa.Table:
        """Passages first to stop."""
        return self.take(np.arange(first, stop, dtype=np.int64))
