"""Every kind of file that a corpus is written in, on a disk that does not take all of it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from retrieval import index, index_building
from storage import canaries, checked_json, file_list, files, passage_table, shard_files, vector_array
from storage.shards import ShardGrid

_ROWS = 300


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel takes what fits, and refuses more, as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_index(path: Path) -> None:
    folder = path.parent.parent / "vectors"
    layout = vector_array.VectorLayout(
        grid=ShardGrid(passages=_ROWS, shard_passages=512), dim=24, dtype="float32"
    )
    if not folder.exists():
        values = np.random.default_rng(0).normal(size=(_ROWS, 24)).astype(np.float32)
        vector_array.create(folder, layout)
        vector_array.write_shard(folder, layout, 0, values)
    index_building.build(vector_array.VectorArray(folder, layout), index.choose(_ROWS, 24), path)


def write_canaries(path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(_ROWS, 32)).astype(ml_dtypes.bfloat16)
    canaries.write(path, values)


def write_list(path: Path) -> None:
    writer = file_list.Writer(path)
    for i in range(_ROWS):
        writer.add(files.FileEntry(path=f"f/{i * i}", bytes=i, crc32=i))
    writer.close()


def write_part(path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    rows = pa.record_batch({"text": [f"{i**3} words" for i in range(_ROWS)]}, schema=schema)
    passage_table.write_part(path, schema, iter([rows]))


def write_shard(path: Path) -> None:
    chunks = np.arange(_ROWS * 16, dtype=np.uint8).reshape(_ROWS, 16)
    shard_files.write(path, chunks, chunk_bytes=16, total=_ROWS)


def write_card(path: Path) -> None:
    checked_json.write(path, {"rows": list(range(_ROWS))})


@pytest.mark.parametrize(
    "write", [write_index, write_canaries, write_list, write_part, write_shard, write_card]
)
def test_a_file_is_whole_or_an_error_and_nothing(write: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "file")
    whole = (folder / "file").read_bytes()
    assert len(whole) > 1000
    for size in (len(whole) - 1, len(whole) - 700, len(whole) // 2, 100, 0):
        # The last bytes of a file are the ones that some libraries lose without a word.
        with room_for(size), pytest.raises(OSError, match="File too large"):
            write(folder / "file")
        assert [path.name for path in folder.iterdir()] == ["file"]
        assert (folder / "file").read_bytes() == whole
    with room_for(len(whole)):
        write(folder / "file")
    assert (folder / "file").read_bytes() == whole


def test_canaries_are_as_numpy_saves_them(tmp_path: Path) -> None:
    write_canaries(tmp_path / "file")
    values = np.random.default_rng(1).normal(size=(_ROWS, 32)).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "numpys.npy", values.view(np.uint16))
    assert (tmp_path / "file").read_bytes() == (tmp_path / "numpys.npy").read_bytes()
