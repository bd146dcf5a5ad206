"""The index: built over all vectors in the launching process, committed, made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pipeline.components.base import Remaking
from pipeline.components.shards import ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval import index as faiss_index
from storage import components
from storage.components import Component, IndexCard
from storage.components import index as index_component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.vector_array import VectorArray, VectorLayout

# Receipts hold whole numbers; recall is kept in millionths.
_MILLION: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class IndexCounts(Counts):
    """Of the one unit: the vectors' shape, the index's parameters, and the recall that was measured."""

    passages: int = 0
    dim: int = 0
    recall_millionths: int = 0
    recall_queries: int = 0
    lists: int = 0
    probes: int = 0


STAGE: Final = Stage(name="index", title="index vectors", counts=IndexCounts, measure="passages")


@dataclass(frozen=True, kw_only=True)
class IndexVectors:
    """Builds the index over the vectors of a fingerprint, and measures its recall."""

    corpus: CorpusFolder
    fingerprint: str
    vectors: VectorLayout
    similarity: str
    exact_limit: int = faiss_index.EXACT_LIMIT
    stage: Stage[IndexCounts] = STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[IndexCounts]:
        vectors = open_vectors(self.corpus, self.fingerprint, self.vectors)
        passages, dim = self.vectors.shape
        shape = faiss_index.choose(passages, dim, exact_limit=self.exact_limit)
        folder = components.INDEX.folder(self.fingerprint)
        path = self.corpus.path(f"{folder}/{index_component.FILE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with meter.time("indexing"):
            recall = faiss_index.build(vectors, shape, path, similarity=self.similarity)
        return Receipt(
            unit=unit,
            files=(self.corpus.entry(path),),
            counts=IndexCounts(
                passages=passages,
                dim=dim,
                recall_millionths=round(recall * _MILLION),
                recall_queries=min(faiss_index.RECALL_QUERIES, passages),
                **shape.parameters,
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=({"kind": shape.kind},),
        )


def open_vectors(corpus: CorpusFolder, fingerprint: str, layout: VectorLayout) -> VectorArray:
    """The vectors of a fingerprint, whether they are committed or not."""
    return VectorArray(corpus.store(components.VECTORS.folder(fingerprint)), layout)


class CommitIndex:
    """Writes the card, from the receipt of the one unit; see `base.Commit`."""

    component: Component[IndexCard] = components.INDEX

    def __init__(self, corpus: CorpusFolder, fingerprint: str) -> None:
        self._corpus, self._fingerprint = corpus, fingerprint

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        """Shards have no part in it."""

    def finish(self) -> tuple[str, FileEntry]:
        (receipt,) = self._corpus.work.receipts(STAGE.name, range(1), STAGE.counts)
        counts = receipt.counts
        card = IndexCard(
            fingerprint=self._fingerprint,
            kind=receipt.notes[0]["kind"],
            parameters={"lists": counts.lists, "probes": counts.probes},
            passages=counts.passages,
            dim=counts.dim,
            recall_at_10=counts.recall_millionths / _MILLION,
            recall_queries=counts.recall_queries,
            file=receipt.files[0],
        )
        return card.name, self._corpus.write_card(components.INDEX, card)


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Build the index again from the vectors, as its card says."""
    corpus = remaking.corpus
    card = corpus.index(name)
    shape = faiss_index.IndexShape(kind=card.kind, **card.parameters)
    made = corpus.path(remaking.staged(card.file.path))
    made.parent.mkdir(parents=True, exist_ok=True)
    vectors = corpus.vectors(name)
    array = open_vectors(corpus, name, vectors.layout)
    faiss_index.build(array, shape, made, similarity=vectors.similarity)
    for path in damaged:
        remaking.offer(path, made)
