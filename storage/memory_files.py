"""The files of a memory version on a local disk, open for reading by exact byte ranges.

Chunks are stored uncompressed, so that a passage's rows go from the file straight to where the caller
wants them, and nothing else is read.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from storage import components, errors, files, locks, memory_store, remote, shard_files, zarr_arrays
from storage.components import MemoryCard
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout
from storage.thread_locks import ThreadLock

# Shards whose values are held open: a file descriptor each, of the 1,024 that a process usually has.
OPEN_SHARDS: Final = 256
# Shards whose rows are remembered: 8 bytes a passage and half a kilobyte a shard.
KNOWN_PASSAGES: Final = 1 << 25
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

# Rows of a shard, from and to, and where they go.
Span = tuple[int, int, memoryview]


class _File:
    """A file open for reading, closed when nobody holds it any more."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        try:
            # Without waiting: somebody may have put a pipe here. Of files it changes nothing.
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as e:
            raise errors.DamagedError(f"{path} cannot be opened: {e.strerror}") from e
        # Asked of what was opened, so that no link can be put in its place in between.
        try:
            opened = Path(os.readlink(f"/proc/self/fd/{self.descriptor}"))
        except OSError:  # no /proc
            opened = path.resolve()
        if not opened.is_relative_to(folder):
            raise errors.CorpusError(f"{path} is a link out of the corpus folder")

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if (descriptor := getattr(self, "descriptor", None)) is not None:
            os.close(descriptor)


class Rows:
    """Where the passages of one shard lie. `starts[j]` to `starts[j + 1]` are the rows of the j-th."""

    __slots__ = ("checksums", "starts")

    def __init__(self, offsets: bytes, checksums: bytes) -> None:
        # Views of plain integers: reading one of them is several times faster than NumPy's scalars.
        self.starts: memoryview = np.frombuffer(offsets, "<u4").astype(np.uint32).data
        self.checksums: memoryview = np.frombuffer(checksums, "<u4").astype(np.uint32).data


class MemoryFiles:
    """Reads the rows of passages of one version. Thread-safe."""

    def __init__(self, folder: Path, layout: MemoryLayout) -> None:
        """Open `offsets` and `checksums`, and hold the version's folder against its removal.

        Raises:
            CorpusError: the version is being removed.
            DamagedError: a file is missing, or is not as long as the layout says.
        """
        self.layout = layout
        self.folder = folder.resolve()
        self._hold = locks.Hold(folder)
        per_shard, shards = layout.grid.shard_passages, layout.grid.shards
        self._offsets_bytes, self._checksums_bytes = (per_shard + 1) * 4, per_shard * 4
        self._offsets = self._open_rows(memory_store.OFFSETS, self._offsets_bytes, shards)
        self._checksums = self._open_rows(memory_store.CHECKSUMS, self._checksums_bytes, shards)
        self._rows: dict[int, Rows] = {}
        self._most_rows = max(1, KNOWN_PASSAGES // (per_shard + 64))
        self._values: dict[int, _File] = {}
        self._lock = ThreadLock()
        self._gap = memoryview(bytearray(shard_files.CRC_BYTES))

    def _open_rows(self, name: str, chunk_bytes: int, shards: int) -> _File:
        file = _File(zarr_arrays.shard_path(self.folder / name, 0, 2), self.folder)
        wanted = shard_files.file_bytes(shards, chunk_bytes=chunk_bytes, total=max(shards, 1))
        if file.size != wanted:
            raise errors.DamagedError(f"{file.path} has {file.size:,} bytes, wanted {wanted:,}")
        return file

    def rows(self, shard: int) -> Rows:
        """Where a shard's passages lie.

        Raises:
            DamagedError: what is stored does not match its checksum, or makes no sense.
        """
        # Reading a dict needs no lock in Python, and this is asked for every passage.
        known = self._rows.get(shard)
        if known is not None:
            return known
        offsets = shard_files.read_chunk(
            self._offsets.descriptor, shard, self._offsets_bytes, self._offsets.path
        )
        checksums = shard_files.read_chunk(
            self._checksums.descriptor, shard, self._checksums_bytes, self._checksums.path
        )
        ascending = np.frombuffer(offsets, "<u4").astype(np.int64)
        lengths = np.diff(ascending)
        if ascending[0] != 0 or lengths.min() < 0 or lengths.max() > self.layout.max_tokens:
            raise errors.DamagedError(f"offsets of shard {shard} in {self._offsets.path} make no sense")
        rows = Rows(offsets, checksums)
        with self._lock:
            while len(self._rows) >= self._most_rows:
                del self._rows[next(iter(self._rows))]
            self._rows[shard] = rows
        return rows

    def tokens(self, passage: int) -> int:
        """Tokens of a passage."""
        shard, local = divmod(passage, self.layout.grid.shard_passages)
        starts = self.rows(shard).starts
        return int(starts[local + 1] - starts[local])

    def _values_of(self, shard: int) -> _File:
        """A shard's values, open. Whoever holds it can read, also when it is no longer kept here."""
        known = self._values.get(shard)
        if known is not None:
            return known
        file = _File(zarr_arrays.shard_path(self.folder / memory_store.VALUES, shard, 3), self.folder)
        layout = self.layout
        stored = -(-self.rows(shard).starts[-1] // layout.chunk_rows)
        wanted = shard_files.file_bytes(stored, chunk_bytes=layout.chunk_bytes, total=layout.chunks)
        if file.size != wanted:
            raise errors.DamagedError(f"{file.path} has {file.size:,} bytes, wanted {wanted:,}")
        with self._lock:
            # The one that was opened first goes: a random reader has no use for a better rule.
            while len(self._values) >= OPEN_SHARDS:
                del self._values[next(iter(self._values))]
            return self._values.setdefault(shard, file)

    def read(self, shard: int, spans: list[Span], *, nowait: bool) -> None:
        """Fill spans of rows that follow each other in a shard.

        Raises:
            BlockingIOError: with `nowait`, where something is not in the page cache.
            OSError: with `nowait`, on file systems that cannot tell.
            DamagedError: the file ends before.
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

    def most_pieces(self, row: int, stop: int) -> int:
        """Pieces that a span may take."""
        return 2 * ((stop - row) // self.layout.chunk_rows + 2)

    def check(self, shard: int, local: int, data: memoryview) -> None:
        """Compare a passage's bytes with their checksum.

        Raises:
            DamagedError: they do not match, and must not be used.
        """
        if files.crc32c(data) != self.rows(shard).checksums[local]:
            passage = shard * self.layout.grid.shard_passages + local
            path = zarr_arrays.shard_path(self.folder / memory_store.VALUES, shard, 3)
            raise errors.DamagedError(
                f"memory of passage {passage} in {path} does not match its checksum; run `memcorpus verify`"
            )


class RemoteMemoryFiles(MemoryFiles):
    """The same with values in an object store: one request for a run of passages."""

    def __init__(self, corpus: CorpusFolder, folder: str, layout: MemoryLayout) -> None:
        super().__init__(corpus.path(folder), layout)
        assert corpus.values is not None
        self._store = corpus.values
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
        data = remote.read(self._store, name, slice(start, stop), "the corpus")
        if data is None or len(data) != stop - start:
            raise errors.DamagedError(f"{name} is missing, or ends before its chunks do")
        for row, last, target in spans:
            at = 0
            while row < last:
                rows = min(last - row, chunk_rows - row % chunk_rows)
                position = position_of(row) - start
                target[at : at + rows * row_bytes] = data[position : position + rows * row_bytes]
                at += rows * row_bytes
                row += rows


def open_files(corpus: CorpusFolder, card: MemoryCard) -> MemoryFiles:
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
    if corpus.values is not None:
        return RemoteMemoryFiles(corpus, folder, card.layout)
    return MemoryFiles(corpus.path(folder), card.layout)
