"""States of chunks for a RETRO that runs no encoder: from a memory version, from the retriever's vectors, or
live."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.memory_encoder import MemoryEncoder
from encoders.retro import memory as retro_memory
from pipeline.readers.retro.chunks import Ids
from retrieval import neighbours
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import errors
from storage.aliases import AnyDtype
from storage.components import MemoryCard
from storage.ragged import RaggedMemory

Padded = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


class StoredMemory:
    """A memory version, fetched by id and decoded to float32.

    Args:
        memory: the version.
        places: t, what chunks are padded to; the longest of the corpus must fit.
        encoder: the fingerprint of the encoder whose memory the model reads; None for any.

    Attributes:
        continued: whether a chunk's states are of its continuation too, as a RETRO's encoder writes them.

    Raises:
        MismatchError: the version was written by another encoder.
    """

    def __init__(self, memory: MemoryReader, *, places: int, encoder: str | None = None) -> None:
        if encoder is not None:
            memory.require_encoder(encoder)
        self._memory, self.places = memory, places
        self.continued = continued(memory.card)

    @property
    def width(self) -> int:
        return self._memory.width

    @property
    def fingerprint(self) -> str:
        """Of the encoder and codec that wrote it."""
        return self._memory.fingerprint

    def fetch(self, ids: Ids) -> Padded:
        return padded(self._memory.fetch(ids), self.places)


class LiveMemory:
    """The same states, encoded when they are asked for: what the store saves.

    Args:
        corpus: with the chunks' text.
        encoder: as wrote the memory.
        places: t.
        dtype: rounded to, as a store of it does.
        shard: passages of a shard of the store, to encode in the batches that it was written in: the same
            bytes, for whole shards of work. None encodes what is asked for alone, which is the same but for
            rounding.
    """

    continued = False

    def __init__(
        self,
        corpus: Corpus,
        encoder: MemoryEncoder,
        *,
        places: int,
        dtype: AnyDtype | str = "float32",
        shard: int | None = None,
    ) -> None:
        self._corpus, self._encoder, self.places = corpus, encoder, places
        self._dtype, self._shard = np.dtype(dtype), shard

    @property
    def width(self) -> int:
        return self._encoder.width

    def fetch(self, ids: Ids) -> Padded:
        if self._shard is None:
            return self._encoded(ids)
        states = np.zeros((len(ids), self.places, self.width), np.float32)
        real = np.zeros(states.shape[:2], bool)
        for shard in np.unique(ids // self._shard):
            first = int(shard) * self._shard
            there = ids // self._shard == shard
            all_states, all_real = self._encoded(
                np.arange(first, min(first + self._shard, len(self._corpus)), dtype=np.int64)
            )
            states[there], real[there] = all_states[ids[there] - first], all_real[ids[there] - first]
        return states, real

    def _encoded(self, ids: Ids) -> Padded:
        rows = self._corpus.passages(ids, columns=["title", "section", "text"]).to_pylist()
        template = self._encoder.template
        tokens = self._encoder.tokenize(
            [template.render(title=row["title"], section=row["section"], text=row["text"]) for row in rows]
        )
        values = np.empty((len(tokens.ids), self.width), self._dtype)
        self._encoder.encode(tokens, values)
        real = np.arange(self.places) < _require_fit(np.diff(tokens.offsets), self.places)[:, None]
        states = np.zeros((len(ids), self.places, self.width), np.float32)
        states[real] = values
        return states, real


class LiveChunks:
    """What a RETRO's encoder gives of chunks with their continuations when it is asked, which is what
    `reencode` stores: to the bit, in float32.

    Args:
        corpus: of the model's chunks.
        encoder: of the model's folder.
    """

    continued = True

    def __init__(self, corpus: Corpus, encoder: MemoryEncoder) -> None:
        self._corpus, self._encoder = corpus, encoder
        self.places, self.width = encoder.max_tokens, encoder.width

    def fetch(self, ids: Ids) -> Padded:
        read = neighbours.retrieved(self._corpus, ids)
        states = np.zeros((*read.mask.shape, self.width), np.float32)
        states[read.mask] = self._encoder.encode_chunks(read.values, read.mask)
        return states, read.mask


class VectorMemory:
    """The retriever's vector of a chunk as a memory of one token.

    Args:
        corpus: with its vectors.
        encoder: the fingerprint of the retriever whose vectors the model reads; None for any.

    Raises:
        MismatchError: the corpus's vectors are another retriever's.
    """

    places, continued = 1, False

    def __init__(self, corpus: Corpus, *, encoder: str | None = None) -> None:
        card = corpus.vectors_card
        if encoder is not None and card.encoder_fingerprint != encoder:
            raise errors.MismatchError(
                f"the corpus's vectors are retriever {card.encoder_fingerprint[:16]}'s, this RETRO reads "
                f"those of {encoder[:16]}"
            )
        self._vectors, self.width = corpus.vectors(), card.layout.dim

    def fetch(self, ids: Ids) -> Padded:
        # By runs of ids that follow each other: a chunk's continuation is the next.
        out = np.empty((len(ids), 1, self.width), np.float32)
        breaks = np.flatnonzero(np.diff(ids) != 1) + 1
        for places in np.split(np.arange(len(ids)), breaks):
            if len(places):
                first = int(ids[places[0]])
                out[places, 0] = self._vectors.read(first, first + len(places))
        return out, np.ones((len(ids), 1), bool)


def continued(card: MemoryCard) -> bool:
    """Whether a version's states of a chunk are of its continuation too."""
    return card.encoder.get("kind") == retro_memory.KIND


def padded(memory: RaggedMemory, places: int) -> Padded:
    """Fetched memory as float32 [q, t, d'] and which states are real [q, t].

    Raises:
        CorpusError: a chunk has more states than t: cut, its end would be lost in silence.
    """
    _require_fit(np.diff(memory.offsets), places)
    values, real = memory.padded(places)
    return np.asarray(values, np.float32), real


def _require_fit(lengths: npt.NDArray[np.int64], places: int) -> npt.NDArray[np.int64]:
    if (lengths > places).any():
        raise errors.CorpusError(
            f"a chunk has {int(lengths.max())} states of memory, the model reads {places} of each; is it "
            "memory of another corpus, or of another template?"
        )
    return lengths
