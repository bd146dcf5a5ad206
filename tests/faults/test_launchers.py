"""A build that is killed as its workers are born leaves none of them, and the same command completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.faults import scenes, tries
from tests.faults.tries import Forker, Tally

pytestmark = pytest.mark.faults

_MARK = "MEMCORPUS_TEST_LAUNCHER"
# After the first worker is seen: before it runs Python, while it imports, as it asks for work, at work.
MILLISECONDS = (0, 20, 100, 500, 2000, 5000)
# A worker looks twice a second, once it has come so far.
GONE_SECONDS = 20.0


def born(mark: str, launcher: int) -> list[psutil.Process]:
    """All processes of a launcher but itself, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != launcher and process.environ().get(_MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("milliseconds", MILLISECONDS)
def test_no_worker_outlives_its_launcher(
    milliseconds: int,
    forker: Forker,
    build_command: list[str],
    built: Path,
    tmp_path: Path,
    tally: Tally,
) -> None:
    mark = uuid.uuid4().hex
    root = tmp_path / "corpus"
    options = ["--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *build_command, "--out", str(root), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, _MARK: mark},
    )
    try:
        while not (seen := psutil.Process(launcher.pid).children(recursive=True)):
            assert launcher.poll() is None, "the build ended before a worker was seen"
            time.sleep(0.001)
        time.sleep(milliseconds / 1000)
        launcher.send_signal(signal.SIGKILL)
        assert launcher.wait(30) == -signal.SIGKILL, "the build had ended before it was killed"
        assert seen
        deadline = time.monotonic() + GONE_SECONDS
        while (left := born(mark, launcher.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        tally.add("launcher", f"killed after {milliseconds} ms", "ORPHANS" if left else "no worker left")
        assert not left, [process.cmdline() for process in left]
    finally:
        launcher.kill()
        launcher.wait(30)
        for process in born(mark, launcher.pid):
            process.kill()
    assert not (root / "corpus.json").exists()
    tries.finish(forker, scenes.build(build_command, built), root)
