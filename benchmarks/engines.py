"""Ways to run a job on this machine: a straggler among 16 units; reading and encoding; and trivial units.

    python -m benchmarks.engines                                   # all three
    python -m benchmarks.engines --ways threads-2 local-2 dask-2 --articles 2000

`straggler` has 15 units that wait a second and one, the first, that waits eight: two workers that nobody
holds up take 11.5 s and what it takes to start. `build` makes the corpus of a miniwiki with small models.
`trivial` writes receipts and nothing else; it tells what launcher and Dask's scheduler hold after a quarter
of the time and at the end, and what the launcher sends the scheduler. CPU is of all processes that a way
has; the load is the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest

from examples.miniwiki.export import write_dump
from pipeline.units import engines
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from pipeline.units.stages import Stages
from storage import receipts
from storage.folder import CorpusFolder
from storage.receipts import Counts
from tests import clusters, small_models
from tests.clusters import Running, Started
from tests.dask_cluster import ROOT

STAGE: Final = Stage(name="waits", title="wait", counts=Counts, measure="waits")
UNITS: Final = 16
SECONDS: Final = 1.0
SLOW_SECONDS: Final = 8.0


def local(mode: str, workers: int) -> Callable[[Started], Running]:
    """One of the modes of Beam's local runner."""
    arguments = ("--", f"--direct_running_mode={mode}", f"--direct_num_workers={workers}")
    return lambda started: Running(arguments=arguments)


WAYS: Final[dict[str, Callable[[Started], Running]]] = {
    "in-process": lambda started: Running(arguments=()),
    "threads-2": local("multi_threading", 2),
    "local-1": local("multi_processing", 1),
    "local-2": local("multi_processing", 2),
    **{
        name: clusters.WAYS[name]
        for name in ("dask-2", "prism-loopback", "prism-external", "service-loopback")
    },
}


@dataclass(frozen=True)
class Wait:
    """A unit waits as long as it is told, and leaves its receipt."""

    corpus: CorpusFolder
    seconds: tuple[float, ...]
    stage: Stage[Counts] = STAGE

    def run(self, unit: int, meter: Meter) -> receipts.Receipt[Counts]:
        time.sleep(self.seconds[unit % len(self.seconds)])
        return receipts.Receipt(unit=unit, files=(), counts=Counts(), seconds={}, worker=worker_name())


class CpuSeconds:
    """Of this process and all that it has started, those that end meanwhile included, to half a second."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()

    def __enter__(self) -> CpuSeconds:
        self._before = self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.seconds = self._look() - self._before

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()

    def _look(self) -> float:
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                used = process.cpu_times()
                self._seen[process.pid, process.create_time()] = used.user + used.system
        return sum(self._seen.values())


class Watched(CpuSeconds):
    """And what the launcher and a scheduler hold in RAM, over the time; and the launcher's messages to it."""

    def __enter__(self) -> Watched:
        self._held: dict[str, list[int]] = {"launcher": [], "scheduler": []}
        self.messages = 0
        self._patch = pytest.MonkeyPatch()
        with contextlib.suppress(ImportError):
            import distributed.batched

            send = distributed.batched.BatchedSend.send

            def counted(stream: Any, *messages: Any) -> None:
                self.messages += len(messages)
                send(stream, *messages)

            self._patch.setattr(distributed.batched.BatchedSend, "send", counted)
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._patch.undo()

    def _look(self) -> float:
        own = psutil.Process()
        self._held["launcher"].append(own.memory_info().rss)
        for process in own.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "scheduler" in process.cmdline():
                    self._held["scheduler"].append(process.memory_info().rss)
        return super()._look()

    def held(self, who: str) -> str:
        """MB after a quarter of the time, and at the end."""
        seen = self._held[who]
        return f"{seen[len(seen) // 4] / 1e6:.0f}, {seen[-1] / 1e6:.0f}" if seen else "-"


@contextlib.contextmanager
def up(way: str) -> Iterator[tuple[Running, Path]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memcorpus-engines-")))
        yield WAYS[way](Started(folder, stack)), folder


def chosen(arguments: Sequence[str]) -> engines.Engine:
    """The engine of the arguments of `build`."""
    named = arguments[arguments.index("--engine") + 1] if "--engine" in arguments else None
    options = arguments[arguments.index("--") + 1 :] if "--" in arguments else ()
    return engines.chosen(named, options)


Used = TypeVar("Used", bound=CpuSeconds)


def stage(way: str, count: int, seconds: tuple[float, ...], used: Used) -> tuple[float, Used]:
    """Seconds that a stage of so many units took by a way, and what it used."""
    with up(way) as (running, folder):
        corpus = CorpusFolder(folder / "corpus")
        corpus.work.make()
        corpus.work.write_plan({})
        began = time.monotonic()
        with used:
            Stages(corpus, chosen(running.arguments)).run(STAGE, Wait(corpus, seconds), count, total=count)
        return time.monotonic() - began, used


def units(way: str, count: int, seconds: tuple[float, ...]) -> str:
    """A row: a stage of so many units, run by a way."""
    took, used = stage(way, count, seconds, CpuSeconds())
    return f"| {way} | {took:.1f} | {used.seconds:.1f} | {os.getloadavg()[0]:.0f} |"


def trivial(way: str, count: int) -> str:
    """A row: so many units that do nothing."""
    took, used = stage(way, count, (0.0,), Watched())
    return (
        f"| {way} | {took:.1f} | {count / took:.0f} | {used.seconds:.1f} | {os.getloadavg()[0]:.0f} | "
        f"{used.held('launcher')} | {used.held('scheduler')} | {used.messages / count:.2f} |"
    )


def build(way: str, source: Path, models: Path) -> str:
    """A row: the whole corpus, made by the command as a user gives it."""
    with up(way) as (running, folder):
        command = [
            *(sys.executable, "-m", "pipeline", "build", "--source", f"mediawiki:{source}"),
            *("--out", str(folder / "corpus"), "--retriever", str(models / "gtr")),
            *("--memory-encoder", str(models / "t5"), "--live-proportion", "1/3"),
            *("--shard-passages", "256", "--split-bytes", "100000", *running.arguments),
        ]
        began = time.monotonic()
        with CpuSeconds() as used:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = time.monotonic() - began
    return f"| {way} | {took:.1f} | {used.seconds:.1f} | {os.getloadavg()[0]:.0f} |"


COLUMNS: Final = ("s", "CPU s", "load")
TRIVIAL_COLUMNS: Final = ("s", "units/s", "CPU s", "load", "launcher MB", "scheduler MB", "messages a unit")


def table(
    title: str, ways: Sequence[str], row: Callable[[str], str], columns: Sequence[str] = COLUMNS
) -> None:
    print(f"\n{title}\n\n| way | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for way in ways:
        try:
            print(row(way), flush=True)
        except pytest.skip.Exception as e:
            print(f"| {way} | {e} |{' |' * (len(columns) - 1)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["straggler", "build", "trivial"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--articles", type=int, default=1_000)
    parser.add_argument("--units", type=int, default=20_000, help="of `trivial`")
    options = parser.parse_args()
    what = options.what or ["straggler", "build", "trivial"]
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="memcorpus-engines-") as name:
        folder = Path(name)
        os.environ.setdefault("MEMCORPUS_COMPILED", str(folder / "compiled"))
        if "straggler" in what:
            seconds = (SLOW_SECONDS, *(SECONDS,) * (UNITS - 1))
            table("A straggler among 16 units", options.ways, lambda way: units(way, UNITS, seconds))
        if "build" in what:
            small_models.make_t5_folder(folder / "t5", layers=6, seed=1)
            small_models.make_gtr_folder(folder / "gtr", seed=2)
            dump = write_dump(folder / "dump", articles=options.articles)
            build("in-process", dump.path, folder)  # compiles what all will run
            table(
                f"A corpus of {options.articles:,} articles",
                options.ways,
                lambda way: build(way, dump.path, folder),
            )
        if "trivial" in what:
            table(
                f"{options.units:,} units that do nothing",
                options.ways,
                lambda way: trivial(way, options.units),
                TRIVIAL_COLUMNS,
            )


if __name__ == "__main__":
    main()
