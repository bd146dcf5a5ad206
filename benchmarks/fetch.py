"""Fetch memory of random passages: ours beside np.memmap, TensorStore and zarr-python on the same bytes.

    python -m benchmarks.fetch [--passages 4000] [--width 1024] [--rounds 200]

All read from the page cache. np.memmap over one plain file is the limit of a warm read: it copies
the same bytes and checks nothing. The others read the same Zarr arrays.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import zarr

from benchmarks.timing import interleaved, table
from retrieval.memory import MemoryReader
from storage import codecs, files, memory_store
from storage.manifest import MemoryCard
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid


def write_store(folder: Path, layout: MemoryLayout, lengths: np.ndarray[Any, Any]) -> None:
    """A store of random bytes, and the same rows as one plain file beside it."""
    rng = np.random.default_rng(0)
    memory_store.create(folder, layout)
    with (folder / "plain").open("wb") as plain:
        for shard in layout.grid:
            first, stop = layout.grid.bounds(shard)
            offsets = np.concatenate([[0], np.cumsum(lengths[first:stop])]).astype(np.int64)
            buffer = memory_store.allocate(layout, int(offsets[-1]))
            rows = buffer[: offsets[-1]]
            rows[:] = rng.integers(0, 1 << 16, rows.shape, np.uint16)
            memory_store.write_shard(folder, layout, shard, offsets=offsets, buffer=buffer)
            plain.write(rows.tobytes())


class Turns:
    """Reads the next ids at every call, each contender the same ones in the same order."""

    def __init__(self, read: Callable[[Any], Any], asked: list[Any]) -> None:
        self._read = read
        self._ids = cycle(asked)

    def __call__(self) -> None:
        self._read(next(self._ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--passages", type=int, default=4000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--fetched", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    # Lengths of 200-word passages of English Wikipedia, most of them full.
    lengths = np.clip(rng.normal(250, 50, arguments.passages), 8, 304).astype(np.int64)
    layout = MemoryLayout(
        grid=ShardGrid(passages=arguments.passages, shard_passages=512),
        width=arguments.width,
        max_tokens=304,
        codec=codecs.BFLOAT16,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(folder, layout, lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        memmap = np.memmap(folder / "plain", np.uint16, "r").reshape(-1, arguments.width)
        entry = files.FileEntry(path="files.parquet", bytes=0, crc32=0)
        card = MemoryCard(
            version="v",
            fingerprint="f",
            encoder_fingerprint="e",
            encoder={},
            layout=layout,
            counts={},
            files=entry,
        )
        ours = MemoryReader(folder, card)
        tensorstore: Any = ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{folder}/values/"},
                "context": {"cache_pool": {"total_bytes_limit": 64 << 20}},
            }
        ).result()
        zarr_values: Any = zarr.open_array(folder / "values", mode="r")
        offsets: Any = zarr.open_array(folder / "offsets", mode="r")[:]
        asked = [rng.choice(arguments.passages, arguments.fetched, replace=False) for _ in range(64)]

        def region(i: int) -> tuple[int, slice]:
            s, j = divmod(int(i), layout.grid.shard_passages)
            return s, slice(int(offsets[s, j]), int(offsets[s, j + 1]))

        def by_memmap(ids: Any) -> Any:
            return np.concatenate([memmap[starts[i] : starts[i + 1]] for i in ids])

        def by_tensorstore(ids: Any) -> Any:
            reads = [tensorstore[region(i)].read() for i in ids]
            return np.concatenate([read.result() for read in reads])

        def by_zarr(ids: Any) -> Any:
            return np.concatenate([zarr_values[region(i)] for i in ids])

        expected = by_memmap(asked[0])
        assert np.array_equal(ours.fetch(asked[0]).values.view(np.uint16), expected)
        assert np.array_equal(by_tensorstore(asked[0]), expected)
        assert np.array_equal(by_zarr(asked[0]), expected)
        contenders = {
            "np.memmap (no checks)": by_memmap,
            "memcorpus, checked": lambda ids: ours.fetch(ids),
            "TensorStore, checked": by_tensorstore,
        }
        runs = {name: Turns(read, asked) for name, read in contenders.items()}
        seconds = interleaved(runs, arguments.rounds)
        slow = interleaved(
            {
                "np.memmap (no checks)": lambda: by_memmap(asked[0]),
                "zarr-python, checked": lambda: by_zarr(asked[0]),
            },
            max(3, arguments.rounds // 20),
        )
    size = lengths.mean() * arguments.fetched * layout.row_bytes
    stored = lengths.sum() * layout.row_bytes
    print(
        f"{arguments.fetched} random of {arguments.passages} passages, {arguments.width} x "
        f"bfloat16, {size / 1e6:.1f} MB a fetch, {stored / 1e9:.2f} GB stored, warm"
    )
    print(table(seconds, "np.memmap (no checks)"))
    print(table(slow, "np.memmap (no checks)"))


if __name__ == "__main__":
    main()
