"""The commit of what a writer wrote: every receipt against the plan, the cards, the manifest last."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from storage import (
    canaries,
    codec_parameters,
    codecs,
    components,
    errors,
    file_list,
    files,
    manifest,
    memory_commit,
    memory_store,
    remote_memory,
    run_statistics,
)
from storage.components import MemoryCard, MemoryCounts
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.receipts import Receipt
from storage.run_statistics import RunStatistics, ShardBytes, WorkerStatistics
from storage.unit_rows import UnitRows
from storage.writer import given, shards
from storage.writer.plan import WriterPlan
from storage.writer.shards import WrittenCounts


def publish(corpus: CorpusFolder, plan: WriterPlan, digests: Mapping[str, str], *, use: bool) -> None:
    """Commit a version whose shards are all written, and with it the corpus, where it is a new one.

    The caller holds the folder alone. All of it can be repeated.

    Raises:
        CorpusError: a shard is missing, or is not as its receipt says.
        DamagedError: what is stored is not what was given.
    """
    try:
        entry = _commit(corpus, plan, digests)
        if plan.new:
            found = given.Given.read(corpus)
            passages = corpus.write_card(components.PASSAGES, found.card(corpus))
            new = Manifest(
                settings={
                    "settings": {
                        **plan.settings,
                        "codec": plan.layout.codec.name,
                        given.DIGEST: found.digest,
                    }
                },
                sources=(),
                cards={
                    components.PASSAGES.noun: {"": passages},
                    components.VECTORS.noun: {},
                    components.INDEX.noun: {},
                    components.MEMORY.noun: {plan.version: entry},
                },
                aliases={manifest.CURRENT: plan.version},
            )
        else:
            memory, there = components.MEMORY, corpus.manifest
            new = there.with_cards(memory, {**there.of(memory), plan.version: entry})
            if use or manifest.CURRENT not in there.aliases:
                new = new.switched(plan.version)
        corpus.remove_leftovers()
        corpus.write_manifest(new)
    except BaseException:
        corpus.remove_leftovers()
        raise


def _commit(corpus: CorpusFolder, plan: WriterPlan, digests: Mapping[str, str]) -> FileEntry:
    layout, folder = plan.layout, corpus.path(plan.folder)
    sums = WrittenCounts()
    statistics = _Statistics(corpus, plan)
    listing = memory_commit.begin_list(corpus, plan.folder, layout)
    notes = (dict(digests),) if digests else ()
    for receipt in corpus.work.receipts(shards.STAGE, range(layout.grid.shards), WrittenCounts):
        first, stop = layout.grid.bounds(receipt.unit)
        if receipt.counts.passages != stop - first or receipt.notes != notes:
            raise errors.DamagedError(
                f"shard {receipt.unit} was written by another plan, or with other parameters of its codec: "
                f"remove {corpus.work.path} and what is unfinished, and write it again"
            )
        # Their bytes were checked when the receipt was made or found.
        for entry in receipt.files:
            if wrong := corpus.damage(entry, full=False):
                raise errors.CorpusError(f"{wrong}; open the writer again, and write what it says is missing")
        listing.add(receipt.files[0])
        sums += receipt.counts
        statistics.add(receipt)
    joined = memory_store.join(folder, layout, lambda: _rows(corpus, layout))
    listing.close()
    card = MemoryCard(
        version=plan.version,
        fingerprint=plan.fingerprint,
        encoder_fingerprint=plan.encoder_fingerprint,
        encoder=plan.encoder,
        settings=plan.settings,
        origin=None,
        layout=layout,
        codec_parameters=digests,
        counts=MemoryCounts(
            tokens=sums.tokens,
            memory_bytes=sums.memory_bytes,
            passages_cut=0,
            tokens_cut=0,
            tokens_min=sums.tokens_min,
            tokens_max=sums.tokens_max,
        ),
        rows=tuple(map(corpus.entry, joined)),
        canaries=_join_canaries(corpus, plan),
        quality={},
        files=corpus.entry(folder / file_list.NAME),
    )
    coder = codec_parameters.read(folder, layout.codec, layout.width, digests)
    card = replace(card, quality=_quality(corpus, card, coder).to_json())
    statistics.finish()
    return corpus.write_card(components.MEMORY, card)


def _rows(corpus: CorpusFolder, layout: memory_store.MemoryLayout) -> Iterator[memory_store.ShardRows]:
    for shard in layout.grid:
        data = files.read_bytes(shards.rows_file(corpus.work, shard))
        yield memory_store.ShardRows.from_bytes(data, layout)


def _join_canaries(corpus: CorpusFolder, plan: WriterPlan) -> canaries.CanaryCard:
    layout = plan.layout
    ids = canaries.choose(layout.grid.passages)
    left = (
        files.read_bytes(shards.canaries_file(corpus.work, shard))
        for shard in memory_commit.holding(ids, layout)
    )
    return memory_commit.join_canaries(
        corpus, plan.folder, layout, left, ids=ids, dtype=layout.codec.dtype.name
    )


def _quality(corpus: CorpusFolder, card: MemoryCard, coder: codecs.Coder) -> canaries.Difference:
    """What the codec lost, on the canaries, read back from the disk."""
    kept = canaries.read(corpus.root, card.canaries, width=card.layout.width)
    opened = remote_memory.open_files(corpus, card)
    rows = [coder.decoded(opened.stored(passage)) for passage in card.canaries.passage_ids]
    return memory_commit.require_sound(card, coder, coded=kept, kept=kept, stored=np.concatenate(rows))


class _Statistics:
    """Times and machines of the writing, from its receipts; as a build's, eight bytes a shard are kept."""

    def __init__(self, corpus: CorpusFolder, plan: WriterPlan) -> None:
        self._corpus, self._plan = corpus, plan
        self._run = run_statistics.BUILD if plan.new else plan.version
        self._rows = UnitRows(corpus, self._run)
        self._seconds: dict[str, float] = {}
        self._workers: dict[str, tuple[int, float]] = {}
        self._sizes = np.zeros(plan.layout.grid.shards, np.int64)

    def add(self, receipt: Receipt[WrittenCounts]) -> None:
        self._rows.add(shards.STAGE, receipt)
        for name, spent in receipt.seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + spent
        units, seconds = self._workers.get(receipt.worker, (0, 0.0))
        self._workers[receipt.worker] = units + 1, seconds + sum(receipt.seconds.values())
        self._sizes[receipt.unit] = receipt.counts.memory_stored_bytes

    def finish(self) -> None:
        units = self._rows.finish()
        found = RunStatistics(
            version=self._plan.version,
            worker_seconds={shards.STAGE: {name: round(s, 3) for name, s in self._seconds.items()}},
            workers={
                name: WorkerStatistics(units=units, seconds={shards.STAGE: round(seconds, 3)})
                for name, (units, seconds) in self._workers.items()
            },
            units_by_stage={shards.STAGE: len(self._sizes)},
            shard_memory_bytes=ShardBytes.of(self._sizes),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            machine=platform.platform(),
            cpus=os.cpu_count(),
            peak_rss_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            units=units,
        )
        self._corpus.write_run(self._run, found)
