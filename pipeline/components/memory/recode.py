"""A shard of one memory version becomes a shard of another, with another codec and without the encoder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.accounts import statistics
from pipeline.components.memory import encode as encode_shards
from pipeline.units import work
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import canaries, codec_parameters, codecs, memory_store
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

    root: Path
    origin: str
    memory_folder: str
    memory: memory_store.MemoryLayout
    limit_seconds: float | None = None
    stage: str = encode_shards.STAGE

    @functools.cached_property
    def _reader(self) -> MemoryReader:
        return Corpus(self.root).memory(self.origin)

    @functools.cached_property
    def _coder(self) -> codecs.Coder:
        return encode_shards.open_coder(self.root / self.memory_folder, self.memory)

    @functools.cached_property
    def _notes(self) -> tuple[Mapping[str, str], ...]:
        """As in `EncodeShards`."""
        return encode_shards.notes_of(codec_parameters.digests(self._coder.parameters))

    def prepare(self, unit: int, meter: work.Meter) -> RaggedMemory:
        first, stop = self.memory.grid.bounds(unit)
        with meter.time("reading"):
            return self._reader.fetch(range(first, stop))

    def compute(self, unit: int, prepared: RaggedMemory, meter: work.Meter) -> Recoded:
        rows = int(prepared.offsets[-1])
        with meter.time("quantizing"):
            buffer = memory_store.allocate(self.memory, rows)
            buffer[:rows] = self._coder.encode(np.asarray(prepared.values))
        first, stop = self.memory.grid.bounds(unit)
        meter.counts |= {"passages": stop - first, "tokens": rows}
        return Recoded(offsets=prepared.offsets, buffer=buffer)

    def finish(self, unit: int, computed: Recoded, meter: work.Meter) -> Receipt:
        first, stop = self.memory.grid.bounds(unit)
        rows = int(computed.offsets[-1])
        with meter.time("writing"):
            written = memory_store.write_shard(
                self.root / self.memory_folder,
                self.memory,
                unit,
                offsets=computed.offsets,
                buffer=computed.buffer,
            )
            kept = encode_shards.keep_rows(self.root, unit, written.rows)
            if ids := canaries.within(self.memory.grid.passages, first, stop):
                kept += encode_shards.keep_canaries(self.root, unit, self._canaries(ids))
        entries = (written.measured.entry(self.root, written.path), *kept)
        return Receipt(
            unit=unit,
            files=entries,
            counts={
                "passages": stop - first,
                "tokens": rows,
                "memory_bytes": rows * self.memory.row_bytes,
                # What was cut when the origin was encoded stands in its card.
                "passages_cut": 0,
                "tokens_cut": 0,
                **statistics.stored_counts(entries),
                **statistics.length_counts(np.diff(computed.offsets), self.memory.max_tokens),
            },
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
            notes=self._notes,
            waited=dict(meter.waited),
        )

    def _canaries(self, ids: list[int]) -> list[np.ndarray]:
        """The origin's own, as its encoder gave them."""
        card = self._reader.card.canaries
        values = canaries.read(self.root, card, width=self.memory.width)
        ends = np.cumsum(card.tokens)
        places = [card.passage_ids.index(i) for i in ids]
        return [values[ends[place] - card.tokens[place] : ends[place]] for place in places]
