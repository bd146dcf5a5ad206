"""The launcher at scale: a poll, the end of a stage, statistics and a commit, by the number of shards.

    python -m benchmarks.launcher --shards 3000 30000 300000

Receipts are synthetic, as a shard of XXL leaves them; their files are not there, so the commit's look at the
size of each is left out. Each row is a process of its own, whose peak of memory is given, libraries and all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np

from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from pipeline.accounts.statistics import RunFold
from pipeline.components import shards
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.shards import STAGE, ShardCounts
from pipeline.units import meter, progress
from storage import codecs, memory_store, work_folder
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.shards import ShardGrid

SHARD_PASSAGES = 64
MAX_TOKENS = 304
WORKERS = 64


def plan_of(count: int) -> MemoryPlan:
    """A version of so many shards."""
    return MemoryPlan.of(
        encoder=Fingerprint("0" * 64, {"kind": "memory"}),
        memory=MemorySpec(),
        layout=memory_store.MemoryLayout(
            grid=ShardGrid(passages=count * SHARD_PASSAGES, shard_passages=SHARD_PASSAGES),
            width=64,
            max_tokens=MAX_TOKENS,
            codec=codecs.by_name("bfloat16"),
        ),
    )


def prepare(corpus: CorpusFolder, count: int) -> None:
    """Receipts of all shards, and the files of progress that workers show."""
    plan = plan_of(count)
    with mock.patch("os.fsync"):
        memory_store.create(corpus.path(plan.folder), plan.layout)
        corpus.work.open_stage(STAGE.name)
        lengths = shards.length_counts(np.arange(1, SHARD_PASSAGES + 1) * 4, MAX_TOKENS)
        for unit in range(count):
            entries = (
                FileEntry(path=f"{plan.folder}/values/c/{unit}/0/0", bytes=2_100_000, crc32=unit),
                FileEntry(path=f"work/shards/{unit:06d}.rows", bytes=516, crc32=unit),
            )
            tokens = SHARD_PASSAGES * 265
            counts = ShardCounts(
                passages=SHARD_PASSAGES,
                tokens=tokens,
                memory_bytes=tokens * plan.layout.row_bytes,
                **shards.stored_counts(entries),
                **lengths,
            )
            Receipt(
                unit=unit,
                files=entries,
                counts=counts,
                seconds={"reading": 0.1, "tokenizing": 0.2, "encoding": 9.0, "writing": 0.5},
                worker=f"worker-{unit % WORKERS}",
                waited={"encoder for input": 0.1, "writer for encoder": 8.0},
                events={shards.COMPILED: 0, shards.LOADED: 1, shards.HALVED: 0},
            ).write(corpus.work.receipt_path(STAGE.name, unit))
    shown = corpus.work.file(work_folder.PROGRESS)
    shown.mkdir(exist_ok=True)
    for worker in range(WORKERS):
        text = json.dumps({"units": count // WORKERS, "done": counts.to_json(), "at_work": {}})
        (shown / f"{STAGE.name}-worker-{worker}.json").write_text(text)


def measure(root: str, count: int) -> dict[str, float]:
    """Seconds of each step, and the process's peak of memory; in a process of its own."""
    corpus = CorpusFolder(Path(root))
    seconds: dict[str, float] = {}

    def timed(name: str, start: float) -> None:
        seconds[name] = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(10):
        meter.read_progress(corpus.work, STAGE.name)
    seconds["poll"] = (time.perf_counter() - start) / 10
    with mock.patch.object(meter, "clear_progress"):
        start = time.perf_counter()
        tracker = progress.Tracker(corpus.work, STAGE, range(count))
        timed("resume", start)
    start = time.perf_counter()
    tracker.finish()
    timed("stage end", start)
    fold = RunFold(corpus, "build")
    sums = CommitMemory(corpus, plan_of(count))
    start = time.perf_counter()
    for receipt in corpus.work.receipts(STAGE.name, range(count), STAGE.counts):
        fold.add(STAGE.name, receipt)
        sums.add(receipt)
    fold.finish()
    timed("commit", start)
    return seconds | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", nargs="+", type=int, default=[3_000, 30_000, 300_000])
    options = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    print("| shards | poll, ms | resume, s | stage end, s | commit, s | us a shard | peak, MB |")
    print("|---|---|---|---|---|---|---|")
    for count in options.shards:
        with tempfile.TemporaryDirectory(prefix="memcorpus-launcher-") as folder:
            prepare(CorpusFolder(Path(folder)), count)
            with fresh.Pool(1) as pool:
                found = pool.apply(measure, (folder, count))
        print(
            f"| {count:,} | {1000 * found['poll']:.2f} | {found['resume']:.1f} | {found['stage end']:.1f} | "
            f"{found['commit']:.1f} | {1e6 * found['commit'] / count:.0f} | {found['peak'] / 1e6:.0f} |"
        )


if __name__ == "__main__":
    main()
