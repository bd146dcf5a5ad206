"""Real kills of reencode, use, gc and repair, at random moments, with readers fetching all the while."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.jobs.reencode import ReencodeSettings
from retrieval import open_corpus
from storage import components, errors, manifest
from storage.folder import CorpusFolder
from tests import jobs
from tests.jobs import verify as verification

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("MEMCORPUS_KILLS", "60"))
CODECS = ("turbo4", "turbo2", "float16", "float32")


def recoded(root: Path, codec: str) -> str:
    return jobs.reencode(root, ReencodeSettings(origin="base", codec=codec, name=codec))[1]


@pytest.fixture(scope="module")
def versioned(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every version there will be, written without an interruption."""
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("versioned") / "corpus"))
    jobs.use(root, "current", alias="base")
    for codec in CODECS:
        recoded(root, codec)
    return root


def files_of(root: Path, version: str) -> dict[str, bytes]:
    folder = root / components.MEMORY.folder(version)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def damage(root: Path, rng: random.Random) -> str:
    """Flip a byte of a recoded version, if there is one. Returns which version."""
    found = jobs.manifest(root)
    base = found.version("base")
    others = [name for name in found.versions if name != base]
    if not others:
        return ""
    version = rng.choice(others)
    path = rng.choice(sorted((root / components.MEMORY.folder(version)).glob("values/c/*/0/0")))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 0x10
    # Not in place: what a reader has checked once it does not check again.
    aside = path.with_name("flipped")
    aside.write_bytes(data)
    aside.replace(path)
    return version


def read_for_ever(root: Path, versioned: Path, fetched: Any, wrong: Any) -> None:
    """Open, fetch, compare, over and over: the right numbers of the version it says, or an error."""
    whole = open_corpus(versioned)
    # Rows as they are stored: what they decode to may differ in the last bit with how many there are.
    everything = range(len(whole))
    truth = {
        name: list(whole.memory(name).fetch(everything, decode=False)) for name in whole.manifest.versions
    }
    rng = np.random.default_rng(os.getpid())
    pinned = open_corpus(root).memory("base")
    while True:
        try:
            corpus = open_corpus(root)
            reader = corpus.memory(str(rng.choice([*corpus.manifest.versions, "current"])))
            for _ in range(5):
                ids = rng.integers(0, reader.passages, 6)
                for one in (reader, pinned):
                    memory = one.fetch(ids, decode=False)
                    for i, values in zip(ids, memory, strict=True):
                        if not np.array_equal(values, truth[one.version][i]):
                            raise AssertionError(f"passage {i} of {one.version} has other numbers")
                    fetched.value += 1
        except errors.CorpusError:
            continue  # removed meanwhile, or the byte that was flipped
        except BaseException:
            wrong.put(traceback.format_exc())
            return


def remove(root: Path, codec: str) -> None:
    """Take a version's names away, and collect it."""
    jobs.use(root, "base")
    for alias in set(jobs.manifest(root).aliases) & {codec, manifest.PREVIOUS}:
        jobs.forget(root, alias)
    jobs.collect(root)


def act(kind: str, root: Path, codec: str, seed: int) -> None:
    """One operation, in a process that may be killed at any moment."""
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    rng = random.Random(seed)
    with contextlib.suppress(errors.CorpusError):
        if kind == "recode":
            recoded(root, codec)
        elif kind == "use":
            jobs.use(root, rng.choice(list(jobs.manifest(root).memory)))
        elif kind == "gc":
            remove(root, codec)
        else:
            jobs.repair(root)


def test_no_reader_ever_sees_a_torn_version(versioned: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(versioned, tmp_path / "corpus"))
    whole = open_corpus(versioned)
    names = {alias: whole.manifest.version(alias) for alias in ("base", *CODECS)}
    expected = {name: files_of(versioned, name) for name in whole.manifest.versions}
    passages = {p: p.read_bytes() for p in (root / "passages").iterdir()}

    # Forked from a clean process that has everything imported: a hundredth of a second each.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_kill_versions"])
    fetched, wrong = context.Value("q", 0), context.Queue()
    readers = [
        context.Process(target=read_for_ever, args=(root, versioned, fetched, wrong), daemon=True)
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()

    rng = random.Random(5)
    kills = done = 0
    counts: Counter[str] = Counter()
    # Seconds that each takes; corrected by what is measured.
    durations = {"recode": 2.0, "use": 0.2, "gc": 0.3, "repair": 2.0}
    while kills < KILLS:
        kind = rng.choice(("recode", "recode", "recode", "use", "gc", "repair"))
        codec = rng.choice(CODECS)
        if kind == "repair" and not damage(root, rng):
            continue
        if kind == "recode":
            remove(root, codec)  # if no reader has it open
        began = time.monotonic()
        child = context.Process(target=act, args=(kind, root, codec, rng.randrange(10**6)))
        child.start()
        child.join(rng.uniform(0, 1.3 * durations[kind]))
        child.kill()
        child.join()
        killed = child.exitcode == -signal.SIGKILL
        if not killed:
            durations[kind] = 0.7 * durations[kind] + 0.3 * (time.monotonic() - began)
        counts[kind] += killed
        kills += killed
        found = jobs.manifest(root)
        assert found.version("base") == names["base"]
        # What was damaged is repaired, so that nothing is but what the next step does.
        if kind == "repair":
            assert jobs.repair(root).left == []
        assert verification(root, full=False).ok
        for name in found.versions:
            assert files_of(root, name) == expected[name], (kind, name)
        # It goes on where it was, or is there.
        if killed and kind == "recode" and CorpusFolder(root).work.has_plan():
            done += 1
            recoded(root, codec)
            assert files_of(root, names[codec]) == expected[names[codec]]
        assert wrong.empty(), wrong.get()
    for reader in readers:
        assert reader.is_alive()
        reader.kill()
    assert {p: p.read_bytes() for p in passages} == passages
    assert verification(root, full=True).ok
    print(f"\n{kills} kills {dict(counts)}, {done} re-encodings resumed,", end=" ")
    print(f"{fetched.value:,} fetches compared meanwhile")
    assert fetched.value > 100
    assert done > 0
