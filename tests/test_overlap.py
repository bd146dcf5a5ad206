"""Phases of units that overlap: in order, bounded, each unit's failure its own."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts import statistics
from pipeline.units import meter, overlap, work
from pipeline.units.engines import base
from pipeline.units.meter import Meter
from pipeline.units.stage import Stage
from storage import receipts
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts
from storage.run_statistics import RunStatistics

STAGE = Stage(name="shards", title="encode shards", counts=Counts, measure="passages")


@dataclass
class Recorded:
    """A job of units that do nothing but take note, and wait or fail where they are told to."""

    root: Path
    hooks: dict[tuple[str, int], Callable[[], None]] = field(default_factory=dict)
    limit_seconds: float | None = 30.0
    stage: Stage[Counts] = STAGE
    log: list[tuple[str, int]] = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0

    def __post_init__(self) -> None:
        self.corpus = CorpusFolder(self.root)

    def _do(self, phase: str, unit: int) -> None:
        self.log.append((phase, unit))
        self.hooks.get((phase, unit), lambda: None)()

    def prepare(self, unit: int, meter: Meter) -> int:
        self._do("prepare", unit)
        return unit

    def compute(self, unit: int, prepared: int, meter: Meter) -> int:
        assert prepared == unit
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        self._do("compute", unit)
        return unit

    def finish(self, unit: int, computed: int, meter: Meter) -> receipts.Receipt[Counts]:
        assert computed == unit
        self._do("finish", unit)
        self.alive -= 1
        return receipts.Receipt(
            unit=unit, files=(), counts=Counts(), seconds={}, worker="w", waited=dict(meter.waited)
        )

    def done(self) -> list[int]:
        return [int(p.stem) for p in sorted((self.root / "work/shards").glob("*.json"))]


def test_the_next_is_read_and_the_last_is_written_while_one_is_computed(tmp_path: Path) -> None:
    """Each event is waited for inside the phase that only overlap lets see it."""
    read, written = threading.Event(), threading.Event()
    job = Recorded(
        tmp_path,
        {
            ("prepare", 2): read.set,
            ("finish", 0): written.set,
            ("compute", 1): lambda: [e.wait(20) or pytest.fail("no overlap") for e in (read, written)],
        },
    )
    overlap.run_units(job, range(5))
    assert job.done() == list(range(5))
    for phase in ("prepare", "compute", "finish"):
        assert [unit for name, unit in job.log if name == phase] == list(range(5))


def test_two_results_are_alive_at_most(tmp_path: Path) -> None:
    job = Recorded(tmp_path, {("finish", unit): lambda: time.sleep(0.05) for unit in range(5)})
    overlap.run_units(job, range(5))
    assert job.most_alive == 2


def test_waits_are_told_of_those_who_waited(tmp_path: Path) -> None:
    slow: dict[tuple[str, int], Callable[[], None]]
    slow = {("finish", unit): lambda: time.sleep(0.1) for unit in range(4)}
    job = Recorded(tmp_path, slow)
    overlap.run_units(job, range(4))
    waited: dict[str, float] = {}
    for unit in range(4):
        path = job.corpus.work.receipt_path("shards", unit)
        for who, seconds in receipts.read(path, Counts).waited.items():
            waited[who] = waited.get(who, 0.0) + seconds
    assert waited["encoder for writer"] > 0.15
    assert waited["encoder for writer"] > 3 * waited["writer for encoder"]
    assert waited["input for encoder"] > 0.05


@pytest.mark.parametrize("phase", ["prepare", "compute", "finish"])
def test_a_failure_is_the_units_own_and_loses_nothing_that_is_done(tmp_path: Path, phase: str) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    slow = {("finish", 1): lambda: time.sleep(0.2)}
    job = Recorded(tmp_path, {**slow, (phase, 2): fail})
    with pytest.raises(OSError, match="the disk is gone"):
        overlap.run_units(job, range(6))
    assert job.done() == [0, 1]
    assert [p.name for p in (tmp_path / "work/shards").glob("*.error")] == ["000002.error"]
    assert str(work.first_error(job.corpus.work, "shards")) == "shards 2: the disk is gone"
    shown = meter.read_progress(job.corpus.work, "shards")
    assert (shown.units, shown.counts) == (2, {})
    job.hooks.clear()
    job.log.clear()
    overlap.run_units(job, range(6))
    assert job.done() == list(range(6))
    assert {unit for _, unit in job.log} == {2, 3, 4, 5}


def test_what_hangs_is_said_to_have_timed_out(tmp_path: Path) -> None:
    release = threading.Event()
    hooks: dict[tuple[str, int], Any] = {("compute", 1): lambda: release.wait(20)}
    job = Recorded(tmp_path, hooks, limit_seconds=0.3)
    with pytest.raises(overlap.TimedOut, match=r"timed out after 0\.3 s of encoding"):
        overlap.run_units(job, range(3))
    release.set()
    assert job.done() == [0]
    left = json.loads((tmp_path / "work/shards/000001.error").read_text())
    assert left["kind"] == "failed"
    assert "timed out after 0.3 s" in left["message"]
    assert "memory" not in left["message"]


def test_groups_hold_every_unit_once_and_leave_none_idle(tmp_path: Path) -> None:
    job = Recorded(tmp_path)
    for units in (range(0), range(1), range(40), range(1000), [3, 5, 9]):
        for slots in (1, 4):
            groups = list(base.grouped(job, units, slots))
            assert [unit for group in groups for unit in group] == list(units)
            assert all(len(group) <= base.MOST_GROUPED for group in groups)
    assert len(list(base.grouped(job, range(40), slots=4))) >= 16


def test_units_are_taken_when_their_turn_has_come(tmp_path: Path) -> None:
    """No unit is held by a worker that is not at it, but for the one it reads: others may take it."""
    job = Recorded(tmp_path)
    taken: list[int] = []

    def units() -> Iterator[int]:
        for unit in range(5):
            assert unit < 2 or ("compute", unit - 2) in job.log
            taken.append(unit)
            yield unit

    overlap.run_units(job, units())
    assert taken == job.done() == list(range(5))


def test_runs_of_one_process_take_turns(tmp_path: Path) -> None:
    """They share its device and its RAM."""
    job = Recorded(tmp_path, {("compute", unit): lambda: time.sleep(0.02) for unit in range(8)})
    runs = [threading.Thread(target=overlap.run_units, args=(job, range(first, 8, 2))) for first in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert job.done() == list(range(8))
    assert job.most_alive == 2


def test_the_bottleneck_is_the_busiest() -> None:
    found = RunStatistics(
        units=FileEntry(path="statistics/build-units.parquet", bytes=0, crc32=0),
        worker_seconds={"shards": {"reading": 1.0, "encoding": 6.0, "embedding": 3.0, "writing": 2.0}},
        worker_waited={
            "shards": {
                "input for encoder": 9.0,
                "encoder for input": 0.5,
                "encoder for writer": 0.5,
                "writer for encoder": 8.0,
            }
        },
    )
    line = statistics.bottleneck(found, "shards")
    assert line == "the encoder, at work 90% of the time; waiting: the writer 80%, the input 90%"
    assert statistics.bottleneck(dataclasses.replace(found, worker_waited={}), "shards") is None


def test_a_phase_that_never_waited_is_no_bottleneck() -> None:
    # Of a single shard: it is read at once, and then there is nothing more to read.
    found = RunStatistics(
        units=FileEntry(path="statistics/build-units.parquet", bytes=0, crc32=0),
        worker_seconds={"shards": {"reading": 0.1, "tokenizing": 0.1, "encoding": 9.0, "writing": 0.4}},
        worker_waited={
            "shards": {"input for encoder": 0.0, "encoder for input": 1.0, "writer for encoder": 9.6}
        },
    )
    line = statistics.bottleneck(found, "shards")
    assert line == "the encoder, at work 90% of the time; waiting: the writer 96%, the input 98%"
