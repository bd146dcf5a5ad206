"""The passage table: rows by passage id, out of Parquet parts.

What is read of a part is the row groups that hold the rows, and its footer once. See `passage_parts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import descriptors, errors, file_names, files, ids, open_parts
from storage.open_parts import Opened, RangedPart, WholePart
from storage.passage_parts import ROW_GROUP as ROW_GROUP
from storage.passage_parts import SCHEMA as SCHEMA
from storage.passage_parts import UNNUMBERED as UNNUMBERED
from storage.passage_parts import Part as Part
from storage.passage_parts import number_part as number_part
from storage.passage_parts import part_name as part_name
from storage.passage_parts import write_part as write_part
from storage.thread_locks import ThreadLock

# Row groups of the parts that a reader keeps open, of which a footer has 3 kB each in memory: 400 MB at most,
# all of Wikipedia. One part is kept however many it has.
KEPT_GROUPS: Final = 150_000
# Row groups whose bytes are in memory at once.
_WINDOW: Final = 64
# Requests at once, of an object store.
_THREADS: Final = 16

# Bytes of a file that is not here, from and to.
Ranges = Callable[[files.FileEntry, int, int], bytes]
# A part, one of its row groups, and the rows that are wanted of it.
_Piece = tuple[int, int, npt.NDArray[np.int64]]


# What a compaction leaves of a passage that has gone.
EMPTIED: Final[Mapping[str, object]] = {"title": "", "section": [], "text": "", "words": 0}


def emptied(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Of which rows a compaction has dropped what they said, [rows].

    Words alone do not tell: a chunk of tokens may have none, within a long word, and even no text, where a
    character became several tokens.
    """
    found = np.asarray(table.column("words").to_numpy() == 0)
    wordless = np.flatnonzero(found)
    rows = table.select(list(EMPTIED)).take(_places(wordless)).to_pylist()
    found[wordless] = [row == EMPTIED for row in rows]
    return found


def _places(rows: npt.NDArray[np.int64]) -> pa.Array:
    """As Arrow's; `pa.array` of NumPy's loads pandas first, where it is installed: a third of a second."""
    return pa.Int64Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])


class PassageTable:
    """Reads passages by id. A part's checksum is verified when a process first opens it. Thread-safe."""

    def __init__(
        self,
        root: Path,
        parts: Sequence[Part],
        *,
        ensure: Callable[[files.FileEntry], None] | None = None,
        ranges: Ranges | None = None,
    ) -> None:
        """
        Args:
            root: the corpus folder.
            parts: all of them, in order of passage id.
            ensure: called before a part is first opened, where it may have to be brought there.
            ranges: reads from where parts lie that need not be brought.
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
        self._ranges = ranges
        # Parts that were compared with their checksum whole, and those that can be read no other way.
        self._checked: set[int] = set()
        self._old: set[int] = set()
        self._lock = ThreadLock()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def _part(self, number: int, *, whole: bool = False) -> Opened:
        """A part, open; with `whole` one that was checked whole, for who reads a column of all of it.

        Under the lock.
        """
        if self._owner != os.getpid():
            # Forked, maybe while another thread was in the middle of one of these.
            self._open.clear()
            self._owner = os.getpid()
        key = ~number if whole else number
        known: Opened | None = self._open.get(key)
        if known is None:
            known = descriptors.OPEN.open(self._open, key, partial(self._opened, number, whole))
            self._leave_out(known)
        known.used = descriptors.tick()
        return known

    def _leave_out(self, new: Opened) -> None:
        """Close the least recently used parts, as far as their footers are too many."""
        kept = sorted(((part.used, key, len(part.firsts)) for key, part in self._open.items()), reverse=True)
        groups = len(new.firsts)
        for _, key, count in kept:
            if self._open.get(key) is not new:
                groups += count
                if groups > KEPT_GROUPS:
                    self._open.pop(key, None)

    def _opened(self, number: int, whole: bool) -> Opened:
        part = self.parts[number]
        path = file_names.inside(self.root, part.file.path)
        if not whole and number not in self._old:
            if (ranged := self._ranged(part, path)) is not None:
                return ranged
            self._old.add(number)
        if number not in self._checked:
            if self._ensure is not None:
                self._ensure(part.file)
            if wrong := files.damage(self.root, part.file):
                raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
            self._checked.add(number)
        return WholePart(part, path)

    def _ranged(self, part: Part, path: Path) -> RangedPart | None:
        """A part that is read by ranges; None where that cannot be, or it is damaged."""
        if self._ranges is not None and not path.exists():
            return RangedPart.open(part, partial(self._ranges, part.file))
        if self._ensure is not None:
            self._ensure(part.file)
        return open_parts.on_disk(part, path, self.root.resolve())

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
        return pa.concat_tables(self._sorted_rows(unique, columns)).combine_chunks().take(_places(back))

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
                part = self._part(number, whole=True)
                for group in range(len(part.firsts) - 1):
                    column = part.table(group, ["page_id"], b"").column(0)
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
        pieces = iter(list(self._pieces(unique)))
        while window := list(islice(pieces, _WINDOW)):
            data = self._bring(window)
            for number, group, rows in window:
                with self._lock:
                    part = self._part(number)
                    table = part.table(group, columns, data.get((number, group), b""))
                    yield table.take(_places(rows - part.firsts[group]))

    def _pieces(self, unique: npt.NDArray[np.int64]) -> Iterator[_Piece]:
        part_of = np.searchsorted(self._firsts, unique, side="right") - 1
        for number in np.unique(part_of).tolist():
            local = unique[part_of == number] - self._firsts[number]
            with self._lock:
                firsts = self._part(number).firsts
            group_of = np.searchsorted(firsts, local, side="right") - 1
            for group in np.unique(group_of).tolist():
                yield number, group, local[group_of == group]

    def _bring(self, window: list[_Piece]) -> dict[tuple[int, int], bytes]:
        """Bytes of row groups, by part and group; none of parts that are read otherwise."""
        runs: list[tuple[int, list[int]]] = []
        for number, group, _ in window:
            if runs and runs[-1] == (number, [*runs[-1][1][:-1], group - 1]):
                runs[-1][1].append(group)
            else:
                runs.append((number, [group]))

        def bring(run: tuple[int, list[int]]) -> dict[tuple[int, int], bytes]:
            number, groups = run
            with self._lock:
                part = self._part(number)
            return {(number, group): data for group, data in part.bring(groups).items()}

        if self._ranges is None or len(runs) == 1:
            brought = [bring(run) for run in runs]
        else:
            with ThreadPoolExecutor(min(_THREADS, len(runs)), thread_name_prefix="passages") as pool:
                brought = list(pool.map(bring, runs))
        return {place: data for one in brought for place, data in one.items()}

    def read(self, first: int, stop: int) -> pa.Table:
        """Passages first to stop."""
        return self.take(np.arange(first, stop, dtype=np.int64))
