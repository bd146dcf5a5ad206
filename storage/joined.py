"""Arrays of several segments as one: what lies at an id is asked of the segment that holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.aliases import AnyArray
from storage.vector_array import VectorArray, VectorLayout

Ids = npt.NDArray[np.int64]


class Rows(Protocol):
    """An array by passage id, from 0."""

    def read(self, first: int, stop: int) -> AnyArray:
        """Rows of passages first to stop."""

    def take(self, ids: Ids) -> AnyArray:
        """Rows of passages, in that order."""


class JoinedRows:
    """Rows of all segments, by ids of the corpus."""

    def __init__(self, pieces: Sequence[tuple[int, Rows]], passages: int) -> None:
        """`pieces` are (first id, rows), ascending and without a gap; `passages` ids were given."""
        self._pieces = [rows for _, rows in pieces]
        self._firsts = np.array([*(first for first, _ in pieces), passages], np.int64)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def read(self, first: int, stop: int) -> AnyArray:
        found = []
        for number, rows in enumerate(self._pieces):
            begin, end = int(self._firsts[number]), int(self._firsts[number + 1])
            if first < end and begin < stop:
                found.append(rows.read(max(first, begin) - begin, min(stop, end) - begin))
        return found[0] if len(found) == 1 else np.concatenate(found or [self._pieces[0].read(0, 0)])

    def take(self, ids: Ids) -> AnyArray:
        return self._each(ids, lambda rows, own: rows.take(own))

    def pick(self, ids: Ids) -> AnyArray:
        """As `take`, of arrays that have it; see `RowArray.pick`."""
        return self._each(ids, lambda rows, own: rows.pick(own))

    def _each(self, ids: Ids, read: Callable[[Any, Ids], AnyArray]) -> AnyArray:
        ids = np.asarray(ids, np.int64)
        segment = np.searchsorted(self._firsts, ids, side="right") - 1
        numbers = np.unique(segment)
        if len(numbers) <= 1:
            number = int(numbers[0]) if len(numbers) else 0
            return read(self._pieces[number], ids - self._firsts[number])
        result: AnyArray | None = None
        for number in numbers.tolist():
            here = np.flatnonzero(segment == number)
            rows = read(self._pieces[number], ids[here] - self._firsts[number])
            if result is None:
                result = np.empty((len(ids), *rows.shape[1:]), rows.dtype)
            result[here] = rows
        assert result is not None
        return result


class JoinedVectors(VectorArray):
    """The vectors of all segments, by ids of the corpus."""

    def __init__(self, pieces: Sequence[tuple[int, VectorArray]], layout: VectorLayout) -> None:
        """`layout` is of all: its grid has the ids that were given."""
        self.layout = layout
        self._joined = JoinedRows(pieces, layout.grid.passages)

    def read(self, first: int, stop: int) -> AnyArray:
        return self._joined.read(first, stop)

    def take(self, ids: Ids) -> AnyArray:
        return self._joined.take(ids)

    def pick(self, ids: Ids) -> AnyArray:
        return self._joined.pick(ids)

    def batches(self, rows: int = 16384) -> Iterator[tuple[int, AnyArray]]:
        for first in range(0, len(self._joined), rows):
            yield first, self.read(first, min(first + rows, len(self._joined)))
