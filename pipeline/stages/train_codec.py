"""Between numbering and encoding, for codecs with trained parameters: one unit, on a sample of the memory.

The sample is what the encoder itself makes, in float32, of passages that lie evenly over the corpus. The
parameters wait in `work/` until the version they decide the fingerprint of has a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from pipeline import work
from pipeline.stages import encode_shards, number_passages
from storage import codec_parameters, codecs, errors, files, passage_table
from storage.receipts import Receipt

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder

STAGE: Final = "codec"
# However few tokens a codec asks for, they come from so many passages, where the corpus has them.
FEWEST_PASSAGES: Final = 512
# Tokens that a passage is first taken to have; a corpus of shorter ones is sampled more densely.
LIKELY_TOKENS: Final = 32
# Passages that are encoded at a time.
_BATCH: Final = 128


class Stages(Protocol):
    """Whatever runs the stages of a build."""

    @property
    def root(self) -> Path: ...
    def run(self, job: work.Job, units: int, *, measure: str, total: int) -> None: ...


def spaced(count: int, total: int) -> npt.NDArray[np.int64]:
    """`count` whole numbers from 0 to total - 1, evenly spaced; all of them if there are no more."""
    count = min(count, total)
    return np.arange(count, dtype=np.int64) * total // max(1, count)


@dataclass(frozen=True, kw_only=True)
class TrainCodec:
    """Trains a codec's parameters. The same corpus and settings give the same bytes."""

    root: Path
    models: encode_shards.Models
    codec: codecs.Codec
    width: int
    passages: int
    stage: str = STAGE

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        with meter.time("loading"):
            encoder = encode_shards.load(self.models)[1]
        sample = self._sample(encoder, meter)
        meter.show()
        with meter.time("training"):
            parameters = self.codec.train(sample)
        paths = codec_parameters.write(work.folder(self.root) / STAGE, self.codec, parameters)
        return Receipt(
            unit=unit,
            files=tuple(files.entry_of(self.root, path) for path in paths),
            counts=dict(meter.counts),
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
            notes=(codec_parameters.digests(parameters),),
        )

    def _sample(self, encoder: MemoryEncoder, meter: work.Meter) -> npt.NDArray[np.float32]:
        """Memory of tokens spaced evenly over passages spaced evenly over the corpus, float32 [n, d]."""
        wanted = self.codec.sample_tokens(self.width)
        table = passage_table.PassageTable(self.root, number_passages.parts(self.root))

        def texts(ids: npt.NDArray[np.int64]) -> list[str]:
            return encode_shards.render(self.models.memory_template, table.take(ids))

        count = max(FEWEST_PASSAGES, -(-wanted // LIKELY_TOKENS))
        with meter.time("tokenizing"):
            while True:
                ids = spaced(count, self.passages)
                total = sum(len(encoder.tokenize(texts(batch)).ids) for batch in _batches(ids))
                if total >= wanted or len(ids) == self.passages:
                    break
                count *= 2
            if total > wanted:
                ids = ids[spaced(max(FEWEST_PASSAGES, len(ids) * wanted // total), len(ids))]
                total = sum(len(encoder.tokenize(texts(batch)).ids) for batch in _batches(ids))
        rows = spaced(wanted, total)
        sample = np.empty((len(rows), self.width), np.float32)
        first = filled = 0
        for batch in _batches(ids):
            tokens = encoder.tokenize(texts(batch))
            memory = np.empty((len(tokens.ids), self.width), np.float32)
            with meter.time("encoding"):
                encoder.encode(tokens, memory)
            here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(memory))] - first
            sample[filled : filled + len(here)] = memory[here]
            first, filled = first + len(memory), filled + len(here)
            meter.count("passages", len(batch))
            meter.count("tokens", len(here))
            meter.show()
        return sample


def _batches(ids: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    return (ids[first : first + _BATCH] for first in range(0, len(ids), _BATCH))


def train(
    stages: Stages, models: encode_shards.Models, codec: codecs.Codec, *, width: int, passages: int
) -> dict[str, str]:
    """Train the codec, if it is of those that are, unless it has been. Returns its parameters' SHA-256."""
    if not codec.trained:
        return {}
    job = TrainCodec(root=stages.root, models=models, codec=codec, width=width, passages=passages)
    stages.run(job, 1, measure="tokens", total=codec.sample_tokens(width))
    return _digests(stages.root)


def _digests(root: Path) -> dict[str, str]:
    return dict(next(work.read_receipts(root, STAGE, 1)).notes[0])


def decides(digests: Mapping[str, str]) -> dict[str, Any]:
    """What trained parameters add to a memory version's fingerprint."""
    return {"codec_parameters": dict(digests)} if digests else {}


def place(root: Path, folder: str, codec: codecs.Codec, width: int) -> None:
    """Write the parameters into the folder of their version, before its shards are encoded."""
    if not codec.trained:
        return
    trained = codec_parameters.read(work.folder(root) / STAGE, codec, width, _digests(root))
    try:
        codec_parameters.write(root / folder, codec, trained.parameters)
    except errors.MismatchError as e:
        raise errors.DamagedError(f"{folder} holds parameters of another codec: {e}") from e
