"""The files of a memory version in all segments of a corpus, as those of one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from storage import errors, native
from storage.memory_files import Held, MemoryFiles, Run
from storage.memory_rows import Found, Integers
from storage.memory_store import ShardRows
from storage.native import mapped


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The files of a version in one segment: its first id, and how many. `files` is None where the version
    was left behind, and `why` says so."""

    first: int
    passages: int
    files: MemoryFiles | None
    why: str = ""


class JoinedMemoryFiles:
    """The interface of `MemoryFiles`; shards are counted through."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """`pieces` ascend, without a gap; the first has files."""
        self._pieces = tuple(pieces)
        self._firsts = np.array([piece.first for piece in pieces], np.int64)
        # The first shard of each piece; one that was left behind has none.
        self._shards = [0]
        for piece in pieces:
            shards = 0 if piece.files is None else piece.files.layout.grid.shards
            self._shards.append(self._shards[-1] + shards)
        first = pieces[0].files
        assert first is not None
        self._segments: tuple[list[mapped.Segments | None], mapped.Segments] | None = None
        self.layout, self.folder, self.transfers = first.layout, first.folder, first.transfers

    def find(self, wanted: Integers) -> Found:
        """As `MemoryFiles.find`.

        Raises:
            CorpusError: the version has no memory of some of them.
        """
        segment = np.searchsorted(self._firsts, wanted, side="right") - 1
        found = Found(*(np.empty(len(wanted), np.int64) for _ in fields(Found)))
        for number in np.unique(segment).tolist():
            piece, here = self._pieces[number], segment == number
            if piece.files is None:
                raise errors.CorpusError(f"passage {int(wanted[here][0])}: {piece.why}")
            own = piece.files.find(wanted[here])
            for field in fields(Found):
                getattr(found, field.name)[here] = getattr(own, field.name)
            found.shards[here] += self._shards[number]
        return found

    def find_one(self, passage: int) -> tuple[int, int, int, int, int]:
        number = int(np.searchsorted(self._firsts, passage, side="right")) - 1
        piece = self._pieces[number]
        if piece.files is None:
            raise errors.CorpusError(f"passage {passage}: {piece.why}")
        shard, *rest = piece.files.find_one(passage)
        first, stop, end, checksum = rest
        return shard + self._shards[number], first, stop, end, checksum

    def holds(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        there = np.array([piece.files is not None for piece in self._pieces])
        held: npt.NDArray[np.bool_] = there[np.searchsorted(self._firsts, wanted, side="right") - 1]
        return held

    def checked(self, wanted: Integers) -> npt.NDArray[np.bool_]:
        segment = np.searchsorted(self._firsts, wanted, side="right") - 1
        found = np.zeros(len(wanted), bool)
        for number in np.unique(segment).tolist():
            files, here = self._pieces[number].files, segment == number
            if files is not None:
                found[here] = files.checked(wanted[here])
        return found

    def shard_rows(self, shard: int) -> ShardRows:
        files, own = self._of(shard)
        return files.shard_rows(own)

    def read_ahead(self) -> None:
        for piece in self._pieces:
            if piece.files is not None:
                piece.files.read_ahead()

    def segments(self) -> mapped.Segments:
        """As of `MemoryFiles`. Of what was left behind nothing is known."""
        own = [None if piece.files is None else piece.files.segments() for piece in self._pieces]
        known = self._segments
        if known is None or any(a is not b for a, b in zip(known[0], own, strict=True)):
            numbers = [
                self._nothing(piece) if one is None else one.numbers
                for piece, one in zip(self._pieces, own, strict=True)
            ]
            known = self._segments = own, mapped.Segments.of(np.concatenate(numbers), own)
        return known[1]

    @staticmethod
    def _nothing(piece: Piece) -> npt.NDArray[np.int64]:
        return np.array([[piece.first, piece.passages, 1, 0, 0, 0, 0]], np.int64)

    def hold(self, segment: int, shard: int, address: int, library: native.Library) -> Held | bool:
        files = self._pieces[segment].files
        return files is not None and files.hold(0, shard, address, library)

    def read(self, run: Run, *, nowait: bool, check: str) -> None:
        shard, end, spans = run
        files, own = self._of(shard)
        files.read((own, end, spans), nowait=nowait, check=check)

    def _of(self, shard: int) -> tuple[MemoryFiles, int]:
        """The files that a shard is of, and its number there."""
        number = bisect_right(self._shards, shard) - 1
        files = self._pieces[number].files
        assert files is not None
        return files, shard - self._shards[number]
