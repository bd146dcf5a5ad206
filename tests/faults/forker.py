"""A process that has all of memcorpus imported and forks for each command, so that one costs no start.

It is started with the shim preloaded, has no thread but the allocator's when it forks, and speaks JSON lines:

    {"command": [...], "folder": ..., "fault": {...} or null, "log", "out", "err": paths, "seconds": ...}

runs `memcorpus COMMAND` with faults below a folder, stdout and stderr in files, and answers {"status": ...},
negative for a signal and null where it took longer than it may. With the fault "stop" it answers
{"stopped": true} whenever the process stops, and goes on with it when it gets a line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tests.faults import shim

_MODULES: Final = (
    *("apache_beam.runners.portability.fn_api_runner.fn_runner", "jax", "pyarrow.parquet", "transformers"),
    *("encoders.retriever", "pipeline.cli.main", "pipeline.cli.terminal"),
    *("pipeline.jobs.build", "pipeline.jobs.repair"),
)


def _load() -> None:
    """What the commands import when they need it."""
    from pipeline.units import cores, library_output

    library_output.silence()
    cores.share()
    for name in _MODULES:
        importlib.import_module(name)


def _run(request: dict[str, Any]) -> None:
    """The child: never returns."""
    from encoders import compiling
    from pipeline.cli import main as cli

    error = os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.dup2(error, 2)
    sys.argv = ["memcorpus", *request["command"]]
    if request["fault"]:
        shim.arm(request["folder"], request["fault"], request["log"])
    status = cli.run()
    sys.stdout.flush()
    sys.stderr.flush()
    shim.disarm()
    compiling.remove_own()
    os._exit(status)


def _wait(pid: int, seconds: float) -> int | None:
    """The status of a child, or None where it was still there after so long."""

    def end(_: int, __: FrameType | None) -> None:
        nonlocal late
        late = True
        os.kill(pid, signal.SIGKILL)

    late = False
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            signal.setitimer(signal.ITIMER_REAL, 0)
            return None if late else os.waitstatus_to_exitcode(status)
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        _answer(stopped=True)
        sys.stdin.readline()
        signal.setitimer(signal.ITIMER_REAL, left)
        os.kill(pid, signal.SIGCONT)


def _answer(**value: Any) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    """Serve until stdin ends."""
    _load()
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    _answer(threads=threads)
    while line := sys.stdin.readline():
        request = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                _run(request)
            finally:
                os._exit(70)
        status = _wait(pid, request["seconds"])
        _answer(status=status, took=round(time.monotonic() - started, 3))


if __name__ == "__main__":
    main()
