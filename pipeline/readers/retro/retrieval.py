"""What is retrieved for chunks: as the table has it, stale by a chunk, shuffled, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from encoders.retro.rows import Neighbours
from pipeline.readers.retro import chunks as chunks_of
from pipeline.readers.retro.chunks import NONE, Chunks, Ids, Table
from storage import errors

# `STALE`: what was found for the chunk before, one chunk later, as if the search ran behind the writing of a
# chunk. `STALE_AS_FOUND`: the same without moving on. `SHUFFLED`: what was found for some other chunk.
ON, OFF, STALE, STALE_AS_FOUND, SHUFFLED = "on", "off", "stale", "stale-as-found", "shuffled"
MODES: Final = (ON, OFF, STALE, STALE_AS_FOUND, SHUFFLED)


class Encodings(Protocol):
    """States of chunks that were computed beforehand."""

    @property
    def places(self) -> int:
        """t, the most states of a chunk."""
        ...

    @property
    def width(self) -> int:
        """d'."""
        ...

    @property
    def continued(self) -> bool:
        """Whether the states of a chunk are of its continuation too."""
        ...

    def fetch(self, ids: Ids) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """States [q, t, d'] and which are real [q, t]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Neighbours of the chunks of one corpus.

    Args:
        chunks: whose neighbours are asked for.
        database: where they lie; the same corpus, or another.
        table: of `chunks` against `database`.
        neighbours: k, of the table's columns the first.
        mode: one of `MODES` but "off".
        encodings: of the database; None for token ids.
        own_documents: whether neighbours out of a chunk's own document are let through, which only a
            demonstration of leakage wants.
        seed: of "shuffled".

    Raises:
        CorpusError: one is out of range.
    """

    chunks: Chunks
    database: Chunks
    table: Table
    neighbours: int
    mode: str = ON
    encodings: Encodings | None = None
    own_documents: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.mode == OFF:
            raise errors.CorpusError(f"retrieval is {self.mode!r}, wanted {', '.join(MODES)}")
        if not 1 <= self.neighbours <= self.table.neighbours:
            raise errors.CorpusError(
                f"{self.neighbours} neighbours of a table that has {self.table.neighbours}; wanted 1 to that "
                "many, or a table with more: memcorpus neighbours CORPUS -k"
            )
        if self.database.width != self.chunks.width:
            raise errors.CorpusError(
                f"chunks of {self.chunks.width} tokens and neighbours of {self.database.width}; wanted "
                "as many"
            )

    def ids(self, asked: Ids) -> Ids:
        """Neighbours [q, k] of chunks [q], in this mode; -1 where there is none, all of them for a chunk that
        is outside the corpus.

        Raises:
            DamagedError: the table has a neighbour that is not in the database, or one out of the chunk's own
                document.
        """
        there = (asked >= 0) & (asked < len(self.chunks))
        rows = np.where(there, asked, 0)
        if self.mode in (STALE, STALE_AS_FOUND):
            before = np.maximum(rows - 1, 0)
            # The first chunk of a document has none before it.
            there &= (rows > 0) & (self.chunks.documents(rows) == self.chunks.documents(before))
            source = before
        elif self.mode == SHUFFLED:
            # Where there is no other chunk, nothing was found for one.
            there &= len(self.chunks) > 1
            source = _others(rows, len(self.chunks), self.seed)
        else:
            source = rows
        found = np.full((len(asked), self.neighbours), NONE, np.int64)
        found[there] = self.table.fetch(source[there])[:, : self.neighbours]
        if (found >= len(self.database)).any() or (found < NONE).any():
            raise errors.DamagedError(
                f"the neighbour table names chunk {int(found.max())} of a database of {len(self.database):,}"
            )
        if self.mode == STALE:
            found = self.database.continuations(found)
        if self.database is self.chunks and not self.own_documents:
            found = self._without_own(rows, found)
        return found

    def fetch(self, asked: Ids) -> Neighbours:
        """Neighbours with their continuations, of chunks [batch, l], for the model.

        The states or tokens of a neighbour come first, then those of its continuation, which is masked where
        its document ends.
        """
        ids = self.ids(asked.reshape(-1)).reshape(*asked.shape, self.neighbours)
        if self.encodings is not None and self.encodings.continued:
            both = ids[..., None]  # [batch, l, k, 1]
        else:
            both = np.stack([ids, self.database.continuations(ids)], axis=-1)  # [batch, l, k, 2]
        if self.encodings is None:
            tokens, lengths, _ = chunks_of.tokens_of(self.database, both)
            real = np.arange(tokens.shape[-1]) < lengths[..., None]
            return Neighbours(tokens=_joined(tokens), states=None, real=_joined(real))
        there = both.reshape(-1) >= 0
        places, width = self.encodings.places, self.encodings.width
        states = np.zeros((both.size, places, width), np.float32)
        real = np.zeros((both.size, places), bool)
        if there.any():
            wanted, again = np.unique(both.reshape(-1)[there], return_inverse=True)
            values, held = self.encodings.fetch(wanted)
            states[there], real[there] = values[again], held[again]
        shape = (*ids.shape, both.shape[-1] * places)
        return Neighbours(tokens=None, states=states.reshape(*shape, width), real=real.reshape(shape))

    def _without_own(self, rows: Ids, found: Ids) -> Ids:
        own = (found >= 0) & (
            self.database.documents(np.maximum(found, 0).reshape(-1)).reshape(found.shape)
            == self.chunks.documents(rows)[:, None]
        )
        if self.mode == SHUFFLED:
            # Found for another document's chunk, it may be of this one.
            return np.where(own, NONE, found)
        if own.any():
            raise errors.DamagedError(
                f"the neighbour table gives chunk {int(rows[own.any(1)][0])} one of its own document; it "
                "must leave these out: search again with memcorpus neighbours"
            )
        return found


def _joined(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """[..., 2, m] as [..., 2 m]."""
    return array.reshape(*array.shape[:-2], -1)


def _others(ids: Ids, count: int, seed: int) -> Ids:
    """For each id another one, drawn by the seed and the id alone: no permutation of a whole corpus is
    held."""
    mixed = ids.astype(np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
    # SplitMix64 (Steele et al. 2014): every bit of the id reaches every bit of the result.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    drawn = (mixed % np.uint64(max(count - 1, 1))).astype(np.int64)
    return np.where(count > 1, drawn + (drawn >= ids), ids)
