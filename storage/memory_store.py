"""The memory store: every token's memory, ragged, in three Zarr v3 arrays that a shard is one file of.

    values    [shards, rows, stored]  row r of shard s, as its codec stores a token; no padding
    offsets   [shards, passages + 1]  uint32: passage j of shard s holds rows offsets[s, j] to [s, j + 1]
    checksums [shards, passages]      uint32: CRC-32C of the passage's bytes in `values`

Passage `i` is passage `i % P` of shard `i // P`, P being the passages a shard holds. A shard's rows
start at 0 whatever the other shards hold, so that shards are written, repaired and re-encoded on
their own, and no step has to run over all passages. Rows past a shard's last are not stored: they
take no byte. docs/format.md gives the reasons.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage import codecs, errors, files, zarr_arrays
from storage.shards import ShardGrid

VALUES: Final = "values"
OFFSETS: Final = "offsets"
CHECKSUMS: Final = "checksums"
# Rows of an inner chunk, what other Zarr readers read at once: 192 KiB at base size, 1 MiB at XXL.
CHUNK_ROWS: Final = 128
_CRC_BYTES: Final = 4
# In a shard's index this start marks a chunk that is not stored (Zarr v3, sharding_indexed).
_ABSENT: Final = 2**64 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLayout:
    """Shapes of a memory version: `width` dimensions a token, up to `max_tokens` tokens a passage."""

    grid: ShardGrid
    width: int
    max_tokens: int
    codec: codecs.Codec
    chunk_rows: int = CHUNK_ROWS

    def __post_init__(self) -> None:
        if self.width < 1 or self.max_tokens < 1 or self.chunk_rows < 1:
            raise errors.CorpusError(
                f"memory of width {self.width}, {self.max_tokens} tokens a passage and "
                f"{self.chunk_rows} rows a chunk: wanted 1 or more of each"
            )
        if self.grid.shard_passages * self.max_tokens >= 2**32:
            raise errors.CorpusError(
                f"shards of {self.grid.shard_passages} passages of {self.max_tokens} tokens: "
                "wanted fewer than 2**32 rows a shard; take fewer passages a shard"
            )

    @property
    def chunks(self) -> int:
        """Inner chunks of a shard, were every passage full."""
        return -(-self.grid.shard_passages * self.max_tokens // self.chunk_rows)

    @property
    def rows(self) -> int:
        return self.chunks * self.chunk_rows

    @property
    def stored_width(self) -> int:
        """Columns of a stored row."""
        return self.codec.stored_width(self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.grid.shards, self.rows, self.stored_width

    @property
    def row_bytes(self) -> int:
        return self.codec.token_bytes(self.width)

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": self.grid.passages,
            "shard_passages": self.grid.shard_passages,
            "width": self.width,
            "max_tokens": self.max_tokens,
            "chunk_rows": self.chunk_rows,
            "codec": self.codec.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> MemoryLayout:
        grid = ShardGrid(passages=int(value["passages"]), shard_passages=int(value["shard_passages"]))
        return cls(
            grid=grid,
            width=int(value["width"]),
            max_tokens=int(value["max_tokens"]),
            chunk_rows=int(value["chunk_rows"]),
            codec=codecs.from_json(value["codec"]),
        )


def create(folder: Path, layout: MemoryLayout) -> list[Path]:
    """Write the three arrays' metadata before the workers start. Returns their paths."""
    codec = layout.codec
    shards, per_shard = layout.grid.shards, layout.grid.shard_passages
    return [
        zarr_arrays.create(
            folder / VALUES,
            shape=layout.shape,
            dtype=codec.stored_dtype,
            chunk=(1, layout.chunk_rows, layout.stored_width),
            shard=(1, layout.rows, layout.stored_width),
            dimension_names=("shard", "row", "width"),
            attributes={
                # Of the values; they are the stored ones only where the codec is called the same.
                "logical_dtype": codec.dtype.name,
                "logical_width": layout.width,
                "codec": codec.to_json(),
            },
        ),
        zarr_arrays.create(
            folder / OFFSETS,
            shape=(shards, per_shard + 1),
            dtype=np.dtype("<u4"),
            chunk=(1, per_shard + 1),
            dimension_names=("shard", "passage"),
            attributes={},
        ),
        zarr_arrays.create(
            folder / CHECKSUMS,
            shape=(shards, per_shard),
            dtype=np.dtype("<u4"),
            chunk=(1, per_shard),
            dimension_names=("shard", "passage"),
            attributes={"algorithm": "CRC-32C"},
        ),
    ]


def allocate(layout: MemoryLayout, tokens: int) -> npt.NDArray[Any]:
    """A buffer for `tokens` stored rows, whole chunks long, so that one write takes it as it is.

    [rows, stored_width] of the codec's stored dtype, as `Coder.encode` gives them.
    """
    rows = -(-tokens // layout.chunk_rows) * layout.chunk_rows
    return np.zeros((rows, layout.stored_width), layout.codec.stored_dtype)


def write_shard(
    folder: Path,
    layout: MemoryLayout,
    shard: int,
    *,
    offsets: npt.NDArray[np.int64],
    buffer: npt.NDArray[Any],
) -> list[Path]:
    """Write one shard.

    Args:
        folder: the version's folder.
        layout: its shapes.
        shard: which.
        offsets: int64 [n + 1], rows of each of the shard's n passages in `buffer`, from 0.
        buffer: stored rows [rows, stored_width], as `allocate` gives it.

    Returns:
        The files written: values, offsets, checksums.
    """
    first, stop = layout.grid.bounds(shard)
    lengths = np.diff(offsets)
    if len(lengths) != stop - first or offsets[0] != 0:
        raise errors.CorpusError(
            f"shard {shard} got {len(lengths)} passages from row {offsets[0]}, "
            f"wanted {stop - first} from row 0"
        )
    # A passage without tokens would come back as memory of nothing; every tokenizer ends with </s>.
    if lengths.min() < 1 or lengths.max() > layout.max_tokens:
        raise errors.CorpusError(
            f"shard {shard} has passages of {lengths.min()} to {lengths.max()} tokens, "
            f"wanted 1 to {layout.max_tokens}"
        )
    rows = -(-int(offsets[-1]) // layout.chunk_rows) * layout.chunk_rows
    if buffer.shape != (rows, layout.stored_width) or buffer.dtype != layout.codec.stored_dtype:
        raise errors.CorpusError(
            f"shard {shard} got a buffer {buffer.dtype} {buffer.shape}, "
            f"wanted {layout.codec.stored_dtype} {(rows, layout.stored_width)}"
        )
    per_shard = layout.grid.shard_passages
    # A short last shard repeats its end, so that passages which are not there have no rows.
    all_offsets = np.full(per_shard + 1, offsets[-1], np.uint32)
    all_offsets[: len(offsets)] = offsets
    checksums = np.zeros(per_shard, np.uint32)
    for j in range(len(lengths)):
        piece = buffer[offsets[j] : offsets[j + 1]]
        checksums[j] = files.crc32c(_bytes_of(piece))
    return [
        zarr_arrays.write_shard(folder / VALUES, shard, (shard, slice(0, rows)), buffer),
        zarr_arrays.write_shard(folder / OFFSETS, shard, (shard,), all_offsets),
        zarr_arrays.write_shard(folder / CHECKSUMS, shard, (shard,), checksums),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSums:
    """CRC-32 of every shard's `offsets` and `checksums` file, uint32 [shards] each.

    They tie a shard to its version: the files of another shard, whole in themselves, do not match.
    The values are tied through `checksums`.
    """

    offsets: npt.NDArray[np.uint32]
    checksums: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, folder: str, entries: Iterable[files.FileEntry], shards: int) -> ShardSums:
        """From the list of a version's files, `folder` being the version's path in the corpus."""
        wanted = {
            **{f"{folder}/{OFFSETS}/c/{s}/0": (0, s) for s in range(shards)},
            **{f"{folder}/{CHECKSUMS}/c/{s}/0": (1, s) for s in range(shards)},
        }
        sums = np.zeros((2, shards), np.uint32)
        for entry in entries:
            if (place := wanted.pop(entry.path, None)) is not None:
                sums[place] = entry.crc32
        if wanted:
            raise errors.DamagedError(f"the list of files lacks {next(iter(wanted))}")
        return cls(offsets=sums[0], checksums=sums[1])


class ShardFile:
    """One shard open for reading on a local disk: exact ranges of rows, by `preadv`, checked.

    Chunks are stored uncompressed, so that a passage's rows are read from the file straight into
    the caller's array, and nothing else is. Thread-safe; the file stays open while anyone holds it.
    """

    def __init__(self, folder: Path, layout: MemoryLayout, shard: int, sums: ShardSums | None = None) -> None:
        """Read and check the shard's index, offsets and checksums, against `sums` where they are known.

        Raises:
            DamagedError: a file is missing, cut off, or does not match a checksum.
        """
        self.layout = layout
        self.shard = shard
        self.path = zarr_arrays.shard_path(folder / VALUES, shard, 3)
        per_shard = layout.grid.shard_passages
        self.offsets = _read_row(
            folder / OFFSETS, shard, per_shard + 1, None if sums is None else int(sums.offsets[shard])
        ).astype(np.int64)
        self.checksums = _read_row(
            folder / CHECKSUMS, shard, per_shard, None if sums is None else int(sums.checksums[shard])
        )
        if not self.path.resolve().is_relative_to(folder.resolve()):
            raise errors.CorpusError(f"{self.path} is a link out of the corpus folder")
        if (np.diff(self.offsets) < 0).any() or not 0 <= self.offsets[-1] <= layout.rows:
            raise errors.DamagedError(f"offsets of shard {shard} in {folder} do not ascend")
        self._chunk_bytes = layout.chunk_rows * layout.row_bytes
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise errors.DamagedError(f"{self.path} cannot be opened: {e.strerror}") from e
        self._starts = self._read_index()

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def _read_index(self) -> npt.NDArray[np.int64]:
        """File position of each stored chunk, from the index at the file's end."""
        size = os.fstat(self._descriptor).st_size
        index_bytes = self.layout.chunks * 16
        data = os.pread(self._descriptor, index_bytes + _CRC_BYTES, max(0, size - index_bytes - _CRC_BYTES))
        body = data[:index_bytes]
        if len(data) != index_bytes + _CRC_BYTES or files.crc32c(body) != int.from_bytes(
            data[index_bytes:], "little"
        ):
            raise errors.DamagedError(f"the chunk index at the end of {self.path} is damaged")
        index = np.frombuffer(body, "<u8").reshape(-1, 2)
        used = -(-int(self.offsets[-1]) // self.layout.chunk_rows)
        starts, lengths = index[:used, 0], index[:used, 1]
        if (starts == _ABSENT).any() or (lengths != self._chunk_bytes + _CRC_BYTES).any():
            raise errors.DamagedError(f"{self.path} lacks chunks that its offsets speak of")
        return starts.astype(np.int64)

    def tokens(self, local: int) -> int:
        """Tokens of the `local`-th passage of this shard."""
        return int(self.offsets[local + 1] - self.offsets[local])

    def read_into(self, local: int, out: npt.NDArray[Any]) -> None:
        """Read a passage's rows into `out` [tokens, width] of the stored dtype, C-contiguous, and check.

        Raises:
            DamagedError: the bytes do not match the passage's checksum; `out` must not be used.
        """
        target = _bytes_of(out)
        row_bytes, chunk_rows = self.layout.row_bytes, self.layout.chunk_rows
        row, stop, at = int(self.offsets[local]), int(self.offsets[local + 1]), 0
        # Neighbouring chunks lie four bytes apart (each is followed by its own CRC-32C), so one
        # preadv takes a passage across chunks, the gaps going to a scratch buffer.
        gap = memoryview(bytearray(_CRC_BYTES))
        while row < stop:
            chunk, inner = divmod(row, chunk_rows)
            position = int(self._starts[chunk]) + inner * row_bytes
            pieces: list[memoryview] = []
            while row < stop:
                rows = min(stop - row, chunk_rows - row % chunk_rows)
                pieces.append(target[at : at + rows * row_bytes])
                at += rows * row_bytes
                row += rows
                following = row // chunk_rows
                if (
                    row >= stop
                    or len(pieces) > 500
                    or (
                        self._starts[following]
                        != self._starts[following - 1] + self._chunk_bytes + _CRC_BYTES
                    )
                ):
                    break
                pieces.append(gap)
            self._read_exactly(pieces, position)
        if files.crc32c(target) != int(self.checksums[local]):
            passage = self.shard * self.layout.grid.shard_passages + local
            raise errors.DamagedError(
                f"memory of passage {passage} in {self.path} does not match its checksum; "
                "run `memcorpus verify`"
            )

    def _read_exactly(self, pieces: list[memoryview], position: int) -> None:
        """Fill all pieces from `position` on; the kernel may give less than asked for."""
        while pieces:
            count = os.preadv(self._descriptor, pieces, position)
            if count == 0:
                raise errors.DamagedError(f"{self.path} ends at byte {position}, before its chunks do")
            position += count
            while pieces and count >= len(pieces[0]):
                count -= len(pieces.pop(0))
            if pieces and count:
                pieces[0] = pieces[0][count:]


def _read_row(folder: Path, shard: int, length: int, file_sum: int | None) -> npt.NDArray[np.uint32]:
    """One row of `offsets` or `checksums`: a file of its own, little-endian, CRC-32C behind it."""
    path = zarr_arrays.shard_path(folder, shard, 2)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise errors.DamagedError(f"{path} cannot be read: {e.strerror}") from e
    body = data[:-_CRC_BYTES]
    if len(body) != length * 4 or files.crc32c(body) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise errors.DamagedError(f"{path} does not match its checksum; run `memcorpus verify`")
    if file_sum is not None and zlib.crc32(data) != file_sum:
        raise errors.DamagedError(f"{path} is not this version's; run `memcorpus verify`")
    return np.frombuffer(body, "<u4")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, without copying."""
    return memoryview(array.view(np.uint8).data).cast("B")
