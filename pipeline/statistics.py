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
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import work
from storage import files, manifest
from storage.receipts import Receipt

# Begins the names of the counts of passages by their tokens: "tokens up to 32" are those of 17 to 32.
TOKENS_UP_TO: Final = "tokens up to "
# Bars of such a histogram, about.
BARS: Final = 20
# The files of a shard, by component, in its receipt's counts.
MEMORY_STORED: Final = "memory_stored_bytes"
VECTORS_STORED: Final = "vectors_stored_bytes"

_SCHEMA: Final = pa.schema(
    [
        ("stage", pa.string()),
        ("unit", pa.int64()),
        ("worker", pa.string()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("counts", pa.map_(pa.string(), pa.int64())),
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


def stored_counts(entries: Sequence[files.FileEntry], vectors_folder: str) -> dict[str, int]:
    """Bytes of a shard's files, by component, as a receipt's counts."""
    vectors = sum(entry.bytes for entry in entries if entry.path.startswith(f"{vectors_folder}/"))
    return {
        VECTORS_STORED: vectors,
        MEMORY_STORED: sum(entry.bytes for entry in entries) - vectors,
    }


def write(root: Path, path: str, stages: Sequence[str], run: Mapping[str, Any]) -> None:
    """Sum up the receipts of some stages.

    Args:
        root: the corpus folder, with the receipts in `work/`.
        path: of the JSON, relative to the corpus folder; the units go beside it.
        stages: whose receipts.
        run: what else is to be kept: where models were found, stages' wall time, the plan.
    """
    # Not every run has every stage.
    present = [stage for stage in stages if (work.folder(root) / stage).is_dir()]
    receipts = {stage: list(_receipts(root, stage)) for stage in present}
    target = root / path
    target.parent.mkdir(exist_ok=True)
    name = "units.parquet" if path == manifest.STATISTICS else f"{target.stem}-units.parquet"
    units = target.with_name(name)
    rows = [
        {
            "stage": stage,
            "unit": receipt.unit,
            "worker": receipt.worker,
            "seconds": list(receipt.seconds.items()),
            "counts": list(receipt.counts.items()),
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
    shards: list[int] = []
    for stage, of_stage in receipts.items():
        seconds[stage], counts[stage] = Counter(), Counter()
        for receipt in of_stage:
            seconds[stage].update(receipt.seconds)
            counts[stage].update(receipt.counts)
            worker = workers.setdefault(receipt.worker, {"units": 0, "seconds": {}})
            worker["units"] += 1
            spent = sum(receipt.seconds.values())
            worker["seconds"][stage] = worker["seconds"].get(stage, 0.0) + spent
            if MEMORY_STORED in receipt.counts:
                shards.append(receipt.counts[MEMORY_STORED])
    everything = sum(counts.values(), Counter())
    return {
        "worker_seconds": {stage: _rounded(spent) for stage, spent in seconds.items()},
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


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(spent, 3) for name, spent in seconds.items()}


def _receipts(root: Path, stage: str) -> Iterator[Receipt]:
    for path in sorted((work.folder(root) / stage).glob("*.json")):
        yield Receipt.read(path)
