"""A shard of one memory version becomes a shard of another, with another codec and without the encoder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.components import shards
from pipeline.components.memory import encode
from pipeline.components.shards import STAGE, ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import canaries, codec_parameters, codecs, memory_store
from storage.folder import CorpusFolder
from storage.ragged import RaggedMemory
from storage.receipts import Receipt


@dataclass(frozen=True, kw_only=True)
class Recoded:
    """A shard's stored rows in its new codec, as `memory_store.allocate` made them."""

    offsets: np.ndarray
    buffer: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RecodeShards:
    """Reads shards from version `origin` and writes them with the codec of `memory`; see `EncodeShards`."""

    corpus: CorpusFolder
    origin: str
    memory_folder: str
    memory: memory_store.MemoryLayout
    limit_seconds: float | None = None
    stage: Stage[ShardCounts] = STAGE

    @functools.cached_property
    def _reader(self) -> MemoryReader:
        return Corpus(self.corpus).memory(self.origin)

    @functools.cached_property
    def _coder(self) -> codecs.Coder:
        return encode.open_coder(self.corpus, self.memory_folder, self.memory)

    @functools.cached_property
    def _notes(self) -> tuple[Mapping[str, str], ...]:
        """As in `EncodeShards`."""
        return encode.notes_of(codec_parameters.digests(self._coder.parameters))

    def prepare(self, unit: int, meter: Meter) -> RaggedMemory:
        first, stop = self.memory.grid.bounds(unit)
        with meter.time("reading"):
            return self._reader.fetch(range(first, stop))

    def compute(self, unit: int, prepared: RaggedMemory, meter: Meter) -> Recoded:
        rows = int(prepared.offsets[-1])
        with meter.time("quantizing"):
            buffer = memory_store.allocate(self.memory, rows)
            buffer[:rows] = self._coder.encode(np.asarray(prepared.values))
        first, stop = self.memory.grid.bounds(unit)
        meter.counts |= {"passages": stop - first, "tokens": rows}
        return Recoded(offsets=prepared.offsets, buffer=buffer)

    def finish(self, unit: int, computed: Recoded, meter: Meter) -> Receipt[ShardCounts]:
        first, stop = self.memory.grid.bounds(unit)
        rows = int(computed.offsets[-1])
        with meter.time("writing"):
            entries = encode.write_memory(
                self.corpus,
                self.memory_folder,
                self.memory,
                unit,
                offsets=computed.offsets,
                buffer=computed.buffer,
                may_be_empty=True,  # where a compaction has dropped them
            )
            # Of an origin that was compacted, some have gone.
            if ids := [i for i in self._reader.card.canaries.passage_ids if first <= i < stop]:
                entries.append(encode.keep_canaries(self.corpus, unit, self._canaries(ids)))
        return Receipt(
            unit=unit,
            files=tuple(entries),
            # What was cut when the origin was encoded stands in its card.
            counts=ShardCounts(
                passages=stop - first,
                tokens=rows,
                memory_bytes=rows * self.memory.row_bytes,
                **shards.stored_counts(entries),
                **shards.length_counts(np.diff(computed.offsets), self.memory.max_tokens),
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=self._notes,
            waited=dict(meter.waited),
        )

    def _canaries(self, ids: list[int]) -> list[np.ndarray]:
        """The origin's own, as its encoder gave them."""
        card = self._reader.card.canaries
        self.corpus.ensure(card.file)
        values = canaries.read(self.corpus.root, card, width=self.memory.width)
        ends = np.cumsum(card.tokens)
        places = [card.passage_ids.index(i) for i in ids]
        return [values[ends[place] - card.tokens[place] : ends[place]] for place in places]
