"""The FAISS index over a corpus's vectors: exact when small, sized to the corpus otherwise.

Vectors are added in order of passage id, so an index row is a passage id and nothing else decides it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from storage import errors, files
from storage.thread_locks import ThreadLock
from storage.vector_array import VectorArray

# Up to here every search looks at every vector: 600 MB at 768 dimensions, tens of milliseconds.
EXACT_LIMIT: Final = 200_000
# Up to here vectors are kept as 8-bit numbers behind inverted lists; beyond, as 64-byte product codes.
SCALAR_LIMIT: Final = 5_000_000
RECALL_AT: Final = 10
RECALL_QUERIES: Final = 1000
# FAISS's k-means asks for 39 or more points a centroid, and uses at most 256.
TRAINING_POINTS: Final = 64
CODE_BYTES: Final = 64
# FAISS keeps the limit that is set while an index is read for the whole process.
_READING: Final = ThreadLock()
_NO_LIMIT: Final[int] = faiss.get_deserialization_vector_byte_limit()

# Its stubs do not know that parameters of a search take keywords.
_FAISS: Any = faiss


def _after_fork() -> None:
    """FAISS has OpenMP's threads, which a forked process does not: it would wait for them for ever."""
    faiss.omp_set_num_threads(1)
    # Another thread may just have been reading an index.
    faiss.set_deserialization_vector_byte_limit(_NO_LIMIT)


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexShape:
    """Which index a corpus of this size gets: FAISS's factory string, lists, lists probed."""

    kind: str
    lists: int
    probes: int

    @property
    def parameters(self) -> dict[str, int]:
        return {"lists": self.lists, "probes": self.probes}

    def file_bytes(self, passages: int, dim: int) -> int:
        """Bytes of the index file, its header of some hundred bytes aside."""
        if not self.lists:
            return passages * dim * 4
        # Each vector's code and its number of 8 bytes; the lists' centroids and lengths.
        lists = passages * 8 + self.lists * (dim * 4 + 8)
        if self.kind.startswith("OPQ"):
            return lists + passages * CODE_BYTES + dim * dim * 4 + 256 * dim * 4
        return lists + passages * dim + 2 * dim * 4


def choose(passages: int, dim: int, *, exact_limit: int = EXACT_LIMIT) -> IndexShape:
    """The index for `passages` vectors of `dim`: about 4 * sqrt(passages) lists, a sixteenth probed."""
    if passages <= exact_limit:
        return IndexShape(kind="Flat", lists=0, probes=0)
    lists = 1 << round(math.log2(4 * math.sqrt(passages)))
    probes = max(16, lists // 16)
    if passages <= SCALAR_LIMIT or dim % CODE_BYTES:
        kind = f"IVF{lists},SQ8"
    else:
        kind = f"OPQ{CODE_BYTES},IVF{lists},PQ{CODE_BYTES}"
    return IndexShape(kind=kind, lists=lists, probes=probes)


def build(vectors: VectorArray, shape: IndexShape, path: Path) -> float:
    """Train, fill and write the index; returns its recall@10 on a sample of the corpus's own vectors.

    RAM: the index itself and one batch of vectors; training takes `TRAINING_POINTS` vectors a list.
    """
    count, dim = vectors.layout.shape
    index = faiss.index_factory(dim, shape.kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        # Product codes have 256 centroids of their own to train.
        wanted = max(shape.lists, 256) * TRAINING_POINTS
        points = np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)
        index.train(_float32(vectors.take(points)))
    for _, batch in vectors.batches():
        index.add(_float32(batch))
    if index.ntotal != count:
        raise errors.CorpusError(f"the index took {index.ntotal} vectors, wanted {count}")
    if shape.probes:
        faiss.extract_index_ivf(index).nprobe = shape.probes
    _write(index, path)
    return recall(Index(index), vectors)


def _write(index: Any, path: Path) -> None:
    """Write an index whole or not at all."""
    # Not by FAISS's own writer, which does not tell where a full disk did not take the file's end.
    with files.aside(path) as partial, partial.open("xb") as file:
        writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined] # not in its stubs
        faiss.write_index(index, writer)


def recall(index: Index, vectors: VectorArray) -> float:
    """Share of the exact `RECALL_AT` nearest passages that the index returns, over evenly spaced queries."""
    count = vectors.layout.grid.passages
    k = min(RECALL_AT, count)
    sample = np.unique(np.linspace(0, count - 1, min(RECALL_QUERIES, count)).astype(np.int64))
    queries = _float32(vectors.take(sample))
    best, _ = exact_search(vectors.batches(), queries, k)
    found, _ = index.search(queries, k)
    # Judged by the passages' exact scores: among equals at the k-th place either one is right.
    scores = [_float32(vectors.take(row)) @ query for row, query in zip(found, queries, strict=True)]
    return float(np.mean(np.array(scores) >= best[:, -1:] - 1e-6))


def exact_search(
    batches: Iterator[tuple[int, npt.NDArray[Any]]], queries: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The k largest inner products of each query [q, dim]: (scores [q, k], ids [q, k]), best first.

    One pass over the vectors, a batch in memory at a time.
    """
    scores = np.zeros((len(queries), 0), np.float32)
    found = np.zeros((len(queries), 0), np.int64)
    for first, batch in batches:
        best, rows = faiss.knn(
            queries, _float32(batch), min(k, len(batch)), metric=faiss.METRIC_INNER_PRODUCT
        )
        scores = np.concatenate([scores, best], axis=1)
        found = np.concatenate([found, rows + first], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, order, axis=1)
        found = np.take_along_axis(found, order, axis=1)
    return scores, found


def _float32(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(vectors, np.float32)


def _read(path: Path, size: int) -> Any:
    """An index by FAISS, which believes whatever a file claims.

    Raises:
        DamagedError: it is none, or claims more than its file can hold, or refers to other files.
    """
    # In the index's own folder, where none is: lists that lie in another file are refused.
    flags = faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR
    with _READING:
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            return faiss.read_index(str(path), flags)
        except (RuntimeError, MemoryError) as e:
            raise errors.DamagedError(f"{path} is no index that FAISS can read: {e!s:.300}") from e
        finally:
            faiss.set_deserialization_vector_byte_limit(_NO_LIMIT)


class Index:
    """A FAISS index whose rows are passage ids."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @property
    def faiss(self) -> Any:
        """The index itself, for who searches it otherwise."""
        return self._index

    @classmethod
    def read(cls, root: Path, entry: files.FileEntry, *, passages: int, dim: int) -> Index:
        """Read an index file after checking its checksum, and compare it with its card."""
        if wrong := files.damage(root, entry):
            raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
        index = _read(files.inside(root, entry.path), entry.bytes)
        if (index.ntotal, index.d) != (passages, dim):
            raise errors.DamagedError(
                f"{entry.path} holds {index.ntotal} vectors of {index.d}, its card says {passages} of {dim}"
            )
        return cls(index)

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k best passages of each query [q, dim]: (ids [q, k], scores [q, k]), best first.

        FAISS fills up with -1 where the lists it probed held fewer than k vectors. Those queries
        are searched again through all lists, so that an id returned is always a passage.
        """
        scores, rows = self._search(queries, k)
        if (rows < 0).any() or (rows >= self._index.ntotal).any():
            raise errors.DamagedError(
                f"the index found fewer than {k} of its {self._index.ntotal} vectors, or others"
            )
        return rows, scores

    def search_outside(
        self, queries: npt.NDArray[np.float32], k: int, *, first: int, stop: int, probes: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """As `search`, but for passages from `first` on and before `stop`; -1 where there are fewer others.

        Never asks for more than k: FAISS passes over what is left out while it scans, so that a document
        that fills a whole list does not keep others from being found. `probes` is how many lists are looked
        into; None: as the index has it.
        """
        selector = None
        if stop > first:
            selector = faiss.IDSelectorNot(faiss.IDSelectorRange(first, stop))
        scores, rows = self._search(queries, k, selector, probes)
        wanted = min(k, self._index.ntotal - max(0, stop - first))
        own = (rows >= first) & (rows < stop)
        if ((rows >= 0).sum(axis=1) != wanted).any() or own.any() or (rows >= self._index.ntotal).any():
            raise errors.DamagedError(
                f"the index found others than {wanted} of its vectors outside {first} to {stop - 1}"
            )
        return rows, scores

    def _search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        selector: Any = None,
        probes: int | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(scores, rows), searched again through all lists where those that are probed hold too few."""
        scores, rows = self._index.search(queries, k, params=self._parameters(selector, probes))
        short = (rows < 0).any(axis=1)
        ivf = faiss.try_extract_index_ivf(self._index)
        if short.any() and ivf is not None:
            every = self._parameters(selector, ivf.nlist)
            scores[short], rows[short] = self._index.search(queries[short], k, params=every)
        return scores, rows

    def _parameters(self, selector: Any, probes: int | None) -> Any:
        """FAISS's parameters of a search; None where nothing is other than the index has it."""
        if selector is None and probes is None:
            return None
        ivf = faiss.try_extract_index_ivf(self._index)
        if ivf is None:
            return None if selector is None else _FAISS.SearchParameters(sel=selector)
        given = {} if selector is None else {"sel": selector}
        inner = _FAISS.SearchParametersIVF(nprobe=probes or ivf.nprobe, **given)
        if isinstance(self._index, faiss.IndexPreTransform):
            return _FAISS.SearchParametersPreTransform(index_params=inner)
        return inner
