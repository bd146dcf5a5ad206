"""Documents: which passages come from one article, and where among them one stands.

Passages of an article have consecutive ids, and their ordinals count from 0. So of any passage the document
begins at its id less its ordinal, and ends before the next ordinal 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from storage import errors
from storage.joined import JoinedRows
from storage.passage_table import PassageTable

# Ordinals read at once, on the way to a document's end.
BLOCK: Final = 4096


class Ordinals(Protocol):
    """The ordinal of each passage of a corpus."""

    def __len__(self) -> int:
        """Passages in the corpus."""

    def take(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of some passages, in that order."""

    def read(self, first: int, stop: int) -> npt.NDArray[np.int64]:
        """Of passages first to stop."""


class StoredOrdinals:
    """Of a corpus of chunks, which keeps them as an array."""

    def __init__(self, array: JoinedRows) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def take(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._array.take(ids).astype(np.int64)

    def read(self, first: int, stop: int) -> npt.NDArray[np.int64]:
        return self._array.read(first, stop).astype(np.int64)


class TableOrdinals:
    """Of any other, out of its passage table: a row group is read for each thousand."""

    def __init__(self, table: PassageTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def take(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        found = self._table.take(ids, columns=("ordinal",)).column("ordinal").to_numpy()
        return np.asarray(found, np.int64)

    def read(self, first: int, stop: int) -> npt.NDArray[np.int64]:
        return self.take(np.arange(first, stop, dtype=np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """The documents of some passages: of passage i those from `firsts[i]` on and before `stops[i]`.

    Attributes:
        firsts, stops: int64 [n].
    """

    firsts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]


def documents(ordinals: Ordinals, ids: npt.NDArray[np.int64]) -> Documents:
    """The documents of passages [n], which the corpus has.

    Raises:
        DamagedError: an ordinal points before the first passage.
    """
    unique, back = np.unique(ids, return_inverse=True)
    if not len(unique):
        return Documents(firsts=unique, stops=unique)
    places = ordinals.take(unique)
    firsts = unique - places
    if (places < 0).any() or (firsts < 0).any():
        passage = int(unique[np.argmin(np.minimum(places, firsts))])
        raise errors.DamagedError(
            f"passage {passage} claims a place before its document; run `memcorpus verify`"
        )
    # A document's end is looked for behind the last of its passages that was asked for.
    starts, document_of = np.unique(firsts, return_inverse=True)
    at = np.zeros(len(starts), np.int64)
    np.maximum.at(at, document_of, unique + 1)
    stops = np.full(len(starts), -1, np.int64)
    while (open_ := np.flatnonzero(stops < 0)).size:
        block = int(at[open_[0]]) // BLOCK
        first, stop = block * BLOCK, min((block + 1) * BLOCK, len(ordinals))
        if first >= len(ordinals):
            stops[open_] = len(ordinals)
            break
        begun = first + np.flatnonzero(ordinals.read(first, stop) == 0)
        here = open_[at[open_] // BLOCK == block]
        place = np.searchsorted(begun, at[here], side="left")
        found = place < len(begun)
        stops[here[found]] = begun[place[found]]
        at[here[~found]] = stop
        if stop == len(ordinals):
            stops[here[~found]] = stop
    return Documents(firsts=firsts[back], stops=stops[document_of][back])
