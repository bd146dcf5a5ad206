"""The FAISS index over a corpus's vectors: opened, searched, extended, joined.

An index row is a passage id (`retrieval.index_building`). What an update adds lies in a file of its own, by
the same centroids and codes, and is put behind the rest in memory; what it removed is taken out of the lists,
or passed over where there are none.

The index of a corpus that was never updated is mapped: FAISS reads its pages as it looks at them, and all
processes of a machine share them. A file that got shorter since it was opened would end a process that looks
behind its end, so its size is looked at before each search.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from retrieval import similarity as similarities
from retrieval.index_shape import CODE_BYTES as CODE_BYTES
from retrieval.index_shape import EXACT_LIMIT as EXACT_LIMIT
from retrieval.index_shape import IndexShape as IndexShape
from retrieval.index_shape import choose as choose
from storage import errors, file_names, files
from storage.components.vectors import DOT
from storage.thread_locks import ThreadLock
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray

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
    if len(pieces) == 1 and tombstones is None:
        return whole
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


def _write(index: Any, path: Path) -> None:
    """Write an index whole or not at all."""
    # Not by FAISS's own writer, which does not tell where a full disk did not take the file's end.
    with files.aside(path) as partial, partial.open("xb") as file:
        writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined] # not in its stubs
        faiss.write_index(index, writer)


def _read(path: Path, size: int, *, mapped: bool = False) -> Any:
    """An index by FAISS, which believes whatever a file claims.

    Raises:
        DamagedError: it is none, or claims more than its file can hold, or refers to other files.
        UnreadableError: it cannot be read.
    """
    # In the index's own folder, where none is: lists that lie in another file are refused.
    # Tables by which distances to product codes are had sooner take as much RAM as the codes, and FAISS takes
    # them for more than a file of some millions of passages can hold. Inner products have none.
    flags = faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    if mapped:
        flags |= faiss.IO_FLAG_MMAP_IFC
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


class _Mapped:
    """A file that an index is mapped from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with errors.reading(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._bytes = os.fstat(self._descriptor).st_size
        weakref.finalize(self, os.close, self._descriptor)

    def require_whole(self) -> None:
        """
        Raises:
            DamagedError: it is shorter than it was: what lies behind its end would be looked at.
        """
        size = os.fstat(self._descriptor).st_size
        if size < self._bytes:
            raise errors.DamagedError(
                f"{self._path} has {size:,} bytes, and had {self._bytes:,} when it was opened; run "
                "`memcorpus verify`"
            )


class Index:
    """A FAISS index whose rows are passage ids, which are ranked by `similarity`."""

    def __init__(
        self,
        index: Any,
        similarity: str = DOT,
        *,
        tombstones: Tombstones | None = None,
        mapped: _Mapped | None = None,
    ) -> None:
        """`tombstones` are taken out of the lists of `index`, or passed over where it has none.

        `mapped` is the file that it lies in, if it does not lie in memory: then its lists are without them.
        """
        self._index = index
        self._mapped = mapped
        self.similarity = similarity
        self.tombstones = tombstones if tombstones is not None and len(tombstones) else None
        self._there: Any = None
        self._stop = index.ntotal if tombstones is None else tombstones.passages
        self._live: int = index.ntotal
        if self.tombstones is not None:
            there = _FAISS.IDSelectorBitmap(self.tombstones.bits)
            self._live = self.tombstones.passages - len(self.tombstones)
            if faiss.try_extract_index_ivf(index) is None:
                self._there = there
            elif mapped is None:
                # A list without them is searched faster than one in which they are passed over.
                index.remove_ids(_FAISS.IDSelectorNot(there))
        held = self._stop if self._there is not None else self._live
        if index.ntotal != held:
            raise errors.DamagedError(f"the index holds {index.ntotal} vectors, wanted {held}")

    def __len__(self) -> int:
        """Passages that can be found."""
        return self._live

    @property
    def faiss(self) -> Any:
        """The index itself, for who searches it otherwise.

        Raises:
            DamagedError: it is mapped, and its file has been cut off since.
        """
        if self._mapped is not None:
            self._mapped.require_whole()
        return self._index

    @classmethod
    def mapped(cls, path: Path, similarity: str = DOT, tombstones: Tombstones | None = None) -> Index:
        """An index that this process has just written, without `tombstones` in its lists."""
        index = _read(path, path.stat().st_size, mapped=True)
        return cls(index, similarity, tombstones=tombstones, mapped=_Mapped(path))

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
        mapped: bool = False,
    ) -> Index:
        """Read the file of an index, or of what an update added to one, and compare it with its card.

        The checksum is looked at first. `within` are bytes that FAISS may allocate for it beyond those of the
        file: what an update added has the tables of the whole, and few rows. `mapped` leaves it where it is;
        such an index can be searched, and not be changed.
        """
        path = file_names.inside(root, entry.path)
        # Held before its bytes are checked: what is mapped is what was checked, or is seen to be cut off.
        held = _Mapped(path) if mapped and path.is_file() else None
        if wrong := files.damage(root, entry):
            raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
        index = _read(path, max(entry.bytes, within), mapped=held is not None)
        if (index.ntotal, index.d) != (passages, dim):
            raise errors.DamagedError(
                f"{entry.path} holds {index.ntotal} vectors of {index.d}, its card says {passages} of {dim}"
            )
        if index.metric_type != similarities.metric(similarity):
            raise errors.DamagedError(
                f"{entry.path} has FAISS's metric {index.metric_type}, wanted that of {similarity}, by which "
                "its vectors are compared"
            )
        return cls(index, similarity, mapped=held)

    def search(
        self, queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k best passages of each query [q, dim]: (ids [q, k], scores [q, k]), best first.

        FAISS fills up with -1 where the lists it probed held fewer than k vectors. Those queries
        are searched again through all lists, so that an id returned is always a passage.
        """
        scores, rows = self._found(queries, k, k)
        return rows, similarities.scores(scores, self.similarity)

    def candidates(
        self, queries: npt.NDArray[np.float32], k: int, most: int, *, probes: int | None = None
    ) -> npt.NDArray[np.int64]:
        """The `most` best passages of each query [q, dim] in the lists that are looked into, best first.

        As `search`, but only k have to be found: then come -1, where there are no more. `probes` is how many
        lists are looked into; None: as the index has it.
        """
        return self._found(queries, k, most, probes)[1]

    def _found(
        self, queries: npt.NDArray[np.float32], k: int, most: int, probes: int | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        queries = similarities.prepared(queries, self.similarity)
        scores, rows = self._search(queries, most, None, probes, needed=k)
        if (rows[:, :k] < 0).any() or not self._are_there(rows):
            raise errors.DamagedError(
                f"the index found fewer than {k} of its {self._live} vectors, or others"
            )
        return scores, rows

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
        return self.tombstones is None or bool(self.tombstones.are_there(rows[rows >= 0]).all())

    def _search(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        selector: Any = None,
        probes: int | None = None,
        needed: int | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """(scores, rows), searched again through all lists where those that are probed hold too few.

        Too few are fewer than `needed`; None: than k.
        """
        if self._mapped is not None:
            self._mapped.require_whole()
        scores, rows = self._index.search(queries, k, params=self._parameters(selector, probes))
        short = (rows[:, : k if needed is None else needed] < 0).any(axis=1)
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
