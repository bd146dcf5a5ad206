"""Real kills of real builds, at random moments; the same command ends with the same bytes. Minutes long."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from examples.miniwiki.export import DumpTruth
from pipeline.units import worker
from tests.test_build import content

pytestmark = pytest.mark.slow


def start(dump: DumpTruth, models: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "pipeline", "build", "--source", f"mediawiki:{dump.path}"),
        *("--out", str(out), "--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--shard-passages", "64", "--split-bytes", "20000"),
        *("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if worker.MODULE in child.cmdline()]
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def uninterrupted(
    dump: DumpTruth, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    out = tmp_path_factory.mktemp("whole") / "corpus"
    began = time.monotonic()
    process = start(dump, models, out)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return content(out), time.monotonic() - began


@pytest.mark.parametrize("victim", ["main", "worker"])
def test_ten_kills_at_random_moments(
    victim: str,
    uninterrupted: tuple[dict[str, bytes], float],
    dump: DumpTruth,
    models: Path,
    tmp_path: Path,
) -> None:
    expected, seconds = uninterrupted
    rng = random.Random(victim)
    killed = 0
    for number in range(10):
        out = tmp_path / f"corpus-{number}"
        process = start(dump, models, out)
        # Workers live from about the second second on; before it there is nobody to kill.
        time.sleep(rng.uniform(0.0 if victim == "main" else 2.5, seconds))
        if victim == "main":
            gone = process.poll() is not None
            if not gone:
                process.send_signal(signal.SIGKILL)
        else:
            found = workers(process)
            gone = not found
            if found:
                os.kill(rng.choice(found).pid, signal.SIGKILL)
        killed += not gone
        left = workers(process)
        text, _ = process.communicate(timeout=120)  # an error or an end, never a hang
        if victim == "worker" and not gone and process.returncode:
            assert process.returncode == 1
            assert "a worker process died" in text
        psutil.wait_procs(left, timeout=10)
        if process.returncode:
            again = start(dump, models, out)
            text, _ = again.communicate(timeout=300)
            assert again.returncode == 0, text
        assert content(out) == expected
        shutil.rmtree(out)
    assert killed >= 5
