"""Repairs by shard: named ones alone, by workers, gone on with after a kill; the bytes are as before."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.units import engines
from storage import files
from storage.folder import CorpusFolder
from tests import editions, jobs
from tests.test_checking import Scattered, findings, plain

ROOT = Path(__file__).parents[1]


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def flip(path: Path, at: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // at] ^= 0x10
    path.write_bytes(data)


def shards_of(root: Path) -> list[Path]:
    """Of the current version, in order of their numbers."""
    found = root.glob(f"memory/{jobs.manifest(root).version(None)}/values/c/*/0/0")
    return sorted(found, key=lambda path: int(path.parts[-3]))


def test_named_shards_are_made_again_and_nothing_else_is_read(
    corpus_copy: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    before = content(corpus_copy)
    shards = shards_of(corpus_copy)
    flip(shards[0])
    shards[1].unlink()
    (vectors,) = corpus_copy.glob("vectors/*/c/1/0")
    flip(vectors)
    read: list[Path] = []
    real = files.measure
    monkeypatch.setattr(files, "measure", lambda path: (read.append(path), real(path))[1])
    status, out, err = command("repair", corpus_copy, "--shard", "1-2")
    assert status == 0, err
    names = [path.relative_to(corpus_copy).as_posix() for path in (shards[1], vectors)]
    assert sorted(out.split()) == sorted(["repaired:", *names[:1], "repaired:", *names[1:]])
    assert shards[3] not in read
    assert shards[0] not in read
    assert plain(corpus_copy).damaged[0].startswith(shards[0].relative_to(corpus_copy).as_posix())
    assert command("repair", corpus_copy, "--shard", "3")[:2] == (0, "nothing is damaged\n")
    assert jobs.repair(corpus_copy, shards=["0"]).left == []
    assert content(corpus_copy) == before


class Killed(BaseException):
    pass


def test_what_a_killed_repair_has_made_is_not_made_again(
    corpus_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(corpus_copy)
    shards = shards_of(corpus_copy)[:4]
    for path in shards:
        flip(path)
    made: list[Any] = []
    taken: list[str] = []
    from pipeline.components.memory.encode import EncodeShards

    real, take = EncodeShards.finish, CorpusFolder.take

    def finish(self: EncodeShards, unit: int, *arguments: Any) -> Any:
        if len(made) == 2:
            raise Killed
        made.append(unit)
        return real(self, unit, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EncodeShards, "finish", finish)
        with pytest.raises(Killed):
            jobs.repair(corpus_copy, engine=Here())
    assert jobs.unfinished(corpus_copy) is None
    assert made == [0, 1]

    def some(self: CorpusFolder, path: Path, entry: Any) -> bool:
        if len(taken) == 1:
            raise Killed
        taken.append(entry.path)
        return take(self, path, entry)

    made.clear()

    def counting(self: EncodeShards, unit: int, *arguments: Any) -> Any:
        made.append(unit)
        return real(self, unit, *arguments)

    monkeypatch.setattr(EncodeShards, "finish", counting)
    with monkeypatch.context() as patch:
        patch.setattr(CorpusFolder, "take", some)
        with pytest.raises(Killed):
            jobs.repair(corpus_copy, engine=Here())
    assert made == [2, 3]
    outcome = jobs.repair(corpus_copy, engine=Here())
    assert made == [2, 3]
    assert len(outcome.repaired) == 3
    assert content(corpus_copy) == before


class Here(Scattered):
    """As an engine of one worker: units in order, in this process."""

    def run(self, job: Any, units: Any, on_poll: Any) -> None:
        from pipeline.units import overlap

        overlap.run_units(job, units)


@pytest.mark.slow
def test_every_component_of_every_generation_by_workers(
    live: Path, models: Path, tmp_path: Path, first_edition: Any
) -> None:
    """One byte of each file in turn, checked by workers; then of many at once, repaired by workers."""
    second = editions.edited(first_edition, 1)
    jobs.update(live, editions.write(second, tmp_path / "second.jsonl"))
    before = content(live)
    assert any(name.startswith("generations/0001/memory/") for name in before)
    rng = random.Random(0)
    for name in sorted(before):
        path = live / name
        path.write_bytes(before[name][:-1] if rng.random() < 0.3 or not before[name] else b"")
        if path.read_bytes() != before[name] and name != "corpus.json":
            found = jobs.verify_job(live, full=True, engine=Scattered())
            assert findings(found) == findings(plain(live)), name
        path.write_bytes(before[name])
    for pattern in ("memory/*/values/c/*/0/0", "vectors/*/c/*/0", "memory/*/offsets/c/0/0"):
        for path in live.rglob(pattern):
            flip(path)
    options = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    outcome = jobs.repair(live, engine=engines.chosen(None, options))
    assert outcome.left == []
    assert content(live) == before


@pytest.mark.slow
def test_repairs_that_are_killed_at_random_moments(corpus_copy: Path, models: Path, tmp_path: Path) -> None:
    before = content(corpus_copy)
    rng = random.Random(5)
    killed = 0
    for path in (
        *shards_of(corpus_copy),
        *corpus_copy.glob("vectors/*/c/*/0"),
        *corpus_copy.glob("index/*/*.faiss"),
    ):
        flip(path)

    def repairing(root: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "repair", str(root)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # How long it takes undisturbed, on this machine.
    began = time.monotonic()
    assert repairing(Path(shutil.copytree(corpus_copy, tmp_path / "undisturbed"))).wait() == 0
    whole = time.monotonic() - began
    for _ in range(6):
        process = repairing(corpus_copy)
        time.sleep(whole * rng.uniform(0.3, 0.8))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed > 2
    assert jobs.repair(corpus_copy).left == []
    assert content(corpus_copy) == before
