"""The process that started the workers of a machine: how they know it, and that it is gone.

A worker cannot ask for its parent: where the launcher was killed while the worker was being born, the parent
is another process from the first look on, and in a container process 1 may be a launcher or may have adopted
an orphan. A process id alone may be given out again. So the launcher writes its id and the moment of its
start into the environment of its workers, and those look whether that very process lives.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

# "id:start", for the workers to read.
VARIABLE: Final = "MEMCORPUS_LAUNCHER"
POLL_SECONDS: Final = 0.5
# Fields of /proc/ID/stat behind the command's name, which is in parentheses and may hold any byte.
_STATE: Final = 0
_START: Final = 19
# Killed, and not yet waited for by whoever started it.
_DEAD: Final = (b"Z", b"X")


def named() -> str:
    """This process, as `lives` knows it."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def lives(name: str) -> bool:
    """Is the process that `named` spoke of alive?"""
    pid, _, started = name.partition(":")
    return _started(int(pid)) == int(started)


def end_with(name: str) -> None:
    """End this process when the launcher is gone; it would work on for nobody."""
    while lives(name):
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _started(pid: int) -> int:
    """Clock ticks between the start of the machine and that of a process; -1 where it does not live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[_STATE] in _DEAD else int(fields[_START])
