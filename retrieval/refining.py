"""Candidates of an index, compared again by their stored vectors.

Codes rank roughly: of the ten nearest, some stand at place 20 or 30. So more candidates are asked for than
are wanted, their vectors are read by id, and the similarities are computed anew, exactly. What is read is
bounded: the candidates of some queries at a time, each passage once.

Of equal similarities the smaller id comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from retrieval import similarity as similarities
from storage.vector_array import VectorArray

if TYPE_CHECKING:
    from retrieval.index import Index

# Candidates whose vectors are in memory at a time: 12 MB at 768 dimensions.
_CANDIDATES: Final = 4096

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def search(index: Index, vectors: VectorArray, queries: Floats, k: int, factor: int) -> tuple[Ids, Floats]:
    """The k best passages of each query, by their stored vectors: (ids [q, k], scores [q, k]), best first.

    Args:
        index: that finds the candidates.
        vectors: of all its passages.
        queries: [q, dim].
        k: passages wanted of each; as many are there.
        factor: candidates for each that is wanted.
    """
    most = min(k * factor, len(index))
    ids = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    found = index.candidates(queries, k, most)
    prepared = similarities.prepared(queries, index.similarity)
    size = max(1, _CANDIDATES // most)
    for first in range(0, len(queries), size):
        part = slice(first, first + size)
        ids[part], scores[part] = _best(found[part], vectors, prepared[part], k, index.similarity)
    return ids, scores


def _best(found: Ids, vectors: VectorArray, queries: Floats, k: int, similarity: str) -> tuple[Ids, Floats]:
    """The k best of each query's candidates [q, n], of which some may be none, -1, but never so many."""
    unique = np.unique(found[found >= 0])
    rows = similarities.prepared(vectors.take(unique), similarity)
    ids = np.empty((len(found), k), np.int64)
    scores = np.empty((len(found), k), np.float32)
    for number, (candidates, query) in enumerate(zip(found, queries, strict=True)):
        own = candidates[candidates >= 0]
        exact = similarities.between(query, rows[np.searchsorted(unique, own)], similarity)
        order = np.lexsort((own, -exact))[:k]
        ids[number], scores[number] = own[order], exact[order]
    return ids, scores
