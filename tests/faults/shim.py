"""`shim.c`, compiled, and what it is told: which calls below a folder meet which fault."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest

SOURCE: Final = Path(__file__).with_name("shim.c")
# In the order of `enum call` in shim.c.
CALLS: Final = ("open", "write", "read", "fsync", "rename", "unlink", "mkdir", "truncate", "close", "flock")
# A fault is an errno, or what `shim.c` calls by these numbers.
FAULTS: Final = {
    "short": -1,  # fewer bytes than were asked for
    "kill": -2,  # the process is killed before the call
    "torn": -3,  # and in the midst of it
    "stop": -4,  # it is stopped before the call, until somebody lets it go on
    **{name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EROFS", "ENOLCK", "ENOSYS", "EACCES")},
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Which calls fail, and how.

    Attributes:
        calls: classes of calls, out of `CALLS`, that are counted.
        kind: one of `FAULTS`.
        first: the number of the first call that fails, from 1; 0 is none: every call is logged instead.
        every: 0 if it alone fails, 1 if all do from there on, n if each n-th does.
    """

    calls: tuple[str, ...]
    kind: str = "EIO"
    first: int = 0
    every: int = 0

    def __str__(self) -> str:
        which = {0: "", 1: " and all after it"}.get(self.every, f" and every {self.every} after it")
        return f"{self.kind} at {'/'.join(self.calls)} {self.first}{which}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compiled(folder: Path) -> Path:
    """The library to preload; skips the test where there is no compiler."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler: faults are put into calls by a library that is compiled here")
    library = folder / "shim.so"
    if not library.exists():
        command = [compiler, "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-o", library, SOURCE, "-ldl"]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"shim.c cannot be compiled here: {made.stderr.splitlines()[0]}")
    return library


def arm(folder: str, fault: dict[str, Any], log: str) -> None:
    """In a process that has the library preloaded: faults below `folder` from now on."""
    calls = sum(1 << CALLS.index(name) for name in fault["calls"])
    arguments = (
        *(os.fsencode(folder), ctypes.c_uint(calls), ctypes.c_long(fault["first"])),
        *(ctypes.c_long(fault["every"]), FAULTS[fault["kind"]], int(not fault["first"]), os.fsencode(log)),
    )
    ctypes.CDLL(None).faults_arm(*arguments)


def disarm() -> None:
    """No more faults."""
    ctypes.CDLL(None).faults_arm(None, 0, 0, 0, 0, 0, None)
