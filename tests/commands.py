"""The command line and other programs as tests call them; `conftest` has the fixture `command`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# (arguments) -> exit status, stdout, stderr.
Command = Callable[..., tuple[int, str, str]]


def refused(command: Command, arguments: list[Any], *words: str) -> None:
    """Bad input: status 2, nothing printed but one line on stderr that has these words."""
    status, out, err = command(*arguments)
    assert status == 2, (status, out, err)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    for word in words:
        assert word in err


def program(module: str, *arguments: object, seconds: float, **environment: str) -> tuple[int, str]:
    """Run a module in a group of processes that is killed if it hangs: (status, what it said)."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return -signal.SIGKILL, said
    return process.returncode, said
