"""The launcher at scale: polls, a resume, a stage's end, a commit, verifications, by the number of shards.

    python -m benchmarks.launcher --shards 3000 30000 300000

A version's shards are written by the project's own writers, without waiting for the disk: a few, tiny ones,
and the others are links to these, each with a receipt as a shard of XXL leaves it and its rows. Each row is a
process of its own, whose CPU seconds are told, and its peak of memory, libraries and all. 300,000 shards take
4 GB and 1.5 million inodes below the folder of temporary files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from pipeline.components import shards
from pipeline.components.memory import encode
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.shards import STAGE, ShardCounts
from pipeline.jobs import checking, commit
from pipeline.units import engines, meter, progress
from pipeline.units.stages import Stages
from storage import (
    canaries,
    checked_json,
    codecs,
    components,
    memory_store,
    verify,
    work_folder,
    zarr_arrays,
)
from storage.components import PassagesCard
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.receipts import Receipt
from storage.shards import ShardGrid

SHARD_PASSAGES = 2
MAX_TOKENS = 304
TOKENS = 3
WORKERS = 64
# Names of one file that a file system is sure to allow.
LINKS = 30_000


def plan_of(count: int) -> MemoryPlan:
    """A version of so many shards."""
    return MemoryPlan.of(
        encoder=Fingerprint("0" * 64, {"kind": "memory"}),
        memory=MemorySpec().to_json(),
        layout=memory_store.MemoryLayout(
            grid=ShardGrid(passages=count * SHARD_PASSAGES, shard_passages=SHARD_PASSAGES),
            width=8,
            max_tokens=MAX_TOKENS,
            codec=codecs.by_name("bfloat16"),
        ),
    )


def prepare(corpus: CorpusFolder, count: int) -> None:
    """Receipts and files of all shards, and the files of progress that workers show."""
    plan = plan_of(count)
    layout = plan.layout
    corpus.work.write_plan({})
    memory_store.create(corpus.path(plan.folder), layout)
    corpus.work.open_stage(STAGE.name)
    kept = set(canaries.choose(layout.grid.passages))
    tokens = SHARD_PASSAGES * TOKENS
    buffer = memory_store.allocate(layout, tokens)
    offsets = np.arange(SHARD_PASSAGES + 1) * TOKENS
    lengths = shards.length_counts(np.full(SHARD_PASSAGES, TOKENS), MAX_TOKENS)
    values = str(zarr_arrays.shard_path(corpus.path(plan.folder) / memory_store.VALUES, 0, 3).parents[1])
    values = values.removesuffix("/0")
    for unit in range(count):
        first = unit % LINKS == 0
        if first:
            written = encode.write_memory(corpus, plan.folder, layout, unit, offsets=offsets, buffer=buffer)
            origins = [corpus.path(entry.path) for entry in written]
        rows = encode.rows_file(corpus.work, unit)
        if not first:
            os.mkdir(f"{values}/{unit}")
            os.mkdir(f"{values}/{unit}/0")
            os.link(origins[0], f"{values}/{unit}/0/0")
            os.link(origins[1], rows)
        names = (
            f"{plan.folder}/{memory_store.VALUES}/c/{unit}/0/0",
            f"{work_folder.NAME}/{STAGE.name}/{rows.name}",
        )
        entries = [replace(entry, path=name) for entry, name in zip(written, names, strict=True)]
        if here := kept & set(range(*layout.grid.bounds(unit))):
            given = np.zeros((TOKENS, layout.width), layout.codec.dtype)
            entries.append(encode.keep_canaries(corpus, unit, [given] * len(here)))
        if first:
            receipt = Receipt(
                unit=unit,
                files=(),
                counts=ShardCounts(
                    passages=SHARD_PASSAGES,
                    tokens=tokens,
                    memory_bytes=tokens * layout.row_bytes,
                    **shards.stored_counts(entries),
                    **lengths,
                ),
                seconds={"reading": 0.1, "tokenizing": 0.2, "encoding": 9.0, "writing": 0.5},
                worker="",
                waited={"encoder for input": 0.1, "writer for encoder": 8.0},
                events={shards.COMPILED: 0, shards.LOADED: 1, shards.HALVED: 0},
            ).to_json()
        own = {"unit": unit, "files": [e.to_json() for e in entries], "worker": f"worker-{unit % WORKERS}"}
        corpus.work.receipt_path(STAGE.name, unit).write_bytes(checked_json.encode(receipt | own))
    shown = corpus.work.file(work_folder.PROGRESS)
    shown.mkdir(exist_ok=True)
    for worker in range(WORKERS):
        text = json.dumps({"units": count // WORKERS, "done": receipt["counts"], "at_work": {}})
        (shown / f"{STAGE.name}-worker-{worker}.json").write_text(text)
    (corpus.root / "passages").mkdir()
    (corpus.root / "passages" / "quarantine.jsonl").touch()


def _do_not_wait(_: int) -> None: ...


class Nobody:
    """An engine whose work is done already."""

    name, options = "nobody", ()

    def run(self, job: object, units: object, on_poll: object) -> None: ...


def measure(root: str, count: int, full: bool) -> dict[str, float]:
    """CPU seconds of each step, and the process's peak of memory; in a process of its own."""
    corpus = CorpusFolder(Path(root))
    seconds: dict[str, float] = {}
    start = time.process_time()

    def timed(name: str) -> None:
        nonlocal start
        now = time.process_time()
        seconds[name] = now - start
        start = time.process_time()

    for _ in range(10):
        meter.read_progress(corpus.work, STAGE.name)
    timed("ten polls")
    with mock.patch.object(meter, "clear_progress"):
        tracker = progress.Tracker(corpus.work, STAGE, range(count))
    timed("resume")
    assert list(corpus.work.missing(STAGE.name, range(count))) == []
    tracker.finish()
    timed("stage end")
    plan = plan_of(count)
    stages = Stages(corpus, Nobody())
    stages.ran[STAGE.name] = STAGE, count
    cards = commit.commit(stages, [CommitMemory(corpus, plan)], run="build", version=plan.version)
    timed("commit")
    card = PassagesCard(
        passages=count * SHARD_PASSAGES,
        words=0,
        splitter={},
        counts={},
        parts=(),
        quarantine=corpus.entry(corpus.path("passages/quarantine.jsonl")),
    )
    cards = {c.noun: {} for c in components.TABLE} | cards
    cards["passages"] = {"": corpus.write_card(components.PASSAGES, card)}
    corpus.write_manifest(Manifest(settings={}, sources=(), cards=cards, aliases={"current": plan.version}))
    start = time.process_time()
    corpus.work.remove()
    timed("clearing")
    assert verify.verify_corpus(corpus, full=False).ok
    timed("verify")
    made = checking.stretches(corpus)
    seconds["units"] = float(sum(stretch.units for stretch in made))
    seconds["full, by units"] = float("nan")
    if full:
        start = time.process_time()
        corpus.work.write_plan({})
        found = checking.check(Stages(corpus, engines.chosen()), made, full=True)
        assert found.ok
        assert found.files > count
        timed("full, by units")
    # Of this very process; what getrusage tells counts the one that it was started from as well.
    (most,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return seconds | {"peak": 1024.0 * int(most)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shards", nargs="+", type=int, default=[3_000, 30_000, 300_000])
    parser.add_argument("--full", action="store_true", help="verify every byte as well, by units")
    options = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    named = ("resume", "stage end", "commit", "clearing", "verify", "full, by units")
    print(f"| shards | poll, ms | {', s | '.join(named)}, s | units | commit, us a shard | peak, MB |")
    print("|---|" + "---|" * (len(named) + 4))
    for count in options.shards:
        with tempfile.TemporaryDirectory(prefix="memcorpus-launcher-") as folder:
            with mock.patch("os.fsync", new=_do_not_wait):
                prepare(CorpusFolder(Path(folder)), count)
            with fresh.Pool(1) as pool:
                found = pool.apply(measure, (folder, count, options.full))
            told = " | ".join(f"{found[name]:.1f}" for name in named)
            print(
                f"| {count:,} | {100 * found['ten polls']:.2f} | {told} | {found['units']:,.0f} | "
                f"{1e6 * found['commit'] / count:.0f} | {found['peak'] / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
