"""Closed and broken standard streams: the right status, and no line that is not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests/golden/format-1"


def shell(arguments: str, redirection: str, tmp_path: Path) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command of ours, redirected by bash."""
    script = f"{sys.executable} -P -m pipeline {arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirection", "status", "words"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("> /dev/full", 1, "memcorpus: no space left"),
        ("| true", 1, ""),
    ],
)
def test_results_that_cannot_be_written(redirection: str, status: int, words: str, tmp_path: Path) -> None:
    found, out, err = shell(f"info {CORPUS} --json", redirection, tmp_path)
    assert found == status, err
    assert len(err.splitlines()) <= 1
    assert err.startswith(words)
    assert bool(err) == bool(words)
    if redirection != "2>/dev/full":
        assert not out


@pytest.mark.parametrize("arguments", ["info nowhere", "info", "nonsense"])
@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", "2>/dev/full", "2> >(true)"])
def test_errors_that_cannot_be_told(arguments: str, redirection: str, tmp_path: Path) -> None:
    assert shell(arguments, redirection, tmp_path) == (2, "", "")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what a library prints would be written into it."""
    code = (
        "from pipeline.cli import streams; streams.settle()\n"
        "import os, sys\n"
        "file = open(sys.argv[1], 'w')\n"
        "null = os.stat('/dev/null').st_rdev\n"
        "print(file.fileno(), [os.fstat(n).st_rdev == null for n in (0, 1, 2)], file=file)\n"
        "sys.stdin.read(), print('x'), print('x', file=sys.stderr)\n"
    )
    told = tmp_path / "told"
    done = subprocess.run(
        ["bash", "-c", f'exec {sys.executable} -c "$CODE" {told} <&- >&- 2>&-'],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CODE": code},
    )
    assert done.returncode == 0
    number, _, same = told.read_text().partition(" ")
    assert int(number) > 2
    assert same == "[True, True, True]\n"
