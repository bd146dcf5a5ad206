"""Exact search, one pass over all vectors, and what share of its answers an index finds.

`search` compares by any similarity, with FAISS. `search_outside` is for a whole shard of queries, by inner
products, each query's own document left out: then every product is one of two matrices, which is what makes
exact search of many queries cheap. NumPy's BLAS does them, which is faster than FAISS's own (docs/retro.md
has the figures).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from retrieval import refining
from retrieval import similarity as similarities
from retrieval.index import Index
from retrieval.nearest import Best, Floats, Ints, mask_ranges
from storage.aliases import AnyArray
from storage.components.vectors import DOT
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray

RECALL_AT: Final = 10
RECALL_QUERIES: Final = 1000
# Nearest of each query that are kept: more than are counted, as others may be as near as the last of those.
_NEAREST: Final = 2 * RECALL_AT
# Vectors that `search_outside` compares at once with all queries.
BLOCK: Final = 1024


def search(
    batches: Iterator[tuple[int, npt.NDArray[Any]]],
    queries: npt.NDArray[np.float32],
    k: int,
    *,
    similarity: str = DOT,
    tombstones: Tombstones | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k passages most similar to each query [q, dim]: (scores [q, k], ids [q, k]), best first.

    One pass over the vectors, a batch in memory at a time. Those that are gone are passed over.
    """
    scores = np.zeros((len(queries), 0), np.float32)
    found = np.zeros((len(queries), 0), np.int64)
    asked = similarities.prepared(queries, similarity)
    for ids, batch in live_batches(batches, tombstones):
        best, rows = faiss.knn(
            asked,
            similarities.prepared(batch, similarity),
            min(k, len(batch)),
            metric=similarities.metric(similarity),
        )
        scores = np.concatenate([scores, similarities.scores(best, similarity)], axis=1)
        scores, found = _best(scores, np.concatenate([found, ids[rows]], axis=1), k)
    return scores, found


def _best(scores: Floats, ids: Ints, k: int) -> tuple[Floats, Ints]:
    """The k best of each row [q, n], of equals those that come first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def search_outside(
    batches: Iterable[tuple[int, AnyArray]], queries: Floats, k: int, firsts: Ints, stops: Ints
) -> Best:
    """The k largest inner products among all vectors.

    Args:
        batches: (first id, vectors [n, dim]), in order, of the whole database.
        queries: [q, dim].
        k: neighbours of each.
        firsts, stops: [q]: passages from firsts[i] on and before stops[i] are left out of query i.
    """
    best = Best(len(queries), k)
    every = np.arange(len(queries), dtype=np.int64)
    for begin, batch in batches:
        for low in range(0, len(batch), BLOCK):
            vectors = np.asarray(batch[low : low + BLOCK], np.float32)
            first = begin + low
            scores = queries @ vectors.T
            mask_ranges(scores, firsts - first, stops - first)
            best.offer(every, scores, np.arange(first, first + len(vectors), dtype=np.int64))
    return best


def live_batches(
    batches: Iterator[tuple[int, npt.NDArray[Any]]], tombstones: Tombstones | None
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
    """Batches of vectors with their ids, without those that are gone."""
    for first, batch in batches:
        if tombstones is None or not len(tombstones):
            yield np.arange(first, first + len(batch), dtype=np.int64), batch
        elif len(ids := tombstones.live(first, first + len(batch))):
            yield ids, batch[ids - first]


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The exact nearest passages of queries: scores float32 [q, n] and ids int64 [q, n], best first."""

    scores: Floats
    ids: Ints

    @classmethod
    def none(cls, queries: int) -> Nearest:
        return cls(scores=np.zeros((queries, 0), np.float32), ids=np.zeros((queries, 0), np.int64))

    @classmethod
    def among(
        cls,
        batches: Iterable[tuple[int, AnyArray]],
        queries: Floats,
        similarity: str = DOT,
        tombstones: Tombstones | None = None,
    ) -> Nearest:
        """The nearest among some vectors."""
        scores, ids = search(iter(batches), queries, _NEAREST, similarity=similarity, tombstones=tombstones)
        return cls(scores=scores, ids=ids)

    def joined(self, other: Nearest) -> Nearest:
        """The nearest of these and of others, which have larger ids."""
        scores = np.concatenate([self.scores, other.scores], axis=1)
        ids = np.concatenate([self.ids, other.ids], axis=1)
        scores, ids = _best(scores, ids, _NEAREST)
        return Nearest(scores=scores, ids=ids)

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

    def share(self, found: Ints, k: int) -> float:
        """Share of the exact k nearest among ids [q, n] that were found; -1 is none.

        Among passages as near as the k-th one each is right.
        """
        right = self.scores >= self.scores[:, k - 1 : k] - _slack(self.scores)
        hits = [
            min(k, len(np.intersect1d(ids[own], some[some >= 0], assume_unique=True)))
            for ids, own, some in zip(self.ids, right, found, strict=True)
        ]
        return sum(hits) / (k * len(hits))


def spread(count: int, tombstones: Tombstones | None, most: int) -> Ints:
    """Ids of at most so many passages, evenly spaced over those of `count` that are there."""
    live = None if tombstones is None else tombstones.live()
    there = count if live is None else len(live)
    places = np.unique(np.linspace(0, there - 1, min(there, most)).astype(np.int64))
    return places if live is None else live[places]


def query_ids(count: int, tombstones: Tombstones | None) -> Ints:
    """Ids of the vectors that serve as queries where recall is measured, ascending."""
    return spread(count, tombstones, RECALL_QUERIES)


def recall(index: Index, vectors: VectorArray, factor: int = 0) -> float:
    """Share of the exact `RECALL_AT` nearest passages that a search finds, over evenly spaced queries.

    `factor` is of candidates that are compared again by their vectors, for each passage wanted; 0: none are.
    """
    gone = index.tombstones
    passages = vectors.layout.grid.passages
    k = min(RECALL_AT, passages - (0 if gone is None else len(gone)))
    queries = vectors.take(query_ids(passages, gone))
    best, _ = search(vectors.batches(), queries, k, similarity=index.similarity, tombstones=gone)
    if factor:
        found, _ = refining.search(index, vectors, queries, k, factor)
    else:
        found, _ = index.search(queries, k)
    # Judged by the passages' exact scores: among equals at the k-th place either one is right.
    scores = [
        similarities.between(
            query, similarities.prepared(vectors.take(row), index.similarity), index.similarity
        )
        for row, query in zip(found, similarities.prepared(queries, index.similarity), strict=True)
    ]
    return float(np.mean(np.array(scores) >= best[:, -1:] - _slack(best)))


def _slack(best: Floats) -> Floats:
    """How far apart scores are equal [q, 1]: a rounding of the largest among the best [q, n], whatever the
    vectors' length."""
    return np.asarray(1e-6 * np.abs(best).max(axis=1, keepdims=True), np.float32)
