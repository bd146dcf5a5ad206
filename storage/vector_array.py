"""The retriever's vectors: Zarr v3 [passages, dim], one shard file for each shard of passages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import errors, fields, files, row_array, zarr_arrays
from storage.aliases import AnyArray, Json
from storage.row_array import RowLayout
from storage.shards import ShardGrid

DTYPES: Final = ("float32", "float16")
# Rows of a chunk, the piece that is read and checked at once: 192 KiB at 768 dimensions of float32.
CHUNK_ROWS: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorLayout:
    """Shape and type of a vector array: `dim` values of `dtype` for each passage of `grid`."""

    grid: ShardGrid
    dim: int
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.dim < 1:
            raise errors.CorpusError(
                f"vectors of {self.dim} dimensions in {self.dtype!r:.40}: "
                f"wanted 1 or more, in one of {', '.join(DTYPES)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.grid.passages, self.dim

    @property
    def row_bytes(self) -> int:
        return self.dim * np.dtype(self.dtype).itemsize

    @property
    def chunk_rows(self) -> int:
        return min(CHUNK_ROWS, self.grid.shard_passages)

    @property
    def rows(self) -> RowLayout:
        return RowLayout(
            grid=self.grid,
            columns=self.dim,
            dtype=self.dtype,
            chunk_rows=self.chunk_rows,
            names=("passage", "dimension"),
        )

    def to_json(self) -> dict[str, int | str]:
        return {
            "passages": self.grid.passages,
            "shard_passages": self.grid.shard_passages,
            "dim": self.dim,
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> VectorLayout:
        found = fields.Fields(value, where)
        grid = ShardGrid(
            passages=found.integer("passages"), shard_passages=found.integer("shard_passages", least=1)
        )
        return cls(grid=grid, dim=found.integer("dim", least=1), dtype=found.text("dtype"))


def create(folder: Path, layout: VectorLayout) -> Path:
    """Write the metadata before the workers start; see `zarr_arrays.create`."""
    return row_array.create(folder, layout.rows, {"logical_dtype": layout.dtype})


def write_shard(
    folder: Path, layout: VectorLayout, shard: int, vectors: AnyArray
) -> tuple[Path, files.Measured]:
    """Write a shard's vectors [rows, dim]; returns the file, and its size and checksum."""
    first, stop = layout.grid.bounds(shard)
    if vectors.shape != (stop - first, layout.dim) or vectors.dtype.name != layout.dtype:
        raise errors.CorpusError(
            f"vectors of shard {shard} are {vectors.dtype} {vectors.shape}, "
            f"wanted {layout.dtype} {(stop - first, layout.dim)}"
        )
    # Such a vector would poison every search that meets it.
    if not np.isfinite(vectors).all():
        row = first + int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise errors.CorpusError(f"the retriever's vector of passage {row} is not finite")
    return row_array.write_shard(folder, layout.rows, shard, vectors)


def files_of(layout: VectorLayout, first: int, stop: int) -> Iterator[str]:
    """Names, below the array's folder, of the files that hold passages first to stop - 1."""
    yield zarr_arrays.METADATA
    size = layout.grid.shard_passages
    for shard in range(first // size, -(-stop // size)):
        yield row_array.shard_path(Path(), layout.rows, shard).as_posix()


class VectorArray:
    """Reads vectors by passage id, every chunk checked."""

    def __init__(self, folder: Path | Json, layout: VectorLayout) -> None:
        """`folder` as in `zarr_arrays.Array`."""
        self.layout = layout
        self._rows = row_array.RowArray(folder, layout.rows)

    def read(self, first: int, stop: int) -> AnyArray:
        """Vectors of passages first to stop, [stop - first, dim]."""
        return self._rows.read(first, stop)

    def take(self, ids: npt.NDArray[np.int64]) -> AnyArray:
        """Vectors of the given passages, [k, dim], in that order."""
        return self._rows.take(ids)

    def batches(self, rows: int = 16384) -> Iterator[tuple[int, AnyArray]]:
        """All vectors in order of passage id, as (first id, [up to rows, dim])."""
        for first in range(0, self.layout.grid.passages, rows):
            yield first, self.read(first, min(first + rows, self.layout.grid.passages))
