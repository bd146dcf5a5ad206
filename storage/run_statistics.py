"""`statistics/<run>.json`: times, machines and distributions of a run, written beside the data it wrote.

A run is the build, or what added a memory version. Statistics differ from run to run, so no card speaks of
them; they check themselves, and name the Parquet file of every unit's times beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.aliases import Json
from storage.fields import Fields
from storage.files import FileEntry

FOLDER: Final = "statistics"
BUILD: Final = "build"

# Columns of the file of every unit's times.
UNITS: Final = pa.schema(
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


def path_of(run: str) -> str:
    return f"{FOLDER}/{run}.json"


def units_path_of(run: str) -> str:
    return f"{FOLDER}/{run}-units.parquet"


class WorkerJson(TypedDict):
    """`WorkerStatistics` as JSON."""

    units: int
    seconds: Mapping[str, float]


class ShardBytesJson(TypedDict, total=False):
    """`ShardBytes` as JSON; a report of a run that does not tell has none of the keys."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatistics:
    """What one worker process did: units, and seconds by stage."""

    units: int
    seconds: Mapping[str, float]

    def to_json(self) -> WorkerJson:
        return {"units": self.units, "seconds": dict(self.seconds)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardBytes:
    """Bytes of the shards' memory files."""

    least: int = 0
    median: int = 0
    most: int = 0

    @classmethod
    def of(cls, sizes: npt.ArrayLike) -> ShardBytes:
        """Of shards' bytes, [n]."""
        found = np.asarray(sizes, np.int64)
        if not found.size:
            return cls()
        return cls(least=int(found.min()), median=round(float(np.median(found))), most=int(found.max()))

    def to_json(self) -> ShardBytesJson:
        return {"least": self.least, "median": self.median, "most": self.most}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatistics:
    """What is known of a run. What is None or empty was not known to the release that wrote it.

    Attributes:
        version: the memory version that it wrote.
        origin: the version that it recoded.
        retriever, memory_encoder, tokenizer, database, sources: where models, the corpus that a table of
            neighbours was searched in, and sources were found.
        stage_seconds: wall time by stage.
        worker_seconds: workers' time by stage and step.
        worker_waited: by stage, seconds by who waited for whom.
        events: programs compiled and loaded, batches halved.
        computed_tokens: of the passages, of padding, of filler rows.
        workers: by the name of a worker process.
        units_by_stage: how many each stage had.
        tokens_histogram: (most tokens of a bar, passages in it), ascending.
        shard_memory_bytes: of the shards' memory files.
        planned_bytes: what the build foretold, by part.
        engine, beam_options: what dealt the units out; Beam's options as the command gave them.
        resumed: had it been interrupted?
        finished: when, UTC. `machine`, `cpus`, `peak_rss_bytes`: on what, and the most RAM of a process.
        units: the Parquet file of every unit's seconds and counts.
    """

    units: FileEntry
    version: str | None = None
    origin: str | None = None
    retriever: str | None = None
    memory_encoder: str | None = None
    tokenizer: str | None = None
    database: str | None = None
    sources: tuple[str, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    worker_seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    worker_waited: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    computed_tokens: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, WorkerStatistics] = field(default_factory=dict)
    units_by_stage: Mapping[str, int] = field(default_factory=dict)
    tokens_histogram: tuple[tuple[int, int], ...] = ()
    shard_memory_bytes: ShardBytes | None = None
    planned_bytes: Mapping[str, int] = field(default_factory=dict)
    engine: str | None = None
    beam_options: tuple[str, ...] = ()
    resumed: bool = False
    finished: str | None = None
    machine: str | None = None
    cpus: int | None = None
    peak_rss_bytes: int | None = None

    def to_json(self) -> Json:
        """What is known; the rest is left out."""
        found: Json = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is not None:
                found[f.name] = value
        return found | {
            "units": self.units.to_json(),
            "workers": {name: worker.to_json() for name, worker in self.workers.items()},
            **(
                {}
                if self.shard_memory_bytes is None
                else {"shard_memory_bytes": self.shard_memory_bytes.to_json()}
            ),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> RunStatistics:
        """Read strictly.

        Raises:
            CorpusError: a field is of another type or out of range; `units` is missing.
        """
        fields = Fields(value, where)
        found: Json = {"units": FileEntry.from_json(fields.object("units"))}
        for name, read in _READERS.items():
            if name in fields:
                found[name] = read(fields, name)
        return cls(**found)


def _numbers_by_stage(fields: Fields, name: str) -> dict[str, dict[str, float]]:
    stages = fields.nested(name)
    return {stage: stages.numbers_by_name(stage) for stage in fields.object(name)}


def _workers(fields: Fields, name: str) -> dict[str, WorkerStatistics]:
    workers = fields.nested(name)
    found = {}
    for worker in fields.object(name):
        one = workers.nested(worker)
        found[worker] = WorkerStatistics(units=one.integer("units"), seconds=one.numbers_by_name("seconds"))
    return found


def _shard_bytes(fields: Fields, name: str) -> ShardBytes:
    sizes = fields.nested(name)
    return ShardBytes(**{part: sizes.integer(part) for part in ("least", "median", "most")})


def _histogram(fields: Fields, name: str) -> tuple[tuple[int, int], ...]:
    return fields.integer_pairs(name)


_COUNTS: Final = ("events", "computed_tokens", "units_by_stage", "planned_bytes")
_READERS: Final[dict[str, Callable[[Fields, str], Any]]] = {
    **dict.fromkeys(
        (
            *("version", "origin", "retriever", "memory_encoder", "tokenizer", "database"),
            *("engine", "finished", "machine"),
        ),
        Fields.text,
    ),
    **dict.fromkeys(("sources", "beam_options"), Fields.texts),
    **dict.fromkeys(
        ("events", "computed_tokens", "units_by_stage", "planned_bytes"), Fields.integers_by_name
    ),
    **dict.fromkeys(("worker_seconds", "worker_waited"), _numbers_by_stage),
    **dict.fromkeys(("cpus", "peak_rss_bytes"), Fields.integer),
    "stage_seconds": Fields.numbers_by_name,
    "workers": _workers,
    "tokens_histogram": _histogram,
    "shard_memory_bytes": _shard_bytes,
    "resumed": Fields.boolean,
}
