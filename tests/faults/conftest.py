"""Corpora that faults are tried on, and the lines that tell of the tries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.miniwiki.export import write_dump
from tests.faults import shim, tries
from tests.faults.tries import Forker, Tally

_TALLY = Tally()


@pytest.fixture(scope="session")
def tally() -> Tally:
    """What is told at the end, a line a class."""
    return _TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := list(_TALLY.lines()):
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim.compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def forker(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    started = Forker(library, tmp_path_factory.mktemp("forker"))
    # Others may hold a lock when it forks.
    assert set(started.threads) <= {"python", "python3", "jemalloc_bg_thd"}
    yield started
    started.close()


@pytest.fixture(scope="session")
def build_command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a corpus of a few shards. All its batches have 16 tokens: little is to be compiled."""
    from tests import small_models

    folder = tmp_path_factory.mktemp("sources")
    dump = write_dump(folder, articles=40, pages_per_stream=20)
    small_models.make_t5_folder(folder / "t5", layers=3, seed=1)
    small_models.make_gtr_folder(folder / "gtr", layers=1, max_seq_length=16, seed=2)
    return [
        *("build", "--source", f"mediawiki:{dump.path}", "--live-proportion", "1/3"),
        *("--retriever", str(folder / "gtr"), "--memory-encoder", str(folder / "t5")),
        *("--compute-dtype", "float32", "--max-tokens", "16", "--token-budget", "256"),
        *("--shard-passages", "64", "--split-bytes", "15000"),
    ]


@pytest.fixture(scope="session")
def built(forker: Forker, build_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written without a fault; tests must not change it."""
    root = tmp_path_factory.mktemp("built") / "corpus"
    ended = forker.run([*build_command, "--out", root], root)
    assert ended.status == 0, ended.told
    return root


@pytest.fixture(scope="session")
def versioned(forker: Forker, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a second version, `small`, that was recoded from the first."""
    root = tmp_path_factory.mktemp("versioned") / "corpus"
    shutil.copytree(built, root)
    ended = forker.run(["reencode", root, "--from", "current", "--codec", "int8", "--as", "small"], root)
    assert ended.status == 0, ended.told
    assert tries.leftovers(root) == []
    return root
