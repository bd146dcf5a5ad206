"""`statistics/`: times, machines and distributions of a build, written beside the data when it is written.

They are what reports are made of, so that no report ever scans an array or reads a receipt. They differ
from run to run, so no card speaks of them; they check themselves.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.units import overlap, work
from storage import files, manifest
from storage.receipts import Receipt

# Begins the names of the counts of passages by their tokens: "tokens up to 32" are those of 17 to 32.
TOKENS_UP_TO: Final = "tokens up to "
# Bars of such a histogram, about.
BARS: Final = 20
# The files of a shard, by component, in its receipt's counts.
MEMORY_STORED: Final = "memory_stored_bytes"
VECTORS_STORED: Final = "vectors_stored_bytes"

# Tokens that were computed beside the passages' own, in a shard's counts.
PADDING: Final = "padding_tokens"
FILLER: Final = "filler_tokens"
# What happened on the way, in a shard's events.
COMPILED: Final = "programs compiled"
LOADED: Final = "programs loaded"
HALVED: Final = "batches halved"

_SCHEMA: Final = pa.schema(
    [
        ("stage", pa.string()),
        ("unit", pa.int64()),
        ("worker", pa.string()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("waited", pa.map_(pa.string(), pa.float64())),
        ("events", pa.map_(pa.string(), pa.int64())),
    ]
)


def length_counts(tokens: npt.NDArray[np.integer[Any]], max_tokens: int) -> dict[str, int]:
    """Passages by their tokens, as a receipt's counts: shortest, longest, and a histogram.

    Args:
        tokens: of each passage, [passages], 1 to `max_tokens`.
        max_tokens: decides the bars, so that those of all shards can be added up.
    """
    step = max(1, -(-max_tokens // BARS))
    # A multiple of 8, as the lengths that batches are padded to.
    step = -(-step // 8) * 8
    bars = np.bincount((np.asarray(tokens) + step - 1) // step, minlength=-(-max_tokens // step) + 1)
    return {
        "tokens_min": int(tokens.min()),
        "tokens_max": int(tokens.max()),
        **{f"{TOKENS_UP_TO}{min(i * step, max_tokens)}": int(bars[i]) for i in range(1, len(bars))},
    }


def histogram(counts: Mapping[str, int]) -> list[list[int]]:
    """[most tokens, passages] of each bar, ascending, from counts that `length_counts` began."""
    bars = {
        int(name.removeprefix(TOKENS_UP_TO)): n for name, n in counts.items() if name.startswith(TOKENS_UP_TO)
    }
    return [[upper, bars[upper]] for upper in sorted(bars)]


def stored_counts(entries: Sequence[files.FileEntry]) -> dict[str, int]:
    """Bytes of a shard's files that stay, by component, as a receipt's counts."""
    sums = {"vectors/": 0, "memory/": 0}
    for entry in entries:
        for kind in sums:
            sums[kind] += entry.bytes if entry.path.startswith(kind) else 0
    return {VECTORS_STORED: sums["vectors/"], MEMORY_STORED: sums["memory/"]}


def write(root: Path, name: str, stages: Sequence[str], run: Mapping[str, Any]) -> None:
    """Sum up the receipts of some stages.

    Args:
        root: the corpus folder, with the receipts in `work/`.
        name: "build", or the memory version that was added.
        stages: whose receipts; a stage that did not run has none.
        run: what else is to be kept: where models were found, stages' wall time, the plan.
    """
    ran = [stage for stage in stages if (work.folder(root) / stage).is_dir()]
    receipts = {stage: list(_receipts(root, stage)) for stage in ran}
    target, units = root / manifest.statistics_path(name), root / manifest.units_path(name)
    target.parent.mkdir(exist_ok=True)
    rows = [
        {
            "stage": stage,
            "unit": receipt.unit,
            "worker": receipt.worker,
            "seconds": list(receipt.seconds.items()),
            "counts": list(receipt.counts.items()),
            "waited": list(receipt.waited.items()),
            "events": list(receipt.events.items()),
        }
        for stage, of_stage in receipts.items()
        for receipt in of_stage
    ]
    partial = files.partial_path(units)
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial, compression="zstd")
    files.finish_partial(partial, units)
    files.write_json(
        target,
        {
            **run,
            **summarize(receipts),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            # In KiB on Linux; of this process and the largest of its workers.
            "peak_rss_bytes": 1024
            * max(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
            ),
            "units": files.entry_of(root, units).to_json(),
        },
    )


def summarize(receipts: Mapping[str, Sequence[Receipt]]) -> dict[str, Any]:
    """What reports need of receipts, however many there are: see docs/costs.md."""
    workers: dict[str, dict[str, Any]] = {}
    seconds: dict[str, Counter[str]] = {}
    counts: dict[str, Counter[str]] = {}
    waited: dict[str, Counter[str]] = {}
    events: Counter[str] = Counter()
    computed: Counter[str] = Counter()
    shards: list[int] = []
    for stage, of_stage in receipts.items():
        seconds[stage], counts[stage] = Counter(), Counter()
        for receipt in of_stage:
            seconds[stage].update(receipt.seconds)
            counts[stage].update(receipt.counts)
            if receipt.waited:
                waited.setdefault(stage, Counter()).update(receipt.waited)
            events.update(receipt.events)
            if PADDING in receipt.counts:
                names = {"passages": "tokens", "padding": PADDING, "filler": FILLER}
                computed.update({name: receipt.counts[count] for name, count in names.items()})
            worker = workers.setdefault(receipt.worker, {"units": 0, "seconds": {}})
            worker["units"] += 1
            spent = sum(receipt.seconds.values())
            worker["seconds"][stage] = worker["seconds"].get(stage, 0.0) + spent
            if MEMORY_STORED in receipt.counts:
                shards.append(receipt.counts[MEMORY_STORED])
    everything = sum(counts.values(), Counter())
    return {
        "worker_seconds": {stage: _rounded(spent) for stage, spent in seconds.items()},
        "worker_waited": {stage: _rounded(spent) for stage, spent in waited.items()},
        "events": dict(events),
        "computed_tokens": dict(computed),
        "workers": {
            name: {**worker, "seconds": _rounded(worker["seconds"])} for name, worker in workers.items()
        },
        "units_by_stage": {stage: len(of_stage) for stage, of_stage in receipts.items()},
        "tokens_histogram": histogram(everything),
        "shard_memory_bytes": {
            "least": min(shards, default=0),
            "median": round(statistics.median(shards)) if shards else 0,
            "most": max(shards, default=0),
        },
    }


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A phase's part in the time that workers had: at work, and waiting for another; shares of 1."""

    name: str
    busy: float
    waiting: float


def lanes(statistics: Mapping[str, Any], stage: str) -> list[Lane]:
    """How the phases of a stage that overlap were occupied, the busiest first: that is the bottleneck.

    Args:
        statistics: of a run, as `summarize` made it; those of an earlier release do not tell.
        stage: its shards.

    Returns:
        Nothing, where they do not tell.
    """
    seconds = statistics.get("worker_seconds", {}).get(stage, {})
    waited = statistics.get("worker_waited", {}).get(stage, {})
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


def bottleneck(statistics: Mapping[str, Any], stage: str) -> str | None:
    """One line on it, such as "the encoder, at work 92 % of the time; the writer waited 85 % of it"."""
    found = lanes(statistics, stage)
    if not found:
        return None
    first, *others = found
    idle = ", ".join(f"the {lane.name} {lane.waiting:.0%}" for lane in others)
    return f"the {first.name}, at work {first.busy:.0%} of the time; waiting: {idle}"


def remarks(run: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of a run's encoding: the bottleneck, what was computed for nothing, what went wrong.

    Args:
        run: with `bottleneck`, and `computed_tokens` and `events` as `summarize` made them, where known.
    """
    if run.get("bottleneck"):
        yield f"bottleneck: {run['bottleneck']}"
    computed, events = run.get("computed_tokens") or {}, run.get("events") or {}
    if computed.get("passages"):
        padding, filler = (computed[name] / computed["passages"] for name in ("padding", "filler"))
        yield f"computed beside the passages' tokens: {padding:.1%} of padding, {filler:.1%} of filler rows"
    if events.get(COMPILED) or events.get(LOADED):
        yield f"programs: {events[COMPILED]:,} compiled, {events[LOADED]:,} taken from those kept"
    if events.get(HALVED):
        yield f"out of memory on the device, and batches halved: {events[HALVED]:,} times"


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(spent, 3) for name, spent in seconds.items()}


def _receipts(root: Path, stage: str) -> Iterator[Receipt]:
    for path in sorted((work.folder(root) / stage).glob("*.json")):
        yield Receipt.read(path)
