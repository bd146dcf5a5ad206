"""Rows by passage id: Zarr v3 [passages] or [passages, columns], one file for each shard of passages.

What a row is, its owner knows: a retriever's vector, a chunk's tokens, its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import errors, files, shard_files, zarr_arrays
from storage.aliases import AnyArray, AnyDtype, Json
from storage.shards import ShardGrid

# Of the chunks that rows are gathered from at once; TensorStore would hold those of all rows of a call.
GATHERED_BYTES: Final = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RowLayout:
    """Shape and type of such an array.

    Attributes:
        grid: the passages, and how many a shard has.
        columns: of a row; None for one value, where the array has one dimension.
        dtype: of a value.
        chunk_rows: rows that are read and checked at once; a shard has a whole number of them.
        names: of the dimensions.
    """

    grid: ShardGrid
    columns: int | None
    dtype: str
    chunk_rows: int
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.row_shape(self.grid.passages)

    def row_shape(self, rows: int) -> tuple[int, ...]:
        return (rows,) if self.columns is None else (rows, self.columns)

    @property
    def row_bytes(self) -> int:
        return (1 if self.columns is None else self.columns) * np.dtype(self.dtype).itemsize

    @property
    def foretold_bytes(self) -> int:
        """Bytes of the shard files: exact."""
        grid = self.grid
        # Chunks are written whole; those of a short last shard that hold no passage are not written.
        chunks = -(-grid.passages // self.chunk_rows)
        index = -(-grid.shard_passages // self.chunk_rows) * shard_files.INDEX_ENTRY_BYTES
        return chunks * (self.chunk_rows * self.row_bytes + shard_files.CRC_BYTES) + grid.shards * (
            index + shard_files.CRC_BYTES
        )


def create(folder: Path, layout: RowLayout, attributes: Json) -> Path:
    """Write the metadata before the workers start; see `zarr_arrays.create`."""
    grid = layout.grid
    if grid.shard_passages % layout.chunk_rows:
        raise errors.CorpusError(
            f"shards of {grid.shard_passages} passages: wanted a multiple of {layout.chunk_rows}"
        )
    dtype: AnyDtype = np.dtype(layout.dtype)
    return zarr_arrays.create(
        folder,
        shape=layout.shape,
        dtype=dtype,
        chunk=layout.row_shape(layout.chunk_rows),
        shard=layout.row_shape(grid.shard_passages),
        dimension_names=layout.names,
        attributes=attributes,
    )


def shard_path(folder: Path, layout: RowLayout, shard: int) -> Path:
    return zarr_arrays.shard_path(folder, shard, len(layout.names))


def write_shard(folder: Path, layout: RowLayout, shard: int, rows: AnyArray) -> tuple[Path, files.Measured]:
    """Write a shard's rows; returns the file, and its size and checksum."""
    first, stop = layout.grid.bounds(shard)
    wanted = layout.row_shape(stop - first)
    if rows.shape != wanted or rows.dtype.name != layout.dtype:
        raise errors.CorpusError(
            f"rows of shard {shard} for {folder.name} are {rows.dtype} {rows.shape}, "
            f"wanted {layout.dtype} {wanted}"
        )
    path = shard_path(folder, layout, shard)
    stored = rows.astype(np.dtype(layout.dtype).newbyteorder("<"), copy=False)
    measured = shard_files.write(
        path,
        shard_files.padded_rows(stored, layout.chunk_rows),
        chunk_bytes=layout.chunk_rows * layout.row_bytes,
        total=layout.grid.shard_passages // layout.chunk_rows,
    )
    return path, measured


class RowArray:
    """Reads rows by passage id, every chunk checked."""

    def __init__(self, folder: Path | Json, layout: RowLayout) -> None:
        """`folder` as in `zarr_arrays.Array`."""
        self.layout = layout
        self._array = zarr_arrays.Array(folder, shape=layout.shape, dtype=layout.dtype)
        self._rest = () if layout.columns is None else (slice(None),)

    def read(self, first: int, stop: int) -> AnyArray:
        """Rows of passages first to stop."""
        return self._array.read((slice(first, stop), *self._rest))

    def take(self, ids: npt.NDArray[np.int64]) -> AnyArray:
        """Rows of the given passages, in that order. RAM: these, and the chunks of some of them at a time."""
        some = max(1, GATHERED_BYTES // (self.layout.chunk_rows * self.layout.row_bytes))
        if len(ids) <= some:
            return self._array.read((ids, *self._rest))
        found = np.empty(self.layout.row_shape(len(ids)), np.dtype(self.layout.dtype))
        for first in range(0, len(ids), some):
            found[first : first + some] = self._array.read((ids[first : first + some], *self._rest))
        return found
