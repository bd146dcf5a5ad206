"""The index: trained once, added to by many workers, put together and measured; made again.

Trained by one unit; then ranges of passages are coded, each a unit, by whoever has time; then the launcher
puts the parts together, list by list, and chooses how many lists a search looks into. What each step leaves
lies in `work/` under its receipt, so a job that is stopped goes on behind the last of them. An exact index
is its vectors: it is assembled in one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.components.base import Remaking
from pipeline.components.index import card as cards
from pipeline.components.index.card import STAGE as STAGE
from pipeline.components.index.card import IndexCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from pipeline.units.work import Once
from retrieval import exact, index_building, index_files
from retrieval import index as faiss_index
from retrieval.index import Index
from retrieval.index_building import Measured, Nearest
from retrieval.index_shape import IndexShape
from storage import components, files, vector_array
from storage.aliases import AnyArray
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.vector_array import VectorArray, VectorLayout

if TYPE_CHECKING:
    from pipeline.units.stages import Stages


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


TRAIN: Final = Stage(name="train", title="train index", counts=TrainedCounts, measure="points")
ADD: Final = Stage(name="add", title="add to index", counts=AddedCounts, measure="passages")

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
        load_trained.forget()  # where units ran in this process
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
            asked = exact.query_ids(passages, None)
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

        path = cards.file_path(plan.corpus, plan.fingerprint)
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
        plan = self.plan
        path = cards.file_path(plan.corpus, plan.fingerprint)
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
            recall_queries=min(exact.RECALL_QUERIES, passages),
            lists=shape.lists,
            **cards.measured(found, shape, plan.target),
        ),
        seconds=dict(meter.seconds),
        worker=worker_name(),
        notes=({"kind": shape.kind},),
    )


def open_vectors(corpus: CorpusFolder, fingerprint: str, layout: VectorLayout) -> VectorArray:
    """The vectors of a fingerprint, whether they are committed or not."""
    return VectorArray(corpus.scanned(components.VECTORS.folder(fingerprint)), layout)


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
