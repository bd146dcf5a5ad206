"""Stage 3: a shard of passages becomes its vectors and its memory, written by the worker that made them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from encoders.template import PassageTemplate
from pipeline import work
from storage import canaries, errors, files, memory_store, passage_table, vector_array
from storage.receipts import Receipt

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder
    from encoders.retriever import Retriever

STAGE: Final = "shards"


@dataclass(frozen=True, kw_only=True)
class RetrieverModel:
    """Which retriever, and how it reads a passage. `fingerprint` is what the plan saw of it."""

    name: str
    fingerprint: str
    template: str


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Which memory encoder, and how it reads a passage. `fingerprint` is what the plan saw of it."""

    name: str
    fingerprint: str
    template: str
    live_proportion: Fraction
    compute_dtype: str
    token_budget: int
    max_tokens: int


_LOADING = threading.Lock()


@functools.cache
def _load_retriever(model: RetrieverModel) -> Retriever:
    from encoders.retriever import Retriever

    retriever = Retriever.load(model.name)
    _require_planned(model, retriever.fingerprint)
    return retriever


@functools.cache
def _load_encoder(model: MemoryModel) -> MemoryEncoder:
    from encoders.memory_encoder import MemoryEncoder

    encoder = MemoryEncoder.load(
        model.name,
        live_proportion=model.live_proportion,
        compute_dtype=model.compute_dtype,
        token_budget=model.token_budget,
        max_tokens=model.max_tokens,
        template=model.template,
    )
    _require_planned(model, encoder.fingerprint)
    return encoder


def _require_planned(model: RetrieverModel | MemoryModel, found: str) -> None:
    """Refuse a folder that was changed since the plan was made."""
    if found != model.fingerprint:
        raise errors.MismatchError(
            f"model {model.name} has fingerprint {found[:16]}, the job was planned with "
            f"{model.fingerprint[:16]}; it was changed meanwhile"
        )


def load_retriever(model: RetrieverModel) -> Retriever:
    """Load once a process, however many threads ask."""
    with _LOADING:
        return _load_retriever(model)


def load_encoder(model: MemoryModel) -> MemoryEncoder:
    """Load once a process, however many threads ask."""
    with _LOADING:
        return _load_encoder(model)


def canaries_path(root: Path, unit: int) -> Path:
    """Where the canaries of a shard wait to be joined."""
    return work.folder(root) / STAGE / f"{unit:06d}.canaries"


def rows_path(root: Path, unit: int) -> Path:
    """Where a shard's rows of `offsets` and `checksums` wait to be joined."""
    return work.folder(root) / STAGE / f"{unit:06d}.rows"


def render(template: str, table: pa.Table) -> list[str]:
    """Each passage as a model reads it."""
    parsed = PassageTemplate(template)
    columns = (table.column(name).to_pylist() for name in ("title", "section", "text"))
    return [
        parsed.render(title=title, section=section, text=text)
        for title, section, text in zip(*columns, strict=True)
    ]


def encode_passages(
    encoder: MemoryEncoder, table: passage_table.PassageTable, passage_ids: list[int]
) -> np.ndarray[Any, Any]:
    """Memory of a few passages, [all their tokens, width] float32."""
    texts = render(encoder.template.template, table.take(passage_ids))
    tokens = encoder.tokenize(texts)
    values = np.empty((len(tokens.ids), encoder.width), np.float32)
    encoder.encode(tokens, values)
    return values


@dataclass(frozen=True, kw_only=True)
class EncodeShards:
    """Encodes shards and writes their arrays' files: memory, and with a retriever vectors too.

    Folders are below `root`.
    """

    root: Path
    parts: tuple[passage_table.Part, ...]
    encoder: MemoryModel
    memory_folder: str
    memory: memory_store.MemoryLayout
    retriever: RetrieverModel | None = None
    vectors_folder: str = ""
    vectors: vector_array.VectorLayout | None = None
    stage: str = STAGE

    @functools.cached_property
    def _table(self) -> passage_table.PassageTable:
        """Opened once by each worker's copy of the job."""
        return passage_table.PassageTable(self.root, self.parts)

    @functools.cached_property
    def _loaded(self) -> MemoryEncoder:
        """The encoder, once it has shown that it gives what others, or an earlier run, have stored.

        A worker with another library, driver or accelerator would write memory that does not go
        with the rest, and nothing else would tell.
        """
        encoder = load_encoder(self.encoder)
        for path in sorted((work.folder(self.root) / STAGE).glob("*.canaries")):
            unit = int(path.stem)
            if not work.receipt_path(self.root, STAGE, unit).exists():
                continue
            first, stop = self.memory.grid.bounds(unit)
            dtype = self.memory.codec.dtype
            kept = canaries.from_stored(path.read_bytes(), width=self.memory.width, dtype=dtype.name)
            again = encode_passages(
                encoder, self._table, canaries.within(self.memory.grid.passages, first, stop)
            )
            canaries.require_same(
                kept,
                again.astype(dtype),
                compute_dtype=self.encoder.compute_dtype,
                what=f"shard {unit} was encoded by another worker, or before the job was interrupted",
            )
            break
        return encoder

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        with meter.time("loading"):
            encoder = self._loaded
        first, stop = self.memory.grid.bounds(unit)
        with meter.time("reading"):
            table = self._table.read(first, stop)
        entries: list[files.FileEntry] = []
        counts = {"passages": stop - first}
        if self.retriever is not None and self.vectors is not None:
            entries.append(self._embed(self.retriever, self.vectors, unit, table, meter))
            counts["vector_bytes"] = (stop - first) * self.vectors.row_bytes
        with meter.time("tokenizing"):
            tokens = encoder.tokenize(render(self.encoder.template, table))
        rows = int(tokens.offsets[-1])

        def on_memory(count: int) -> None:
            meter.count("passages", count)
            # Spread evenly, for whoever watches; the receipt has the true counts.
            done = rows * meter.counts["passages"] // (stop - first)
            meter.counts |= {"tokens": done, "memory_bytes": done * self.memory.row_bytes}
            meter.show()

        buffer = memory_store.allocate(self.memory, rows)
        with meter.time("encoding"):
            encoder.encode(tokens, buffer[:rows].view(self.memory.codec.dtype), on_batch=on_memory)
        with meter.time("writing"):
            written = memory_store.write_shard(
                self.root / self.memory_folder,
                self.memory,
                unit,
                offsets=tokens.offsets,
                buffer=buffer,
            )
            entries.append(written.measured.entry(self.root, written.path))
            entries.append(_keep(self.root, rows_path(self.root, unit), written.rows.to_bytes()))
            if kept := canaries.within(self.memory.grid.passages, first, stop):
                values = [
                    buffer.view(self.memory.codec.dtype)[
                        tokens.offsets[i - first] : tokens.offsets[i - first + 1]
                    ]
                    for i in kept
                ]
                data = b"".join(map(canaries.stored_bytes, values))
                entries.append(_keep(self.root, canaries_path(self.root, unit), data))
        counts |= {
            "tokens": rows,
            "memory_bytes": rows * self.memory.row_bytes,
            "passages_cut": int(np.count_nonzero(tokens.cut)),
            "tokens_cut": int(tokens.cut.sum()),
            **_lengths(np.diff(tokens.offsets)),
        }
        return Receipt(
            unit=unit,
            files=tuple(entries),
            counts=counts,
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
        )

    def _embed(
        self,
        model: RetrieverModel,
        layout: vector_array.VectorLayout,
        unit: int,
        table: pa.Table,
        meter: work.Meter,
    ) -> files.FileEntry:
        with meter.time("loading"):
            retriever = load_retriever(model)

        def on_vectors(count: int) -> None:
            meter.count("embedded", count)
            meter.show()

        with meter.time("embedding"):
            vectors = retriever.encode(render(model.template, table), dtype=layout.dtype, on_batch=on_vectors)
        with meter.time("writing"):
            path, measured = vector_array.write_shard(self.root / self.vectors_folder, layout, unit, vectors)
        return measured.entry(self.root, path)


def _keep(root: Path, path: Path, data: bytes) -> files.FileEntry:
    files.write_atomic(path, data)
    return files.entry_of(root, path)


def _lengths(tokens: np.ndarray[Any, Any]) -> Mapping[str, int]:
    """Shortest and longest passage, for reports that must not scan the arrays."""
    return {"tokens_min": int(tokens.min()), "tokens_max": int(tokens.max())}
