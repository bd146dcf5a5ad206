"""Tombstones: ids that updates took out of a corpus. A list for each generation, and all of them as bits.

A list is a Parquet file of one column, ascending and delta-coded: a byte or two for each id. In memory each
that is gone takes 16 bytes, and for an index each that was given a bit: 12 MB and 4.5 MB of 36 million
passages of which two in a hundred are gone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage import errors, files
from storage.files import FileEntry

NAME: Final = "removed.parquet"
_SCHEMA: Final = pa.schema([pa.field("passage_id", pa.int64(), nullable=False)])

Ids = npt.NDArray[np.int64]


def write(path: Path, ids: Ids) -> None:
    """Write a list, whole or not at all. `ids` ascend, each once."""
    with files.aside(path) as partial:
        pq.write_table(
            pa.table([pa.array(ids)], schema=_SCHEMA),
            partial,
            compression="zstd",
            use_dictionary=False,
            column_encoding={"passage_id": "DELTA_BINARY_PACKED"},
        )


def read(path: Path, entry: FileEntry, *, stop: int) -> Ids:
    """A list, which has been checked against its entry. Ids are below `stop`.

    Raises:
        CorpusError: it is none, or names an id twice or one that was never given.
        UnreadableError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_SCHEMA) or file.metadata.num_rows > stop:
                raise errors.CorpusError(f"{entry.path} is no list of up to {stop:,} passage ids")
            ids: Ids = file.read().column(0).to_numpy()
    except (OSError, pa.ArrowException) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise errors.from_os(entry.path, e) from e
        raise errors.CorpusError(f"{entry.path} is no list of passage ids: {e}") from e
    if len(ids) and (ids[0] < 0 or ids[-1] >= stop or (np.diff(ids) <= 0).any()):
        raise errors.CorpusError(f"{entry.path} does not hold ascending ids from 0 to {stop - 1:,}")
    return ids


class Tombstones:
    """All ids that are gone at a generation.

    Attributes:
        passages: ids that were ever given.
    """

    def __init__(self, passages: int, lists: Sequence[tuple[int, Ids]], *, dropped: int = 0) -> None:
        """
        Args:
            passages: ids that were ever given.
            lists: (generation, the ids that it removed), in order.
            dropped: the generation of the last compaction; 0: there was none.

        Raises:
            CorpusError: an id was removed twice.
        """
        self.passages = passages
        self._lists = tuple(lists)
        self._dropped = dropped
        self._gone: Ids = np.sort(np.concatenate([np.zeros(0, np.int64), *(ids for _, ids in lists)]))
        if (np.diff(self._gone) == 0).any():
            twice = int(self._gone[1:][np.diff(self._gone) == 0][0])
            raise errors.CorpusError(f"passage {twice} is removed by two generations")

    def __len__(self) -> int:
        return len(self._gone)

    @property
    def lists(self) -> tuple[tuple[int, Ids], ...]:
        """(generation, the ids that it removed), in order."""
        return self._lists

    @property
    def dropped(self) -> int:
        """The generation of the last compaction; 0: there was none."""
        return self._dropped

    @functools.cached_property
    def bits(self) -> npt.NDArray[np.uint8]:
        """Uint8 [passages / 8]: bit i, from each byte's low bits up, tells whether passage i is there.

        For who has as many rows; what a corpus claims to have may be anything.
        """
        there = np.ones(self.passages, bool)
        there[self._gone] = False
        return np.packbits(there, bitorder="little")

    def are_there(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Of passages, of any shape, which are not gone."""
        if not len(self._gone):
            return np.ones(ids.shape, bool)
        place = np.minimum(np.searchsorted(self._gone, ids), len(self._gone) - 1)
        there: npt.NDArray[np.bool_] = self._gone[place] != ids
        return there

    def live(self, first: int = 0, stop: int | None = None) -> Ids:
        """The ids from `first` on and before `stop` that are there, ascending."""
        stop = self.passages if stop is None else stop
        there = np.ones(max(0, stop - first), bool)
        begin, end = np.searchsorted(self._gone, [first, stop])
        there[self._gone[begin:end] - first] = False
        return first + np.flatnonzero(there).astype(np.int64)

    def require_live(self, ids: Ids) -> None:
        """
        Raises:
            TombstoneError: some of them are gone.
        """
        if not len(self._gone):
            return
        gone = ids[~self.are_there(ids)]
        if len(gone):
            raise errors.TombstoneError(
                [int(i) for i in dict.fromkeys(gone.tolist())],
                number := self.removed_by(int(gone[0])),
                dropped=number <= self._dropped,
            )

    def removed_by(self, passage: int) -> int:
        """The generation that removed a passage; 0: none did."""
        for number, ids in self._lists:
            place = int(np.searchsorted(ids, passage))
            if place < len(ids) and ids[place] == passage:
                return number
        return 0
