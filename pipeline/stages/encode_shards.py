"""Stage 3: a shard of passages becomes its vectors and its memory, written by the worker that made them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from encoders.template import PassageTemplate
from pipeline import statistics, work
from pipeline.stages import number_passages
from storage import errors, files, memory_store, passage_table, vector_array
from storage.receipts import Receipt

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder
    from encoders.retriever import Retriever

STAGE: Final = "shards"


@dataclass(frozen=True, kw_only=True)
class Models:
    """Which models, and how they read a passage. `*_fingerprint` is what the plan saw of each."""

    retriever: str
    retriever_fingerprint: str
    retriever_template: str
    memory_encoder: str
    memory_fingerprint: str
    memory_template: str
    live_proportion: Fraction
    compute_dtype: str
    token_budget: int
    max_tokens: int


_LOADING = threading.Lock()


@functools.cache
def _load(models: Models) -> tuple[Retriever, MemoryEncoder]:
    """Both models; a folder that was changed since the plan was made is refused."""
    from encoders.memory_encoder import MemoryEncoder
    from encoders.retriever import Retriever

    retriever = Retriever.load(models.retriever)
    encoder = MemoryEncoder.load(
        models.memory_encoder,
        live_proportion=models.live_proportion,
        compute_dtype=models.compute_dtype,
        token_budget=models.token_budget,
        max_tokens=models.max_tokens,
        template=models.memory_template,
    )
    for name, found, wanted in (
        (models.retriever, retriever.fingerprint, models.retriever_fingerprint),
        (models.memory_encoder, encoder.fingerprint, models.memory_fingerprint),
    ):
        if found != wanted:
            raise errors.MismatchError(
                f"model {name} has fingerprint {found[:16]}, the build was planned with {wanted[:16]}; "
                "it was changed meanwhile"
            )
    return retriever, encoder


def load(models: Models) -> tuple[Retriever, MemoryEncoder]:
    """Load once a process, however many threads ask."""
    with _LOADING:
        return _load(models)


def render(template: str, table: pa.Table) -> list[str]:
    """Each passage as a model reads it."""
    return render_rows(template, table.select(["title", "section", "text"]).to_pylist())


def render_rows(template: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """As `render`, of rows of the passage table."""
    parsed = PassageTemplate(template)
    return [parsed.render(title=row["title"], section=row["section"], text=row["text"]) for row in rows]


@dataclass(frozen=True, kw_only=True)
class EncodeShards:
    """Encodes shards with both models and writes their arrays' files. Paths are below `root`."""

    root: Path
    models: Models
    vectors_folder: str
    vectors: vector_array.VectorLayout
    memory_folder: str
    memory: memory_store.MemoryLayout
    stage: str = STAGE

    @functools.cached_property
    def _table(self) -> passage_table.PassageTable:
        """Opened once by each worker's copy of the job."""
        return passage_table.PassageTable(self.root, number_passages.parts(self.root))

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        with meter.time("loading"):
            retriever, encoder = load(self.models)
        first, stop = self.memory.grid.bounds(unit)
        with meter.time("reading"):
            table = self._table.read(first, stop)

        def on_vectors(count: int) -> None:
            meter.count("embedded", count)
            meter.show()

        with meter.time("embedding"):
            vectors = retriever.encode(
                render(self.models.retriever_template, table),
                dtype=self.vectors.dtype,
                on_batch=on_vectors,
            )
        with meter.time("tokenizing"):
            tokens = encoder.tokenize(render(self.models.memory_template, table))
        rows = int(tokens.offsets[-1])

        def on_memory(count: int) -> None:
            meter.count("passages", count)
            # Spread evenly, for whoever watches; the receipt has the true counts.
            done = rows * meter.counts["passages"] // (stop - first)
            meter.counts |= {"tokens": done, "memory_bytes": done * self.memory.row_bytes}
            meter.show()

        buffer = memory_store.allocate(self.memory, rows)
        with meter.time("encoding"):
            encoder.encode(tokens, buffer[:rows], on_batch=on_memory)
        with meter.time("writing"):
            vectors_folder = self.root / self.vectors_folder
            paths = [
                vector_array.write_shard(vectors_folder, self.vectors, unit, vectors),
                *memory_store.write_shard(
                    self.root / self.memory_folder,
                    self.memory,
                    unit,
                    offsets=tokens.offsets,
                    buffer=buffer,
                ),
            ]
            entries = tuple(files.entry_of(self.root, path) for path in paths)
        counts = {
            "passages": stop - first,
            "tokens": rows,
            "memory_bytes": rows * self.memory.row_bytes,
            "vector_bytes": vectors.nbytes,
            "passages_cut": int(np.count_nonzero(tokens.cut)),
            "tokens_cut": int(tokens.cut.sum()),
            **statistics.stored_counts(entries, self.vectors_folder),
            **statistics.length_counts(np.diff(tokens.offsets), self.memory.max_tokens),
        }
        return Receipt(
            unit=unit,
            files=entries,
            counts=counts,
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
        )
