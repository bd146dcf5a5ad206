"""The index of an update: what was added is put to it without training, or it is trained again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pipeline.components.base import Remaking
from pipeline.components.index import card as cards
from pipeline.components.index.build import open_vectors
from pipeline.components.index.card import MILLION, IndexCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from retrieval import exact, index_building
from retrieval import index as faiss_index
from retrieval.corpus import Corpus
from retrieval.index_shape import IndexShape
from storage import components
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt

# An index is trained again where it has lost more recall than this since it was, or where there are so many
# times the passages that it was trained for.
LOST_RECALL: Final = 0.01
GROWN: Final = 2


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
        kind, told = trained.kind, cards.kept(trained)
        with meter.time("indexing"):
            recall = None
            if not (whole or grown) or not last.added:
                recall, written = self._extended(before, after, last.added)
            fallen = recall is not None and recall < trained.recall_at_10 - LOST_RECALL
            if last.added and (whole or grown or (fallen and trained.parameters["lists"])):
                whole = True
                path = cards.file_path(self.corpus, self.fingerprint)
                target = (
                    index_building.TARGET_RECALL if trained.target_recall is None else trained.target_recall
                )
                found = index_building.build(
                    vectors, shape, path, similarity=similarity, tombstones=after.tombstones, target=target
                )
                written = (self.corpus.entry(path),)
                kind, recall = shape.kind, found.recall
                told = cards.measured(found, shape, target) | {"lists": shape.lists}
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
                recall_queries=min(exact.RECALL_QUERIES, len(after)),
                whole=int(whole),
                **(told | {"recall_millionths": round(recall * MILLION)}),
                first_passage_id=0 if whole else last.first_passage_id,
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=({"kind": kind},),
        )

    def _extended(self, before: Corpus, after: Corpus, added: int) -> tuple[float, tuple[FileEntry, ...]]:
        """Write what was added, and measure the recall of all of it together."""
        if not added:
            joined = faiss_index.join(before.index_pieces(), after.tombstones)
            return exact.recall(joined, after.vectors(), before.index_card.refined), ()
        path = cards.file_path(self.corpus, self.fingerprint)
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
        return exact.recall(joined, after.vectors(), card.refined), (entry,)


def commit_extended(corpus: CorpusFolder, fingerprint: str) -> FileEntry | None:
    """Write the card of an update's index, from the receipt of the one unit; None where nothing was added."""
    (receipt,) = corpus.work.receipts(EXTEND.name, range(1), EXTEND.counts)
    if not receipt.files:
        return None
    card = cards.card_by(receipt, fingerprint, first_passage_id=receipt.counts.first_passage_id)
    return corpus.write_card(components.INDEX, card)


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
        index_building.build(
            after.vectors(),
            IndexShape(kind=card.kind, **card.parameters),
            made,
            similarity=after.vectors_card.similarity,
            tombstones=after.tombstones,
            probes=card.parameters["probes"],
        )
    for path in damaged:
        remaking.offer(path, made)
