"""The memory store: every token's memory, ragged, in three Zarr v3 arrays.

    values    [shards, rows, stored]  row r of shard s, as its codec stores a token; no padding
    offsets   [shards, passages + 1]  uint32: passage j of shard s holds rows offsets[s, j] to [s, j + 1]
    checksums [shards, passages]      uint32: CRC-32C of the passage's bytes in `values`

Passage `i` is passage `i % P` of shard `i // P`, P being the passages a shard holds. A shard's rows
start at 0 whatever the other shards hold, so that shards are written, repaired and re-encoded on
their own. Rows past a shard's last are not stored: they take no byte. A shard of `values` is a file;
`offsets` and `checksums` are one file each, joined at the end from what the shards' writers left, so
that a version of 30 TB is opened by reading two files. docs/format.md gives the reasons.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import codecs, errors, fields, files, shard_files, zarr_arrays
from storage.aliases import AnyArray, Json
from storage.shards import ShardGrid, choose_shard_passages

VALUES: Final = "values"
OFFSETS: Final = "offsets"
CHECKSUMS: Final = "checksums"
# Rows of an inner chunk, what other Zarr readers read at once: 192 KiB at base size, 1 MiB at XXL.
CHUNK_ROWS: Final = 128
# Of one passage's values as float32: 16,384 tokens of four layers of 4,096. More is nobody's, but could be
# claimed.
MAX_PASSAGE_BYTES: Final = 1 << 30
ARRAYS: Final = (VALUES, OFFSETS, CHECKSUMS)


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
        if self.width * 4 * self.max_tokens > MAX_PASSAGE_BYTES:
            raise errors.CorpusError(
                f"memory of width {self.width} and {self.max_tokens} tokens a passage: wanted less than "
                f"{MAX_PASSAGE_BYTES >> 20} MiB a passage"
            )
        if self.grid.shard_passages * self.max_tokens >= 2**32:
            raise errors.CorpusError(
                f"shards of {self.grid.shard_passages} passages of {self.max_tokens} tokens: "
                "wanted fewer than 2**32 rows a shard; take fewer passages a shard"
            )

    @classmethod
    def sized(
        cls, *, passages: int, width: int, max_tokens: int, codec: codecs.Codec, shard_passages: int | None
    ) -> MemoryLayout:
        """Of so many passages, in shards of so many, or sized by corpus and model where that is None."""
        if shard_passages is None:
            shard_passages = choose_shard_passages(
                passages=passages, max_tokens=max_tokens, token_bytes=codec.token_bytes(width)
            )
        grid = ShardGrid(passages=passages, shard_passages=shard_passages)
        return cls(grid=grid, width=width, max_tokens=max_tokens, codec=codec)

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

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes

    def to_json(self) -> Json:
        return {
            "passages": self.grid.passages,
            "shard_passages": self.grid.shard_passages,
            "width": self.width,
            "max_tokens": self.max_tokens,
            "chunk_rows": self.chunk_rows,
            "codec": self.codec.to_json(),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> MemoryLayout:
        found = fields.Fields(value, where)
        return cls(
            grid=ShardGrid(
                passages=found.integer("passages"), shard_passages=found.integer("shard_passages", least=1)
            ),
            width=found.integer("width", least=1),
            max_tokens=found.integer("max_tokens", least=1),
            chunk_rows=found.integer("chunk_rows", least=1),
            codec=codecs.from_json(found.object("codec")),
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
            shard=(max(shards, 1), per_shard + 1),
            dimension_names=("shard", "passage"),
            attributes={},
        ),
        zarr_arrays.create(
            folder / CHECKSUMS,
            shape=(shards, per_shard),
            dtype=np.dtype("<u4"),
            chunk=(1, per_shard),
            shard=(max(shards, 1), per_shard),
            dimension_names=("shard", "passage"),
            attributes={"algorithm": "CRC-32C"},
        ),
    ]


def allocate(layout: MemoryLayout, tokens: int) -> AnyArray:
    """A buffer for `tokens` stored rows, whole chunks long, so that one write takes it as it is.

    [rows, stored_width] of the codec's stored dtype, as `Coder.encode` gives them.
    """
    rows = -(-tokens // layout.chunk_rows) * layout.chunk_rows
    return np.zeros((rows, layout.stored_width), layout.codec.stored_dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenShard:
    """What `write_shard` leaves: the file of values, and the shard's rows of the two small arrays."""

    path: Path
    measured: files.Measured
    rows: ShardRows


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRows:
    """Where each passage of a shard lies, and the CRC-32C of its bytes.

    Attributes:
        offsets: uint32 [P + 1], rows, ascending; a short last shard repeats its end, so that
            passages which are not there have no rows.
        checksums: uint32 [P].
    """

    offsets: npt.NDArray[np.uint32]
    checksums: npt.NDArray[np.uint32]

    def to_bytes(self) -> bytes:
        return self.offsets.astype("<u4").tobytes() + self.checksums.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, layout: MemoryLayout) -> ShardRows:
        per_shard = layout.grid.shard_passages
        if len(data) != (2 * per_shard + 1) * 4:
            raise errors.DamagedError(
                f"the rows of a shard have {len(data)} bytes, wanted {(2 * per_shard + 1) * 4}"
            )
        both = np.frombuffer(data, "<u4")
        return cls(offsets=both[: per_shard + 1], checksums=both[per_shard + 1 :])


def write_shard(
    folder: Path,
    layout: MemoryLayout,
    shard: int,
    *,
    offsets: npt.NDArray[np.int64],
    buffer: AnyArray,
    may_be_empty: bool = False,
) -> WrittenShard:
    """Write a shard's values.

    Args:
        folder: the version's folder.
        layout: its shapes.
        shard: which.
        offsets: int64 [n + 1], rows of each of the shard's n passages in `buffer`, from 0.
        buffer: stored rows [rows, stored_width], as `allocate` gives it.
        may_be_empty: passages may have no rows: those of which a compaction has dropped them.
    """
    first, stop = layout.grid.bounds(shard)
    lengths = np.diff(offsets)
    if len(lengths) != stop - first or offsets[0] != 0:
        raise errors.CorpusError(
            f"shard {shard} got {len(lengths)} passages from row {offsets[0]}, "
            f"wanted {stop - first} from row 0"
        )
    # A passage without tokens would come back as memory of nothing; every tokenizer ends with </s>.
    if lengths.min() < (0 if may_be_empty else 1) or lengths.max() > layout.max_tokens:
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
    data = files.bytes_of(np.ascontiguousarray(buffer))
    per_shard, row_bytes = layout.grid.shard_passages, layout.row_bytes
    all_offsets = np.full(per_shard + 1, offsets[-1], np.uint32)
    all_offsets[: len(offsets)] = offsets
    checksums = np.zeros(per_shard, np.uint32)
    for j in range(len(lengths)):
        checksums[j] = files.crc32c(data[offsets[j] * row_bytes : offsets[j + 1] * row_bytes])
    path = zarr_arrays.shard_path(folder / VALUES, shard, 3)
    chunk_bytes = layout.chunk_bytes
    measured = shard_files.write(
        path,
        (data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)),
        chunk_bytes=chunk_bytes,
        total=layout.chunks,
    )
    return WrittenShard(
        path=path, measured=measured, rows=ShardRows(offsets=all_offsets, checksums=checksums)
    )


def join(folder: Path, layout: MemoryLayout, rows: Callable[[], Iterable[ShardRows]]) -> list[Path]:
    """Write `offsets` and `checksums` from the rows of all shards in order. Returns their files.

    The items of `rows` are taken as they come, once: each may be a file on a disk that is far away. Checksums
    wait in a file of their own until all offsets are written.
    """
    per_shard, shards = layout.grid.shard_passages, layout.grid.shards

    def checked() -> Iterator[ShardRows]:
        shard = -1
        for shard, item in enumerate(rows()):
            if item.offsets[0] != 0 or (np.diff(item.offsets.astype(np.int64)) < 0).any():
                raise errors.DamagedError(f"offsets of shard {shard} for {folder} do not ascend")
            yield item
        if shard + 1 != shards:
            raise errors.CorpusError(f"{folder} got the rows of {shard + 1} shards, wanted {shards}")

    paths = [zarr_arrays.shard_path(folder / name, 0, 2) for name in (OFFSETS, CHECKSUMS)]
    aside = files.partial_path(paths[1])
    aside.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(aside.unlink, missing_ok=True)
        waiting = stack.enter_context(aside.open("x+b"))

        def offsets() -> Iterator[memoryview]:
            for item in checked():
                waiting.write(item.checksums.astype("<u4").tobytes())
                yield files.bytes_of(np.ascontiguousarray(item.offsets.astype("<u4")))

        def checksums() -> Iterator[bytes]:
            waiting.seek(0)
            while data := waiting.read(per_shard * 4):
                yield data

        total = max(shards, 1)
        shard_files.write(paths[0], offsets(), chunk_bytes=(per_shard + 1) * 4, total=total)
        shard_files.write(paths[1], checksums(), chunk_bytes=per_shard * 4, total=total)
    return paths
