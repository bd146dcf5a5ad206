"""Where the passages of a memory version lie: `offsets` and `checksums`, read by shard when first asked for.

What was read is kept, compact, in one table of plain numbers: eight bytes a passage, so that all of a fetch's
passages are found by a few steps over arrays, whatever shards they lie in. A process that was forked goes on
with what its parent has read, and takes no memory for it. Nothing is mapped from the files: a file that was
cut off under a mapping would kill the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import descriptors, errors, memory_store, shard_files, zarr_arrays
from storage.memory_store import MemoryLayout, ShardRows
from storage.thread_locks import ThreadLock

# Of passages, that are kept: 320 MB at most, all of Wikipedia. Whoever reads at random from more reads some
# of them again.
KNOWN_PASSAGES: Final = 40_000_000
# Shards whose rows are read by one call.
_SHARDS_AT_ONCE: Final = 4096

Integers = npt.NDArray[np.int64]
Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """Where k passages lie.

    Attributes:
        shards: int64 [k], in which file.
        firsts: int64 [k], the row there that each begins with.
        stops: int64 [k], the row behind its last.
        ends: int64 [k], rows of that shard.
        checksums: int64 [k], CRC-32C of the stored bytes.
    """

    shards: Integers
    firsts: Integers
    stops: Integers
    ends: Integers
    checksums: Integers

    def of(self, places: npt.NDArray[np.intp]) -> Found:
        """Some of them."""
        return Found(
            self.shards[places],
            self.firsts[places],
            self.stops[places],
            self.ends[places],
            self.checksums[places],
        )


class Table:
    """Rows of some shards: offsets, then checksums. Memory that nobody has written to takes no room.

    Attributes:
        slots: int64 [shards], of each its place in `numbers`, from 1; 0 where it is not there.
        numbers: uint32 [capacity + 1, 2 shard_passages + 1].
    """

    __slots__ = ("capacity", "flat", "numbers", "slots", "used")

    def __init__(self, shards: int, capacity: int, width: int) -> None:
        self.capacity, self.used = capacity, 0
        self.slots = np.zeros(shards, np.int64)
        self.numbers = np.empty((capacity + 1, width), np.uint32)
        # The same as plain integers: reading one is several times faster than NumPy's scalars.
        self.flat: memoryview = self.numbers.reshape(-1).data


class MemoryRows:
    """The two small arrays of one version. Thread-safe."""

    def __init__(self, folder: Path, layout: MemoryLayout) -> None:
        """Open both.

        Args:
            folder: the version's, resolved.
            layout: its shapes.

        Raises:
            DamagedError: a file is missing, or is not as long as the layout says.
            UnreadableError: a file cannot be opened.
        """
        self.layout = layout
        self.folder = folder
        # By name of the array: which file it was when it was opened first.
        self._identities: dict[str, Identity] = {}
        self._files = descriptors.Home()
        per_shard = layout.grid.shard_passages
        self._width = 2 * per_shard + 1
        # Of a passage's place in a shard's numbers: its first row, the next one's, and its checksum.
        self._three = np.array([0, 1, per_shard + 1])
        self._most = max(1, min(layout.grid.shards, KNOWN_PASSAGES // per_shard))
        self._lock = ThreadLock()
        # First: a card of somebody else's may claim any number of shards, and files must be as long.
        for name in (memory_store.OFFSETS, memory_store.CHECKSUMS):
            self._file(name)
        self._table = Table(layout.grid.shards, self._most, self._width)

    @property
    def table(self) -> Table:
        """Where those lie that were read. Another one takes its place when it is full."""
        return self._table

    @property
    def known(self) -> int:
        """Shards whose rows are kept."""
        return self._table.used

    def find(self, wanted: Integers) -> Found:
        """Where passages [k] of this version lie.

        Raises:
            DamagedError: what is stored does not match its checksum, or makes no sense.
            UnreadableError: it cannot be read.
        """
        shards, places = np.divmod(wanted, self.layout.grid.shard_passages)
        table = self._table
        slots = table.slots[shards]
        if not slots.all():
            table = self._read(shards)
            slots = table.slots[shards]
        begins = slots * self._width
        flat = table.numbers.reshape(-1)
        three = flat[(begins + places)[:, None] + self._three].astype(np.int64)
        ends = flat[begins + self.layout.grid.shard_passages].astype(np.int64)
        return Found(shards, three[:, 0], three[:, 1], ends, three[:, 2])

    def find_one(self, passage: int) -> tuple[int, int, int, int, int]:
        """The numbers of `Found` of one passage, by steps that cost less for one. Raises as `find`."""
        per_shard = self.layout.grid.shard_passages
        shard, place = divmod(passage, per_shard)
        table = self._table
        slot = table.slots.item(shard)
        if not slot:
            table = self._read(np.array([shard]))
            slot = table.slots.item(shard)
        begin, flat = slot * self._width, table.flat
        at = begin + place
        return shard, flat[at], flat[at + 1], flat[begin + per_shard], flat[at + per_shard + 1]

    def shard(self, shard: int) -> ShardRows:
        """The rows of a whole shard. Raises as `find`."""
        table = self._table
        if not table.slots[shard]:
            table = self._read(np.array([shard]))
        numbers = table.numbers[table.slots[shard]]
        per_shard = self.layout.grid.shard_passages
        return ShardRows(offsets=numbers[: per_shard + 1].copy(), checksums=numbers[per_shard + 1 :].copy())

    def read_ahead(self) -> None:
        """Read those of all shards, as far as they are kept, before processes are forked that share them.

        Raises as `find`.
        """
        for first in range(0, self.layout.grid.shards, _SHARDS_AT_ONCE):
            stop = min(first + _SHARDS_AT_ONCE, self.layout.grid.shards)
            if self._table.used + stop - first > self._table.capacity:
                return
            self._read(np.arange(first, stop))

    def _read(self, shards: Integers) -> Table:
        """A table that has the rows of all these shards."""
        with self._lock:
            table = self._table
            missing = np.unique(shards[table.slots[shards] == 0])
            if table.used + len(missing) > table.capacity:
                # Whoever finds passages in the old one goes on with it.
                missing = np.unique(shards)
                capacity = max(self._most, len(missing))
                table = Table(self.layout.grid.shards, capacity, self._width)
            for at in range(0, len(missing), _SHARDS_AT_ONCE):
                self._read_some(table, missing[at : at + _SHARDS_AT_ONCE])
            self._table = table
            return table

    def _read_some(self, table: Table, shards: Integers) -> None:
        """Put the rows of shards, which ascend, into a table, when they have been checked."""
        offsets = self._chunks(memory_store.OFFSETS, shards)
        checksums = self._chunks(memory_store.CHECKSUMS, shards)
        lengths = np.diff(offsets.astype(np.int64), axis=1)
        wrong = (offsets[:, 0] != 0) | (lengths.min(1) < 0) | (lengths.max(1) > self.layout.max_tokens)
        if wrong.any():
            shard = int(shards[wrong.argmax()])
            raise errors.DamagedError(f"offsets of shard {shard} in {self.folder} make no sense")
        begin, stop = table.used + 1, table.used + 1 + len(shards)
        # What a fork in the middle of this leaves in the child are places that nobody uses.
        table.used += len(shards)
        table.numbers[begin:stop, : offsets.shape[1]] = offsets
        table.numbers[begin:stop, offsets.shape[1] :] = checksums
        table.slots[shards] = np.arange(begin, stop)

    def _chunks(self, name: str, shards: Integers) -> npt.NDArray[np.uint32]:
        """Rows of shards in one of the arrays, [n, P + 1] or [n, P]."""
        file = self._file(name)
        found = shard_files.read_chunks(file.descriptor, shards.tolist(), self._chunk_bytes(name), file.path)
        return found.view("<u4")[:, :-1]

    def _file(self, name: str) -> descriptors.OpenFile:
        """`offsets` or `checksums`, open."""
        known: descriptors.OpenFile | None = self._files.get(name)
        if known is None:
            return descriptors.OPEN.open(self._files, name, partial(self._open, name))
        known.used = descriptors.tick()
        return known

    def _open(self, name: str) -> descriptors.OpenFile:
        path = zarr_arrays.shard_path(self.folder / name, 0, 2)
        file = descriptors.OpenFile(str(path), str(self.folder))
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
