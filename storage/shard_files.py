"""Files of sharded Zarr v3 arrays, written and read by exact byte ranges.

A shard file (Zarr v3, codec sharding_indexed, index at the end) is

    chunk 0, CRC-32C of chunk 0, chunk 1, CRC-32C of chunk 1, ..., index, CRC-32C of the index

with chunks uncompressed, so all of one size, and an index of 16 bytes a chunk: where it starts and how
long it is with its checksum, both uint64; 2**64 - 1 twice where a chunk is not stored. We write the
chunks in order, from the first, back to back. So where a row lies is arithmetic, and no reader of
ours needs the index; other Zarr readers read it as they do any.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import errors, files
from storage.aliases import AnyArray

CRC_BYTES: Final = 4
INDEX_ENTRY_BYTES: Final = 16
_ABSENT: Final = 2**64 - 1
# Buffers of one system call: below IOV_MAX, 1,024 on Linux.
MAX_PIECES: Final = 1000
# What is written while the checksums of the next as much are computed.
_BLOCK_BYTES: Final = 8 << 20


def chunk_start(chunk: int, chunk_bytes: int) -> int:
    """Where a chunk starts in its file."""
    return chunk * (chunk_bytes + CRC_BYTES)


def row_start(row: int, *, row_bytes: int, chunk_rows: int) -> int:
    """Where a row starts in its file."""
    return row * row_bytes + row // chunk_rows * CRC_BYTES


def file_bytes(stored: int, *, chunk_bytes: int, total: int) -> int:
    """Bytes of a shard file that has room for `total` chunks and holds `stored` of them."""
    return chunk_start(stored, chunk_bytes) + total * INDEX_ENTRY_BYTES + CRC_BYTES


def write(
    path: Path, chunks: Iterable[bytes | memoryview], *, chunk_bytes: int, total: int
) -> files.Measured:
    """Write a shard file whole: aside, to the disk, then renamed into place.

    So two workers that write the same shard at once leave one of two equal files.

    Args:
        path: of the file; its folder is made.
        chunks: the shard's first chunks in order, each something of `chunk_bytes` bytes.
        chunk_bytes: bytes of a chunk.
        total: chunks that the shard has room for; those that are not given are not stored.

    Raises:
        OSError: the disk is full, say; nothing is left of the file, and an older one is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = value = 0
    # One thread sums what the other writes: each alone takes as long as a fast disk.
    with (
        files.aside(path) as partial,
        partial.open("xb", buffering=0) as file,
        ThreadPoolExecutor(1, thread_name_prefix="shard-write") as writer,
    ):
        writing: Future[None] | None = None
        for block in _blocks(chunks, chunk_bytes, total):
            if writing is not None:
                writing.result()
            writing = writer.submit(_write_all, file.fileno(), block.copy())
            for piece in block:
                # Of the file as a whole, for the lists of files; Zarr's CRC-32C of each chunk are among the
                # pieces.
                value = zlib.crc32(piece, value)
                size += len(piece)
        if writing is not None:
            writing.result()
    return files.Measured(bytes=size, crc32=value)


def _blocks(chunks: Iterable[bytes | memoryview], chunk_bytes: int, total: int) -> Iterator[list[memoryview]]:
    """The pieces of a shard file in order, in blocks for one system call each."""
    block: list[memoryview] = []
    stored = held = 0
    for chunk in chunks:
        piece = memoryview(chunk).cast("B")
        if len(piece) != chunk_bytes or stored == total:
            raise ValueError(
                f"chunk {stored} of a shard has {len(piece)} bytes, wanted {total} of {chunk_bytes}"
            )
        block += [piece, memoryview(files.crc32c(piece).to_bytes(CRC_BYTES, "little"))]
        stored += 1
        held += len(piece)
        # Room is kept for two more: a chunk or the index, and its checksum.
        if held >= _BLOCK_BYTES or len(block) + 2 > MAX_PIECES:
            yield block
            block, held = [], 0
    index = np.full((total, 2), _ABSENT, "<u8")
    index[:stored, 0] = np.arange(stored) * (chunk_bytes + CRC_BYTES)
    index[:stored, 1] = chunk_bytes + CRC_BYTES
    body = index.tobytes()
    block += [memoryview(body), memoryview(files.crc32c(body).to_bytes(CRC_BYTES, "little"))]
    yield block


def _write_all(descriptor: int, pieces: list[memoryview]) -> None:
    """Write every piece; the kernel may take less than it was given."""
    while pieces:
        count = os.writev(descriptor, pieces)
        pieces = _after(pieces, count)


def read_into(descriptor: int, pieces: list[memoryview], position: int, flags: int = 0) -> None:
    """Fill all pieces from `position` on.

    Raises:
        EOFError: the file ends before.
        BlockingIOError: with `os.RWF_NOWAIT` in `flags`, where something is not in the page cache.
    """
    wanted = sum(map(len, pieces))
    while wanted:
        count = os.preadv(descriptor, pieces, position, flags)
        if count == 0:
            raise EOFError(position)
        wanted -= count
        if wanted:
            position += count
            pieces = _after(pieces, count)


def _after(pieces: list[memoryview], count: int) -> list[memoryview]:
    """What is left of `pieces` behind their first `count` bytes."""
    done = 0
    # Whole pieces are dropped, and the one that was begun is cut: a view, nothing is moved.
    while done < len(pieces) and count >= len(pieces[done]):
        count -= len(pieces[done])
        done += 1
    rest = pieces[done:]
    if count:
        rest[0] = rest[0][count:]
    return rest


def range_pieces(
    row: int, stop: int, target: memoryview, *, row_bytes: int, chunk_rows: int, gap: memoryview
) -> tuple[list[memoryview], int]:
    """How to read rows `row` to `stop` of a shard into `target`, by one or more `preadv`.

    Neighbouring chunks lie four bytes apart, their checksums between them, which go to `gap`.

    Returns:
        The pieces to fill, and where in the file the first starts.
    """
    position = row_start(row, row_bytes=row_bytes, chunk_rows=chunk_rows)
    pieces: list[memoryview] = []
    head = (chunk_rows - row % chunk_rows) * row_bytes
    add_pieces(pieces, target, head, chunk_rows * row_bytes, gap)
    return pieces, position


def add_pieces(
    pieces: list[memoryview], target: memoryview, head: int, chunk_bytes: int, gap: memoryview
) -> None:
    """Add those of one span to `pieces`; its first chunk ends behind `head` bytes."""
    pieces.append(target[:head])
    for at in range(head, len(target), chunk_bytes):
        # One buffer takes all of them. Whoever wants rows checked has checksums by passage; those of chunks
        # need whole chunks.
        pieces.append(gap)
        pieces.append(target[at : at + chunk_bytes])


def read_chunk(descriptor: int, chunk: int, chunk_bytes: int, path: object) -> bytes:
    """One whole chunk, checked; raises as `read_chunks`."""
    return read_chunks(descriptor, [chunk], chunk_bytes, path)[0, :-CRC_BYTES].tobytes()


def read_chunks(
    descriptor: int, chunks: Sequence[int], chunk_bytes: int, path: object
) -> npt.NDArray[np.uint8]:
    """Whole chunks, which ascend, checked: [n, chunk_bytes + 4], each before its CRC-32C.

    Raises:
        DamagedError: one is not there, or does not match its CRC-32C.
        UnreadableError: they cannot be read.
    """
    size = chunk_bytes + CRC_BYTES
    data = np.empty((len(chunks), size), np.uint8)
    flat = files.bytes_of(data)
    at = 0
    while at < len(chunks):
        # Those that follow each other by one call.
        stop = at + 1
        while stop < len(chunks) and chunks[stop] == chunks[stop - 1] + 1:
            stop += 1
        try:
            read_into(descriptor, [flat[at * size : stop * size]], chunk_start(chunks[at], chunk_bytes))
        except EOFError as e:
            raise errors.DamagedError(
                f"{path} ends before its chunk {chunks[stop - 1]}; run `memcorpus verify`"
            ) from e
        except OSError as e:
            raise errors.from_os(path, e) from e
        at = stop
    stored = data[:, chunk_bytes:].copy().view("<u4")[:, 0].tolist()
    for number, wanted in enumerate(stored):
        if files.crc32c(flat[number * size : number * size + chunk_bytes]) != wanted:
            raise errors.DamagedError(
                f"chunk {chunks[number]} of {path} does not match its checksum; run `memcorpus verify`"
            )
    return data


def require_in_order(descriptor: int, chunk_bytes: int, total: int, path: Path) -> None:
    """Refuse a file whose chunks lie elsewhere than ours do: another writer's, which its index tells of.

    Raises:
        DamagedError: they do, or the index does not match its CRC-32C.
        UnreadableError: it cannot be read.
    """
    data = bytearray(total * INDEX_ENTRY_BYTES + CRC_BYTES)
    try:
        read_into(descriptor, [memoryview(data)], max(0, os.fstat(descriptor).st_size - len(data)))
    except EOFError as e:
        raise errors.DamagedError(f"{path} ends before its index; run `memcorpus verify`") from e
    except OSError as e:
        raise errors.from_os(path, e) from e
    body = bytes(memoryview(data)[:-CRC_BYTES])
    if files.crc32c(body) != int.from_bytes(data[-CRC_BYTES:], "little"):
        raise errors.DamagedError(f"the index of {path} does not match its checksum; run `memcorpus verify`")
    found = np.frombuffer(body, "<u8").reshape(total, 2)
    # Of chunks that are not there all bits are set.
    there = np.flatnonzero((found != np.uint64(_ABSENT)).any(axis=1))
    begins = there.astype(np.uint64) * np.uint64(chunk_bytes + CRC_BYTES)
    if (found[there, 0] != begins).any() or (found[there, 1] != chunk_bytes + CRC_BYTES).any():
        raise errors.DamagedError(f"chunks of {path} lie in another order than they are written in")


def padded_rows(values: AnyArray, chunk_rows: int) -> Iterator[memoryview]:
    """Bytes of `values` [rows, ...] in chunks of `chunk_rows`, the last filled up with zeros."""
    for first in range(0, len(values), chunk_rows):
        chunk = values[first : first + chunk_rows]
        if len(chunk) < chunk_rows:
            whole = np.zeros((chunk_rows, *values.shape[1:]), values.dtype)
            whole[: len(chunk)] = chunk
            chunk = whole
        yield files.bytes_of(np.ascontiguousarray(chunk))
