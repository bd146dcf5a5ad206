"""Workers end with their launcher, however early it is killed, and with no other process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from pipeline.units import launcher, worker
from storage import processes

ROOT = Path(__file__).parents[1]
TRIES = 12
# As Beam's runner starts them: through a shell, each from a thread that waits for its end. They wait for a
# launcher's port that nobody listens on, as those do whose launcher died before they had reached it.
LAUNCHER = """
import subprocess, sys, threading
from pipeline.units import worker
command = worker.command(2)
if sys.argv[1:] == ["shell"]:
    command += "; true"
started = [threading.Thread(target=lambda: subprocess.run(command, shell=True)) for _ in range(2)]
print("now", flush=True)
for thread in started:
    thread.start()
"""


def marked(mark: str) -> list[psutil.Process]:
    """Processes that have `mark` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def start(mark: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", LAUNCHER, *arguments],
        env={
            **os.environ,
            "MARK": mark,
            "PYTHONPATH": str(ROOT),
            "PIPELINE_OPTIONS": "{}",
            "CONTROL_API_SERVICE_DESCRIPTOR": "url: 'localhost:9'",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as told:
        assert told.readline() == "now\n"
    return process


def gone_within(mark: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not marked(mark)


@pytest.mark.parametrize("between", [[], ["shell"]], ids=["exec", "shell between"])
def test_a_launcher_killed_at_the_birth_of_its_workers_leaves_none(between: list[str]) -> None:
    rng = random.Random(4)
    born = 0
    mark = uuid.uuid4().hex
    try:
        for _ in range(TRIES if not between else 3):
            process = start(mark, *between)
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            born += len(marked(mark)) > 0
            process.wait()
        assert born > 0, "the launchers were killed before they had workers"
        assert gone_within(mark, 15), [p.cmdline() for p in marked(mark)]
    finally:
        for left in marked(mark):
            left.kill()


def test_workers_stay_while_the_launcher_lives() -> None:
    """Also where it is not their parent, and where it is process 1, as in a container."""
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("process 1 of a namespace of its own takes root and unshare")
    mark = uuid.uuid4().hex
    process = start(mark, "shell", prefix=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"))
    try:
        time.sleep(3 * launcher.POLL_SECONDS)
        alive = [p for p in marked(mark) if worker.MODULE in p.cmdline() and p.cmdline()[0] == sys.executable]
        assert len(alive) == 2
    finally:
        process.kill()
        process.wait()
    assert gone_within(mark, 15)


def test_a_process_is_known_by_its_start_too() -> None:
    me = launcher.named()
    assert launcher.lives(me)
    pid, _, started = me.partition(":")
    assert not launcher.lives(f"{pid}:{int(started) - 1}"), "the id was given out again"
    child = subprocess.Popen(["sleep", "60"])
    name = f"{child.pid}:{processes._started(child.pid)}"
    assert launcher.lives(name)
    child.kill()
    deadline = time.monotonic() + 10
    while launcher.lives(name) and time.monotonic() < deadline:
        time.sleep(0.01)
    # Killed, and nobody has waited for it: a zombie has the id still.
    assert Path(f"/proc/{child.pid}").exists()
    assert not launcher.lives(name)
    child.wait()
    assert not launcher.lives(name)
