"""Other stores, each in the best use of it that we found, its index preloaded and its handles kept.

Tried and slower, warm: h5py's `read_direct`; Parquet's `read_row_groups`, with or without pre-buffering
or mapping; Lance's `take` of binary or of fixed-size lists, and `take_blobs`; safetensors with a tensor
a passage; TensorStore with one read a passage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from benchmarks.store.contender import Contender, put
from benchmarks.store.truth import Truth
from storage import memory_store

# Of all bytes: enough for the shards' indexes, and for hardly any data.
_TENSORSTORE_CACHE_SHARE: Final = 1 / 64


class TensorStore(Contender):
    """Our Zarr arrays, every chunk checked; one read of all rows, into the ready array."""

    name = "TensorStore, our arrays"
    checked = "chunks"
    package = "zarr"  # which reads the offsets for it

    def __init__(self, truth: Truth, version: Path) -> None:
        super().__init__(truth)
        self._regions = regions(version)
        self.paths = tuple(version / name for name in memory_store.ARRAYS)
        self._array: Any = ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{version / 'values'}/"},
                "recheck_cached_data": "open",
                "recheck_cached_metadata": "open",
                "context": {
                    "cache_pool": {"total_bytes_limit": int(truth.raw_bytes * _TENSORSTORE_CACHE_SHARE)}
                },
            }
        ).result()

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = ts.concat(
            [self._array[self._regions[i]][ts.d[0].translate_to[0]] for i in ids.tolist()], axis=0
        )
        filled = out[: rows.shape[0]]
        ts.array(filled).write(rows).result()
        return filled


class Zarr(Contender):
    """Our Zarr arrays through zarr-python, every chunk checked; the passages' reads run together."""

    name = "zarr-python, our arrays"
    checked = "chunks"
    package = "zarr"

    def __init__(self, truth: Truth, version: Path) -> None:
        import zarr

        super().__init__(truth)
        self._regions = regions(version)
        self.paths = tuple(version / name for name in memory_store.ARRAYS)
        self._array: Any = zarr.open_array(version / "values", mode="r")

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return put((self._array[self._regions[i]] for i in ids.tolist()), out)


def regions(version: Path) -> list[tuple[int, slice]]:
    """Shard and rows of every passage of a memory version, as docs/format.md has it."""
    import zarr

    offsets: Any = zarr.open_array(version / "offsets", mode="r")
    rows: list[list[int]] = offsets[:].tolist()
    return [(s, slice(*pair)) for s, row in enumerate(rows) for pair in pairwise(row)]


class Lance(Contender):
    """A blob a passage."""

    name = "Lance"
    package = "pylance"

    def __init__(self, truth: Truth, folder: Path) -> None:
        import lance
        import pyarrow as pa

        super().__init__(truth)
        column = pa.field("rows", pa.large_binary(), nullable=False, metadata={"lance-encoding:blob": "true"})
        schema = pa.schema([column])

        def batches() -> Iterator[Any]:
            for i in range(truth.passages):
                yield pa.record_batch(
                    [pa.array([truth.passage(i).tobytes()], pa.large_binary())], schema=schema
                )

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        self._data: Any = lance.write_dataset(reader, folder / "lance", data_storage_version="2.1")
        self.paths = (folder / "lance",)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found = self._data.read_blobs("rows", indices=ids.tolist(), preserve_order=True)
        width = self.truth.width
        return put((np.frombuffer(data, np.uint16).reshape(-1, width) for _, data in found), out)


class Lmdb(Contender):
    """A value a passage, copied out of LMDB's own mapping."""

    name = "LMDB"
    package = "lmdb"

    def __init__(self, truth: Truth, folder: Path) -> None:
        import lmdb

        super().__init__(truth)
        path = folder / "lmdb"
        with lmdb.open(str(path), map_size=2 * truth.raw_bytes + (64 << 20)) as written:
            for first in range(0, truth.passages, 256):
                with written.begin(write=True) as transaction:
                    for i in range(first, min(first + 256, truth.passages)):
                        transaction.put(_key(i), truth.passage(i).tobytes(), append=True)
        self._data: Any = lmdb.open(str(path), readonly=True, lock=False)
        self.paths = (path,)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        width = self.truth.width
        with self._data.begin(buffers=True) as transaction:
            values = (transaction.get(_key(i)) for i in ids.tolist())
            return put((np.frombuffer(value, np.uint16).reshape(-1, width) for value in values), out)

    def close(self) -> None:
        self._data.close()


def _key(i: int) -> bytes:
    return i.to_bytes(8, "big")


class Hdf5(Contender):
    """All rows in one contiguous data set, the offsets in memory."""

    name = "HDF5"
    package = "h5py"

    def __init__(self, truth: Truth, folder: Path) -> None:
        import h5py

        super().__init__(truth)
        path = folder / "rows.h5"
        with h5py.File(path, "w") as written:
            written.create_dataset("rows", data=truth.values)
        self._file: Any = h5py.File(path, "r")
        self._rows = self._file["rows"]
        self.paths = (path,)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return put((self._rows[self.starts[i] : self.starts[i + 1]] for i in ids.tolist()), out)

    def close(self) -> None:
        self._file.close()


class Parquet(Contender):
    """A row group a passage, plain and uncompressed; the footer read once, a file handle a thread."""

    name = "Parquet"
    package = "pyarrow"

    def __init__(self, truth: Truth, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        super().__init__(truth)
        path = folder / "rows.parquet"
        schema = pa.schema([pa.field("rows", pa.large_binary(), nullable=False)])
        options: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(path, schema, **options) as writer:
            for i in range(truth.passages):
                data = pa.array([truth.passage(i).tobytes()], pa.large_binary())
                writer.write_table(pa.table([data], schema=schema))
        self._metadata = pq.read_metadata(path)
        self._open = pq.ParquetFile
        self._local = threading.local()
        self.paths = (path,)

    def _file(self) -> Any:
        if not hasattr(self._local, "file"):
            self._local.file = self._open(self.paths[0], metadata=self._metadata)
        return self._local.file

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        file, width = self._file(), self.truth.width
        # The value is the whole of the third buffer: validity, offsets, bytes.
        groups = (file.read_row_group(i, use_threads=False).column(0).chunk(0) for i in ids.tolist())
        return put((np.frombuffer(group.buffers()[2], np.uint16).reshape(-1, width) for group in groups), out)


class Safetensors(Contender):
    """All rows in one tensor, mapped by PyTorch, the offsets in memory."""

    name = "safetensors"
    package = "safetensors"

    def __init__(self, truth: Truth, folder: Path) -> None:
        from safetensors import safe_open
        from safetensors.numpy import save_file

        super().__init__(truth)
        path = folder / "rows.safetensors"
        save_file({"rows": truth.values}, path)
        self._file: Any = safe_open(path, framework="pt")
        self._rows = self._file.get_tensor("rows").numpy()
        self.paths = (path,)

    def fetch(self, ids: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return put((self._rows[self.starts[i] : self.starts[i + 1]] for i in ids.tolist()), out)


# Those that read our arrays, and those that write files of their own.
ON_OUR_ARRAYS: Final = (TensorStore, Zarr)
WITH_OWN_FILES: Final = (Lance, Lmdb, Hdf5, Parquet, Safetensors)
