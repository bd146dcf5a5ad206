"""FAISS's index files, written as a stream: what lies in lists goes from disk to disk, a block in RAM.

FAISS writes an index out of RAM. Here it writes the part before the vectors: centroids, codebooks, numbers.
The rest is what it would have written (`faiss/impl/index_write.cpp`): of lists their sizes, then of each its
codes and its ids; of an exact index the vectors. The tests hold each byte to FAISS's own.

Rows that were added by one unit lie in a `Partial`, sorted by list. Lists of several are put together in
order of the partials, so that the bytes do not depend on who wrote them, nor when.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import faiss
import numpy as np
import numpy.typing as npt

from storage import errors, files
from storage.aliases import AnyArray

# Of lists that are put together at a time. The longest list may be larger.
BLOCK_BYTES: Final = 64 << 20
_ID_BYTES: Final = 8
# What a partial begins with: its first id, its rows, lists, bytes of a code.
_HEAD: Final = struct.Struct("<4sQQQQ")
_NAME: Final = b"mcpi"


def serialized(index: Any) -> bytes:
    """An index as FAISS writes it."""
    return bytes(faiss.serialize_index(index).tobytes())


def deserialized(data: bytes) -> Any:
    """The reverse, of what this program wrote."""
    return faiss.deserialize_index(np.frombuffer(data, np.uint8))


def write_flat(file: BinaryIO, index: Any, count: int, batches: Iterable[npt.NDArray[np.float32]]) -> None:
    """Write an exact index of `count` vectors.

    Args:
        file: open for writing.
        index: an exact one, without vectors.
        batches: the vectors [n, dim], as they are compared, in order.
    """
    head = _without(_counted(index, count), struct.pack("<Q", 0))
    file.write(head + struct.pack("<Q", count * index.d))
    written = 0
    for batch in batches:
        file.write(files.bytes_of(np.ascontiguousarray(batch, "<f4")))
        written += len(batch)
    if written != count:
        raise errors.CorpusError(f"the index took {written} vectors, wanted {count}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial:
    """Codes and ids of rows that were added together, sorted by list and then by id."""

    path: Path
    first: int
    rows: int
    lists: int
    code_bytes: int

    @classmethod
    def open(cls, path: Path) -> Partial:
        """
        Raises:
            DamagedError: it is none, or has another size than it says.
        """
        try:
            with path.open("rb") as file:
                name, first, rows, lists, code_bytes = _HEAD.unpack(file.read(_HEAD.size))
                size = os.fstat(file.fileno()).st_size
        except struct.error:
            raise errors.DamagedError(f"{path} is no part of an index") from None
        found = cls(path=path, first=first, rows=rows, lists=lists, code_bytes=code_bytes)
        if name != _NAME or size != found._codes + rows * code_bytes:
            raise errors.DamagedError(f"{path} is no part of an index, or ends before its end")
        return found

    @property
    def _ids(self) -> int:
        return _HEAD.size + 4 * (self.lists + 1)

    @property
    def _codes(self) -> int:
        return self._ids + 4 * self.rows

    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows in each list [lists]."""
        with self.path.open("rb") as file:
            return np.diff(self._begins(file, 0, self.lists))

    def _begins(self, file: BinaryIO, low: int, high: int) -> npt.NDArray[np.int64]:
        data = _pread(file, 4 * (high - low + 1), _HEAD.size + 4 * low)
        return np.frombuffer(data, "<u4").astype(np.int64)

    def read(self, low: int, high: int) -> tuple[AnyArray, AnyArray, AnyArray]:
        """What lies in lists low to high - 1: rows of each list, ids int64 [n], codes uint8 [n, bytes]."""
        with self.path.open("rb") as file:
            begins = self._begins(file, low, high)
            begin, count = int(begins[0]), int(begins[-1] - begins[0])
            ids = np.frombuffer(_pread(file, 4 * count, self._ids + 4 * begin), "<u4")
            codes = _pread(file, count * self.code_bytes, self._codes + begin * self.code_bytes)
        return (
            np.diff(begins),
            ids.astype(np.int64) + self.first,
            np.frombuffer(codes, np.uint8).reshape(count, self.code_bytes),
        )


def write_partial(
    path: Path, lists: int, ids: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], codes: AnyArray
) -> None:
    """Write rows that were coded.

    Args:
        path: of the file, which is whole or absent.
        lists: of the index.
        ids: [n], ascending.
        numbers: [n], of the list of each.
        codes: uint8 [n, bytes].
    """
    order = np.argsort(numbers, kind="stable")
    first = int(ids[0]) if len(ids) else 0
    begins = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=lists))])
    with files.aside(path) as partial, partial.open("xb") as file:
        file.write(_HEAD.pack(_NAME, first, len(ids), lists, codes.shape[1]))
        file.write(files.bytes_of(begins.astype("<u4")))
        file.write(files.bytes_of((ids[order] - first).astype("<u4")))
        file.write(files.bytes_of(np.ascontiguousarray(codes[order])))


def write_lists(
    file: BinaryIO, trained: Any, partials: Sequence[Path], *, block_bytes: int = BLOCK_BYTES
) -> int:
    """Write an index of lists that holds what partials hold. Returns how many vectors that are.

    RAM: `block_bytes`, or the longest list, and some bytes for each list.

    Args:
        file: open for writing.
        trained: the index, empty.
        partials: in ascending order of their ids.
        block_bytes: of lists that are put together at a time.

    Raises:
        DamagedError: a partial is not of this index, or not in its place.
    """
    ivf = faiss.extract_index_ivf(trained)
    lists, code_bytes = int(ivf.nlist), int(ivf.code_size)
    sizes = np.zeros(lists, np.int64)
    stop = 0
    for path in partials:
        part = Partial.open(path)
        if (part.lists, part.code_bytes) != (lists, code_bytes) or (part.rows and part.first < stop):
            raise errors.DamagedError(f"{path} is no part of this index, or not in its place")
        stop = part.first + 1 if part.rows else stop
        sizes += part.sizes()
    count = int(sizes.sum())
    file.write(head_of_lists(trained, count))
    file.write(_sizes(sizes))
    for low, high in _blocks(sizes, code_bytes + _ID_BYTES, block_bytes):
        for ids, codes in _together(partials, low, high, code_bytes):
            file.write(files.bytes_of(codes))
            file.write(files.bytes_of(ids))
    return count


def head_of_lists(trained: Any, count: int) -> bytes:
    """What the file of an index of lists begins with, up to the sizes of its lists."""
    ivf = faiss.extract_index_ivf(trained)
    numbers = struct.pack("<QQ", ivf.nlist, ivf.code_size)
    # Of lists that are empty FAISS writes the sizes of those that are not: none.
    head = _without(_counted(trained, count), b"ilar" + numbers + b"sprs" + struct.pack("<Q", 0))
    return head + b"ilar" + numbers


def _sizes(sizes: npt.NDArray[np.int64]) -> bytes:
    """Sizes of lists: of all, or with their numbers those that are not empty, as FAISS chooses."""
    some = np.flatnonzero(sizes)
    if len(some) > len(sizes) // 2:
        return b"full" + struct.pack("<Q", len(sizes)) + sizes.astype("<u8").tobytes()
    pairs = np.stack([some, sizes[some]], axis=1).astype("<u8")
    return b"sprs" + struct.pack("<Q", pairs.size) + pairs.tobytes()


def _blocks(sizes: npt.NDArray[np.int64], row_bytes: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of lists of so many bytes, one list at least."""
    ends = np.cumsum(sizes) * row_bytes
    low = done = 0
    while low < len(sizes):
        high = max(low + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield low, high
        low, done = high, int(ends[high - 1])


def _together(
    partials: Sequence[Path], low: int, high: int, code_bytes: int
) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Ids and codes of lists low to high - 1, one list after the other, those of all partials in order."""
    parts = [Partial.open(path).read(low, high) for path in partials]
    sizes = np.sum([part[0] for part in parts], axis=0)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    ids = np.empty(int(ends[-1]), "<i8")
    codes = np.empty((len(ids), code_bytes), np.uint8)
    at = ends[:-1].copy()
    for own, own_ids, own_codes in parts:
        # Row j of a list's own rows goes j behind those that earlier partials have put there.
        begins = np.cumsum(own) - own
        place = np.repeat(at - begins, own) + np.arange(len(own_ids))
        ids[place], codes[place] = own_ids, own_codes
        at += own
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if begin < end:
            yield ids[begin:end], codes[begin:end]


def _counted(index: Any, count: int) -> bytes:
    """An empty index, written as if it held `count` vectors."""
    if index.ntotal:
        raise ValueError(f"an index of {index.ntotal} vectors, wanted an empty one")
    every = [index]
    if isinstance(index, faiss.IndexPreTransform):
        every.append(faiss.extract_index_ivf(index))
    try:
        for one in every:
            one.ntotal = count
        return serialized(index)
    finally:
        for one in every:
            one.ntotal = 0


def _without(data: bytes, tail: bytes) -> bytes:
    if not data.endswith(tail):
        raise RuntimeError(f"FAISS {faiss.__version__} writes an index otherwise than this release knows")
    return data[: -len(tail)]


def _pread(file: BinaryIO, count: int, offset: int) -> bytes:
    data = os.pread(file.fileno(), count, offset)
    while len(data) < count:  # the system reads 2 GiB at a time at most
        more = os.pread(file.fileno(), count - len(data), offset + len(data))
        if not more:
            raise errors.DamagedError(f"{file.name} ends before its end")
        data += more
    return data
