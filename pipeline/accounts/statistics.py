"""What a run's statistics are made of: its receipts, folded one at a time as the commit reads them.

They are what reports are made of, so that no report ever scans an array or reads a receipt.
"""

from __future__ import annotations

import array
import os
import platform
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.components import shards
from pipeline.components.shards import ShardCounts
from pipeline.units import overlap
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.run_statistics import RunStatistics, ShardBytes, WorkerStatistics
from storage.unit_rows import UnitRows


class RunFold:
    """Sums up the receipts of a run, each seen once, and writes a row for each into the file of units.

    What it keeps grows with stages and workers, and by eight bytes a shard: their sizes, of which the median
    is taken.
    """

    def __init__(self, corpus: CorpusFolder, name: str) -> None:
        """`name` is "build", or the memory version that was added."""
        self._corpus, self._name = corpus, name
        self._unit_rows = UnitRows(corpus, name)
        self._seconds: dict[str, Counter[str]] = {}
        self._waited: dict[str, Counter[str]] = {}
        self._events: Counter[str] = Counter()
        self._computed: Counter[str] = Counter()
        self._lengths: Counter[str] = Counter()
        self._worker_units: Counter[str] = Counter()
        self._worker_seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._units: Counter[str] = Counter()
        self._shard_bytes = array.array("q")

    def add(self, stage: str, receipt: Receipt[Any]) -> None:
        """Take note of a unit."""
        self._unit_rows.add(stage, receipt)
        self._seconds.setdefault(stage, Counter()).update(receipt.seconds)
        if receipt.waited:
            self._waited.setdefault(stage, Counter()).update(receipt.waited)
        self._events.update(receipt.events)
        self._units[stage] += 1
        self._worker_units[receipt.worker] += 1
        self._worker_seconds[receipt.worker][stage] += sum(receipt.seconds.values())
        if isinstance(receipt.counts, ShardCounts):
            self._add_shard(receipt.counts, encoded=shards.COMPILED in receipt.events)

    def _add_shard(self, counts: ShardCounts, *, encoded: bool) -> None:
        self._lengths.update(counts.lengths)
        self._shard_bytes.append(counts.memory_stored_bytes)
        if encoded:  # what is recoded is not computed
            self._computed.update(
                passages=counts.tokens, padding=counts.padding_tokens, filler=counts.filler_tokens
            )

    def finish(self, **known: Any) -> None:
        """Write the statistics.

        Args:
            known: other fields of `RunStatistics`: where models were found, stages' wall time, the plan.
        """
        units = self._unit_rows.finish()
        found = RunStatistics(
            **known,
            worker_seconds={stage: _rounded(spent) for stage, spent in self._seconds.items()},
            worker_waited={stage: _rounded(spent) for stage, spent in self._waited.items()},
            events=dict(self._events),
            computed_tokens=dict(self._computed),
            workers={
                name: WorkerStatistics(units=units, seconds=_rounded(self._worker_seconds[name]))
                for name, units in self._worker_units.items()
            },
            units_by_stage=dict(self._units),
            tokens_histogram=tuple(
                (int(upper), self._lengths[upper]) for upper in sorted(self._lengths, key=int)
            ),
            shard_memory_bytes=ShardBytes.of(self._shard_bytes),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            machine=platform.platform(),
            cpus=os.cpu_count(),
            # In KiB on Linux; of this process and the largest of its workers.
            peak_rss_bytes=1024
            * max(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
            ),
            units=units,
        )
        self._corpus.write_run(self._name, found)


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(spent, 3) for name, spent in seconds.items()}


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A phase's part in the time that workers had: at work, and waiting for another; shares of 1."""

    name: str
    busy: float
    waiting: float


def lanes(run: RunStatistics, stage: str) -> list[Lane]:
    """How the phases of a stage that overlap were occupied, the busiest first: that is the bottleneck.

    Args:
        run: its statistics; those of an earlier release do not tell.
        stage: its shards.

    Returns:
        Nothing, where they do not tell.
    """
    seconds = run.worker_seconds.get(stage, {})
    waited = run.worker_waited.get(stage, {})
    busy = {name: sum(seconds.get(step, 0.0) for step in steps) for name, steps in overlap.LANES.items()}
    idle = {
        name: sum(spent for who, spent in waited.items() if who.startswith(f"{name} for ")) for name in busy
    }
    # A phase's waits end with its last unit, so all are held against the one that took longest.
    most = max(busy[name] + idle[name] for name in busy)
    if not (waited and most):
        return []
    found = [Lane(name=name, busy=busy[name] / most, waiting=1 - busy[name] / most) for name in busy]
    return sorted(found, key=lambda lane: -lane.busy)


def bottleneck(run: RunStatistics, stage: str) -> str | None:
    """One line on it, such as "the encoder, at work 92 % of the time; the writer waited 85 % of it"."""
    found = lanes(run, stage)
    if not found:
        return None
    first, *others = found
    idle = ", ".join(f"the {lane.name} {lane.waiting:.0%}" for lane in others)
    return f"the {first.name}, at work {first.busy:.0%} of the time; waiting: {idle}"


def remarks(bottleneck: str | None, computed: Mapping[str, int], events: Mapping[str, int]) -> Iterator[str]:
    """What is to be said of a run's encoding: the bottleneck, what was computed for nothing, what went wrong.

    Args:
        bottleneck: as the function of this name tells it.
        computed, events: `computed_tokens` and `events` of `RunStatistics`; empty where not known.
    """
    if bottleneck:
        yield f"bottleneck: {bottleneck}"
    if passages := computed.get("passages"):
        padding, filler = (computed.get(name, 0) / passages for name in ("padding", "filler"))
        yield f"computed beside the passages' tokens: {padding:.1%} of padding, {filler:.1%} of filler rows"
    compiled, loaded = events.get(shards.COMPILED, 0), events.get(shards.LOADED, 0)
    if compiled or loaded:
        yield f"programs: {compiled:,} compiled, {loaded:,} taken from those kept"
    if halved := events.get(shards.HALVED):
        yield f"out of memory on the device, and batches halved: {halved:,} times"
    if retries := events.get("store retries"):
        yield f"requests to the object store that failed and were made again: {retries:,}"
