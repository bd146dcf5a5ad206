"""Writing a shard beside a plain sequential write, decoding beside memcpy, and bytes on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.store import ours, page_cache
from benchmarks.store.contender import Contender
from benchmarks.store.truth import Truth
from benchmarks.timing import interleaved
from storage import files, memory_store, zarr_arrays

XXL_WIDTH: Final = 4096
PLAIN: Final = "plain write() + fsync"
MEMCPY: Final = "memcpy"
_DECODED_ROWS: Final = 20 * 265


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds of each contender, round by round, and the bytes that each handled in one."""

    seconds: dict[str, list[float]]
    bytes: dict[str, int]


def write_rates(folder: Path, coded: Iterable[ours.Coded], *, rounds: int) -> Rates:
    """Write the first shard of each codec, checksums and all, and that of bfloat16 as one plain file."""
    runs: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for item in coded:
        codec, layout = item.codec, item.layout
        offsets, buffer = item.shard(0)
        version = folder / codec.name
        memory_store.create(version, layout)

        def write(version: Path = version, layout: Any = layout, given: Any = (offsets, buffer)) -> None:
            # As in a build, and as the plain write: to free an old file's pages takes as long as to write.
            zarr_arrays.shard_path(version / memory_store.VALUES, 0, 3).unlink(missing_ok=True)
            memory_store.write_shard(version, layout, 0, offsets=given[0], buffer=given[1])

        name = f"memcorpus {codec.name}"
        runs[name] = write
        sizes[name] = int(offsets[-1]) * layout.row_bytes
        if codec.name == ours.BASE_CODEC:
            data = files.bytes_of(buffer[: offsets[-1]])
            runs[PLAIN] = lambda data=data: plain_write(folder / "plain", data)
            sizes[PLAIN] = len(data)
    return Rates(seconds=interleaved(runs, rounds), bytes=sizes)


def plain_write(path: Path, data: memoryview) -> None:
    """One file, from the first byte to the last, to the disk."""
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file:
        rest = data
        while rest:
            rest = rest[file.write(rest) or 0 :]
        os.fsync(file.fileno())


def decode_rates(truth: Truth, coded: Iterable[ours.Coded], *, rounds: int) -> Rates:
    """Stored rows to values, on one core, of the codecs that have something to decode.

    Bytes are those of the values, against a copy of as many.
    """
    rows = truth.values[:_DECODED_ROWS]
    target = np.empty_like(rows)
    runs: dict[str, Any] = {MEMCPY: lambda: np.copyto(target, rows)}
    for item in coded:
        if not item.coder.view_only:
            stored = np.ascontiguousarray(item.rows(0, len(rows)))
            out = target.view(item.codec.dtype)
            runs[item.codec.name] = lambda item=item, stored=stored, out=out: item.coder.decode(stored, out)
    return Rates(seconds=interleaved(runs, rounds), bytes=dict.fromkeys(runs, rows.nbytes))


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskUse:
    """What a contender takes on the disk.

    Attributes:
        bytes: of the files that grow with the corpus.
        fixed_bytes: of the others: canaries, codebooks, cards.
        overhead_percent: of `bytes` over tokens x bytes of a row.
        smaller: bfloat16 rows, tokens x width x 2, over `bytes`.
    """

    bytes: int
    fixed_bytes: int
    overhead_percent: float
    smaller: float


def disk_use(contender: Contender) -> DiskUse:
    growing, every = (
        sum(path.stat().st_size for path in page_cache.files_under(paths))
        for paths in (contender.growing, contender.paths)
    )
    rows = len(contender.truth.values) * contender.row_bytes
    return DiskUse(
        bytes=growing,
        fixed_bytes=every - growing,
        overhead_percent=100 * (growing / rows - 1),
        smaller=contender.truth.raw_bytes / growing,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """How many files a version is, measured here, and reckoned at XXL width for Wikipedia."""

    files: int
    shards: int
    files_per_shard: float
    xxl_shard_passages: int
    xxl_shard_bytes: int
    files_per_terabyte: float


def count_files(version: Path, coded: ours.Coded) -> Files:
    """Of the version of one codec, as it lies on the disk. Only `values` has more files in a larger one."""
    shards = coded.layout.grid.shards
    per_shard = len(page_cache.files_under([version / memory_store.VALUES / "c"])) / shards
    passages = ours.shard_passages(coded.codec, XXL_WIDTH)
    shard_bytes = round(passages * float(coded.truth.lengths.mean()) * coded.codec.token_bytes(XXL_WIDTH))
    return Files(
        files=len(page_cache.files_under([version])),
        shards=shards,
        files_per_shard=per_shard,
        xxl_shard_passages=passages,
        xxl_shard_bytes=shard_bytes,
        files_per_terabyte=1e12 / shard_bytes * per_shard,
    )
