"""Vectors: a shard of passages embedded, committed, made again.

In a build a shard is embedded as a part of encoding it; alone it is for repairs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from encoders import fingerprint
from encoders.retriever import SENTENCE_TRANSFORMERS
from encoders.tokenizing import Read
from pipeline.components.base import Remaking, require_batching
from pipeline.components.shards import ShardCounts, render
from pipeline.units import work
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import components, errors, file_list, passage_table, vector_array, zarr_arrays
from storage.aliases import AnyArray
from storage.components import Component, ReadCounts, VectorsCard
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt

if TYPE_CHECKING:
    from encoders.retriever import Retriever


@dataclass(frozen=True, kw_only=True)
class EmbeddedCounts(Counts):
    """Passages embedded, and bytes of their vectors."""

    passages: int = 0
    vector_bytes: int = 0


# The setting that says what runs the retriever.
BACKEND: Final = "retriever_backend"
STAGE: Final = Stage(name="vectors", title="embed shards", counts=EmbeddedCounts, measure="passages")


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


@dataclass(frozen=True, kw_only=True)
class EmbedShards:
    """Embeds shards and writes their vectors into `folder`, below the corpus."""

    corpus: CorpusFolder
    parts: tuple[passage_table.Part, ...]
    retriever: RetrieverModel
    folder: str
    layout: vector_array.VectorLayout
    stage: Stage[EmbeddedCounts] = STAGE

    @functools.cached_property
    def _table(self) -> passage_table.PassageTable:
        return passage_table.PassageTable(self.corpus.root, self.parts, ensure=self.corpus.ensure)

    def run(self, unit: int, meter: Meter) -> Receipt[EmbeddedCounts]:
        first, stop = self.layout.grid.bounds(unit)
        with meter.time("reading"):
            table = self._table.read(first, stop)
        vectors, _ = self.embed(table, meter)
        entry = self.write(unit, vectors, meter)
        return Receipt(
            unit=unit,
            files=(entry,),
            counts=EmbeddedCounts(passages=stop - first, vector_bytes=(stop - first) * self.layout.row_bytes),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )

    def embed(self, table: pa.Table, meter: Meter) -> tuple[AnyArray, Read]:
        """The vectors of the passages of a shard, [passages, dim], and what the retriever was given."""
        with meter.time("loading"):
            retriever = load_retriever(self.retriever)

        def on_vectors(count: int) -> None:
            meter.count("embedded", count)
            meter.show()

        reads: list[Read] = []
        with meter.time("embedding"):
            vectors = retriever.encode(
                render(self.retriever.template, table),
                dtype=self.layout.dtype,
                on_batch=on_vectors,
                on_read=reads.append,
            )
        return vectors, sum(reads, Read())

    def write(self, unit: int, vectors: AnyArray, meter: Meter) -> FileEntry:
        """Write the vectors of a shard."""
        with meter.time("writing"):
            folder = self.corpus.path(self.folder)
            path, measured = vector_array.write_shard(folder, self.layout, unit, vectors)
        return self.corpus.placed(path, measured)


@dataclass(frozen=True, kw_only=True)
class VectorsPlan:
    """Vectors that are to be written.

    Attributes:
        retriever: its fingerprint, and what that was taken of.
        template: a passage as it reads it.
        layout: of the array.
    """

    retriever: fingerprint.Fingerprint
    template: str
    layout: vector_array.VectorLayout

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the vectors."""
        return fingerprint.of(
            {"retriever": self.retriever.hex, "template": self.template, "dtype": self.layout.dtype}
        ).hex

    @property
    def folder(self) -> str:
        return components.VECTORS.folder(self.fingerprint)


class CommitVectors:
    """Lists the shards' files, and writes the card; see `base.Commit`."""

    component: Component[VectorsCard] = components.VECTORS

    def __init__(self, corpus: CorpusFolder, plan: VectorsPlan) -> None:
        self._corpus, self._plan = corpus, plan
        folder = corpus.path(plan.folder)
        self._path = folder / file_list.NAME
        self._list = file_list.Writer(self._path)
        self._list.add(corpus.entry(folder / zarr_arrays.METADATA))
        self._counts = ShardCounts()

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        self._counts += receipt.counts
        for entry in receipt.files:
            if entry.path.startswith(f"{self._plan.folder}/"):
                self._list.add(entry)

    def finish(self) -> tuple[str, FileEntry]:
        self._list.close()
        card = VectorsCard(
            fingerprint=self._plan.fingerprint,
            encoder_fingerprint=self._plan.retriever.hex,
            encoder=self._plan.retriever.description,
            layout=self._plan.layout,
            files=self._corpus.entry(self._path),
            counts=self._read(),
        )
        return card.name, self._corpus.write_card(components.VECTORS, card)

    def _read(self) -> ReadCounts | None:
        """What the retriever was given; None where some shards were embedded by an earlier release."""
        sums = self._counts
        if sums.retriever_passages != self._plan.layout.grid.passages:
            return None
        return ReadCounts(
            tokens=sums.retriever_tokens,
            passages_cut=sums.retriever_passages_cut,
            tokens_cut=sums.retriever_tokens_cut,
            tokens_unknown=sums.retriever_tokens_unknown,
        )


_SHARD: Final = re.compile(r"vectors/[^/]+/c/(\d+)/0")


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Make the damaged files of one array again: its metadata from the card, its shards by the retriever."""
    corpus = remaking.corpus
    card = corpus.vectors(name)
    folder = components.VECTORS.folder(name)
    staged = corpus.path(remaking.staged(folder))
    made = vector_array.create(staged, card.layout)
    remaking.offer(f"{folder}/{zarr_arrays.METADATA}", made)
    paths = {path: int(found[1]) for path in damaged if (found := _SHARD.fullmatch(path))}
    shards = remaking.give_up_emptied(card.layout.grid, paths)
    if not shards:
        return
    require_batching(corpus.manifest.built)
    built = Fields(corpus.manifest.built, "the build's settings")
    job = EmbedShards(
        corpus=corpus,
        parts=corpus.passages.parts,
        retriever=RetrieverModel(
            name=remaking.model("retriever", ""),
            fingerprint=card.encoder_fingerprint,
            template=built.text("retriever_template"),
            # Corpora of before there was a choice were built with this one.
            backend=built.text(BACKEND) if BACKEND in built else SENTENCE_TRANSFORMERS,
        ),
        folder=remaking.staged(folder),
        layout=card.layout,
    )
    remaking.run(STAGE, job, shards, card.layout.grid.shards, job.folder)
    for path, shard in paths.items():
        remaking.offer(path, zarr_arrays.shard_path(staged, shard, 2))
