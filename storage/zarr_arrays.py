"""Zarr v3 arrays, created and read through TensorStore, with every chunk under CRC-32C.

Their data is written by `shard_files`. A missing chunk would read as zeros; here it is an error.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import tensorstore as ts

from storage import errors, tensorstore_use
from storage.aliases import AnyArray, AnyDtype, Json

METADATA: Final = "zarr.json"
_CHECKED_BYTES: Final[list[Json]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


def _open(store: Path | Json, **options: object) -> Any:
    tensorstore_use.begin(store if isinstance(store, Path) else store["path"])
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{store.resolve()}/"} if isinstance(store, Path) else store,
        "fill_missing_data_reads": False,
    } | options
    return ts.open(spec).result()


def create(
    folder: Path,
    *,
    shape: tuple[int, ...],
    dtype: AnyDtype,
    chunk: tuple[int, ...],
    shard: tuple[int, ...] | None = None,
    dimension_names: tuple[str, ...],
    attributes: Json,
) -> Path:
    """Write an array's metadata, once, before any worker writes data. Returns the metadata's path.

    Without `shard` every chunk is a file; with it, `shard` (a whole multiple of `chunk`) is. An
    array that is there already is left alone if it is the same, and is an error otherwise.
    """
    codecs: list[Json] = _CHECKED_BYTES
    if shard is not None:
        codecs = [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": list(chunk),
                    "codecs": _CHECKED_BYTES,
                    "index_codecs": _CHECKED_BYTES,
                    "index_location": "end",
                },
            }
        ]
    metadata = {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(shard or chunk)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": codecs,
        "fill_value": 0,
        "dimension_names": list(dimension_names),
        "attributes": attributes,
    }
    there = (folder / METADATA).exists()
    try:
        _open(folder, metadata=metadata, create=True, open=True)
    except ValueError as e:
        if not there:  # TensorStore's word for what the disk refused
            raise OSError(f"{folder} cannot be written: {e}") from e
        raise errors.MismatchError(
            f"{folder} holds another array than the one to be written; remove it: {e}"
        ) from e
    return folder / METADATA


def shard_path(folder: Path, shard: int, dimensions: int) -> Path:
    """The file of the `shard`-th shard along the first dimension; the others are in one piece."""
    return folder.joinpath("c", str(shard), *["0"] * (dimensions - 1))


def _require_plain_files(folder: Path) -> None:
    """TensorStore would follow links anywhere, and wait for pipes."""
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif not entry.is_file(follow_symlinks=False):
                        raise errors.CorpusError(f"{entry.path} is a link, or no file; arrays have none")
        except OSError as e:
            raise errors.from_os(folder, e) from e


class Array:
    """An array that stays open, its shard indexes cached within `cache_bytes`."""

    def __init__(
        self,
        folder: Path | Json,
        *,
        shape: tuple[int, ...],
        dtype: str,
        cache_bytes: int = 64 << 20,
    ) -> None:
        """Open and compare with what the manifest says, so that a swapped array is refused.

        `folder` is a local one, or TensorStore's name for one (`CorpusFolder.store`).
        """
        self.folder = folder if isinstance(folder, Path) else folder["path"]
        if isinstance(folder, Path) or folder["driver"] == "file":
            _require_plain_files(Path(self.folder))
        try:
            self._array = _open(
                folder,
                open=True,
                context={"cache_pool": {"total_bytes_limit": cache_bytes}},
            )
        except ValueError as e:
            raise tensorstore_use.failure(f"Zarr array {self.folder}", e, tensorstore_use.OF_ARRAYS) from e
        if tuple(self._array.shape) != shape or self._array.dtype.name != dtype:
            raise errors.DamagedError(
                f"{self.folder} is {self._array.dtype.name} {tuple(self._array.shape)}, "
                f"the manifest says {dtype} {shape}"
            )

    def read(self, region: Any) -> AnyArray:
        """Read a region, checking every chunk.

        Raises:
            DamagedError: a chunk does not match its checksum, or is missing.
            UnreadableError: it cannot be read.
            CorpusError: in a process that was forked since.
        """
        tensorstore_use.begin(self.folder)
        try:
            result: AnyArray = self._array[region].read().result()
        except ValueError as e:
            raise tensorstore_use.failure(self.folder, e, tensorstore_use.OF_ARRAYS) from e
        return result
