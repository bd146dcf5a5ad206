"""Reading from ten thousand shards: memory and text of 20 random passages, from a disk and from an S3 server.

    python -m benchmarks.many_shards FOLDER [--shards 10000] [--drawn 2000] [--rounds 60] [--json FILE]

The corpus has as many shard files as are asked for, 128 passages in each as at XXL, 1,024 dimensions in
bfloat16. The files are sparse: of each shard the rows of at most one passage are written, and the rest are
holes, or they would take 690 GB; so the checksums of their chunks, which no reader of ours reads, are those
of nothing. Passages are drawn from those that are there, 20 at a time, which lie in 20 shards. Beside it
stands np.memmap of the same rows in one file. Both are in the page cache; they take turns.

Text is of all passages: words drawn by a power law, 100 to 1,400 characters.

The S3 server is versitygw over the same folder, where it is on PATH or named by MEMCORPUS_S3_SERVER; requests
and bytes are counted by a proxy in front of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from benchmarks.store.ours import write_card
from benchmarks.store.truth import MAX_TOKENS, passage_lengths
from retrieval import open_corpus
from storage import (
    canaries,
    codecs,
    components,
    file_list,
    files,
    manifest,
    memory_store,
    passage_table,
    shard_files,
    zarr_arrays,
)
from storage.bucket import S3_ENDPOINT
from storage.components import PassagesCard
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout, ShardRows
from storage.shards import ShardGrid
from tests import faulty_proxy, object_store

WIDTH: Final = 1024
SHARD_PASSAGES: Final = 128
FETCHED: Final = 20
PARTS: Final = 3
_BATCH: Final = 1024
PLACE: Final = "wiki"


class Rows:
    """The rows that are there, as any reader must give them back.

    Attributes:
        layout: of the memory version.
        lengths: int64 [passages], tokens of each.
        drawn: int64 [n], the passages that are there, in order.
        starts: int64 [n + 1], the first row of each in `values`.
        values: uint16 [tokens, width], in one file, mapped.
    """

    def __init__(self, folder: Path, *, shards: int, drawn: int) -> None:
        rng = np.random.default_rng(0)
        grid = ShardGrid(passages=shards * SHARD_PASSAGES, shard_passages=SHARD_PASSAGES)
        self.layout = MemoryLayout(grid=grid, width=WIDTH, max_tokens=MAX_TOKENS, codec=codecs.BFLOAT16)
        self.lengths = passage_lengths(grid.passages, rng)
        which = np.sort(rng.choice(shards, min(drawn, shards), replace=False))
        self.drawn = which * SHARD_PASSAGES + rng.integers(0, SHARD_PASSAGES, len(which))
        self.starts = np.concatenate([[0], np.cumsum(self.lengths[self.drawn])]).astype(np.int64)
        path = folder / "rows"
        if not path.exists():
            with files.aside(path) as partial, partial.open("wb") as file:
                for length in self.lengths[self.drawn].tolist():
                    file.write(rng.bytes(length * WIDTH * 2))
        self.values = np.asarray(np.memmap(path, np.uint16, "r")).reshape(-1, WIDTH)

    def of(self, place: int) -> npt.NDArray[np.uint16]:
        """Rows of the passage at a place of `drawn`."""
        return self.values[self.starts[place] : self.starts[place + 1]]


def write_corpus(root: Path, rows: Rows) -> None:
    """The corpus, but for vectors and index."""
    corpus = CorpusFolder(root)
    version, entry = write_memory(corpus, rows)
    cards = {component.noun: {} for component in components.TABLE}
    cards[components.PASSAGES.noun] = {"": write_passages(corpus, rows.layout.grid.passages)}
    cards[components.MEMORY.noun] = {version: entry}
    corpus.write_manifest(
        manifest.Manifest(settings={}, sources=(), cards=cards, aliases={manifest.CURRENT: version})
    )


def write_memory(corpus: CorpusFolder, rows: Rows) -> tuple[str, files.FileEntry]:
    """A version of sparse files; returns its name and its card's entry."""
    fingerprint = "5" * 64
    layout, folder = rows.layout, corpus.path(components.MEMORY.folder(fingerprint[:16]))
    memory_store.create(folder, layout)
    place_of = {passage // SHARD_PASSAGES: place for place, passage in enumerate(rows.drawn.tolist())}
    gap = memoryview(bytearray(shard_files.CRC_BYTES))

    def shard_rows(write: bool) -> Iterator[ShardRows]:
        for shard in layout.grid:
            first, stop = layout.grid.bounds(shard)
            offsets = np.concatenate([[0], np.cumsum(rows.lengths[first:stop])])
            checksums = np.zeros(SHARD_PASSAGES, np.uint32)
            place = place_of.get(shard)
            local = int(rows.drawn[place]) - first if place is not None else 0
            data = files.bytes_of(rows.of(place)) if place is not None else memoryview(b"")
            checksums[local] = files.crc32c(data)
            if write:
                path = zarr_arrays.shard_path(folder / memory_store.VALUES, shard, 3)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    chunks = -(-int(offsets[-1]) // layout.chunk_rows)
                    size = shard_files.file_bytes(chunks, chunk_bytes=layout.chunk_bytes, total=layout.chunks)
                    os.ftruncate(file.fileno(), size)
                    if len(data):
                        pieces, position = shard_files.range_pieces(
                            int(offsets[local]),
                            int(offsets[local + 1]),
                            data,
                            row_bytes=layout.row_bytes,
                            chunk_rows=layout.chunk_rows,
                            gap=gap,
                        )
                        os.pwritev(file.fileno(), pieces, position)
            yield ShardRows(offsets=offsets.astype(np.uint32), checksums=checksums)

    calls = iter((True, False))
    joined = memory_store.join(folder, layout, lambda: shard_rows(next(calls)))
    listed = file_list.Writer(folder / file_list.NAME)
    listed.add(corpus.entry(joined[0]))
    listed.close()
    ids = tuple(rows.drawn[:2].tolist())
    kept = folder / canaries.FILE
    canaries.write(kept, rows.values[: rows.starts[2]].view(codecs.BFLOAT16.dtype))
    card = canaries.CanaryCard(
        passage_ids=ids,
        tokens=tuple(int(rows.lengths[i]) for i in ids),
        dtype=codecs.BFLOAT16.dtype.name,
        file=corpus.entry(kept),
    )
    return write_card(
        corpus, fingerprint, layout, lengths=rows.lengths, joined=joined, kept=card, parameters={}
    )


def soup() -> str:
    """Words by a power law, as texts have them; a passage is a piece of it."""
    rng = np.random.default_rng(3)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = [
        "".join(letters[np.minimum(rng.zipf(1.3, n) - 1, 25)]) for n in rng.integers(2, 11, 60_000).tolist()
    ]
    places = np.minimum(rng.zipf(1.15, 700_000) - 1, len(words) - 1)
    return " ".join(words[i] for i in places.tolist())


def batches(first: int, stop: int, words: str) -> Iterator[pa.RecordBatch]:
    """Rows of passages first to stop, every eight of them of one article."""
    for at in range(first, stop, _BATCH):
        rng = np.random.default_rng(at)
        count = min(_BATCH, stop - at)
        begins = rng.integers(0, len(words) - 1500, count).tolist()
        lengths = np.minimum(rng.integers(100, 2200, count), 1400).tolist()
        pages = [i // 8 for i in range(at, at + count)]
        columns: dict[str, Any] = {
            "passage_id": np.arange(at, at + count),
            "passage_key": [rng.bytes(16) for _ in range(count)],
            "page_id": [str(page) for page in pages],
            "title": [words[page % 4_000_000 : page % 4_000_000 + 16] for page in pages],
            "section": [["History", "Early years"][: i % 3] for i in range(count)],
            "ordinal": np.arange(at, at + count, dtype=np.int32) % 8,
            "text": [words[b : b + n] for b, n in zip(begins, lengths, strict=True)],
            "words": np.array(lengths, np.int32) // 6,
        }
        arrays = [pa.array(columns[field.name], field.type) for field in passage_table.SCHEMA]
        yield pa.RecordBatch.from_arrays(arrays, schema=passage_table.SCHEMA)


def write_passages(corpus: CorpusFolder, passages: int) -> files.FileEntry:
    words = soup()
    folder = corpus.path(components.PASSAGES.folder(""))
    folder.mkdir(parents=True)
    parts = []
    step = -(-passages // PARTS // _BATCH) * _BATCH
    for number, first in enumerate(range(0, passages, step)):
        stop = min(first + step, passages)
        path = folder / passage_table.part_name(number)
        rows = passage_table.write_part(path, passage_table.SCHEMA, batches(first, stop, words))
        parts.append(passage_table.Part(file=corpus.entry(path), first_passage_id=first, rows=rows))
    quarantine = folder / "quarantine.jsonl"
    quarantine.touch()
    card = PassagesCard(
        passages=passages,
        words=passages,
        splitter={},
        counts={},
        parts=tuple(parts),
        quarantine=corpus.entry(quarantine),
    )
    return corpus.write_card(components.PASSAGES, card)


Timing = tuple[float, float]


def timed(call: Callable[[], object]) -> Timing:
    """Seconds by the clock, and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def quartiles(values: list[float]) -> list[float]:
    return [float(f"{q:.4g}") for q in statistics.quantiles(values, n=4)]


def memory(root: Path, rows: Rows, rounds: int) -> dict[str, Any]:
    """Fetches of 20 passages and of one, in turns with np.memmap of the same rows."""
    rng = np.random.default_rng(1)
    out = np.ones((FETCHED * MAX_TOKENS, WIDTH), np.uint16)
    opened = {check: open_corpus(root).memory(check=check) for check in ("once", "never")}
    dtype = opened["once"].dtype

    def mapped(places: list[int]) -> npt.NDArray[np.uint16]:
        at = 0
        for place in places:
            part = rows.of(place)
            out[at : at + len(part)] = part
            at += len(part)
        return out[:at]

    # Everything once: the page cache is warm, mappings are touched, and bytes are compared.
    firsts: list[Timing] = []
    order = rng.permutation(len(rows.drawn)).tolist()
    for first in range(0, len(order) - FETCHED + 1, FETCHED):
        places = order[first : first + FETCHED]
        right = mapped(places).copy()
        found: list[Any] = []
        took = timed(
            lambda places=places, found=found: found.append(opened["once"].fetch(rows.drawn[places]))
        )
        firsts.append(took)
        opened["never"].fetch(rows.drawn[places])
        if not np.array_equal(found[0].values.view(np.uint16), right):
            raise AssertionError(f"other rows than were written, in passages {rows.drawn[places]}")
    result: dict[str, Any] = {
        "first visit of shards, checked, ms": quartiles([1e3 * wall for wall, _ in firsts]),
    }
    for count in (FETCHED, 1):
        walls: dict[str, list[float]] = {}
        cpus: dict[str, list[float]] = {}
        ways: dict[str, Callable[[list[int]], object]] = {"memmap": mapped}
        for check, reader in opened.items():
            ways[check] = lambda places, reader=reader: reader.fetch(rows.drawn[places], out=out.view(dtype))
        for _ in range(rounds * (1 if count > 1 else 5)):
            places = rng.choice(len(rows.drawn), count, replace=False).tolist()
            for name in rng.permutation(list(ways)).tolist():
                # Not the first: it finds the processor's caches as another has left them.
                ways[name](places[:1])
                wall, cpu = timed(partial(ways[name], places))
                walls.setdefault(name, []).append(wall)
                cpus.setdefault(name, []).append(cpu)
        for name in ways:
            of = f"{count} passages, {name}"
            result[f"{of}: µs"] = quartiles([1e6 * s for s in walls[name]])
            result[f"{of}: CPU µs"] = quartiles([1e6 * s for s in cpus[name]])
            result[f"{of}: x memmap"] = quartiles(
                [a / b for a, b in zip(walls[name], walls["memmap"], strict=True)]
            )
    # Hardly a byte is copied of this: it is what planning, opening and calling cost.
    planned = []
    for _ in range(2 * rounds):
        places = rng.choice(len(rows.drawn), FETCHED, replace=False)
        ids = rows.drawn[places]
        planned.append(timed(lambda ids=ids: opened["never"].fetch(ids, tokens=slice(0, 1)))[1])
    result[f"first token of {FETCHED}, never: CPU µs"] = quartiles([1e6 * cpu for cpu in planned])
    taken: dict[str, list[float]] = {"fetch, then padded": [], "padded": []}
    for _ in range(rounds):
        ids = rows.drawn[rng.choice(len(rows.drawn), FETCHED, replace=False)]
        for name, call in (
            ("fetch, then padded", lambda ids=ids: opened["once"].fetch(ids).padded(MAX_TOKENS)),
            ("padded", lambda ids=ids: opened["once"].padded(ids, MAX_TOKENS)),
        ):
            taken[name].append(timed(call)[1])
    for name, cpus_of in taken.items():
        result[f"{FETCHED} as [{FETCHED}, {MAX_TOKENS}, d], {name}: CPU µs"] = quartiles(
            [1e6 * cpu for cpu in cpus_of]
        )
    return result


def text(place: str | Path, passages: int, rounds: int, **how: Any) -> dict[str, Any]:
    """Text of 20 random passages, and of one."""
    corpus = open_corpus(place, **how)
    rng = np.random.default_rng(2)
    result: dict[str, Any] = {}
    first = timed(lambda: corpus.passages([passages // 2]))
    result["first text of a part: ms, CPU ms"] = [round(1e3 * s, 2) for s in first]
    corpus.passages(np.linspace(0, passages - 1, 2 * PARTS).astype(np.int64))
    for count in (FETCHED, 1):
        taken = [timed(lambda: corpus.passages(rng.integers(0, passages, count))) for _ in range(rounds)]  # noqa: B023
        result[f"text of {count}: ms"] = quartiles([1e3 * wall for wall, _ in taken])
        result[f"text of {count}: CPU ms"] = quartiles([1e3 * cpu for _, cpu in taken])
    return result


def remote(root: Path, rows: Rows, rounds: int) -> dict[str, Any]:
    """Memory and text of 20 passages out of an S3 server over the same files: requests and bytes."""
    result: dict[str, Any] = {}
    with ExitStack() as stack:
        # Of the gateway a bucket is a folder: the corpus lies in it meanwhile.
        served = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=root.parent)))
        stack.enter_context(object_store.real_server(served))
        for path in root.rglob("*"):
            if path.is_file():
                # As of what was put through the gateway; nobody here asks what it is.
                os.setxattr(path, "user.etag", b"0" * 32)
        place = served / object_store.BUCKET / root.name
        root.rename(place)
        stack.callback(place.rename, root)
        proxy = stack.enter_context(faulty_proxy.before(os.environ[S3_ENDPOINT]))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(S3_ENDPOINT, proxy.endpoint)
        with tempfile.TemporaryDirectory() as cache:

            def counted(what: str, call: Callable[[], object]) -> None:
                before, sent = proxy.requests.total(), proxy.bytes
                wall, _ = timed(call)
                result[what] = {
                    "requests": proxy.requests.total() - before,
                    "bytes": proxy.bytes - sent,
                    "ms": round(1e3 * wall, 1),
                }

            opened: list[Any] = []
            counted("opened", lambda: opened.append(open_corpus(object_store.URL, cache=Path(cache))))
            counted("memory opened", lambda: opened.append(opened[0].memory()))
            rng = np.random.default_rng(4)
            for number in range(min(3, rounds)):
                places = rng.choice(len(rows.drawn), FETCHED, replace=False)
                found: list[Any] = []
                counted(
                    f"memory of {FETCHED}, {number}",
                    lambda places=places, found=found: found.append(opened[1].fetch(rows.drawn[places])),
                )
                right = np.concatenate([rows.of(place) for place in places.tolist()])
                assert np.array_equal(found[0].values.view(np.uint16), right)
            for number in range(min(3, rounds)):
                ids = rng.integers(0, rows.layout.grid.passages, FETCHED)
                counted(f"text of {FETCHED}, {number}", lambda ids=ids: opened[0].passages(ids))
            counted("text of 1", lambda: opened[0].passages([77]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_shards", description=__doc__)
    parser.add_argument("folder", type=Path, help="kept, and used again")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--drawn", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--only", nargs="*", choices=("memory", "text", "s3"), default=("memory", "text", "s3")
    )
    parser.add_argument("--open-files", type=int, help="what the process may open; as it is by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    root = options.folder / PLACE
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(options.folder, shards=options.shards, drawn=options.drawn)
    if not (root / manifest.NAME).exists():
        root.mkdir(parents=True)
        write_corpus(root, rows)
    if options.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files, options.open_files))
    found: dict[str, Any] = {
        "shards": options.shards,
        "passages": rows.layout.grid.passages,
        "open files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "load": os.getloadavg()[0],
    }
    if "memory" in options.only:
        found["memory"] = memory(root, rows, options.rounds)
    if "text" in options.only:
        found["text"] = text(root, rows.layout.grid.passages, options.rounds)
    if "s3" in options.only:
        found["s3"] = remote(root, rows, options.rounds)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
