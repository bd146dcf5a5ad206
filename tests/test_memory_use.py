"""The memory that a build takes does not grow with the corpus. Minutes long."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.miniwiki.export import write_dump

pytestmark = pytest.mark.slow


def peak_mib(articles: int, models: Path, folder: Path) -> tuple[int, float]:
    """Passages of a build in a process of its own, and the most memory it had."""
    dump = write_dump(folder / f"{articles}.xml", articles=articles, form="xml")
    command = [
        *("-m", "pipeline", "build", "--source", f"mediawiki:{dump.path}", "--out", str(folder / "out")),
        *("--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--shard-passages", "512", "--split-bytes", "1000000"),
    ]
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, *sys.argv[1:]], check=True, capture_output=True, text=True)\n"
        "print(done.stdout)\n"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, timeout=1500
    )
    passages = int(re.search(r"([\d,]+) passages, [\d.,]+ s\n", done.stdout)[1].replace(",", ""))
    return passages, int(done.stdout.split("peak ")[1]) / 1024


def test_peak_memory_is_flat(models: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    few, small = peak_mib(1_000, models, tmp_path / "a")
    many, large = peak_mib(20_000, models, tmp_path / "b")
    print(f"{few:,} passages: {small:,.0f} MiB; {many:,} passages: {large:,.0f} MiB")
    assert many > 10 * few
    assert large < 1.1 * small
