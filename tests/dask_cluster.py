"""A Dask cluster of this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it has started."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()
    process.wait()


@dataclass
class Cluster:
    """A scheduler, and workers with a nanny each, in a folder that is not the launcher's."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            end(process)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def schedule(self) -> subprocess.Popen[bytes]:
        found = self.start(
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-jupyter"),
            *("--scheduler-file", str(self.file)),
        )
        until = time.monotonic() + 60
        while not self.file.exists():
            assert time.monotonic() < until, (self.folder / "0.log").read_text()
            time.sleep(0.05)
        return found

    def work(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(
            *("worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--no-dashboard"), *arguments
        )

    def worker_processes(self) -> list[psutil.Process]:
        """Those that do the work: children of the nannies."""
        return [
            child
            for process in self.processes[1:]
            if process.poll() is None
            for child in psutil.Process(process.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
