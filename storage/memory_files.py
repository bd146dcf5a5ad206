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
import numpy.typing as npt

from storage import descriptors, errors, files, locks, memory_store, native, shard_files
from storage.aliases import AnyArray
from storage.memory_rows import Found, Integers, MemoryRows
from storage.memory_store import MemoryLayout, ShardRows
from storage.native import mapped

CHECKS: Final = ("once", "always", "never")
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

# A passage's id, rows of its shard from and to, where they go, whether that is all of it, its checksum. A
# plain tuple, like what is made of them, for a fetch makes one for every passage.
Span = tuple[int, int, int, memoryview, bool, int]
# A shard, the number of its rows, and spans that follow each other in it.
Run = tuple[int, int, list[Span]]


# As mapped.h has it.
NOT_TO_BE_MAPPED: Final = -1


class ChangedError(Exception):
    """A file was replaced since a part of a passage was taken to be right. Read the passage whole."""


class ValuesFile(descriptors.OpenFile):
    """A shard's values. Whoever serves rows out of its mapping keeps this meanwhile.

    Attributes:
        size_bytes: when it was opened.
        mapping: None until it is asked for.
    """

    __slots__ = ("mapping", "size_bytes")

    def __init__(self, path: str, folder: str) -> None:
        super().__init__(path, folder)
        self.size_bytes = 0
        self.mapping: mapped.Mapping | None = None


# A mapping, and the file that it needs open.
Held = tuple[mapped.Mapping, ValuesFile]


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
            first: the id in the corpus of the first passage; all ids asked for are the corpus's.

        Raises:
            CorpusError: the version is being removed.
            DamagedError: a file is missing, or is not as long as the layout says.
            UnreadableError: a file cannot be opened.
        """
        self.layout = layout
        self.first = first
        self.folder = folder.resolve()
        self._hold = locks.hold(folder)
        self._rows = MemoryRows(self.folder, layout)
        # Open files of values, by shard.
        self._values = descriptors.Home()
        self._root = str(self.folder)
        # Passages whose bytes were compared with their checksum, in the file that is there; a byte each, of
        # which those of shards that nobody reads take no room.
        self._checked = np.zeros(layout.grid.passages, np.uint8)
        self._right: memoryview = self._checked.data
        # Which file a shard was when it was opened first; 0: never yet.
        self._identities = np.zeros(layout.grid.shards, np.int64)
        # Of shards whose files are mapped the addresses of their mappings, or of what was there; 0: none, and
        # none is made of those that are not to be mapped.
        self._mapped = np.zeros(layout.grid.shards, np.int64)
        self._segments: mapped.Segments | None = None
        self._gap = memoryview(bytearray(shard_files.CRC_BYTES))
        # Properties of the layout, which are asked for every passage.
        self._row_bytes, self._chunk_rows = layout.row_bytes, layout.chunk_rows
        self._stored_chunk_bytes = layout.chunk_bytes + shard_files.CRC_BYTES
        self._index_bytes = shard_files.file_bytes(0, chunk_bytes=0, total=layout.chunks)

    def find(self, wanted: Integers) -> Found:
        """Where passages [k] lie.

        Raises:
            DamagedError: what is stored does not match its checksum, or makes no sense.
            UnreadableError: it cannot be read.
        """
        return self._rows.find(wanted - self.first if self.first else wanted)

    def find_one(self, passage: int) -> tuple[int, int, int, int, int]:
        """As `find`, of one: shard, first row, the row behind the last, rows of the shard, checksum."""
        return self._rows.find_one(passage - self.first)

    def holds(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        """Of passages [n], of which there is memory."""
        return np.ones(len(wanted), bool)

    def checked(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        """Of passages [n], which were compared with their checksum where they lie."""
        return self._checked[wanted - self.first].astype(bool)

    def shard_rows(self, shard: int) -> ShardRows:
        """Where the passages of a shard lie. Raises as `find`."""
        return self._rows.shard(shard)

    def read_ahead(self) -> None:
        """Read where all passages lie, for processes that will be forked. Raises as `find`."""
        self._rows.read_ahead()

    def stored(self, passage: int) -> AnyArray:
        """A passage's rows as they are stored, [tokens, stored width], checked.

        Raises:
            DamagedError, UnreadableError: as `read`.
        """
        found = self.find(np.array([passage], np.int64))
        first, stop = int(found.firsts[0]), int(found.stops[0])
        rows = np.empty((stop - first, self.layout.stored_width), self.layout.codec.stored_dtype)
        if stop > first:
            span = (passage, first, stop, files.bytes_of(rows), True, int(found.checksums[0]))
            self.read((int(found.shards[0]), int(found.ends[0]), [span]), nowait=False, check="always")
        return rows

    def segments(self) -> mapped.Segments:
        """Where passages lie and which were checked; to be asked for anew each time."""
        table, known = self._rows.table, self._segments
        # The table is replaced when it is full.
        if known is None or known.kept is not table:
            grid = self.layout.grid
            numbers = [self.first, grid.passages, grid.shard_passages]
            arrays = (table.slots, table.numbers, self._checked, self._mapped)
            made = np.array([numbers + [array.ctypes.data for array in arrays]], np.int64)
            known = self._segments = mapped.Segments.of(made, table)
        return known

    def hold(self, _segment: int, shard: int, address: int, library: native.Library) -> Held | bool:
        """Keep a shard's mapping, which a plan has found at this address, as long as the answer is kept.

        Returns:
            True where it is another one now, so that the plan is to be made anew; False where there is none.
            No file is opened here, so that whoever reads from many at random, each once, maps none of them.
        """
        file: ValuesFile | None = self._values.get(shard)
        found = None if file is None else file.mapping
        if address:
            if file is not None and found is not None and found.address == address:
                file.used = descriptors.tick()
                return found, file
            self._mapped[shard] = 0
            return True
        if file is None:
            return False
        if found is None:
            # Two threads may map it at once; one of the mappings goes when nobody uses it any more.
            found = mapped.Mapping.of(library, file.descriptor, file.size_bytes, self._chunk_rows)
            file.mapping = found
        self._mapped[shard] = NOT_TO_BE_MAPPED if found is None else found.address
        return found is not None

    def read(self, run: Run, *, nowait: bool, check: str) -> None:
        """Fill spans of rows that follow each other in a shard, and compare them with their checksums.

        Args:
            run: the shard and its spans, in order, without a gap.
            nowait: raise instead of waiting for a disk.
            check: one of `CHECKS`.

        Raises:
            BlockingIOError: with `nowait`, where something is not in the page cache.
            OSError: with `nowait`, on file systems that cannot tell; read without it, which says more.
            DamagedError: the file ends before, or bytes do not match their checksum and must not be used.
            UnreadableError: without `nowait`, it cannot be read.
            ChangedError: a part was to be read of a passage that is no longer known to be right.
        """
        if check == "never":
            self._fill(run, nowait)
            return
        shard, _, spans = run
        remembers = check == "once" and not self.transfers
        right, first = self._right, self.first
        # Asked before the file is taken, and again after its bytes were read: who opens another one forgets
        # what was right of the last, before anybody gets it.
        known = [remembers and right[span[0] - first] for span in spans]
        self._fill(run, nowait)
        for was_right, (passage, _, _, target, whole, checksum) in zip(known, spans, strict=True):
            if was_right and right[passage - first]:
                continue
            if not whole:
                raise ChangedError
            if files.crc32c(target) != checksum:
                raise errors.DamagedError(
                    f"memory of passage {passage} in {self._path(shard)} does not match its checksum; "
                    "run `memcorpus verify`"
                )
            if remembers:
                right[passage - first] = 1

    def _path(self, shard: int) -> str:
        """Of a shard's values, as `zarr_arrays.shard_path` has it; it is asked for every passage."""
        return f"{self._root}/{memory_store.VALUES}/c/{shard}/0/0"

    def _fill(self, run: Run, nowait: bool) -> None:
        shard, end, spans = run
        file: ValuesFile | None = self._values.get(shard)
        if file is None:
            file = descriptors.OPEN.open(self._values, shard, partial(self._open_values, shard, end))
        else:
            file.used = descriptors.tick()
        chunk_rows, row_bytes, gap = self._chunk_rows, self._row_bytes, self._gap
        first = spans[0][1]
        # As `shard_files.row_start` has it.
        start = first * row_bytes + first // chunk_rows * shard_files.CRC_BYTES
        pieces: list[memoryview] = []
        for _, row, stop, target, _, _ in spans:
            # What is left of the chunk that the row lies in: up to there nothing is to be skipped.
            left = chunk_rows - row % chunk_rows
            if left == chunk_rows and row != first:
                pieces.append(gap)
            if stop - row <= left:
                pieces.append(target)
            else:
                shard_files.add_pieces(pieces, target, left * row_bytes, chunk_rows * row_bytes, gap)
        try:
            shard_files.read_into(file.descriptor, pieces, start, _NOWAIT if nowait else 0)
        except EOFError as e:
            raise errors.DamagedError(f"{file.path} ends before its chunks do; run `memcorpus verify`") from e
        except OSError as e:
            if nowait:
                raise
            raise errors.from_os(file.path, e) from e

    def _open_values(self, shard: int, end: int) -> ValuesFile:
        file = ValuesFile(self._path(shard), self._root)
        status = os.fstat(file.descriptor)
        # As `shard_files.file_bytes` has it.
        wanted = -(-end // self._chunk_rows) * self._stored_chunk_bytes + self._index_bytes
        if status.st_size != wanted:
            raise errors.DamagedError(f"{file.path} has {status.st_size:,} bytes, wanted {wanted:,}")
        file.size_bytes = status.st_size
        # Closed and opened again as descriptors run short. What has come in its place meanwhile (a repair
        # puts the same bytes there) is checked anew; this is seen to before anybody else can get it.
        identity = hash((status.st_dev, status.st_ino, status.st_mtime_ns)) | 1
        if self._identities[shard] != identity:
            if self._identities[shard]:
                first = shard * self.layout.grid.shard_passages
                self._checked[first : first + self.layout.grid.shard_passages] = 0
            self._identities[shard] = identity
        return file
