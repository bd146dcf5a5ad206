"""Shard files: what we write, other Zarr libraries read; what is cut off, full or flipped raises."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import errors, files, shard_files, zarr_arrays


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(0, 40), chunk_rows=st.integers(1, 9), width=st.integers(1, 5), data=st.data())
def test_other_libraries_and_exact_ranges_agree(
    tmp_path_factory: pytest.TempPathFactory, rows: int, chunk_rows: int, width: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("array")
    total = -(-max(rows, 1) // chunk_rows) + data.draw(st.integers(0, 2))
    zarr_arrays.create(
        folder,
        shape=(total * chunk_rows, width),
        dtype=np.dtype("<u2"),
        chunk=(chunk_rows, width),
        shard=(total * chunk_rows, width),
        dimension_names=("row", "column"),
        attributes={},
    )
    values = np.random.default_rng(rows).integers(0, 2**16, (rows, width), np.uint16)
    path = zarr_arrays.shard_path(folder, 0, 2)
    chunk_bytes = chunk_rows * width * 2
    measured = shard_files.write(
        path, shard_files.padded_rows(values, chunk_rows), chunk_bytes=chunk_bytes, total=total
    )
    assert measured == files.measure(path)
    stored = -(-rows // chunk_rows)
    assert measured.bytes == shard_files.file_bytes(stored, chunk_bytes=chunk_bytes, total=total)
    np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[:rows], values)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    np.testing.assert_array_equal(ts.open(spec).result()[:rows].read().result(), values)
    if rows:
        row = data.draw(st.integers(0, rows - 1))
        stop = data.draw(st.integers(row + 1, rows))
        out = np.zeros((stop - row, width), np.uint16)
        pieces, position = shard_files.range_pieces(
            row,
            stop,
            files.bytes_of(out),
            row_bytes=width * 2,
            chunk_rows=chunk_rows,
            gap=memoryview(bytearray(4)),
        )
        descriptor = os.open(path, os.O_RDONLY)
        shard_files.read_into(descriptor, pieces, position)
        np.testing.assert_array_equal(out, values[row:stop])
        body = shard_files.read_chunk(descriptor, row // chunk_rows, chunk_bytes, path)
        assert body.startswith(values[row // chunk_rows * chunk_rows].tobytes())
        os.close(descriptor)


def test_more_than_one_call_writes_many_chunks(tmp_path: Path) -> None:
    chunks = [bytes([i % 256]) * 3 for i in range(3000)]
    path = tmp_path / "deep/file"
    measured = shard_files.write(path, chunks, chunk_bytes=3, total=3000)
    data = path.read_bytes()
    assert measured == files.Measured(bytes=len(data), crc32=files.measure(path).crc32)
    assert all(data[i * 7 : i * 7 + 3] == chunk for i, chunk in enumerate(chunks))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    shard_files.write(path, [b"abcd"], chunk_bytes=4, total=1)
    before = path.read_bytes()

    def failing() -> object:
        yield b"efgh"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        shard_files.write(path, failing(), chunk_bytes=4, total=2)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == before
    for chunks, total in (([b"abc"], 1), ([b"abcd", b"efgh"], 1)):
        with pytest.raises(ValueError, match="wanted"):
            shard_files.write(path, chunks, chunk_bytes=4, total=total)


def test_what_is_cut_off_or_flipped_raises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    shard_files.write(path, [b"abcd", b"efgh"], chunk_bytes=4, total=2)
    whole = path.read_bytes()
    for at in range(8, 16):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with path.open("rb") as file, pytest.raises(errors.DamagedError, match="chunk 1"):
            shard_files.read_chunk(file.fileno(), 1, 4, path)
    path.write_bytes(whole[:10])
    with path.open("rb") as file:
        assert shard_files.read_chunk(file.fileno(), 0, 4, path) == b"abcd"
        with pytest.raises(EOFError):
            shard_files.read_into(file.fileno(), [memoryview(bytearray(4))], 8)
