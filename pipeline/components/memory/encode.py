"""A shard of passages becomes its vectors and its memory, written by the worker that made them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from encoders.memory_encoders import open_encoder
from encoders.memory_spec import MemorySpec
from pipeline.components import shards
from pipeline.components.memory.reading import Reading
from pipeline.components.shards import STAGE, ShardCounts
from pipeline.components.vectors import EmbedShards, require_planned
from pipeline.units import work
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import canaries, codec_parameters, codecs, files, memory_store, passage_table
from storage.aliases import AnyArray
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.work_folder import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from encoders.token_encoder import Spent, TokenEncoder
    from encoders.tokenizing import Read, Tokens

_ROWS: Final = ".rows"
_CANARIES: Final = ".canaries"


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Which memory encoder, how it makes memory of a passage, and where it runs.

    `fingerprint` is what the plan saw of it; `device` as in `encoders.sharding.named`, `model_parallel` as in
    `encoders.sharding.mesh_for`.
    """

    name: str
    fingerprint: str
    memory: MemorySpec
    device: str = "all"
    model_parallel: int | None = None


@work.Once
def load_encoder(model: MemoryModel) -> TokenEncoder:
    opened = open_encoder(model.name, model.memory)
    encoder = opened.load(device=model.device, model_parallel=model.model_parallel)
    require_planned(model.name, encoder.fingerprint, model.fingerprint)
    return encoder


def rows_file(work: WorkFolder, unit: int) -> Path:
    """Where a shard's rows of `offsets` and `checksums` wait to be joined."""
    return work.side_file(STAGE.name, unit, _ROWS)


def rows_left(work: WorkFolder, units: Iterable[int]) -> Iterator[bytes]:
    """Those of some shards, in order."""
    return work.left(STAGE.name, units, _ROWS)


def canaries_file(work: WorkFolder, unit: int) -> Path:
    """Where the canaries of a shard wait to be joined."""
    return work.side_file(STAGE.name, unit, _CANARIES)


def open_coder(corpus: CorpusFolder, folder: str, layout: memory_store.MemoryLayout) -> codecs.Coder:
    """The coder of a version that is being written, with the parameters that lie in its folder."""
    if layout.codec.trained:
        corpus.bring(f"{folder}/{codec_parameters.FOLDER}")
    parameters = codec_parameters.load(corpus.path(folder), layout.codec, layout.width)
    return layout.codec.bind(layout.width, parameters)


def notes_of(digests: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    """What a shard's receipt says of the parameters it was coded with."""
    return (dict(digests),) if digests else ()


def keep(corpus: CorpusFolder, path: Path, data: bytes) -> files.FileEntry:
    """Put what a shard leaves for the commit, and for other workers, where they find it."""
    files.write_atomic(path, data)
    return corpus.entry(path)


def keep_canaries(corpus: CorpusFolder, unit: int, values: Sequence[AnyArray]) -> files.FileEntry:
    """Put the memory of a shard's canaries there."""
    data = b"".join(map(canaries.stored_bytes, values))
    return keep(corpus, canaries_file(corpus.work, unit), data)


def write_memory(
    corpus: CorpusFolder,
    folder: str,
    layout: memory_store.MemoryLayout,
    unit: int,
    *,
    offsets: AnyArray,
    buffer: AnyArray,
    may_be_empty: bool = False,
) -> list[files.FileEntry]:
    """Write a shard's values into a version's folder, and leave its rows of the two small arrays."""
    written = memory_store.write_shard(
        corpus.path(folder), layout, unit, offsets=offsets, buffer=buffer, may_be_empty=may_be_empty
    )
    return [
        corpus.placed(written.path, written.measured),
        keep(corpus, rows_file(corpus.work, unit), written.rows.to_bytes()),
    ]


@dataclass(frozen=True, kw_only=True)
class Passages:
    """A shard as it is read: the passages' rows, and the memory encoder's tokens of them.

    `there` are places in the shard of the passages that have tokens; None: all.
    """

    table: pa.Table
    tokens: Tokens
    there: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A shard as it leaves the device.

    Attributes:
        tokens: whose memory this is, and `offsets`: where each passage's rows begin.
        vectors: [passages, dim], and how the retriever read the passages, `read`; None where the shard is not
            embedded.
        buffer: stored rows, as `memory_store.allocate` made them.
        canaries: the memory of the canaries among the passages, before any code.
        spent: what encoding cost beside.
    """

    tokens: Tokens
    offsets: AnyArray
    vectors: AnyArray | None
    read: Read | None
    buffer: AnyArray
    canaries: list[AnyArray]
    spent: Spent


@dataclass(frozen=True, kw_only=True)
class EncodeShards:
    """Encodes shards and writes their memory, and with `embed` their vectors too.

    Folders are below `root`. A shard has three phases, which overlap with those of its neighbours: see
    `pipeline.units.overlap`. With `left_out` passages that a compaction has emptied get no rows, as it left
    them.
    """

    corpus: CorpusFolder
    parts: tuple[passage_table.Part, ...]
    encoder: MemoryModel
    memory_folder: str
    memory: memory_store.MemoryLayout
    embed: EmbedShards | None = None
    left_out: bool = False
    limit_seconds: float | None = None
    stage: Stage[ShardCounts] = STAGE

    @functools.cached_property
    def reading(self) -> Reading:
        """Opened once by each worker's copy of the job."""
        return Reading(corpus=self.corpus, parts=self.parts)

    @functools.cached_property
    def _loaded(self) -> TokenEncoder:
        """The encoder, once it has shown that it gives what others, or an earlier run, have stored.

        A worker with another library, driver or accelerator would write memory that does not go
        with the rest, and nothing else would tell.
        """
        encoder = load_encoder(self.encoder)
        work_folder = self.corpus.work
        for unit, path in work_folder.side_files(STAGE.name, _CANARIES):
            if not work_folder.has_receipt(STAGE.name, unit):
                continue
            dtype = self.memory.codec.dtype
            data = files.read_bytes(work_folder.here(path))
            kept = canaries.from_stored(data, width=self.memory.width, dtype=dtype.name)
            again = self.reading.memory(encoder, self._canary_ids(unit))
            canaries.require_same(
                kept,
                again.astype(dtype),
                compute_dtype=self.encoder.memory.compute_dtype,
                what=f"shard {unit} was encoded by another worker, or before the job was interrupted",
            )
            break
        return encoder

    @functools.cached_property
    def _coder(self) -> codecs.Coder:
        return open_coder(self.corpus, self.memory_folder, self.memory)

    @functools.cached_property
    def _notes(self) -> tuple[Mapping[str, str], ...]:
        """Taken once a worker: a codebook may have half a gigabyte."""
        return notes_of(codec_parameters.digests(self._coder.parameters))

    def prepare(self, unit: int, meter: Meter) -> Passages:
        with meter.time("loading"):
            encoder = self._loaded
        with meter.time("reading"):
            first, stop = self.memory.grid.bounds(unit)
            table = self.reading.table.read(first, stop)
        with meter.time("tokenizing"):
            if not self.left_out:
                tokens = self.reading.tokens(encoder, np.arange(first, stop), table=table)
                return Passages(table=table, tokens=tokens)
            there = np.flatnonzero(~passage_table.emptied(table)).astype(np.int64)
            tokens = self.reading.tokens(encoder, first + there, table=table.take(there))
            return Passages(table=table, tokens=tokens, there=there)

    def compute(self, unit: int, prepared: Passages, meter: Meter) -> Memory:
        first, stop = self.memory.grid.bounds(unit)
        tokens = prepared.tokens
        vectors, read = None, None
        if self.embed is not None:
            vectors, read = self.embed.embed(prepared.table, meter)
        with meter.time("loading"):
            coder = self._coder
        offsets = self._loaded.offsets(tokens)
        if prepared.there is not None:
            lengths = np.zeros(stop - first, np.int64)
            lengths[prepared.there] = np.diff(offsets)
            offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = int(offsets[-1])

        def on_memory(count: int) -> None:
            meter.count("passages", count)
            # Spread evenly, for whoever watches; the receipt has the true counts.
            done = rows * meter.counts["passages"] // (stop - first)
            meter.counts |= {"tokens": done, "memory_bytes": done * self.memory.row_bytes}
            meter.show()

        buffer = memory_store.allocate(self.memory, rows)
        with meter.time("encoding"):
            spent = self._loaded.encode(tokens, buffer[:rows], coder, on_batch=on_memory)
            kept: list[AnyArray] = []
            if ids := self._canary_ids(unit):
                kept = self._canaries(ids, first, offsets, buffer)
        return Memory(
            tokens=tokens,
            offsets=offsets,
            vectors=vectors,
            read=read,
            buffer=buffer,
            canaries=kept,
            spent=spent,
        )

    def finish(self, unit: int, computed: Memory, meter: Meter) -> Receipt[ShardCounts]:
        first, stop = self.memory.grid.bounds(unit)
        tokens, offsets, spent = computed.tokens, computed.offsets, computed.spent
        rows = int(offsets[-1])
        entries: list[files.FileEntry] = []
        vector_bytes = 0
        if self.embed is not None and computed.vectors is not None:
            entries.append(self.embed.write(unit, computed.vectors, meter))
            vector_bytes = (stop - first) * self.embed.layout.row_bytes
        with meter.time("writing"):
            entries += write_memory(
                self.corpus,
                self.memory_folder,
                self.memory,
                unit,
                offsets=offsets,
                buffer=computed.buffer,
                may_be_empty=self.left_out,
            )
            if computed.canaries:
                entries.append(keep_canaries(self.corpus, unit, computed.canaries))
        return Receipt(
            unit=unit,
            files=tuple(entries),
            counts=ShardCounts(
                passages=stop - first,
                vector_bytes=vector_bytes,
                tokens=rows,
                memory_bytes=rows * self.memory.row_bytes,
                passages_cut=tokens.read.texts_cut,
                tokens_cut=tokens.read.tokens_cut,
                tokens_unknown=tokens.read.tokens_unknown,
                passages_judged=stop - first,
                padding_tokens=spent.padding,
                filler_tokens=spent.filler,
                **shards.retriever_counts(computed.read),
                **shards.stored_counts(entries),
                **shards.length_counts(np.diff(offsets), self.memory.max_tokens),
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=self._notes,
            waited=dict(meter.waited),
            events={
                shards.COMPILED: spent.compiled,
                shards.LOADED: spent.loaded,
                shards.HALVED: spent.halved,
            },
        )

    def _canary_ids(self, unit: int) -> list[int]:
        """The canaries in a shard that have memory."""
        ids = canaries.within(self.memory.grid.passages, *self.memory.grid.bounds(unit))
        if not (ids and self.left_out):
            return ids
        emptied = passage_table.emptied(self.reading.table.take(ids))
        return [i for i, gone in zip(ids, emptied, strict=True) if not gone]

    def _canaries(self, ids: list[int], first: int, offsets: AnyArray, stored: AnyArray) -> list[AnyArray]:
        """The canaries' memory before any code: what is stored, or with a lossy codec encoded for itself."""
        if self._coder.view_only:
            values = self._coder.view(stored)
            return [values[offsets[i - first] : offsets[i - first + 1]] for i in ids]
        return [self.reading.memory(self._loaded, ids).astype(self.memory.codec.dtype)]
