"""States of chunks encoded when they are asked for: what a store of them is compared with."""

from __future__ import annotations

import numpy as np

from encoders.memory_encoder import MemoryEncoder
from encoders.retro.memory import ChunkEncoder
from pipeline.readers.retro.chunks import Ids
from pipeline.readers.retro.encodings import Padded
from retrieval import neighbours
from retrieval.corpus import Corpus
from storage.aliases import AnyDtype


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
        real = np.arange(self.places) < np.diff(tokens.offsets)[:, None]
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

    def __init__(self, corpus: Corpus, encoder: ChunkEncoder) -> None:
        self._corpus, self._encoder = corpus, encoder
        self.places, self.width = encoder.max_tokens, encoder.width

    def fetch(self, ids: Ids) -> Padded:
        read = neighbours.retrieved(self._corpus, ids)
        states = np.zeros((*read.mask.shape, self.width), np.float32)
        states[read.mask] = self._encoder.encode_chunks(read.values, read.mask)
        return states, read.mask
