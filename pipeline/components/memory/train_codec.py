"""Before shards are encoded, for codecs with trained parameters: one unit, on a sample of the memory.

The sample is of tokens that lie evenly in passages that lie evenly over the corpus: what the encoder makes
of them, in float32, or what another version holds of them. The parameters go into the version's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.components.memory.encode import EncodeShards, load_encoder
from pipeline.components.memory.reading import Reading
from pipeline.components.memory.recode import RecodeShards
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import codec_parameters
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder


@dataclass(frozen=True, kw_only=True)
class SampledCounts(Counts):
    """Passages and tokens that the codec was trained on."""

    passages: int = 0
    tokens: int = 0


STAGE: Final = Stage(name="codec", title="train codec", counts=SampledCounts, measure="tokens")
# However few tokens a codec asks for, they come from so many passages, where the corpus has them.
FEWEST_PASSAGES: Final = 512
# Tokens that a passage is first taken to have; a corpus of shorter ones is sampled more densely.
LIKELY_TOKENS: Final = 32
# Passages that are encoded at a time.
_BATCH: Final = 128

Ids = npt.NDArray[np.int64]


class Memory(Protocol):
    """Where the sample comes from."""

    def tokens(self, ids: Ids) -> int:
        """Tokens of all these passages together."""

    def values(self, ids: Ids) -> npt.NDArray[np.float32]:
        """Their memory, [tokens, width]."""


class _Encoded:
    """What the encoder makes of passages."""

    def __init__(self, encoder: MemoryEncoder, reading: Reading) -> None:
        self._encoder, self._reading = encoder, reading

    def tokens(self, ids: Ids) -> int:
        return len(self._reading.tokens(self._encoder, ids).ids)

    def values(self, ids: Ids) -> npt.NDArray[np.float32]:
        return self._reading.memory(self._encoder, ids)


class _Stored:
    """What another version holds."""

    def __init__(self, reader: MemoryReader) -> None:
        self._reader = reader

    def tokens(self, ids: Ids) -> int:
        return int(self._reader.tokens(ids).sum())

    def values(self, ids: Ids) -> npt.NDArray[np.float32]:
        return np.asarray(self._reader.fetch(ids).values, np.float32)


def spaced(count: int, total: int) -> Ids:
    """`count` whole numbers from 0 to total - 1, evenly spaced; all of them if there are no more."""
    count = min(count, total)
    return np.arange(count, dtype=np.int64) * total // max(1, count)


def sample(
    memory: Memory, *, passages: int, tokens: int, width: int, meter: Meter
) -> npt.NDArray[np.float32]:
    """About `tokens` tokens of a corpus's memory, float32 [n, width]; fewer where it has fewer."""
    count = max(FEWEST_PASSAGES, -(-tokens // LIKELY_TOKENS))
    with meter.time("tokenizing"):
        while True:
            ids = spaced(count, passages)
            total = sum(memory.tokens(batch) for batch in _batches(ids))
            if total >= tokens or len(ids) == passages:
                break
            count *= 2
        if total > tokens:
            ids = ids[spaced(max(FEWEST_PASSAGES, len(ids) * tokens // total), len(ids))]
            total = sum(memory.tokens(batch) for batch in _batches(ids))
    rows = spaced(tokens, total)
    values = np.empty((len(rows), width), np.float32)
    first = filled = 0
    for batch in _batches(ids):
        with meter.time("encoding"):
            found = memory.values(batch)
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(found))] - first
        values[filled : filled + len(here)] = found[here]
        first, filled = first + len(found), filled + len(here)
        meter.count("passages", len(batch))
        meter.count("tokens", len(here))
        meter.show()
    return values


def _batches(ids: Ids) -> Iterator[Ids]:
    return (ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH))


@dataclass(frozen=True, kw_only=True)
class TrainCodec:
    """Trains the codec of a job's shards. The same corpus and settings give the same bytes."""

    job: EncodeShards | RecodeShards
    stage: Stage[SampledCounts] = STAGE

    @property
    def corpus(self) -> CorpusFolder:
        return self.job.corpus

    def run(self, unit: int, meter: Meter) -> Receipt[SampledCounts]:
        layout = self.job.memory
        with meter.time("loading"):
            memory = self._memory()
        values = sample(
            memory,
            passages=layout.grid.passages,
            tokens=layout.codec.sample_tokens(layout.width),
            width=layout.width,
            meter=meter,
        )
        with meter.time("training"):
            parameters = layout.codec.train(values)
        paths = codec_parameters.write(self.corpus.path(self.job.memory_folder), layout.codec, parameters)
        return Receipt(
            unit=unit,
            files=tuple(map(self.corpus.entry, paths)),
            counts=SampledCounts.from_json(dict(meter.counts)),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )

    def _memory(self) -> Memory:
        if isinstance(self.job, RecodeShards):
            return _Stored(Corpus(self.corpus).memory(self.job.origin))
        return _Encoded(load_encoder(self.job.encoder), self.job.reading)
