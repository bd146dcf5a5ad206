"""The files of a memory version on a local disk, open for reading by exact byte ranges.

Chunks are stored uncompressed, so that a passage's rows go from the file straight to where the caller
wants them, and nothing else is read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import (
    components,
    descriptors,
    errors,
    files,
    locks,
    memory_store,
    remote,
    shard_files,
    zarr_arrays,
)
from storage.components import MemoryCard
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout
from storage.thread_locks import ThreadLock

# Shards whose rows are remembered: 8 bytes a passage and half a kilobyte a shard.
KNOWN_PASSAGES: Final = 1 << 25
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

# Rows of a shard, from and to, and where they go.
Span = tuple[int, int, memoryview]


class Rows:
    """Where the passages of one shard lie. `starts[j]` to `starts[j + 1]` are the rows of the j-th."""

    __slots__ = ("checksums", "starts")

    def __init__(self, offsets: bytes, checksums: bytes) -> None:
        # Views of plain integers: reading one of them is several times faster than NumPy's scalars.
        self.starts: memoryview = np.frombuffer(offsets, "<u4").astype(np.uint32).data
        self.checksums: memoryview = np.frombuffer(checksums, "<u4").astype(np.uint32).data


class MemoryFiles:
    """Reads the rows of passages of one version. Thread-safe.

    Attributes:
        transfers: does each read bring the bytes from elsewhere, so that what was right the last time may be
            wrong this time? Not on a local disk: they stay where they were checked.
    """

    transfers = False

    def __init__(self, folder: Path, layout: MemoryLayout, *, first: int = 0) -> None:
        """Open `offsets` and `checksums`, and hold the version's folder against its removal.

        Args:
            folder: the version's.
            layout: its shapes.
            first: the id in the corpus of the first passage, for messages.

        Raises:
            CorpusError: the version is being removed.
            DamagedError: a file is missing, or is not as long as the layout says.
            UnreadableError: a file cannot be opened.
        """
        self.layout = layout
        self._first = first
        self.folder = folder.resolve()
        self._hold = locks.hold(folder)
        # By name of the array: which file it was when it was opened first.
        self._identities: dict[str, tuple[int, int, int]] = {}
        # Open files: of `offsets` and `checksums` by name of the array, of values by shard.
        self._arrays = descriptors.Home()
        self._values = descriptors.Home()
        self._rows: dict[int, Rows] = {}
        self._most_rows = max(1, KNOWN_PASSAGES // (layout.grid.shard_passages + 64))
        self._lock = ThreadLock()
        self._gap = memoryview(bytearray(shard_files.CRC_BYTES))
        for name in (memory_store.OFFSETS, memory_store.CHECKSUMS):
            self._array(name)

    def places(self, wanted: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Of passages [n], the shard of each and its place in it.

        Python's own integers: of a few dozen passages, loops over NumPy's take several times as long.
        """
        shards, locals_ = np.divmod(wanted, self.layout.grid.shard_passages)
        return shards.tolist(), locals_.tolist()

    def holds(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of passages [n], of which there is memory."""
        return np.ones(len(wanted), bool)

    def shard_passages(self, shard: int) -> int:
        """Passages that a shard may hold."""
        return self.layout.grid.shard_passages

    def _array(self, name: str) -> descriptors.OpenFile:
        """`offsets` or `checksums`, open."""
        known: descriptors.OpenFile | None = self._arrays.get(name)
        if known is None:
            return descriptors.OPEN.open(self._arrays, name, partial(self._open_array, name))
        known.used = descriptors.tick()
        return known

    def _open_array(self, name: str) -> descriptors.OpenFile:
        file = descriptors.OpenFile(zarr_arrays.shard_path(self.folder / name, 0, 2), self.folder)
        status = os.fstat(file.descriptor)
        shards = self.layout.grid.shards
        wanted = shard_files.file_bytes(shards, chunk_bytes=self._chunk_bytes(name), total=max(shards, 1))
        if status.st_size != wanted:
            raise errors.DamagedError(f"{file.path} has {status.st_size:,} bytes, wanted {wanted:,}")
        # It is closed and opened again as descriptors run short. What has come in its place meanwhile may be
        # another version's, whole by its own checksums, and was never compared with the card.
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if self._identities.setdefault(name, identity) != identity:
            raise errors.CorpusError(f"{file.path} was replaced while it was read; open the corpus again")
        return file

    def _chunk_bytes(self, name: str) -> int:
        per_shard = self.layout.grid.shard_passages
        return (per_shard + 1 if name == memory_store.OFFSETS else per_shard) * 4

    def rows(self, shard: int) -> Rows:
        """Where a shard's passages lie.

        Raises:
            DamagedError: what is stored does not match its checksum, or makes no sense.
            UnreadableError: it cannot be read.
        """
        # Reading a dict needs no lock in Python, and this is asked for every passage.
        known = self._rows.get(shard)
        if known is not None:
            return known
        offsets, checksums = (
            self._row(name, shard) for name in (memory_store.OFFSETS, memory_store.CHECKSUMS)
        )
        ascending = np.frombuffer(offsets, "<u4").astype(np.int64)
        lengths = np.diff(ascending)
        if ascending[0] != 0 or lengths.min() < 0 or lengths.max() > self.layout.max_tokens:
            raise errors.DamagedError(f"offsets of shard {shard} in {self.folder} make no sense")
        rows = Rows(offsets, checksums)
        with self._lock:
            while len(self._rows) >= self._most_rows:
                del self._rows[next(iter(self._rows))]
            self._rows[shard] = rows
        return rows

    def _row(self, name: str, shard: int) -> bytes:
        file = self._array(name)
        return shard_files.read_chunk(file.descriptor, shard, self._chunk_bytes(name), file.path)

    def tokens(self, passage: int) -> int:
        """Tokens of a passage."""
        shard, local = divmod(passage, self.layout.grid.shard_passages)
        starts = self.rows(shard).starts
        return int(starts[local + 1] - starts[local])

    def _values_of(self, shard: int) -> descriptors.OpenFile:
        """A shard's values, open."""
        known: descriptors.OpenFile | None = self._values.get(shard)
        if known is None:
            return descriptors.OPEN.open(self._values, shard, partial(self._open_values, shard))
        known.used = descriptors.tick()
        return known

    def _open_values(self, shard: int) -> descriptors.OpenFile:
        layout = self.layout
        path = zarr_arrays.shard_path(self.folder / memory_store.VALUES, shard, 3)
        file = descriptors.OpenFile(path, self.folder)
        stored = -(-self.rows(shard).starts[-1] // layout.chunk_rows)
        wanted = shard_files.file_bytes(stored, chunk_bytes=layout.chunk_bytes, total=layout.chunks)
        if file.size != wanted:
            raise errors.DamagedError(f"{file.path} has {file.size:,} bytes, wanted {wanted:,}")
        return file

    def read(self, shard: int, spans: list[Span], *, nowait: bool) -> None:
        """Fill spans of rows that follow each other in a shard.

        Raises:
            BlockingIOError: with `nowait`, where something is not in the page cache.
            OSError: with `nowait`, on file systems that cannot tell; read without it, which says more.
            DamagedError: the file ends before.
            UnreadableError: without `nowait`, it cannot be read.
        """
        file = self._values_of(shard)
        layout = self.layout
        pieces: list[memoryview] = []
        start = -1
        for row, stop, target in spans:
            more, position = shard_files.range_pieces(
                row,
                stop,
                target,
                row_bytes=layout.row_bytes,
                chunk_rows=layout.chunk_rows,
                gap=self._gap,
            )
            if start < 0:
                start = position
            elif row % layout.chunk_rows == 0:
                pieces.append(self._gap)
            pieces += more
        try:
            shard_files.read_into(file.descriptor, pieces, start, _NOWAIT if nowait else 0)
        except EOFError as e:
            raise errors.DamagedError(f"{file.path} ends before its chunks do; run `memcorpus verify`") from e
        except OSError as e:
            if nowait:
                raise
            raise errors.from_os(file.path, e) from e

    def most_pieces(self, row: int, stop: int) -> int:
        """Pieces that a span may take."""
        return 2 * ((stop - row) // self.layout.chunk_rows + 2)

    def check(self, shard: int, local: int, data: memoryview) -> None:
        """Compare a passage's bytes with their checksum.

        Raises:
            DamagedError: they do not match, and must not be used.
        """
        if files.crc32c(data) != self.rows(shard).checksums[local]:
            passage = self._first + shard * self.layout.grid.shard_passages + local
            path = zarr_arrays.shard_path(self.folder / memory_store.VALUES, shard, 3)
            raise errors.DamagedError(
                f"memory of passage {passage} in {path} does not match its checksum; run `memcorpus verify`"
            )


class RemoteMemoryFiles(MemoryFiles):
    """The same with values in an object store: one request for a run of passages."""

    transfers = True

    def __init__(
        self, corpus: remote.RemoteFolder, folder: str, layout: MemoryLayout, *, first: int = 0
    ) -> None:
        super().__init__(corpus.path(folder), layout, first=first)
        self._url, self._store = corpus.url, corpus.values
        self._name = folder

    def read(self, shard: int, spans: list[Span], *, nowait: bool) -> None:
        if nowait:
            raise BlockingIOError
        layout = self.layout
        name = f"{self._name}/{memory_store.VALUES}/c/{shard}/0/0"
        chunk_rows, row_bytes = layout.chunk_rows, layout.row_bytes
        position_of = partial(shard_files.row_start, row_bytes=row_bytes, chunk_rows=chunk_rows)
        start = position_of(spans[0][0])
        stop = position_of(spans[-1][1] - 1) + row_bytes
        data = remote.read(self._store, name, slice(start, stop), self._url)
        if data is None or len(data) != stop - start:
            raise errors.DamagedError(f"{self._url}/{name} is missing, or ends before its chunks do")
        for row, last, target in spans:
            at = 0
            while row < last:
                rows = min(last - row, chunk_rows - row % chunk_rows)
                position = position_of(row) - start
                target[at : at + rows * row_bytes] = data[position : position + rows * row_bytes]
                at += rows * row_bytes
                row += rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The files of a version in one segment: its first id, and how many. `files` is None where the version
    was left behind, and `why` says so."""

    first: int
    passages: int
    files: MemoryFiles | None
    why: str = ""


class JoinedMemoryFiles:
    """The files of a version in all segments, as those of one: shards are counted through."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """`pieces` ascend, without a gap; the first has files."""
        self._pieces = tuple(pieces)
        self._firsts = np.array([piece.first for piece in pieces], np.int64)
        shards = [0 if piece.files is None else piece.files.layout.grid.shards for piece in pieces]
        self._shards = np.concatenate([[0], np.cumsum(shards)]).astype(np.int64)
        # Of each shard, its files and its number there; they are asked for every passage.
        self._of: list[tuple[MemoryFiles, int]] = [
            (piece.files, shard)
            for piece, count in zip(pieces, shards, strict=True)
            if piece.files is not None
            for shard in range(count)
        ]
        first = pieces[0].files
        assert first is not None
        self.layout, self.folder, self.transfers = first.layout, first.folder, first.transfers

    def places(self, wanted: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """As `MemoryFiles.places`.

        Raises:
            CorpusError: the version has no memory of some of them.
        """
        segment = np.searchsorted(self._firsts, wanted, side="right") - 1
        shards = np.empty(len(wanted), np.int64)
        locals_ = np.empty(len(wanted), np.int64)
        for number in np.unique(segment).tolist():
            piece, here = self._pieces[number], segment == number
            if piece.files is None:
                raise errors.CorpusError(f"passage {int(wanted[here][0])}: {piece.why}")
            own, places = np.divmod(wanted[here] - piece.first, piece.files.layout.grid.shard_passages)
            shards[here], locals_[here] = own + self._shards[number], places
        return shards.tolist(), locals_.tolist()

    def holds(self, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        there = np.array([piece.files is not None for piece in self._pieces])
        held: npt.NDArray[np.bool_] = there[np.searchsorted(self._firsts, wanted, side="right") - 1]
        return held

    def shard_passages(self, shard: int) -> int:
        return self._of[shard][0].layout.grid.shard_passages

    def rows(self, shard: int) -> Rows:
        files_, own = self._of[shard]
        return files_.rows(own)

    def read(self, shard: int, spans: list[Span], *, nowait: bool) -> None:
        files_, own = self._of[shard]
        files_.read(own, spans, nowait=nowait)

    def most_pieces(self, row: int, stop: int) -> int:
        return 2 * ((stop - row) // self.layout.chunk_rows + 2)

    def check(self, shard: int, local: int, data: memoryview) -> None:
        files_, own = self._of[shard]
        files_.check(own, local, data)


def open_files(corpus: CorpusFolder, card: MemoryCard, *, first: int = 0) -> MemoryFiles:
    """The files of a version, its `offsets` and `checksums` checked whole.

    They are small beside the values: 8 bytes a passage, a twentieth of a second for all of Wikipedia. So they
    are this version's and no other's.

    Raises:
        DamagedError: one of them is not as it was written.
    """
    for entry in card.rows:
        corpus.ensure(entry)
        corpus.require_whole(entry)
    folder = components.MEMORY.folder(card.version)
    if isinstance(corpus, remote.RemoteFolder):
        return RemoteMemoryFiles(corpus, folder, card.layout, first=first)
    return MemoryFiles(corpus.path(folder), card.layout, first=first)
