"""The index: built over all vectors in the launching process, committed, made again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.components.base import Remaking
from pipeline.components.shards import ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval import index as faiss_index
from retrieval.corpus import Corpus
from storage import components
from storage.components import Component, IndexCard
from storage.components import index as index_component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.vector_array import VectorArray, VectorLayout

# Receipts hold whole numbers; recall is kept in millionths.
MILLION: Final = 1_000_000
# An index is trained again where it has lost more recall than this since it was, or where there are so many
# times the passages that it was trained for.
LOST_RECALL: Final = 0.01
GROWN: Final = 2


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
                recall_millionths=round(recall * MILLION),
                recall_queries=min(faiss_index.RECALL_QUERIES, passages),
                **shape.parameters,
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=({"kind": shape.kind},),
        )


@dataclass(frozen=True, kw_only=True)
class ExtendedCounts(IndexCounts):
    """Of an update's index. `whole` is 1 where it was trained again, and holds all passages."""

    whole: int = 0
    first_passage_id: int = 0


EXTEND: Final = Stage(name="index", title="extend the index", counts=ExtendedCounts, measure="passages")


@dataclass(frozen=True, kw_only=True)
class ExtendIndex:
    """Adds what an update added to the index, without training, and measures the recall of the whole.

    It is trained again where that is needed: where an exact one has grown too large, where there are `GROWN`
    times the passages it was trained for, or where the recall has fallen by more than `LOST_RECALL`.

    Attributes:
        corpus: the segment that the file goes to.
        whole: the corpus, as if the update were done.
    """

    corpus: CorpusFolder
    whole: CorpusFolder
    fingerprint: str
    exact_limit: int = faiss_index.EXACT_LIMIT
    stage: Stage[ExtendedCounts] = EXTEND

    def run(self, unit: int, meter: Meter) -> Receipt[ExtendedCounts]:
        after = Corpus(self.whole)
        last = self.whole.manifest.generations[-1]
        before = Corpus(self.whole, generation=last.number - 1)
        trained = before.index_card
        vectors = after.vectors()
        dim = trained.dim
        shape = faiss_index.choose(len(after), dim, exact_limit=self.exact_limit)
        similarity = after.vectors_card.similarity
        grown = bool(trained.parameters["lists"]) and len(after) > GROWN * trained.passages
        whole = (shape.lists > 0) != (trained.parameters["lists"] > 0) and shape.lists > 0
        written: tuple[FileEntry, ...] = ()
        kind, parameters = trained.kind, dict(trained.parameters)
        with meter.time("indexing"):
            recall = None
            if not (whole or grown) or not last.added:
                recall, written = self._extended(before, after, last.added)
            fallen = recall is not None and recall < trained.recall_at_10 - LOST_RECALL
            if last.added and (whole or grown or (fallen and trained.parameters["lists"])):
                whole = True
                path = self._path()
                recall = faiss_index.build(
                    vectors, shape, path, similarity=similarity, tombstones=after.tombstones
                )
                written = (self.corpus.entry(path),)
                kind, parameters = shape.kind, shape.parameters
            else:
                whole = False
        assert recall is not None
        rows = last.added
        if whole:
            rows = len(after) if shape.lists else after.ids_given
        return Receipt(
            unit=unit,
            files=written,
            counts=ExtendedCounts(
                passages=rows,
                dim=dim,
                recall_millionths=round(recall * MILLION),
                recall_queries=min(faiss_index.RECALL_QUERIES, len(after)),
                lists=parameters["lists"],
                probes=parameters["probes"],
                whole=int(whole),
                first_passage_id=0 if whole else last.first_passage_id,
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=({"kind": kind},),
        )

    def _path(self) -> Path:
        path = self.corpus.path(f"{components.INDEX.folder(self.fingerprint)}/{index_component.FILE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _extended(self, before: Corpus, after: Corpus, added: int) -> tuple[float, tuple[FileEntry, ...]]:
        """Write what was added, and measure the recall of all of it together."""
        if not added:
            joined = faiss_index.join(before.index_pieces(), after.tombstones)
            return faiss_index.recall(joined, after.vectors()), ()
        path = self._path()
        last = after.segments[-1]
        array = open_vectors(
            last.folder, self.fingerprint, last.card(components.VECTORS, self.fingerprint).layout
        )
        faiss_index.extend(before.index_pieces()[0], array, last.first, path)
        entry = self.corpus.entry(path)
        card = before.index_card
        own = faiss_index.Index.read(
            self.corpus.root,
            entry,
            passages=added,
            dim=card.dim,
            similarity=after.vectors_card.similarity,
            within=card.file.bytes,
        )
        joined = faiss_index.join([*before.index_pieces(), own], after.tombstones)
        return faiss_index.recall(joined, after.vectors()), (entry,)


def commit_extended(corpus: CorpusFolder, fingerprint: str) -> FileEntry | None:
    """Write the card of an update's index, from the receipt of the one unit; None where nothing was added."""
    (receipt,) = corpus.work.receipts(EXTEND.name, range(1), EXTEND.counts)
    counts = receipt.counts
    if not receipt.files:
        return None
    card = IndexCard(
        fingerprint=fingerprint,
        kind=receipt.notes[0]["kind"],
        parameters={"lists": counts.lists, "probes": counts.probes},
        passages=counts.passages,
        dim=counts.dim,
        recall_at_10=counts.recall_millionths / MILLION,
        recall_queries=counts.recall_queries,
        file=receipt.files[0],
        first_passage_id=counts.first_passage_id,
    )
    return corpus.write_card(components.INDEX, card)


def open_vectors(corpus: CorpusFolder, fingerprint: str, layout: VectorLayout) -> VectorArray:
    """The vectors of a fingerprint, whether they are committed or not."""
    return VectorArray(corpus.scanned(components.VECTORS.folder(fingerprint)), layout)


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
            recall_at_10=counts.recall_millionths / MILLION,
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


def remake_extended(
    remaking: Remaking, name: str, damaged: Iterable[str], whole: CorpusFolder, number: int
) -> None:
    """Build an update's index again: what it added, by the training of the one before; or all of it."""
    corpus = remaking.corpus
    card = corpus.index(name)
    made = corpus.path(remaking.staged(card.file.path))
    made.parent.mkdir(parents=True, exist_ok=True)
    before, after = Corpus(whole, generation=number - 1), Corpus(whole, generation=number)
    if card.first_passage_id:
        array = open_vectors(corpus, name, corpus.vectors(name).layout)
        faiss_index.extend(before.index_pieces()[0], array, card.first_passage_id, made)
    else:
        shape = faiss_index.IndexShape(kind=card.kind, **card.parameters)
        similarity = after.vectors_card.similarity
        faiss_index.build(after.vectors(), shape, made, similarity=similarity, tombstones=after.tombstones)
    for path in damaged:
        remaking.offer(path, made)
