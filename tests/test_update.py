"""Updates: what is unchanged stays, what is new is as a build makes it, what has gone says so."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.memory_spec import MemorySpec
from retrieval import open_corpus
from storage import components, errors
from tests import editions, jobs
from tests.editions import Truth


@pytest.fixture(scope="session")
def first_edition() -> editions.Edition:
    return editions.first(1, 60)


@pytest.fixture(scope="session")
def live_settings(models: Path, first_edition: editions.Edition, tmp_path_factory: Any) -> Any:
    from pipeline.components.settings import BuildSettings

    source = editions.write(first_edition, tmp_path_factory.mktemp("editions") / "first.jsonl")
    return BuildSettings(
        sources=(source,),
        retriever=str(models / "gtr"),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
        shard_passages=64,
        split_bytes=4000,
    )


@pytest.fixture(scope="session")
def _live(live_settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.build(live_settings, tmp_path_factory.mktemp("live") / "corpus").corpus.root


@pytest.fixture
def live(_live: Path, tmp_path: Path) -> Path:
    """A corpus of the first edition."""
    return Path(shutil.copytree(_live, tmp_path / "corpus"))


def content(root: Path, below: str = "") -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted((root / below).rglob("*"))
        if p.is_file() and "statistics" not in p.parts
    }


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in root.rglob("*")
        if p.is_file()
    }


def said(rows: Any) -> list[editions.Said]:
    return [(r["page_id"], r["title"], tuple(r["section"]), r["text"]) for r in rows.to_pylist()]


def test_an_update_keeps_what_is_unchanged_and_adds_what_is_new(
    live: Path, live_settings: Any, first_edition: editions.Edition, tmp_path: Path
) -> None:
    truth = Truth()
    truth.take(editions.passages(first_edition))
    second = editions.edited(first_edition, 7)
    source = editions.write(second, tmp_path / "second.jsonl")
    before = stamps(live)
    old = open_corpus(live)
    old_rows = said(old.passages(range(len(old))))
    assert old_rows == truth.said

    done = jobs.update(live, source)
    counts = truth.take(editions.passages(second))
    assert 0 < counts["added"] < counts["kept"]
    assert 0 < counts["vanished"]
    assert {name: done.counts[name] for name in counts} == counts
    assert (done.generation, done.already) == (1, False)
    # Not one file of the build is touched, but for the manifest.
    after = stamps(live)
    assert {k: v for k, v in after.items() if k in before and k != "corpus.json"} == {
        k: v for k, v in before.items() if k != "corpus.json"
    }
    corpus = open_corpus(live)
    assert corpus.passage_ids.tolist() == truth.live
    assert (len(corpus), corpus.ids_given) == (len(truth.live), len(truth.said))
    assert said(corpus.passages(truth.live)) == [truth.said[i] for i in truth.live]
    assert corpus.passages(truth.live)["passage_id"].to_pylist() == truth.live

    # The segment is a corpus of the new passages, byte for byte.
    added = range(counts["old"], len(truth.said))
    pages = {f"{i}": truth.said[i] for i in added}
    lines = {k: editions.Page(s[1], [(s[2], s[3])]) for k, s in pages.items()}
    alone = editions.write(lines, tmp_path / "alone.jsonl")
    direct = jobs.build(dataclasses.replace(live_settings, sources=(alone,)), tmp_path / "alone").corpus.root
    for below in ("vectors", "memory"):
        assert content(live / "generations/0001", below) == {
            f"{name}": data for name, data in content(direct, below).items()
        }
    # And within rounding of a fresh build of the new dump.
    fresh = open_corpus(
        jobs.build(dataclasses.replace(live_settings, sources=(source,)), tmp_path / "fresh").corpus.root
    )
    theirs = said(fresh.passages(range(len(fresh))))
    order = [theirs.index(truth.said[i]) for i in truth.live]
    ours = corpus.memory().fetch(truth.live)
    for mine, other in zip(ours, fresh.memory().fetch(order), strict=True):
        np.testing.assert_allclose(np.asarray(mine, np.float32), np.asarray(other, np.float32), atol=0.02)
    np.testing.assert_allclose(
        corpus.vectors().take(np.array(truth.live)), fresh.vectors().take(np.array(order)), atol=1e-5
    )

    # Search finds what is there, as brute force does.
    queries = np.random.default_rng(0).normal(size=(5, corpus.vectors_card.layout.dim)).astype("f4")
    found = corpus.search(queries, 7)
    rows = corpus.vectors().take(np.array(truth.live))
    best = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :7]
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(queries @ rows.T, best, axis=1), rtol=1e-5, atol=1e-6
    )
    assert found.passage_ids.tolist() == [[truth.live[i] for i in row] for row in best]
    assert set(corpus.search(queries, len(corpus)).passage_ids[0].tolist()) == set(truth.live)
    with pytest.raises(errors.CorpusError):
        corpus.search(queries, len(corpus) + 1)

    # What has gone says so, by whatever it is asked for.
    gone = truth.there.index(False)
    for ask in (corpus.passages, corpus.memory().fetch, corpus.memory().tokens):
        with pytest.raises(errors.TombstoneError, match="removed by generation 1") as e:
            ask([truth.live[0], gone])
        assert e.value.ids == [gone]
    with pytest.raises(errors.UnknownPassageError):
        corpus.passages([len(truth.said)])
    # Readers of before stay with what they opened, and an earlier generation can be opened again.
    assert said(old.passages([gone])) == [truth.said[gone]]
    again = open_corpus(live, generation=0)
    assert said(again.passages([gone])) == [truth.said[gone]]
    assert again.memory().fetch([gone]).values.tobytes() == old.memory().fetch([gone]).values.tobytes()
    assert again.search(queries, 3).passage_ids.tolist() == old.search(queries, 3).passage_ids.tolist()

    verified = jobs.verify(live, full=True)
    assert verified.ok
    assert verified.strays == []
    assert not (live / "work").exists()
    # The same source again is nothing new.
    whole = content(live)
    assert jobs.update(live, source).already
    assert content(live) == whole
    assert components.TABLE
