"""A job that is killed while it clears up after itself: the same command finishes the clearing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts.statistics import RunFold
from pipeline.components.index.card import CommitIndex
from pipeline.components.memory.version import CommitMemory
from pipeline.jobs.reencode import ReencodeSettings
from storage import files, work_folder
from storage.work_folder import WorkFolder
from tests import jobs
from tests.test_build import content

# Of a clearing's many removals, so many are tried: the first ones, the last ones, and some between.
TRIED = 9


class Killed(BaseException):
    pass


def cut_off_at(monkeypatch: pytest.MonkeyPatch, call: int) -> Callable[[], int]:
    """Have the removal number `call` of a process fail, and count them."""
    made = 0

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def remove(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            if made == call:
                raise Killed
            made += 1
            return function(*arguments, **options)

        return remove

    for name in ("unlink", "rmdir", "remove"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return lambda: made


def damaged(root: Path) -> None:
    path = next((root / "memory").glob("*/values/c/1/0/0"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["build", "reencode", "gc", "repair"])
def test_killed_at_each_step_of_the_clearing(
    kind: str, corpus: Path, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "corpus"
    recoding = ReencodeSettings(origin="current", codec="int8", name="small")
    run: dict[str, Callable[[], object]] = {
        "build": lambda: jobs.build(settings, root),
        "reencode": lambda: jobs.reencode(root, recoding),
        "gc": lambda: jobs.collect(root, unfinished=True),
        "repair": lambda: jobs.repair(root),
    }
    if kind != "build":
        shutil.copytree(corpus, root)
    if kind == "repair":
        damaged(root)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    # To the moment before the clearing.
    with monkeypatch.context() as patch:
        if kind == "gc":
            patch.setattr("pipeline.jobs.commit.commit", killed)
            with pytest.raises(Killed):
                run["reencode"]()
        patch.setattr(WorkFolder, "remove", killed)
        with pytest.raises(Killed):
            run[kind]()
    assert (root / work_folder.NAME / work_folder.PLAN).exists()
    before = tmp_path / "before"
    shutil.copytree(root, before)
    # How many steps there are.
    with monkeypatch.context() as patch:
        steps = cut_off_at(patch, -1)
        run[kind]()
        count = steps()
    whole = content(root)
    assert count >= 4
    spread = {*range(3), *range(3, count - 3, max(1, count // (TRIED - 6))), *range(count - 3, count)}
    for call in sorted(spread):
        shutil.rmtree(root)
        shutil.copytree(before, root)
        with monkeypatch.context() as patch:
            cut_off_at(patch, call)
            with pytest.raises(Killed):
                run[kind]()
        run[kind]()
        assert not (root / work_folder.NAME).exists(), f"killed at removal {call} of {count}"
        assert content(root) == whole


@pytest.mark.parametrize(
    ("kind", "where", "step"),
    [
        ("build", CommitMemory, "finish"),
        ("build", CommitIndex, "__init__"),
        ("build", RunFold, "finish"),
        ("reencode", RunFold, "add"),
        ("reencode", CommitMemory, "add"),
        ("reencode", CommitMemory, "finish"),
    ],
)
def test_a_commit_that_fails_leaves_nothing_half_written(
    kind: str,
    where: type,
    step: str,
    corpus: Path,
    settings: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Statistics and lists of files grow while receipts are read: an error between takes them away."""
    root = tmp_path / "corpus"
    recoding = ReencodeSettings(origin="current", codec="int8", name="small")
    if kind != "build":
        shutil.copytree(corpus, root)

    def run() -> None:
        if kind == "build":
            jobs.build(settings, root)
        else:
            jobs.reencode(root, recoding)

    def failing(*_: object, **__: object) -> None:
        open_then.extend(files.leftovers(root))
        raise OSError(errno.EIO, "broken")

    open_then: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(where, step, failing)
        with pytest.raises(OSError, match="broken"):
            run()
    assert open_then, "nothing was half written when it failed"
    assert list(files.leftovers(root)) == []
    run()
    assert list(files.leftovers(root)) == []
    assert jobs.verify(root, full=False).strays == []
