"""Every engine for real: the same bytes; whoever is killed in the middle, never a hang, and the same bytes.

`make test-engines`. MEMCORPUS_ENGINES_ARTICLES and MEMCORPUS_ENGINES_KILLS make it larger than the minutes
that it takes by default: 20000 and 5, say.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.miniwiki.export import write_dump
from pipeline.units import silence
from storage import work_folder
from storage.folder import CorpusFolder
from tests import clusters
from tests.clusters import Running
from tests.dask_cluster import ROOT, end
from tests.test_build import content

pytestmark = pytest.mark.engines
ARTICLES = int(os.environ.get("MEMCORPUS_ENGINES_ARTICLES", "120"))
KILLS = int(os.environ.get("MEMCORPUS_ENGINES_KILLS", "1"))
# After so long it hangs. Workers that are gone are noticed after `SILENCE`.
TIMEOUT = 600 + ARTICLES / 5
SILENCE = silence.ALIVE_SECONDS
# About 20 units of each kind.
SPLIT_BYTES = 400 * ARTICLES // 10
SHARD_PASSAGES = max(64, 1 << (ARTICLES // 20).bit_length())

WORKER, SERVER, LAUNCHER = "worker", "server", "launcher"
SAME = [way for way in clusters.WAYS if way != "service-process"]
KILLED = [
    ("local", WORKER),
    ("local", LAUNCHER),
    ("dask-2", WORKER),
    ("dask-2", SERVER),
    ("dask-2", LAUNCHER),
    ("slurm", WORKER),
    ("prism-loopback", SERVER),
    ("prism-loopback", LAUNCHER),
    ("prism-external", WORKER),
    ("prism-external", SERVER),
    ("prism-process", WORKER),
    ("prism-process", LAUNCHER),
    ("service-loopback", SERVER),
    ("service-external", WORKER),
    ("service-external", LAUNCHER),
]


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs are compiled once, whoever runs them; workers that die are noticed within a minute or so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMCORPUS_COMPILED", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv(silence.VARIABLE, str(SILENCE))
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


@dataclass
class Whole:
    """What one process on the disk made: its bytes, and how many receipts lay there at the most."""

    source: str
    models: Path
    content: dict[str, bytes]
    receipts: int

    def start(self, out: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
        command = [
            *(sys.executable, "-m", "pipeline", "build", "--source", self.source, "--out", str(out)),
            *("--retriever", str(self.models / "gtr"), "--memory-encoder", str(self.models / "t5")),
            *("--live-proportion", "1/3", "--shard-passages", str(SHARD_PASSAGES)),
            *("--split-bytes", str(SPLIT_BYTES), *arguments),
        ]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def receipts(out: Path) -> int:
    """Of all stages, as they lie there now."""
    return sum(1 for _ in CorpusFolder(out).work.path.glob(f"*/*{work_folder.RECEIPT}"))


def finished(process: subprocess.Popen[str], watch: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Its status and what it told, within `TIMEOUT`: never a hang."""
    until = time.monotonic() + TIMEOUT
    try:
        while True:
            try:
                _, told = process.communicate(timeout=0.05)
                return process.returncode, told
            except subprocess.TimeoutExpired:
                assert time.monotonic() < until, "it hangs"
                watch()
    finally:
        end(process)


@pytest.fixture(scope="module")
def whole(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    dump = write_dump(folder / "dump", articles=ARTICLES, pages_per_stream=max(20, ARTICLES // 100))
    made = Whole(f"mediawiki:{dump.path}", models, {}, 0)
    out = folder / "corpus"

    def count() -> None:
        made.receipts = max(made.receipts, receipts(out))

    status, told = finished(made.start(out, ()), count)
    assert status == 0, told
    made.content = content(out)
    assert made.receipts > 8
    return made


@pytest.mark.parametrize("way", SAME)
def test_the_same_bytes(way: str, whole: Whole, tmp_path: Path) -> None:
    with clusters.up(way, tmp_path) as running:
        began = time.monotonic()
        status, told = finished(whole.start(tmp_path / "corpus", running.arguments))
        assert status == 0, told
        seconds = time.monotonic() - began
    assert content(tmp_path / "corpus") == whole.content
    _told(f"{way}: the same {len(whole.content)} files in {seconds:.0f} s")


def test_a_service_that_knows_no_processes_says_so(whole: Whole, tmp_path: Path) -> None:
    """Beam's own job service: a KeyError of Beam's, which is no bug of ours to be reported."""
    with clusters.up("service-process", tmp_path) as running:
        status, told = finished(whole.start(tmp_path / "corpus", running.arguments))
    assert status != 0
    assert "beam:env:process:v1" in told


@dataclass
class Shot:
    """Kills somebody, once, as soon as so many receipts are there and there is somebody to be killed."""

    victim: str
    launcher: subprocess.Popen[str]
    running: Running
    out: Path
    moment: int
    rng: random.Random
    fired: bool = False

    def watch(self) -> None:
        if not self.fired and receipts(self.out) >= self.moment:
            self.fired = self._fire()

    def _fire(self) -> bool:
        if self.victim == WORKER and self.running.kill_worker is not None:
            return self.running.kill_worker()
        if self.victim == WORKER:
            found = self.running.find_workers(self.launcher.pid)
            if found:
                self.rng.choice(found).send_signal(signal.SIGKILL)
            return bool(found)
        process = self.launcher if self.victim == LAUNCHER else self.running.server
        assert process is not None
        process.send_signal(signal.SIGKILL)
        return True


@pytest.mark.parametrize(("way", "victim"), KILLED)
def test_killed_in_the_middle(way: str, victim: str, whole: Whole, tmp_path: Path) -> None:
    """The job goes on, or ends with a line; the same command ends it, with the same bytes."""
    rng = random.Random(f"{way} {victim}")
    killed, went_on, lines = 0, 0, set()
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = folder / "corpus"
        moment = rng.randrange(1, whole.receipts - 1)
        (folder / "first").mkdir()
        with clusters.up(way, folder / "first") as running:
            launcher = whole.start(out, running.arguments)
            shot = Shot(victim, launcher, running, out, moment, rng)
            status, told = finished(launcher, shot.watch)
        killed += shot.fired
        if status == 0:
            went_on += 1
        elif victim != LAUNCHER:
            assert status == 1, told
            assert "Traceback" not in told
            (line,) = [line for line in told.splitlines() if line.startswith("memcorpus: ")]
            lines.add(line.replace(str(tmp_path), "..."))
        if status != 0:
            (folder / "again").mkdir()
            with clusters.up(way, folder / "again") as running:
                status, told = finished(whole.start(out, running.arguments))
            assert status == 0, told
        assert content(out) == whole.content
    assert killed, "nobody was there to kill"
    _told(f"{way}, {victim} killed: {killed} of {KILLS}; went on {went_on}, {lines or 'no line'}")


def _told(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.0f}] {text}", flush=True)
