"""Parts of the passage table, open for reading: a row group at a time, or, of older ones, as whole files.

A part whose footer has the sums of its row groups is read by ranges, from a disk or an object store. Of
others the whole file is compared with its checksum before anything is read from it.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from storage import crc32_sums, descriptors, errors, ids, passage_parts
from storage.passage_parts import MAGIC, Part

# The length of the footer, and the magic number.
_END_BYTES: Final = 8
# Read at first of a part's end, where each read is a request: most footers of up to 100,000 rows.
TAIL_BYTES: Final = 256 << 10
# Far above any footer of ours: of a part that is larger all is read as of an older one.
_MOST_FOOTER_BYTES: Final = 256 << 20

# The bytes of a file, from and to.
Read = Callable[[int, int], bytes]


def failure(part: Part, error: OSError | pa.ArrowException) -> errors.DamagedError | errors.UnreadableError:
    """Arrow raises OSError of bytes that make no sense too, but then without the system's number."""
    if isinstance(error, errors.UnreadableError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return errors.from_os(part.file.path, error)
    return errors.DamagedError(f"{part.file.path} is no Parquet file, or was changed: {error}")


def _firsts(part: Part, metadata: pq.FileMetaData) -> npt.NDArray[np.int64]:
    """The first row of each row group, and at the end the number of rows.

    Raises:
        DamagedError: they are other rows than the card says.
        CorpusError: a row group is too large.
    """
    groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    firsts = np.array(ids.first_ids(groups), np.int64)
    schema = metadata.schema.to_arrow_schema()
    if firsts[-1] != part.rows or not schema.equals(passage_parts.SCHEMA):
        raise errors.DamagedError(
            f"{part.file.path} has {firsts[-1]} rows of {len(schema)} columns, "
            f"wanted {part.rows} of {passage_parts.SCHEMA.names}"
        )
    # A few bytes of Parquet can stand for any number of equal rows, and a group is read whole.
    if max(groups) > passage_parts.ROW_GROUP:
        raise errors.CorpusError(
            f"{part.file.path} has a row group of {max(groups):,} rows, "
            f"wanted up to {passage_parts.ROW_GROUP:,}"
        )
    return firsts


class WholePart(descriptors.Kept):
    """A part that was compared with its checksum.

    Attributes:
        firsts: int64 [groups + 1], the first row of each row group.
    """

    __slots__ = ("_part", "file", "firsts")

    def __init__(self, part: Part, path: Path) -> None:
        """
        Raises:
            DamagedError: it is no Parquet file, or not of these rows.
            UnreadableError: it cannot be opened.
        """
        super().__init__()
        self._part = part
        try:
            self.file = pq.ParquetFile(path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as e:
            raise failure(part, e) from e
        self.firsts = _firsts(part, self.file.metadata)

    def bring(self, groups: Sequence[int]) -> dict[int, bytes]:
        """Nothing: groups are read as they are asked for."""
        return {}

    def table(self, group: int, columns: Sequence[str] | None, data: bytes = b"") -> pa.Table:
        """A row group.

        Raises:
            DamagedError, UnreadableError: it was changed since its checksum was verified, or cannot be read.
        """
        try:
            return self.file.read_row_group(group, columns=columns)
        except (OSError, pa.ArrowException) as e:
            raise failure(self._part, e) from e

    def __del__(self) -> None:
        if (file := getattr(self, "file", None)) is not None:
            with contextlib.suppress(OSError):  # as `descriptors.OpenFile`
                file.close()


class _Group(io.RawIOBase):
    """A file of which nothing but one row group is there."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0
        self.first, self.data = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        begin = self._at - self.first
        if begin < 0 or size < 0 or begin + size > len(self.data):
            raise OSError("a row group lies elsewhere than its sums say")
        self._at += size
        return self.data[begin : begin + size]


class RangedPart(descriptors.Kept):
    """A part of which row groups are read one by one, each compared with its sum in the footer.

    Attributes:
        firsts: as of `WholePart`.
    """

    __slots__ = ("_file", "_group", "_part", "_read", "_reader", "_starts", "_sums", "firsts")

    def __init__(
        self,
        part: Part,
        read: Read,
        metadata: pq.FileMetaData,
        groups: npt.NDArray[np.int64],
        file: descriptors.OpenFile | None,
    ) -> None:
        """`file` is kept open as long as this."""
        super().__init__()
        self._part, self._read, self._file = part, read, file
        self._starts = len(MAGIC) + np.concatenate([[0], np.cumsum(groups[:, 0])])
        self._sums = groups[:, 1]
        self.firsts = _firsts(part, metadata)
        self._group = _Group(part.file.bytes)
        self._reader = pq.ParquetFile(pa.PythonFile(self._group, "r"), metadata=metadata)

    @classmethod
    def open(cls, part: Part, read: Read, file: descriptors.OpenFile | None = None) -> RangedPart | None:
        """Read the footer, by one or two reads.

        Returns:
            None where the footer has no sums, or what it has does not add up to the card's checksum: then the
            whole file tells.

        Raises:
            UnreadableError: what `read` raises.
            DamagedError, CorpusError: it is whole, and has other rows than the card says.
        """
        size = part.file.bytes
        tail = read(max(0, size - TAIL_BYTES), size)
        if len(tail) < _END_BYTES or tail[-4:] != MAGIC:
            return None
        length = int.from_bytes(tail[-_END_BYTES:-4], "little") + _END_BYTES
        if length > min(size, _MOST_FOOTER_BYTES):
            return None
        if length > len(tail):
            tail = read(size - length, size - len(tail)) + tail
        tail = tail[-length:]
        try:
            metadata = pq.read_metadata(pa.BufferReader(tail))
        except (OSError, pa.ArrowException):
            return None
        groups = passage_parts.groups_of(metadata)
        if groups is None or len(MAGIC) + groups[:, 0].sum() + length != size:
            return None
        lengths = np.concatenate([[len(MAGIC)], groups[:, 0], [length]])
        sums = np.concatenate([[zlib.crc32(MAGIC)], groups[:, 1], [zlib.crc32(tail)]]).astype(np.uint32)
        if crc32_sums.combined(sums, lengths) != part.file.crc32:
            return None
        return cls(part, read, metadata, groups, file)

    def bring(self, groups: Sequence[int]) -> dict[int, bytes]:
        """Bytes of row groups, which ascend; those that follow each other are read together.

        Raises:
            DamagedError: some do not match their sum.
            UnreadableError: what `read` raises.
        """
        found: dict[int, bytes] = {}
        at = 0
        while at < len(groups):
            stop = at + 1
            while stop < len(groups) and groups[stop] == groups[stop - 1] + 1:
                stop += 1
            begin = int(self._starts[groups[at]])
            data = self._read(begin, int(self._starts[groups[stop - 1] + 1]))
            for group in groups[at:stop]:
                one = data[int(self._starts[group]) - begin : int(self._starts[group + 1]) - begin]
                if len(one) != self._starts[group + 1] - self._starts[group] or (
                    zlib.crc32(one) != self._sums[group]
                ):
                    raise errors.DamagedError(
                        f"{self._part.file.path}: row group {group} has another CRC-32 than its footer says; "
                        "run `memcorpus verify`"
                    )
                found[group] = one
            at = stop
        return found

    def table(self, group: int, columns: Sequence[str] | None, data: bytes) -> pa.Table:
        """A row group of which these are the bytes. Not for two threads at once.

        Raises:
            DamagedError: they are no such row group.
        """
        self._group.first, self._group.data = int(self._starts[group]), data
        try:
            return self._reader.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as e:
            raise failure(self._part, e) from e
        finally:
            self._group.data = b""


def on_disk(part: Part, path: Path, root: Path) -> RangedPart | None:
    """A part on a local disk, read by ranges; None as of `RangedPart.open`.

    Raises:
        CorpusError: it is a link out of the corpus folder.
        DamagedError: it is missing.
        UnreadableError: it cannot be read.
    """
    file = descriptors.OpenFile(str(path), str(root))

    def read(first: int, stop: int) -> bytes:
        pieces, left = [], stop - first
        while left:
            try:
                piece = os.pread(file.descriptor, left, stop - left)
            except OSError as e:
                raise errors.from_os(part.file.path, e) from e
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    return RangedPart.open(part, read, file) if file.size == part.file.bytes else None


Opened = WholePart | RangedPart
