"""What a RETRO needs of a chunk corpus, and the same as arrays in memory.

A chunk is a passage of at most m tokens; those of a document follow each other by id, and only its last may
be short. The rule of continuations stands here alone: id + 1 continues id where both are of one document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from storage import errors

Ids = npt.NDArray[np.int64]
# Of an absent neighbour, and of a document where there is no chunk.
NONE = -1


class Chunks(Protocol):
    """Chunks by id, from 0 to len - 1."""

    def __len__(self) -> int: ...

    @property
    def width(self) -> int:
        """m."""
        ...

    def tokens(self, ids: Ids) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Token ids [q, m], padded with 0, and real tokens of each [q]; none of a chunk that is gone."""
        ...

    def documents(self, ids: Ids) -> Ids:
        """The id of the first chunk of each chunk's document, [q]; -1 of a chunk that is gone."""
        ...

    def continuations(self, ids: Ids) -> Ids:
        """The chunk that continues each, in the shape of `ids`; -1 where its document ends, and of -1."""
        ...


class Table(Protocol):
    """A neighbour table: for each chunk of one corpus, chunks of another or the same, best first."""

    @property
    def neighbours(self) -> int:
        """k, columns of the table."""
        ...

    def fetch(self, ids: Ids) -> Ids:
        """[q, k] ids, -1 where there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class ArrayChunks:
    """Chunks in memory.

    Args:
        values: int32 [chunks, m].
        lengths: int32 [chunks], real tokens of each, 1 to m.
        first: int64 [chunks], the id of the first chunk of its document.

    Raises:
        CorpusError: documents do not follow each other, or one has a short chunk before its last.
    """

    values: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    first: Ids

    def __post_init__(self) -> None:
        ids = np.arange(len(self.values))
        begins = self.first == ids
        if len(ids) and not (begins[0] and (begins[1:] | (self.first[1:] == self.first[:-1])).all()):
            raise errors.CorpusError("chunks of a document do not follow each other by id")
        require_full(self.lengths, self.first, self.width)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def tokens(self, ids: Ids) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        return self.values[ids], self.lengths[ids]

    def documents(self, ids: Ids) -> Ids:
        return self.first[ids]

    def continuations(self, ids: Ids) -> Ids:
        following = np.minimum(ids + 1, len(self) - 1)
        goes_on = (ids >= 0) & (following > ids) & (self.first[following] == self.first[ids])
        return np.where(goes_on, ids + 1, NONE)


@dataclass(frozen=True, kw_only=True)
class ArrayTable:
    """A neighbour table in memory, int64 [chunks, k]."""

    values: Ids

    @property
    def neighbours(self) -> int:
        return int(self.values.shape[1])

    def fetch(self, ids: Ids) -> Ids:
        return self.values[ids]


def from_tokens(texts: list[npt.NDArray[np.int32]], m: int) -> ArrayChunks:
    """Documents, cut every m tokens; empty ones give no chunk."""
    values: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    first: list[int] = []
    for tokens in texts:
        begin = len(values)
        for start in range(0, len(tokens), m):
            piece = tokens[start : start + m]
            values.append(np.pad(piece, (0, m - len(piece))))
            lengths.append(len(piece))
            first.append(begin)
    return ArrayChunks(
        values=np.array(values, np.int32).reshape(-1, m),
        lengths=np.array(lengths, np.int32),
        first=np.array(first, np.int64),
    )


def require_full(lengths: npt.NDArray[np.int32], documents: Ids, m: int) -> None:
    """Refuse a short chunk before another of its document: what follows would stand at a wrong place.

    Args:
        lengths, documents: of chunks that follow each other.
        m: tokens of a full chunk.

    Raises:
        CorpusError: there is one.
    """
    short = (lengths[:-1] < m) & (documents[:-1] == documents[1:])
    if short.any():
        raise errors.CorpusError(
            f"a chunk of {int(lengths[:-1][short][0])} tokens is followed by another of its document; wanted "
            f"{m} in all but the last; was the corpus built with --passage-tokens {m}?"
        )


def tokens_of(chunks: Chunks, ids: Ids) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Ids]:
    """Tokens [..., m], lengths and documents [...] of any ids; of those that are no chunks, no token and
    -1."""
    flat = ids.reshape(-1)
    there = (flat >= 0) & (flat < len(chunks))
    tokens = np.zeros((len(flat), chunks.width), np.int32)
    lengths = np.zeros(len(flat), np.int32)
    documents = np.full(len(flat), NONE, np.int64)
    if there.any():
        # Each once: neighbours repeat, and so do chunks of windows that overlap.
        wanted, places = np.unique(flat[there], return_inverse=True)
        found, held = chunks.tokens(wanted)
        tokens[there], lengths[there] = found[places], held[places]
        documents[there] = chunks.documents(wanted)[places]
    return tokens.reshape(*ids.shape, -1), lengths.reshape(ids.shape), documents.reshape(ids.shape)
