"""The k nearest passages of many queries that an index finds, each query's own document left out exactly.

A whole shard of queries is searched list by list: then every product is one of two matrices, as in exact
search (`retrieval.exact.search_outside`). A document's passages have consecutive ids, so its part of a list
is one slice: it is masked before the best are taken, and nothing is asked for beyond k, however long the
document.

Equal scores are in order of passage id. All that is done depends on the queries of the call and the database
alone: a shard searched alone has the bytes that it has among others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from retrieval.index import Index

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
NONE: Final = -1
# Queries a list from which a product of matrices is cheaper than FAISS's scan of it for each.
MATRIX: Final = 32


class Best:
    """The k best of each query so far, best first."""

    def __init__(self, queries: int, k: int) -> None:
        self.scores: Floats = np.full((queries, k), -np.inf, np.float32)
        self.ids: Ints = np.full((queries, k), NONE, np.int64)

    def offer(self, queries: Ints, scores: Floats, ids: Ints) -> None:
        """Take what is better.

        Args:
            queries: [r], ascending, each once.
            scores: [r, n], with those queries; -inf is never taken. It is changed.
            ids: [n].
        """
        k = self.scores.shape[1]
        floor = self.scores[queries, -1]
        begun = np.flatnonzero(floor == -np.inf)
        if begun.size and scores.shape[1] > k:
            # Of queries that have not k yet, all would be better.
            part = np.partition(scores[begun], scores.shape[1] - k, axis=1)
            floor[begun] = part[:, -k]
        # Most rows have nothing that is better, as their maximum tells at the speed of memory (NaN: look).
        hopeful = np.flatnonzero(~(scores.max(axis=1, initial=-np.inf) < floor))
        if hopeful.size < len(scores):
            queries, scores, floor = queries[hopeful], scores[hopeful], floor[hopeful]
        row, column = np.divmod(np.flatnonzero(scores >= floor[:, None]), max(scores.shape[1], 1))
        value = scores[row, column]
        taken = value > -np.inf
        row, column, value = row[taken], column[taken], value[taken]
        if not row.size:
            return
        changed = np.unique(row)
        query = np.concatenate([queries[row], np.repeat(queries[changed], k)])
        value = np.concatenate([value, self.scores[queries[changed]].ravel()])
        name = np.concatenate([ids[column], self.ids[queries[changed]].ravel()])
        # None of -inf is last of its query, whatever its name.
        order = np.lexsort((name, -value, query))
        query, value, name = query[order], value[order], name[order]
        begins = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
        place = begins[:, None] + np.arange(k)
        self.scores[query[begins]] = value[place]
        self.ids[query[begins]] = name[place]


def mask_ranges(scores: Floats, lows: Ints, highs: Ints) -> None:
    """Set columns lows[i] to highs[i] - 1 of row i to -inf, as far as there are such columns."""
    lows = np.clip(lows, 0, scores.shape[1])
    highs = np.clip(highs, 0, scores.shape[1])
    for row in np.flatnonzero(highs > lows):
        scores[row, lows[row] : highs[row]] = -np.inf


def by_index(
    index: Index, queries: Floats, k: int, firsts: Ints, stops: Ints, *, probes: int | None = None
) -> Best:
    """The k best that an index finds; a query that finds fewer in the lists nearest to it is searched in all.

    Many queries are searched list by list, few one after the other: which, the call alone decides.

    Args:
        index: with lists.
        queries, k, firsts, stops: as for `exact.search_outside`; queries of a document stand together.
        probes: lists that are looked into; None: as the index has it.
    """
    lists = Lists.of(index)
    if lists is not None:
        looked = min(probes or lists.probes, len(lists))
        if len(queries) * looked >= MATRIX * len(lists):
            return by_list(lists, queries, k, firsts, stops, probes=looked)
    return by_document(index, queries, k, firsts, stops, probes=probes)


def by_document(
    index: Index, queries: Floats, k: int, firsts: Ints, stops: Ints, *, probes: int | None = None
) -> Best:
    """As `by_index`: one search for each document, which FAISS passes over as it scans."""
    best = Best(len(queries), k)
    begins = np.flatnonzero(np.append(True, (np.diff(firsts) != 0) | (np.diff(stops) != 0)))
    for low, high in zip(begins, np.append(begins[1:], len(queries)), strict=True):
        found, scores = index.search_outside(
            queries[low:high], k, first=int(firsts[low]), stop=int(stops[low]), probes=probes
        )
        best.ids[low:high] = found
        best.scores[low:high] = np.where(found == NONE, -np.inf, scores)
    return best


class Lists:
    """The inverted lists of an index, decoded one at a time."""

    def __init__(self, ivf: Any, codec: Any, transform: Any) -> None:
        """`codec` decodes the lists' codes; `transform`, if any, turns queries as the vectors are turned."""
        self._ivf, self._codec, self._transform = ivf, codec, transform
        self._quantizer = faiss.downcast_index(ivf.quantizer)
        self._centroids: Floats = self._quantizer.reconstruct_n(0, ivf.nlist)

    @classmethod
    def of(cls, index: Index) -> Lists | None:
        """The lists of an index of the kinds that `retrieval.index` makes; None of another."""
        inner: Any = index.faiss
        transform: Any = None
        if isinstance(inner, faiss.IndexPreTransform):
            chain: Any = inner.chain
            if chain.size() != 1:
                return None
            transform = faiss.downcast_VectorTransform(chain.at(0))
            inner = faiss.downcast_index(inner.index)
        if isinstance(inner, faiss.IndexIVFScalarQuantizer):
            return cls(inner, inner.sq, transform)
        if isinstance(inner, faiss.IndexIVFPQ):
            return cls(inner, inner.pq, transform)
        return None

    def __len__(self) -> int:
        return int(self._ivf.nlist)

    @property
    def probes(self) -> int:
        """Lists that a search looks into."""
        return int(self._ivf.nprobe)

    def rotated(self, queries: Floats) -> Floats:
        """Queries as the lists' vectors are."""
        if self._transform is None:
            return queries
        return np.ascontiguousarray(self._transform.apply(queries), np.float32)

    def nearest(self, queries: Floats, probes: int) -> Ints:
        """The lists nearest to each query, [q, probes]."""
        if probes >= len(self):
            return np.tile(np.arange(len(self), dtype=np.int64), (len(queries), 1))
        _, found = self._quantizer.search(queries, probes)
        return np.asarray(found, np.int64)

    def read(self, number: int) -> tuple[Ints, Floats]:
        """A list: its passage ids, ascending, and their vectors as they are stored."""
        lists = self._ivf.invlists
        size = lists.list_size(number)
        if not size:
            return np.zeros(0, np.int64), np.zeros((0, self._ivf.d), np.float32)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size).copy()
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
        codes = codes.reshape(size, lists.code_size)
        vectors = self._codec.decode(codes)
        if self._ivf.by_residual:
            vectors = vectors + self._centroids[number]
        return np.asarray(ids, np.int64), np.asarray(vectors, np.float32)


def by_list(lists: Lists, queries: Floats, k: int, firsts: Ints, stops: Ints, *, probes: int) -> Best:
    """The k largest inner products among what the nearest lists hold: list by list, for all queries at once.

    Arguments as for `exact.search_outside`; a query that finds fewer than k is searched again in all lists.
    """
    best = Best(len(queries), k)
    _search(lists, best, np.arange(len(queries), dtype=np.int64), queries, firsts, stops, probes)
    short = np.flatnonzero(best.ids[:, -1] == NONE)
    if short.size and probes < len(lists):
        again = Best(short.size, k)
        every = np.arange(short.size, dtype=np.int64)
        _search(lists, again, every, queries[short], firsts[short], stops[short], len(lists))
        best.scores[short], best.ids[short] = again.scores, again.ids
    return best


def _search(
    lists: Lists, best: Best, rows: Ints, queries: Floats, firsts: Ints, stops: Ints, probes: int
) -> None:
    rotated = lists.rotated(queries)
    for number, asking in _asking(lists.nearest(rotated, probes), len(lists)):
        ids, vectors = lists.read(number)
        if not len(ids):
            continue
        scores = rotated[asking] @ vectors.T
        lows = np.searchsorted(ids, firsts[asking])
        mask_ranges(scores, lows, np.searchsorted(ids, stops[asking]))
        best.offer(rows[asking], scores, ids)


def _asking(nearest: Ints, lists: int) -> Iterator[tuple[int, Ints]]:
    """Each list that is asked, with the queries that ask it, ascending."""
    order = np.argsort(nearest.ravel(), kind="stable")
    counts = np.bincount(nearest.ravel(), minlength=lists)
    at = 0
    for number in np.flatnonzero(counts):
        yield int(number), np.asarray(order[at : at + counts[number]] // nearest.shape[1], np.int64)
        at += counts[number]
