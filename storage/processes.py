"""A process by a name that no other ever has on its machine: its id alone may be given out again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Fields of /proc/ID/stat behind the command's name, which is in parentheses and may hold any byte.
_STATE: Final = 0
_START: Final = 19
# Killed, and not yet waited for by whoever started it.
_DEAD: Final = (b"Z", b"X")


def named(pid: int | None = None) -> str:
    """A process, this one if none is given, as `lives` knows it: "id:start"."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}:{_started(pid)}"


def lives(name: str) -> bool:
    """Is the process that `named` spoke of alive? Asked on its own machine."""
    pid, _, started = name.partition(":")
    return _started(int(pid)) == int(started)


def machine() -> str:
    """This machine since it was started, and the namespace of its process ids; "" where it does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int:
    """Clock ticks between the start of the machine and that of a process; -1 where it does not live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if fields[_STATE] in _DEAD else int(fields[_START])
