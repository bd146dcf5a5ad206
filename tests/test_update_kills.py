"""Updates in a row, killed at random moments, with readers on old and new generations all the while."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import shutil
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.jobs.reencode import ReencodeSettings
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage import errors
from tests import editions, jobs
from tests.editions import Truth

pytestmark = pytest.mark.slow
UPDATES = int(os.environ.get("MEMCORPUS_UPDATES", "20"))
QUERIES = 3


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "statistics" not in path.parts
    }


def same(corpus: Corpus, straight: Path, rng: np.random.Generator, ids: Any = None) -> None:
    """Passages, memory and searches of a reader are those of a corpus that was never disturbed."""
    truth = open_corpus(straight, generation=corpus.generation)
    assert len(corpus) == len(truth)
    ids = rng.choice(truth.passage_ids, 6) if ids is None else ids
    assert corpus.passages(ids).equals(truth.passages(ids))
    for version in ("current", "small"):
        one, two = (c.memory(version).fetch(ids, decode=False) for c in (corpus, truth))
        assert one.values.tobytes() == two.values.tobytes()
    queries = rng.normal(size=(QUERIES, corpus.vectors_card.layout.dim)).astype("f4")
    one, two = (c.search(queries, 7) for c in (corpus, truth))
    assert one.passage_ids.tolist() == two.passage_ids.tolist()
    assert truth.tombstones.are_there(one.passage_ids).all()


def read_for_ever(root: Path, straight: Path, checked: Any, wrong: Any) -> None:
    """The newest generation, opened over and over, and all that were opened before."""
    rng = np.random.default_rng(os.getpid())
    opened: list[Corpus] = []
    while True:
        try:
            corpus = open_corpus(root)
            if not opened or opened[-1].generation != corpus.generation:
                opened.append(corpus)
            for one in (corpus, opened[int(rng.integers(len(opened)))]):
                same(one, straight, rng)
                checked.value += 1
        except BaseException:
            wrong.put(traceback.format_exc())
            return


def act(root: Path, source: str) -> None:
    """An update, in a process that may be killed at any moment."""
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    with contextlib.suppress(errors.CorpusError):
        jobs.update(root, source)


def test_updates_that_are_killed_come_to_the_same_corpus(live: Path, tmp_path: Path) -> None:
    jobs.reencode(live, ReencodeSettings(origin="current", codec="turbo4", name="small"))
    straight = Path(shutil.copytree(live, tmp_path / "straight"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_update_kills", "pipeline.jobs.update"])
    checked, wrong = context.Value("q", 0), context.Queue()
    reader = context.Process(target=read_for_ever, args=(live, straight, checked, wrong), daemon=True)
    reader.start()
    rng = random.Random(11)
    truth, edition = Truth(), editions.first(1, 60)
    truth.take(editions.passages(edition))
    kills = 0
    seconds = 5.0
    for number in range(1, UPDATES + 1):
        edition = editions.edited(edition, 100 + number, share=0.05)
        source = editions.write(edition, tmp_path / f"edition-{number}.jsonl")
        counts = truth.take(editions.passages(edition))
        done = jobs.update(straight, source)
        assert {name: done.counts[name] for name in counts} == counts
        for _ in range(3):
            began = time.monotonic()
            child = context.Process(target=act, args=(live, source))
            child.start()
            child.join(rng.uniform(0, 1.2 * seconds))
            child.kill()
            child.join()
            if child.exitcode == -signal.SIGKILL:
                kills += 1
            else:
                seconds = 0.5 * seconds + 0.5 * (time.monotonic() - began)
            assert jobs.verify(live, full=False).ok
            assert jobs.manifest(live).generation in (number - 1, number)
        jobs.update(live, source)
        assert content(live) == content(straight), number
        corpus = open_corpus(live)
        assert corpus.passage_ids.tolist() == truth.live
        assert wrong.empty(), wrong.get()
    same(open_corpus(live), straight, np.random.default_rng(0), np.array(truth.live))
    for generation in range(UPDATES):
        same(open_corpus(live, generation=generation), straight, np.random.default_rng(generation))
    assert reader.is_alive()
    # What is opened before a compaction goes on; what is opened after it answers the same.
    before = open_corpus(live)
    done = jobs.compact(live)
    same(open_corpus(live), straight, np.random.default_rng(1), np.array(truth.live))
    same(before, straight, np.random.default_rng(1), np.array(truth.live))
    time.sleep(3)
    assert wrong.empty(), wrong.get()
    reader.kill()
    reader.join()
    del before, corpus
    gc.collect()
    jobs.collect(live)
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])
    same(open_corpus(live), straight, np.random.default_rng(2), np.array(truth.live))
    print(f"\n{UPDATES} updates, {kills} kills, {checked.value:,} readings compared; {done}")
    assert kills > UPDATES / 2
    assert checked.value > UPDATES
