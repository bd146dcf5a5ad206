"""Writing a shard beside a plain sequential write, decoding beside memcpy, and bytes on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.store import ours, page_cache
from benchmarks.store.truth import BFLOAT16, Truth
from benchmarks.timing import interleaved
from storage import codecs, memory_store

XXL_WIDTH: Final = 4096
PLAIN: Final = "plain write() + fsync"
MEMCPY: Final = "memcpy"
_DECODED_ROWS: Final = 20 * 265


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds of each contender, round by round, and the bytes that each handled in one."""

    seconds: dict[str, list[float]]
    bytes: dict[str, int]


def write_rates(folder: Path, truth: Truth, wanted: Iterable[codecs.Codec], *, rounds: int) -> Rates:
    """Write the first shard of each codec, checksums and all, and its stored bytes as one plain file."""
    runs: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for codec in wanted:
        layout = ours.layout_of(truth, codec)
        offsets, buffer = ours.shard_rows(truth, layout, 0)
        version = folder / codec.name
        memory_store.create(version, layout)

        def write(version: Path = version, layout: Any = layout, given: Any = (offsets, buffer)) -> None:
            memory_store.write_shard(version, layout, 0, offsets=given[0], buffer=given[1])

        name = f"memcorpus {codec.name}"
        runs[name] = write
        sizes[name] = int(offsets[-1]) * layout.row_bytes
        if codec.name == ours.BASE_CODEC:
            data = buffer[: offsets[-1]].view(np.uint8).reshape(-1).data
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


def decode_rates(truth: Truth, wanted: Iterable[codecs.Codec], *, rounds: int) -> Rates:
    """Stored rows to values, of the codecs that have something to decode; bytes are those of bfloat16."""
    rows = truth.values[:_DECODED_ROWS]
    target = np.empty_like(rows)
    runs: dict[str, Any] = {MEMCPY: lambda: np.copyto(target, rows)}
    for codec in wanted:
        stored = codec.stored(np.ascontiguousarray(rows.view(BFLOAT16).astype(codec.dtype)))
        if not np.shares_memory(codec.logical(stored), stored):
            runs[codec.name] = lambda codec=codec, stored=stored: codec.logical(stored)
    return Rates(seconds=interleaved(runs, rounds), bytes=dict.fromkeys(runs, rows.nbytes))


def stored_bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in page_cache.files_under(paths))


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """How many files a version is, measured here, and reckoned at XXL width for Wikipedia."""

    files: int
    shards: int
    files_per_shard: int
    xxl_shard_passages: int
    xxl_shard_bytes: int
    files_per_terabyte: float


def count_files(version: Path, truth: Truth, codec: codecs.Codec) -> Files:
    """Of the version of one codec, as it lies on the disk."""
    layout = ours.layout_of(truth, codec)
    found = page_cache.files_under([version])
    arrays = (memory_store.VALUES, memory_store.OFFSETS, memory_store.CHECKSUMS)
    shards = layout.grid.shards
    # An array with a file a shard grows with them; one that is a single file does not count.
    per_shard = sum(
        count // shards
        for name in arrays
        if (count := len(page_cache.files_under([version / name / "c"]))) > 1 or shards == 1
    )
    passages = ours.shard_passages(codec, XXL_WIDTH)
    shard_bytes = round(passages * float(truth.lengths.mean()) * codec.token_bytes(XXL_WIDTH))
    return Files(
        files=len(found),
        shards=shards,
        files_per_shard=per_shard,
        xxl_shard_passages=passages,
        xxl_shard_bytes=shard_bytes,
        files_per_terabyte=1e12 / shard_bytes * per_shard,
    )
