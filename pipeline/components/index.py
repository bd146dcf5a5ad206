"""The index: trained once, added to by many workers, put together and measured; committed, made again.

Trained by one unit; then ranges of passages are coded, each a unit, by whoever has time; then the launcher
puts the parts together, list by list, and chooses how many lists a search looks into. What each step leaves
lies in `work/` under its receipt, so a job that is stopped goes on behind the last of them. An exact index
is its vectors: it is assembled in one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.components.base import Remaking
from pipeline.components.shards import ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from pipeline.units.work import Once
from retrieval import index as faiss_index
from retrieval import index_building, index_files
from retrieval.corpus import Corpus
from retrieval.index import Index
from retrieval.index_building import Measured, Nearest
from retrieval.index_shape import IndexShape
from storage import components, files, vector_array
from storage.aliases import AnyArray
from storage.components import Component, IndexCard
from storage.components import index as index_component
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.vector_array import VectorArray, VectorLayout

if TYPE_CHECKING:
    from pipeline.units.stages import Stages

# Receipts hold whole numbers; recall is kept in millionths.
MILLION: Final = 1_000_000
# An index is trained again where it has lost more recall than this since it was, or where there are so many
# times the passages that it was trained for.
LOST_RECALL: Final = 0.01
GROWN: Final = 2


@dataclass(frozen=True, kw_only=True)
class TrainedCounts(Counts):
    """Vectors that the index was trained on, and that its recall will be measured by."""

    points: int = 0
    queries: int = 0


@dataclass(frozen=True, kw_only=True)
class AddedCounts(Counts):
    """Passages of a range, and the CRC-32 of the trained index by which they were coded."""

    passages: int = 0
    trained_crc32: int = 0


@dataclass(frozen=True, kw_only=True)
class IndexCounts(Counts):
    """Of the one unit: the vectors' shape, the index's parameters, and the recall that was measured."""

    optional = frozenset({"refined", "target_millionths", "codes_millionths"})

    passages: int = 0
    dim: int = 0
    recall_millionths: int = 0
    recall_queries: int = 0
    lists: int = 0
    probes: int = 0
    refined: int = 0
    target_millionths: int = 0
    codes_millionths: int = 0


TRAIN: Final = Stage(name="train", title="train index", counts=TrainedCounts, measure="points")
ADD: Final = Stage(name="add", title="add to index", counts=AddedCounts, measure="passages")
STAGE: Final = Stage(name="index", title="index vectors", counts=IndexCounts, measure="passages")

_TRAINED: Final = ".faiss"
_QUERIES: Final = ".npy"
_PART: Final = ".part"
_NEAREST: Final = ".nearest"


@dataclass(frozen=True, kw_only=True)
class IndexPlan:
    """An index that is to be built. Small and picklable.

    Attributes:
        corpus: whose vectors are indexed.
        fingerprint: of the vectors.
        vectors: their layout.
        similarity: by which they are compared.
        exact_limit: passages up to which the index is exact.
        target: recall that searches are to have, see `retrieval.index_building`.
        unit_passages: that one unit adds.
    """

    corpus: CorpusFolder
    fingerprint: str
    vectors: VectorLayout
    similarity: str
    exact_limit: int = faiss_index.EXACT_LIMIT
    target: float = index_building.TARGET_RECALL
    unit_passages: int = index_building.UNIT_PASSAGES

    @property
    def shape(self) -> IndexShape:
        return faiss_index.choose(*self.vectors.shape, exact_limit=self.exact_limit)

    @property
    def units(self) -> int:
        """Ranges that are added."""
        return -(-self.vectors.grid.passages // self.unit_passages) if self.shape.lists else 0

    def bounds(self, unit: int) -> tuple[int, int]:
        """The first passage of a range, and the first behind it."""
        first = unit * self.unit_passages
        return first, min(first + self.unit_passages, self.vectors.grid.passages)

    def batches(self, first: int, stop: int) -> Iterator[tuple[int, AnyArray]]:
        """Vectors of a range, in order; of a bucket, its files are here as long as they are read."""
        with self.corpus.borrowed(self._folder, vector_array.files_of(self.vectors, first, stop)) as store:
            yield from index_building.ranged(VectorArray(store, self.vectors), first, stop)

    def take(self, ids: AnyArray) -> AnyArray:
        """Vectors of ascending ids. RAM: these, and the chunks of some."""
        found = np.empty((len(ids), self.vectors.dim), self.vectors.dtype)
        ranges = ids // self.unit_passages
        for unit in np.unique(ranges).tolist():
            here = slice(*np.searchsorted(ranges, [unit, unit + 1]).tolist())
            some = ids[here]
            names = vector_array.files_of(self.vectors, int(some[0]), int(some[-1]) + 1)
            with self.corpus.borrowed(self._folder, names) as store:
                found[here] = VectorArray(store, self.vectors).take(some)
        return found

    @property
    def _folder(self) -> str:
        return components.VECTORS.folder(self.fingerprint)

    def path(self) -> Path:
        """Of the index's file, in a folder that is there."""
        folder = components.INDEX.folder(self.fingerprint)
        path = self.corpus.path(f"{folder}/{index_component.FILE}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def make(stages: Stages, plan: IndexPlan) -> None:
    """Run the stages of an index, from where they were stopped."""
    passages, work = plan.vectors.grid.passages, plan.corpus.work
    shape = plan.shape
    done = work.read_if_whole(STAGE.name, 0, STAGE.counts) if work.has_receipt(STAGE.name, 0) else None
    if shape.lists and done is None:
        stages.run(TRAIN, TrainIndex(plan=plan), 1, total=shape.training_points(passages))
        (receipt,) = work.receipts(TRAIN.name, range(1), TRAIN.counts)
        trained, queries = receipt.files
        adding = AddVectors(plan=plan, trained=trained, queries=queries)
        # Parts by another training, of one that was damaged since: codes of which these lists know nothing.
        for added in work.there(ADD.name, range(plan.units), ADD.counts):
            if added.counts.trained_crc32 != trained.crc32:
                work.forget_stage(ADD.name)
                break
        stages.run(ADD, adding, plan.units, total=passages)
        stages.run(STAGE, JoinIndex(adding=adding), 1, total=passages, local=True)
    else:
        stages.run(STAGE, ExactIndex(plan=plan), 1, total=passages, local=True)


@dataclass(frozen=True, kw_only=True)
class TrainIndex:
    """Trains the index, and keeps the queries by which it will be measured. One unit."""

    plan: IndexPlan
    stage: Stage[TrainedCounts] = TRAIN

    @property
    def corpus(self) -> CorpusFolder:
        return self.plan.corpus

    def run(self, unit: int, meter: Meter) -> Receipt[TrainedCounts]:
        plan, work = self.plan, self.corpus.work
        passages, dim = plan.vectors.shape
        ids = index_building.training_ids(passages, None, plan.shape)
        with meter.time("training"):
            trained = index_building.train(plan.take, ids, dim, plan.shape, plan.similarity)
        with meter.time("reading"):
            asked = index_building.query_ids(passages, None)
            queries = np.asarray(plan.take(asked), np.float32)
        meter.count("points", len(ids))
        paths = work.side_file(TRAIN.name, unit, _TRAINED), work.side_file(TRAIN.name, unit, _QUERIES)
        files.write_atomic(paths[0], index_files.serialized(trained))
        with files.aside(paths[1]) as partial, partial.open("xb") as file:
            np.save(file, queries)
        return Receipt(
            unit=unit,
            files=tuple(map(self.corpus.entry, paths)),
            counts=TrainedCounts(points=len(ids), queries=len(asked)),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def _load_trained(asked: tuple[CorpusFolder, FileEntry]) -> Any:
    corpus, entry = asked
    path = corpus.work.here(corpus.path(entry.path))
    corpus.require_whole(entry)
    return index_files.deserialized(path.read_bytes())


# Kept for the units that a process does; it is not changed by them.
load_trained: Final = Once(_load_trained)


@dataclass(frozen=True, kw_only=True)
class AddVectors:
    """Codes ranges of passages, and finds the passages among them that are nearest to the queries.

    Attributes:
        plan: of the index.
        trained, queries: what its training left.
    """

    plan: IndexPlan
    trained: FileEntry
    queries: FileEntry
    stage: Stage[AddedCounts] = ADD

    @property
    def corpus(self) -> CorpusFolder:
        return self.plan.corpus

    def load_queries(self) -> AnyArray:
        """Float32 [q, dim]."""
        path = self.corpus.work.here(self.corpus.path(self.queries.path))
        self.corpus.require_whole(self.queries)
        found: AnyArray = np.load(path, allow_pickle=False)
        return found

    def run(self, unit: int, meter: Meter) -> Receipt[AddedCounts]:
        plan, work = self.plan, self.corpus.work
        with meter.time("loading"):
            trained = load_trained((self.corpus, self.trained))
            queries = self.load_queries()
        first, stop = plan.bounds(unit)
        part, beside = work.side_file(ADD.name, unit, _PART), work.side_file(ADD.name, unit, _NEAREST)

        def counted() -> Iterator[tuple[int, AnyArray]]:
            for begin, batch in plan.batches(first, stop):
                yield begin, batch
                meter.count("passages", len(batch))
                meter.show()

        with meter.time("adding"):
            count, nearest = index_building.add(
                trained, counted(), part, queries=queries, similarity=plan.similarity
            )
        files.write_atomic(beside, nearest.to_bytes())
        return Receipt(
            unit=unit,
            files=(self.corpus.entry(part), self.corpus.entry(beside)),
            counts=AddedCounts(passages=count, trained_crc32=self.trained.crc32),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


@dataclass(frozen=True, kw_only=True)
class JoinIndex:
    """Puts the parts together, and measures what a search finds. One unit, of the launcher.

    Attributes:
        adding: that made the parts.
    """

    adding: AddVectors
    stage: Stage[IndexCounts] = STAGE

    @property
    def corpus(self) -> CorpusFolder:
        return self.adding.corpus

    def run(self, unit: int, meter: Meter) -> Receipt[IndexCounts]:
        adding, plan, work = self.adding, self.adding.plan, self.corpus.work
        passages, _ = plan.vectors.shape
        trained = _load_trained((self.corpus, adding.trained))
        queries = adding.load_queries()
        nearest = Nearest.none(len(queries))
        parts = []
        with meter.time("reading"):
            for receipt in work.receipts(ADD.name, range(plan.units), ADD.counts):
                part, beside = (work.here(self.corpus.path(entry.path)) for entry in receipt.files)
                for entry in receipt.files:  # what was whole when it was written is about to be believed
                    self.corpus.require_whole(entry)
                parts.append(part)
                nearest = nearest.joined(Nearest.from_bytes(beside.read_bytes()))

        def look(index: Index) -> Measured:
            with meter.time("measuring"):
                return index_building.measure(index, queries, nearest, plan.shape, target=plan.target)

        path = plan.path()
        with meter.time("indexing"):
            found = index_building.assemble(
                trained, parts, path, look, count=passages, similarity=plan.similarity
            )
        return _receipt(unit, plan, self.corpus.entry(path), found, meter)


@dataclass(frozen=True, kw_only=True)
class ExactIndex:
    """Assembles an exact index, and measures it. One unit, of the launcher."""

    plan: IndexPlan
    stage: Stage[IndexCounts] = STAGE

    @property
    def corpus(self) -> CorpusFolder:
        return self.plan.corpus

    def run(self, unit: int, meter: Meter) -> Receipt[IndexCounts]:
        plan, path = self.plan, self.plan.path()
        with meter.time("indexing"):
            vectors = open_vectors(plan.corpus, plan.fingerprint, plan.vectors)
            found = index_building.build(vectors, plan.shape, path, similarity=plan.similarity)
        return _receipt(unit, plan, self.corpus.entry(path), found, meter)


def _receipt(
    unit: int, plan: IndexPlan, entry: FileEntry, found: Measured, meter: Meter
) -> Receipt[IndexCounts]:
    passages, dim = plan.vectors.shape
    shape = plan.shape
    return Receipt(
        unit=unit,
        files=(entry,),
        counts=IndexCounts(
            passages=passages,
            dim=dim,
            recall_queries=min(faiss_index.RECALL_QUERIES, passages),
            lists=shape.lists,
            **_measured(found, shape, plan.target),
        ),
        seconds=dict(meter.seconds),
        worker=worker_name(),
        notes=({"kind": shape.kind},),
    )


def _measured(found: Measured, shape: IndexShape, target: float) -> dict[str, int]:
    """What was measured, as counts."""
    counts = {"probes": found.probes, "recall_millionths": round(found.recall * MILLION)}
    if shape.lists:
        counts |= {
            "refined": shape.refined,
            "target_millionths": round(target * MILLION),
            "codes_millionths": round(found.codes_recall * MILLION),
        }
    return counts


def _told(counts: IndexCounts) -> dict[str, Any]:
    """What the counts of an index say of its card."""
    return {
        "parameters": {"lists": counts.lists, "probes": counts.probes},
        "passages": counts.passages,
        "dim": counts.dim,
        "recall_at_10": counts.recall_millionths / MILLION,
        "recall_queries": counts.recall_queries,
        "refined": counts.refined,
        "target_recall": counts.target_millionths / MILLION if counts.target_millionths else None,
        "codes_recall_at_10": counts.codes_millionths / MILLION if counts.target_millionths else None,
    }


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
        kind, told = trained.kind, _kept(trained)
        with meter.time("indexing"):
            recall = None
            if not (whole or grown) or not last.added:
                recall, written = self._extended(before, after, last.added)
            fallen = recall is not None and recall < trained.recall_at_10 - LOST_RECALL
            if last.added and (whole or grown or (fallen and trained.parameters["lists"])):
                whole = True
                path = self._path()
                target = (
                    index_building.TARGET_RECALL if trained.target_recall is None else trained.target_recall
                )
                found = index_building.build(
                    vectors, shape, path, similarity=similarity, tombstones=after.tombstones, target=target
                )
                written = (self.corpus.entry(path),)
                kind, recall = shape.kind, found.recall
                told = _measured(found, shape, target) | {"lists": shape.lists}
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
                recall_queries=min(faiss_index.RECALL_QUERIES, len(after)),
                whole=int(whole),
                **(told | {"recall_millionths": round(recall * MILLION)}),
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
            return faiss_index.recall(joined, after.vectors(), before.index_card.refined), ()
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
        return faiss_index.recall(joined, after.vectors(), card.refined), (entry,)


def _kept(card: IndexCard) -> dict[str, int]:
    """What an index that is only added to keeps of the one before, as counts."""
    kept = {**card.parameters, "refined": card.refined}
    if card.target_recall is not None:
        kept["target_millionths"] = round(card.target_recall * MILLION)
    if card.codes_recall_at_10 is not None:
        kept["codes_millionths"] = round(card.codes_recall_at_10 * MILLION)
    return kept


def commit_extended(corpus: CorpusFolder, fingerprint: str) -> FileEntry | None:
    """Write the card of an update's index, from the receipt of the one unit; None where nothing was added."""
    (receipt,) = corpus.work.receipts(EXTEND.name, range(1), EXTEND.counts)
    counts = receipt.counts
    if not receipt.files:
        return None
    card = IndexCard(
        fingerprint=fingerprint,
        kind=receipt.notes[0]["kind"],
        file=receipt.files[0],
        first_passage_id=counts.first_passage_id,
        **_told(counts),
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
            file=receipt.files[0],
            **_told(counts),
        )
        return card.name, self._corpus.write_card(components.INDEX, card)


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Build the index again from the vectors, as its card says."""
    corpus = remaking.corpus
    card = corpus.index(name)
    shape = IndexShape(kind=card.kind, **card.parameters)
    made = corpus.path(remaking.staged(card.file.path))
    made.parent.mkdir(parents=True, exist_ok=True)
    vectors = corpus.vectors(name)
    array = open_vectors(corpus, name, vectors.layout)
    index_building.build(array, shape, made, similarity=vectors.similarity, probes=shape.probes)
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
