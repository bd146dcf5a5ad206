"""Engines deal units out, and the launcher believes receipts alone."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import grpc
import pytest

from pipeline.units import engines, failures, meter, overlap, progress, silence
from pipeline.units.engines import AnyJob
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from pipeline.units.stages import Stages
from storage import errors, receipts, work_folder
from storage.folder import CorpusFolder
from storage.receipts import Counts
from tests.commands import Command
from tests.jobs import build
from tests.test_build import content
from tests.test_failures import ROOT

STAGE = Stage(name="marks", title="mark", counts=Counts, measure="marks")
TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@dataclass(frozen=True)
class Marking:
    """A unit leaves a file; unit 0 waits until all others but one have left theirs."""

    corpus: CorpusFolder
    units: int
    waits: bool = False
    stage: Stage[Counts] = STAGE

    def run(self, unit: int, meter: Meter) -> receipts.Receipt[Counts]:
        done = self.corpus.work.path / STAGE.name
        until = time.monotonic() + 60
        # The worker that has unit 0 has one unit more, which it takes when this one is done.
        while self.waits and unit == 0 and len(list(done.glob("*.json"))) < self.units - 1:
            assert time.monotonic() < until, "the others were not done"
            time.sleep(0.05)
        return receipts.Receipt(unit=unit, files=(), counts=Counts(), seconds={}, worker=worker_name())


class Losing:
    """An engine that says that all is done, and loses some."""

    name, options = "losing", ()

    def __init__(self, lost: Callable[[int, int], bool]) -> None:
        self._lost = lost
        self.dealt: list[list[int]] = []

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        self.dealt.append(list(units))
        overlap.run_units(job, [unit for unit in units if not self._lost(len(self.dealt), unit)])


class Noting(progress.Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage_noted(self, stage: Stage[Any], text: str) -> None:
        self.notes.append(f"{stage.title}: {text}")


@pytest.fixture
def folder(tmp_path: Path) -> CorpusFolder:
    corpus = CorpusFolder(tmp_path / "corpus")
    corpus.work.make()
    return corpus


def test_lost_units_are_dealt_out_again(folder: CorpusFolder) -> None:
    engine, noting = Losing(lambda dealt, unit: dealt == 1 and unit % 2 == 1), Noting()
    Stages(folder, engine, noting).run(STAGE, Marking(folder, 6), 6, total=6)
    assert engine.dealt == [[0, 1, 2, 3, 4, 5], [1, 3, 5]]
    assert noting.notes == [
        "mark: 3 of 6 units came back from engine losing without a receipt, the first of them 1; they are "
        "dealt out again"
    ]


def test_units_that_are_always_lost_end_the_job(folder: CorpusFolder) -> None:
    engine = Losing(lambda _, unit: unit == 4)
    with pytest.raises(
        failures.Failed, match=r"mark: 1 of 6 units .*engine losing.*4, after 3 times; .*run the"
    ):
        Stages(folder, engine).run(STAGE, Marking(folder, 6), 6, total=6)
    assert engine.dealt == [[0, 1, 2, 3, 4, 5], [4], [4]]


def test_a_build_on_an_engine_that_loses_half_is_whole(corpus: Path, settings: Any, tmp_path: Path) -> None:
    noting = Noting()
    # Every stage is dealt out twice, one after the other.
    engine = Losing(lambda dealt, unit: dealt % 2 == 1 and unit % 2 == 1)
    build(settings, tmp_path / "made", engine=engine, observer=noting)
    assert content(tmp_path / "made") == content(corpus)
    assert {note.split(":")[0] for note in noting.notes} >= {"read passages", "encode shards"}


DRAW = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pipeline.units.engines.tickets import Tickets
tickets = Tickets(Path(sys.argv[1]))
with ThreadPoolExecutor(4) as pool:
    print(*pool.map(lambda _: tickets.draw(), range(500)))
"""


def test_each_ticket_is_drawn_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRAW, str(tmp_path / "drawn")]
    drawing = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(3)
    ]
    drawn = [int(number) for process in drawing for number in process.communicate()[0].split()]
    assert sorted(drawn) == list(range(1500))


def test_a_slow_unit_holds_up_nobody(folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder.work.open_stage(STAGE.name)
    job = Marking(folder, 9, waits=True)
    engines.chosen(beam_options=TWO_WORKERS).run(job, range(9), lambda: None)
    found = list(folder.work.receipts(STAGE.name, range(9), Counts))
    assert len({receipt.worker for receipt in found}) == 2


@pytest.mark.parametrize(
    ("engine", "beam_options", "refusal"),
    [
        ("slurm", [], "no engine 'slurm'; there are beam and dask:SCHEDULER"),
        ("dask", [], "engine dask: no scheduler given"),
        ("dask:nowhere.json", [], "is no scheduler's address"),
        ("dask:tcp://h:1", ["--direct_num_workers=2"], "'--direct_num_workers=2' is Beam's"),
        (None, ["--direct_num_wrokers=2"], "unknown Beam option '--direct_num_wrokers=2'"),
        (None, ["--runner=FlinkRunner", "--flink_mastr=h"], "unknown Beam option '--flink_mastr=h'"),
        (None, ["--runner=DaskRunner"], "DaskRunner is refused.*--engine dask:SCHEDULER"),
    ],
)
def test_refused(engine: str | None, beam_options: list[str], refusal: str, folder: CorpusFolder) -> None:
    with pytest.raises(errors.CorpusError, match=refusal):
        engines.chosen(engine, beam_options).run(Marking(folder, 1), range(1), lambda: None)


def test_the_command_names_what_is_wrong_before_it_writes(
    command: Command, settings: Any, tmp_path: Path
) -> None:
    status, _, err = command(
        *("build", "--source", settings.sources[0], "--out", tmp_path / "c", "--engine", "ray"),
        *("--retriever", settings.retriever, "--memory-encoder", settings.memory_encoder),
        *("--live-proportion", "1/3"),
    )
    assert (status, err) == (2, "memcorpus: no engine 'ray'; there are beam and dask:SCHEDULER\n")
    assert not (tmp_path / "c").exists()


class Dead:
    """An engine that waits for ever for workers that are not there."""

    name, options = "dead", ()

    def run(self, job: AnyJob, units: Sequence[int], on_poll: Callable[[], None]) -> None:
        while True:
            on_poll()


class Clock:
    """A minute goes by at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


def test_an_engine_that_waits_for_dead_workers_ends_in_a_line(
    folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, noting = Clock(), Noting()
    watching = functools.partial(silence.Silence, clock=clock)
    monkeypatch.setattr(silence, "Silence", watching)
    with pytest.raises(
        failures.Failed, match=r"no worker of engine dead has shown a sign of life for 30 minutes: .*run the"
    ):
        Stages(folder, Dead(), noting).run(STAGE, Marking(folder, 6), 6, total=6)
    assert noting.notes == [
        f"mark: no progress for {minutes} minutes; no sign of life from its workers for {minutes} minutes, "
        "and the job ends after 30 minutes"
        for minutes in (5, 10, 20)
    ]


def test_a_slow_unit_is_no_silence() -> None:
    """Its worker says that it lives; people are told now and then, and the job goes on."""
    clock = Clock()
    watch = silence.Silence("any", 600, clock)
    notes = [
        watch.look(progress.Snapshot(units_done=1, units=2, counts={"marks": 1}, signs=sign))
        for sign in range(24)
    ]
    told = [note for note in notes if note]
    assert told == [f"no progress for {minutes} minutes; its workers are alive" for minutes in (5, 10, 20)]
    # The unit is done, the next one begins, and its worker dies.
    over = progress.Snapshot(units_done=2, units=3, counts={"marks": 2}, signs=99)
    assert [watch.look(over) for _ in range(5)] == [None] * 5
    assert "no progress for 5 minutes; no sign of life" in str(watch.look(over))
    clock.now += 240
    with pytest.raises(silence.Silent, match="for 10 minutes"):
        watch.look(over)


def test_a_worker_shows_that_it_lives(folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it looks through units that are done, and counts nothing."""
    monkeypatch.setattr(meter, "BEAT_SECONDS", 0.02)
    folder.work.write_plan({})
    signs = []
    with meter.alive(folder.work, STAGE.name):
        until = time.monotonic() + 30
        while len(set(signs)) < 4:
            assert time.monotonic() < until
            signs.append(meter.read_progress(folder.work, STAGE.name).signs)
            time.sleep(0.01)
        # The job was given up, and its folder is gone: it must not come back.
        folder.work.file(work_folder.PLAN).unlink()
        time.sleep(0.2)  # who has just seen it has written
        folder.work.clear_shown(STAGE.name)
        time.sleep(0.2)
        assert not list(folder.work.shown(STAGE.name))


@pytest.mark.parametrize("given", ["soon", "1", "nan", "-5", ""])
def test_an_impossible_limit_is_refused(given: str, folder: CorpusFolder, monkeypatch: Any) -> None:
    monkeypatch.setenv(silence.VARIABLE, given)
    with pytest.raises(
        errors.CorpusError, match=f"MEMCORPUS_SILENCE is '{given}', wanted seconds, 60 or more"
    ):
        Stages(folder, Dead())


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            RuntimeError("Pipeline 1 failed in state FAILED: SDK worker disconnected"),
            r"\(PortableRunner\): the runner ended the job \(Pipeline 1 failed .* disconnected\); .*run",
        ),
        (
            RuntimeError("job 1\nTraceback\n  File x\nKeyError: 'beam:env'"),
            r"\(job 1 ... KeyError: 'beam:env'\)",
        ),
        (grpc.FutureTimeoutError(), r"ended the job \(FutureTimeoutError\)"),
    ],
)
def test_a_runner_that_gives_up_is_no_bug(
    raised: Exception, told: str, folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Running:
        def wait_until_finish(self) -> None:
            raise raised

    folder.work.open_stage(STAGE.name)
    monkeypatch.setattr(beam.Pipeline, "run", lambda _: Running())
    engine = engines.chosen(beam_options=["--runner=PortableRunner", "--job_endpoint=localhost:9"])
    with pytest.raises(failures.Failed, match=told):
        engine.run(Marking(folder, 2), range(2), lambda: None)
    # Unless a unit has said why.
    folder.work.leave_error(STAGE.name, 1, json.dumps(failures.to_json(errors.CorpusError("no such thing"))))
    with pytest.raises(errors.CorpusError, match="no such thing"):
        engine.run(Marking(folder, 2), range(2), lambda: None)


def test_threads_of_beam_are_quiet_about_a_server_that_is_gone(
    folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They tell of it by a traceback each, beside the line that says it; other deaths are still told."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda died: told.append(died.exc_value))

    def die(error: Exception) -> None:
        def run() -> None:
            raise error

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    class Running:
        def wait_until_finish(self) -> None:
            die(grpc.RpcError("Stream removed"))

    folder.work.open_stage(STAGE.name)
    monkeypatch.setattr(beam.Pipeline, "run", lambda _: Running())
    for _ in range(2):
        engine = engines.chosen(beam_options=["--runner=PortableRunner", "--job_endpoint=localhost:9"])
        engine.run(Marking(folder, 2), range(2), lambda: None)
    assert not told
    bug = KeyError("a bug")
    die(bug)
    assert told == [bug]
