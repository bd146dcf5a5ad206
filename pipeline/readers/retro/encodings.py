"""States of chunks for a RETRO that runs no encoder: of a memory version, or the vectors of the retriever."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.retro import memory as retro_memory
from pipeline.readers.retro.chunks import Ids
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import errors
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
