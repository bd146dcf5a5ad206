"""Compiled programs: counted, kept between processes, and never taken when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encoders import compiling
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders.tokenizing import Tokens

ROOT = Path(__file__).parents[1]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> compiling.Kept:
    monkeypatch.setattr(compiling.tempfile, "tempdir", str(tmp_path))
    found = compiling.Kept(tmp_path / "kept")
    (found.own / "a-cache").write_bytes(b"one program")
    (found.own / "b-cache").write_bytes(b"another")
    found.keep()
    return found


def test_what_is_kept_is_found_by_the_next_process(kept: compiling.Kept) -> None:
    again = compiling.Kept(kept.folder)
    assert again.own != kept.own
    assert {p.name: p.read_bytes() for p in again.own.iterdir()} == {
        "a-cache": b"one program",
        "b-cache": b"another",
    }


def test_a_damaged_program_is_not_taken(kept: compiling.Kept) -> None:
    path = kept.folder / "a-cache"
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert [p.name for p in compiling.Kept(kept.folder).own.iterdir()] == ["b-cache"]
        assert not path.exists()
    path.write_bytes(whole[:-1])
    assert [p.name for p in compiling.Kept(kept.folder).own.iterdir()] == ["b-cache"]


def test_half_written_entries_are_nobodys(kept: compiling.Kept) -> None:
    (kept.folder / ".c-cache.123").write_bytes(b"hal")
    assert len(list(compiling.Kept(kept.folder).own.iterdir())) == 2


def test_the_oldest_go_first(kept: compiling.Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(kept.folder / "a-cache", (1, 1))
    monkeypatch.setattr(compiling, "MOST_BYTES", 120)
    (kept.own / "c-cache").write_bytes(b"a third")
    kept.keep()
    assert sorted(p.name for p in kept.folder.iterdir()) == ["b-cache", "c-cache"]


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compiling.VARIABLE, compiling.OFF)
    assert compiling.kept_folder() is None
    monkeypatch.setenv(compiling.VARIABLE, str(tmp_path))
    found = compiling.kept_folder()
    assert found is not None
    assert found.parent == tmp_path
    monkeypatch.delenv(compiling.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = compiling.kept_folder()
    assert found is not None
    assert found.parent == tmp_path / "xdg/memcorpus/compiled"


def tokens_of(lengths: list[int]) -> Tokens:
    ids = np.random.default_rng(0).integers(3, 90, sum(lengths)).astype(np.int32)
    return Tokens(ids, np.cumsum([0, *lengths]), np.zeros(len(lengths), np.int64))


def test_no_shape_is_compiled_twice(models: Path) -> None:
    encoder = MemoryEncoder.load(models / "t5", MemorySpec(compute_dtype="float32", max_tokens=64))

    def encode(lengths: list[int]) -> int:
        tokens = tokens_of(lengths)
        spent = encoder.encode(tokens, np.empty((len(tokens.ids), encoder.width), np.float32))
        return spent.compiled + spent.loaded

    shard = [10, 20, 30, 40, 50] * 8
    assert encode(shard) > 0
    assert encode(shard) == 0
    assert encode(sorted(shard)) == 0
    # A length that no passage had until now costs its own shapes, a full batch's and that of a small one.
    assert 1 <= encode([*shard, 64]) <= 2


_PROCESS = """
import json, sys
import numpy as np
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders import compiling
compiling.LEAST_SECONDS = 0.0
encoder = MemoryEncoder.load(sys.argv[1], MemorySpec(compute_dtype="float32"))
tokens = encoder.tokenize(["The river rises in the hills.", "Tea is made of leaves."])
values = np.empty((len(tokens.ids), encoder.width), np.float32)
spent = encoder.encode(tokens, values)
print(json.dumps([spent.compiled, spent.loaded, values.tobytes().hex()]))
"""


def test_another_process_loads_what_this_one_compiled(models: Path, tmp_path: Path) -> None:
    environment = {**os.environ, compiling.VARIABLE: str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run() -> tuple[int, int, str]:
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, str(models / "t5")],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        compiled, loaded, values = json.loads(done.stdout)
        return compiled, loaded, values

    first, second = run(), run()
    assert first[0] > 0
    assert first[1] == 0
    assert second[:2] == (0, first[0])
    assert second[2] == first[2]
    for path in tmp_path.rglob("*-cache"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    third = run()
    assert third == first


_WAITING = """
import sys, time
from pathlib import Path
from encoders import compiling
kept = compiling.Kept(Path(sys.argv[1]))
(kept.own / "a-cache").write_bytes(b"half a prog")
print(kept.own, flush=True)
time.sleep(300)
"""


def waiting(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has its own copy in `temporary`, and works."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(temporary / "kept")],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_next_process_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling.tempfile, "tempdir", str(tmp_path))
    dead, left = waiting(tmp_path)
    alive, used = waiting(tmp_path)
    try:
        assert left.parent == used.parent == tmp_path
        compiling.remove_leftovers()
        assert left.is_dir()
        kill(dead)
        compiling.remove_leftovers()
        assert not left.exists()
        assert (used / "a-cache").read_bytes() == b"half a prog"
    finally:
        kill(alive)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_build_leaves_nothing_among_temporary_files(
    workers: int, even_source: Path, models: Path, tmp_path: Path
) -> None:
    """The real command, which ends without its exit handlers, and workers, which are killed."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    dead, left = waiting(temporary)
    kill(dead)
    assert left.is_dir()
    command = [
        *(sys.executable, "-m", "pipeline", "build", "--source", f"jsonl:{even_source}"),
        *("--out", str(tmp_path / "corpus"), "--retriever", str(models / "gtr")),
        *("--memory-encoder", str(models / "t5"), "--live-proportion", "1/3", "--shard-passages", "64"),
    ]
    if workers:
        command += ["--", "--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(ROOT),
        compiling.VARIABLE: str(tmp_path / "kept"),
    }
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert list((tmp_path / "kept").rglob("*-cache"))
    assert not list(temporary.glob("memcorpus-*"))
