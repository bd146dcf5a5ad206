"""A shard of passages becomes its vectors. In a build this is a part of encoding; alone it is for repairs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from encoders.template import PassageTemplate
from pipeline.units import work
from storage import errors, files, passage_table, vector_array
from storage.receipts import Receipt

if TYPE_CHECKING:
    from encoders.retriever import Retriever

STAGE: Final = "vectors"


@dataclass(frozen=True, kw_only=True)
class RetrieverModel:
    """Which retriever, what runs it where, and how it reads a passage.

    `fingerprint` is what the plan saw of it; `device` as in `encoders.sharding.named`.
    """

    name: str
    fingerprint: str
    template: str
    backend: str
    device: str = "all"


@work.Once
def load_retriever(model: RetrieverModel) -> Retriever:
    from encoders.retriever import Retriever

    retriever = Retriever.load(model.name, backend=model.backend, device=model.device)
    require_planned(model.name, retriever.fingerprint, model.fingerprint)
    return retriever


def require_planned(name: str, found: str, planned: str) -> None:
    """Refuse a model whose folder was changed since the plan was made."""
    if found != planned:
        raise errors.MismatchError(
            f"model {name} has fingerprint {found[:16]}, the job was planned with {planned[:16]}; "
            "it was changed meanwhile"
        )


def render(template: str, table: pa.Table) -> list[str]:
    """Each passage as a model reads it."""
    return render_rows(template, table.select(["title", "section", "text"]).to_pylist())


def render_rows(template: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """As `render`, of rows of the passage table."""
    parsed = PassageTemplate(template)
    return [parsed.render(title=row["title"], section=row["section"], text=row["text"]) for row in rows]


@dataclass(frozen=True, kw_only=True)
class EmbedShards:
    """Embeds shards and writes their vectors into `folder`, below `root`."""

    root: Path
    parts: tuple[passage_table.Part, ...]
    retriever: RetrieverModel
    folder: str
    layout: vector_array.VectorLayout
    stage: str = STAGE

    @functools.cached_property
    def _table(self) -> passage_table.PassageTable:
        return passage_table.PassageTable(self.root, self.parts)

    def run(self, unit: int, meter: work.Meter) -> Receipt:
        first, stop = self.layout.grid.bounds(unit)
        with meter.time("reading"):
            table = self._table.read(first, stop)
        entry = self.write(unit, self.embed(table, meter), meter)
        return Receipt(
            unit=unit,
            files=(entry,),
            counts={"passages": stop - first, "vector_bytes": (stop - first) * self.layout.row_bytes},
            seconds=dict(meter.seconds),
            worker=work.worker_name(),
        )

    def embed(self, table: pa.Table, meter: work.Meter) -> np.ndarray[Any, Any]:
        """The vectors of the passages of a shard, [passages, dim]."""
        with meter.time("loading"):
            retriever = load_retriever(self.retriever)

        def on_vectors(count: int) -> None:
            meter.count("embedded", count)
            meter.show()

        with meter.time("embedding"):
            return retriever.encode(
                render(self.retriever.template, table), dtype=self.layout.dtype, on_batch=on_vectors
            )

    def write(self, unit: int, vectors: np.ndarray[Any, Any], meter: work.Meter) -> files.FileEntry:
        """Write the vectors of a shard."""
        with meter.time("writing"):
            path, measured = vector_array.write_shard(self.root / self.folder, self.layout, unit, vectors)
        return measured.entry(self.root, path)
