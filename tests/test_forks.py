"""Readers in forked and spawned processes, as PyTorch's DataLoader starts them: right, or refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import open_corpus
from storage import errors, tensorstore_use
from storage.thread_locks import ThreadLock
from tests import object_store

ROOT = Path(__file__).parents[1]


def load(*arguments: str | Path, seconds: float = 150) -> tuple[int, str]:
    """Run `tests.loading` in a group of processes that is killed if it hangs: (status, what it said)."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.loading", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return -signal.SIGKILL, said
    return process.returncode, said


def in_child(action: Callable[[], Any], seconds: float = 30) -> str:
    """What `action` gives in a forked process, as a string; "hangs" or "aborted" where it does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = f"{action()}"
        except BaseException as e:
            answer = f"{type(e).__name__}: {e}"
        os.write(write, answer.encode()[:4000])
        os._exit(0)
    os.close(write)
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with os.fdopen(read, "rb") as pipe:
            answer = pipe.read().decode()
        _, status = os.waitpid(child, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if os.WIFSIGNALED(status):
        return "hangs" if os.WTERMSIG(status) == signal.SIGKILL else "aborted"
    return answer


@pytest.mark.parametrize(
    ("method", "loaders", "flags"),
    [
        # A worker is forked 12 times while other threads read: each time some lock is held.
        ("fork", 6, ("--opened", "--busy")),
        ("fork", 1, ("--vectors",)),
        ("spawn", 1, ("--vectors",)),
    ],
)
def test_loaders_of_a_local_corpus(
    corpus: Path, tmp_path: Path, method: str, loaders: int, flags: tuple[str, ...]
) -> None:
    status, said = load(method, str(loaders), corpus, corpus, tmp_path, *flags)
    assert status == 0, said
    assert said.splitlines()[-1] == f"{40 * loaders} items, 0 wrong"


@pytest.fixture(scope="module")
def bucket(corpus: Path) -> Iterator[Any]:
    with object_store.serving(corpus) as client:
        yield client


@pytest.mark.parametrize(("method", "flags"), [("fork", ()), ("spawn", ())])
def test_loaders_of_a_corpus_in_an_object_store(
    bucket: Any, corpus: Path, tmp_path: Path, method: str, flags: tuple[str, ...]
) -> None:
    status, said = load(method, "1", object_store.URL, corpus, tmp_path, "--vectors", *flags)
    assert status == 0, said
    assert said.splitlines()[-1] == "40 items, 0 wrong"


def test_a_child_of_a_process_that_read_an_object_store_is_refused(
    bucket: Any, corpus: Path, tmp_path: Path
) -> None:
    """TensorStore would abort it."""
    status, said = load("fork", "1", object_store.URL, corpus, tmp_path, "--opened")
    assert status == 1
    assert "aborting" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("storage.errors.CorpusError: s3://")
    assert "start processes by spawn (PyTorch: multiprocessing_context='spawn')" in last


@pytest.mark.filterwarnings("ignore")  # JAX's, where another test has loaded it: the child uses none of it
def test_a_child_reads_what_its_parent_has_open(corpus: Path) -> None:
    opened = open_corpus(corpus)
    memory = opened.memory()
    many = np.random.default_rng(3).normal(size=(2000, opened.vectors_card.layout.dim)).astype(np.float32)

    def read() -> list[float]:
        return [
            float(memory.fetch([3, 70]).values.astype(np.float32).sum()),
            float(opened.search(many, 5).passage_ids.sum()),
            len(opened.passages([3, 70])["text"][1].as_py()),
        ]

    right = read()
    assert right[1] > 0
    assert in_child(read) == str(right)


@pytest.mark.filterwarnings("ignore")
def test_a_child_is_refused_what_would_abort_it(corpus: Path) -> None:
    opened = open_corpus(corpus)
    opened.vectors().read(0, 2)
    answer = in_child(lambda: opened.vectors().read(0, 2))
    assert answer.startswith("CorpusError")
    assert "spawn" in answer
    assert "\n" not in answer
    # This process goes on as before.
    tensorstore_use.begin("anything")
    assert opened.vectors().read(0, 2).shape[0] == 2


@pytest.mark.filterwarnings("ignore")
def test_locks_are_free_in_a_child(corpus: Path) -> None:
    """Whoever holds them at the fork is not there to release them: all that readers of ours ever wait for."""
    from retrieval import index
    from storage import descriptors

    opened = open_corpus(corpus)
    memory = opened.memory()
    held = [opened._lock, opened._searcher._lock, opened._table._lock, memory._decoding._loading]
    held += [index._READING, descriptors.OPEN._lock]
    assert all(isinstance(lock, ThreadLock) for lock in held)
    for lock in held:
        assert lock.try_acquire()
    try:
        answer = in_child(
            lambda: (
                len(memory.fetch([1])),
                opened.passages([1]).num_rows,
                opened.search(np.ones((1, opened.vectors_card.layout.dim), np.float32), 2).passage_ids.size,
            )
        )
    finally:
        for lock in held:
            lock.release()
    assert answer == "(1, 1, 2)"


def test_errors_of_a_worker_can_be_pickled() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(errors.UnreadableError("x cannot be read", 5)))
    assert isinstance(again, errors.UnreadableError)
    assert str(again) == "x cannot be read"
