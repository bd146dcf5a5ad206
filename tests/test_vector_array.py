"""Vectors by passage id, for us and for zarr-python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from storage import errors, vector_array, zarr_arrays
from storage.shards import ShardGrid
from storage.vector_array import VectorArray, VectorLayout


def write(folder: Path, layout: VectorLayout) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=layout.shape).astype(layout.dtype)
    vector_array.create(folder, layout)
    for shard in layout.grid:
        first, stop = layout.grid.bounds(shard)
        vector_array.write_shard(folder, layout, shard, vectors[first:stop])
    return vectors


@pytest.mark.parametrize("dtype", vector_array.DTYPES)
def test_round_trip(tmp_path: Path, dtype: str) -> None:
    layout = VectorLayout(grid=ShardGrid(passages=200, shard_passages=128), dim=5, dtype=dtype)
    vectors = write(tmp_path, layout)
    opened = VectorArray(tmp_path, layout)
    np.testing.assert_array_equal(opened.read(0, 200), vectors)
    ids = np.array([199, 0, 130, 0])
    np.testing.assert_array_equal(opened.take(ids), vectors[ids])
    batches = list(opened.batches(60))
    assert [first for first, _ in batches] == [0, 60, 120, 180]
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), vectors)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], vectors)


def test_flipped_bytes_raise(tmp_path: Path) -> None:
    layout = VectorLayout(grid=ShardGrid(passages=100, shard_passages=64), dim=3, dtype="float32")
    vectors = write(tmp_path, layout)
    path = zarr_arrays.shard_path(tmp_path, 0, 2)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(errors.DamagedError):
            VectorArray(tmp_path, layout).read(0, 100)
    path.unlink()
    with pytest.raises(errors.DamagedError):
        VectorArray(tmp_path, layout).read(0, 100)
    np.testing.assert_array_equal(VectorArray(tmp_path, layout).read(64, 100), vectors[64:])


def test_wrong_vectors_are_refused(tmp_path: Path) -> None:
    layout = VectorLayout(grid=ShardGrid(passages=100, shard_passages=64), dim=3, dtype="float32")
    vectors = write(tmp_path, layout)
    with pytest.raises(errors.CorpusError, match=r"wanted float32 \(36, 3\)"):
        vector_array.write_shard(tmp_path, layout, 1, vectors[:64])
    vectors[70, 1] = np.nan
    with pytest.raises(errors.CorpusError, match="passage 70 is not finite"):
        vector_array.write_shard(tmp_path, layout, 1, vectors[64:])
    with pytest.raises(errors.DamagedError, match="the manifest says"):
        VectorArray(tmp_path, VectorLayout(grid=layout.grid, dim=4, dtype="float32"))
    with pytest.raises(errors.CorpusError, match="float32, float16"):
        VectorLayout(grid=layout.grid, dim=4, dtype="int8")
