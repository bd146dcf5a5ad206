"""How an index is made: trained once, added to by ranges of passages, put together, measured.

Each step leaves a file that decides the next one's bytes, so the steps may run in several processes, be
stopped anywhere, and be done again. `build` is all of them in one. Vectors are added in order of passage id,
so an index row is a passage id and nothing else decides it.

How many lists a search looks into is measured: the smallest number by which the share of the exact ten
nearest that it finds, over vectors of the corpus, reaches what was asked for. A search compares its
candidates again by their stored vectors (`retrieval.refining`), so a candidate of the exact ten is found,
wherever the codes rank it: the share is known from ids alone, and no vector is read for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from retrieval import exact, index_files
from retrieval import similarity as similarities
from retrieval.exact import RECALL_AT
from retrieval.index import Index
from retrieval.index_shape import IndexShape
from storage import errors, files
from storage.aliases import AnyArray
from storage.components.vectors import DOT
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray

# The share of the exact ten nearest that a search is to find, where nothing else is asked for.
TARGET_RECALL: Final = 0.97
# Vectors that are read and coded at once.
BATCH: Final = 16_384
# Passages that a unit adds: some minutes of a core among 32,768 lists, and 5 MB of codes.
UNIT_PASSAGES: Final = 4 * BATCH
# Nearest of each query that are kept: more than are counted, as others may be as near as the last of those.
_NEAREST: Final = 2 * RECALL_AT

Ids = npt.NDArray[np.int64]
Take = Callable[[Ids], AnyArray]
Batches = Iterable[tuple[int, AnyArray]]


def training_ids(count: int, tombstones: Tombstones | None, shape: IndexShape) -> Ids:
    """Ids of the vectors that an index is trained on, ascending."""
    there = count if tombstones is None else count - len(tombstones)
    return exact.spread(count, tombstones, shape.training_points(there))


def gather(take: Take, ids: Ids, dim: int, similarity: str = DOT) -> npt.NDArray[np.float32]:
    """Vectors as they are compared, [n, dim]. RAM: these, and a batch of them as they are stored."""
    found = np.empty((len(ids), dim), np.float32)
    for first in range(0, len(ids), BATCH):
        some = ids[first : first + BATCH]
        found[first : first + len(some)] = similarities.prepared(take(some), similarity)
    return found


def train(take: Take, ids: Ids, dim: int, shape: IndexShape, similarity: str = DOT) -> Any:
    """An index without vectors, trained on those of `ids`.

    Args:
        take: vectors by ascending ids.
        ids: of the sample.
        dim: of a vector.
        shape: of the index.
        similarity: by which the vectors are compared.
    """
    index = faiss.index_factory(dim, shape.kind, similarities.metric(similarity))
    if index.is_trained:
        return index
    points = gather(take, ids, dim, similarity)
    if isinstance(index, faiss.IndexPreTransform) and shape.kind.endswith("np"):
        # As FAISS does it, but turned in place: FAISS would hold the sample twice.
        chain: Any = index.chain
        transform: Any = faiss.downcast_VectorTransform(chain.at(0))
        transform.train(points)
        for first in range(0, len(points), BATCH):
            points[first : first + BATCH] = transform.apply(points[first : first + BATCH])
        inner: Any = faiss.downcast_index(index.index)
        inner.train(points)
        index.is_trained = True
    else:
        index.train(points)
    return index


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The exact nearest passages of queries: scores float32 [q, n] and ids int64 [q, n], best first."""

    scores: npt.NDArray[np.float32]
    ids: Ids

    @classmethod
    def none(cls, queries: int) -> Nearest:
        return cls(scores=np.zeros((queries, 0), np.float32), ids=np.zeros((queries, 0), np.int64))

    @classmethod
    def among(
        cls,
        batches: Batches,
        queries: npt.NDArray[np.float32],
        similarity: str = DOT,
        tombstones: Tombstones | None = None,
    ) -> Nearest:
        """The nearest among some vectors."""
        scores, ids = exact.search(
            iter(batches), queries, _NEAREST, similarity=similarity, tombstones=tombstones
        )
        return cls(scores=scores, ids=ids)

    def joined(self, other: Nearest) -> Nearest:
        """The nearest of these and of others, which have larger ids."""
        scores = np.concatenate([self.scores, other.scores], axis=1)
        ids = np.concatenate([self.ids, other.ids], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :_NEAREST]
        return Nearest(
            scores=np.take_along_axis(scores, order, axis=1), ids=np.take_along_axis(ids, order, axis=1)
        )

    def to_bytes(self) -> bytes:
        """Both arrays in NumPy's format, one behind the other."""
        file = io.BytesIO()
        np.save(file, self.scores)
        np.save(file, self.ids)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Nearest:
        file = io.BytesIO(data)
        scores = np.load(file, allow_pickle=False)
        return cls(scores=scores, ids=np.load(file, allow_pickle=False))

    def share(self, found: Ids, k: int) -> float:
        """Share of the exact k nearest among ids [q, n] that were found; -1 is none.

        Among passages as near as the k-th one each is right.
        """
        last = self.scores[:, k - 1 : k]
        right = self.scores >= last - 1e-6 * np.maximum(1, np.abs(last))
        hits = [
            min(k, len(np.intersect1d(ids[own], some[some >= 0], assume_unique=True)))
            for ids, own, some in zip(self.ids, right, found, strict=True)
        ]
        return sum(hits) / (k * len(hits))


def add(
    trained: Any,
    batches: Batches,
    path: Path,
    *,
    queries: npt.NDArray[np.float32] | None = None,
    similarity: str = DOT,
    tombstones: Tombstones | None = None,
) -> tuple[int, Nearest]:
    """Code some vectors, and write them as a part of the index; meanwhile, compare them with queries.

    Args:
        trained: the index, which is not changed.
        batches: (first id, vectors [n, dim]), in order.
        path: of the part.
        queries: [q, dim], whose nearest among these are wanted.
        similarity, tombstones: of the corpus; those that are gone are left out.

    Returns:
        How many vectors were added, and the nearest of each query.
    """
    ivf = faiss.extract_index_ivf(trained)
    width = trained.sa_code_size() - int(ivf.code_size)
    nearest = Nearest.none(0 if queries is None else len(queries))
    ids: list[Ids] = [np.zeros(0, np.int64)]
    numbers: list[Ids] = [np.zeros(0, np.int64)]
    codes: list[AnyArray] = [np.zeros((0, int(ivf.code_size)), np.uint8)]
    for first, vectors in batches:
        for some, batch in exact.live_batches(iter([(first, vectors)]), tombstones):
            # Behind the number of its list, in as few bytes as hold it.
            found = trained.sa_encode(similarities.prepared(batch, similarity))
            ids.append(some)
            numbers.append(_numbers(found[:, :width]))
            codes.append(found[:, width:].copy())
        if queries is not None:
            nearest = nearest.joined(Nearest.among([(first, vectors)], queries, similarity, tombstones))
    every = np.concatenate(ids)
    index_files.write_partial(path, int(ivf.nlist), every, np.concatenate(numbers), np.concatenate(codes))
    return len(every), nearest


def _numbers(data: AnyArray) -> Ids:
    """Whole numbers of some bytes [n, width], the least byte first."""
    found = np.zeros(len(data), np.int64)
    for at in range(data.shape[1]):
        found |= data[:, at].astype(np.int64) << (8 * at)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What an index finds.

    Attributes:
        recall: share of the exact `RECALL_AT` nearest that a search finds.
        codes_recall: that the codes alone would find, without a look at the stored vectors.
        probes: lists that a search looks into.
    """

    recall: float
    codes_recall: float
    probes: int


def measure(
    index: Index,
    queries: npt.NDArray[np.float32],
    nearest: Nearest,
    shape: IndexShape,
    *,
    target: float = TARGET_RECALL,
    probes: int | None = None,
) -> Measured:
    """How many lists a search is to look into, and the recall that it has then.

    Args:
        index: of lists.
        queries: [q, dim], vectors of the corpus.
        nearest: of these.
        shape: of the index; its probes are the most that are tried.
        target: recall that is to be reached. Where the most that are tried do not reach it, they are taken.
        probes: measured is what this number gives, and none is chosen.
    """
    k = min(RECALL_AT, index.faiss.ntotal)
    most = min(k * max(1, shape.refined), index.faiss.ntotal)
    found = Measured(recall=0.0, codes_recall=0.0, probes=0)
    for number in [probes] if probes is not None else _tried(shape.probes):
        ids = index.candidates(queries, k, most, probes=number)
        codes = nearest.share(ids[:, :k], k)
        recall = nearest.share(ids, k) if shape.refined else codes
        found = Measured(recall=recall, codes_recall=codes, probes=number)
        if recall >= target:
            break
    return found


def _tried(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, ... up to `most`: each at most half as much again."""
    number = 1
    while number < most:
        yield number
        if number > 1 and 3 * number // 2 < most:
            yield 3 * number // 2
        number *= 2
    yield most


def assemble(
    trained: Any,
    partials: Sequence[Path],
    path: Path,
    look: Callable[[Index], Measured],
    *,
    count: int,
    similarity: str = DOT,
    tombstones: Tombstones | None = None,
) -> Measured:
    """Put an index together, measure it, and write it with the number of lists that searches look into.

    Args:
        trained: the index, empty.
        partials: parts of it, in ascending order of ids.
        path: of the file, which is whole or absent.
        look: measures the whole.
        count: vectors that it is to hold.
        similarity, tombstones: of the corpus.

    Raises:
        CorpusError: the parts hold another number of vectors.
    """
    ivf = faiss.extract_index_ivf(trained)
    with files.aside(path) as partial:
        with partial.open("xb") as file:
            written = index_files.write_lists(file, trained, partials)
        if written != count:
            raise errors.CorpusError(f"the index took {written} vectors, wanted {count}")
        whole = Index.mapped(partial, similarity, tombstones)
        found = look(whole)
        del whole
        ivf.nprobe = found.probes
        head = index_files.head_of_lists(trained, count)
        with partial.open("r+b") as file:
            file.write(head)
    return found


def write_exact(
    path: Path, dim: int, batches: Iterator[tuple[int, AnyArray]], count: int, similarity: str = DOT
) -> None:
    """Write an exact index of `count` vectors, a batch in memory at a time."""
    index = faiss.index_factory(dim, "Flat", similarities.metric(similarity))
    with files.aside(path) as partial, partial.open("xb") as file:
        prepared = (similarities.prepared(batch, similarity) for _, batch in batches)
        index_files.write_flat(file, index, count, prepared)


def build(
    vectors: VectorArray,
    shape: IndexShape,
    path: Path,
    *,
    similarity: str = DOT,
    tombstones: Tombstones | None = None,
    target: float = TARGET_RECALL,
    probes: int | None = None,
) -> Measured:
    """Train, fill, measure and write the index in this process.

    `similarity` is that of the vectors' card. Without lists a row is a passage, gone or not; lists hold those
    that are there. `target` and `probes` as for `measure`.

    RAM: the sample that it is trained on, `shape.training_bytes` at most; then a batch of vectors.
    """
    count, dim = vectors.layout.shape
    if not shape.lists:
        # A row is a passage, whether it is there or not.
        write_exact(path, dim, vectors.batches(BATCH), count, similarity)
        share = 0.0
        if probes is None:
            share = exact.recall(Index.mapped(path, similarity, tombstones), vectors)
        return Measured(recall=share, codes_recall=share, probes=0)
    trained = train(vectors.take, training_ids(count, tombstones, shape), dim, shape, similarity)
    queries = None if probes is not None else vectors.take(exact.query_ids(count, tombstones))
    nearest = Nearest.none(0 if queries is None else len(queries))
    partials: list[Path] = []
    live = count if tombstones is None else len(tombstones.live())
    try:
        for first in range(0, count, UNIT_PASSAGES):
            partials.append(files.partial_path(path))
            batches = ranged(vectors, first, min(first + UNIT_PASSAGES, count))
            _, found = add(
                trained,
                batches,
                partials[-1],
                queries=queries,
                similarity=similarity,
                tombstones=tombstones,
            )
            nearest = nearest.joined(found)

        def look(index: Index) -> Measured:
            if queries is None:
                return Measured(recall=0.0, codes_recall=0.0, probes=probes or 0)
            return measure(index, queries, nearest, shape, target=target)

        return assemble(
            trained, partials, path, look, count=live, similarity=similarity, tombstones=tombstones
        )
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def ranged(vectors: VectorArray, first: int, stop: int) -> Iterator[tuple[int, AnyArray]]:
    """Vectors of passages first to stop - 1, as (first id, [up to `BATCH`, dim])."""
    for low in range(first, stop, BATCH):
        yield low, vectors.read(low, min(low + BATCH, stop))
