"""The FAISS index over a corpus's vectors: exact when small, sized to the corpus otherwise.

Vectors are added in order of passage id, so an index row is a passage id and nothing else decides it. What an
update adds lies in a file of its own, by the same centroids and codes, and is put behind the rest in memory;
what it removed is taken out of the lists, or passed over where there are none.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from retrieval import similarity as similarities
from storage import errors, files
from storage.components.vectors import DOT
from storage.thread_locks import ThreadLock
from storage.tombstones import Tombstones
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
# What keeps a file that may be whole from being read; FAISS says it in the system's words.
_UNREADABLE: Final = (errno.EIO, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT)

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


def build(
    vectors: VectorArray,
    shape: IndexShape,
    path: Path,
    *,
    similarity: str = DOT,
    tombstones: Tombstones | None = None,
) -> float:
    """Train, fill and write the index; returns its recall@10 on a sample of the corpus's own vectors.

    `similarity` is that of the vectors' card. Without lists a row is a passage, gone or not; lists hold those
    that are there.

    RAM: the index itself and one batch of vectors; training takes `TRAINING_POINTS` vectors a list.
    """
    count, dim = vectors.layout.shape
    live = None if tombstones is None else tombstones.live()
    index = faiss.index_factory(dim, shape.kind, similarities.metric(similarity))
    if not index.is_trained:
        # Product codes have 256 centroids of their own to train.
        wanted = max(shape.lists, 256) * TRAINING_POINTS
        there = count if live is None else len(live)
        points = np.linspace(0, there - 1, min(there, wanted)).astype(np.int64)
        points = points if live is None else live[points]
        index.train(similarities.prepared(vectors.take(points), similarity))
    if tombstones is not None and shape.lists:
        count = len(tombstones.live())
        for ids, batch in _there(vectors.batches(), tombstones):
            index.add_with_ids(similarities.prepared(batch, similarity), ids)
    else:
        for _, batch in vectors.batches():
            index.add(similarities.prepared(batch, similarity))
    if index.ntotal != count:
        raise errors.CorpusError(f"the index took {index.ntotal} vectors, wanted {count}")
    if shape.probes:
        faiss.extract_index_ivf(index).nprobe = shape.probes
    _write(index, path)
    return recall(Index(index, similarity, tombstones=tombstones), vectors)


def extend(trained: Index, vectors: VectorArray, first: int, path: Path) -> None:
    """Write an index of further vectors, which get ids from `first` on, by the training of another.

    Args:
        trained: which is emptied.
        vectors: that are added.
        first: id of the first of them.
        path: of the file.
    """
    index = trained.faiss
    index.reset()
    lists = faiss.try_extract_index_ivf(index) is not None
    for begin, batch in vectors.batches():
        prepared = similarities.prepared(batch, trained.similarity)
        if lists:
            index.add_with_ids(prepared, np.arange(len(batch), dtype=np.int64) + first + begin)
        else:
            index.add(prepared)
    _write(index, path)


def join(pieces: Sequence[Index], tombstones: Tombstones | None) -> Index:
    """One index of several, in order: the first is whole, others are of what was added since.

    The first is changed, and the others are empty afterwards.

    Raises:
        DamagedError: they are not of one kind.
    """
    whole = pieces[0]
    index = whole.faiss
    for piece in pieces[1:]:
        try:
            if faiss.try_extract_index_ivf(index) is None:
                index.merge_from(piece.faiss, 0)
            else:
                _FAISS.merge_into(index, piece.faiss, False)
        except RuntimeError as e:
            raise errors.DamagedError(f"an index of an update does not go with the one before it: {e}") from e
    return Index(index, whole.similarity, tombstones=tombstones)


def _there(
    batches: Iterator[tuple[int, npt.NDArray[Any]]], tombstones: Tombstones | None
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
    """Batches of vectors with their ids, without those that are gone."""
    for first, batch in batches:
        if tombstones is None or not len(tombstones):
            yield np.arange(first, first + len(batch), dtype=np.int64), batch
        elif len(ids := tombstones.live(first, first + len(batch))):
            yield ids, batch[ids - first]


def _write(index: Any, path: Path) -> None:
    """Write an index whole or not at all."""
    # Not by FAISS's own writer, which does not tell where a full disk did not take the file's end.
    with files.aside(path) as partial, partial.open("xb") as file:
        writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined] # not in its stubs
        faiss.write_index(index, writer)


def recall(index: Index, vectors: VectorArray) -> float:
    """Share of the exact `RECALL_AT` nearest passages that the index returns, over evenly spaced queries."""
    gone = index.tombstones
    count = vectors.layout.grid.passages - (0 if gone is None else len(gone))
    k = min(RECALL_AT, count)
    sample = np.unique(np.linspace(0, count - 1, min(RECALL_QUERIES, count)).astype(np.int64))
    queries = vectors.take(sample if gone is None else gone.live()[sample])
    best, _ = exact_search(vectors.batches(), queries, k, similarity=index.similarity, tombstones=gone)
    found, _ = index.search(queries, k)
    # Judged by the passages' exact scores: among equals at the k-th place either one is right.
    scores = [
        similarities.between(
            query, similarities.prepared(vectors.take(row), index.similarity), index.similarity
        )
        for row, query in zip(found, similarities.prepared(queries, index.similarity), strict=True)
    ]
    last = best[:, -1:]
    return float(np.mean(np.array(scores) >= last - 1e-6 * np.maximum(1, np.abs(last))))


def exact_search(
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
    for ids, batch in _there(batches, tombstones):
        best, rows = faiss.knn(
            asked,
            similarities.prepared(batch, similarity),
            min(k, len(batch)),
            metric=similarities.metric(similarity),
        )
        scores = np.concatenate([scores, similarities.scores(best, similarity)], axis=1)
        found = np.concatenate([found, ids[rows]], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, order, axis=1)
        found = np.take_along_axis(found, order, axis=1)
    return scores, found


def _read(path: Path, size: int) -> Any:
    """An index by FAISS, which believes whatever a file claims.

    Raises:
        DamagedError: it is none, or claims more than its file can hold, or refers to other files.
        UnreadableError: it cannot be read.
    """
    # In the index's own folder, where none is: lists that lie in another file are refused.
    flags = faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR
    with _READING:
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            return faiss.read_index(str(path), flags)
        except (RuntimeError, MemoryError) as e:
            if number := next((n for n in _UNREADABLE if os.strerror(n) in str(e)), None):
                raise errors.from_os(path, OSError(number, os.strerror(number))) from e
            raise errors.DamagedError(f"{path} is no index that FAISS can read: {e!s:.300}") from e
        finally:
            faiss.set_deserialization_vector_byte_limit(_NO_LIMIT)


class Index:
    """A FAISS index whose rows are passage ids, which are ranked by `similarity`."""

    def __init__(self, index: Any, similarity: str = DOT, *, tombstones: Tombstones | None = None) -> None:
        """`tombstones` are taken out of the lists of `index`, or passed over where it has none."""
        self._index = index
        self.similarity = similarity
        self.tombstones = tombstones if tombstones is not None and len(tombstones) else None
        self._there: Any = None
        self._stop = index.ntotal if tombstones is None else tombstones.passages
        self._live = index.ntotal
        if self.tombstones is not None:
            there = _FAISS.IDSelectorBitmap(self.tombstones.bits)
            self._live = self.tombstones.passages - len(self.tombstones)
            if faiss.try_extract_index_ivf(index) is None:
                self._there = there
            else:
                # A list without them is searched faster than one in which they are passed over.
                index.remove_ids(_FAISS.IDSelectorNot(there))
        held = self._stop if self._there is not None else self._live
        if index.ntotal != held:
            raise errors.DamagedError(f"the index holds {index.ntotal} vectors, wanted {held}")

    @property
    def faiss(self) -> Any:
        """The index itself, for who searches it otherwise."""
        return self._index

    @classmethod
    def read(
        cls,
        root: Path,
        entry: files.FileEntry,
        *,
        passages: int,
        dim: int,
        similarity: str = DOT,
        within: int = 0,
    ) -> Index:
        """Read the file of an index, or of what an update added to one, and compare it with its card.

        The checksum is looked at first. `within` are bytes that FAISS may allocate for it beyond those of the
        file: what an update added has the tables of the whole, and few rows.
        """
        if wrong := files.damage(root, entry):
            raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
        index = _read(files.inside(root, entry.path), max(entry.bytes, within))
        if (index.ntotal, index.d) != (passages, dim):
            raise errors.DamagedError(
                f"{entry.path} holds {index.ntotal} vectors of {index.d}, its card says {passages} of {dim}"
            )
        if index.metric_type != similarities.metric(similarity):
            raise errors.DamagedError(
                f"{entry.path} has FAISS's metric {index.metric_type}, wanted that of {similarity}, by which "
                "its vectors are compared"
            )
        return cls(index, similarity)

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k best passages of each query [q, dim]: (ids [q, k], scores [q, k]), best first.

        FAISS fills up with -1 where the lists it probed held fewer than k vectors. Those queries
        are searched again through all lists, so that an id returned is always a passage.
        """
        queries = similarities.prepared(queries, self.similarity)
        scores, rows = self._search(queries, k)
        if (rows < 0).any() or not self._are_there(rows):
            raise errors.DamagedError(
                f"the index found fewer than {k} of its {self._live} vectors, or others"
            )
        return rows, similarities.scores(scores, self.similarity)

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
        left_out = max(0, stop - first)
        if self.tombstones is not None and left_out:
            left_out = len(self.tombstones.live(first, stop))
        wanted = min(k, self._live - left_out)
        own = (rows >= first) & (rows < stop)
        if ((rows >= 0).sum(axis=1) != wanted).any() or own.any() or not self._are_there(rows[rows >= 0]):
            raise errors.DamagedError(
                f"the index found others than {wanted} of its vectors outside {first} to {stop - 1}"
            )
        return rows, scores

    def _are_there(self, rows: npt.NDArray[np.int64]) -> bool:
        """Were all of these given, and are they not gone?"""
        if (rows >= self._stop).any():
            return False
        return self.tombstones is None or bool(self.tombstones.are_there(rows).all())

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
        if self._there is not None:
            selector = self._there if selector is None else _FAISS.IDSelectorAnd(selector, self._there)
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
